"""Rows cut to a length of their own, read on to where the decoder saw their traces end.

Where a page's width is none of the usual ones, only end marks tell it, and those of a lone row may lie on the last
beat instead of behind it: 20 ms less would cut it off.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from ecg.page import PageLayout
from edge_runtime.decoder import RowTrace
from edge_runtime.layout_columns import USUAL_MM, is_one_of

PRESENT: Final = 0.5
REACH_MM: Final = 2.0  # a trace that runs on for longer is another one
ROUND_END_MM: Final = 0.35  # a stroke shows this much longer than its trace is
LEAST_MM: Final = 0.15
AGREE: Final = 0.5  # of the rows


def with_seen_ends(rows: tuple[RowTrace, ...], layout: PageLayout) -> tuple[tuple[RowTrace, ...], PageLayout]:
    """Rows and layout with all ends moved to the right, where rows of one column and of no usual width run on."""
    strips = layout.strips
    width = max(s.x1_mm - s.x0_mm for s in strips)
    if any(len(r.strips) != 1 for r in rows) or is_one_of(width, USUAL_MM):
        return rows, layout
    end = max(s.x1_mm for s in strips)
    seen = np.array([_runs_on_mm(r, end) for r in rows if r.strips[0].x1_mm == end])
    more = float(np.median(seen[seen > 0])) - ROUND_END_MM if (seen > 0).mean() >= AGREE else 0.0
    if more < LEAST_MM:
        return rows, layout
    longer = {s: replace(s, x1_mm=s.x1_mm + more) if s.x1_mm == end else s for s in strips}
    rows = tuple(replace(r, strips=tuple(longer[s] for s in r.strips)) for r in rows)
    return rows, replace(layout, strips=tuple(longer.values()))


def _runs_on_mm(row: RowTrace, end_mm: float) -> float:
    """How far a row's trace runs on behind its end; 0 where it stops before, or not within reach."""
    x, present = row.x_mm, row.presence > PRESENT
    after = (x >= end_mm) & (x < end_mm + REACH_MM)
    if not after.any() or present[after].all() or not present[after][0]:
        return 0.0
    return float(x[after][int(np.argmin(present[after]))] - end_mm)
