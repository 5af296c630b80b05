"""A heart's shape: what HeartSpec holds, the healthy adult it starts from, and what can be measured on it.

The healthy lobes are least-squares fits of Gaussians to the median beat of 249 normal records of PTB-XL 1.0.3 (CC BY
4.0) in true mV, brought to Frank's axes with the pseudo-inverse of Dower's matrix (99.9 % of the QRS explained).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ecg.leads import LIMB_FROM_I_II
from ecg.synth.dipole import (
    DOWER,
    F64,
    Vector,
    Wave,
    Waves,
    bell,
    draw,
    free_leads,
    frontal_axis_deg,
    place,
    rotation,
)
from ecg.synth.noise import Filters, Noise
from ecg.synth.rhythms import Rhythm

Change = Callable[["HeartSpec", np.random.Generator], "HeartSpec"]

QRS_S: Final = 0.085  # duration that the healthy lobes below have

HEALTHY_QRS: Final[Waves] = (
    bell(0.0238, 0.0080, (-0.06, -0.06, -0.28)),  # septum: to the right and the front
    bell(0.0365, 0.0093, (0.84, 0.42, 0.20)),
    bell(0.0433, 0.0070, (0.66, 0.31, 0.13)),
    bell(0.0544, 0.0107, (-0.13, 0.05, 0.64)),  # base of the left ventricle: to the back
)
HEALTHY_P: Final[Waves] = (
    bell(0.042, 0.019, (0.055, 0.070, -0.020)),  # right atrium
    bell(0.066, 0.019, (0.075, 0.035, 0.008)),  # left atrium
)


@dataclass(frozen=True)
class AtrialActivity:
    """Fibrillation or flutter: a wave without pause of ``hz``, ``vector`` mV; ``steady`` 1 is a sawtooth."""

    hz: float
    vector: Vector
    steady: bool


@dataclass(frozen=True, eq=False)
class HeartSpec:
    """A heart, its electrodes and the cart: all that ``beat`` needs beside randomness.

    ``atrial`` waves count from P onset, ``qrs`` and ``recovery`` (ST, T, U) from QRS onset; recovery stretches with
    the RR interval so that ``qt_s`` holds at the rhythm's rate. ``ectopic`` and ``paced`` beats have QRS and recovery
    of their own. ``field`` (8, 3) takes the dipole to I, II, V1 to V6.
    """

    rhythm: Rhythm
    atrial: Waves
    qrs: Waves
    recovery: Waves
    field: F64
    noise: Noise
    filters: Filters
    pr_s: float = 0.16
    qrs_s: float = QRS_S
    qt_s: float = 0.39
    activity: AtrialActivity | None = None
    ectopic_qrs: Waves = ()
    ectopic_recovery: Waves = ()
    spike: Vector = (0.0, 0.0, 0.0)
    codes: tuple[str, ...] = ()
    details: tuple[str, ...] = ()  # for the report: "old", "acute", "strain", ...
    report: str = ""
    name: str = "synthetic"
    age_years: float | None = None
    sex: str = ""

    @property
    def rr_s(self) -> float:
        """The mean interval between ventricular beats."""
        return 60.0 / self.rhythm.rate_bpm

    @property
    def qtc_s(self) -> float:
        """QT corrected by Fridericia: QT / RR^(1/3)."""
        return float(self.qt_s / self.rr_s ** (1.0 / 3.0))

    @property
    def axis_deg(self) -> float:
        """The frontal QRS axis, from the net areas in I and aVF; of the first 80 ms in right bundle branch block."""
        early = [w for w in self.qrs if "CRBBB" not in self.codes or w.at_s < 0.075]
        return frontal_axis_deg(early, self.field)

    def tagged(self, *codes: str, details: tuple[str, ...] = ()) -> HeartSpec:
        """The same heart with more codes, each once."""
        return replace(self, codes=tuple(dict.fromkeys(self.codes + codes)), details=self.details + details)


def normal_recovery(qt_s: float, size: float = 1.0, vector: Vector = (0.27, 0.15, -0.17)) -> Waves:
    """ST segment and T of a heart whose T ends (tangent at its steepest fall) ``qt_s`` after QRS onset.

    A Gaussian's tangent reaches zero two standard deviations after its peak.
    """
    k = qt_s / 0.39
    fall = 0.042 * k
    peak = qt_s - 2 * fall
    early = (0.12 * vector[0], 0.08 * vector[1], 0.35 * vector[2])
    return (
        Wave(peak, 0.052 * k, fall, vector).scaled(size),
        Wave(max(0.145 * k, 0.1), 0.035 * k, 0.085 * k, early).scaled(size),
    )


def perturbed(waves: Waves, rng: np.random.Generator, amount: float = 1.0) -> Waves:
    """Another person's waves: sizes +-18 %, directions, times and widths a little different."""
    out = []
    for w in waves:
        length = float(np.linalg.norm(w.vector))
        vector = np.array(w.vector) * np.exp(0.18 * amount * rng.standard_normal())
        x, y, z = (float(v) for v in vector + rng.normal(0, 0.10 * amount * length + 1e-9, 3))
        at = w.at_s + rng.normal(0, 0.06 * amount * (w.rise_s + w.fall_s))
        width = float(np.exp(rng.normal(0, 0.08 * amount)))
        out.append(Wave(at, w.rise_s * width, w.fall_s * width, (x, y, z), w.plateau))
    return tuple(out)


def turned(waves: Waves, turn: F64) -> Waves:
    """All waves in other directions."""
    return tuple(w.turned(turn) for w in waves)


def scaled(waves: Waves, factor: float) -> Waves:
    """All waves larger or smaller."""
    return tuple(w.scaled(factor) for w in waves)


def with_axis(spec: HeartSpec, axis_deg: float) -> HeartSpec:
    """The same heart with its QRS turned about the z axis until its frontal axis is ``axis_deg``.

    The leads' angles aren't those of the ideal triangle, so the turn is searched: every 3 degrees, then finer. Forces
    that lie almost along z may not get there; they come as near as they can.
    """
    area = sum((np.array(w.vector) * (w.rise_s + w.fall_s) for w in spec.qrs), np.zeros(3))
    best = 0.0
    for step_deg, n in ((3.0, 60), (0.3, 12)):
        turns = best + step_deg * np.arange(-n, n + 1)
        c, s = np.cos(np.radians(turns)), np.sin(np.radians(turns))
        moved = np.stack([c * area[0] - s * area[1], s * area[0] + c * area[1], np.full(len(turns), area[2])])
        one, two = spec.field[:2] @ moved
        axes = np.degrees(np.arctan2((two - one / 2) * 2 / np.sqrt(3), one))
        best = float(turns[np.argmin(np.abs((axes - axis_deg + 180.0) % 360.0 - 180.0))])
    return replace(spec, qrs=turned(spec.qrs, rotation(0.0, 0.0, best)))


def normal_heart(rng: np.random.Generator, rhythm: Rhythm, noise: Noise, filters: Filters) -> HeartSpec:
    """A healthy adult of random build: axis -15 to 85 degrees, PR .12 to .2 s, QRS .075 to .105 s, QTc .365 to .44 s.

    The spread of sizes follows the same PTB-XL records as the lobes.
    """
    qrs_s = float(np.clip(rng.normal(0.088, 0.007), 0.075, 0.105))
    qtc_s = float(np.clip(rng.normal(0.405, 0.016), 0.365, 0.44))
    qt_s = qtc_s * (60.0 / rhythm.rate_bpm) ** (1 / 3)
    turn = rotation(float(rng.normal(0, 9)), float(rng.normal(0, 11)), 0.0)
    size = float(np.exp(rng.normal(0.06, 0.2)))
    qrs = scaled(perturbed(tuple(w.stretched(qrs_s / QRS_S) for w in HEALTHY_QRS), rng), size)
    t_size = float(np.clip(np.exp(rng.normal(0.0, 0.3)), 0.55, 2.0)) * size**0.3
    tilt = rotation(float(rng.normal(0, 10)), float(rng.normal(0, 12)), float(rng.normal(0, 12)))
    recovery = turned(perturbed(normal_recovery(qt_s, t_size), rng, 0.5), tilt)
    if rng.uniform() < 0.4:  # U wave
        recovery = (*recovery, Wave(qt_s * 1.22, 0.03, 0.04, recovery[0].scaled(0.08).vector))
    p_size = float(np.clip(np.exp(rng.normal(0, 0.25)), 0.5, 1.5))
    spec = HeartSpec(
        rhythm=rhythm,
        atrial=scaled(perturbed(HEALTHY_P, rng, 0.7), p_size),
        qrs=turned(qrs, turn),
        recovery=recovery,
        field=random_field(rng),
        noise=noise,
        filters=filters,
        pr_s=float(np.clip(rng.normal(0.158, 0.018), 0.122, 0.198)),
        qrs_s=qrs_s,
        qt_s=qt_s,
        age_years=float(rng.integers(18, 90)),
        sex=str(rng.choice(["M", "F"])),
    )
    if rng.uniform() < 0.35:
        spec = notched(spec, rng, 0.08)
    return with_axis(spec, float(np.clip(rng.normal(42, 26), -15, 85)))


# Dower's matrix makes V1 too large beside V2: factors that bring the leads' standard deviations to the medians of
# PTB-XL's normal records; below, the logarithmic spread that those records have on top of the lobes' own.
_LEAD_FACTOR: Final = np.array([1.0, 1.03, 0.82, 1.40, 1.10, 1.0, 0.96, 1.0])
_LEAD_SPREAD: Final = np.array([0.07, 0.07, 0.28, 0.24, 0.22, 0.20, 0.16, 0.15])


def random_field(rng: np.random.Generator) -> F64:
    """Dower's matrix for another chest and other hands placing the electrodes; neighbours in the chest vary alike."""
    own = rng.standard_normal(len(DOWER) + 1)
    alike = 0.8 * own[1:] + 0.6 * np.concatenate([own[1:3], own[2:-2], own[-2:-1]])
    factor = _LEAD_FACTOR * np.exp(_LEAD_SPREAD * np.clip(alike, -2.0, 2.0))
    return np.asarray(DOWER * factor[:, None] + rng.normal(0, 0.06, DOWER.shape), dtype=np.float64)


def notched(spec: HeartSpec, rng: np.random.Generator, size_mv: float) -> HeartSpec:
    """Small narrow lobes in the QRS: notches and slurs."""
    extra = []
    for _ in range(int(rng.integers(1, 4))):
        x, y, z = (float(v) for v in rng.normal(0, size_mv, 3))
        extra.append(bell(float(rng.uniform(0.3, 0.9)) * spec.qrs_s, float(rng.uniform(0.004, 0.007)), (x, y, z)))
    return replace(spec, qrs=spec.qrs + tuple(extra))


def qrs_range_mv(spec: HeartSpec) -> tuple[F64, F64]:
    """Lowest and highest point (12,) each of the QRS alone in the twelve leads."""
    fs_hz, margin_s = 1000.0, 0.03
    n = int((spec.qrs_s + 2 * margin_s) * fs_hz)
    leads = free_leads(draw(place(spec.qrs, np.array([margin_s])), fs_hz, n), spec.field)
    leads = np.vstack([LIMB_FROM_I_II @ leads[:2], leads[2:]])
    return np.minimum(leads.min(axis=1), 0.0), np.maximum(leads.max(axis=1), 0.0)


def sokolow_lyon_mv(spec: HeartSpec) -> float:
    """S in V1 plus the larger R of V5 and V6; 3.5 mV and more says left ventricular hypertrophy."""
    low, high = qrs_range_mv(spec)
    return float(-low[6] + max(high[10], high[11]))


def cornell_mv(spec: HeartSpec) -> float:
    """R in aVL plus S in V3; above 2.8 (men) or 2.0 mV (women) says left ventricular hypertrophy."""
    low, high = qrs_range_mv(spec)
    return float(high[4] - low[8])


def with_qtc(spec: HeartSpec, qtc_s: float) -> HeartSpec:
    """The same heart with another QT: recovery stretched."""
    qt_s = qtc_s * spec.rr_s ** (1 / 3)
    return replace(spec, recovery=tuple(w.stretched(qt_s / spec.qt_s) for w in spec.recovery), qt_s=qt_s)
