"""Which arrangement of leads explains the marks: every known layout, slid over the columns and dropped on the rows.

For one lattice of columns and one drop of the names below their baselines, each pair (level, column) collects what
speaks for each lead being printed there.  A layout at a given column shift is then a table of wanted leads; its rows
are laid on levels in order by dynamic programming, skipping levels (false ones) and rows (cropped ones) at a cost.
All layouts and shifts run through the programme side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import numpy as np

from ecg.layouts import LAYOUTS, LayoutSpec
from edge_runtime.layout_board import OFF_PAGE, ROW_INK, Board
from edge_runtime.layout_evidence import F64, I64, LABEL_INDEX, LABELS, Ink, Lattice
from edge_runtime.layout_rhythm import RHYTHM_PRIOR, RHYTHM_RARE, name_rhythm, rhythm_likeness

ROW_CUT: Final = -0.7  # a row above or below what is seen
ROW_LOST: Final = -2.5  # a row missing between others
USUAL_PAGE_MM: Final = {2: (250.0, 500.0), 3: (187.5, 250.0, 375.0, 500.0), 4: (250.0, 500.0)}  # by columns
ODD_WIDTH: Final = -2.5
MAX_TRACED: Final = 10  # candidates whose rows are laid out and compared
ROW_ABSENT: Final = -2.5  # a row that should stand on paper in sight, beyond the first or last row
NEVER: Final = -1e9
GENERIC_NAME: Final = -2.4  # a name taken at its word, in no known layout

GENERIC_SURE: Final = 0.5

_RARE: Final = {"cabrera": -2.0, "4x3": -1.5, "6x1": -0.5, "1x1": -1.0}
MAX_RHYTHM: Final = 3
MANY_STRIPS: Final = -0.7  # more than one rhythm strip


@dataclass(frozen=True, eq=False)
class Match:
    """A layout laid on the page: its column 0 at lattice line ``k0``, its rows on levels.

    ``spec`` may be none of ``LAYOUTS``; a cell of lead "" has no trace.  ``rows_mm``: the baseline of each row, rhythm
    strips included, NaN where the row isn't on the page.  ``names_right`` of ``names_seen`` lead names stand where the
    layout wants them.
    """

    spec: LayoutSpec
    board: Board
    k0: int
    rows_mm: tuple[float, ...]
    score: float
    names_right: int = 0
    confidence: float = 0.0
    rhythm_confidence: tuple[float, ...] = ()

    @property
    def arrangement(self) -> frozenset[tuple[str, int]]:
        """What tells this match from a rival: the leads and rhythm strips ("") that are seen, each with its level."""
        seats = [(lead, *self.seat(self.rows_mm[row], col)) for lead, row, col, _ in self.spec.cells()]
        board = self.board
        return frozenset(
            (lead, i)
            for lead, i, k in seats
            if i >= 0 and k >= 0 and (board.label_at[i, k] >= 0 or board.start[i, k] > 0 or board.ink[i, k] > 0)
        )

    @property
    def lattice(self) -> Lattice:
        """The columns."""
        return self.board.lattice

    @property
    def names_seen(self) -> int:
        """How many cells of the page have a lead name."""
        return int((self.board.label_at >= 0).sum())

    @property
    def surest_name(self) -> float:
        """The score of the surest name that stands where the layout wants it."""
        best = 0.0
        for lead, row, col, _ in self.spec.cells():
            i, k = self.seat(self.rows_mm[row], col)
            if lead and i >= 0 and k >= 0 and self.board.label_at[i, k] == LABEL_INDEX[lead]:
                best = max(best, float(self.board.sure[i, k]))
        return best

    def seat(self, y_mm: float, col: int) -> tuple[int, int]:
        """The board's level and column of a baseline and a layout's column, -1 where the board has none."""
        k = self.k0 + col - self.board.k_low
        row = int(np.abs(self.board.levels - y_mm).argmin()) if np.isfinite(y_mm) else -1
        return row, k if 0 <= k < self.board.start.shape[1] else -1

    @property
    def x0_mm(self) -> float:
        """Where the printed time starts."""
        return self.lattice.x0_mm + self.k0 * self.lattice.width_mm


def _bases() -> tuple[LayoutSpec, ...]:
    return tuple(spec for spec in LAYOUTS.values() if not spec.rhythm)


_BASES: Final = _bases()
_RHYTHM: Final = 0.6 * np.log([RHYTHM_PRIOR.get(name, RHYTHM_RARE) for name in LABELS])


def _prior(base: LayoutSpec, lattice: Lattice) -> float:
    """How unusual a layout is, and its whole width where that is more than one column."""
    rare = sum(v for key, v in _RARE.items() if key in base.name)
    if lattice.single:
        return rare
    off = min(abs(base.n_columns * lattice.width_mm / usual - 1.0) for usual in USUAL_PAGE_MM[base.n_columns])
    return rare + ODD_WIDTH * (1.0 - float(np.exp(-0.5 * (off / 0.06) ** 2)))


def _wanted(base: LayoutSpec, k0: int, board: Board, cells: F64) -> F64:
    """(rows, L): what speaks for each of the base's rows at each level, its column 0 at lattice line k0; ``cells``
    (L, K, 13): for each label there."""
    lines = k0 - board.k_low + np.arange(base.n_columns)
    there = (lines >= 0) & (lines < cells.shape[1])
    seen = cells[:, lines[there], _labels(base)[:, there]].sum(axis=2)
    return np.asarray(seen.T + OFF_PAGE * float(np.count_nonzero(~there)))


@cache
def _labels(base: LayoutSpec) -> I64:
    """Each row's labels (rows, columns)."""
    return np.array([[LABEL_INDEX[lead] for lead in row] for row in base.rows])


def _rhythm_wanted(n_cols: int, k0: int, board: Board) -> F64:
    """(L,): what speaks for a full-width strip of any lead."""
    k = np.arange(k0, k0 + n_cols) - board.k_low
    k = k[(k >= 0) & (k < board.start.shape[1])]
    at = k0 - board.k_low
    if not 0 <= at < board.start.shape[1]:
        return np.asarray(board.ink[:, k].sum(axis=1) - 1.0)
    # A lost name costs the same whatever the lead is; a name seen pays by its lead's prior.
    named = np.where(board.label_at[:, at] < 0, board.nameless, (board.name[:, at] + _RHYTHM).max(axis=1))
    # Names and starts further right say that this is no full-width strip.
    inner = (board.sure[:, k[1:]] * 2.0).sum(axis=1) + np.maximum(board.start[:, k[1:]], 0.0).sum(axis=1)
    return np.asarray(named + board.start[:, at] + board.ink[:, k].sum(axis=1) - inner)


@dataclass(frozen=True, eq=False)
class _Candidate:
    base: LayoutSpec
    n_rhythm: int
    k0: int
    board: Board
    table: F64  # (rows, L)
    score: float


def _candidates(board: Board, bases: tuple[LayoutSpec, ...], n_rhythm: tuple[int, ...]) -> list[_Candidate]:
    """Bases, column shifts and numbers of rhythm strips on one board: the best few with their scores."""
    tables: list[tuple[LayoutSpec, int, int, F64]] = []
    lattice, cells = board.lattice, board.name + (board.start + board.ink)[..., None]
    shifts = {n: (0,) if n == 1 else range(lattice.k_min - n + 1, lattice.k_max + 1) for n in (1, 2, 3, 4)}
    strips = {(n, k0): _rhythm_wanted(n, k0, board)[None] for n in (2, 3, 4) for k0 in shifts[n] if not lattice.single}
    for base in (b for b in bases if (b.n_columns == 1) == lattice.single):
        n_cols = base.n_columns
        for k0 in shifts[n_cols]:
            table = _wanted(base, k0, board, cells)
            for q in n_rhythm if n_cols > 1 else (0,):
                tables.append((base, q, k0, np.concatenate([table] + [strips[n_cols, k0]] * q) if q else table))
    if not tables:
        return []
    prior = {base.name: _prior(base, lattice) for base in bases if (base.n_columns == 1) == lattice.single}
    scores = _align([t[-1] for t in tables], np.array([t[1] for t in tables]))
    scores += [prior[base.name] + (MANY_STRIPS if q > 1 else 0.0) for base, q, *_ in tables]
    best = np.argsort(-scores, kind="stable")[:MAX_TRACED]
    return [_Candidate(tables[i][0], tables[i][1], tables[i][2], board, tables[i][3], float(scores[i])) for i in best]


def _align(each: list[F64], n_rhythm: I64) -> F64:
    """Best score of each table's rows (rows, L) on the levels in order; ``_trace``'s recursion, all at once."""
    n_rows = np.array([len(t) for t in each])
    cut = np.where(n_rhythm > 0, NEVER, ROW_CUT)  # a rhythm strip that isn't seen isn't there
    tables = np.full((len(each), int(n_rows.max()), each[0].shape[1]), NEVER)
    for i, t in enumerate(each):
        tables[i, : len(t)] = t
    before = np.full(tables[:, 0].shape, NEVER)  # best score with some row on this level or above
    best = np.full(len(each), NEVER)
    for r in range(tables.shape[1]):
        above = np.concatenate([np.full((len(before), 1), NEVER), before[:, :-1]], axis=1)
        here = tables[:, r] + np.maximum(above, ROW_CUT * r)
        best = np.maximum(best, here.max(axis=1) + cut * np.maximum(n_rows - 1 - r, 0))
        before = np.maximum.accumulate(np.maximum(before + ROW_LOST, here), axis=1)
    return best


def _trace(table: F64, n_rhythm: int) -> list[int]:
    """Level of each row (-1: not on the page) on the best path of one candidate (rows, L)."""
    n_rows, n_levels = table.shape
    score = np.full((n_rows, n_levels), NEVER)
    came: dict[tuple[int, int], tuple[int, int] | None] = {}
    for r in range(n_rows):
        for i in range(n_levels):
            best, where = ROW_CUT * r, None
            for p in range(r):
                if i and (j := int(score[p, :i].argmax())) >= 0 and score[p, j] + ROW_LOST * (r - p - 1) > best:
                    best, where = float(score[p, j] + ROW_LOST * (r - p - 1)), (p, j)
            score[r, i], came[r, i] = table[r, i] + best, where
    final = score + (NEVER if n_rhythm else ROW_CUT) * np.arange(n_rows - 1, -1, -1)[:, None]
    at: tuple[int, int] | None = tuple(int(v) for v in np.unravel_index(final.argmax(), final.shape))  # type: ignore[assignment]
    levels = [-1] * n_rows
    while at is not None:
        levels[at[0]] = at[1]
        at = came[at]
    return levels


def _unevenness(rows_mm: F64) -> float:
    """Cost of rows at unequal distances (log ratios to their median, 25 % being one sigma)."""
    at = np.flatnonzero(np.isfinite(rows_mm))
    if at.size < 3:
        return 0.0
    gaps = np.diff(rows_mm[at]) / np.diff(at)
    return float(np.minimum(0.5 * (np.log(gaps / np.median(gaps)) / 0.25) ** 2, 6.0).sum())


def match_layout(boards: list[Board], ink: Ink, only: LayoutSpec | None = None) -> Match | None:
    """The layout that explains the boards best, with the confidence of its being this one; None without a candidate."""
    if only is None:
        bases, counts = _BASES, tuple(range(MAX_RHYTHM + 1))
    else:
        bases, counts = (LayoutSpec(only.name, only.rows),), (len(only.rhythm),)
    found = [c for board in boards for c in _candidates(board, bases, counts)]
    found.sort(key=lambda c: -c.score)
    laid = [_lay(c) for c in found[:MAX_TRACED]]
    laid += [m for m in (_generic(board) for board in boards) if m is not None and only is None]
    laid = [replace(m, score=m.score + _context(m, ink)) for m in laid]
    if not laid:
        return None
    laid.sort(key=lambda m: -m.score)
    best = laid[0]
    rivals: dict[object, float] = {}
    for m in laid[1:]:
        rivals.setdefault(m.arrangement, m.score)
    rivals.pop(best.arrangement, None)
    # The weights are of one page's marks, which share their faults: halve them.
    odds = sum(float(np.exp(0.5 * (s - best.score))) for s in rivals.values())
    return replace(_named(best, ink, only), confidence=1.0 / (1.0 + odds))


def _lay(c: _Candidate) -> Match:
    """Lay a candidate's rows on its levels; its rhythm strips are still unnamed ("")."""
    rows = np.array([c.board.levels[i] if i >= 0 else np.nan for i in _trace(c.table, c.n_rhythm)])
    spec = LayoutSpec(c.base.name, c.base.rows, ("",) * c.n_rhythm)
    return Match(spec, c.board, c.k0, tuple(rows.tolist()), c.score)


def _context(match: Match, ink: Ink) -> float:
    """What speaks against a match beyond its cells: uneven rows, ink beside the columns, rows missing on paper in
    sight, names far from their traces or below them."""
    rows = np.array(match.rows_mm)
    shown, width = np.isfinite(rows), match.spec.n_columns * match.lattice.width_mm
    levels = [match.seat(y, 0)[0] for y in rows[shown]]
    inked = match.board.inked[levels]
    a, b = np.searchsorted(ink.xs, [match.x0_mm - 2.0, match.x0_mm + width + 2.0])
    beside = (inked[:, a] + inked[:, -1] - inked[:, b]) * ink.cell_mm / (ink.right_mm - ink.left_mm)
    drop = match.board.drop_mm
    placed = 0.5 * (drop / 9.0) ** 2 + (1.0 if drop > 3.0 else 0.0)
    return -_unevenness(rows) - ROW_INK * float(np.minimum(beside, 1.0).sum()) - placed + _absent(match, rows, ink)


def _absent(match: Match, rows: F64, ink: Ink) -> float:
    """Cost of rows that the layout has above or below those found although paper is in sight there."""
    at = np.flatnonzero(np.isfinite(rows))
    if at.size < 2:
        return 0.0
    pitch = float(np.median(np.diff(rows[at]) / np.diff(at)))
    y = np.concatenate(
        [rows[at[0]] - pitch * np.arange(1, at[0] + 1), rows[at[-1]] + pitch * np.arange(1, len(rows) - at[-1])]
    )
    x = match.x0_mm + match.spec.n_columns * match.lattice.width_mm * np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    on_page = ink.page_at(np.broadcast_to(x, (len(y), 5)), np.broadcast_to(y[:, None], (len(y), 5)))
    return ROW_ABSENT * int((on_page.mean(axis=1) > 0.7).sum())


def _named(match: Match, ink: Ink, only: LayoutSpec | None) -> Match:
    """Name the rhythm strips and the layout, and count the lead names that agree."""
    board, n = match.board, len(match.spec.rows)
    said: list[tuple[str, float]] = []
    for y in match.rows_mm[n:]:
        i, k = match.seat(y, 0)
        named = i >= 0 and k >= 0 and board.label_at[i, k] >= 0
        said.append((LABELS[board.label_at[i, k]], float(board.sure[i, k])) if named else ("", 0.0))
    if only is None:
        likeness = rhythm_likeness(match.spec.rows, match.rows_mm, match.x0_mm, board.lattice.width_mm, ink)
        rhythm, sure = name_rhythm(match.spec.rows, said, likeness)
        spec = LayoutSpec("partial", match.spec.rows, rhythm)
        spec = next((s for s in LAYOUTS.values() if (s.rows, s.rhythm) == (spec.rows, rhythm)), spec)
    else:
        spec, sure = only, (0.9,) * len(only.rhythm)
    right = 0
    for lead, row, col, _ in spec.cells():
        i, k = match.seat(match.rows_mm[row], col)
        right += int(bool(lead) and i >= 0 and k >= 0 and board.label_at[i, k] == LABEL_INDEX[lead])
    return replace(match, spec=spec, names_right=right, rhythm_confidence=sure)


def _generic(board: Board) -> Match | None:
    """An arrangement that no known layout has, taken from the names alone: each at its word, no lead twice."""
    named = board.sure > GENERIC_SURE
    rows = np.flatnonzero(named.any(axis=1))
    if named.sum() < 2:
        return None
    cols = np.flatnonzero(named.any(axis=0))
    low, high = int(cols[0]), int(cols[-1])
    table = [[LABELS[board.label_at[r, k]] if named[r, k] else "" for k in range(low, high + 1)] for r in rows]
    names = [name for row in table for name in row if name]
    if len(set(names)) < len(names) or {"aVR", "-aVR"} <= set(names):
        return None
    spec = LayoutSpec("partial", tuple(tuple(row) for row in table))
    pick = board.name[named].max(axis=-1) + board.start[named] + board.ink[named]
    score = float(pick.sum() + GENERIC_NAME * named.sum()) - 2.0
    return Match(spec, board, low + board.k_low, tuple(board.levels[rows].tolist()), score)
