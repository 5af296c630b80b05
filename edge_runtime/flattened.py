"""A second look at bent paper, flattened as the first look has it.

The fine finder knows grids whose squares are a few px off their usual size.  Beyond a fold paper may stand so steeply
that it shows half as wide: there its phases fail, by up to a millimetre where the paper ends.  The first lattice is
nearly right there, so that along it the paper shows flat: the finder is asked once more how far the lines lie off
where they should run in that picture.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.geometry import VIEW_PX_PER_MM, grid_xy, photo_xy, sample_photo
from ecg.marks import FINE_LEAST_PX, FINE_MOST_PX, FINE_PAD, FINE_STRIDE
from ecg.page import F32, LATTICE_MM, Mark, Photo, Sheet
from edge_runtime.coarse import planes, sigmoid
from edge_runtime.engines.base import Engine
from edge_runtime.lattice import RAD_PER_MM, Field, bilinear, both_unwrapped, grid_certainty

F64 = NDArray[np.float64]
# Log of how much wider or narrower than most of it some of the paper shows.  Of 120 rendered pages photographed every
# third has more; flattened, the worst of these came from 10 and 12 dB to 19, and few lost as much as 1.
STEEP: Final = 0.1
SHARE: Final = 98.0  # percentile of the cells with ink
AROUND_CELLS: Final = 15  # a facet is larger; tall traces bend the phases around them
FIRST_MM: Final = (FINE_STRIDE - 1) / 2 / VIEW_PX_PER_MM  # the first cell's middle
SEEN: Final = 0.5  # probability of a cell with ink
FIXED_POINTS: Final = 3


def stands_steep(field: Field, trace: F32) -> bool:
    """Whether some of the paper that the traces (h, w) run over shows much wider or narrower than the rest."""
    inked = trace > SEEN
    if field.lines_mm != LATTICE_MM or not inked.any():
        return False
    for axis in (0, 1):
        slope = cv2.blur(np.gradient(field.mm[..., axis], axis=1 - axis), (AROUND_CELLS, AROUND_CELLS))[inked]
        off = np.log(np.clip(slope / max(float(np.median(slope)), 1e-3), 0.2, 5.0))
        if np.percentile(np.abs(off), SHARE) > STEEP:
            return True
    return False


def looked_flat(
    photo: Photo, sheet: Sheet, cells: F32, marks: tuple[Mark, ...], fine: Engine
) -> tuple[Sheet, F32, tuple[Mark, ...]]:
    """Sheet, its nodes' cells (Ny, Nx, 2) and marks, moved to where the flattened picture shows the lines."""
    off_mm = _off_mm(photo, sheet, fine)
    if off_mm is None:
        return sheet, cells, marks
    ny, nx = sheet.node_px.shape[:2]
    wanted = np.stack(np.meshgrid(np.arange(nx), np.arange(ny)), axis=-1) * sheet.step_mm
    wanted = wanted.reshape(-1, 2) + [sheet.x0_mm, sheet.y0_mm]
    there = wanted
    for _ in range(FIXED_POINTS):
        there = wanted - _at(off_mm, sheet, there)
    moved = [
        photo_xy(replace(sheet, node_px=nodes), there).reshape(nodes.shape) for nodes in (sheet.node_px, cells)
    ]  # fmt: skip
    lost = np.isnan(moved[0]) | np.isnan(moved[1])
    node_px, node_cells = (
        np.where(lost, was, now).astype(np.float32)
        for was, now in zip((sheet.node_px, cells), moved, strict=True)
    )  # fmt: skip
    return replace(sheet, node_px=node_px), node_cells, tuple(_moved(m, off_mm, sheet) for m in marks)


def _moved(mark: Mark, off_mm: F32, sheet: Sheet) -> Mark:
    ((dx, dy),) = _at(off_mm, sheet, np.array([[mark.x_mm, mark.y_mm]])).tolist()
    return replace(mark, x_mm=mark.x_mm + dx, y_mm=mark.y_mm + dy)


def _at(off_mm: F32, sheet: Sheet, xy_mm: F64) -> F64:
    """Offsets (n, 2) at page points (n, 2), beyond the field's edge those of the edge."""
    at = xy_mm - [sheet.x0_mm + FIRST_MM, sheet.y0_mm + FIRST_MM]
    return bilinear(off_mm, np.clip(at, 0, np.array(off_mm.shape[1::-1]) - 1))


def _off_mm(photo: Photo, sheet: Sheet, fine: Engine) -> F32 | None:
    """How far page x and y lie beyond the sheet's (h, w, 2), a cell a millimetre; None for paper of too many px or
    next to none."""
    ny, nx = sheet.node_px.shape[:2]
    width, height = (-(-round((n - 1) * sheet.step_mm * VIEW_PX_PER_MM) // FINE_PAD) * FINE_PAD for n in (nx, ny))
    if width * height > FINE_MOST_PX or min(width, height) < FINE_LEAST_PX:
        return None
    xy = grid_xy(sheet, sheet.x0_mm + np.arange(width) / VIEW_PX_PER_MM,
                 sheet.y0_mm + np.arange(height) / VIEW_PX_PER_MM)  # fmt: skip
    out = fine(planes(sample_photo(photo, xy)))
    grid, paper = out["grid"][0], sigmoid(out["area"][0][0])
    x, y = (
        first + FIRST_MM + np.arange(n // FINE_STRIDE) for first, n in ((sheet.x0_mm, width), (sheet.y0_mm, height))
    )
    middle = xy[FINE_STRIDE // 2 :: FINE_STRIDE, FINE_STRIDE // 2 :: FINE_STRIDE]
    with np.errstate(invalid="ignore"):  # no lattice, not inside
        inside = ((middle >= 0) & (middle < [photo.rgb.shape[1], photo.rgb.shape[0]])).all(axis=-1)
    beside = [
        ((grid[k] + 1j * grid[k + 1]) * np.exp(-1j * RAD_PER_MM * there)).astype(np.complex64)
        for k, there in ((0, x[None]), (2, y[:, None]))
    ]
    both = both_unwrapped(beside, (grid_certainty(grid) * paper * inside).astype(np.float32))
    return np.stack([phase / RAD_PER_MM for phase, _ in both], axis=-1).astype(np.float32)
