"""The lattice's time axis moved onto the grid's heavy vertical lines as the photo shows them at full resolution.

The finder's phases come from a view at 4 px/mm and leave local errors of some hundredths of a millimetre.  That little
is what limits a steep QRS complex: 0.06 mm are 2.4 ms.  Each node's stretch of line, 5 mm long, is sharper: where it
runs, taken along the lattice that is nearly right already, gives the node's last correction.  Heights need none: traces
run along the horizontal lines and would draw them aside.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.geometry import grid_xy, sample_photo
from ecg.page import F32, LATTICE_MM, Photo, Sheet

F64 = NDArray[np.float64]
PX_PER_MM: Final = 8  # along time
ROWS: Final = 15  # samples along a stretch of line
REACH_MM: Final = 0.6  # a line is looked for this far beside its node: the next fine line is 1 mm away
WINDOW_MM: Final = 1.5
MAX_SHIFT_MM: Final = 0.3
MIN_CONTRAST: Final = 4.0  # grey levels
FINE_SHARE: Final = 0.05  # of the heavy lines' darkness
AGREE_MM: Final = 0.08  # neighbours along and across that differ by more count for little


def refined(photo: Photo, sheet: Sheet) -> Sheet:
    """The sheet with its nodes on the heavy vertical lines where these are seen; unchanged where they are not."""
    ny, nx = sheet.node_px.shape[:2]
    if sheet.step_mm != LATTICE_MM or min(ny, nx) < 4:
        return sheet
    profiles = _profiles(photo, sheet)
    shift, contrast = _line_shifts(profiles)
    if _fine_lines(profiles[contrast > MIN_CONTRAST]):
        return sheet
    shift = _settled(shift, contrast)
    nodes = np.asarray(sheet.node_px, dtype=np.float64)
    moved = nodes + np.nan_to_num(_slope(nodes) / LATTICE_MM * shift[..., None])
    return Sheet(moved.astype(np.float32), sheet.x0_mm, sheet.y0_mm, sheet.residual_mm, sheet.step_mm)


def _profiles(photo: Photo, sheet: Sheet) -> F32:
    """Darkness across each node's stretch of line (Ny, Nx, samples): the median along it, free of crossings."""
    ny, nx = sheet.node_px.shape[:2]
    n = round(WINDOW_MM * PX_PER_MM)
    across = np.arange(-n, n + 1) / PX_PER_MM
    along = ((np.arange(ROWS) + 0.5) / ROWS - 0.5) * LATTICE_MM
    x = (sheet.x0_mm + np.arange(nx)[:, None] * LATTICE_MM + across).ravel()
    y = (sheet.y0_mm + np.arange(ny)[:, None] * LATTICE_MM + along).ravel()
    grey = sample_photo(photo.rgb, grid_xy(sheet, x, y)).min(axis=-1)
    blocks = grey.reshape(ny, ROWS, nx, len(across)).astype(np.float32)
    dark = np.percentile(blocks, 80, axis=-1, keepdims=True) - blocks
    dark[blocks.min(axis=-1) <= 0] = 0.0  # beyond the photo
    return np.asarray(np.median(dark, axis=1), dtype=np.float32)


def _fine_lines(profiles: F32) -> bool:
    """Whether lines run 1 mm beside the heavy ones (n, samples): they would draw the centroids aside.

    Measured on rendered pages: with fine lines the phases alone read up to 1 dB better, without them this does.
    """
    if not len(profiles):
        return False
    mean = profiles.mean(axis=0)
    middle = len(mean) // 2
    beside = mean[[middle - PX_PER_MM, middle + PX_PER_MM]].mean()
    between = mean[[middle - PX_PER_MM // 2, middle + PX_PER_MM // 2]].mean()
    return bool(beside - between > FINE_SHARE * (mean[middle] - between))


def _line_shifts(profile: F32) -> tuple[F64, F64]:
    """Where the lines run beside their nodes, mm, and the contrast they are seen with, 0 where none is: (Ny, Nx)."""
    reach = REACH_MM * PX_PER_MM
    at = np.arange(profile.shape[-1]) - profile.shape[-1] // 2
    shift = np.zeros(profile.shape[:2])
    for _ in range(3):  # the window follows the line
        window = np.clip(reach + 0.5 - np.abs(at - shift[..., None]), 0, 1)
        floor = np.min(np.where(window > 0, profile, np.inf), axis=-1, keepdims=True)
        weight = np.clip(profile - floor, 0, None) ** 1.5 * window
        total = weight.sum(axis=-1)
        shift = np.where(total > 0, (weight * at).sum(axis=-1) / np.maximum(total, 1e-6), 0.0)
        shift = np.clip(shift, -reach, reach)
    contrast = np.max(profile * window, axis=-1) - floor[..., 0]
    return shift / PX_PER_MM, np.where(np.abs(shift) < MAX_SHIFT_MM * PX_PER_MM, contrast, 0.0)


def _settled(shift_mm: F64, contrast: F64) -> F64:
    """Shifts weighed by contrast and smoothed along their line; near 0 where no line is seen; outliers count little."""
    weight = np.clip(contrast - MIN_CONTRAST, 0, 20.0)
    for size in ((7, 3), (5, 1)):
        middle = _weighted(shift_mm, weight, size)
        weight = weight * np.exp(-(((shift_mm - middle) / AGREE_MM) ** 2))
    return _weighted(shift_mm, weight, (3, 1))


def _weighted(values: F64, weight: F64, size: tuple[int, int]) -> F64:
    """Weighted mean over a neighbourhood of (rows, columns) nodes, drawn to 0 by a little weight of its own."""
    kernel = np.outer(*(np.bartlett(n + 2)[1:-1] if n > 1 else np.ones(1) for n in size))
    top = cv2.filter2D(values * weight, -1, kernel, borderType=cv2.BORDER_REPLICATE)
    bottom = cv2.filter2D(weight, -1, kernel, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(top / (bottom + 0.5), dtype=np.float64)


def _slope(nodes: F64) -> F64:
    """Differences of node px along time, central, one-sided beside unknown nodes and edges: px a step."""
    d = np.pad(np.diff(nodes, axis=1), ((0, 0), (1, 1), (0, 0)), constant_values=np.nan)
    before, after = d[:, :-1], d[:, 1:]
    return np.where(np.isnan(before), after, np.where(np.isnan(after), before, (before + after) / 2))
