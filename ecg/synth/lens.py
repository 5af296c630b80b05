"""From a bent sheet to the photo's pixels and back, exactly.

The truth is one array: page mm at every fourth pixel of the photo (``PixelMap.page_mm``), linear between.  It is what
the pixels are sampled with; the way from the page to the photo is its inverse by Newton's method.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.page import F32
from ecg.synth.paper_shape import STEP_MM, Surface
from ecg.synth.truth import F64

STRIDE_PX = 4
EDGE_NODES = 14  # nodes of the pixel map beyond each edge of the frame
_CLOSE_MM = 0.02  # how near to the bent mesh the map must come; what it then says is the truth
MIN_STRETCH = 0.18  # least area of a piece of sheet in the photo, relative to its area were it flat


@dataclass(frozen=True)
class View:
    """Where the camera stands and what it shows.

    ``window`` (x0, y0, x1, y1): the part of the page, in page widths and heights, that fills the frame.
    ``aspect``: long side over short side of the frame (None: that of the window as seen); ``turned_frame``: hold the
    long side across the page's.  ``roll_deg``: the page appears turned clockwise by so much.  ``distance``: of the
    camera from the window's centre, in window diagonals.  ``k1``, ``k2``: radial distortion; ``stretch``: x scale
    over y scale.
    """

    window: tuple[float, float, float, float] = (-0.1, -0.1, 1.1, 1.1)
    aspect: float | None = 4 / 3
    turned_frame: bool = False
    roll_deg: float = 0.0
    tilt_deg: float = 0.0
    azimuth_deg: float = 0.0
    distance: float = 1.3
    k1: float = 0.0
    k2: float = 0.0
    stretch: float = 1.0


@dataclass(frozen=True, eq=False)
class Pinhole:
    """A camera over the table: ``homography`` takes table mm to ideal px, ``eye_mm`` stands over the table (x, y, z).

    Table mm are page mm where the sheet is flat.  Ideal px become photo px by the lens: with n = (px - centre) /
    half diagonal, ideal = centre + (px - centre) (1 + k1 n^2 + k2 n^4).
    """

    homography: F64
    eye_mm: F64
    size_px: tuple[int, int]
    k1: float
    k2: float

    def halved(self) -> Pinhole:
        """The same view at half the size (frames have even sides)."""
        shrink = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])
        w, h = self.size_px
        return Pinhole(shrink @ self.homography, self.eye_mm, (w // 2, h // 2), self.k1, self.k2)

    def from_ideal(self, ideal: NDArray[np.floating]) -> F64:
        """Ideal px (..., 2) to photo px."""
        centre, scale = self._lens()
        # Near the horizon and behind the camera points lie anywhere: keep them far out.
        n = np.clip((np.asarray(ideal, np.float64) - centre) / scale, -50, 50)
        r = np.minimum(np.sqrt((n * n).sum(axis=-1, keepdims=True)), 1.6)  # well beyond the frame's corners
        d = r.copy()
        for _ in range(6):
            d2 = d * d
            slope = np.maximum(1 + d2 * (3 * self.k1 + 5 * self.k2 * d2), 0.2)
            d = np.clip(d - (d * (1 + d2 * (self.k1 + self.k2 * d2)) - r) / slope, 0, 2.5)
        return np.asarray(centre + scale * n * d / np.maximum(r, 1e-9))

    def _lens(self) -> tuple[F64, float]:
        w, h = self.size_px
        return np.array([(w - 1) / 2, (h - 1) / 2]), float(np.hypot(w, h) / 2)


def _apply(h: F64, xy: NDArray[np.floating]) -> F64:
    """A homography on points (..., 2); points at or beyond the horizon become far away."""
    x, y = np.asarray(xy[..., 0], np.float64), np.asarray(xy[..., 1], np.float64)
    den = h[2, 0] * x + h[2, 1] * y + h[2, 2]
    den = np.where(den > 1e-9, den, 1e-9)
    return np.stack([(h[0, 0] * x + h[0, 1] * y + h[0, 2]) / den, (h[1, 0] * x + h[1, 1] * y + h[1, 2]) / den], axis=-1)


def place(view: View, size_mm: tuple[float, float], long_side_px: int) -> Pinhole:
    """The camera that shows ``view.window`` of a page ``size_mm`` in a frame whose longer side is ``long_side_px``."""
    x0, y0, x1, y1 = np.array(view.window) * np.array([*size_mm, *size_mm])
    target = np.array([(x0 + x1) / 2, (y0 + y1) / 2, 0.0])
    tilt, az, roll = np.deg2rad([view.tilt_deg, view.azimuth_deg, view.roll_deg])
    ray = np.array([np.sin(tilt) * np.cos(az), np.sin(tilt) * np.sin(az), np.cos(tilt)])
    eye = target + ray * view.distance * np.hypot(x1 - x0, y1 - y0)
    # Tilting turns the table's axes about the line across the ray's foot; the roll then turns the picture.
    across = np.array([-np.sin(az), np.cos(az), 0.0])
    away = np.array([np.cos(tilt) * np.cos(az), np.cos(tilt) * np.sin(az), -np.sin(tilt)])
    ax = across * across[0] + away * np.cos(az)
    ay = across * across[1] + away * np.sin(az)
    right, down = ax * np.cos(roll) - ay * np.sin(roll), ax * np.sin(roll) + ay * np.cos(roll)
    rows = np.stack([right * view.stretch, down, -ray])
    h = np.column_stack([rows[:, 0], rows[:, 1], -rows @ eye])
    corners = _apply(h, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))
    low, high = corners.min(axis=0), corners.max(axis=0)
    extent = high - low
    if view.aspect is None:
        frame = extent / extent.max()
    else:
        wide = (extent[0] >= extent[1]) != view.turned_frame
        frame = np.array([1, 1 / view.aspect]) if wide else np.array([1 / view.aspect, 1])
    w, h_px = (max(round(long_side_px * float(f) / 2) * 2, 32) for f in frame)
    scale = min(w / extent[0], h_px / extent[1])
    centre = np.array([(w - 1) / 2, (h_px - 1) / 2]) - scale * (low + high) / 2
    k = np.array([[scale, 0, centre[0]], [0, scale, centre[1]], [0, 0, 1]])
    return Pinhole(k @ h, eye, (w, h_px), view.k1, view.k2)


def _seen_shift(surface: Surface, eye_mm: F64) -> F32:
    """Where on the table each mesh node seems to lie, minus its page mm: sideways shift and parallax (Ny, Nx, 2)."""
    ny, nx = surface.z_mm.shape
    lift = surface.z_mm / (np.float32(eye_mm[2]) - surface.z_mm)  # the ray through the node goes on by that much
    x = np.arange(nx, dtype=np.float32)[None, :] * np.float32(STEP_MM) + np.float32(surface.x0_mm)
    y = np.arange(ny, dtype=np.float32)[:, None] * np.float32(STEP_MM) + np.float32(surface.y0_mm)
    g = surface.shift_mm.copy()
    g[..., 0] += (x + g[..., 0] - np.float32(eye_mm[0])) * lift
    g[..., 1] += (y + g[..., 1] - np.float32(eye_mm[1])) * lift
    return g


def _slope(g: F32, along_x: int, along_y: int) -> F32:
    scale = 1 / (2 * STEP_MM)
    d = cv2.Sobel(g, cv2.CV_32F, along_x, along_y, ksize=1, scale=scale, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(d, np.float32)


def _jacobian(g: F32) -> tuple[F32, F32, F32, F32, F32]:
    """Of mesh point -> table point: its four entries and its determinant (central differences)."""
    dx, dy = _slope(g, 1, 0), _slope(g, 0, 1)
    a, b, c, d = 1 + dx[..., 0], dy[..., 0], dx[..., 1], 1 + dy[..., 1]
    return np.asarray(a), np.asarray(b), np.asarray(c), np.asarray(d), np.asarray(a * d - b * c)


def without_overlap(surface: Surface, pinhole: Pinhole) -> tuple[Surface, F32]:
    """The surface, lowered until no part of it hides another from the eye, and its seen shift."""
    for _ in range(24):
        g = _seen_shift(surface, pinhole.eye_mm)
        right = np.diff(g, axis=1) / STEP_MM  # forward differences: the mesh's own cells must not turn over
        down = np.diff(g, axis=0) / STEP_MM
        det = (1 + right[:-1, :, 0]) * (1 + down[:, :-1, 1]) - right[:-1, :, 1] * down[:, :-1, 0]
        if float(det.min()) > MIN_STRETCH:
            return surface, g
        surface = surface.damped(0.85)
    raise ValueError("the sheet hides itself however flat it is pressed: is the eye below it?")


@dataclass(frozen=True, eq=False)
class PixelMap:
    """Page mm (gh, gw, 2) float32 at photo px x = origin_px + 4 j, y = origin_px + 4 i; the truth, linear between."""

    page_mm: F32
    size_px: tuple[int, int]
    size_mm: tuple[float, float]
    pinhole: Pinhole
    surface: Surface
    seen_shift: F32

    @property
    def origin_px(self) -> float:
        """Photo px of node 0: cv2.resize by 4 then lands on whole pixels."""
        return (STRIDE_PX - 1) / 2 - STRIDE_PX * EDGE_NODES

    @cached_property
    def on_sheet(self) -> NDArray[np.bool_]:
        """(gh, gw): True at the nodes that show the sheet."""
        x, y = self.page_mm[..., 0], self.page_mm[..., 1]
        return np.asarray((x >= 0) & (y >= 0) & (x <= self.size_mm[0]) & (y <= self.size_mm[1]))

    def dense(self, grid: F32, row0: int, row1: int, room: F32 | None = None) -> F32:
        """A (gh, gw, ...) grid at every pixel of the photo's rows row0 (a multiple of 4) to row1, in ``room`` if it is
        given (see there)."""
        first, last = row0 // STRIDE_PX + EDGE_NODES - 1, -(-row1 // STRIDE_PX) + EDGE_NODES + 1
        block = grid[first:last, EDGE_NODES - 1 : -(EDGE_NODES - 1)]
        size = (STRIDE_PX * block.shape[1], STRIDE_PX * block.shape[0])
        up = cv2.resize(block, size, dst=None if room is None else room[: size[1]], interpolation=cv2.INTER_LINEAR)
        return np.asarray(up[STRIDE_PX : STRIDE_PX + row1 - row0, STRIDE_PX : STRIDE_PX + self.size_px[0]])

    def room(self, channels: int, rows: int) -> F32:
        """Memory for ``dense`` of so many rows (a multiple of 4)."""
        columns = self.page_mm.shape[1] - 2 * (EDGE_NODES - 1)
        return np.empty((rows + 2 * STRIDE_PX, STRIDE_PX * columns, channels), np.float32)

    @cached_property
    def scale_px_per_mm(self) -> float:
        """The median scale of the visible sheet (of the whole map where none is seen), at every third node."""
        gh, gw = self.page_mm.shape[:2]
        few = slice(EDGE_NODES, gh - EDGE_NODES - 1, 3), slice(EDGE_NODES, gw - EDGE_NODES - 1, 3)
        at = self.page_mm[few]
        ex, ey = self.page_mm[:, 1:][few] - at, self.page_mm[1:][few] - at
        det = np.abs(ex[..., 0] * ey[..., 1] - ex[..., 1] * ey[..., 0])
        seen = det[self.on_sheet[few]]
        return float(STRIDE_PX / np.sqrt(np.median(seen if seen.size else det)))

    def _sample(self, px: F64) -> tuple[F64, F64]:
        """Page mm (n, 2) and its Jacobian (n, 2, 2) d mm / d px at photo px (n, 2), linear beyond the last nodes."""
        gh, gw = self.page_mm.shape[:2]
        g = (px - self.origin_px) / STRIDE_PX
        j = np.clip(np.floor(g[:, 0]), 0, gw - 2).astype(np.intp)
        i = np.clip(np.floor(g[:, 1]), 0, gh - 2).astype(np.intp)
        fx, fy = (g[:, 0] - j)[:, None], (g[:, 1] - i)[:, None]
        flat = self.page_mm.reshape(-1, 2)
        k = i * gw + j
        a, b, c, d = (flat[k + o].astype(np.float64) for o in (0, 1, gw, gw + 1))
        top, bottom = a + (b - a) * fx, c + (d - c) * fx
        jx = ((b - a) * (1 - fy) + (d - c) * fy) / STRIDE_PX
        jy = (bottom - top) / STRIDE_PX
        return top + (bottom - top) * fy, np.stack([jx, jy], axis=-1)

    def photo_to_page(self, px: NDArray[np.floating]) -> F64:
        """Photo px (..., 2) to page mm (..., 2), NaN where the photo shows no sheet or ends."""
        px = np.asarray(px, np.float64)
        flat = px.reshape(-1, 2)
        mm, _ = self._sample(np.where(np.isfinite(flat), flat, 0))
        w, h = self.size_px
        inside = (flat >= -0.5).all(axis=1) & (flat[:, 0] <= w - 0.5) & (flat[:, 1] <= h - 0.5)
        mm[~(inside & self._on_page(mm))] = np.nan
        return np.asarray(mm.reshape(px.shape))

    def page_to_photo(self, mm: NDArray[np.floating]) -> F64:
        """Page mm (..., 2) to photo px (..., 2), NaN off the sheet.

        Within about 50 px of the frame it is the exact inverse of ``photo_to_page``; farther out, where nothing was
        photographed, it is what the pinhole camera would show.
        """
        mm = np.asarray(mm, dtype=np.float64)
        flat = np.asarray(mm.reshape(-1, 2), np.float64)
        on = self._on_page(flat)
        px = np.full(flat.shape, np.nan)
        if on.any():
            px[on] = self._invert(flat[on])
        return px.reshape(mm.shape)

    def _on_page(self, mm: F64) -> NDArray[np.bool_]:
        slack = 1e-6
        return np.asarray((mm >= -slack).all(axis=1) & (mm <= np.array(self.size_mm) + slack).all(axis=1))

    def _forward(self, mm: F64) -> F64:
        """Photo px of page mm (n, 2) by the mesh and the pinhole."""
        node = (mm - [self.surface.x0_mm, self.surface.y0_mm]) / STEP_MM
        u, v = (np.ascontiguousarray(node[None, :, k], np.float32) for k in (0, 1))
        n, step = len(mm), 30_000  # cv2.remap takes no more than 32767 columns
        parts = [_remap(self.seen_shift, u[:, s : s + step], v[:, s : s + step])[0] for s in range(0, n, step)]
        return self.pinhole.from_ideal(_apply(self.pinhole.homography, mm + np.concatenate(parts)))

    def _invert(self, mm: F64) -> F64:
        px = self._forward(mm)
        w, h = self.size_px
        reach = STRIDE_PX * (EDGE_NODES - 1)
        todo = np.flatnonzero((px > -reach).all(axis=1) & (px[:, 0] < w - 1 + reach) & (px[:, 1] < h - 1 + reach))
        for turn in range(40):
            at, jac = self._sample(px[todo])
            miss = mm[todo] - at
            wrong = np.abs(miss).max(axis=1) > 1e-7
            todo, miss, jac = todo[wrong], miss[wrong], jac[wrong]
            if not len(todo):
                break
            det = jac[:, 0, 0] * jac[:, 1, 1] - jac[:, 0, 1] * jac[:, 1, 0]
            dx = (jac[:, 1, 1] * miss[:, 0] - jac[:, 0, 1] * miss[:, 1]) / det
            dy = (jac[:, 0, 0] * miss[:, 1] - jac[:, 1, 0] * miss[:, 0]) / det
            # A point on a crease can bounce between two cells: shorter steps end that.
            damp = 1.0 if turn < 8 else 0.6
            px[todo] += damp * np.clip(np.stack([dx, dy], axis=1), -12, 12)
        return px


def _table_grid(pinhole: Pinhole) -> tuple[F32, F32]:
    """Table mm x and y (gh, gw) under the nodes of a pixel map."""
    w, h = pinhole.size_px
    origin = (STRIDE_PX - 1) / 2 - STRIDE_PX * EDGE_NODES
    half = np.hypot(w, h) / 2
    n = [
        ((np.arange(-(-s // STRIDE_PX) + 2 * EDGE_NODES) * STRIDE_PX + origin - (s - 1) / 2) / half).astype(np.float32)
        for s in (w, h)
    ]
    nx, ny = n[0][None, :], n[1][:, None]
    r2 = nx * nx + ny * ny
    bent = 1 + r2 * (np.float32(pinhole.k1) + np.float32(pinhole.k2) * r2)
    px, py = nx * bent, ny * bent
    # Table mm from the lens's own units, scaled so that the denominator is positive in front of the camera.
    units = np.array([[half, 0, (w - 1) / 2], [0, half, (h - 1) / 2], [0, 0, 1]])
    m = np.linalg.inv(pinhole.homography) @ units
    m = (m / m[2, 2]).astype(np.float32)
    den = 1 / np.maximum(m[2, 0] * px + m[2, 1] * py + 1, np.float32(1e-3))
    return (
        np.asarray((m[0, 0] * px + m[0, 1] * py + m[0, 2]) * den),
        np.asarray((m[1, 0] * px + m[1, 1] * py + m[1, 2]) * den),
    )


def _remap(src: F32, u: F32, v: F32) -> F32:
    return np.asarray(cv2.remap(src, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _planes(src: F32, u: F32, v: F32) -> tuple[F32, ...]:
    """``src`` (Ny, Nx, k) at mesh points u, v, as k arrays."""
    return tuple(np.asarray(c, np.float32) for c in cv2.split(_remap(src, u, v)))


def pixel_map(surface: Surface, pinhole: Pinhole) -> PixelMap:
    """The exact map of what ``pinhole`` sees of ``surface``."""
    surface, g = without_overlap(surface, pinhole)
    w, h = pinhole.size_px
    table = _table_grid(pinhole)
    if not g.any():
        return PixelMap(np.dstack(table), (w, h), surface.size_mm, pinhole, surface, g)
    # Work in mesh units, kept near the mesh: far away only the sign of "off the sheet" counts.
    ny, nx = g.shape[:2]
    k, far = np.float32(1 / STEP_MM), np.float32(40)
    tu = np.clip((table[0] - np.float32(surface.x0_mm)) * k, -far, nx + far)
    tv = np.clip((table[1] - np.float32(surface.y0_mm)) * k, -far, ny + far)
    g *= k
    a, b, c, d, det = _jacobian(g)
    np.maximum(det, np.float32(MIN_STRETCH), out=det)
    inverse = np.asarray(cv2.merge([d / det, -b / det, -c / det, a / det]), np.float32)
    u, v = _planes(g, tu, tv)
    np.subtract(tu, u, out=u)
    np.subtract(tv, v, out=v)
    for turn in range(4):
        ru, rv = _planes(g, u, v)
        ru += u
        ru -= tu
        rv += v
        rv -= tv
        if max(float(np.abs(r[::3, ::3]).max()) for r in (ru, rv)) < _CLOSE_MM / STEP_MM:
            break
        if turn < 2:
            m = _planes(inverse, u, v)
        u -= m[0] * ru
        u -= m[1] * rv
        v -= m[2] * ru
        v -= m[3] * rv
    page = cv2.merge([u * np.float32(STEP_MM) + np.float32(surface.x0_mm), v * STEP_MM + np.float32(surface.y0_mm)])
    return PixelMap(np.asarray(page, np.float32), (w, h), surface.size_mm, pinhole, surface, g * np.float32(STEP_MM))
