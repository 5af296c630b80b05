"""What can be wrong with a heart: each condition changes a HeartSpec and names itself by PTB-XL's SCP codes.

Shapes of bundle branch and fascicular blocks, hypertrophy and infarction follow the median beats of PTB-XL's records
with that code (1.0.3, CC BY 4.0, brought to Frank's axes); durations and voltages keep to the usual criteria.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ecg.synth.anatomy import (
    AtrialActivity,
    HeartSpec,
    cornell_mv,
    normal_recovery,
    notched,
    perturbed,
    qrs_range_mv,
    scaled,
    sokolow_lyon_mv,
    turned,
    with_axis,
)
from ecg.synth.dipole import Vector, Wave, Waves, bell, rotation
from ecg.synth.rhythms import Rhythm

Change = Callable[[HeartSpec, np.random.Generator], HeartSpec]


@dataclass(frozen=True)
class Condition:
    """``group``: one condition of a group at a time; conditions apply in the order of GROUPS."""

    group: str
    change: Change
    weight: float = 1.0
    excludes: tuple[str, ...] = ()  # groups that it can't be seen beside


GROUPS: Final = (
    "rate", "bundle", "fascicle", "hypertrophy", "infarct", "voltage", "repolarisation", "qt", "atrium", "av", "rhythm",
)  # fmt: skip


def _vector(v: np.ndarray) -> Vector:
    return float(v[0]), float(v[1]), float(v[2])


# ---------------------------------------------------------------------------------------------------------- conduction

# Lobes over a QRS of the duration given.
_LBBB_S, _LBBB = 0.150, (
    bell(0.026, 0.013, (0.14, 0.04, -0.10)),
    bell(0.056, 0.018, (0.66, 0.30, 0.90)),
    bell(0.088, 0.017, (0.55, 0.10, 0.80)),
    bell(0.116, 0.016, (0.42, -0.10, 0.30)),
)  # fmt: skip
_RBBB_S, _RBBB = 0.135, (
    bell(0.0238, 0.0080, (-0.08, -0.02, -0.30)),
    bell(0.0370, 0.0090, (0.72, 0.34, 0.02)),
    bell(0.0450, 0.0075, (0.52, 0.22, 0.08)),
    bell(0.0600, 0.0120, (-0.16, -0.02, 0.18)),
    bell(0.0920, 0.0170, (-0.48, -0.06, -0.52)),
)  # fmt: skip
_LAFB_S, _LAFB = 0.095, (
    bell(0.0260, 0.0085, (0.08, 0.16, -0.20)),
    bell(0.0390, 0.0080, (0.92, -0.02, 0.08)),
    bell(0.0520, 0.0068, (-0.18, -0.26, 0.30)),
    bell(0.0630, 0.0100, (-0.30, -0.34, 0.44)),
)  # fmt: skip
_LPFB_S, _LPFB = 0.095, (
    bell(0.0250, 0.0085, (0.18, -0.18, -0.24)),
    bell(0.0400, 0.0085, (0.50, 0.62, 0.10)),
    bell(0.0500, 0.0080, (0.05, 0.55, 0.22)),
    bell(0.0630, 0.0100, (-0.35, 0.22, 0.46)),
)  # fmt: skip


def _discordant(qrs: Waves, qrs_s: float, qt_s: float, share: float, st_share: float) -> Waves:
    """Recovery against the main QRS forces: ST slides into a T of the opposite direction."""
    area = sum((np.array(w.vector) * (w.rise_s + w.fall_s) for w in qrs), np.zeros(3)) / 2
    main = -area / max(float(np.linalg.norm(area)), 1e-9)
    k = qt_s / 0.39
    fall = 0.042 * k
    peak = qt_s - 2 * fall
    st_at = (qrs_s + peak) / 2
    return (
        Wave(peak, 0.065 * k, fall, _vector(main * share)),
        Wave(st_at, (st_at - qrs_s) * 0.9 + 0.01, (peak - st_at) * 0.9 + 0.01, _vector(main * st_share), plateau=True),
    )


def _blocked(spec: HeartSpec, lobes: Waves, lobes_s: float, qrs_s: float, rng: np.random.Generator) -> HeartSpec:
    """The heart with other QRS lobes at its own size and about its own duration."""
    size = float(np.exp(rng.normal(0.05, 0.2)))
    turn = rotation(float(rng.normal(0, 7)), float(rng.normal(0, 8)), float(rng.normal(0, 12)))
    qrs = scaled(perturbed(tuple(w.stretched(qrs_s / lobes_s) for w in lobes), rng, 0.8), size)
    return replace(spec, qrs=turned(qrs, turn), qrs_s=qrs_s, qt_s=spec.qt_s + 0.7 * (qrs_s - spec.qrs_s))


def _clbbb(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    spec = _blocked(spec, _LBBB, _LBBB_S, float(rng.uniform(0.13, 0.175)), rng)
    t, st = float(rng.uniform(0.35, 0.6)), float(rng.uniform(0.10, 0.25))
    return replace(spec, recovery=_discordant(spec.qrs, spec.qrs_s, spec.qt_s, t, st))


def _ilbbb(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    spec = _blocked(spec, _LBBB, _LBBB_S, float(rng.uniform(0.11, 0.119)), rng)
    return replace(spec, recovery=_discordant(spec.qrs, spec.qrs_s, spec.qt_s, 0.2, 0.08))


def _crbbb(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    spec = _blocked(spec, _RBBB, _RBBB_S, float(rng.uniform(0.122, 0.158)), rng)
    spec = with_axis(spec, float(rng.uniform(-15, 85)))
    # T against the late forces: inverted in V1 and V2, upright to the left.
    recovery = normal_recovery(spec.qt_s, float(rng.uniform(0.7, 1.1)), (0.24, 0.13, float(rng.uniform(0.05, 0.2))))
    return replace(spec, recovery=recovery)


def _irbbb(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    qrs_s = float(rng.uniform(0.098, 0.118))
    late = bell(qrs_s * 0.80, 0.010, (-0.28 * rng.uniform(0.7, 1.3), -0.03, -0.30 * rng.uniform(0.7, 1.3)))
    return replace(spec, qrs=(*spec.qrs, late), qrs_s=qrs_s)


def _ivcd(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    qrs_s = float(rng.uniform(0.112, 0.14))
    qrs = tuple(w.stretched(qrs_s / spec.qrs_s) for w in spec.qrs)
    return notched(replace(spec, qrs=qrs, qrs_s=qrs_s), rng, 0.15)


def _wpw(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    early_s = float(rng.uniform(0.03, 0.05))
    way = np.array([(0.35, 0.25, -0.45), (0.45, 0.15, 0.30), (0.40, -0.35, -0.10)][int(rng.integers(3))])
    # It rises slowly and hands over to the QRS without a dip between them.
    delta = Wave(0.9 * early_s + 0.012, 0.42 * early_s, 0.02, _vector(way * rng.uniform(0.8, 1.3)))
    qrs = (delta, *(replace(w, at_s=w.at_s + 0.75 * early_s) for w in spec.qrs))
    qrs_s = spec.qrs_s + early_s * 0.75
    spec = replace(spec, qrs=qrs, qrs_s=qrs_s, pr_s=float(rng.uniform(0.075, 0.11)))
    mixed = _discordant(qrs, qrs_s, spec.qt_s, float(rng.uniform(0.1, 0.3)), float(rng.uniform(0.02, 0.1)))
    return replace(spec, recovery=scaled(spec.recovery, 0.35) + mixed)


def _fascicle(lobes: Waves, lobes_s: float, low_deg: float, high_deg: float) -> Change:
    def change(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
        axis = float(rng.uniform(low_deg, high_deg))
        if "CRBBB" in spec.codes:  # bifascicular: the right block keeps its late forces
            early = with_axis(replace(spec, qrs=spec.qrs[:-1]), axis)
            return replace(spec, qrs=(*early.qrs, spec.qrs[-1]))
        spec = _blocked(spec, lobes, lobes_s, float(rng.uniform(0.088, 0.108)), rng)
        return with_axis(spec, axis)

    return change


# ------------------------------------------------------------------------------------------ hypertrophy, voltage, atria


def _lvh(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    grow = np.diag([rng.uniform(1.1, 1.4), rng.uniform(0.85, 1.2), rng.uniform(1.2, 1.6)])
    qrs_s = min(spec.qrs_s * 1.12, 0.118)
    spec = replace(spec, qrs=tuple(w.turned(grow).stretched(qrs_s / spec.qrs_s) for w in spec.qrs), qrs_s=qrs_s)
    spec = with_axis(spec, float(rng.uniform(-35, 50)))
    wanted = float(rng.uniform(3.6, 5.2))
    reached = max(sokolow_lyon_mv(spec), cornell_mv(spec) * 3.5 / (2.8 if spec.sex == "M" else 2.0))
    spec = replace(spec, qrs=scaled(spec.qrs, max(wanted / reached, 1.0)))
    if rng.uniform() > 0.55:
        return spec.tagged("VCLVH")
    strain = _discordant(spec.qrs, spec.qrs_s, spec.qt_s, float(rng.uniform(0.15, 0.4)), float(rng.uniform(0.06, 0.15)))
    return replace(spec, recovery=strain).tagged("VCLVH", "NST_", "STD_", "INVT", details=("strain",))


def _rvh(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    right = float(rng.uniform(0.6, 1.1))
    lobe = bell(0.60 * spec.qrs_s, 0.011, (-0.70 * right, 0.25 * right, -1.15 * right))
    flat = np.diag([0.75, 0.75, 0.45])
    tall = replace(spec, qrs=(*turned(spec.qrs, flat), lobe))
    tall = with_axis(tall, float(rng.uniform(95, 130)))
    # Turning about z leaves the forward force; T turns away from the right ventricle.
    recovery = normal_recovery(spec.qt_s, float(rng.uniform(0.8, 1.3)), (0.20, 0.04, 0.16))
    return replace(tall, recovery=recovery)


def _voltage(low: bool) -> Change:
    def change(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
        bottom, top = qrs_range_mv(spec)
        limb = float((top - bottom)[:6].max())
        if low:
            factor = float(rng.uniform(0.28, 0.46)) / limb
            return replace(spec, qrs=scaled(spec.qrs, factor), recovery=scaled(spec.recovery, max(factor, 0.4)))
        return replace(spec, qrs=scaled(spec.qrs, float(rng.uniform(1.35, 1.7))))

    return change


def _lae(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """A late, large left atrium: P of 0.12 s and more, notched in II, ending below the line in V1."""
    right, left = HEALTHY_ATRIA
    late = replace(left, at_s=float(rng.uniform(0.088, 0.1)), vector=(0.11, 0.05, float(rng.uniform(0.05, 0.1))))
    size = float(rng.uniform(0.85, 1.2))
    pr_s = max(spec.pr_s, 0.15)
    return replace(spec, atrial=scaled((right, late), size), pr_s=pr_s)


def _rae(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """A large right atrium: P above 0.25 mV in II, peaked."""
    left = HEALTHY_ATRIA[1]
    tall = bell(0.046, 0.017, (0.05, float(rng.uniform(0.23, 0.33)), -0.09))
    return replace(spec, atrial=(tall, left.scaled(0.6)))


HEALTHY_ATRIA: Final = (bell(0.040, 0.018, (0.05, 0.065, -0.05)), bell(0.066, 0.019, (0.075, 0.035, 0.008)))


# ---------------------------------------------------------------------------------------------- infarction, ischaemia

# Where the territory lies, seen from the heart's centre.
_TERRITORY: Final[dict[str, Vector]] = {
    "IMI": (0.0, 1.0, 0.05), "AMI": (0.25, 0.0, -0.95), "ASMI": (-0.30, 0.05, -0.95), "ALMI": (0.75, -0.20, -0.60),
    "LMI": (0.95, -0.30, 0.05), "PMI": (-0.05, 0.0, 1.0), "ILMI": (0.65, 0.75, 0.10), "IPMI": (0.0, 0.75, 0.65),
}  # fmt: skip


def infarct_ages() -> tuple[str, ...]:
    """The stages that an infarction is drawn in."""
    return ("acute", "recent", "old")


def _infarct(code: str) -> Change:
    toward = np.array(_TERRITORY[code]) / np.linalg.norm(_TERRITORY[code])

    def change(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
        age = str(rng.choice(infarct_ages(), p=[0.3, 0.2, 0.5]))
        depth = float(rng.uniform(0.1, 0.3) if age == "acute" else rng.uniform(0.4, 0.75))
        spec = _necrosis(spec, toward, depth, rng)
        if age == "old":
            turned_t = float(rng.uniform(0.0, 0.9))
            return replace(spec, recovery=_away(spec.recovery, toward, turned_t)).tagged("QWAVE", details=("old",))
        st = float(rng.uniform(0.14, 0.32) if age == "acute" else rng.uniform(0.05, 0.1))
        t = float(rng.uniform(0.1, 0.4) if age == "acute" else -rng.uniform(0.25, 0.5))
        recovery = _away(spec.recovery, toward, 0.8 if age == "recent" else 0.1)
        recovery = recovery + _injury(spec, toward * st, toward * t)
        shift = "STD_" if code in ("PMI", "IPMI") else "STE_"  # a posterior one is seen from the front
        codes = (shift,) if age == "acute" else ("QWAVE", "INVT")
        return replace(spec, recovery=recovery).tagged(*codes, details=(age,))

    return change


def _necrosis(spec: HeartSpec, toward: np.ndarray, depth: float, rng: np.random.Generator) -> HeartSpec:
    """Early forces towards the territory are lost, and what lies opposite shows as a Q wave."""
    out = []
    for w in spec.qrs:
        v = np.array(w.vector)
        early = w.at_s < 0.7 * spec.qrs_s
        lost = max(float(v @ toward), 0.0) * (min(1.1 * depth, 0.8) if early else 0.3 * depth)
        out.append(replace(w, vector=_vector(v - lost * toward)))
    q = bell(float(rng.uniform(0.24, 0.31)) * spec.qrs_s, float(rng.uniform(0.0085, 0.011)), _vector(-toward * depth))
    return replace(spec, qrs=(q, *out))


def _away(recovery: Waves, toward: np.ndarray, share: float) -> Waves:
    """T turned away from a territory: its part towards it goes (share 0.5) or is inverted (1)."""
    out = []
    for w in recovery:
        v = np.array(w.vector)
        out.append(replace(w, vector=_vector(v - toward * (2 * share * max(float(v @ toward), 0.03)))))
    return tuple(out)


def _injury(spec: HeartSpec, st_mv: np.ndarray, t_mv: np.ndarray) -> Waves:
    """A raised (or lowered) ST segment that runs into the T wave."""
    peak = spec.qt_s - 0.084 * spec.qt_s / 0.39
    middle = (spec.qrs_s + peak) / 2
    half = (peak - spec.qrs_s) / 2
    return (
        Wave(middle, half * 0.95, half * 1.1, _vector(st_mv), plateau=True),
        Wave(peak, 0.055 * spec.qt_s / 0.39, 0.045 * spec.qt_s / 0.39, _vector(t_mv)),
    )


_ISCHAEMIA: Final[dict[str, Vector]] = {
    "ISC_": (0.65, 0.45, -0.45), "ISCAL": (0.80, 0.0, -0.55), "ISCIN": (0.05, 1.0, 0.0), "ISCIL": (0.70, 0.70, 0.0),
    "ISCAS": (-0.2, 0.1, -0.95), "ISCLA": (0.95, -0.2, 0.1), "ISCAN": (0.25, 0.0, -0.95),
}  # fmt: skip


def _ischaemia(code: str) -> Change:
    toward = np.array(_ISCHAEMIA[code]) / np.linalg.norm(_ISCHAEMIA[code])

    def change(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
        depressed, inverted = [(True, False), (False, True), (True, True)][int(rng.integers(3))]
        recovery = _away(spec.recovery, toward, float(rng.uniform(0.75, 1.1)) if inverted else 0.35)
        if depressed:
            recovery += _injury(spec, -toward * float(rng.uniform(0.09, 0.22)), np.zeros(3))
        if inverted:
            recovery += _injury(spec, np.zeros(3), -toward * float(rng.uniform(0.08, 0.3)))
        codes = [c for c, on in (("STD_", depressed), ("INVT", inverted)) if on]
        return replace(spec, recovery=recovery).tagged(*codes)

    return change


def _st_shift(sign: float) -> Change:
    def change(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
        way = np.array([0.6, 0.4, -0.5 if sign > 0 else -0.3])
        size = float(rng.uniform(0.1, 0.18))
        return replace(
            spec, recovery=spec.recovery + _injury(spec, sign * size * way / np.linalg.norm(way), np.zeros(3))
        )

    return change


def _flat_t(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    return replace(spec, recovery=scaled(spec.recovery, float(rng.uniform(0.05, 0.3))))


def _inverted_t(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    return replace(spec, recovery=scaled(spec.recovery, -float(rng.uniform(0.5, 1.2))))


def _electrolyte(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """Too much potassium (tall narrow T, flat P) or too little (flat T, large U)."""
    if rng.uniform() < 0.5:
        t = spec.recovery[0]
        tall = replace(t.scaled(float(rng.uniform(2.0, 3.2))), rise_s=t.rise_s * 0.6, fall_s=t.fall_s * 0.65)
        return replace(spec, recovery=(tall,), atrial=scaled(spec.atrial, 0.5)).tagged(details=("tall t",))
    u = Wave(spec.qt_s * 1.2, 0.05, 0.05, spec.recovery[0].scaled(float(rng.uniform(0.5, 0.9))).vector)
    return replace(spec, recovery=(*scaled(spec.recovery, 0.3), u)).tagged(details=("u wave",))


def _digitalis(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """Sagging ST, low T, short QT."""
    spec = _with_qtc(spec, float(rng.uniform(0.34, 0.37)))
    way = -np.array([0.65, 0.45, -0.3]) * float(rng.uniform(0.12, 0.22))
    sag = Wave(spec.qrs_s + 0.075, 0.045, 0.06, _vector(way))
    return replace(spec, recovery=(*scaled(spec.recovery, 0.45), sag))


def _with_qtc(spec: HeartSpec, qtc_s: float) -> HeartSpec:
    """The same heart with another QT: recovery stretched."""
    qt_s = qtc_s * spec.rr_s ** (1 / 3)
    return replace(spec, recovery=tuple(w.stretched(qt_s / spec.qt_s) for w in spec.recovery), qt_s=qt_s)


def _long_qt(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    return _with_qtc(spec, float(rng.uniform(0.485, 0.57)) + max(spec.qrs_s - 0.1, 0.0))


# ------------------------------------------------------------------------------------------------------------- rhythms


def _rate(low_bpm: float, high_bpm: float, breathing: tuple[float, float] = (0.0, 0.04)) -> Change:
    def change(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
        swing = float(rng.uniform(*breathing))
        return _at_rate(spec, replace(spec.rhythm, rate_bpm=float(rng.uniform(low_bpm, high_bpm)), breathing=swing))

    return change


def _at_rate(spec: HeartSpec, rhythm: Rhythm) -> HeartSpec:
    """The heart at another rate: QT follows, QTc stays; PR shortens a little when it beats fast."""
    qtc_s = spec.qtc_s
    pr_s = min(spec.pr_s, 0.6 * 60.0 / rhythm.rate_bpm - 0.06) if rhythm.rate_bpm > 100 else spec.pr_s
    return _with_qtc(replace(spec, rhythm=rhythm, pr_s=max(pr_s, 0.09)), qtc_s)


def _ectopic(kind: str, every: int = 0) -> Change:
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
        bell(0.28 * duration, 0.13 * duration, _vector(size * (0.45 * way + 0.25 * side))),
        bell(0.48 * duration, 0.12 * duration, _vector(size * (0.85 * way + 0.15 * side))),
        bell(0.74 * duration, 0.12 * duration, _vector(size * (0.30 * way - 0.45 * side))),
    )
    qt_s = min(spec.qt_s + 0.05, 0.75 * spec.rr_s + 0.1)
    recovery = _discordant(lobes, duration, qt_s, 0.4 * size, 0.15 * size)
    return replace(spec, ectopic_qrs=lobes, ectopic_recovery=recovery)


def _fibrillation(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    rhythm = replace(spec.rhythm, kind="fibrillation", rate_bpm=float(rng.uniform(55, 140)))
    size = float(rng.uniform(0.015, 0.075))
    wave = AtrialActivity(float(rng.uniform(5.0, 8.0)), (-0.5 * size, 0.6 * size, -1.0 * size), steady=False)
    return replace(_at_rate(spec, rhythm), atrial=(), activity=wave)


def _flutter(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    atrial_bpm = float(rng.uniform(240, 330))
    ratio = int(rng.choice([2, 3, 4], p=[0.35, 0.2, 0.45]))
    rhythm = replace(
        spec.rhythm, kind="flutter", atrial_bpm=atrial_bpm, rate_bpm=atrial_bpm / ratio,
        every=int(ratio > 2 and rng.uniform() < 0.4),
    )  # fmt: skip
    size = float(rng.uniform(0.08, 0.2))
    wave = AtrialActivity(atrial_bpm / 60.0, (0.0, -size, -0.6 * size), steady=True)
    return replace(_at_rate(spec, rhythm), atrial=(), activity=wave)


def _supraventricular(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    rhythm = replace(spec.rhythm, kind="supraventricular", rate_bpm=float(rng.uniform(145, 210)), breathing=0.0)
    return replace(_at_rate(spec, replace(rhythm, jitter=0.004)), atrial=())


def _first_degree(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    rhythm = replace(spec.rhythm, rate_bpm=min(spec.rhythm.rate_bpm, 95.0))
    return replace(_at_rate(spec, rhythm), pr_s=float(rng.uniform(0.215, 0.32))).tagged("LPR")


def _second_degree(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    kind = str(rng.choice(["mobitz1", "mobitz2"]))
    every = int(rng.integers(3, 6)) if kind == "mobitz1" else int(rng.choice([2, 2, 3, 4]))
    atrial = float(rng.uniform(60, 90))
    # Intervals count from the P waves; the QT goes with the longer ventricular intervals.
    rhythm = replace(spec.rhythm, kind=kind, every=every, rate_bpm=atrial, breathing=min(spec.rhythm.breathing, 0.03))
    return replace(_at_rate(spec, rhythm), pr_s=float(rng.uniform(0.16, 0.24))).tagged(details=(kind,))


def _third_degree(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
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


def _pacemaker(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    kind = str(rng.choice(["paced", "paced_atrial"]))
    rhythm = Rhythm(kind, rate_bpm=float(rng.uniform(60, 85)), breathing=0.0, jitter=0.0)
    spec = _at_rate(_blocked(spec, _PACED, _PACED_S, float(rng.uniform(0.15, 0.185)), rng), rhythm)
    recovery = _discordant(spec.qrs, spec.qrs_s, spec.qt_s, float(rng.uniform(0.4, 0.8)), float(rng.uniform(0.15, 0.3)))
    spike = float(rng.uniform(0.15, 1.5)) * np.array([0.5, 0.6, 0.3]) * rng.choice([-1, 1])
    atrial = () if kind == "paced" else spec.atrial
    return replace(spec, recovery=recovery, spike=_vector(spike), atrial=atrial, pr_s=float(rng.uniform(0.14, 0.2)))


CONDITIONS: Final[dict[str, Condition]] = {
    "SBRAD": Condition("rate", _rate(38, 58), 3, ("rhythm",)),
    "STACH": Condition("rate", _rate(102, 150, (0.0, 0.015)), 3, ("rhythm",)),
    "SARRH": Condition("rate", _rate(55, 90, (0.10, 0.2)), 3, ("rhythm",)),
    "CLBBB": Condition("bundle", _clbbb, 3, ("fascicle", "hypertrophy", "infarct", "repolarisation")),
    "CRBBB": Condition("bundle", _crbbb, 3, ("hypertrophy",)),
    "IRBBB": Condition("bundle", _irbbb, 3),
    "ILBBB": Condition("bundle", _ilbbb, 1, ("fascicle", "hypertrophy", "infarct", "repolarisation")),
    "IVCD": Condition("bundle", _ivcd, 2),
    "WPW": Condition("bundle", _wpw, 1, ("fascicle", "hypertrophy", "infarct", "repolarisation", "av", "rhythm")),
    "LAFB": Condition("fascicle", _fascicle(_LAFB, _LAFB_S, -75.0, -46.0), 4),
    "LPFB": Condition("fascicle", _fascicle(_LPFB, _LPFB_S, 100.0, 125.0), 1, ("hypertrophy",)),
    "LVH": Condition("hypertrophy", _lvh, 6, ("voltage",)),
    "RVH": Condition("hypertrophy", _rvh, 2, ("voltage", "infarct", "bundle", "fascicle")),
    "IMI": Condition("infarct", _infarct("IMI"), 4),
    "ASMI": Condition("infarct", _infarct("ASMI"), 4),
    "AMI": Condition("infarct", _infarct("AMI"), 2),
    "ALMI": Condition("infarct", _infarct("ALMI"), 1),
    "LMI": Condition("infarct", _infarct("LMI"), 1),
    "ILMI": Condition("infarct", _infarct("ILMI"), 1),
    "PMI": Condition("infarct", _infarct("PMI"), 0.6),
    "IPMI": Condition("infarct", _infarct("IPMI"), 0.6),
    "LVOLT": Condition("voltage", _voltage(low=True), 2),
    "HVOLT": Condition("voltage", _voltage(low=False), 0.5),
    "ISC_": Condition("repolarisation", _ischaemia("ISC_"), 3),
    "ISCAL": Condition("repolarisation", _ischaemia("ISCAL"), 2),
    "ISCIN": Condition("repolarisation", _ischaemia("ISCIN"), 1),
    "ISCIL": Condition("repolarisation", _ischaemia("ISCIL"), 1),
    "ISCAS": Condition("repolarisation", _ischaemia("ISCAS"), 1),
    "ISCLA": Condition("repolarisation", _ischaemia("ISCLA"), 0.5),
    "ISCAN": Condition("repolarisation", _ischaemia("ISCAN"), 0.5),
    "STD_": Condition("repolarisation", _st_shift(-1.0), 1),
    "STE_": Condition("repolarisation", _st_shift(1.0), 1),
    "NDT": Condition("repolarisation", _flat_t, 3),
    "LOWT": Condition("repolarisation", _flat_t, 1),
    "INVT": Condition("repolarisation", _inverted_t, 1),
    "EL": Condition("repolarisation", _electrolyte, 0.6),
    "DIG": Condition("repolarisation", _digitalis, 0.6),
    "LNGQT": Condition("qt", _long_qt, 1.5),
    "LAO/LAE": Condition("atrium", _lae, 3),
    "RAO/RAE": Condition("atrium", _rae, 2),
    "1AVB": Condition("av", _first_degree, 4),
    "2AVB": Condition("av", _second_degree, 1.5, ("rate", "rhythm")),
    "3AVB": Condition("av", _third_degree, 1.5, ("rate", "rhythm")),
    "AFIB": Condition("rhythm", _fibrillation, 6, ("atrium", "av")),
    "AFLT": Condition("rhythm", _flutter, 2.5, ("atrium", "av")),
    "PAC": Condition("rhythm", _ectopic("pac"), 3),
    "PVC": Condition("rhythm", _ectopic("pvc"), 4),
    "BIGU": Condition("rhythm", _ectopic("bigeminy", 2), 1),
    "TRIGU": Condition("rhythm", _ectopic("trigeminy", 3), 1),
    "SVTAC": Condition("rhythm", _supraventricular, 1.5, ("atrium", "av")),
    "PACE": Condition(
        "rhythm", _pacemaker, 2,
        ("atrium", "av", "bundle", "fascicle", "hypertrophy", "infarct", "repolarisation", "voltage", "qt"),
    ),
}  # fmt: skip
