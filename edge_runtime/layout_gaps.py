"""Blanks between columns as the decoder saw them: they take paper but no time.

The finder's ink has cells of a millimetre and can't tell a separator from a blank of two; the decoder's presence has
eight columns a millimetre.  Some machines draw a line through their blanks: where marks told of blanks beside columns
of a usual width, a trace that runs through is no news.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np

from ecg.page import LeadStrip, PageLayout
from edge_runtime.decoder import RowTrace
from edge_runtime.layout_columns import STANDARD_MM

ABSENT: Final = 0.35
REACH_MM: Final = 7.0  # a blank is no wider
BESIDE_MM: Final = 1.2  # it ends this near to where the next column starts
LEAST_MM: Final = 0.9
AGREE_MM: Final = 0.7
MIN_BOUNDARIES: Final = 3
MIN_AGREEING: Final = 0.7
EXACT_MM: Final = 0.06
SEPARATOR_MM: Final = 2.0  # a stroke between columns of a usual distance hides less of the traces


def with_seen_gaps(rows: tuple[RowTrace, ...], layout: PageLayout) -> tuple[tuple[RowTrace, ...], PageLayout]:
    """Rows and layout with the columns' ends and starting times moved, where the blanks are others than was thought."""
    strips = [sorted(r.strips, key=lambda s: s.x0_mm) for r in rows]
    base = [row for row in strips if len(row) > 1]
    if not base or layout.name == "partial":
        return rows, layout
    pitch = float(np.median([b.x0_mm - a.x0_mm for row in base for a, b in pairwise(row)]))
    thought = pitch - float(np.median([s.x1_mm - s.x0_mm for row in base for s in row[:-1]]))
    seen = np.array([_blank_mm(r, s.x0_mm) for r, row in zip(rows, strips, strict=True) for s in row[1:]])
    if len(seen) < MIN_BOUNDARIES:
        return rows, layout
    gap = float(np.median(seen))
    if (np.abs(seen - gap) < AGREE_MM).mean() < MIN_AGREEING:
        return rows, layout
    gap = gap if gap > LEAST_MM else 0.0
    if abs(gap - thought) < AGREE_MM or (not gap and _usual(pitch - thought)):
        return rows, layout
    if gap < SEPARATOR_MM and not thought and _usual(pitch):
        return rows, layout
    speed = layout.paper_speed_mm_per_s
    moved = [tuple(_moved(s, k, len(row), pitch, gap, thought, speed) for k, s in enumerate(row)) for row in strips]
    rows = tuple(replace(r, strips=row) for r, row in zip(rows, moved, strict=True))
    return rows, replace(layout, strips=tuple(s for row in moved for s in row))


def _usual(width_mm: float) -> bool:
    return any(abs(width_mm - w) < EXACT_MM for w in STANDARD_MM)


def _blank_mm(row: RowTrace, start_mm: float) -> float:
    """How wide the blank is that ends where a column starts; 0 where the trace runs through."""
    near = (row.x_mm > start_mm - REACH_MM) & (row.x_mm < start_mm + BESIDE_MM)
    absent = row.presence[near] < ABSENT
    if not absent.any():
        return 0.0
    last = int(np.flatnonzero(absent)[-1])
    if row.x_mm[near][last] < start_mm - BESIDE_MM:
        return 0.0
    run = int(np.argmin(absent[: last + 1][::-1])) if not absent[: last + 1].all() else last + 1
    return run * float(np.median(np.diff(row.x_mm)))


def _moved(strip: LeadStrip, column: int, of: int, pitch: float, gap: float, thought: float, speed: float) -> LeadStrip:
    """A strip with the gap that was seen instead of the one that was thought of."""
    if of == 1:  # a rhythm strip has no blanks: it is as long as all columns' time
        columns = max(1, round((strip.x1_mm - strip.x0_mm) / pitch))
        return replace(strip, x1_mm=strip.x1_mm + columns * (thought - gap)) if columns > 1 else strip
    start_s = max(strip.start_s + column * (thought - gap) / speed, 0.0)
    return replace(strip, x1_mm=strip.x1_mm + thought - gap, start_s=start_s)
