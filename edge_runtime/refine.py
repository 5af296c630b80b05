"""The lattice moved onto the grid's heavy lines as the photo shows them at full resolution.

The finder's phases come from a view at 4 px/mm and leave local errors of some hundredths of a millimetre.  That little
is what limits a steep QRS complex: 0.06 mm are 2.4 ms.  Each node's stretches of line, 5 mm long, are sharper: where
they run, taken along the lattice that is nearly right already, gives the node's last correction, along time from the
vertical lines, in height from the horizontal ones.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.geometry import grid_xy, local_scale, sample_shrunken, shrunken
from ecg.page import F32, LATTICE_MM, U8, Photo, Sheet
from ecg.ranks import ranked
from edge_runtime.flat import settled

F64 = NDArray[np.float64]
PX_PER_MM: Final = 8  # across the line
ROWS: Final = (15, 9)  # samples along a stretch of vertical and horizontal line
REACH_MM: Final = 0.6  # a line is looked for this far beside its node: the next fine line is 1 mm away
WINDOW_MM: Final = 1.5
ACROSS_MM: Final = np.arange(-round(WINDOW_MM * PX_PER_MM), round(WINDOW_MM * PX_PER_MM) + 1) / PX_PER_MM
MAX_SHIFT_MM: Final = 0.3
MIN_CONTRAST: Final = 4.0  # grey levels
MAX_WEIGHT: Final = 20.0  # more contrast than that doesn't make a place surer
SPARSE: Final = 4  # nodes between those that tell how large the photo shows the paper
MIN_LINES: Final = 30  # stretches to learn from what a line looks like here


def refined(photo: Photo, sheet: Sheet) -> Sheet:
    """The sheet with its nodes on the heavy lines where these are seen; unchanged where they are not."""
    ny, nx = sheet.node_px.shape[:2]
    if sheet.step_mm != LATTICE_MM or min(ny, nx) < 4:
        return sheet
    places = partial(_places, sheet)
    small, shrink = shrunken(photo, min(local_scale(places(axis, every=SPARSE)) for axis in (0, 1)))

    def lines(axis: int) -> tuple[F64, F64]:
        return _matched(_profiles(sample_shrunken(small, shrink, places(axis)), (ny, nx), axis))

    with ThreadPoolExecutor(2) as pool:  # vertical and horizontal lines: a core each
        seen = list(pool.map(lines, (0, 1)))
    shift, contrast = (np.stack(s) for s in zip(*seen, strict=True))
    height, width = photo.rgb.shape[:2]
    nodes = np.asarray(sheet.node_px, dtype=np.float64)
    weight = np.clip(contrast - MIN_CONTRAST, 0, MAX_WEIGHT)
    moved = settled(nodes, shift, weight, (width, height)).astype(np.float32)
    return Sheet(moved, sheet.x0_mm, sheet.y0_mm, sheet.residual_mm, sheet.step_mm)


def _places(sheet: Sheet, axis: int, every: int = 1) -> F32:
    """Photo px (rows, columns, 2) around each node's stretch of vertical (axis 0) or horizontal line, or around the
    stretches of ``every`` so many nodes' rows and columns."""
    along = ((np.arange(ROWS[axis]) + 0.5) / ROWS[axis] - 0.5) * LATTICE_MM
    ny, nx = sheet.node_px.shape[:2]
    x = sheet.x0_mm + np.arange(0, nx, every)[:, None] * LATTICE_MM + (along if axis else ACROSS_MM)
    y = sheet.y0_mm + np.arange(0, ny, every)[:, None] * LATTICE_MM + (ACROSS_MM if axis else along)
    return grid_xy(sheet, x.ravel(), y.ravel())


def _profiles(rgb: U8, nodes: tuple[int, int], axis: int) -> F32:
    """Darkness across each node's stretch of line (Ny, Nx, samples): the median along it, free of crossings."""
    (ny, nx), rows, across = nodes, ROWS[axis], len(ACROSS_MM)
    red, green, blue = cv2.split(rgb)
    grey = cv2.min(cv2.min(red, green), blue)
    grey = grey.reshape(ny, across, nx, rows) if axis else grey.reshape(ny, rows, nx, across)
    samples = np.ascontiguousarray(grey.transpose((1, 3, 0, 2) if axis else (3, 1, 0, 2)))  # across, along, Ny, Nx
    # Paper is brighter than all but a fifth of what lies across.
    dark = ranked(samples, round(0.8 * (across - 1))).astype(np.int16) - samples
    dark[:, samples.min(axis=0) == 0] = 0  # off the photo
    return np.ascontiguousarray(ranked(dark.swapaxes(0, 1), rows // 2).transpose(1, 2, 0), dtype=np.float32)


def _matched(profiles: F32) -> tuple[F64, F64]:
    """Shifts (Ny, Nx) mm by which lines run beside their nodes, and their contrast, 0 where none is seen.

    What a line of this page looks like, fine lines beside it included, is learnt from all of them: the median profile,
    made symmetric.  Each stretch is then a T(x + d) + b, by least squares linear in d (Lucas and Kanade, IJCAI 1981).
    """
    shift, contrast = _line_shifts(profiles)
    good = (contrast > MIN_CONTRAST).ravel()
    if good.sum() < MIN_LINES:
        return shift, contrast
    n = profiles.shape[-1]
    flat, at = profiles.reshape(-1, n).astype(np.float64), (np.arange(n) - n // 2) / PX_PER_MM
    weight = np.clip((WINDOW_MM - 0.2 - np.abs(at)) / 0.3, 0, 1)
    moved = shift.ravel() * PX_PER_MM
    for _ in range(3):
        here = _shifted(flat, moved)
        mean = np.median(here[good] / np.maximum(here[good].std(axis=1, keepdims=True), 1e-3), axis=0)
        line = (mean + mean[::-1]) / 2
        basis = np.stack([line, np.gradient(line), np.ones(n)], axis=1)
        normal = basis.T @ (weight[:, None] * basis) + 1e-6 * np.eye(3)
        height, slope, _ = a = np.linalg.solve(normal, basis.T @ (weight[:, None] * here.T))
        moved = moved - np.clip(slope / np.maximum(height, 1e-3), -2, 2)
    rest = ((here - (basis @ a).T) ** 2 * weight).sum(axis=1)
    power = ((here - here.mean(axis=1, keepdims=True)) ** 2 * weight).sum(axis=1)
    seen = height * np.ptp(line) * np.clip(1 - rest / np.maximum(power, 1e-6), 0, 1)
    seen[np.abs(moved) >= MAX_SHIFT_MM * PX_PER_MM] = 0.0
    return moved.reshape(shift.shape) / PX_PER_MM, seen.reshape(shift.shape)


def _shifted(profiles: F64, by: F64) -> F64:
    """Profiles (n, samples), each moved so that what lay ``by`` samples (n,) right of the middle lies in it."""
    count, n = profiles.shape
    x = np.arange(n) + by[:, None]
    i = np.clip(np.floor(x).astype(int), 0, n - 2)
    f = np.clip(x - i, 0, 1)
    at, flat = i + n * np.arange(count)[:, None], profiles.ravel()
    return np.asarray(flat.take(at) * (1 - f) + flat.take(at + 1) * f, dtype=np.float64)


def _line_shifts(profile: F32) -> tuple[F64, F64]:
    """Where the lines run beside their nodes, mm, and the contrast they are seen with, 0 where none is: (Ny, Nx)."""
    reach = REACH_MM * PX_PER_MM
    at = np.arange(profile.shape[-1]) - profile.shape[-1] // 2
    shift = np.zeros(profile.shape[:2])
    for _ in range(3):  # the window follows the line
        window = np.clip(reach + 0.5 - np.abs(at - shift[..., None]), 0, 1)
        floor = np.min(np.where(window > 0, profile, np.inf), axis=-1, keepdims=True)
        above = np.maximum(profile - floor, 0)
        weight = above * np.sqrt(above) * window
        total = weight.sum(axis=-1)
        shift = np.where(total > 0, (weight * at).sum(axis=-1) / np.maximum(total, 1e-6), 0.0)
        shift = np.clip(shift, -reach, reach)
    contrast = np.max(profile * window, axis=-1) - floor[..., 0]
    return shift / PX_PER_MM, np.where(np.abs(shift) < MAX_SHIFT_MM * PX_PER_MM, contrast, 0.0)
