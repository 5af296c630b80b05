"""Infarctions by territory and age, ischaemia, and what else changes ST, T and QT."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from ecg.synth.anatomy import Change, HeartSpec, scaled, with_qtc
from ecg.synth.dipole import Vector, Wave, Waves, as_vector, bell

# Where the territory lies, seen from the heart's centre.
_TERRITORY: Final[dict[str, Vector]] = {
    "IMI": (0.0, 1.0, 0.05), "AMI": (0.25, 0.0, -0.95), "ASMI": (-0.30, 0.05, -0.95), "ALMI": (0.75, -0.20, -0.60),
    "LMI": (0.95, -0.30, 0.05), "PMI": (-0.05, 0.0, 1.0), "ILMI": (0.65, 0.75, 0.10), "IPMI": (0.0, 0.75, 0.65),
}  # fmt: skip


def infarct_ages() -> tuple[str, ...]:
    """The stages that an infarction is drawn in."""
    return ("acute", "recent", "old")


def infarct(code: str) -> Change:
    """An infarction of the territory: lost forces and Q waves, ST and T by its age."""
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
        out.append(replace(w, vector=as_vector(v - lost * toward)))
    q = bell(float(rng.uniform(0.24, 0.31)) * spec.qrs_s, float(rng.uniform(0.0085, 0.011)), as_vector(-toward * depth))
    return replace(spec, qrs=(q, *out))


def _away(recovery: Waves, toward: np.ndarray, share: float) -> Waves:
    """T turned away from a territory: its part towards it goes (share 0.5) or is inverted (1)."""
    out = []
    for w in recovery:
        v = np.array(w.vector)
        out.append(replace(w, vector=as_vector(v - toward * (2 * share * max(float(v @ toward), 0.03)))))
    return tuple(out)


def _injury(spec: HeartSpec, st_mv: np.ndarray, t_mv: np.ndarray) -> Waves:
    """A raised (or lowered) ST segment that runs into the T wave."""
    peak = spec.qt_s - 0.084 * spec.qt_s / 0.39
    middle = (spec.qrs_s + peak) / 2
    half = (peak - spec.qrs_s) / 2
    return (
        Wave(middle, half * 0.95, half * 1.1, as_vector(st_mv), plateau=True),
        Wave(peak, 0.055 * spec.qt_s / 0.39, 0.045 * spec.qt_s / 0.39, as_vector(t_mv)),
    )


_ISCHAEMIA: Final[dict[str, Vector]] = {
    "ISC_": (0.65, 0.45, -0.45), "ISCAL": (0.80, 0.0, -0.55), "ISCIN": (0.05, 1.0, 0.0), "ISCIL": (0.70, 0.70, 0.0),
    "ISCAS": (-0.2, 0.1, -0.95), "ISCLA": (0.95, -0.2, 0.1), "ISCAN": (0.25, 0.0, -0.95),
}  # fmt: skip


def ischaemia(code: str) -> Change:
    """ST depression, T inversion or both, in the leads that face the region."""
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


def st_shift(sign: float) -> Change:
    """ST raised (sign 1) or lowered (-1) without a territory."""

    def change(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
        way = np.array([0.6, 0.4, -0.5 if sign > 0 else -0.3])
        size = float(rng.uniform(0.1, 0.18))
        return replace(
            spec, recovery=spec.recovery + _injury(spec, sign * size * way / np.linalg.norm(way), np.zeros(3))
        )

    return change


def flat_t(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """Low T waves."""
    return replace(spec, recovery=scaled(spec.recovery, float(rng.uniform(0.05, 0.3))))


def inverted_t(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """T waves upside down."""
    return replace(spec, recovery=scaled(spec.recovery, -float(rng.uniform(0.5, 1.2))))


def electrolyte(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """Too much potassium (tall narrow T, flat P) or too little (flat T, large U)."""
    if rng.uniform() < 0.5:
        t = spec.recovery[0]
        tall = replace(t.scaled(float(rng.uniform(2.0, 3.2))), rise_s=t.rise_s * 0.6, fall_s=t.fall_s * 0.65)
        return replace(spec, recovery=(tall,), atrial=scaled(spec.atrial, 0.5)).tagged(details=("tall t",))
    u = Wave(spec.qt_s * 1.2, 0.05, 0.05, spec.recovery[0].scaled(float(rng.uniform(0.5, 0.9))).vector)
    return replace(spec, recovery=(*scaled(spec.recovery, 0.3), u)).tagged(details=("u wave",))


def digitalis(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """Sagging ST, low T, short QT."""
    spec = with_qtc(spec, float(rng.uniform(0.34, 0.37)))
    way = -np.array([0.65, 0.45, -0.3]) * float(rng.uniform(0.12, 0.22))
    sag = Wave(spec.qrs_s + 0.075, 0.045, 0.06, as_vector(way))
    return replace(spec, recovery=(*scaled(spec.recovery, 0.45), sag))


def long_qt(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """QTc of 0.485 s and more."""
    return with_qtc(spec, float(rng.uniform(0.485, 0.57)) + max(spec.qrs_s - 0.1, 0.0))
