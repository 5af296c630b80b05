"""Unwrapped phases that slipped by whole periods.

Where a band of the grid is seen badly, least squares carry its wrong slope on to all that lies beyond, or spread it:
half a page is 5 mm off, and the measured phases, which are right there, no longer fit.  Paper that is nearly flat has a
way out: a cubic surface that is fitted to the phases themselves fits them nearly everywhere.  On bent paper it does
not, and the least squares stay.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
POWERS: Final = tuple((i, j) for i in range(4) for j in range(4 - i))  # of x and y
DEGREES: Final = np.array([i + j for i, j in POWERS])
CELLS: Final = 4000  # that the surface is fitted to
GROWTH: Final = (0.25, 0.4, 0.65, 1.0, 1.0, 1.0)  # of the page: the surface is followed outwards
NEAR_RAD: Final = 0.9  # measured phases that lie this close to a field fit it
FLAT_SHARE, BETTER_SHARE = 0.7, 0.1  # of the cells that must fit the surface; and by how much fewer the field
SURE: Final = 0.1  # weight from which a cell counts as seen
FEW: Final = 300


def unslipped(phase: F64, unit: NDArray[np.complexfloating], weight: F64) -> F64:
    """The unwrapped ``phase`` (h, w) rad, or where it slipped a smooth surface that did not.

    ``unit`` (h, w): measured phases as complex numbers of length 1; ``weight`` (h, w): their certainty.
    """
    step = max(1, int(np.sqrt(weight.size / CELLS)))
    some = (slice(None, None, step), slice(None, None, step))
    sure = weight[some] > SURE
    measured = np.angle(unit[some][sure])
    by_phase = _fitting(measured, phase[some][sure])
    if len(measured) < FEW or by_phase + BETTER_SHARE > 1:  # nearly always: no surface could fit so much better
        return phase
    y, x = _places(weight)
    basis = _powers(y[::step], x[::step])
    c = _followed(unit[some], weight[some], basis, _from_slopes(unit, weight, y, x, step), y[::step], x[::step])
    by_surface = _fitting(measured, np.tensordot(c, basis, 1)[sure])
    if by_surface < max(FLAT_SHARE, by_phase + BETTER_SHARE):
        return phase
    return np.asarray(np.tensordot(c, _powers(y, x), 1), dtype=np.float64)


def _fitting(measured: F64, field: F64) -> float:
    """Share of the measured phases that lie near a field's."""
    return float((np.abs(wrapped(measured - field)) < NEAR_RAD).mean()) if len(measured) else 0.0


def _places(weight: F64) -> tuple[F64, F64]:
    """Cells' y (h,) and x (w,) about the middle of what is seen, the longer side of length 1."""
    total = max(float(weight.sum()), 1e-9)
    out = []
    for axis, n in enumerate(weight.shape):
        at = np.arange(n) / max(weight.shape)
        out.append(at - float((weight.sum(axis=1 - axis) * at).sum() / total))
    return out[0], out[1]


def _powers(y: F64, x: F64) -> F64:
    """(terms, h, w)."""
    return np.stack([np.outer(y**j, x**i) for i, j in POWERS])


def _followed(unit: NDArray[np.complexfloating], weight: F64, basis: F64, start: F64, y: F64, x: F64) -> F64:
    """Coefficients (terms,) of the cubic through the measured phases, followed from the middle outwards."""
    sure = weight > SURE
    a, k, z = basis[:, sure].T, weight[sure], unit[sure]
    far = np.hypot(*np.meshgrid(y, x, indexing="ij"))[sure]
    c = start.copy()
    for n, share in enumerate(GROWTH):
        inside = k * (far <= share * far.max())
        off = np.angle(z * np.exp(-1j * (a @ c)))
        shift = float(np.angle(np.sum(inside * np.exp(1j * off))))
        c[0] += shift
        off = wrapped(off - shift)
        use = (2 if n == 0 else 3 if n < 3 else 4) > DEGREES
        some = a[:, use]
        aw = some * (inside / (1 + (off / 0.5) ** 2))[:, None]
        stiff = (1e-6 * float(inside.sum()) * share**2 + 1e-9) * np.eye(int(use.sum()))
        c[use] += np.linalg.solve(aw.T @ some + stiff, aw.T @ off)
    return c


def _from_slopes(unit: NDArray[np.complexfloating], weight: F64, y: F64, x: F64, step: int) -> F64:
    """Coefficients of a quadratic whose slopes are the measured ones, robust: no slip touches many of these."""
    size = max(weight.shape)
    use = [n for n, (i, j) in enumerate(POWERS) if 0 < i + j <= 2]
    parts = []
    for axis in (1, 0):
        low = (slice(0, -1, step), slice(0, -1, step))
        high = (low[0], slice(1, None, step)) if axis else (slice(1, None, step), low[1])
        slope = np.angle(unit[high] * np.conj(unit[low])) * size
        k = np.minimum(weight[high], weight[low])
        yy, xx = np.meshgrid(y[low[0]], x[low[1]], indexing="ij")
        columns = [_slope(POWERS[n], xx, yy, axis) for n in use]
        parts.append((np.stack(columns, axis=-1).reshape(-1, len(use)), slope.ravel(), k.ravel()))
    a, b, k = (np.concatenate(p) for p in zip(*parts, strict=True))
    c: F64 = np.zeros(len(use))
    weights = k
    for _ in range(8):
        aw = a * weights[:, None]
        c = np.asarray(np.linalg.solve(aw.T @ a + 1e-6 * np.eye(len(use)), aw.T @ b), dtype=np.float64)
        off = b - a @ c
        spread = 1.5 * float(np.median(np.abs(off[k > SURE]))) if (k > SURE).any() else 1.0
        weights = k / (1 + (off / max(spread, 1e-6)) ** 2)
    out: F64 = np.zeros(len(POWERS))
    out[use] = c
    return out


def _slope(power: tuple[int, int], x: F64, y: F64, axis: int) -> F64:
    """d(x^i y^j) along x (axis 1) or y (axis 0)."""
    i, j = power
    if axis:
        return np.asarray(i * x ** max(i - 1, 0) * y**j, dtype=np.float64)
    return np.asarray(j * y ** max(j - 1, 0) * x**i, dtype=np.float64)


def wrapped(a: F64) -> F64:
    """An angle, or a difference of two, in -pi to pi."""
    return np.asarray(a - 2 * np.pi * np.rint(a / (2 * np.pi)), dtype=np.float64)
