"""From a matched layout to millimetres: column lines by robust least squares, and each strip's ends and baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ecg.page import LeadStrip
from edge_runtime.layout_board import nearest
from edge_runtime.layout_evidence import (
    F64,
    I64,
    LABEL_INDEX,
    START_REACH_MM,
    Bools,
    Ink,
    Points,
    Seen,
    row_windows,
    smooth,
)
from edge_runtime.layout_match import Match

START_SIGMA_MM: Final = 0.35
NAME_SIGMA_MM: Final = 1.8  # names of unlike width are centred unlike
METRIC_TRUST: Final = 0.003  # the lattice of the paper is metric within this
# Printed column widths and how usual they are: 2.5, 10/3, 5 and 10 s at 25 or 50 mm/s; 2, 2.4, 2.56, 3, 4 s on some.
USUAL_MM: Final = {w: 1.0 for w in (62.5, 250.0 / 3.0, 125.0, 250.0, 500.0)} | {
    w: 0.05 for w in (31.25, 50.0, 60.0, 64.0, 75.0, 100.0, 120.0, 128.0, 150.0)
}
END_TRUST_MM: Final = 1.5  # a row that ends this close to its last column's end ends there
END_REACH_MM: Final = 10.0
END_PROOF: Final = 5.0
LONE_END_MM: Final = 6.0
ROW_REACH_MM: Final = 14.0
MIN_STRIP_MM: Final = 5.0
MIN_COVER: Final = 0.15


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
    """One weighted least squares of all starts, names and ends for x0, the column width and the names' offset.

    Cauchy weights let false marks go.  A width within its error (or 0.3 %) of a standard one becomes that one.
    """
    rows = np.array(match.rows_mm)
    ends = _row_ends(match, seen, rows)
    if match.lattice.single:
        return _fit_single(match, seen, ink, rows, ends)
    a, x, sigma = _equations(match, seen, ink, rows)
    n_cols = match.spec.n_columns
    guess = np.array([match.x0_mm, match.lattice.width_mm, match.board.shift_mm])
    fit, cov = _robust(a, x, sigma, guess)
    gap = _blank(ink, rows[: len(match.spec.rows)], float(fit[0]), float(fit[1]), n_cols)
    short = abs(_middle(ends) - fit[0] - n_cols * fit[1]) if len(ends) and not gap else np.inf
    if short < END_REACH_MM:
        # Ends that fit speak for the width too; others do where they explain much: few starts, one of them false.
        with_ends = np.concatenate([a, np.tile([1.0, float(n_cols), 0.0], (len(ends), 1))])
        all_x, all_sigma = np.concatenate([x, ends.x]), np.concatenate([sigma, START_SIGMA_MM / np.sqrt(ends.score)])
        other, other_cov = _robust(with_ends, all_x, all_sigma, guess)
        won = _cost(with_ends, all_x, all_sigma, fit) - _cost(with_ends, all_x, all_sigma, other)
        if short < END_TRUST_MM or won > END_PROOF:
            a, x, sigma, fit, cov = with_ends, all_x, all_sigma, other, other_cov
    width, snapped = snap(float(fit[1]), float(np.sqrt(cov[1, 1])))
    if snapped:
        fit, cov = _robust(a[:, [0, 2]], x - a[:, 1] * width, sigma, fit[[0, 2]])
    x0 = float(fit[0])
    end = _end(x0 + n_cols * width - gap, ends, ink, rows)
    return Columns(x0, width, end, float(np.sqrt(cov[0, 0])), snapped, gap)


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
    usual = [w for w, share in USUAL_MM.items() if share == 1.0]
    if len(runs) < 3 or np.mean(np.array(runs) > 0) < 0.7 or min(abs(width / w - 1) for w in usual) < METRIC_TRUST:
        return 0.0
    blank = float(np.median(runs))
    gap = min((width - w for w in usual), key=lambda g: abs(g - blank))
    return gap if abs(gap - blank) < 1.2 and gap > 0 else blank if blank >= 1.5 and len(runs) >= 6 else 0.0


def snap(width_mm: float, sigma_mm: float) -> tuple[float, bool]:
    """The standard width that a measured one stands for, and whether it does."""
    widths, usual = np.array(list(USUAL_MM)), np.array(list(USUAL_MM.values()))
    spread = np.hypot(min(sigma_mm, 1.2), METRIC_TRUST / 2 * widths)
    z = (widths - width_mm) / spread
    best = int((np.log(usual / spread) - 0.5 * z**2).argmax())
    return (float(widths[best]), True) if abs(z[best]) <= 2.5 else (width_mm, False)


def _equations(match: Match, seen: Seen, ink: Ink, rows: F64) -> tuple[F64, F64, F64]:
    """Rows of the least squares: coefficients (n, 3) of (x0, width, names' offset), measured x (n,), sigma (n,)."""
    n_cols, n_base = match.spec.n_columns, len(match.spec.rows)
    row, col = _cells_of(seen.starts.x, seen.starts.y, match, rows, START_REACH_MM, ROW_REACH_MM)
    use = (row >= 0) & ((row < n_base) | (col == 0)) & (col < n_cols)
    c = col[use].astype(np.float64)
    starts = np.stack([np.ones_like(c), c, np.zeros_like(c)], axis=1)
    lead_row, lead_col = _cells_of(
        seen.names.x - match.board.shift_mm, seen.names.y - match.board.drop_mm, match, rows, 6.0, ROW_REACH_MM / 2
    )
    wanted = {(r, k): LABEL_INDEX.get(lead, -1) for lead, r, k, _ in match.spec.cells()}
    told = [i for i in range(len(lead_row)) if wanted.get((int(lead_row[i]), int(lead_col[i])), -2) == seen.label[i]]
    c = lead_col[told].astype(np.float64)
    names = np.stack([np.ones_like(c), c, np.ones_like(c)], axis=1)
    sigma_starts: F64 = START_SIGMA_MM / np.sqrt(seen.starts.score[use])
    sigma_names = NAME_SIGMA_MM / np.sqrt(seen.names.score[told])
    start_x = seen.starts.x[use]
    if not use.any() and match.k0 >= match.lattice.k_min:
        starts, start_x = np.array([[1.0, 0.0, 0.0]]), np.array([ink_start(ink, rows, seen)])
        sigma_starts = np.ones(1)
    x = np.concatenate([start_x, seen.names.x[told]])
    return np.concatenate([starts, names]), x, np.concatenate([sigma_starts, sigma_names])


def _cells_of(x: F64, y: F64, match: Match, rows: F64, reach_x: float, reach_y: float) -> tuple[I64, I64]:
    """Row and column of points at traces' starts; row -1 where a point is no cell's."""
    row = nearest(y, np.where(np.isfinite(rows), rows, 1e6))
    col = np.rint((x - match.x0_mm) / match.lattice.width_mm).astype(np.int64)
    off = np.abs(x - match.x0_mm - col * match.lattice.width_mm)
    good = (np.abs(y - rows[row]) <= reach_y) & (off <= reach_x) & (col >= 0) & (col < match.spec.n_columns)
    return np.where(good, row, -1), col


def _robust(a: F64, x: F64, sigma: F64, guess: F64) -> tuple[F64, F64]:
    """Cauchy-weighted least squares with a faint pull to the guess; the solution (p,) and its covariance (p, p)."""
    fit: F64 = guess
    pull = np.diag([1.0 / 30.0**2] + [1.0 / 3.0**2] * (len(guess) - 1))
    cov: F64 = np.linalg.inv(pull)
    for step in range(8):
        r = (x - a @ fit) / sigma if step else np.zeros_like(x)  # outliers are few and near: start from least squares
        w = 1.0 / (sigma**2 * (1.0 + (r / 2.4) ** 2))
        normal = (a * w[:, None]).T @ a + pull
        cov = np.linalg.inv(normal)
        fit = cov @ ((a * w[:, None]).T @ x + pull @ guess)
    return fit, cov


def _cost(a: F64, x: F64, sigma: F64, fit: F64) -> float:
    """What a solution leaves unexplained, on the scale of ``_robust``'s weights."""
    return float(np.log1p(((x - a @ fit) / (2.4 * sigma)) ** 2).sum())


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


def _fit_single(match: Match, seen: Seen, ink: Ink, rows: F64, ends: Points) -> Columns:
    """One column: its start from the start marks, its end from the end marks or the ink."""
    a, x, sigma = _equations(match, seen, ink, rows)
    fit, cov = _robust(a[:, [0, 2]], x, sigma, np.array([match.x0_mm, match.board.shift_mm]))
    x0, right, sigma_0 = float(fit[0]), ink_end(ink, rows), float(np.sqrt(cov[0, 0]))
    sigma_1 = 1.0
    # A single end mark counts where the ink ends too.
    if len(ends) and (ends.score.sum() > 1.5 or abs(_middle(ends) - right) < LONE_END_MM):
        right = _middle(ends)
        sigma_1 = START_SIGMA_MM / np.sqrt(max(1, (np.abs(ends.x - right) < END_TRUST_MM).sum()))
    width, snapped = snap(right - x0, float(np.hypot(sigma_0, sigma_1)))
    if snapped:  # both ends now speak for the start
        share = sigma_0**2 / (sigma_0**2 + sigma_1**2)
        x0, sigma_0 = x0 + share * (right - width - x0), sigma_0 * sigma_1 / float(np.hypot(sigma_0, sigma_1))
    return Columns(x0, width, x0 + width, sigma_0, snapped)


def make_strips(match: Match, columns: Columns, ink: Ink, speed_mm_per_s: float) -> list[LeadStrip]:
    """A strip for every cell that shows ink; gain 10, to be replaced. Spans end where the paper or the photo does."""
    rows = np.array(match.rows_mm)
    known = np.sort(rows[np.isfinite(rows)])
    low, high = row_windows(known)
    strips: list[LeadStrip] = []
    sure = dict(zip(range(len(match.spec.rows), match.spec.n_rows), match.rhythm_confidence, strict=False))
    for lead, row, col, span in match.spec.cells():
        if not lead or not np.isfinite(rows[row]):
            continue
        x0 = columns.x0_mm + col * columns.width_mm
        last = col + span == match.spec.n_columns
        through = row < len(match.spec.rows) or not columns.gap_mm
        x1 = columns.x_end_mm if last and through else x0 + _free_width(match, row, col, columns)
        a, b = _seen_span(ink, float(rows[row]), x0, x1)
        if b - a < max(MIN_STRIP_MM, 0.08 * columns.width_mm):
            continue
        i = int(np.searchsorted(known, rows[row]))
        cover, baseline = _level(ink, a, b, float(low[i]), float(high[i]), float(rows[row]))
        if cover < MIN_COVER:
            continue
        start_s = max(a - columns.x0_mm - col * columns.gap_mm, 0.0) / speed_mm_per_s
        trust = match.confidence * sure.get(row, 1.0) * min(1.0, 0.3 + cover)
        strips.append(LeadStrip(lead, row, a, b, baseline, start_s, 10.0, round(trust, 3)))
    return strips


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
