"""Large ventricles and atria, high and low voltage."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from ecg.synth.anatomy import (
    Change,
    HeartSpec,
    cornell_mv,
    normal_recovery,
    qrs_range_mv,
    scaled,
    sokolow_lyon_mv,
    turned,
    with_axis,
)
from ecg.synth.conduction import discordant
from ecg.synth.dipole import bell


def lvh(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """Voltages above Sokolow-Lyon or Cornell; half of the hearts with strain."""
    grow = np.diag([rng.uniform(1.1, 1.4), rng.uniform(0.85, 1.2), rng.uniform(1.2, 1.6)])
    qrs_s = min(spec.qrs_s * 1.12, 0.118)
    spec = replace(spec, qrs=tuple(w.turned(grow).stretched(qrs_s / spec.qrs_s) for w in spec.qrs), qrs_s=qrs_s)
    spec = with_axis(spec, float(rng.uniform(-35, 50)))
    wanted = float(rng.uniform(3.6, 5.2))
    reached = max(sokolow_lyon_mv(spec), cornell_mv(spec) * 3.5 / (2.8 if spec.sex == "M" else 2.0))
    spec = replace(spec, qrs=scaled(spec.qrs, max(wanted / reached, 1.0)))
    if rng.uniform() > 0.55:
        return spec.tagged("VCLVH")
    strain = discordant(spec.qrs, spec.qrs_s, spec.qt_s, float(rng.uniform(0.15, 0.4)), float(rng.uniform(0.06, 0.15)))
    return replace(spec, recovery=strain).tagged("VCLVH", "NST_", "STD_", "INVT", details=("strain",))


def rvh(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """Right axis, a tall R in V1, T inverted in V1 to V3."""
    right = float(rng.uniform(0.6, 1.1))
    lobe = bell(0.60 * spec.qrs_s, 0.011, (-0.70 * right, 0.25 * right, -1.15 * right))
    flat = np.diag([0.75, 0.75, 0.45])
    tall = replace(spec, qrs=(*turned(spec.qrs, flat), lobe))
    tall = with_axis(tall, float(rng.uniform(95, 130)))
    # Turning about z leaves the forward force; T turns away from the right ventricle.
    recovery = normal_recovery(spec.qt_s, float(rng.uniform(0.8, 1.3)), (0.20, 0.04, 0.16))
    return replace(tall, recovery=recovery)


def voltage(low: bool) -> Change:
    """Limb leads below 0.5 mV from peak to peak, or all leads larger."""

    def change(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
        bottom, top = qrs_range_mv(spec)
        limb = float((top - bottom)[:6].max())
        if low:
            factor = float(rng.uniform(0.28, 0.46)) / limb
            return replace(spec, qrs=scaled(spec.qrs, factor), recovery=scaled(spec.recovery, max(factor, 0.4)))
        return replace(spec, qrs=scaled(spec.qrs, float(rng.uniform(1.35, 1.7))))

    return change


def lae(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """A late, large left atrium: P of 0.12 s and more, notched in II, ending below the line in V1."""
    right, left = HEALTHY_ATRIA
    late = replace(left, at_s=float(rng.uniform(0.088, 0.1)), vector=(0.11, 0.05, float(rng.uniform(0.05, 0.1))))
    size = float(rng.uniform(0.85, 1.2))
    pr_s = max(spec.pr_s, 0.15)
    return replace(spec, atrial=scaled((right, late), size), pr_s=pr_s)


def rae(spec: HeartSpec, rng: np.random.Generator) -> HeartSpec:
    """A large right atrium: P above 0.25 mV in II, peaked."""
    left = HEALTHY_ATRIA[1]
    tall = bell(0.046, 0.017, (0.05, float(rng.uniform(0.23, 0.33)), -0.09))
    return replace(spec, atrial=(tall, left.scaled(0.6)))


HEALTHY_ATRIA: Final = (bell(0.040, 0.018, (0.05, 0.065, -0.05)), bell(0.066, 0.019, (0.075, 0.035, 0.008)))
