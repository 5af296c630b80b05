"""A pen on a canvas: exact area coverage of a drawn curve, and inks laid over an RGB page.

Pixel (0, 0)'s centre lies at page mm (0.5, 0.5) / px_per_mm, so pixel edges are at whole multiples of 1 / px_per_mm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.page import F32, U8
from ecg.synth.truth import F64, MarkBox

Rgb = tuple[float, float, float]  # reflectances 0..1
_SUB = 8  # sub-columns in which a stroke's area is measured exactly


def _column_extent(x_px: F64, y_px: F64, first: int, n: int) -> tuple[F64, F64]:
    """Lowest and highest y (n,) of the polyline within each sub-column; inf and -inf where it isn't."""
    edges = first + np.arange(n + 1) / _SUB
    y_edge = np.interp(edges, x_px, y_px)
    inside = (edges >= x_px[0]) & (edges <= x_px[-1])
    low = np.where(inside, y_edge, np.inf)
    high = np.where(inside, y_edge, -np.inf)
    low, high = np.minimum(low[:-1], low[1:]), np.maximum(high[:-1], high[1:])
    k = np.clip(((x_px - first) * _SUB).astype(np.intp), 0, n - 1)
    np.minimum.at(low, k, y_px)
    np.maximum.at(high, k, y_px)
    return low, high


def _dilate(low: F64, high: F64, radius: float) -> tuple[F64, F64]:
    """A round pen moved along a graph covers, in each column, one interval: the dilation by a half circle.

    The circle is half a sub-column narrower, as the curve's extent within a sub-column already widens steep strokes.
    """
    lo, hi = low - radius, high + radius
    across = max(radius - 0.5 / _SUB, 0.5 / _SUB)
    for k in range(1, int(across * _SUB) + 1):
        rise = radius * float(np.sqrt(max(1.0 - (k / _SUB / across) ** 2, 0.0)))
        np.minimum(lo[k:], low[:-k] - rise, out=lo[k:])
        np.minimum(lo[:-k], low[k:] - rise, out=lo[:-k])
        np.maximum(hi[k:], high[:-k] + rise, out=hi[k:])
        np.maximum(hi[:-k], high[k:] + rise, out=hi[:-k])
    return lo, hi


def add_stroke(acc: F32, x_px: F64, y_px: F64, width_px: float) -> None:
    """Add a stroke to ``acc`` (H + 1, W), the vertical differences of its coverage; ``coverage`` sums them up.

    The polyline x_px, y_px (n,) runs left to right (x not falling); px here count from the top left corner of acc.
    """
    h, w = acc.shape[0] - 1, acc.shape[1]
    radius = width_px / 2
    first, last = max(int(np.floor(x_px[0] - radius)), 0), min(int(np.ceil(x_px[-1] + radius)), w)
    if last <= first:
        return
    pad = int(np.ceil(radius)) + 1  # ink comes in from the curve left and right of the canvas
    start, n = first - pad, (last - first + 2 * pad) * _SUB
    keep = np.flatnonzero((x_px >= start - 1) & (x_px <= last + pad + 1))
    if not len(keep):
        return
    sel = slice(max(keep[0] - 1, 0), keep[-1] + 2)
    low, high = _column_extent(x_px[sel], y_px[sel], start, n)
    if x_px[sel][0] < start or x_px[sel][-1] > last + pad:  # vertices outside must not pile up in the end columns
        low[[0, -1]], high[[0, -1]] = low[[1, -2]], high[[1, -2]]
    lo, hi = _dilate(low, high, radius)
    lo, hi = lo[pad * _SUB : -pad * _SUB], hi[pad * _SUB : -pad * _SUB]
    ok = np.flatnonzero(hi > lo)
    column = first + ok // _SUB
    _splat(acc, column, np.clip(lo[ok], 0, h), 1.0 / _SUB)
    _splat(acc, column, np.clip(hi[ok], 0, h), -1.0 / _SUB)


def _splat(acc: F32, column: NDArray[np.intp], y: F64, weight: float) -> None:
    """Ink starts (or with a negative weight ends) at height y of a column: two entries of the difference image."""
    h1, w = acc.shape
    row = np.minimum(y.astype(np.intp), h1 - 2)
    part = ((y - row) * weight).astype(np.float32)
    flat, at = acc.reshape(-1), row * w + column
    np.add.at(flat, at, np.float32(weight) - part)
    np.add.at(flat, at + w, part)


def coverage(acc: F32, thin: F32 | None = None) -> U8:
    """Coverage (H, W) 0..255 from the differences that ``add_stroke`` collected, which it sums up in place; ``thin``
    (W,) is how much ink each column takes, 1 = all of it."""
    above = acc[0]
    for row in acc[1:-1]:  # np.cumsum down the columns is four times slower
        row += above
        above = row
    if thin is not None:
        acc *= thin
    return np.asarray(cv2.convertScaleAbs(acc[:-1], alpha=255.0), dtype=np.uint8)


@lru_cache(maxsize=64)
def _left_over(rgb: Rgb, alpha: float) -> U8:
    """What ink of a reflectance leaves of the light, 255 = all, where it covers 0 to 255: (256, 3)."""
    absorb = np.float32(alpha) * (1.0 - np.asarray(rgb, dtype=np.float32))
    return np.asarray(np.rint(255.0 - np.arange(256, dtype=np.float32)[:, None] * absorb), dtype=np.uint8)


@dataclass(eq=False)
class Canvas:
    """An RGB page (H, W, 3) uint8 that inks darken; ``origin_mm`` is the page point at its top left corner.

    All drawing takes page millimetres before the crop; marks come out in millimetres of the canvas.
    """

    rgb: U8
    px_per_mm: float
    origin_mm: tuple[float, float] = (0.0, 0.0)
    marks: list[MarkBox] = field(default_factory=list)
    last_text_end: tuple[float, float] | None = None  # page mm; where text that follows goes on

    def x_px(self, x_mm: float | F64 | F32) -> F64:
        """Distance in px from the canvas' left edge."""
        return np.asarray((np.asarray(x_mm, dtype=np.float64) - self.origin_mm[0]) * self.px_per_mm)

    def y_px(self, y_mm: float | F64 | F32) -> F64:
        """Distance in px from the canvas' top edge."""
        return np.asarray((np.asarray(y_mm, dtype=np.float64) - self.origin_mm[1]) * self.px_per_mm)

    def mark(self, kind: str, text: str, x0_mm: float, y0_mm: float, x1_mm: float, y1_mm: float) -> None:
        """Note where something was printed; what lies mostly off the canvas is left out."""
        ox, oy = self.origin_mm
        w, h = self.rgb.shape[1] / self.px_per_mm, self.rgb.shape[0] / self.px_per_mm
        x0, x1 = (min(max(x - ox, 0.0), w) for x in (x0_mm, x1_mm))
        y0, y1 = (min(max(y - oy, 0.0), h) for y in (y0_mm, y1_mm))
        whole = max((x1_mm - x0_mm) * (y1_mm - y0_mm), 1e-9)
        if (x1 - x0) * (y1 - y0) / whole >= (0.8 if kind == "lead" else 0.5):
            self.marks.append(MarkBox(kind, text, float(x0), float(y0), float(x1), float(y1)))

    def forget(self, x0_mm: float, y0_mm: float, x1_mm: float, y1_mm: float) -> None:
        """Drop the marks whose middle a rectangle hides: nobody can see them."""
        ox, oy = self.origin_mm
        self.marks = [
            m
            for m in self.marks
            if not (x0_mm < (m.x0_mm + m.x1_mm) / 2 + ox < x1_mm and y0_mm < (m.y0_mm + m.y1_mm) / 2 + oy < y1_mm)
        ]

    def lay(self, mask: U8, left_px: int, top_px: int, rgb: Rgb, alpha: float = 1.0) -> None:
        """Lay ink of reflectance ``rgb`` where ``mask`` (h, w) says."""
        h, w = self.rgb.shape[:2]
        y0, y1 = max(top_px, 0), min(top_px + mask.shape[0], h)
        x0, x1 = max(left_px, 0), min(left_px + mask.shape[1], w)
        if y1 <= y0 or x1 <= x0:
            return
        part = np.ascontiguousarray(mask[y0 - top_px : y1 - top_px, x0 - left_px : x1 - left_px]).reshape(-1)
        inked = np.flatnonzero(part != 0)
        if not len(inked):
            return
        where = inked + (y0 * w + x0)
        if x1 - x0 < w:
            where += inked // (x1 - x0) * (w - (x1 - x0))
        share = _left_over(rgb, alpha).take(part[inked], axis=0)
        laid = np.asarray(cv2.multiply(self.rgb.reshape(-1, 3).take(where, axis=0), share, scale=1 / 255))
        # As single values of three bytes they go back faster.
        self.rgb.reshape(-1).view("V3")[where] = laid.reshape(-1).view("V3")

    def fill(self, x0_mm: float, y0_mm: float, x1_mm: float, y1_mm: float, rgb: Rgb, alpha: float = 1.0) -> None:
        """Lay a rectangle with exact edges, for rules, ticks, bars and frames."""
        ax, bx = np.clip(self.x_px(np.array([x0_mm, x1_mm])), 0, self.rgb.shape[1])
        ay, by = np.clip(self.y_px(np.array([y0_mm, y1_mm])), 0, self.rgb.shape[0])
        if bx <= ax or by <= ay:
            return
        left, top = int(ax), int(ay)
        cx = np.arange(left, int(np.ceil(bx)))
        cy = np.arange(top, int(np.ceil(by)))
        along = np.minimum(cx + 1, bx) - np.maximum(cx, ax)
        down = np.minimum(cy + 1, by) - np.maximum(cy, ay)
        self.lay(np.rint(np.outer(down, along) * 255).astype(np.uint8), left, top, rgb, alpha)

    def paint(self, mask: U8, left_px: int, top_px: int, rgb: Rgb) -> None:
        """Cover what is there with an opaque colour where ``mask`` (h, w) says."""
        h, w = self.rgb.shape[:2]
        y0, y1 = max(top_px, 0), min(top_px + mask.shape[0], h)
        x0, x1 = max(left_px, 0), min(left_px + mask.shape[1], w)
        if y1 <= y0 or x1 <= x0:
            return
        share = mask[y0 - top_px : y1 - top_px, x0 - left_px : x1 - left_px, None].astype(np.float32) / 255.0
        colour = np.asarray(rgb, dtype=np.float32) * 255.0
        under = self.rgb[y0:y1, x0:x1]
        self.rgb[y0:y1, x0:x1] = (under * (1 - share) + colour * share + 0.5).astype(np.uint8)

    def cover(self, x0_mm: float, y0_mm: float, x1_mm: float, y1_mm: float, rgb: Rgb) -> None:
        """Paint a rectangle to the nearest pixel."""
        left, top = int(self.x_px(x0_mm)), int(self.y_px(y0_mm))
        w, h = max(int(self.x_px(x1_mm)) - left, 1), max(int(self.y_px(y1_mm)) - top, 1)
        self.paint(np.full((h, w), 255, dtype=np.uint8), left, top, rgb)

    def frame(self, x0_mm: float, y0_mm: float, x1_mm: float, y1_mm: float, width_mm: float, rgb: Rgb) -> None:
        """Four rules around a rectangle."""
        r = width_mm / 2
        self.fill(x0_mm - r, y0_mm - r, x1_mm + r, y0_mm + r, rgb)
        self.fill(x0_mm - r, y1_mm - r, x1_mm + r, y1_mm + r, rgb)
        self.fill(x0_mm - r, y0_mm + r, x0_mm + r, y1_mm - r, rgb)
        self.fill(x1_mm - r, y0_mm + r, x1_mm + r, y1_mm - r, rgb)

    def curve(self, points_mm: F64, width_mm: float, rgb: Rgb, alpha: float = 1.0) -> tuple[float, float, float, float]:
        """Draw any polyline (n, 2) mm, round and smooth, for shapes whose place needs no exactness; gives its box."""
        pad = width_mm + 1.0
        x0, y0 = points_mm.min(axis=0) - pad
        x1, y1 = points_mm.max(axis=0) + pad
        left, top = int(np.floor(self.x_px(x0))), int(np.floor(self.y_px(y0)))
        w, h = int((x1 - x0) * self.px_per_mm) + 2, int((y1 - y0) * self.px_per_mm) + 2
        local = np.stack([self.x_px(points_mm[:, 0]) - left, self.y_px(points_mm[:, 1]) - top], axis=1)
        self.lay(stroke_mask([local], w, h, width_mm * self.px_per_mm), left, top, rgb, alpha)
        return float(x0 + pad), float(y0 + pad), float(x1 - pad), float(y1 - pad)


def stroke_mask(lines_px: list[F64], width: int, height: int, pen_px: float, zoom: int = 3) -> U8:
    """Polylines (n, 2) px from the top left corner, drawn ``zoom`` times larger and averaged: (height, width)."""
    big = np.zeros((height * zoom, width * zoom), dtype=np.uint8)
    pts = [np.rint((line * zoom - 0.5) * 16).astype(np.int32).reshape(-1, 1, 2) for line in lines_px]
    cv2.polylines(big, pts, False, 255, max(round(pen_px * zoom), 1), cv2.LINE_8, 4)
    return np.asarray(cv2.resize(big, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
