"""From the fine finder's phases to a lattice of grid nodes.

The net says for every square millimetre of its upright view how far it lies past a heavy line, along time and across
(as cosine and sine, their length being its certainty).  Unwrapping these two phase fields gives page millimetres
everywhere, folds and crumples included: weighted least squares (Ghiglia and Romero, J. Opt. Soc. Am. A 11, 107, 1994)
around a carrier that is fitted first, then congruence with the measured phases, smoothed between the paper's creases.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.geometry import View
from ecg.marks import FINE_STRIDE
from ecg.page import F32, LATTICE_MM, Sheet
from edge_runtime.cosines import bends, cosines
from edge_runtime.creases import between_creases
from edge_runtime.slips import unslipped, wrapped

F64 = NDArray[np.float64]
RAD_PER_MM = 2 * np.pi / LATTICE_MM
SOLVE = ((4, 1.5), (2, 0.0))  # cells between the points that the least squares run on, and the phases' blur before
MAX_ITERATIONS, TOLERANCE = 60, 3e-3
LOOK_EVERY, MOVING = 4, 1e-3  # iterations; share of the cells seen that still goes to another period
MAX_PAGE_MM = 700.0  # no page is larger
LOCAL_CELLS, NARROW_CELLS, WIDE_CELLS = 1.6, 2.5, 9.0  # that phases are averaged over
FAR_RAD, NOISE_RAD = 1.2, 0.12 * RAD_PER_MM
CUBIC = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (3, 0), (2, 1), (1, 2), (0, 3))  # powers of x and y
SETTLED_CELLS = 1e-6
SURE = 0.35  # amplitude from which a cell's phase counts as seen


@dataclass(frozen=True, eq=False)
class Field:
    """Page mm of every cell of the view: mm (h, w, 2); certainty (h, w) 0..1; residual_mm: measured against mean;
    lines_mm: how far apart the lines lie whose phases were measured."""

    mm: F32
    certainty: F32
    residual_mm: float
    lines_mm: float = LATTICE_MM


def unwrap_grid(grid: F32, paper: F32) -> Field | None:
    """Phases (4, h, w) as GRID_CHANNELS and paper probability (h, w) to page mm; None where no grid shows."""
    certainty = grid_certainty(grid) * np.clip(paper, 0, 1)
    if float((certainty > SURE).mean()) < 0.02 or (certainty > SURE).sum() < 400:
        return None
    axes = both_unwrapped([(grid[k] + 1j * grid[k + 1]).astype(np.complex64) for k in (0, 2)], certainty)
    mm = np.stack([phase / RAD_PER_MM for phase, _ in axes], axis=-1)
    sure = certainty > SURE
    residual_mm = float(np.median(np.hypot(*(residual / RAD_PER_MM for _, residual in axes))[sure]))
    return Field(mm.astype(np.float32), certainty.astype(np.float32), residual_mm)


def grid_certainty(grid: F32) -> F32:
    """How surely phases (4, h, w) as GRID_CHANNELS are seen, both axes': (h, w), 0 to 1."""
    amplitude = np.minimum(np.hypot(grid[0], grid[1]), np.hypot(grid[2], grid[3]))
    return np.asarray(np.clip(amplitude, 0, 1), np.float32)


def both_unwrapped(
    phases: Sequence[NDArray[np.complex64]], certainty: F32, *, sharp: bool = True
) -> list[tuple[F64, F64]]:
    """``unwrapped`` of the phases along time and across: they know nothing of each other, and take a core each."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda z: unwrapped(z, certainty, sharp=sharp), phases))


def unwrapped(z: NDArray[np.complex64], certainty: F32, *, sharp: bool = True) -> tuple[F64, F64]:
    """Unwrapped phase (h, w) rad, creases kept if ``sharp``, and how far the measured phase lies off the mean around it
    (h, w) rad."""
    h, w = z.shape
    weight = certainty.astype(np.float64) ** 2
    measured: F64 = np.angle(z).astype(np.float64)
    unit = z / np.maximum(np.abs(z), 1e-6)
    gx, gy = mean_gradient(unit, weight)
    carrier = gx * np.arange(w) + gy * np.arange(h)[:, None]
    for step, smoothing in SOLVE:
        rest = _solve(wrapped(measured - carrier), weight, step, smoothing)
        carrier = _blend(carrier + rest, weight)
    carrier = unslipped(carrier, unit, weight)
    off = wrapped(measured - carrier)
    mean = _averaged(carrier, off, weight)
    phase = _creased(carrier + off, weight) if sharp else mean  # congruent with what was measured
    return phase, np.abs(wrapped(measured - mean))


def _creased(near: F64, weight: F64) -> F64:
    """The measured phase smoothed between creases, its cubic trend apart, which goes on where nothing is seen."""
    trend = _trend(near, weight)
    return trend + between_creases((near - trend) / RAD_PER_MM, weight) * RAD_PER_MM


def _averaged(carrier: F64, off: F64, weight: F64) -> F64:
    """The phase ``off`` beside a carrier, averaged by certainty, its cubic trend apart so that slopes survive at holes
    and edges.

    Over a wide neighbourhood where the paper is smooth, over a narrow one where the two differ by more than noise.
    """
    near = carrier + _mean_around(off, weight * np.exp(-((off / FAR_RAD) ** 2)), LOCAL_CELLS)
    trend = _trend(near, weight)
    rest = near - trend
    narrow, wide = (_mean_around(rest, weight, sigma) for sigma in (NARROW_CELLS, WIDE_CELLS))
    differ = cv2.GaussianBlur(((narrow - wide) ** 2).astype(np.float32), (0, 0), WIDE_CELLS / 2)
    smooth = np.exp(-np.asarray(differ, np.float64) / NOISE_RAD**2)
    return np.asarray(trend + narrow + smooth * (wide - narrow))


def mean_gradient(unit: NDArray[np.complexfloating], weight: F64) -> tuple[float, float]:
    """Mean phase advance a cell along x and y, from the circular mean of neighbouring cells' differences."""
    wx, wy = weight[:, 1:] * weight[:, :-1], weight[1:] * weight[:-1]
    gx = np.angle(np.sum(unit[:, 1:] * np.conj(unit[:, :-1]) * wx))
    gy = np.angle(np.sum(unit[1:] * np.conj(unit[:-1]) * wy))
    return float(gx), float(gy)


def _solve(off: F64, weight: F64, step: int, smoothing: float) -> F64:
    """Weighted least-squares unwrapped phase (h, w) of the wrapped one, solved on every ``step``-th cell."""
    h, w = weight.shape
    near, sure = off.astype(np.float32), weight.astype(np.float32)
    fields = [np.cos(near) * sure, np.sin(near) * sure]
    blurred = [cv2.GaussianBlur(v, (0, 0), smoothing) if smoothing else cv2.blur(v, (3, 3)) for v in fields]
    size = (w + step - 1) // step, (h + step - 1) // step
    map_x, map_y = np.meshgrid(np.arange(size[0], dtype=np.float32) * step,
                               np.arange(size[1], dtype=np.float32) * step)  # fmt: skip
    pick = [cv2.remap(v, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for v in blurred]
    z = pick[0] + 1j * pick[1]
    coarse = _least_squares(np.angle(z), np.clip(np.abs(z), 0, 1) + 1e-4)
    back_x, back_y = np.meshgrid(np.arange(w, dtype=np.float32) / step, np.arange(h, dtype=np.float32) / step)
    return np.asarray(cv2.remap(coarse, back_x, back_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _least_squares(phase: F64, weight: F64) -> F64:
    """Minimise sum w |grad f - wrap(grad phase)|^2: conjugate gradients, preconditioned with the DCT Poisson solver.

    In single precision and not to the end: what is left is far below a radian, and the measured phases take it out, so
    that it is over when no cell goes to another period any more.
    """
    wx = (np.minimum(weight[:, 1:], weight[:, :-1]) ** 2).astype(np.float32)
    wy = (np.minimum(weight[1:], weight[:-1]) ** 2).astype(np.float32)

    def divergence(dx: F32, dy: F32) -> F32:
        out = np.zeros(phase.shape, np.float32)
        out[:, :-1] += dx
        out[:, 1:] -= dx
        out[:-1] += dy
        out[1:] -= dy
        return out

    h, w = phase.shape
    up, across = cosines(h), cosines(w)
    eigen = -bends(h, w)
    eigen[0, 0] = np.inf  # no constant
    inverse = (1 / eigen).astype(np.float32)
    gx, gy = wx * wrapped(np.diff(phase, axis=1)), wy * wrapped(np.diff(phase, axis=0))
    r = divergence(gx.astype(np.float32), gy.astype(np.float32))
    first = _sum(r, r)
    jumps = r - divergence(*(wk * np.diff(phase, axis=k).astype(np.float32) for k, wk in ((1, wx), (0, wy))))
    if _sum(jumps, jumps) <= (TOLERANCE**2) * first:
        return phase  # nowhere wrapped where anything is seen: the solution itself
    f, p, rz = np.zeros_like(r), np.zeros_like(r), 0.0
    sure, periods = weight > SURE**2, np.full(phase.shape, np.inf)
    for k in range(MAX_ITERATIONS):
        if _sum(r, r) <= (TOLERANCE**2) * first:
            break
        if k % LOOK_EVERY == 0:
            last, periods = periods, np.rint((f + _shift(phase, f, weight) - phase) / (2 * np.pi))
            if np.count_nonzero((periods != last) & sure) <= MOVING * np.count_nonzero(sure):
                break
        z: F32 = np.asarray(up.T @ ((up @ r @ across.T) * inverse) @ across, np.float32)
        rz, before = _sum(r, z), rz
        p = z if k == 0 else z + np.float32(rz / before) * p
        q = divergence(wx * (p[:, 1:] - p[:, :-1]), wy * (p[1:] - p[:-1]))
        alpha = np.float32(rz / _sum(p, q))
        f += alpha * p
        r -= alpha * q
    return np.asarray(f + _shift(phase, f, weight), dtype=np.float64)


def _shift(phase: F64, f: F32, weight: F64) -> float:
    """The constant that puts f, which is known but for it, on the measured phase."""
    off = (phase - f).astype(np.float32)
    square = (weight**2).astype(np.float32)
    return float(np.arctan2(np.einsum("yx,yx->", square, np.sin(off)), np.einsum("yx,yx->", square, np.cos(off))))


def _sum(a: F32, b: F32) -> float:
    """Sum of products, in one thread: BLAS would start several for what takes microseconds."""
    return float(np.einsum("yx,yx->", a, b))


def _blend(solved: F64, weight: F64) -> F64:
    """The solution where the grid is seen, a smooth continuation of it (a cubic polynomial) elsewhere."""
    smooth = _trend(solved, weight)
    near = np.clip(cv2.GaussianBlur(weight.astype(np.float32), (0, 0), 4.0) * 4, 0, 1)
    return smooth + near * (solved - smooth)


def _trend(solved: F64, weight: F64) -> F64:
    """Cubic polynomial in x and y through a field, robust, by weight."""
    step = max(1, int(np.sqrt(weight.size / 4000)))
    some = (slice(None, None, step), slice(None, None, step))
    powers_y, powers_x, a = _powers(*weight.shape, step)
    b, k = solved[some].ravel(), weight[some].ravel()
    coefficients: F64 = np.zeros(len(CUBIC))
    for _ in range(4):
        aw = a * k[:, None]
        normal = aw.T @ a + 1e-3 * np.eye(a.shape[1])
        coefficients = np.asarray(np.linalg.solve(normal, aw.T @ b), dtype=np.float64)
        error = b - a @ coefficients
        k = weight[some].ravel() / (1 + (error / 2.0) ** 2)
    table = np.zeros((4, 4))
    for (i, j), c in zip(CUBIC, coefficients.tolist(), strict=True):
        table[j, i] = c
    return np.asarray(powers_y @ table @ powers_x.T, dtype=np.float64)


@lru_cache(maxsize=4)
def _powers(h: int, w: int, step: int) -> tuple[F64, F64, F64]:
    """Powers 0 to 3 of y (h, 4) and x (w, 4), and ``CUBIC``'s products of them at every ``step``-th cell (n, 10)."""
    y, x = (np.vander(np.arange(n) / n - 0.5, 4, increasing=True) for n in (h, w))
    return y, x, np.stack([np.outer(y[::step, j], x[::step, i]).ravel() for i, j in CUBIC], axis=-1)


def _mean_around(values: F64, weight: F64, sigma: float) -> F64:
    """Mean of the neighbourhood by weight, falling off to 0 far from any; in single precision: values are small."""
    top = cv2.GaussianBlur((values * weight).astype(np.float32), (0, 0), sigma)
    bottom = cv2.GaussianBlur(weight.astype(np.float32), (0, 0), sigma)
    return np.asarray(top / (bottom + 1e-3))


def field_to_sheet(
    field: Field, view: View, allowed: NDArray[np.bool_], step_mm: float = LATTICE_MM
) -> tuple[Sheet, F32]:
    """Nodes every ``step_mm`` in photo px, and in view cells (Ny, Nx, 2); NaN where ``allowed`` (h, w) is False.

    ``allowed`` marks the cells that show the paper; the lattice covers them.
    """
    h, w = allowed.shape
    inside = field.mm[allowed]
    low = np.floor(np.percentile(inside, 0.5, axis=0) / LATTICE_MM) * LATTICE_MM - LATTICE_MM
    high = np.ceil(np.percentile(inside, 99.5, axis=0) / LATTICE_MM) * LATTICE_MM + LATTICE_MM
    high = np.minimum(high, low + MAX_PAGE_MM)
    u, v = np.meshgrid(*(np.arange(low[k], high[k] + step_mm / 2, step_mm) for k in (0, 1)))
    cells = _invert(field.mm, np.stack([u, v], axis=-1))
    grown = cv2.dilate(allowed.astype(np.uint8), np.ones((9, 9), np.uint8))
    at = np.rint(np.nan_to_num(cells, nan=-1)).astype(int)
    ok = (at >= 0).all(-1) & (at[..., 0] < w) & (at[..., 1] < h) & np.isfinite(cells).all(-1)
    ok[ok] = grown[at[ok][:, 1], at[ok][:, 0]] > 0
    cells = np.where(ok[..., None], cells, np.nan)
    px = view.to_photo(cells * FINE_STRIDE + (FINE_STRIDE - 1) / 2)
    sheet = Sheet(px.astype(np.float32), float(u[0, 0]), float(v[0, 0]), field.residual_mm, step_mm)
    return sheet, cells.astype(np.float32)


def _invert(mm: F32, wanted: F64) -> F64:
    """Cells (..., 2) whose field value is ``wanted`` (..., 2): Newton with damped steps from the best affine guess."""
    h, w = mm.shape[:2]
    y, x = np.mgrid[0:h:4, 0:w:4]
    a = np.concatenate([mm[::4, ::4].reshape(-1, 2), np.ones((x.size, 1))], axis=1)
    affine, *_ = np.linalg.lstsq(a, np.stack([x.ravel(), y.ravel()], axis=-1).astype(np.float64), rcond=None)
    flat = wanted.reshape(-1, 2)
    p = np.concatenate([flat, np.ones((len(flat), 1))], axis=1) @ affine
    jac = np.linalg.inv(affine[:2].T)  # d(mm) / d(cell)
    gy, gx = np.gradient(cv2.GaussianBlur(mm, (0, 0), 1.0), axis=(0, 1))
    moving = np.arange(len(p))
    for k in range(14):
        here = p[moving]
        if k < 4:
            jxx, jxy, jyx, jyy = (np.full(len(here), jac[i, j]) for i in (0, 1) for j in (0, 1))
        else:
            dx, dy = bilinear(gx, here), bilinear(gy, here)
            jxx, jxy, jyx, jyy = dx[:, 0], dy[:, 0], dx[:, 1], dy[:, 1]
        det = jxx * jyy - jxy * jyx
        det = np.where(np.abs(det) < 0.2, 0.2, det)
        d = flat[moving] - bilinear(mm, here)
        step = np.stack([(d[:, 0] * jyy - d[:, 1] * jxy) / det, (d[:, 1] * jxx - d[:, 0] * jyx) / det], axis=-1)
        p[moving] = here + np.clip(step, -6, 6)
        moving = moving[np.abs(step).max(axis=1) > SETTLED_CELLS]
    bad = np.linalg.norm(flat - bilinear(mm, p), axis=1) > 0.3
    p[bad] = np.nan
    return np.asarray(p.reshape(wanted.shape))


def bilinear(field: NDArray[np.floating], xy: NDArray[np.floating]) -> F64:
    """Values (n, c) of a field (h, w, c) at fractional cells (n, 2); beyond the edge it goes on straight."""
    h, w = field.shape[:2]
    x, y = np.nan_to_num(xy[:, 0]), np.nan_to_num(xy[:, 1])
    i, j = np.clip(y.astype(int), 0, h - 2), np.clip(x.astype(int), 0, w - 2)
    fx, fy = (x - j)[:, None], (y - i)[:, None]
    cells, at = field.reshape(h * w, -1), i * w + j
    here, right, below, beside = (cells.take(at + k, axis=0) for k in (0, 1, w, w + 1))
    top = here * (1 - fx) + right * fx
    low = below * (1 - fx) + beside * fx
    return np.asarray(top * (1 - fy) + low * fy, dtype=np.float64)
