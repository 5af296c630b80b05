"""The ways between page millimetres, the finder's upright view and photo pixels, and sampling along them.

Pixel centres lie at integers everywhere.  Every sampling that shrinks goes through a shrunken copy of the photo first
(INTER_AREA), so that thin grid lines don't alias.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.page import F32, U8, Sheet

VIEW_PX_PER_MM = 4.0  # the finder's upright view: a heavy line every 20 px, a 3 mm letter 12 px high


@dataclass(frozen=True)
class View:
    """An upright window on the photo at about ``VIEW_PX_PER_MM``.

    View px (x, y) shows photo px  origin + scale * R(angle) (x, y):  ``scale`` is photo px per view px, ``angle_rad``
    the direction of the page's time axis in the photo (clockwise on screen, since y points down).
    """

    origin_x_px: float
    origin_y_px: float
    scale: float
    angle_rad: float
    width: int
    height: int

    def matrix(self) -> NDArray[np.float64]:
        """(2, 3) affine matrix from view px to photo px."""
        c, s = self.scale * np.cos(self.angle_rad), self.scale * np.sin(self.angle_rad)
        return np.array([[c, -s, self.origin_x_px], [s, c, self.origin_y_px]])

    def to_photo(self, xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """View px (..., 2) to photo px."""
        m = self.matrix()
        return np.asarray(xy, dtype=np.float64) @ m[:, :2].T + m[:, 2]

    def from_photo(self, xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """Photo px (..., 2) to view px."""
        m = self.matrix()
        return (np.asarray(xy, dtype=np.float64) - m[:, 2]) @ np.linalg.inv(m[:, :2]).T


def view_around(points_px: NDArray[np.floating], px_per_mm: float, angle_rad: float, margin_mm: float) -> View:
    """The upright view that holds photo points (n, 2), ``margin_mm`` around them."""
    scale = px_per_mm / VIEW_PX_PER_MM
    turn = View(0.0, 0.0, scale, angle_rad, 1, 1)
    flat = turn.from_photo(points_px)
    margin = margin_mm * VIEW_PX_PER_MM
    low, high = flat.min(axis=0) - margin, flat.max(axis=0) + margin
    ox, oy = turn.to_photo(low)
    size = np.ceil(high - low).astype(int) + 1
    return View(float(ox), float(oy), scale, angle_rad, int(size[0]), int(size[1]))


def render_view(rgb: U8, view: View, fill: int = 0) -> U8:
    """What the view shows of the photo (height, width, 3), ``fill`` where it looks beyond the photo."""
    small, shrink = shrunken(rgb, view.scale)
    m = view.matrix()
    # photo px -> small px: pixel centres at integers, so half a pixel goes along.
    m = m * shrink
    m[:, 2] += 0.5 * shrink - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    out = cv2.warpAffine(small, m, (view.width, view.height), flags=flags, borderValue=(fill, fill, fill))
    return np.asarray(out, dtype=np.uint8)


def shrunken(rgb: U8, photo_px_per_out_px: float) -> tuple[U8, float]:
    """The photo shrunk so that at most 1.5 of its px fall on one output px, and the factor (<= 1) it was shrunk by."""
    if photo_px_per_out_px <= 1.5:
        return rgb, 1.0
    h, w = rgb.shape[:2]
    factor = 1.2 / photo_px_per_out_px
    size = max(1, round(w * factor)), max(1, round(h * factor))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8), size[0] / w


def photo_xy(sheet: Sheet, x_mm: NDArray[np.floating], y_mm: NDArray[np.floating]) -> F32:
    """Photo px (..., 2) of page points; NaN where the lattice has no nodes near."""
    gx = np.asarray((np.asarray(x_mm) - sheet.x0_mm) / sheet.step_mm, dtype=np.float32)
    gy = np.asarray((np.asarray(y_mm) - sheet.y0_mm) / sheet.step_mm, dtype=np.float32)
    gx, gy = np.broadcast_arrays(gx, gy)
    shape = gx.shape
    nan = float("nan")
    flat_x = np.ascontiguousarray(gx).reshape(1, -1) if gx.ndim < 2 else np.ascontiguousarray(gx)
    flat_y = np.ascontiguousarray(gy).reshape(1, -1) if gy.ndim < 2 else np.ascontiguousarray(gy)
    out = cv2.remap(
        np.ascontiguousarray(sheet.node_px), flat_x, flat_y, cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT, borderValue=(nan, nan, nan, nan),
    )  # fmt: skip
    return np.asarray(out, dtype=np.float32).reshape(*shape, 2)


def densified(sheet: Sheet, factor: int = 5) -> Sheet:
    """The same lattice with ``factor`` times as many nodes, Catmull-Rom cubic between them (linear beside NaN)."""
    if factor == 1:
        return sheet
    nodes = np.asarray(sheet.node_px)
    fine = _catmull_rom(_catmull_rom(nodes, factor, axis=0), factor, axis=1)
    return Sheet(fine.astype(np.float32), sheet.x0_mm, sheet.y0_mm, sheet.residual_mm, sheet.step_mm / factor)


def _catmull_rom(nodes: NDArray[np.floating], factor: int, axis: int) -> NDArray[np.float64]:
    p = np.moveaxis(np.asarray(nodes, dtype=np.float64), axis, 0)
    n = len(p)
    t = np.arange((n - 1) * factor + 1) / factor
    i = np.minimum(t.astype(int), n - 2)
    f = (t - i).reshape(-1, *([1] * (p.ndim - 1)))
    before, after = p[np.maximum(i - 1, 0)], p[np.minimum(i + 2, n - 1)]
    a, b = p[i], p[i + 1]
    # An end or an unknown neighbour continues the line, which makes its tangent the chord.
    before = np.where(np.isnan(before) | (i == 0).reshape(f.shape), 2 * a - b, before)
    after = np.where(np.isnan(after) | (i == n - 2).reshape(f.shape), 2 * b - a, after)
    ta, tb = (b - before) / 2, (after - a) / 2
    out = a + f * ta + f**2 * (3 * (b - a) - 2 * ta - tb) + f**3 * (2 * (a - b) + ta + tb)
    # At a node the value stands even where the next one is unknown.
    out = np.where(f == 0, a, out)
    out = np.where(f == 1, b, out)
    return np.moveaxis(out, 0, axis)


def sample_photo(rgb: U8, xy_px: F32, fill: int = 0) -> U8:
    """Photo colours at (h, w, 2) px, bilinear; ``fill`` off the photo and where xy is NaN."""
    step = local_scale(xy_px)
    small, shrink = shrunken(rgb, step)
    xy = xy_px * np.float32(shrink) + np.float32(0.5 * shrink - 0.5)
    xy = np.nan_to_num(xy, nan=-1e4)
    out = cv2.remap(small, xy[..., 0], xy[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT,
                    borderValue=(fill, fill, fill))  # fmt: skip
    return np.asarray(out, dtype=np.uint8)


def local_scale(xy_px: F32) -> float:
    """Photo px per output px of a sampling map (h, w, 2): the smaller of both directions' medians."""
    dx = np.linalg.norm(np.diff(xy_px, axis=1), axis=-1)
    dy = np.linalg.norm(np.diff(xy_px, axis=0), axis=-1)
    if not (np.isfinite(dx).any() and np.isfinite(dy).any()):
        return 1.0
    return float(min(np.nanmedian(dx), np.nanmedian(dy)))


@dataclass(frozen=True)
class StripWindow:
    """The stretch of a page that the decoder sees of one row, in page mm, and its sampling."""

    x0_mm: float
    y_centre_mm: float
    half_height_mm: float
    px_per_mm_x: float
    n_columns: int
    n_rows: int

    @property
    def px_per_mm_y(self) -> float:
        """Rows per mm."""
        return self.n_rows / (2 * self.half_height_mm)

    def columns_mm(self) -> NDArray[np.float64]:
        """Page x (n_columns,) of each column's centre."""
        return self.x0_mm + (np.arange(self.n_columns) + 0.5) / self.px_per_mm_x

    def rows_mm(self) -> NDArray[np.float64]:
        """Page y (n_rows,) of each row's centre."""
        return self.y_centre_mm - self.half_height_mm + (np.arange(self.n_rows) + 0.5) / self.px_per_mm_y

    def row_of(self, y_mm: NDArray[np.floating]) -> NDArray[np.float64]:
        """Fractional row index of page heights, row centres at integers."""
        return (np.asarray(y_mm) - (self.y_centre_mm - self.half_height_mm)) * self.px_per_mm_y - 0.5

    def y_mm_of(self, row: NDArray[np.floating]) -> NDArray[np.float64]:
        """Page height of fractional row indices."""
        return (np.asarray(row) + 0.5) / self.px_per_mm_y + self.y_centre_mm - self.half_height_mm


def strip_xy(sheet: Sheet, window: StripWindow) -> F32:
    """Photo px (n_rows, n_columns, 2) of a strip's pixels; give a densified sheet."""
    x, y = np.meshgrid(window.columns_mm(), window.rows_mm())
    return photo_xy(sheet, x, y)
