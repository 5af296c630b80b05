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
MIN_LINES: Final = 30  # stretches to learn from what a line looks like here
AGREE_MM: Final = 0.08  # neighbours along and across that differ by more count for little
LOCAL_MM: Final = 0.015  # what nearby stretches may differ by and still share one correction
EVEN_LINES: Final = 2.5  # printers put each line on a whole dot: positions are evened out over so many beside it
EVEN_WEIGHT: Final = 20.0  # contrast summed along a line from which its own offset is half believed


def refined(photo: Photo, sheet: Sheet) -> Sheet:
    """The sheet with its nodes on the heavy vertical lines where these are seen; unchanged where they are not."""
    ny, nx = sheet.node_px.shape[:2]
    if sheet.step_mm != LATTICE_MM or min(ny, nx) < 4:
        return sheet
    shift, contrast = _matched(_profiles(photo, sheet))
    shift = _settled(shift - _line_offsets(shift, contrast), contrast)
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
    red, green, blue = cv2.split(sample_photo(photo.rgb, grid_xy(sheet, x, y)))
    grey = cv2.min(cv2.min(red, green), blue)
    blocks = grey.reshape(ny, ROWS, nx, len(across)).astype(np.float32)
    paper = np.percentile(blocks, 80, axis=-1, keepdims=True).astype(np.float32)
    dark = paper - blocks
    dark[cv2.reduce(grey.reshape(-1, len(across)), 1, cv2.REDUCE_MIN).reshape(ny, ROWS, nx) == 0] = 0.0  # off the photo
    return np.asarray(np.median(dark, axis=1), dtype=np.float32)


def _matched(profiles: F32) -> tuple[F64, F64]:
    """Shifts (Ny, Nx) mm by which the lines run beside their nodes, and their contrast, 0 where none is seen.

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
    x = np.arange(profiles.shape[1]) + by[:, None]
    i = np.clip(np.floor(x).astype(int), 0, profiles.shape[1] - 2)
    f = np.clip(x - i, 0, 1)
    rows = np.arange(len(profiles))[:, None]
    return np.asarray(profiles[rows, i] * (1 - f) + profiles[rows, i + 1] * f, dtype=np.float64)


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


def _line_offsets(shift_mm: F64, contrast: F64) -> F64:
    """How far each whole line (Nx,) was printed beside its place, mm: what is constant along it and not smooth across.

    Printers and plotting programs round a line to whole dots, 0.1 to 0.2 mm wide, the trace runs between them: a
    lattice that followed every line would hand its error on to the clock of all traces that cross it.  Lines beside
    each other are rounded differently, so that a local parabola through them takes it out (Cleveland, JASA 74, 829,
    1979); what bends the paper moves neighbours alike and stays.
    """
    weight = np.clip(contrast - MIN_CONTRAST, 0, 20.0)
    own = (weight * shift_mm).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-6)
    for _ in range(4):  # creases and handwriting count little
        agree = weight * np.exp(-(((shift_mm - own) / AGREE_MM) ** 2))
        own = (agree * shift_mm).sum(axis=0) / np.maximum(agree.sum(axis=0), 1e-6)
    sure = agree.sum(axis=0)
    apart = (np.arange(len(own)) - np.arange(len(own))[:, None]) / EVEN_LINES  # of line j from line i
    powers = apart[..., None] ** np.arange(3)
    near = (np.exp(-0.5 * apart**2) * sure)[..., None] * powers
    normal = near.swapaxes(1, 2) @ powers + 1e-3 * np.eye(3)
    even = np.linalg.solve(normal, (near * own[:, None]).sum(axis=1)[..., None])[:, 0, 0]
    return np.asarray((own - even) * sure / (sure + EVEN_WEIGHT), dtype=np.float64)


def _settled(shift_mm: F64, contrast: F64) -> F64:
    """Shifts weighed by contrast; near 0 where no line is seen; outliers count little.

    One line's stretches share their correction over the page's height, a few at folds and crumples, where these
    differ from the rest by more than noise.
    """
    weight = np.clip(contrast - MIN_CONTRAST, 0, 20.0)
    for size in ((7, 3), (5, 1)):
        middle = _weighted(shift_mm, weight, size)
        weight = weight * np.exp(-(((shift_mm - middle) / AGREE_MM) ** 2))
    near, far = (_weighted(shift_mm, weight, size) for size in ((3, 1), (21, 3)))
    differ = _weighted((near - far) ** 2, weight, (9, 3))
    return near + np.exp(-differ / LOCAL_MM**2) * (far - near)


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
