"""How the impulse spreads: bundle branch and fascicular blocks, pre-excitation, and the recovery that follows them.

Shapes follow the median beats of PTB-XL's records with that code (1.0.3, CC BY 4.0, brought to Frank's axes); durations
keep to the usual criteria.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ecg.synth.anatomy import Change, HeartSpec, normal_recovery, notched, perturbed, scaled, turned, with_axis
from ecg.synth.dipole import Wave, Waves, as_vector, bell, rotation

# Lobes over a QRS of the duration given.
_LBBB_S, _LBBB = 0.160, (
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
    bell(0.0920, 0.0170, (-0.52, -0.05, -0.60)),
)  # fmt: skip
LAFB_S, LAFB = 0.095, (
    bell(0.0260, 0.0085, (0.08, 0.16, -0.20)),
    bell(0.0390, 0.0080, (0.92, -0.02, 0.08)),
    bell(0.0520, 0.0068, (-0.18, -0.26, 0.30)),
    bell(0.0630, 0.0100, (-0.30, -0.34, 0.44)),
)  # fmt: skip
LPFB_S, LPFB = 0.095, (
    bell(0.0250, 0.0085, (0.18, -0.18, -0.24)),
    bell(0.0400, 0.0085, (0.50, 0.62, 0.10)),
    bell(0.0500, 0.0080, (0.05, 0.55, 0.22)),
    bell(0.0630, 0.0100, (-0.35, 0.22, 0.46)),
)  # fmt: skip


def discordant(qrs: Waves, qrs_s: float, qt_s: float, share: float, st_share: float) -> Waves:
    """Recovery against the main QRS forces: ST slides into a T of the opposite direction."""
    area = sum((np.array(w.vector) * (w.rise_s + w.fall_s) for w in qrs), np.zeros(3)) / 2
    main = -area / max(float(np.linalg.norm(area)), 1e-9)
    k = qt_s / 0.39
    fall = 0.042 * k
    peak = qt_s - 2 * fall
    st_at = (qrs_s + peak) / 2
    return (
        Wave(peak, 0.065 * k, fall, as_vector(main * share)),
        Wave(
            st_at, (st_at - qrs_s) * 0.9 + 0.01, (peak - st_at) * 0.9 + 0.01, as_vector(main * st_share), plateau=True
        ),
    )


def blocked(spec: HeartSpec, lobes: Waves, lobes_s: float, qrs_s: float, rng: np.random.Generator) -> HeartSpec:
    """The heart with other QRS lobes at its own size and about its own duration."""
    size = float(np.exp(rng.normal(0.05, 0.2)))
    turn = rotation(float(rng.normal(0, 7)), float(rng.normal(0, 8)), float(rng.normal(0, 12)))
    qrs = scaled(perturbed(tuple(w.stretched(qrs_s / lobes_s) for w in lobes), rng, 0.8), size)
    return replace(spec, qrs=turned(qrs, turn), qrs_s=qrs_s, qt_s=spec.qt_s + 0.7 * (qrs_s - spec.qrs_s))


def clbbb(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """QRS of 0.13 s and more, notched to the left, no septal Q; ST and T the other way."""
    spec = blocked(spec, _LBBB, _LBBB_S, float(rng.uniform(0.13, 0.175)), rng)
    t, st = float(rng.uniform(0.35, 0.6)), float(rng.uniform(0.10, 0.25))
    return replace(spec, recovery=discordant(spec.qrs, spec.qrs_s, spec.qt_s, t, st))


def ilbbb(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """The left block's shape in 0.11 to 0.12 s."""
    spec = blocked(spec, _LBBB, _LBBB_S, float(rng.uniform(0.11, 0.119)), rng)
    return replace(spec, recovery=discordant(spec.qrs, spec.qrs_s, spec.qt_s, 0.2, 0.08))


def crbbb(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """QRS of 0.12 s and more; late forces to the right and the front (rsR' in V1, wide S in I and V6)."""
    spec = blocked(spec, _RBBB, _RBBB_S, float(rng.uniform(0.122, 0.158)), rng)
    spec = _early_axis(spec, float(rng.uniform(-15, 85)))
    # T against the late forces: inverted in V1 and V2, upright to the left.
    recovery = normal_recovery(spec.qt_s, float(rng.uniform(0.7, 1.1)), (0.24, 0.13, float(rng.uniform(0.05, 0.2))))
    return replace(spec, recovery=recovery)


def _early_axis(spec: HeartSpec, axis_deg: float) -> HeartSpec:
    """A right block's early forces turned to an axis; its late ones stay to the right and the front."""
    early = with_axis(replace(spec, qrs=spec.qrs[:-1]), axis_deg)
    return replace(spec, qrs=(*early.qrs, spec.qrs[-1]))


def irbbb(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """A small late force to the right and the front, QRS below 0.12 s."""
    qrs_s = float(rng.uniform(0.098, 0.118))
    late = bell(qrs_s * 0.80, 0.010, (-0.28 * rng.uniform(0.7, 1.3), -0.03, -0.30 * rng.uniform(0.7, 1.3)))
    return replace(spec, qrs=(*spec.qrs, late), qrs_s=qrs_s)


def ivcd(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """A wide, notched QRS of no bundle's shape."""
    qrs_s = float(rng.uniform(0.112, 0.14))
    qrs = tuple(w.stretched(qrs_s / spec.qrs_s) for w in spec.qrs)
    return notched(replace(spec, qrs=qrs, qrs_s=qrs_s), rng, 0.15)


def wpw(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """Short PR, delta wave, wide QRS."""
    early_s = float(rng.uniform(0.03, 0.05))
    way = np.array([(0.35, 0.25, -0.45), (0.45, 0.15, 0.30), (0.40, -0.35, -0.10)][int(rng.integers(3))])
    # It rises slowly and hands over to the QRS without a dip between them.
    delta = Wave(0.9 * early_s + 0.012, 0.42 * early_s, 0.02, as_vector(way * rng.uniform(0.8, 1.3)))
    qrs = (delta, *(replace(w, at_s=w.at_s + 0.75 * early_s) for w in spec.qrs))
    qrs_s = spec.qrs_s + early_s * 0.75
    spec = replace(spec, qrs=qrs, qrs_s=qrs_s, pr_s=float(rng.uniform(0.075, 0.11)))
    mixed = discordant(qrs, qrs_s, spec.qt_s, float(rng.uniform(0.1, 0.3)), float(rng.uniform(0.02, 0.1)))
    return replace(spec, recovery=scaled(spec.recovery, 0.35) + mixed)


def fascicle(lobes: Waves, lobes_s: float, low_deg: float, high_deg: float) -> Change:
    """A fascicular block with its frontal axis within the bounds; beside CRBBB only the axis turns."""

    def change(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
        axis = float(rng.uniform(low_deg, high_deg))
        if "CRBBB" in spec.codes:  # bifascicular
            return _early_axis(spec, axis)
        spec = blocked(spec, lobes, lobes_s, float(rng.uniform(0.088, 0.108)), rng)
        return with_axis(spec, axis)

    return change
