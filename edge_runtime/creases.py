"""A field measured cell by cell, as paper makes it: smooth, but for creases.

Averaging rounds a crease off, by some tenths of a millimetre where it is sharp, and pulls the field's edges inwards.
Paper that is folded or crumpled is flat in between, so that few cells have any second differences at all.  Their sum is
made small (second-order total variation: Lysaker, Lundervold and Tai, IEEE Trans. Image Process. 12, 1579, 2003), and
by Huber's function how far the field lies off what was measured:

    sum w huber(f - m) + STIFF_MM sum |D2 f|

by alternating directions (Boyd et al., Found. Trends Mach. Learn. 3, 1, 2011, over-relaxed), whose equations are
diagonal in cosines.  Small holes are bridged; far from all that was measured a field stays as it was given, so that
what is nearly right there, such as a trend, is taken off before.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.page import F32
from edge_runtime.cosines import bends, cosines

F64 = NDArray[np.float64]
# Beside the traces of 30 rendered pages photographed (every second development page), mm rms, folded and crumpled ones
# and the others: averages over the neighbourhood .059 and .027; .24 here .044 and .026, .48 .044 and .019, .8 .049 and
# .018.
STIFF_MM: Final = 0.45
MISS_MM: Final = 0.05  # phases are off by as much; beyond it misses count by their size alone
FAR_MM: Final = 0.15  # half counts, in the means of four cells, what lies so far off their first mean
ITERATIONS: Final = 15
STEP: Final = 20.0  # what second differences must agree by, relative to what the field must
RELAXED: Final = 1.6


def between_creases(measured_mm: F64, weight: F64) -> F64:
    """The field (h, w), mm, of what was measured in every cell and how surely (0 to 1, 0: not at all).

    Solved on squares of four cells: noise leaves nothing finer."""
    h, w = measured_mm.shape
    pad = (0, h % 2, 0, w % 2)
    measured = np.asarray(cv2.copyMakeBorder(measured_mm, *pad, cv2.BORDER_REPLICATE), np.float32)
    sure = np.asarray(cv2.copyMakeBorder(weight, *pad, cv2.BORDER_CONSTANT), np.float32)
    first, _ = _squares(measured, sure)
    off = measured - np.repeat(np.repeat(first, 2, axis=0), 2, axis=1)
    field = _least_bent(*_squares(measured, np.asarray(sure / (1 + (off / FAR_MM) ** 2), np.float32)))
    x, y = (np.arange(n, dtype=np.float32) / 2 - 0.25 for n in (w, h))
    return np.asarray(cv2.remap(field, *np.meshgrid(x, y), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _squares(values: F32, weight: F32) -> tuple[F32, F32]:
    """Means by weight over squares of 2 x 2 cells, and their weights' sums."""
    size = values.shape[1] // 2, values.shape[0] // 2
    mean, total = (cv2.resize(v, size, interpolation=cv2.INTER_AREA) for v in (values * weight, weight))
    return np.asarray(mean / np.maximum(total, 1e-6), np.float32), np.asarray(4 * total, np.float32)


def _least_bent(measured: F32, weight: F32) -> F32:
    """See the module: f for m = ``measured``, w = ``weight``."""
    h, w = measured.shape
    up, across = cosines(h), cosines(w)
    inverse = (1 / (1 + STEP * bends(h, w) ** 2)).astype(np.float32)
    least = np.full((h, w), STIFF_MM / STEP, np.float32)
    least[[0, -1]] = least[:, [0, -1]] = 0  # mirrored cells there: a slope is no crease
    field, held = measured, np.float32(1) + weight
    miss, miss_owed = np.zeros((2, h, w), np.float32)
    bent, bent_owed = np.zeros((2, 3, h, w), np.float32)
    for _ in range(ITERATIONS):
        wanted = measured + miss - miss_owed + np.float32(STEP) * _adjoint(bent - bent_owed)
        field = up.T @ ((up @ wanted @ across.T) * inverse) @ across
        now = RELAXED * (field - measured) + (1 - RELAXED) * miss + miss_owed
        quadratic = now / held
        miss = np.where(np.abs(quadratic) <= MISS_MM, quadratic, now - np.sign(now) * weight * MISS_MM)
        miss_owed = now - miss
        differences = RELAXED * _second_differences(field) + (1 - RELAXED) * bent + bent_owed
        size = np.sqrt(differences[0] ** 2 + differences[1] ** 2 + 2 * differences[2] ** 2)
        bent = differences * np.maximum(0, 1 - least / np.maximum(size, 1e-9))
        bent_owed = differences - bent
    return np.asarray(field, np.float32)


def _second_differences(f: F32) -> F32:
    """Along x, along y and mixed: (3, h, w), the field mirrored at its edges."""
    out = np.zeros((3, *f.shape), np.float32)
    out[0], out[1] = _curved(f, 1), _curved(f, 0)
    out[2, :-1, :-1] = f[1:, 1:] - f[1:, :-1] - f[:-1, 1:] + f[:-1, :-1]
    return out


def _adjoint(d: F32) -> F32:
    """The transpose of ``_second_differences``, the mixed ones counted twice."""
    out = _curved(d[0], 1) + _curved(d[1], 0)
    mixed = 2 * d[2, :-1, :-1]
    out[1:, 1:] += mixed
    out[1:, :-1] -= mixed
    out[:-1, 1:] -= mixed
    out[:-1, :-1] += mixed
    return out


def _curved(f: F32, axis: int) -> F32:
    """Second differences along an axis, mirrored at the edges: symmetric."""
    border = (0, 0, 1, 1) if axis else (1, 1, 0, 0)
    wide = cv2.copyMakeBorder(f, *border, cv2.BORDER_REPLICATE)
    around = wide[:, 2:] + wide[:, :-2] if axis else wide[2:] + wide[:-2]
    return np.asarray(around - 2 * f, np.float32)
