"""Synthetic twelve-lead ECGs: a random heart, and the ten seconds that a cart records of it.

The heart is a moving dipole (``ecg.synth.dipole``); electrodes pick it up with their own noise; the leads follow from
the electrodes, so Einthoven's and Goldberger's relations hold by construction, noise and filters included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from ecg.findings import superclasses_of
from ecg.leads import LIMB_FROM_I_II
from ecg.records import EcgRecord
from ecg.synth.anatomy import HeartSpec, normal_heart, qrs_range_mv, scaled, sokolow_lyon_mv
from ecg.synth.conditions import CONDITIONS, GROUPS
from ecg.synth.dipole import F64, Placed, draw, free_leads, place
from ecg.synth.noise import Filters, Noise, electrode_noise, filtered, random_filters, random_noise
from ecg.synth.reports import report
from ecg.synth.rhythms import ECTOPIC, Rhythm, Timetable, timetable

__all__ = ["CONDITIONS", "HeartSpec", "beat", "draw_conditions", "random_heart"]

NORMAL_SHARE = 0.3  # of hearts drawn without a wish
_MARGIN_S = 1.0  # recorded before and after, for the filters' ends
_SPIKE_S = 0.0012
_MAX_SOKOLOW_MV = 3.3  # of a heart without hypertrophy


def draw_conditions(rng: np.random.Generator) -> tuple[str, ...]:
    """None for a healthy heart (30 %), else one to three conditions that can be seen side by side."""
    if rng.uniform() < NORMAL_SHARE:
        return ()
    chosen: list[str] = []
    names = list(CONDITIONS)
    weights = np.array([c.weight for c in CONDITIONS.values()])
    for _ in range(int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15]))):
        free = np.array([_compatible(name, chosen) for name in names])
        if not free.any():
            break
        chosen.append(names[int(rng.choice(len(names), p=weights * free / (weights * free).sum()))])
    return tuple(chosen)


def _compatible(name: str, chosen: Sequence[str]) -> bool:
    one = CONDITIONS[name]
    others = [CONDITIONS[c] for c in chosen]
    return all(one.group != o.group and o.group not in one.excludes and one.group not in o.excludes for o in others)


def random_heart(
    rng: np.random.Generator,
    conditions: Sequence[str] | None = None,
    noise: Noise | None = None,
    filters: Filters | None = None,
) -> HeartSpec:
    """A heart with the named conditions (keys of CONDITIONS; () healthy, None drawn by chance), noise and filters.

    Raises ValueError for a name that isn't there or for conditions that can't be seen side by side.
    """
    name = f"synthetic-{int(rng.integers(10**9)):09d}"
    wanted = draw_conditions(rng) if conditions is None else tuple(conditions)
    _check(wanted)
    noise = noise or random_noise(rng, worst=bool(rng.uniform() < 0.08))
    filters = filters or random_filters(rng, noise.mains_hz)
    rhythm = Rhythm(
        "sinus", float(np.clip(rng.normal(70, 10), 60, 98)), float(rng.uniform(0.0, 0.05)),
        float(rng.uniform(0.004, 0.02)), float(rng.uniform(0.17, 0.35)),
    )  # fmt: skip
    spec = _within_normal_voltage(normal_heart(rng, rhythm, noise, filters))
    for condition in sorted(wanted, key=lambda c: GROUPS.index(CONDITIONS[c].group)):
        spec = CONDITIONS[condition].change(spec, rng).tagged(condition)
    spec = replace(spec, codes=_coded(spec), name=name)
    return replace(spec, report=report(spec, rng))


def _check(wanted: Sequence[str]) -> None:
    for i, name in enumerate(wanted):
        if name not in CONDITIONS:
            raise ValueError(f"no condition {name!r}; there are {', '.join(CONDITIONS)}")
        if not _compatible(name, wanted[:i]):
            raise ValueError(f"{name} can't be seen beside {', '.join(wanted[:i])}")


def _within_normal_voltage(spec: HeartSpec) -> HeartSpec:
    """The heart without voltages that would say hypertrophy or low voltage."""
    too_high = sokolow_lyon_mv(spec) / _MAX_SOKOLOW_MV
    if too_high > 1:
        return replace(spec, qrs=scaled(spec.qrs, 1 / too_high))
    low, high = qrs_range_mv(spec)
    limb_mv = float((high - low)[:6].max())
    return replace(spec, qrs=scaled(spec.qrs, 0.6 / limb_mv)) if limb_mv < 0.6 else spec


def _coded(spec: HeartSpec) -> tuple[str, ...]:
    """The heart's codes: the rhythm's first, SR where no other is named, NORM where no superclass is touched."""
    codes = spec.codes
    if not set(codes) & {"SBRAD", "STACH", "SARRH", "AFIB", "AFLT", "SVTAC", "PACE", "3AVB"}:
        codes = ("SR", *codes)
    codes = tuple(dict.fromkeys((*codes, *(("PVC",) if {"BIGU", "TRIGU"} & set(codes) else ()))))
    benign = {"SR", "SBRAD", "STACH", "SARRH", "PAC", "PVC", "LVOLT", "HVOLT"}
    return (*codes, "NORM") if set(codes) <= benign else codes


# ------------------------------------------------------------------------------------------------------------ recording


def beat(
    spec: HeartSpec, duration_s: float = 10.0, fs_hz: float = 500.0, rng: np.random.Generator | None = None
) -> EcgRecord:
    """What the cart records of this heart: twelve leads in mV. ``rng`` (seed 0 if none) draws beats and noise."""
    rng = np.random.default_rng(0) if rng is None else rng
    n = round(duration_s * fs_hz)
    margin = round(_MARGIN_S * fs_hz)
    n_all = cv2.getOptimalDFTSize(n + 2 * margin)  # lengths with large primes make slow Fourier transforms
    table = timetable(spec.rhythm, spec.pr_s, n_all / fs_hz, rng)
    dipole = draw(_events(spec, table, rng), fs_hz, n_all)
    if spec.activity is not None:
        dipole += _atrial_activity(spec, n_all, fs_hz, rng)
    t = np.arange(n_all) / fs_hz
    phase = rng.uniform(0, 2 * np.pi)
    dipole *= 1.0 + spec.noise.modulation * np.sin(2 * np.pi * spec.rhythm.breath_hz * t + phase)
    free = free_leads(dipole, spec.field) + electrode_noise(spec.noise, n_all, fs_hz, rng)
    free = filtered(free, spec.filters, fs_hz)
    if len(table.spike_s):  # carts find the impulses before they filter, and draw them on top
        free += free_leads(draw(_spikes(spec, table), fs_hz, n_all), spec.field)
    free = free[:, margin : margin + n]
    mv = np.vstack([LIMB_FROM_I_II @ free[:2], free[2:]]).astype(np.float32)
    return EcgRecord(
        mv, float(fs_hz), name=spec.name, codes=spec.codes, superclasses=superclasses_of(spec.codes),
        report=spec.report, age_years=spec.age_years, sex=spec.sex,
    )  # fmt: skip


def _events(spec: HeartSpec, table: Timetable, rng: np.random.Generator) -> Placed:
    """All waves of all beats in their places."""
    size = 1.0 + 0.015 * rng.standard_normal(len(table.qrs_s))
    # QT follows the interval before it, but slowly: mostly the mean of the record.
    usual = float(np.median(table.rr_s))
    rr = np.clip(0.35 * table.rr_s + 0.65 * usual, 0.5 * usual, 1.6 * usual)
    stretch = (rr / spec.rr_s) ** (1 / 3)
    ectopic = table.conduction == ECTOPIC
    parts = []
    if spec.atrial and len(table.p_s):
        parts.append(place(spec.atrial, table.p_s[~table.p_ectopic]))
        other_way = tuple(replace(w, vector=(w.vector[0] * 0.6, -0.5 * w.vector[1], w.vector[2])) for w in spec.atrial)
        parts.append(place(other_way, table.p_s[table.p_ectopic]))
    parts.append(place(spec.qrs, table.qrs_s[~ectopic], scale=size[~ectopic]))
    parts.append(place(spec.recovery, table.qrs_s[~ectopic], stretch[~ectopic], size[~ectopic]))
    if ectopic.any():
        parts.append(place(spec.ectopic_qrs, table.qrs_s[ectopic], scale=size[ectopic]))
        parts.append(place(spec.ectopic_recovery, table.qrs_s[ectopic], scale=size[ectopic]))
    return Placed.join(parts)


def _spikes(spec: HeartSpec, table: Timetable) -> Placed:
    """The pacemaker's impulses; atrial ones are smaller."""
    scale = np.where(table.spike_atrial, 0.5, 1.0)
    wide = np.full(len(scale), _SPIKE_S)
    vector = scale[:, None] * np.array(spec.spike)[None, :]
    return Placed(table.spike_s, wide, wide, vector, np.zeros(len(scale), dtype=bool))


def _atrial_activity(spec: HeartSpec, n: int, fs_hz: float, rng: np.random.Generator) -> F64:
    """Fibrillatory or flutter waves (3, n) in mV."""
    wave = spec.activity
    assert wave is not None
    t = np.arange(n) / fs_hz
    vector = np.array(wave.vector)[:, None]
    if wave.steady:  # a sawtooth of five harmonics, slow down and fast up
        angle = 2 * np.pi * wave.hz * t + rng.uniform(0, 2 * np.pi)
        saw = sum((np.sin(k * angle) / k**1.4 for k in range(1, 5)), np.zeros(n))
        return np.asarray(vector * saw, dtype=np.float64)
    out = np.zeros((3, n))
    knots = max(int(n / fs_hz * 4), 4)
    at = np.linspace(0, n - 1, knots)
    for share in (1.0, 0.6):
        rate = wave.hz * np.exp(0.14 * rng.standard_normal(knots))
        angle = np.cumsum(np.interp(np.arange(n), at, rate)) * (2 * np.pi / fs_hz) + rng.uniform(0, 2 * np.pi)
        swell = np.interp(np.arange(n), at, np.exp(0.35 * rng.standard_normal(knots)))
        direction = vector[:, 0] * share + rng.normal(0, 0.25 * float(np.linalg.norm(vector)), 3)
        out += direction[:, None] * (swell * (np.sin(angle) + 0.35 * np.sin(2 * angle + 1.0)))
    return out
