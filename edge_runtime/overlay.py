"""The picture that goes with a reading: the flattened sheet with the traces drawn over it and the header blanked.

What is blanked: everything that is not within ``KEEP_ABOVE_MM`` of a trace row's baseline (above the first row) or
``KEEP_BELOW_MM`` (below the last row), and everything beside the rows; patients' names and numbers are printed there.
A tall deflection that leaves this band keeps a narrow border of paper around itself.  Blanked means filled with the
paper's colour: nothing of the photo is left to sharpen.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.geometry import grid_xy, local_scale, sample_shrunken, shrunken
from ecg.leads import LEAD_INDEX, base_lead
from ecg.page import U8, EcgSignal, LeadStrip, PageLayout, Photo, Reading, Sheet

PX_PER_MM: Final = 5.0
MAX_SIDE_MM: Final = 1200.0
KEEP_ABOVE_MM: Final = 12.0
KEEP_BELOW_MM: Final = 12.0
KEEP_LEFT_MM: Final = 12.0  # the calibration pulse
KEEP_RIGHT_MM: Final = 8.0
BORDER_MM: Final = 2.0
HALVED: Final = 2.0  # photo px per picture px
READ_RGB: Final = (0, 70, 200)
FILLED_RGB: Final = (255, 120, 0)
NAME_RGB: Final = (0, 110, 60)
_SHIFT: Final = 4  # OpenCV's sub-pixel bits


def draw_overlay(photo: Photo, reading: Reading, keep_header: bool = False) -> U8:
    """The sheet (H, W, 3) at ``PX_PER_MM``, read samples blue, filled ones orange, lead names green."""
    curves = [_curve(strip, reading.layout, reading.signal) for strip in reading.layout.strips]
    box = _sheet_box_mm(reading.sheet) if keep_header else _box_mm(reading.layout, [xy for xy, _ in curves])
    xs, ys = (np.arange(lo + 0.5 / PX_PER_MM, hi, 1 / PX_PER_MM) for lo, hi in (box[:2], box[2:]))
    xy_px = grid_xy(reading.sheet, xs, ys)
    rgb = sample_shrunken(*shrunken(photo, _whole_scale(local_scale(xy_px))), xy_px, fill=255)
    if not keep_header:
        keep = _kept(rgb.shape[:2], box, reading.layout, [xy for xy, _ in curves])
        rgb[~keep] = _paper_colour(rgb, keep)
    for strip, (xy_mm, filled) in zip(reading.layout.strips, curves, strict=True):
        _draw_curve(rgb, _to_px(xy_mm, box), filled)
        _draw_name(rgb, strip, box)
    return rgb


def _whole_scale(scale: float) -> float:
    """Photo px per picture px, nudged to where halving serves, which is several times quicker: a picture to look at."""
    return max(scale, HALVED) if scale > 1.5 else scale


def _box_mm(layout: PageLayout, curves_mm: list[NDArray[np.float64]]) -> tuple[float, float, float, float]:
    """(x0, x1, y0, y1) page mm of the picture: the rows, their tallest deflections, a border."""
    strips = layout.strips
    tops = [float(np.nanmin(xy[:, 1])) for xy in curves_mm if np.isfinite(xy[:, 1]).any()]
    ends = [float(np.nanmax(xy[:, 1])) for xy in curves_mm if np.isfinite(xy[:, 1]).any()]
    x0 = min(s.x0_mm for s in strips) - KEEP_LEFT_MM
    x1 = max(s.x1_mm for s in strips) + KEEP_RIGHT_MM
    y0 = min([s.baseline_mm - KEEP_ABOVE_MM for s in strips] + tops)
    y1 = max([s.baseline_mm + KEEP_BELOW_MM for s in strips] + ends)
    return _bordered(x0, x1, y0, y1)


def _sheet_box_mm(sheet: Sheet) -> tuple[float, float, float, float]:
    """The same for all that the lattice reaches."""
    ny, nx = sheet.node_px.shape[:2]
    return _bordered(
        sheet.x0_mm, sheet.x0_mm + (nx - 1) * sheet.step_mm, sheet.y0_mm, sheet.y0_mm + (ny - 1) * sheet.step_mm
    )


def _bordered(x0: float, x1: float, y0: float, y1: float) -> tuple[float, float, float, float]:
    x0, x1, y0, y1 = x0 - BORDER_MM, x1 + BORDER_MM, y0 - BORDER_MM, y1 + BORDER_MM
    return x0, min(x1, x0 + MAX_SIDE_MM), y0, min(y1, y0 + MAX_SIDE_MM)


def _curve(strip: LeadStrip, layout: PageLayout, signal: EcgSignal) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Where the reading says that the pen went: (n, 2) page mm, NaN in gaps; and which samples were filled (n,)."""
    lead, sign = base_lead(strip.lead)
    first = round(strip.start_s * signal.fs_hz)
    n = round((strip.x1_mm - strip.x0_mm) / layout.paper_speed_mm_per_s * signal.fs_hz)
    part = slice(max(first, 0), max(first + n, 0))
    mv = signal.mv[LEAD_INDEX[lead], part].astype(np.float64)
    t_s = (np.arange(len(mv)) + max(first, 0)) / signal.fs_hz
    x_mm = strip.x0_mm + (t_s - strip.start_s) * layout.paper_speed_mm_per_s
    y_mm = strip.baseline_mm - sign * mv * strip.gain_mm_per_mv  # page y points down
    return np.stack([x_mm, y_mm], axis=1), signal.filled[LEAD_INDEX[lead], part]


def _to_px(xy_mm: NDArray[np.float64], box: tuple[float, float, float, float]) -> NDArray[np.float64]:
    return (xy_mm - (box[0], box[2])) * PX_PER_MM - 0.5


def _kept(
    shape: tuple[int, ...],
    box: tuple[float, float, float, float],
    layout: PageLayout,
    curves_mm: list[NDArray[np.float64]],
) -> NDArray[np.bool_]:
    """True (H, W) where the photo may be seen: the band of the rows, and a border around each trace."""
    strips = layout.strips
    corners = np.array(
        [
            (min(s.x0_mm for s in strips) - KEEP_LEFT_MM, min(s.baseline_mm for s in strips) - KEEP_ABOVE_MM),
            (max(s.x1_mm for s in strips) + KEEP_RIGHT_MM, max(s.baseline_mm for s in strips) + KEEP_BELOW_MM),
        ]
    )
    (x0, y0), (x1, y1) = np.rint(_to_px(corners, box)).astype(int).tolist()
    keep = np.zeros(shape, dtype=np.uint8)
    keep[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = 1
    width = round(2 * BORDER_MM * PX_PER_MM)
    low, high = np.array([x0, y0]) + width, np.array([x1, y1]) - width
    for curve in curves_mm:
        points = _to_px(curve, box)
        deep = np.all((points > low) & (points < high), axis=1, keepdims=True)  # their borders are seen anyhow
        for run in _runs(np.where(deep, np.nan, points)):
            cv2.polylines(keep, [np.rint(run).astype(np.int32).reshape(-1, 1, 2)], False, 1, width)
    return keep.astype(bool)


def _paper_colour(rgb: U8, keep: NDArray[np.bool_]) -> NDArray[np.uint8]:
    some = (slice(None, None, 5), slice(None, None, 5))
    seen = rgb[some][keep[some]]
    colour = np.percentile(seen, 60, axis=0) if len(seen) else np.full(3, 255)
    return np.asarray(colour, dtype=np.uint8)


def _runs(points: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Stretches of at least two finite points (n, 2)."""
    ok = np.isfinite(points).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], ok, [False]]).astype(np.int8))).reshape(-1, 2)
    return [points[a:b] for a, b in edges if b - a > 1]


def _draw_curve(rgb: U8, points: NDArray[np.float64], filled: NDArray[np.bool_]) -> None:
    """Filled stretches keep a point of their read neighbours, so that the line doesn't break."""
    near_filled = filled.copy()
    near_filled[1:] |= filled[:-1]
    near_filled[:-1] |= filled[1:]
    for colour, mask in ((READ_RGB, ~filled), (FILLED_RGB, near_filled)):
        part = np.where(mask[:, None], points, np.nan)
        lines = [np.rint(run * 2**_SHIFT).astype(np.int32).reshape(-1, 1, 2) for run in _runs(part)]
        if lines:
            cv2.polylines(rgb, lines, False, colour, 1, cv2.LINE_AA, _SHIFT)


def _draw_name(rgb: U8, strip: LeadStrip, box: tuple[float, float, float, float]) -> None:
    x, y = np.rint(_to_px(np.array([[strip.x0_mm + 1.0, strip.baseline_mm + 8.0]]), box)[0]).astype(int).tolist()
    cv2.putText(rgb, strip.lead, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.5, NAME_RGB, 1, cv2.LINE_AA)
