"""Cheap measures of a photo that the gate judges: size, blur, light, glare, tilt, what is cut off.

They need to know only where the ECG lies (``Area``), which the coarse finder tells for a camera's frame and the
lattice for a page that was read; the pictures they look at are a thumbnail and a few patches, a few milliseconds each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.geometry import photo_xy
from ecg.marks import COARSE_PX, COARSE_STRIDE
from ecg.page import F32, U8, PageLayout, Photo, Sheet
from edge_runtime.coarse import area_pose, look, thumbnail
from edge_runtime.engines.base import Engine

F64 = NDArray[np.float64]
SIDES: Final = ("left", "top", "right", "bottom")
CELLS: Final = COARSE_PX // COARSE_STRIDE
BLUR_PX_PER_MM: Final = 6.0  # finer patches are shrunk to this
PATCH_MM: Final = 22.0
N_PATCHES: Final = 12
FINE_PX, WIDE_PX = 1.0, 2.0  # the two blurs whose edges are compared
CLIPPED: Final = 250  # a level of all three colours that holds no picture any more
GLARE_LEVEL: Final = 232.0  # a reflection is at least this bright,
GLARE_ABOVE: Final = 30.0  # and this much brighter than the paper
WHITE_PAPER: Final = 240.0  # scans and screenshots: white there isn't glare
ROW_MM: Final = 14.0  # the traces' reach above and below their baselines


@dataclass(frozen=True, eq=False)
class Area:
    """Where the ECG lies: cells (32, 32) bool of the letterboxed thumbnail, ``factor`` thumbnail px per photo px.

    ``log2_scale`` (32, 32): log2 of the local photo px per mm over the mean, NaN where unknown.
    """

    cells: NDArray[np.bool_]
    factor: float
    px_per_mm: float
    angle_rad: float
    ecg_probability: float
    log2_scale: F32
    cut: tuple[str, ...] = ()


@dataclass(frozen=True)
class PhotoMeasures:
    """What the gate judges of a photo.

    ``blur_mm``: sigma of the Gaussian that the sharpest edges look blurred with; levels 0 to 255; ``clipped_share`` and
    ``glare_share`` of the ECG's area; ``tilt``: the largest over the smallest scale within the area; ``cut``: the sides
    of the picture at which the ECG runs out; ``turn_gain``: how much larger the page could show, turned by 90 degrees.
    """

    px_per_mm: float
    ecg_probability: float
    blur_mm: float
    paper_level: float
    contrast: float
    clipped_share: float
    glare_share: float
    glare_side: str
    tilt: float
    cut: tuple[str, ...]
    turn_gain: float


def coarse_area(photo: Photo, coarse: Engine) -> Area:
    """One run of the coarse finder: where the ECG seems to be, however unlikely."""
    seen = look(photo, coarse)
    inside = _cells_inside(photo.rgb, seen.factor)
    cells = np.asarray((seen.ecg > 0.5 * seen.best) & inside)
    lies = area_pose(seen, np.where(cells, seen.ecg, np.float32(0)))
    scale = np.where(cells, seen.maps[4] - lies.log2_scale, np.nan).astype(np.float32)
    return Area(cells, seen.factor, lies.px_per_mm, lies.angle_rad, seen.best, scale, _touching(cells, inside))


def page_area(photo: Photo, sheet: Sheet, layout: PageLayout, px_per_mm: float, ecg_probability: float) -> Area:
    """The area of the rows that were read."""
    factor = COARSE_PX / max(photo.rgb.shape[:2])
    x0, x1 = min(s.x0_mm for s in layout.strips), max(s.x1_mm for s in layout.strips)
    y0, y1 = min(s.baseline_mm for s in layout.strips) - ROW_MM, max(s.baseline_mm for s in layout.strips) + ROW_MM
    xs, ys = np.arange(x0, x1 + 2.5, 2.5), np.arange(y0, y1 + 2.5, 2.5)
    mm = np.stack(np.meshgrid(xs, ys), -1)
    px = photo_xy(sheet, mm.reshape(-1, 2)).reshape(mm.shape)
    cells, scale = np.zeros((CELLS, CELLS), bool), np.full((CELLS, CELLS), np.nan, np.float32)
    local = np.linalg.norm(np.diff(px, axis=1), axis=-1)[:-1] / 2.5
    at = (px[:-1, :-1] * factor / COARSE_STRIDE).reshape(-1, 2)
    ok = np.isfinite(at).all(-1) & np.isfinite(local.ravel()) & (at >= 0).all(-1) & (at < CELLS).all(-1)
    column, row = at[ok].astype(int).T
    cells[row, column] = True
    scale[row, column] = np.log2(np.maximum(local.ravel()[ok], 1e-3) / px_per_mm)
    cells &= _cells_inside(photo.rgb, factor)
    return Area(cells, factor, px_per_mm, np.radians(layout.orientation_deg), ecg_probability, scale,
                _off_photo(px, photo.rgb.shape))  # fmt: skip


def measure(photo: Photo, area: Area) -> PhotoMeasures:
    """All measures of a photo, given where the ECG lies."""
    small, _ = thumbnail(photo)
    mask = cv2.resize(area.cells.astype(np.uint8), (COARSE_PX, COARSE_PX), interpolation=cv2.INTER_NEAREST) > 0
    paper, clipped, glare, side = _light(small, mask)
    blur, contrast = _sharpness(photo.rgb, area)
    return PhotoMeasures(
        area.px_per_mm, area.ecg_probability, blur, paper, contrast, clipped, glare, side, _tilt(area), area.cut,
        _turn_gain(area, photo.rgb.shape),
    )  # fmt: skip


def _cells_inside(rgb: U8, factor: float) -> NDArray[np.bool_]:
    """Cells of the letterboxed thumbnail that lie in the photo by half or more."""
    h, w = (round(v * factor) / COARSE_STRIDE for v in rgb.shape[:2])
    row, column = np.mgrid[0:CELLS, 0:CELLS] + 0.5
    return np.asarray((row <= h) & (column <= w))


def _touching(cells: NDArray[np.bool_], inside: NDArray[np.bool_]) -> tuple[str, ...]:
    """Sides of the picture at which cells of the area lie in its outermost row, along a good stretch of it."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows) or not cells.any():
        return ()
    edges = (cells[:, columns[0]], cells[rows[0]], cells[:, columns[-1]], cells[rows[-1]])
    span = (cells.any(1).sum(), cells.any(0).sum()) * 2
    return tuple(s for s, e, n in zip(SIDES, edges, span, strict=True) if e.sum() > max(0.5 * n, 1))


def _off_photo(px: F32, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Sides of the picture beyond which a good stretch of the rows' outline lies."""
    rim = np.concatenate([px[0], px[-1], px[:, 0], px[:, -1]])
    rim = rim[np.isfinite(rim).all(-1)]
    h, w = shape[:2]
    beyond = (rim[:, 0] < 0, rim[:, 1] < 0, rim[:, 0] > w - 1, rim[:, 1] > h - 1)
    return tuple(s for s, b in zip(SIDES, beyond, strict=True) if len(rim) and b.mean() > 0.06)


def _light(small: U8, mask: NDArray[np.bool_]) -> tuple[float, float, float, str]:
    """Paper's level, clipped share, glare's share and side, within the mask (512, 512); of all if it is empty."""
    if not mask.any():
        mask = np.asarray(small.any(axis=-1))
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    inside = grey[mask]
    if not inside.size:
        return 0.0, 0.0, 0.0, ""
    paper = float(np.percentile(inside, 60))
    darkest = small.min(axis=-1)
    clipped = float(((darkest >= CLIPPED) & mask).sum() / mask.sum())
    if paper >= WHITE_PAPER:
        return paper, clipped, 0.0, ""
    bright = (darkest >= max(GLARE_LEVEL, paper + GLARE_ABOVE)) & mask
    blobs = cv2.morphologyEx(bright.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    return paper, clipped, float(blobs.sum() / mask.sum()), _side(blobs, mask)


def _side(part: NDArray[np.bool_], whole: NDArray[np.bool_]) -> str:
    """Where in the whole a part lies: the farther of both directions, or "middle"; "" if there is none."""
    if not part.any():
        return ""
    offsets = []
    for axis in (1, 0):
        at, all_of = np.nonzero(part)[axis], np.nonzero(whole)[axis]
        low, high = float(all_of.min()), float(all_of.max()) + 1
        offsets.append((float(at.mean()) - low) / (high - low) - 0.5)
    x, y = offsets
    if max(abs(x), abs(y)) < 0.17:
        return "middle"
    if abs(x) >= abs(y):
        return "right" if x > 0 else "left"
    return "bottom" if y > 0 else "top"


def _sharpness(rgb: U8, area: Area) -> tuple[float, float]:
    """Blur in mm (NaN where nothing is printed) and contrast in levels, medians over patches of the area."""
    figures = [_patch_figures(p) for p in _patches(rgb, area)]
    figures = [f for f in figures if f is not None]
    if not figures:
        return float("nan"), 0.0
    blur_px, contrast = np.median(np.array(figures), axis=0)
    return float(blur_px) / min(area.px_per_mm, BLUR_PX_PER_MM), float(contrast)


def _patches(rgb: U8, area: Area) -> list[U8]:
    """Up to ``N_PATCHES`` grey patches of ``PATCH_MM``, spread evenly over the area, at most ``BLUR_PX_PER_MM``."""
    at = np.argwhere(area.cells)
    if not len(at):
        return []
    h, w = rgb.shape[:2]
    size = int(np.clip(PATCH_MM * area.px_per_mm, 24, min(h, w)))
    shrink = min(1.0, BLUR_PX_PER_MM / max(area.px_per_mm, 1e-3))
    out = []
    for i in np.linspace(0, len(at) - 1, min(N_PATCHES, len(at))).round().astype(int):
        centre = (at[i][::-1] + 0.5) * COARSE_STRIDE / area.factor
        x, y = (int(np.clip(c - size / 2, 0, n - size)) for c, n in zip(centre, (w, h), strict=True))
        grey = cv2.cvtColor(rgb[y : y + size, x : x + size], cv2.COLOR_RGB2GRAY)
        if shrink < 1.0:
            grey = cv2.resize(grey, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        out.append(np.asarray(grey, np.uint8))
    return out


def _patch_figures(grey: U8) -> tuple[float, float] | None:
    """Blur in px and contrast in levels of one patch; None where nothing is printed on it.

    A thin line blurred with sigma s has slopes of 1 / (s^2 + f^2) after a further blur f, so that the ratio of the
    slopes after two blurs gives s (for edges: Zhuo and Sim, Pattern Recognition 44, 1852, 2011).  The worse of both
    directions counts: motion blurs one of them.
    """
    paper, ink = (int(np.searchsorted(np.cumsum(np.bincount(grey.ravel())), q * grey.size)) for q in (0.6, 0.01))
    contrast = float(paper - ink)
    if contrast < 12:
        return None
    levels = grey.astype(np.float32)
    fine = cv2.GaussianBlur(levels, (0, 0), FINE_PX)
    wide = cv2.GaussianBlur(levels, (0, 0), WIDE_PX)
    sigma, at = [], round(0.97 * (grey.size - 1))
    for dx, dy in ((1, 0), (0, 1)):
        a, b = (np.abs(cv2.Sobel(v, cv2.CV_32F, dx, dy)) for v in (fine, wide))
        steep = a >= max(float(np.partition(a.ravel(), at)[at]), 1e-3)
        if not steep.any():  # nothing but lines along this direction
            continue
        ratio = float(np.clip(np.median(a[steep] / np.maximum(b[steep], 1e-3)), 1.02, (WIDE_PX / FINE_PX) ** 2))
        sigma.append(np.sqrt((WIDE_PX**2 - ratio * FINE_PX**2) / (ratio - 1.0)))
    return (float(max(sigma)), contrast) if sigma else None


def _tilt(area: Area) -> float:
    """Largest over smallest scale of the plane through the area's log scales; 1 for a page seen straight."""
    ok = area.cells & np.isfinite(area.log2_scale)
    if ok.sum() < 6:
        return 1.0
    rows, columns = np.nonzero(ok)
    a = np.stack([columns, rows, np.ones(len(rows))], axis=1).astype(np.float64)
    b, weight = area.log2_scale[ok].astype(np.float64), np.ones(len(rows))
    for _ in range(3):
        plane, *_rest = np.linalg.lstsq(a * weight[:, None], b * weight, rcond=None)
        weight = 1 / (1 + ((b - a @ plane) / 0.15) ** 2)
    return float(2.0 ** np.ptp(a @ plane))


def _turn_gain(area: Area, shape: tuple[int, ...]) -> float:
    """How much larger the area could be shown with page or camera turned by 90 degrees: > 1 is a gain."""
    rows, columns = np.nonzero(area.cells)
    if not len(rows):
        return 1.0
    height, width = float(np.ptp(rows) + 1), float(np.ptp(columns) + 1)
    h, w = shape[:2]
    return min(w / height, h / width) / min(w / width, h / height)
