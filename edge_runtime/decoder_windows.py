"""What the decoder is shown of a row: tiles as wide as its net, each as high as the ink there needs.

The net has the same number of rows for every window, so a low trace is seen larger, and fewer neighbours with it, in a
window that is fitted to it.  Rows of several columns keep the usual window: the net loses more where their traces jump
than it gains between.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from ecg.geometry import StripWindow
from ecg.leads import is_limb
from ecg.marks import STRIP_COLUMNS, STRIP_LEAST_HALF_MM, STRIP_PX_PER_MM_X, STRIP_ROWS, strip_half_height_mm
from ecg.page import LeadStrip, PageLayout
from edge_runtime.layout_evidence import F64, Ink

OVERLAP_COLUMNS: Final = 96  # tiles share these; each is trusted to the middle of what it shares
MOST_TILES: Final = 3  # read at once: more take memory, and leave cores without work at a page's end
LEAST_COLUMNS: Final = 256  # of a row's last tile, which ends where the row does
COLUMNS_STEP: Final = 32  # the net halves its columns five times
BEFORE_MM, AFTER_MM = 6.0, 6.0
NEAR_MM: Final = 2.5  # ink that touches a row's baseline is the row's
MARGIN_MM: Final = 4.0  # beyond the ink as the finder saw it
BARE_MM: Final = 4.0  # a row has no longer stretch without ink

Rows = tuple[tuple[LeadStrip, ...], ...]


def tiles_columns(n: int, last: int = STRIP_COLUMNS) -> int:
    """The columns of ``n`` tiles, each of which goes on where the one before ends; ``last``: those of the last."""
    return (n - 1) * (STRIP_COLUMNS - OVERLAP_COLUMNS) + last


def rows_of(layout: PageLayout) -> Rows:
    """The layout's strips row by row, from the top."""
    return tuple(tuple(s for s in layout.strips if s.row == r) for r in sorted({s.row for s in layout.strips}))


def tile_windows(rows: Rows, layout: PageLayout, ink: Ink | None) -> tuple[tuple[StripWindow, ...], ...]:
    """The windows of every row, left to right; where ``ink`` is given, low ones for low traces."""
    centres = np.array([centre_mm(strips) for strips in rows])
    out = []
    for strips, centre in zip(rows, centres, strict=True):
        usual = usual_half_mm(strips, layout)
        tiles = []
        span = min(s.x0_mm for s in strips), max(s.x1_mm for s in strips)
        for x0, per_mm, n_columns in _places(strips, layout):
            seen = max(x0, span[0]), min(x0 + n_columns / per_mm, span[1])
            # Where columns meet, traces jump: read over a wide window this shows better.
            reach = None if ink is None or len(strips) > 1 else reach_mm(ink, float(centre), centres, *seen)
            half = usual if reach is None else min(usual, max(reach + MARGIN_MM, STRIP_LEAST_HALF_MM))
            tiles.append(StripWindow(x0, float(centre), half, per_mm, n_columns, STRIP_ROWS))
        out.append(tuple(tiles))
    return tuple(out)


def usual_half_mm(strips: tuple[LeadStrip, ...], layout: PageLayout) -> float:
    """Half the height that a row's gain asks for."""
    return strip_half_height_mm(
        layout.gain_mm_per_mv if any(is_limb(s.lead) for s in strips) else strips[0].gain_mm_per_mv
    )


def centre_mm(strips: tuple[LeadStrip, ...]) -> float:
    """The middle of a row's windows."""
    return float(np.average([s.baseline_mm for s in strips], weights=[s.x1_mm - s.x0_mm for s in strips]))


def _places(strips: tuple[LeadStrip, ...], layout: PageLayout) -> list[tuple[float, float, int]]:
    """Where tiles start, page mm, their columns a mm, and how many: the last has those alone that the row needs."""
    per_mm = STRIP_PX_PER_MM_X[min(STRIP_PX_PER_MM_X, key=lambda s: abs(s - layout.paper_speed_mm_per_s))]
    x0 = min(s.x0_mm for s in strips) - BEFORE_MM
    x1 = max(s.x1_mm for s in strips) + AFTER_MM
    step = STRIP_COLUMNS - OVERLAP_COLUMNS
    needed = (x1 - x0) * per_mm
    n = max(1, int(np.ceil((needed - OVERLAP_COLUMNS) / step)))
    rest = int(np.ceil((needed - (n - 1) * step) / COLUMNS_STEP)) * COLUMNS_STEP
    last = min(max(rest, LEAST_COLUMNS), STRIP_COLUMNS)
    return [(x0 + k * step / per_mm, per_mm, STRIP_COLUMNS if k < n - 1 else last) for k in range(n)]


def reach_mm(ink: Ink, centre_mm: float, centres_mm: F64, x0_mm: float, x1_mm: float) -> float | None:
    """How far ink that may be a row's reaches from its middle: what hangs together with ink on its baseline, and what
    no other row's middle is nearer to.  None where that leaves the row without ink for a stretch: it runs elsewhere."""
    there = ink.there[:, ink.columns(x0_mm, x1_mm)]
    away = np.abs(ink.ys - centre_mm)
    _, parts = cv2.connectedComponents(np.ascontiguousarray(there, dtype=np.uint8), connectivity=8)
    touching = np.unique(parts[away <= NEAR_MM])
    nearest = away <= np.abs(ink.ys[:, None] - centres_mm).min(axis=1) + 1e-6
    own = np.isin(parts, touching[touching > 0]) | (there & nearest[:, None])
    inked = np.flatnonzero(np.concatenate([[True], own.any(axis=0), [True]]))
    if (np.diff(inked) - 1).max() * ink.cell_mm > BARE_MM:
        return None
    return float(away[own.any(axis=1)].max(initial=0.0))
