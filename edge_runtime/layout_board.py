"""What speaks for each lead at each place: the evidence of marks and ink on rows times columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_runtime.layout_evidence import (
    F64,
    I64,
    LABEL_INDEX,
    LABELS,
    NAME_REACH_MM,
    REACH_X_MM,
    START_REACH_MM,
    Bools,
    Ink,
    Lattice,
    Seen,
    family,
    find_lattices,
    name_drops,
    name_shift,
    row_windows,
)

NAME_MATCH: Final = 4.5
NAME_MISSING: Final = -1.0
LEGIBLE: Final = 0.8  # a name of this score shows that names can be read,
EACH_LEGIBLE: Final = -0.15  # and each makes it odder that a full-width strip has none,
MOST_LEGIBLE: Final = 10  # up to so many
FLAT: Final = -6.0  # a strip without a name and without a beat: a ruled line, the paper's edge
BEAT_MM: Final = 1.6
BEAT_SHARE: Final = 0.012  # of a row's columns reach further than that from its middle
LEFT_MM: Final = (3.0, 34.0)  # how far left of the first column names may stand, beyond a pulse
LEFT_DROP_MM: Final = 4.5  # at the height of their baselines
START_MATCH: Final = 2.5
START_MISSING: Final = -0.7
OFF_PAGE: Final = -0.25  # a cell of the layout that the photo doesn't show
ROW_INK: Final = 6.0  # a full row of ink
LEAST_WINDOW: Final = 0.35  # of the usual distance of levels: as far at least ink is looked for above and below one
DEFAULT_SHIFT_MM: Final = 3.0
LEVEL_MM: Final = 0.9
BEFORE_MM, DEFAULT_BEFORE_MM = -2.0, -5.0


@dataclass(frozen=True, eq=False)
class Board:
    """Evidence by level (L), lattice line (K, the first is ``k_low``) and label.

    ``name`` (L, K, 13), ``start`` and ``ink`` (L, K) are log likelihood ratios; ``inked`` (L, W + 1) counts the map's
    columns with ink near a level, from the left; ``label_at`` (L, K) is the best name's label there, -1 without one;
    ``sure`` (L, K) its score; ``nameless`` (L,) what speaks for a full-width strip that no name is seen beside.
    """

    levels: F64
    lattice: Lattice
    drop_mm: float
    shift_mm: float
    k_low: int
    name: F64
    start: F64
    ink: F64
    inked: I64
    label_at: I64
    sure: F64
    nameless: F64


def nearest(values: F64, levels: F64) -> I64:
    """Index of the nearest level for each value."""
    return np.asarray(np.abs(values[:, None] - levels[None, :]).argmin(axis=1))


def _confusion() -> F64:
    """(13, 13): weight of a perfect mark of one label (first index) where another (second) is printed."""
    table = np.full((len(LABELS), len(LABELS)), -1.5)
    for a in range(len(LABELS)):
        for b in range(len(LABELS)):
            if family(a) == family(b):
                table[a, b] = 0.3
        table[a, a] = NAME_MATCH
    r, minus = LABEL_INDEX["aVR"], LABEL_INDEX["-aVR"]
    table[r, minus] = table[minus, r] = 2.0
    return table


_CONFUSION: Final = _confusion()


def make_board(seen: Seen, ink: Ink, levels: F64, lattice: Lattice, drop_mm: float, shift_mm: float) -> Board:
    """Collect the evidence for one lattice and one place of the names."""
    reach = 0 if lattice.single else 3
    k = np.arange(lattice.k_min - reach, lattice.k_max + reach + 1)
    shape = (len(levels), len(k))
    lines = lattice.x0_mm + k * lattice.width_mm
    shown = ink.page_at(np.broadcast_to(lines + 2.0, shape), np.broadcast_to(levels[:, None], shape))
    cover, part, inked = _coverage(ink, levels, lines, lattice.width_mm)
    label_at, sure = np.full(shape, -1, dtype=np.int64), np.zeros(shape)
    row, col = _seats(seen.names.x - shift_mm, seen.names.y - drop_mm, levels, lines)
    first = int(np.searchsorted(k, lattice.k_min))
    left = (row < 0) & _left_of(lines[first], seen.names.x)
    row[left], col[left] = _heights(seen.names.y[left], levels, LEFT_DROP_MM), first
    name = np.where(shown, NAME_MISSING, OFF_PAGE)[..., None] + np.zeros(len(LABELS))
    for i in np.flatnonzero(row >= 0):
        at, score = (row[i], col[i]), seen.names.score[i]
        name[at] = np.maximum(name[at], _CONFUSION[seen.label[i]] * (0.3 + 0.7 * score))
        if score > sure[at]:
            label_at[at], sure[at] = seen.label[i], score
    start = np.where(shown, START_MISSING, 0.0)
    rows = nearest(seen.starts.y, levels)
    cols = nearest(seen.starts.x, lines)
    near = (np.abs(seen.starts.y - levels[rows]) < 14.0) & (np.abs(seen.starts.x - lines[cols]) < START_REACH_MM)
    np.maximum.at(start, (rows[near], cols[near]), START_MATCH * seen.starts.score[near])
    ink_part = (
        ROW_INK * np.clip(4.0 * cover - 2.6, -0.8, 1.0) * part * (lattice.width_mm / (ink.right_mm - ink.left_mm))
    )
    lone = NAME_MISSING + EACH_LEGIBLE * min(int((sure > LEGIBLE).sum()), MOST_LEGIBLE) + FLAT * _flat(ink, levels)
    return Board(levels, lattice, drop_mm, shift_mm, int(k[0]), name, start, ink_part, inked, label_at, sure, lone)


def _seats(x: F64, y: F64, levels: F64, lines: F64) -> tuple[I64, I64]:
    """Level and lattice line of names moved onto their traces' starts; level -1 where none is near enough."""
    cols = nearest(x, lines)
    return np.where(np.abs(x - lines[cols]) <= REACH_X_MM, _heights(y, levels, 7.0), -1), cols


def _heights(y: F64, levels: F64, reach_mm: float) -> I64:
    """The nearest level of each height, -1 where it is too far."""
    rows = nearest(y, levels)
    gap = float(np.diff(levels).min(initial=40.0))
    return np.where(np.abs(y - levels[rows]) <= min(reach_mm, max(0.45 * gap, 4.0)), rows, -1)


def _left_of(line_mm: float, x: F64) -> Bools:
    """Names that stand left of the first column, where others stand at their columns' starts."""
    return (line_mm - x > LEFT_MM[0]) & (line_mm - x < LEFT_MM[1])


def _coverage(ink: Ink, levels: F64, lines: F64, width_mm: float) -> tuple[F64, F64, I64]:
    """Share of each cell's seen width with ink and share of its width that is seen (L, K), and ``Board.inked``."""
    low, high = row_windows(levels, LEAST_WINDOW)
    edges = np.searchsorted(ink.xs, np.stack([lines, lines + width_mm]))
    inked = np.zeros((len(levels), len(ink.xs) + 1), dtype=np.int64)
    paper = np.zeros_like(inked)
    for i, y in enumerate(levels):
        inked[i, 1:] = ink.there[ink.rows(float(low[i]), float(high[i]))].any(axis=0)
        paper[i, 1:] = ink.on_page[min(max(round((y - ink.ys[0]) / ink.cell_mm), 0), len(ink.ys) - 1)]
    inked, paper = inked.cumsum(axis=1), paper.cumsum(axis=1)
    seen = paper[:, edges[1]] - paper[:, edges[0]]
    cover = (inked[:, edges[1]] - inked[:, edges[0]]) / np.maximum(seen, 1)
    return np.minimum(cover, 1.0), np.minimum(seen * ink.cell_mm / width_mm, 1.0), inked


def _flat(ink: Ink, levels: F64) -> F64:
    """Which levels (L,) have ink along a straight line only: 1.0, others 0.0."""
    out = np.zeros(len(levels))
    for i, (low, high) in enumerate(zip(*row_windows(levels), strict=True)):
        rows = ink.rows(float(low), float(high))
        there = ink.there[rows]
        off = np.abs(ink.ys[rows] - levels[i]) > BEAT_MM
        out[i] = float(there[off].any(axis=0).sum() < BEAT_SHARE * there.any(axis=0).sum())
    return out


def find_boards(seen: Seen, ink: Ink, levels: F64) -> list[Board]:
    """A board for every lattice and place of the names worth trying."""
    boards: list[Board] = []
    for drop in name_drops(seen, levels):
        level = abs(drop) < LEVEL_MM  # names on the baselines stand left of the traces, never on them
        shift = name_shift(seen, drop, BEFORE_MM if level else NAME_REACH_MM)
        # Without a start beside a name, names still tell the columns; x0 is then theirs less a typical distance.
        shift = (DEFAULT_BEFORE_MM if level else DEFAULT_SHIFT_MM) if shift is None else shift
        boards += [make_board(seen, ink, levels, lat, drop, shift) for lat in find_lattices(seen, shift, ink)]
    return boards
