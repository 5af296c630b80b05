"""The heart as one moving dipole: waves in three dimensions, projected onto the leads.

Frank's axes: x to the patient's left, y to the feet, z to the back, in mV.  A wave is a bell (or a plateau) in time
with a fixed direction; overlapping waves with different directions give the loops of a vectorcardiogram.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Vector = tuple[float, float, float]

# The eight independent leads from Frank's x, y, z (Dower GE, Machado HB, Osborne JA: On deriving the electrocardiogram
# from vectorcardiographic leads. Clin Cardiol 1980;3:87-95), reordered to I, II, V1 to V6.
DOWER: Final = np.array([
    [0.632, -0.235, 0.059],
    [0.235, 1.066, -0.132],
    [-0.515, 0.157, -0.917],
    [0.044, 0.164, -1.387],
    [0.882, 0.098, -1.277],
    [1.213, 0.127, -0.601],
    [1.125, 0.127, -0.086],
    [0.831, 0.076, 0.230],
])  # fmt: skip
N_FREE_LEADS: Final = len(DOWER)

# I, II, V1 to V6 from the potentials of RA, LA, LL, V1 to V6; chest leads against Wilson's terminal (RA + LA + LL) / 3.
FREE_FROM_ELECTRODES: Final = np.vstack([
    [-1, 1, 0, 0, 0, 0, 0, 0, 0],
    [-1, 0, 1, 0, 0, 0, 0, 0, 0],
    np.hstack([np.full((6, 3), -1 / 3), np.eye(6)]),
])  # fmt: skip
N_ELECTRODES: Final = FREE_FROM_ELECTRODES.shape[1]

_REACH: Final = 4.2  # standard deviations on either side that a wave is drawn over


@dataclass(frozen=True)
class Wave:
    """One wave: its peak ``at_s`` after the anchor (P onset or QRS onset), Gaussian widths before and after the peak
    (standard deviations), and its dipole at the peak in mV. A plateau falls off with the fourth power instead."""

    at_s: float
    rise_s: float
    fall_s: float
    vector: Vector
    plateau: bool = False

    def scaled(self, factor: float) -> Wave:
        """The same wave, larger or smaller."""
        x, y, z = self.vector
        return replace(self, vector=(x * factor, y * factor, z * factor))

    def stretched(self, factor: float) -> Wave:
        """The same wave with all times multiplied."""
        return replace(self, at_s=self.at_s * factor, rise_s=self.rise_s * factor, fall_s=self.fall_s * factor)

    def turned(self, rotation: F64) -> Wave:
        """The same wave in another direction (rotation 3 x 3)."""
        x, y, z = (float(v) for v in rotation @ np.array(self.vector))
        return replace(self, vector=(x, y, z))


Waves = tuple[Wave, ...]


def bell(at_s: float, width_s: float, vector: Vector) -> Wave:
    """A symmetric wave."""
    return Wave(at_s, width_s, width_s, vector)


def as_vector(v: F64) -> Vector:
    """Three numbers of an array as plain floats."""
    return float(v[0]), float(v[1]), float(v[2])


def rotation(x_deg: float, y_deg: float, z_deg: float) -> F64:
    """Rotation about the three body axes; positive z_deg turns the frontal axis clockwise (left towards the feet)."""
    out = np.eye(3)
    for axis, degrees in enumerate((x_deg, y_deg, z_deg)):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        a, b = [k for k in range(3) if k != axis]
        turn = np.eye(3)
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = c, -s, s, c
        out = turn @ out
    return out


def frontal_axis_deg(waves: Sequence[Wave], field: F64) -> float:
    """The frontal axis of the waves' net area as a cart computes it, from leads I and aVF (0 left, 90 feet)."""
    area = sum((np.array(w.vector) * (w.rise_s + w.fall_s) for w in waves), np.zeros(3))
    one, two = field[0] @ area, field[1] @ area
    return float(np.degrees(np.arctan2((two - one / 2) * 2 / np.sqrt(3), one)))


@dataclass(frozen=True, eq=False)
class Placed:
    """Waves laid out in time: peaks (m,) s, widths (m,) s, vectors (m, 3) mV, plateau (m,)."""

    at_s: F64
    rise_s: F64
    fall_s: F64
    vector: F64
    plateau: NDArray[np.bool_]

    @staticmethod
    def join(parts: Sequence[Placed]) -> Placed:
        """Several sets of waves as one."""
        return Placed(
            np.concatenate([p.at_s for p in parts]),
            np.concatenate([p.rise_s for p in parts]),
            np.concatenate([p.fall_s for p in parts]),
            np.concatenate([p.vector for p in parts]),
            np.concatenate([p.plateau for p in parts]),
        )


def place(waves: Waves, anchor_s: F64, stretch: F64 | None = None, scale: F64 | None = None) -> Placed:
    """Each wave after each anchor (b,); ``stretch`` (b,) multiplies a beat's times, ``scale`` (b,) its size."""
    b, k = len(anchor_s), len(waves)
    stretch = np.ones(b) if stretch is None else stretch
    scale = np.ones(b) if scale is None else scale
    columns = np.array([(w.at_s, w.rise_s, w.fall_s) for w in waves]).reshape(k, 3)
    vectors = np.array([w.vector for w in waves]).reshape(k, 3)
    return Placed(
        (anchor_s[:, None] + stretch[:, None] * columns[None, :, 0]).ravel(),
        (stretch[:, None] * columns[None, :, 1]).ravel(),
        (stretch[:, None] * columns[None, :, 2]).ravel(),
        (scale[:, None, None] * vectors[None]).reshape(b * k, 3),
        np.tile(np.array([w.plateau for w in waves], dtype=bool), b),
    )


def draw(placed: Placed, fs_hz: float, n: int) -> F64:
    """The dipole (3, n) in mV that the waves add up to, sample i at i / fs_hz s."""
    out = np.zeros((3, n))
    widest = np.maximum(placed.rise_s, placed.fall_s)
    for low, high in ((0.0, 0.02), (0.02, 0.06), (0.06, np.inf)):  # windows as short as the waves allow
        chosen = (widest >= low) & (widest < high)
        if chosen.any():
            _draw_window(out, placed, np.flatnonzero(chosen), fs_hz)
    return out


def _draw_window(out: F64, placed: Placed, chosen: NDArray[np.intp], fs_hz: float) -> None:
    """Add the chosen waves to out (3, n)."""
    n = out.shape[1]
    at, rise, fall = placed.at_s[chosen], placed.rise_s[chosen], placed.fall_s[chosen]
    half = int(np.ceil(_REACH * max(rise.max(), fall.max()) * fs_hz)) + 1
    index = np.round(at * fs_hz).astype(np.int64)[:, None] + np.arange(-half, half + 1)[None, :]
    x = index / fs_hz - at[:, None]
    x = (x / np.where(x < 0, rise[:, None], fall[:, None])) ** 2
    plateau = placed.plateau[chosen]
    x[plateau] **= 2
    shape = np.exp(-0.5 * x)
    inside = (index >= 0) & (index < n)
    where, weight = index[inside], shape[inside]
    row = np.broadcast_to(np.arange(len(at))[:, None], index.shape)[inside]
    for axis in range(3):
        out[axis] += np.bincount(where, weights=weight * placed.vector[chosen[row], axis], minlength=n)


def free_leads(dipole: F64, field: F64) -> F64:
    """Leads I, II, V1 to V6 (8, n) in mV of a dipole (3, n)."""
    return field @ dipole
