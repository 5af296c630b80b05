"""The ways between page millimetres, the finder's upright view and photo pixels, and sampling along them.

Pixel centres lie at integers everywhere.  Every sampling that shrinks goes through a shrunken copy of the photo first
(INTER_AREA), so that thin grid lines don't alias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.marks import COARSE_PX, START_PX_PER_MM, START_SIDE
from ecg.page import F32, U8, Photo, Sheet

LEAST_PX = 0.95  # photo px an output px that shrinking by a whole number may leave
MOST_PX = 1.5  # and that need no shrinking
NO_MAP: Any = None  # x and y are in one map
VIEW_PX_PER_MM = 4.0  # the finder's upright view: a heavy line every 20 px, a 3 mm letter 12 px high

_whole: WeakKeyDictionary[Sheet, NDArray[np.float64]] = WeakKeyDictionary()
_half: WeakKeyDictionary[Photo, U8] = WeakKeyDictionary()


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

    def corners_px(self) -> NDArray[np.float64]:
        """Photo px (4, 2) of the view's corners."""
        return self.to_photo(np.array([[0, 0], [self.width, 0], [0, self.height], [self.width, self.height]], float))

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


def render_view(photo: Photo, view: View, fill: int = 0) -> U8:
    """What the view shows of the photo (height, width, 3), ``fill`` where it looks beyond the photo."""
    small, shrink, corner = _seen_part(photo, view)
    m = view.matrix()
    m[:, 2] -= corner
    # photo px -> small px: pixel centres at integers, so half a pixel goes along.
    m = m * shrink
    m[:, 2] += 0.5 * shrink - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    out = cv2.warpAffine(small, m, (view.width, view.height), flags=flags, borderValue=(fill, fill, fill))
    return np.asarray(out, dtype=np.uint8)


def _seen_part(photo: Photo, view: View) -> tuple[U8, float, tuple[int, int]]:
    """The part of the photo that the view lies on, shrunken, and by what factor, and its corner (x, y): the rest need
    not be shrunk."""
    if _whole_shrink(photo.rgb, view.scale) == 2:
        return halved(photo), 0.5, (0, 0)
    whole = _whole_px(view.scale)  # the blocks of px that are averaged stay the same
    ends = view.corners_px()
    margin = 2 * whole + 2
    low, high = np.floor(ends.min(axis=0)).astype(int) - margin, np.ceil(ends.max(axis=0)).astype(int) + margin
    size = photo.rgb.shape[1], photo.rgb.shape[0]
    (x0, x1), (y0, y1) = ((int(np.clip(a, 0, n - 1)) // whole * whole, int(np.clip(b, 1, n)))
                          for a, b, n in zip(low, high, size, strict=True))  # fmt: skip
    part = Photo(photo.rgb[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)])
    return *shrunken(part, view.scale), (x0, y0)


def letterbox(photo: Photo, side: int = COARSE_PX) -> tuple[U8, float]:
    """The photo shrunk into a black square, and thumbnail px per photo px."""
    h, w = photo.rgb.shape[:2]
    f = side / max(h, w)
    size = max(1, round(w * f)), max(1, round(h * f))
    interpolation = cv2.INTER_AREA if f < 1 else cv2.INTER_LINEAR
    out = np.zeros((side, side, 3), np.uint8)
    # A large photo is halved first, which is quick; area averages of area averages are the same but for rounding.
    small = halved(photo) if f < 0.25 else photo.rgb
    while max(small.shape) > 3 * side:
        small = _reduced(small, 2)
    out[: size[1], : size[0]] = cv2.resize(small, size, interpolation=interpolation)
    return out, f


def halved(photo: Photo) -> U8:
    """The photo with 2 x 2 px averaged to one, made once for all that look at it so."""
    if photo not in _half:
        _half[photo] = _reduced(photo.rgb, 2)
    return _half[photo]


def shrunken(photo: Photo, photo_px_per_out_px: float) -> tuple[U8, float]:
    """The photo shrunk so that at most ``MOST_PX`` of its px fall on one output px, and the factor (<= 1) of it.

    By a whole number where that leaves about as many px, since OpenCV is several times faster at these.
    """
    if photo_px_per_out_px <= MOST_PX:
        return photo.rgb, 1.0
    whole = _whole_shrink(photo.rgb, photo_px_per_out_px)
    if whole:
        return halved(photo) if whole == 2 else _reduced(photo.rgb, whole), 1.0 / whole
    h, w = photo.rgb.shape[:2]
    factor = 1.2 / photo_px_per_out_px
    size = max(1, round(w * factor)), max(1, round(h * factor))
    return np.asarray(cv2.resize(photo.rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8), size[0] / w


def _whole_shrink(rgb: U8, photo_px_per_out_px: float) -> int:
    """The whole number that ``shrunken`` shrinks by, 0 where it isn't one."""
    whole = _whole_px(photo_px_per_out_px)
    fits = photo_px_per_out_px / whole >= LEAST_PX and min(rgb.shape[:2]) > 8 * whole
    return whole if fits and photo_px_per_out_px > MOST_PX else 0


def _whole_px(photo_px_per_out_px: float) -> int:
    """The least whole number of px to average that leaves at most ``MOST_PX`` on an output px."""
    return max(1, int(np.ceil(photo_px_per_out_px / MOST_PX)))


def _reduced(rgb: U8, by: int) -> U8:
    """The photo with ``by`` x ``by`` px averaged to one; what is left over at the right and bottom is cut off."""
    h, w = (n // by for n in rgb.shape[:2])
    return np.asarray(cv2.resize(rgb[: h * by, : w * by], (w, h), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def grid_xy(sheet: Sheet, x_mm: NDArray[np.floating], y_mm: NDArray[np.floating]) -> F32:
    """Photo px (h, w, 2) of the page points x_mm (w,) by y_mm (h,), Catmull-Rom cubic between the nodes.

    NaN where the nearest node is unknown or more than half a step away.
    """
    columns, wx, near_x = _cubic_weights((np.asarray(x_mm) - sheet.x0_mm) / sheet.step_mm, sheet.node_px.shape[1])
    rows, wy, near_y = _cubic_weights((np.asarray(y_mm) - sheet.y0_mm) / sheet.step_mm, sheet.node_px.shape[0])
    nodes = _whole_nodes(sheet)
    middle = nodes.mean(axis=(0, 1))  # subtracted, single precision gives a thousandth of a px
    nodes = nodes[rows, columns]
    across, along = wx.astype(np.float32), wy.T.astype(np.float32)
    known = np.pad(np.isfinite(sheet.node_px[..., 0]), ((0, 1), (0, 1)))  # the extra row and column: outside
    whole = bool(known[np.unique(near_y)][:, np.unique(near_x)].all())
    # Added where nodes are unknown: several times faster than to choose these points.
    gaps = None if whole else np.where(known, np.float32(0), np.float32(np.nan))[near_y].take(near_x, axis=1)
    out = []
    for k in (0, 1):
        part = along @ (nodes[..., k] - middle[k]).astype(np.float32) @ across
        if gaps is not None:
            part += gaps
        part += np.float32(middle[k])
        out.append(part)
    return np.asarray(cv2.merge(out), dtype=np.float32).reshape(len(near_y), len(near_x), 2)


def photo_xy(sheet: Sheet, xy_mm: NDArray[np.floating]) -> F32:
    """Photo px (n, 2) of scattered page points (n, 2) in mm, as ``grid_xy`` has them."""
    xy = np.asarray(xy_mm, dtype=np.float64).reshape(-1, 2)
    columns, wx, near_x = _cubic_weights((xy[:, 0] - sheet.x0_mm) / sheet.step_mm, sheet.node_px.shape[1])
    rows, wy, near_y = _cubic_weights((xy[:, 1] - sheet.y0_mm) / sheet.step_mm, sheet.node_px.shape[0])
    nodes = _whole_nodes(sheet)[rows, columns]
    out = np.stack([np.einsum("nx,xn->n", wy.T @ nodes[..., k], wx) for k in (0, 1)], axis=-1)
    known = np.pad(np.isfinite(sheet.node_px[..., 0]), ((0, 1), (0, 1)))
    out[~known[near_y, near_x]] = np.nan
    return np.asarray(out, dtype=np.float32)


def bent_mm(sheet: Sheet) -> float:
    """How far the known nodes lie from an even, flat grid (root mean square, mm).

    Next to nothing on scans; a millimetre where a camera looked at paper from an angle, or the paper is not flat.
    """
    row, column = np.nonzero(np.isfinite(sheet.node_px[..., 0]))
    even = np.stack([np.ones(len(row)), column, row], axis=1)
    at = sheet.node_px[row, column].astype(np.float64)
    placed = np.linalg.lstsq(even, at, rcond=None)[0]
    off_px = np.sqrt(((at - even @ placed) ** 2).sum(axis=1).mean())
    return float(off_px / np.hypot(*placed[1]) * sheet.step_mm)


def _cubic_weights(t: NDArray[np.floating], n: int) -> tuple[slice, NDArray[np.float64], NDArray[np.intp]]:
    """Which of n nodes fractional indices t (m,) lie among, these nodes' Catmull-Rom weights (nodes, m), and the
    nearest node (n: none within half a step).

    At the ends the missing neighbour continues the line.
    """
    t = np.nan_to_num(np.asarray(t, dtype=np.float64), nan=-1e6)
    i = np.clip(np.floor(t).astype(int), 0, n - 2)
    f = t - i
    f2, f3 = f * f, f * f * f
    first, last = (int(i.min()), int(i.max())) if i.size else (0, 0)
    w, at = np.zeros((last - first + 4, len(t))), np.arange(len(t))  # nodes first - 1 to last + 2
    for k, four in enumerate((-f3 + 2 * f2 - f, 3 * f3 - 5 * f2 + 2, -3 * f3 + 4 * f2 + f, f3 - f2)):
        w[i - first + k, at] = four / 2
    low, high = int(first == 0), int(last == n - 2)
    if low:
        w[1] += 2 * w[0]
        w[2] -= w[0]
    if high:
        w[-2] += 2 * w[-1]
        w[-3] -= w[-1]
    near = np.rint(t).astype(np.intp)
    near[(near < 0) | (near > n - 1)] = n
    return slice(first - 1 + low, last + 3 - high), w[low : len(w) - high], near


def _whole_nodes(sheet: Sheet) -> NDArray[np.float64]:
    """The sheet's nodes with the unknown ones continued, found once for all that samples along it."""
    if sheet not in _whole:
        _whole[sheet] = _extended(np.asarray(sheet.node_px))
    return _whole[sheet]


def _extended(nodes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Nodes with the unknown ones continued from their known neighbours, ring by ring."""
    out = np.asarray(nodes, dtype=np.float64).copy()
    unknown = ~np.isfinite(out[..., 0])
    if unknown.all():
        raise ValueError("a lattice needs at least one known node")
    while unknown.any():
        out, unknown = _grown(out, unknown)
    return out


def _grown(nodes: NDArray[np.float64], unknown: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """One ring more: each unknown node beside known ones gets the mean of their straight continuations."""
    total, count = np.zeros_like(nodes), np.zeros(nodes.shape[:2])
    padded = np.pad(nodes, ((2, 2), (2, 2), (0, 0)), constant_values=np.nan)
    h, w = nodes.shape[:2]
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        one = padded[2 + dy : 2 + dy + h, 2 + dx : 2 + dx + w]
        two = padded[2 + 2 * dy : 2 + 2 * dy + h, 2 + 2 * dx : 2 + 2 * dx + w]
        guess = np.where(np.isfinite(two), 2 * one - two, one)
        ok = np.isfinite(guess[..., 0])
        total[ok] += guess[ok]
        count[ok] += 1
    ring = unknown & (count > 0)
    out = nodes.copy()
    out[ring] = total[ring] / count[ring][:, None]
    return out, unknown & ~ring


def sample_photo(photo: Photo, xy_px: F32, fill: int = 0) -> U8:
    """Photo colours at (h, w, 2) px, bilinear; ``fill`` off the photo and where xy is NaN."""
    return sample_shrunken(*shrunken(photo, local_scale(xy_px)), xy_px, fill)


def sample_shrunken(small: U8, shrink: float, xy_px: F32, fill: int = 0) -> U8:
    """``sample_photo`` of a photo that is shrunk already; xy in px of the photo as it was."""
    xy = np.multiply(xy_px, np.float32(shrink), dtype=np.float32)
    if shrink < 1.0:
        xy += np.float32(0.5 * shrink - 0.5)
    xy = cv2.patchNaNs(xy, -1e4)
    out = cv2.remap(small, xy, NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(fill, fill, fill))
    return np.asarray(out, dtype=np.uint8)


def local_scale(xy_px: F32) -> float:
    """Photo px per output px of a sampling map (h, w, 2): the smaller of both directions' medians."""
    return min(local_scales(xy_px))


def local_scales(xy_px: F32) -> tuple[float, float]:
    """Photo px per output px of a sampling map (h, w, 2), along its rows and along its columns: medians."""
    h, w = xy_px.shape[:2]
    sy, sx = max(1, h // 64), max(1, w // 128)  # a median needs no more
    dx = np.hypot(*np.moveaxis(xy_px[::sy, 1::sx] - xy_px[::sy, :-1:sx], -1, 0))
    dy = np.hypot(*np.moveaxis(xy_px[1::sy, ::sx] - xy_px[:-1:sy, ::sx], -1, 0))
    if not (np.isfinite(dx).any() and np.isfinite(dy).any()):
        return 1.0, 1.0
    return float(np.nanmedian(dx)), float(np.nanmedian(dy))


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
        return np.asarray(self.x0_mm + (np.arange(self.n_columns) + 0.5) / self.px_per_mm_x, dtype=np.float64)

    def rows_mm(self) -> NDArray[np.float64]:
        """Page y (n_rows,) of each row's centre."""
        top_mm = self.y_centre_mm - self.half_height_mm
        return np.asarray(top_mm + (np.arange(self.n_rows) + 0.5) / self.px_per_mm_y, dtype=np.float64)

    def row_of(self, y_mm: NDArray[np.floating]) -> NDArray[np.float64]:
        """Fractional row index of page heights, row centres at integers."""
        return (np.asarray(y_mm) - (self.y_centre_mm - self.half_height_mm)) * self.px_per_mm_y - 0.5

    def y_mm_of(self, row: NDArray[np.floating]) -> NDArray[np.float64]:
        """Page height of fractional row indices."""
        return (np.asarray(row) + 0.5) / self.px_per_mm_y + self.y_centre_mm - self.half_height_mm


def strip_xy(sheet: Sheet, window: StripWindow) -> F32:
    """Photo px (n_rows, n_columns, 2) of a strip's pixels."""
    return grid_xy(sheet, window.columns_mm(), window.rows_mm())


def start_patch_mm() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far right of the middle of a start reader's patch its columns (96,) lie, and below it its rows (96,), mm."""
    middle = np.arange(START_SIDE, dtype=np.float64) + 0.5 - START_SIDE / 2
    return middle / START_PX_PER_MM[0], middle / START_PX_PER_MM[1]
