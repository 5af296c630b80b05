"""Rates and rhythms: how each changes a heart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ecg.synth.anatomy import AtrialActivity, Change, HeartSpec, with_qtc
from ecg.synth.conduction import blocked, discordant
from ecg.synth.dipole import as_vector, bell
from ecg.synth.rhythms import Rhythm


def rate(low_bpm: float, high_bpm: float, breathing: tuple[float, float] = (0.0, 0.04)) -> Change:
    """A sinus rhythm of another rate and another swing with breathing."""

    def change(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
        swing = float(rng.uniform(*breathing))
        return _at_rate(spec, replace(spec.rhythm, rate_bpm=float(rng.uniform(low_bpm, high_bpm)), breathing=swing))

    return change


def _at_rate(spec: HeartSpec, rhythm: Rhythm) -> HeartSpec:
    """The heart at another rate: QT follows, QTc stays; PR shortens a little when it beats fast."""
    qtc_s = spec.qtc_s
    pr_s = min(spec.pr_s, 0.6 * 60.0 / rhythm.rate_bpm - 0.06) if rhythm.rate_bpm > 100 else spec.pr_s
    return with_qtc(replace(spec, rhythm=rhythm, pr_s=max(pr_s, 0.09)), qtc_s)


def ectopic(kind: str, every: int = 0) -> Change:
    """Early beats: from an atrium ("pac") or a ventricle ("pvc", "bigeminy", "trigeminy")."""

    def change(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
        rhythm = replace(
            spec.rhythm, kind=kind, every=every, prematurity=float(rng.uniform(0.55, 0.72)),
            rate_bpm=min(spec.rhythm.rate_bpm, 105.0),
        )  # fmt: skip
        spec = _at_rate(spec, rhythm)
        return spec if kind == "pac" else with_ectopic(spec, rng)

    return change


def with_ectopic(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """A ventricular ectopic focus: wide, tall, its T the other way."""
    duration = float(rng.uniform(0.13, 0.175))
    way = rng.standard_normal(3)
    way /= np.linalg.norm(way)
    side = np.cross(way, rng.standard_normal(3))
    side /= np.linalg.norm(side)
    size = float(rng.uniform(0.9, 1.7))
    lobes = (
        bell(0.28 * duration, 0.13 * duration, as_vector(size * (0.45 * way + 0.25 * side))),
        bell(0.48 * duration, 0.12 * duration, as_vector(size * (0.85 * way + 0.15 * side))),
        bell(0.74 * duration, 0.12 * duration, as_vector(size * (0.30 * way - 0.45 * side))),
    )
    qt_s = min(spec.qt_s + 0.05, 0.75 * spec.rr_s + 0.1)
    recovery = discordant(lobes, duration, qt_s, 0.4 * size, 0.15 * size)
    return replace(spec, ectopic_qrs=lobes, ectopic_recovery=recovery)


def fibrillation(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """Atrial fibrillation: irregular beats, no P, fibrillatory waves largest in V1."""
    rhythm = replace(spec.rhythm, kind="fibrillation", rate_bpm=float(rng.uniform(55, 140)))
    size = float(rng.uniform(0.015, 0.075))
    wave = AtrialActivity(float(rng.uniform(5.0, 8.0)), (-0.5 * size, 0.6 * size, -1.0 * size), steady=False)
    return replace(_at_rate(spec, rhythm), atrial=(), activity=wave)


def flutter(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """Atrial flutter, 2:1 to 4:1 or varying: a sawtooth, negative in the inferior leads."""
    atrial_bpm = float(rng.uniform(240, 330))
    ratio = int(rng.choice([2, 3, 4], p=[0.35, 0.2, 0.45]))
    rhythm = replace(
        spec.rhythm, kind="flutter", atrial_bpm=atrial_bpm, rate_bpm=atrial_bpm / ratio,
        every=int(ratio > 2 and rng.uniform() < 0.4),
    )  # fmt: skip
    size = float(rng.uniform(0.08, 0.2))
    wave = AtrialActivity(atrial_bpm / 60.0, (0.0, -size, -0.6 * size), steady=True)
    return replace(_at_rate(spec, rhythm), atrial=(), activity=wave)


def supraventricular(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """A fast regular rhythm without visible P waves."""
    rhythm = replace(spec.rhythm, kind="supraventricular", rate_bpm=float(rng.uniform(145, 210)), breathing=0.0)
    return replace(_at_rate(spec, replace(rhythm, jitter=0.004)), atrial=())


def first_degree(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """PR above 0.2 s."""
    rhythm = replace(spec.rhythm, rate_bpm=min(spec.rhythm.rate_bpm, 95.0))
    return replace(_at_rate(spec, rhythm), pr_s=float(rng.uniform(0.215, 0.32))).tagged("LPR")


def second_degree(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """Mobitz I or II: some P waves are not conducted."""
    kind = str(rng.choice(["mobitz1", "mobitz2"]))
    every = int(rng.integers(3, 6)) if kind == "mobitz1" else int(rng.choice([2, 2, 3, 4]))
    atrial = float(rng.uniform(60, 90))
    # Intervals count from the P waves; the QT goes with the longer ventricular intervals.
    rhythm = replace(spec.rhythm, kind=kind, every=every, rate_bpm=atrial, breathing=min(spec.rhythm.breathing, 0.03))
    return replace(_at_rate(spec, rhythm), pr_s=float(rng.uniform(0.16, 0.24))).tagged(details=(kind,))


def third_degree(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """Atria and ventricles beat on their own; half of the escapes come from a ventricle."""
    rhythm = Rhythm("complete_block", rate_bpm=float(rng.uniform(30, 48)), atrial_bpm=float(rng.uniform(65, 105)))
    spec = _at_rate(spec, rhythm)
    if rng.uniform() < 0.5:  # the escape comes from a ventricle
        spec = with_ectopic(spec, rng)
        duration = max(w.at_s for w in spec.ectopic_qrs) / 0.74
        spec = replace(spec, qrs=spec.ectopic_qrs, recovery=spec.ectopic_recovery, qrs_s=duration)
    return spec


_PACED_S, _PACED = 0.165, (
    bell(0.045, 0.018, (0.10, -0.40, 0.25)),
    bell(0.080, 0.020, (0.25, -0.85, 0.75)),
    bell(0.118, 0.019, (0.05, -0.65, 0.60)),
)  # fmt: skip


def pacemaker(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """Ventricular pacing from the apex, alone or behind paced atria."""
    kind = str(rng.choice(["paced", "paced_atrial"]))
    rhythm = Rhythm(kind, rate_bpm=float(rng.uniform(60, 85)), breathing=0.0, jitter=0.0)
    spec = _at_rate(blocked(spec, _PACED, _PACED_S, float(rng.uniform(0.15, 0.185)), rng), rhythm)
    recovery = discordant(spec.qrs, spec.qrs_s, spec.qt_s, float(rng.uniform(0.4, 0.8)), float(rng.uniform(0.15, 0.3)))
    spike = float(rng.uniform(0.15, 1.5)) * np.array([0.5, 0.6, 0.3]) * rng.choice([-1, 1])
    atrial = () if kind == "paced" else spec.atrial
    return replace(spec, recovery=recovery, spike=as_vector(spike), atrial=atrial, pr_s=float(rng.uniform(0.14, 0.2)))
