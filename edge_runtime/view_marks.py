"""What the fine finder's maps show of marks and of ink, in page mm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from ecg.marks import END_KINDS, MARK_KINDS, PULSE_REF_MM, TEXT_KINDS
from ecg.page import F32, Mark, Sheet, TraceMap
from edge_runtime.lattice import Field, bilinear
from edge_runtime.mark_reader import surest_apart

if TYPE_CHECKING:
    from edge_runtime.finder import Maps

MARK_SCORE: Final = 0.2
TEXT_APART_MM: Final = 5.0


def find_marks(maps: Maps, field: Field) -> tuple[Mark, ...]:
    """Peaks of the marks' maps, in page mm."""
    marks = maps.marks
    kinds, rows, columns = np.unravel_index(np.flatnonzero(marks > MARK_SCORE), marks.shape)
    best = {k: cv2.dilate(marks[k], np.ones((3, 3), np.uint8)) for k in np.unique(kinds).tolist()}
    peak = np.array([best[k][i, j] == marks[k, i, j] for k, i, j in zip(kinds, rows, columns, strict=True)], dtype=bool)
    kinds, rows, columns = kinds[peak], rows[peak], columns[peak]
    if not len(kinds):
        return ()
    ends = np.isin(kinds, [MARK_KINDS.index(k) for k in END_KINDS]).astype(int) * 2
    dx, dy = maps.place[ends, rows, columns], maps.place[ends + 1, rows, columns]
    mm = bilinear(field.mm, np.stack([columns + np.clip(dx, -1, 1), rows + np.clip(dy, -1, 1)], axis=-1))
    size = PULSE_REF_MM * 2.0 ** np.clip(maps.place[4:6, rows, columns], -2, 2)
    found = tuple(
        Mark(MARK_KINDS[k], float(p[0]), float(p[1]), float(marks[k, i, j]), *(
            (float(s[0]), float(s[1])) if MARK_KINDS[k] == "pulse" else (0.0, 0.0)))
        for k, i, j, p, s in zip(kinds, rows, columns, mm, size.T, strict=True)
    )  # fmt: skip
    # One text can't say both of two speeds or gains.
    texts = surest_apart((m for m in found if m.kind in TEXT_KINDS), TEXT_APART_MM)
    return tuple(m for m in found if m.kind not in TEXT_KINDS) + texts


def trace_map(maps: Maps, sheet: Sheet, cells: F32) -> TraceMap:
    """The ink map resampled to page millimetres."""
    ny, nx = cells.shape[:2]
    step = np.float32(sheet.step_mm)
    x, y = (np.arange((n - 1) * sheet.step_mm + 0.5, dtype=np.float32) / step for n in (nx, ny))
    grid_x, grid_y = np.meshgrid(x, y)
    known = np.isfinite(cells[..., 0])
    at = [cv2.remap(np.nan_to_num(cells[..., k], nan=-1e3), grid_x, grid_y, cv2.INTER_LINEAR) for k in (0, 1)]
    near = cv2.remap(known.astype(np.float32), grid_x, grid_y, cv2.INTER_LINEAR) > 0.999
    density = cv2.remap(maps.trace, at[0], at[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return TraceMap(np.where(near, density, 0).astype(np.float32), near, sheet.x0_mm, sheet.y0_mm)
