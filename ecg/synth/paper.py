"""Paper: its base, its printed grid, and what a copier makes of a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.page import F32, U8
from ecg.synth.ink import Canvas, Rgb
from ecg.synth.truth import GridTruth

HEAVY_MM = 5.0
FINE_MM = 1.0
Rect = tuple[float, float, float, float]


@dataclass(frozen=True)
class GridStyle:
    """A printed grid. ``kind``: "lines" (1 and 5 mm), "fine" (1 mm only), "dots" (1 mm dots, 5 mm lines), "heavy"
    (5 mm only), "none".

    Heavy lines run through (x0_mm, y0_mm); ``area_mm`` is covered and tinted; ``*_rgb`` are reflectances of the ink on
    white; ``uneven`` varies the strength from line to line; ``bold_every`` thickens every n-th heavy line (0: none);
    ``dash`` breaks heavy lines at every millimetre.
    """

    kind: str
    x0_mm: float
    y0_mm: float
    area_mm: Rect
    fine_rgb: Rgb = (1.0, 1.0, 1.0)
    heavy_rgb: Rgb = (1.0, 1.0, 1.0)
    fine_width_mm: float = 0.1
    heavy_width_mm: float = 0.2
    tint_rgb: Rgb = (1.0, 1.0, 1.0)
    uneven: float = 0.0
    bold_every: int = 0
    dash: bool = False
    frame_width_mm: float = 0.0
    frame_rgb: Rgb = (0.2, 0.2, 0.2)

    def truth(self, origin_mm: tuple[float, float], size_mm: tuple[float, float]) -> GridTruth:
        """Where the heavy lines run on a canvas of ``size_mm`` whose corner is page point ``origin_mm``."""
        ox, oy = origin_mm
        x0, x1 = np.clip([self.area_mm[0] - ox, self.area_mm[2] - ox], 0.0, size_mm[0])
        y0, y1 = np.clip([self.area_mm[1] - oy, self.area_mm[3] - oy], 0.0, size_mm[1])
        empty = self.kind == "none" or x1 <= x0 or y1 <= y0
        area = (0.0, 0.0, 0.0, 0.0) if empty else (float(x0), float(y0), float(x1), float(y1))
        return GridTruth(self.kind, (self.x0_mm - ox) % HEAVY_MM, (self.y0_mm - oy) % HEAVY_MM, area)


@dataclass(frozen=True)
class PaperStyle:
    """The sheet: base colour, grid, grain (standard deviation in grey levels), and how it was copied.

    ``copy``: "" (original), "grey" (monochrome copy), "fax" (two levels).
    """

    base_rgb: Rgb
    grid: GridStyle
    grain: float = 0.0
    copy: str = ""
    copy_contrast: float = 1.0


def line_coverage(n: int, px_per_mm: float, period_mm: float, phase_mm: float, width_mm: float) -> F32:
    """Share 0..1 of each of n pixels that lines of a width, repeating every ``period_mm``, cover: (n,) float32."""
    centre = (np.arange(n) + 0.5) / px_per_mm - phase_mm
    off = np.abs((centre + period_mm / 2) % period_mm - period_mm / 2)
    half_px = 0.5 / px_per_mm
    covered = np.minimum(off + half_px, width_mm / 2) - np.maximum(off - half_px, -width_mm / 2)
    return np.asarray(np.clip(covered * px_per_mm, 0.0, 1.0), dtype=np.float32)


def _line_strength(
    n: int, px_per_mm: float, period_mm: float, phase_mm: float, uneven: float, rng: np.random.Generator
) -> F32:
    """A factor around 1 per pixel that belongs to the nearest line: no two lines print alike."""
    k = np.rint(((np.arange(n) + 0.5) / px_per_mm - phase_mm) / period_mm).astype(int)
    per_line = 1.0 - uneven * rng.random(int(k[-1] - k[0]) + 1)
    return np.asarray(per_line[k - k[0]], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class _Axis:
    """Coverage by fine and heavy lines along one axis (n,); ``dashes`` (n,) where lines across it are inked."""

    fine: F32
    heavy: F32
    dashes: NDArray[np.bool_]


def _axis(grid: GridStyle, n: int, px_per_mm: float, phase_mm: float, rng: np.random.Generator) -> _Axis:
    fine = line_coverage(n, px_per_mm, FINE_MM, phase_mm, grid.fine_width_mm)
    heavy = line_coverage(n, px_per_mm, HEAVY_MM, phase_mm, grid.heavy_width_mm)
    if grid.bold_every:
        wide = line_coverage(n, px_per_mm, HEAVY_MM * grid.bold_every, phase_mm, 1.8 * grid.heavy_width_mm)
        heavy = np.maximum(heavy, wide)
    if grid.uneven:
        fine *= _line_strength(n, px_per_mm, FINE_MM, phase_mm, grid.uneven, rng)
        heavy *= _line_strength(n, px_per_mm, HEAVY_MM, phase_mm, grid.uneven, rng)
    inked = line_coverage(n, px_per_mm, FINE_MM, phase_mm, 0.5 if grid.dash else 2.0) > 0.5
    return _Axis(fine, heavy, inked)


def _levels(axis: _Axis, grid: GridStyle, base: F32) -> U8:
    """Colours (n, 3) of a line crossing: the darker of the fine and the heavy line."""
    fine = 1.0 - axis.fine[:, None] * (1.0 - np.asarray(grid.fine_rgb, dtype=np.float32))
    heavy = 1.0 - axis.heavy[:, None] * (1.0 - np.asarray(grid.heavy_rgb, dtype=np.float32))
    if grid.kind == "heavy" or (grid.kind == "dots"):
        fine = np.ones_like(fine)
    if grid.kind == "fine":
        heavy = np.ones_like(heavy)
    return np.asarray(np.rint(np.minimum(fine, heavy) * base * 255.0).astype(np.uint8))


def _dot_rows(out: U8, x: _Axis, y: _Axis, grid: GridStyle) -> None:
    """Darken (H, W, 3) by dots 1 mm apart."""
    ink = 1.0 - np.asarray(grid.fine_rgb, dtype=np.float32)
    strength_x = x.fine[:, None] * ink
    for row in np.flatnonzero(y.fine > 0.02):
        out[row] = out[row] * (1.0 - y.fine[row] * strength_x)


def _draw_grid(out: U8, grid: GridStyle, x: _Axis, y: _Axis, base: F32) -> None:
    """Fill the grid's area (H, W, 3): rows are alike except where horizontal lines run."""
    plain = np.rint(base * 255.0).astype(np.uint8)
    across, down = _levels(x, grid, base), _levels(y, grid, base)
    out[:] = across
    out[~y.dashes] = plain
    for row in np.flatnonzero((down < plain).any(axis=1)).tolist():
        line = out[row : row + 1]
        if grid.dash:
            np.minimum(line, np.where(x.dashes[:, None], down[row], plain), out=line)
        else:  # one colour along the row: a fifth of the time
            colour: Any = (*down[row].tolist(), 0)
            cv2.min(line, colour, dst=line)
    if grid.kind == "dots":
        _dot_rows(out, x, y, grid)


def draw_paper(
    paper: PaperStyle,
    size_px: tuple[int, int],
    px_per_mm: float,
    origin_mm: tuple[float, float],
    rng: np.random.Generator,
) -> Canvas:
    """An empty sheet of size_px (width, height) with its grid and frame."""
    w, h = size_px
    grid = paper.grid
    base = np.asarray(paper.base_rgb, dtype=np.float32)
    canvas = Canvas(np.empty((h, w, 3), dtype=np.uint8), px_per_mm, origin_mm)
    blank = np.repeat(np.rint(base * 255.0).astype(np.uint8)[None], w, axis=0)
    x0, x1 = (int(v) for v in np.clip(np.rint(canvas.x_px(np.array(grid.area_mm[0::2]))), 0, w))
    y0, y1 = (int(v) for v in np.clip(np.rint(canvas.y_px(np.array(grid.area_mm[1::2]))), 0, h))
    if grid.kind == "none" or x1 <= x0 or y1 <= y0:
        canvas.rgb[:] = blank
    else:
        canvas.rgb[:y0], canvas.rgb[y1:] = blank, blank
        canvas.rgb[y0:y1, :x0], canvas.rgb[y0:y1, x1:] = blank[:x0], blank[x1:]
        x = _axis(grid, x1 - x0, px_per_mm, grid.x0_mm - origin_mm[0] - x0 / px_per_mm, rng)
        y = _axis(grid, y1 - y0, px_per_mm, grid.y0_mm - origin_mm[1] - y0 / px_per_mm, rng)
        tint = base * np.asarray(grid.tint_rgb, dtype=np.float32)
        _draw_grid(canvas.rgb[y0:y1, x0:x1], grid, x, y, tint)
        if grid.frame_width_mm:
            canvas.frame(*grid.area_mm, grid.frame_width_mm, grid.frame_rgb)
    return canvas


def finish_paper(rgb: U8, paper: PaperStyle, rng: np.random.Generator) -> U8:
    """Grain, and a copier's work, over the printed page (H, W, 3), which may change in place."""
    if paper.copy:
        rgb = _copied(rgb, paper, rng)
    if paper.grain:
        rgb = _grained(rgb, paper.grain, rng)
    return rgb


def _grained(rgb: U8, grain: float, rng: np.random.Generator) -> U8:
    """Fibres: one tile of noise (soft and fine), repeated over the page; changes ``rgb``."""
    tile = rng.normal(0.0, 1.0, (256, 256)).astype(np.float32)
    tile = tile + 2.5 * cv2.GaussianBlur(tile, (0, 0), 2.0, borderType=cv2.BORDER_REFLECT)
    darker = np.clip(np.rint((tile + 2.0) * (grain / 1.3)), 0, 60).astype(np.uint8)
    h, w = rgb.shape[:2]
    row = np.tile(cv2.cvtColor(darker, cv2.COLOR_GRAY2RGB), (1, w // 256 + 1, 1))[:, :w]
    for top in range(0, h, 256):
        band = rgb[top : top + 256]
        cv2.subtract(band, row[: len(band)], dst=band)
    return rgb


def _copied(rgb: U8, paper: PaperStyle, rng: np.random.Generator) -> U8:
    """A monochrome copy: grey with other contrast, or black and white with a threshold that isn't quite steady."""
    grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    white = float(np.percentile(grey[::16, ::16], 90))
    level = np.arange(256, dtype=np.float32)
    if paper.copy == "fax":
        cut = white * rng.uniform(0.62, 0.9)
        table = np.clip((level - cut) * 6.0 + 128.0, 0, 255)
    else:
        table = np.clip((level - white) * paper.copy_contrast + rng.uniform(225, 252), 0, 255)
    return np.asarray(cv2.cvtColor(table.astype(np.uint8)[grey], cv2.COLOR_GRAY2RGB), dtype=np.uint8)
