"""From the fine finder's phases to a lattice of grid nodes.

The net says for every square millimetre of its upright view how far it lies past a heavy line, along time and across
(as cosine and sine, their length being its certainty).  Unwrapping these two phase fields gives page millimetres
everywhere, folds and crumples included: weighted least squares (Ghiglia and Romero, J. Opt. Soc. Am. A 11, 107, 1994)
around a carrier that is fitted first, then congruence with the measured phases, then smoothing by certainty.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.geometry import View
from ecg.marks import FINE_STRIDE
from ecg.page import F32, LATTICE_MM, Sheet

F64 = NDArray[np.float64]
RAD_PER_MM = 2 * np.pi / LATTICE_MM
SOLVE_STEP = 2  # cells of the coarse grid that the least squares run on
MAX_PAGE_MM = 700.0  # no page is larger
NARROW_MM, WIDE_MM, NOISE_MM = 2.5, 9.0, 0.12
SURE = 0.35  # amplitude from which a cell's phase counts as seen


@dataclass(frozen=True, eq=False)
class Field:
    """Page mm of every cell of the view: mm (h, w, 2); certainty (h, w) 0..1; residual_mm: measured against smooth."""

    mm: F32
    certainty: F32
    residual_mm: float


def unwrap_grid(grid: F32, paper: F32) -> Field | None:
    """Phases (4, h, w) as GRID_CHANNELS and paper probability (h, w) to page mm; None where no grid shows."""
    amplitude = np.minimum(np.hypot(grid[0], grid[1]), np.hypot(grid[2], grid[3])).astype(np.float32)
    certainty = np.clip(amplitude, 0, 1) * np.clip(paper, 0, 1)
    if float((certainty > SURE).mean()) < 0.02 or (certainty > SURE).sum() < 400:
        return None
    axes, residuals = [], []
    for axis in (0, 1):
        z = (grid[2 * axis] + 1j * grid[2 * axis + 1]).astype(np.complex64)
        phase, residual = _unwrap(z, certainty)
        axes.append(phase / RAD_PER_MM)
        residuals.append(residual / RAD_PER_MM)
    mm = np.stack(axes, axis=-1)
    sure = certainty > SURE
    residual_mm = float(np.median(np.hypot(*residuals)[sure]))
    return Field(mm.astype(np.float32), certainty.astype(np.float32), residual_mm)


def _unwrap(z: NDArray[np.complex64], certainty: F32) -> tuple[F64, F64]:
    """Unwrapped phase (h, w) rad and how far the measured phase lies off it (h, w) rad."""
    h, w = z.shape
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    weight = certainty.astype(np.float64) ** 2
    unit = z / np.maximum(np.abs(z), 1e-6)
    gx, gy = _mean_gradient(unit, weight)
    carrier = gx * x + gy * y
    for smoothing in (1.5, 0.0):
        rest = _solve(unit * np.exp(-1j * carrier), weight, smoothing)
        carrier = _blend(carrier + rest, weight, (x, y))
    # Congruent with what was measured, where that is near the smooth surface; smoothed by certainty.
    off = np.angle(unit * np.exp(-1j * carrier))
    local = _normalised_blur(off, weight * np.exp(-((off / 1.2) ** 2)), 1.6)
    phase = _smoothed(carrier + local, weight, (x, y))
    return phase, np.abs(np.angle(unit * np.exp(-1j * phase)))


def _smoothed(phase: F64, weight: F64, xy: tuple[F64, F64]) -> F64:
    """The field averaged by certainty, its cubic trend apart so that slopes survive at holes and edges.

    Over a wide neighbourhood where the paper is smooth, which takes the phases' noise out (0.1 mm cost a steep QRS
    complex several dB), over a narrow one where wide and narrow differ by more than noise: folds and crumples.
    """
    trend = _trend(phase, weight, xy)
    rest = phase - trend
    narrow, wide = (_normalised_blur(rest, weight, sigma) for sigma in (NARROW_MM, WIDE_MM))
    differ = np.asarray(cv2.GaussianBlur((narrow - wide) ** 2, (0, 0), WIDE_MM / 2), dtype=np.float64)
    return trend + narrow + np.exp(-differ / (NOISE_MM * RAD_PER_MM) ** 2) * (wide - narrow)


def _mean_gradient(unit: NDArray[np.complexfloating], weight: F64) -> tuple[float, float]:
    """Mean phase advance a cell along x and y, from the circular mean of neighbouring cells' differences."""
    wx, wy = weight[:, 1:] * weight[:, :-1], weight[1:] * weight[:-1]
    gx = np.angle(np.sum(unit[:, 1:] * np.conj(unit[:, :-1]) * wx))
    gy = np.angle(np.sum(unit[1:] * np.conj(unit[:-1]) * wy))
    return float(gx), float(gy)


def _solve(demodulated: NDArray[np.complexfloating], weight: F64, smoothing: float) -> F64:
    """Weighted least-squares unwrapped phase (h, w) of the demodulated field, solved on every second cell."""
    h, w = weight.shape
    re, im = demodulated.real * weight, demodulated.imag * weight
    fields = [re, im, weight]
    if smoothing:
        blurred = [np.asarray(cv2.GaussianBlur(v, (0, 0), smoothing), np.float64) for v in fields]
    else:
        blurred = [np.asarray(cv2.blur(v, (3, 3)), np.float64) for v in fields]
    size = (w + SOLVE_STEP - 1) // SOLVE_STEP, (h + SOLVE_STEP - 1) // SOLVE_STEP
    size = size[0] + size[0] % 2, size[1] + size[1] % 2  # cv2.dct wants even sizes
    map_x, map_y = np.meshgrid(np.arange(size[0], dtype=np.float32) * SOLVE_STEP,
                               np.arange(size[1], dtype=np.float32) * SOLVE_STEP)  # fmt: skip
    pick = [cv2.remap(v, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for v in blurred]
    z = pick[0] + 1j * pick[1]
    coarse = _least_squares(np.angle(z), np.clip(np.abs(z), 0, 1) + 1e-4)
    back_x, back_y = np.meshgrid(
        np.arange(w, dtype=np.float32) / SOLVE_STEP, np.arange(h, dtype=np.float32) / SOLVE_STEP
    )
    return np.asarray(cv2.remap(coarse, back_x, back_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _wrap(a: F64) -> F64:
    return np.asarray((a + np.pi) % (2 * np.pi) - np.pi)


def _least_squares(phase: F64, weight: F64, iterations: int = 60) -> F64:
    """Minimise sum w |grad f - wrap(grad phase)|^2: conjugate gradients, preconditioned with the DCT Poisson solver."""
    wx = np.minimum(weight[:, 1:], weight[:, :-1]) ** 2
    wy = np.minimum(weight[1:], weight[:-1]) ** 2

    def divergence(dx: F64, dy: F64) -> F64:
        out = np.zeros_like(phase)
        out[:, :-1] += dx
        out[:, 1:] -= dx
        out[:-1] += dy
        out[1:] -= dy
        return out

    h, w = phase.shape
    eigen = (2 * np.cos(np.pi * np.arange(h) / h) - 2)[:, None] + (2 * np.cos(np.pi * np.arange(w) / w) - 2)[None]
    eigen[0, 0] = 1.0

    def poisson(r: F64) -> F64:
        f = cv2.dct(r) / eigen
        f[0, 0] = 0.0
        return np.asarray(cv2.idct(f))

    r = divergence(wx * _wrap(np.diff(phase, axis=1)), wy * _wrap(np.diff(phase, axis=0)))
    norm = float(np.linalg.norm(r))
    f, p, rz = np.zeros_like(phase), np.zeros_like(phase), 0.0
    for k in range(iterations):
        if norm == 0 or np.linalg.norm(r) < 1e-4 * norm:
            break
        z = poisson(r)
        rz, before = float(np.sum(r * z)), rz
        p = z if k == 0 else z + (rz / before) * p
        q = divergence(wx * np.diff(p, axis=1), wy * np.diff(p, axis=0))
        alpha = rz / float(np.sum(p * q))
        f = f + alpha * p
        r = r - alpha * q
    # f is known up to a constant: put it on the measured phase.
    shift = np.angle(np.sum(weight**2 * np.exp(1j * (phase - f))))
    return np.asarray(f + shift)


def _blend(solved: F64, weight: F64, xy: tuple[F64, F64]) -> F64:
    """The solution where the grid is seen, a smooth continuation of it (a cubic polynomial) elsewhere."""
    smooth = _trend(solved, weight, xy)
    near = np.clip(cv2.GaussianBlur(weight, (0, 0), 4.0) * 4, 0, 1)
    return smooth + near * (solved - smooth)


def _trend(solved: F64, weight: F64, xy: tuple[F64, F64]) -> F64:
    """Cubic polynomial in x and y through a field, robust, by weight."""
    h, w = weight.shape
    terms = _polynomial(xy[0] / w - 0.5, xy[1] / h - 0.5)
    step = max(1, int(np.sqrt(weight.size / 4000)))
    some = (slice(None, None, step), slice(None, None, step))
    a, b, k = terms[some].reshape(-1, terms.shape[-1]), solved[some].ravel(), weight[some].ravel()
    coefficients: F64 = np.zeros(terms.shape[-1])
    for _ in range(4):
        aw = a * k[:, None]
        normal = aw.T @ a + 1e-3 * np.eye(a.shape[1])
        coefficients = np.asarray(np.linalg.solve(normal, aw.T @ b), dtype=np.float64)
        error = b - a @ coefficients
        k = weight[some].ravel() / (1 + (error / 2.0) ** 2)
    return np.asarray(terms @ coefficients, dtype=np.float64)


def _polynomial(x: F64, y: F64) -> F64:
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y, x**3, x * x * y, x * y * y, y**3], axis=-1)


def _normalised_blur(values: F64, weight: F64, sigma: float) -> F64:
    """Mean of the neighbourhood by weight, falling off to 0 far from any."""
    top = cv2.GaussianBlur(values * weight, (0, 0), sigma)
    bottom = cv2.GaussianBlur(weight, (0, 0), sigma)
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
    for k in range(14):
        value = bilinear(mm, p)
        if k < 4:
            jxx, jxy, jyx, jyy = (np.full(len(p), jac[i, j]) for i in (0, 1) for j in (0, 1))
        else:
            dx, dy = bilinear(gx, p), bilinear(gy, p)
            jxx, jxy, jyx, jyy = dx[:, 0], dy[:, 0], dx[:, 1], dy[:, 1]
        det = jxx * jyy - jxy * jyx
        det = np.where(np.abs(det) < 0.2, 0.2, det)
        d = flat - value
        step = np.stack([(d[:, 0] * jyy - d[:, 1] * jxy) / det, (d[:, 1] * jxx - d[:, 0] * jyx) / det], axis=-1)
        p = p + np.clip(step, -6, 6)
    bad = np.linalg.norm(flat - bilinear(mm, p), axis=1) > 0.3
    p[bad] = np.nan
    return np.asarray(p.reshape(wanted.shape))


def bilinear(field: NDArray[np.floating], xy: NDArray[np.floating]) -> F64:
    """Values (n, c) of a field (h, w, c) at fractional cells (n, 2); beyond the edge it goes on straight."""
    h, w = field.shape[:2]
    x, y = np.nan_to_num(xy[:, 0]), np.nan_to_num(xy[:, 1])
    i, j = np.clip(y.astype(int), 0, h - 2), np.clip(x.astype(int), 0, w - 2)
    fx, fy = (x - j)[:, None], (y - i)[:, None]
    top = field[i, j] * (1 - fx) + field[i, j + 1] * fx
    low = field[i + 1, j] * (1 - fx) + field[i + 1, j + 1] * fx
    return np.asarray(top * (1 - fy) + low * fy, dtype=np.float64)
