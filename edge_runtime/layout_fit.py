"""From a matched layout to millimetres: column lines, and each strip's ends and baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ecg.page import LeadStrip
from edge_runtime.layout_board import nearest
from edge_runtime.layout_columns import STANDARD_MM, fit_lines, is_one_of
from edge_runtime.layout_evidence import (
    F64,
    I64,
    START_REACH_MM,
    Bools,
    Ink,
    Points,
    Seen,
    row_windows,
    smooth,
)
from edge_runtime.layout_match import Match

INK_SCORE: Final = 0.3  # of a start or an end that only the ink tells
END_TRUST_MM: Final = 1.5  # a row that ends this close to its last column's end ends there
LONE_END_MM: Final = 6.0
ROW_REACH_MM: Final = 14.0
MIN_STRIP_MM: Final = 5.0
MIN_COVER: Final = 0.15
ASTRAY_COVER: Final = 0.5  # of a cell whose trace runs far from its row: neighbours' waves cover less
CLEAR_MM: Final = 4.0  # of the neighbours' own traces

Cells = dict[tuple[int, int], tuple[str, float, float]]  # (row, column): lead, start and end mm
Levels = dict[tuple[int, int], tuple[float, float]]  # (row, column): cover, baseline mm


@dataclass(frozen=True)
class Columns:
    """Column c starts at x0_mm + c * width_mm and leaves its last gap_mm blank; short rows end at x_end_mm.

    ``sigma_mm``: of x0; ``nominal``: the width was snapped to a printed standard.
    """

    x0_mm: float
    width_mm: float
    x_end_mm: float
    sigma_mm: float
    nominal: bool
    gap_mm: float = 0.0


def fit_columns(match: Match, seen: Seen, ink: Ink) -> Columns:
    """The columns' lines from start and end marks; where there are none, from the ink's reach."""
    rows = np.array(match.rows_mm)
    ends, n_cols, n_base = _row_ends(match, seen, rows), match.spec.n_columns, len(match.spec.rows)
    row = _rows_of(seen.starts, rows)
    first, inner = seen.starts.where(row >= 0), seen.starts.where((row >= 0) & (row < n_base))
    guess = match.x0_mm, match.lattice.width_mm
    on_page = match.k0 >= match.lattice.k_min
    if on_page and not len(first.where(np.abs(first.x - guess[0]) < START_REACH_MM)):
        first = first.plus(ink_start(ink, rows, seen), INK_SCORE)
    right = ink_end(ink, rows)
    if match.lattice.single and not (ends.score.sum() > 1.5 or (np.abs(ends.x - right) < LONE_END_MM).any()):
        ends = Points(*np.array([[right], [right], [INK_SCORE]]))
    rhythm = _rows_of(ends, rows) >= n_base
    lone = match.spec.n_rows == n_cols == 1
    lines = fit_lines(first, inner, ends.where(~rhythm), ends.where(rhythm), n_cols, guess, lone)
    gap = lines.gap_mm
    if not (lines.nominal or gap or match.lattice.single):
        gap = _blank(ink, rows[:n_base], lines.x0_mm, lines.pitch_mm, n_cols)
    end = lines.x0_mm + n_cols * lines.pitch_mm - gap
    end = end if lone else _end(end, ends.where(~rhythm) if gap else ends, ink, rows)
    return Columns(lines.x0_mm, lines.pitch_mm, end, lines.sigma_mm, lines.nominal, gap)


def _blank(ink: Ink, rows: F64, x0: float, width: float, n_cols: int) -> float:
    """Millimetres left blank between columns, 0 where traces run through; the rest of a column is a usual width."""
    low, high = row_windows(rows[np.isfinite(rows)])
    reach, runs = round(6.0 / ink.cell_mm), []
    for a, b in zip(low, high, strict=True):
        busy: Bools = np.asarray(ink.there[ink.rows(float(a), float(b))].any(axis=0))
        for line in x0 + width * np.arange(1, n_cols):
            j = int(np.searchsorted(ink.xs, line - 0.5 * ink.cell_mm))
            before = busy[j - reach : j][::-1] if reach <= j < len(busy) - reach else busy[:0]
            if before.any() and busy[j : j + reach].any():
                first = int(before[:3].argmin()) if not before[:3].all() else reach
                # Ink reaches half a cell into both of a blank's neighbours.
                runs.append((int(before[first:].argmax()) + 1) * ink.cell_mm if first < 2 else 0.0)
    if len(runs) < 3 or np.mean(np.array(runs) > 0) < 0.7 or is_one_of(width, STANDARD_MM):
        return 0.0
    blank = float(np.median(runs))
    gap = min((width - w for w in STANDARD_MM), key=lambda g: abs(g - blank))
    return gap if abs(gap - blank) < 1.2 and gap > 0 else blank if blank >= 1.5 and len(runs) >= 6 else 0.0


def _rows_of(points: Points, rows: F64) -> I64:
    """The row that each point (n,) stands beside, -1 for none."""
    row = nearest(points.y, np.where(np.isfinite(rows), rows, 1e6))
    return np.where(np.abs(points.y - rows[row]) <= ROW_REACH_MM, row, -1)


def _row_ends(match: Match, seen: Seen, rows: F64) -> Points:
    """End marks beside the layout's rows and right of its last column's middle."""
    e, known = seen.ends, rows[np.isfinite(rows)]
    # A row's last point may lie anywhere on a beat: half a row's distance off, or more.
    near = np.abs(e.y[:, None] - known[None, :]).min(axis=1, initial=1e6) <= 1.5 * ROW_REACH_MM
    width = match.lattice.width_mm
    good = near & (e.x > match.x0_mm + (match.spec.n_columns - 0.65) * width)
    return Points(e.x[good], e.y[good], e.score[good])


def _middle(points: Points) -> float:
    """Weighted median of x."""
    order = np.argsort(points.x)
    total = np.cumsum(points.score[order])
    return float(points.x[order][np.searchsorted(total, total[-1] / 2)])


def _end(planned_mm: float, ends: Points, ink: Ink, rows: F64) -> float:
    """Where rows end: as planned, unless the end marks agree on another place or the ink stops well before."""
    if len(ends):
        middle = _middle(ends)
        agree = ends.score[np.abs(ends.x - middle) < END_TRUST_MM].sum()
        return middle if abs(middle - planned_mm) > END_TRUST_MM and agree >= 1.0 else planned_mm
    last = ink_end(ink, rows)
    return last if last < planned_mm - 4.0 else planned_mm


def ink_start(ink: Ink, rows: F64, seen: Seen) -> float:
    """Median over the rows of the first millimetre with lasting ink, right of the calibration pulses on the left."""
    first, _ = _ink_span(ink, rows)
    edges = [m.x_mm + m.width_mm / 2 + 1.0 for m in seen.pulses if m.x_mm - m.width_mm < first + 12.0]
    return max(first, float(np.median(edges))) if edges else first


def ink_end(ink: Ink, rows: F64) -> float:
    """Median over the rows of the last millimetre with lasting ink."""
    return _ink_span(ink, rows)[1]


def _ink_span(ink: Ink, rows: F64) -> tuple[float, float]:
    """Where the rows' ink starts and ends: specks don't count."""
    levels = rows[np.isfinite(rows)]
    short, long = max(1, round(3.0 / ink.cell_mm)), max(2, round(10.0 / ink.cell_mm))
    first, last = [], []
    for a, b in zip(*row_windows(levels), strict=True):
        busy: Bools = np.asarray(ink.there[ink.rows(float(a), float(b))].any(axis=0))
        start, stop = _lasting(busy, short, long), _lasting(busy[::-1], short, long)
        if start is not None and stop is not None:
            first.append(ink.xs[start])
            last.append(ink.xs[len(busy) - 1 - stop])
    half = ink.cell_mm / 2
    return (float(np.median(first)) - half, float(np.median(last)) + half) if first else (ink.xs[0], ink.xs[-1])


def _lasting(busy: Bools, short: int, long: int) -> int | None:
    """First index from where ``short`` cells in a row have ink and most of the next ``long`` ones."""
    total, n = np.concatenate([[0], np.cumsum(np.pad(busy, (0, long)))]), len(busy)
    good = (total[short : n + short] - total[:n] == short) & (total[long : n + long] - total[:n] >= 0.7 * long)
    return int(good.argmax()) if good.any() else None


def make_strips(match: Match, columns: Columns, ink: Ink, speed_mm_per_s: float) -> list[LeadStrip]:
    """A strip for every cell that shows ink; gain 10, to be replaced. Spans end where the paper or the photo does."""
    strips: list[LeadStrip] = []
    sure = dict(zip(range(len(match.spec.rows), match.spec.n_rows), match.rhythm_confidence, strict=False))
    cells = _cells(match, columns, ink)
    levels = _levels(match, ink, cells)
    for (row, col), (lead, a, b) in cells.items():
        if (row, col) not in levels:
            continue
        cover, baseline = levels[row, col]
        start_s = max(a - columns.x0_mm - col * columns.gap_mm, 0.0) / speed_mm_per_s
        trust = match.confidence * sure.get(row, 1.0) * min(1.0, 0.3 + cover)
        strips.append(LeadStrip(lead, row, a, b, baseline, start_s, 10.0, round(trust, 3)))
    return strips


def _cells(match: Match, columns: Columns, ink: Ink) -> Cells:
    """The layout's cells of which the photo shows enough."""
    cells: Cells = {}
    for lead, row, col, span in match.spec.cells():
        if not lead or not np.isfinite(match.rows_mm[row]):
            continue
        x0 = columns.x0_mm + col * columns.width_mm
        last = col + span == match.spec.n_columns
        through = row < len(match.spec.rows) or not columns.gap_mm
        x1 = columns.x_end_mm if last and through else x0 + _free_width(match, row, col, columns)
        a, b = _seen_span(ink, match.rows_mm[row], x0, x1)
        if b - a >= max(MIN_STRIP_MM, 0.08 * columns.width_mm):
            cells[row, col] = lead, a, b
    return cells


def _levels(match: Match, ink: Ink, cells: Cells) -> Levels:
    """Cover and baseline of each cell that shows ink: beside its row, or, where a trace has wandered off
    it, anywhere between the traces above and below."""
    rows = np.array(match.rows_mm)
    known = np.sort(rows[np.isfinite(rows)])
    low, high = row_windows(known)
    found: Levels = {}
    for (row, col), (_, a, b) in cells.items():
        i = int(np.searchsorted(known, rows[row]))
        found[row, col] = _level(ink, a, b, float(low[i]), float(high[i]), float(rows[row]))
    seen = {at: level for at, level in found.items() if level[0] >= MIN_COVER}
    for row, col in [at for at, level in found.items() if level[0] < ASTRAY_COVER]:
        above = seen.get((row - 1, col))
        below = seen.get((row + 1, col), seen.get((row + 1, 0)) if row + 1 >= len(match.spec.rows) else None)
        if above is not None and below is not None:
            _, a, b = cells[row, col]
            level = _level(ink, a, b, above[1] + CLEAR_MM, below[1] - CLEAR_MM, float(rows[row]))
            if level[0] >= ASTRAY_COVER:
                seen[row, col] = level
    return seen


def _free_width(match: Match, row: int, col: int, columns: Columns) -> float:
    """A cell's width: one column, or more where the cells right of it have no trace of their own."""
    if row >= len(match.spec.rows):
        return (columns.width_mm - columns.gap_mm) * match.spec.n_columns
    n = 1
    while col + n < match.spec.n_columns and not match.spec.rows[row][col + n]:
        n += 1
    return columns.width_mm * n - columns.gap_mm


def _seen_span(ink: Ink, y_mm: float, x0_mm: float, x1_mm: float) -> tuple[float, float]:
    """The part of [x0, x1] on paper that the photo shows, along one baseline; x1 = x0 where there is none."""
    xs = np.arange(x0_mm, x1_mm, ink.cell_mm)
    shown = np.zeros(xs.shape, dtype=bool)
    for dy in (-1.0, 0.0, 1.0):
        shown |= ink.page_at(xs, np.full(xs.shape, y_mm + dy))
    at = np.flatnonzero(shown)
    if not at.size:
        return x0_mm, x0_mm
    a = x0_mm if at[0] == 0 else float(xs[at[0]])
    b = x1_mm if at[-1] == len(xs) - 1 else float(xs[at[-1]]) + ink.cell_mm
    return a, b


def _level(ink: Ink, x0: float, x1: float, low: float, high: float, row_mm: float) -> tuple[float, float]:
    """Share of a cell's columns with ink, and its baseline: the ink's densest height, then the median around it."""
    rows, cols = ink.rows(low, high), ink.columns(x0 + 1.0, x1 - 1.0)
    if rows.stop <= rows.start or cols.stop <= cols.start:
        return 0.0, row_mm
    cover = float(ink.there[rows, cols].any(axis=0).mean())
    profile, ys = ink.mass[rows, cols].sum(axis=1), ink.ys[rows]
    if profile.sum() <= 0:
        return 0.0, row_mm
    # Neighbours' strokes reach into the window from its edges: the row's own level is nearer its middle.
    peak = ys[int((smooth(profile, 1.2 / ink.cell_mm) * np.exp(-0.5 * ((ys - row_mm) / 8.0) ** 2)).argmax())]
    near = np.abs(ys - peak) <= 2.5
    weights = np.cumsum(profile[near])
    edges = np.concatenate([[0.0], weights]) / weights[-1]
    bounds = np.append(ys[near] - ink.cell_mm / 2, ys[near][-1] + ink.cell_mm / 2)
    return cover, float(np.interp(0.5, edges, bounds))
