"""Where traces start and end, to a hundredth of a millimetre: read once more from the photo around each place.

The fine finder sees starts at 4 px/mm and errs by .03 to .15 mm, alike in all rows; .025 mm are a millisecond at
25 mm/s.  A small net looks at a patch around each start and each row's end as they came out, and says how far off it
lies.  All columns move as one, or grow as one where their width is no printed standard: what it says of every place is
added up.  Scans only: a photo's lattice isn't known to that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecg.geometry import bent_mm, grid_xy, local_scale, sample_shrunken, shrunken, start_patch_mm
from ecg.marks import END_KINDS, START_BIN_MM, START_BINS, START_OFFSETS_MM
from ecg.page import F32, LeadStrip, PageLayout, Photo, Sheet
from edge_runtime.decoder import RowTrace
from edge_runtime.engines.base import Engine
from edge_runtime.layout_evidence import MIN_COLUMN_MM

# Of a lattice: what is no more bent is a scan, a screenshot or a rendered page (all but 1 % of 220 prints; photos from
# .3 on).  On photos the finder's starts stand: on the 25 with a truth, read ones scatter half as much (.016 mm against
# .034), but lie .06 mm later than their records' clock.
SCAN_BENT_MM: Final = 0.1
LEVEL_MM: Final = 1.0  # a patch is as high as its trace runs this far inside
PRESENT: Final = 0.3
MOST: Final = 64  # places a page
WRONG: Final = 0.02  # of the places are read with no relation to the truth
# How far off the finder's columns lie before: shares, and standard deviations in mm.
BEFORE: Final = ((0.9, 0.07), (0.1, 0.3))
# How much wider columns are than was thought, if their width is a printed standard, and if it is their own.
STANDARD: Final = ((0.97, 0.001), (0.03, 0.3))
OWN: Final = ((0.8, 0.08), (0.2, 0.3))
WIDER_MM: Final = np.round(np.arange(-50, 51) * 0.01, 2)
BEYOND: Final = float(np.log(WRONG / START_BINS))  # a place that would lie outside its patch is read wrongly
NEAR_MM, NEAR_WIDER_MM = 0.15, 0.06  # around the likeliest ones, of which the mean is taken
# Where rows have a length of their own, their start and their end are looked for around where they were thought to be,
# unless seen there so surely already: pulses look like starts, but little else like an end.
SEARCH_MM: Final = np.linspace(-4.0, 4.0, 17)
START_HERE: Final = 0.3
END_HERE: Final = 0.7
SURELY: Final = 0.9
PAST_END_MM: Final = 0.05  # ends scatter by .03 mm, and a sample too few is lost where one too many is empty
LIKE_MM: Final = 0.08
NOT_HERE: Final = 20.0  # log odds
OFFSETS_MM: Final = np.array(START_OFFSETS_MM)
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Place:
    """Where a trace starts or ends as far as is known: index in END_KINDS, page mm, and how many columns from the
    first start on."""

    kind: int
    x_mm: float
    y_mm: float
    columns: int


def with_read_starts(
    photo: Photo, sheet: Sheet, rows: tuple[RowTrace, ...], layout: PageLayout, reader: Engine
) -> tuple[tuple[RowTrace, ...], PageLayout]:
    """Rows and layout with all strips moved to where a scan shows that they start and end; of photos as they were."""
    if bent_mm(sheet) >= SCAN_BENT_MM:
        return rows, layout
    if all(len(row.strips) == 1 for row in rows) and not _is_standard(layout):
        return _with_own_length(photo, sheet, rows, layout, reader)
    places = find_places(rows, layout)
    if not places:
        return rows, layout
    place = reader(cut_starts(photo, sheet, places))["place"]
    said = place[np.arange(len(places)), [p.kind for p in places]]
    shift, wider = agreed_mm(said, np.array([p.columns for p in places]), standard=_is_standard(layout))
    moved = {s: _moved(s, layout, shift, wider) for s in layout.strips}
    rows = tuple(replace(r, strips=tuple(moved[s] for s in r.strips)) for r in rows)
    return rows, replace(layout, strips=tuple(moved[s] for s in layout.strips))


def _with_own_length(
    photo: Photo, sheet: Sheet, rows: tuple[RowTrace, ...], layout: PageLayout, reader: Engine
) -> tuple[tuple[RowTrace, ...], PageLayout]:
    """Rows of one column and of a length of their own: no width tells their start from their end, each is looked for by
    itself."""

    def searched(kind: str, x_mm: float, enough: float) -> float:
        inside = LEVEL_MM if kind == "start" else -LEVEL_MM

        def read(off_mm: F64) -> F64:
            places = [[_place(row, kind, float(x), float(x) + inside, 0) for row in rows] for x in x_mm + off_mm]
            found = [p for beside in places for p in beside if p is not None]
            said = reader(cut_starts(photo, sheet, found))["place"][:, END_KINDS.index(kind)] if found else ()
            each = iter(said)
            return np.stack([_together([next(each) for p in beside if p is not None]) for beside in places])

        return searched_mm(read, enough)

    first, end = min(s.x0_mm for s in layout.strips), max(s.x1_mm for s in layout.strips)
    x0_moves = searched("start", first, START_HERE)
    x1_moves = searched("end", end, END_HERE) + PAST_END_MM
    if end + x1_moves - first - x0_moves < MIN_COLUMN_MM / 2:
        return rows, layout
    moved = {
        s: replace(s, x0_mm=s.x0_mm + x0_moves, x1_mm=s.x1_mm + (x1_moves if s.x1_mm == end else x0_moves))
        for s in layout.strips
    }
    rows = tuple(replace(row, strips=tuple(moved[s] for s in row.strips)) for row in rows)
    return rows, replace(layout, strips=tuple(moved.values()))


def _together(logits: list[F32]) -> F64:
    """The probabilities (102,) of a place that several rows' patches show, by their logits (102,); of none, of not
    being there."""
    total = np.zeros(START_BINS + 1)
    total[-1] = 0.0 if logits else NOT_HERE
    for row in logits:
        p = np.exp(row.astype(np.float64) - row.max())
        total += np.log((1 - WRONG) * p / p.sum() + WRONG / len(p))
    p = np.exp(total - total.max())
    return np.asarray(p / p.sum())


def searched_mm(read: Callable[[F64], F64], enough: float) -> float:
    """How far off a place lies by what ``read`` says, probabilities (n, 102), of patches (n,) mm beside where it was
    thought.

    If it is seen there with a probability of ``enough`` or more, there; else where it is seen surest nearby, if surely.
    """
    off, sure = _seen_at(read(np.zeros(1, np.float64)))
    if sure[0] >= enough:
        return float(off[0])
    beside, sure = _seen_at(read(SEARCH_MM))
    best = int(sure.argmax())
    return float(SEARCH_MM[best] + beside[best]) if sure[best] > SURELY else 0.0


def _seen_at(p: F64) -> tuple[F64, F64]:
    """The likeliest offset in each patch (n,) mm by probabilities (n, 102), and how probably it is about that."""
    here = p[:, :-1]
    likeliest = OFFSETS_MM[here.argmax(axis=1)]
    near = here * (np.abs(OFFSETS_MM - likeliest[:, None]) < LIKE_MM)
    sure = near.sum(axis=1)
    return np.asarray((near * OFFSETS_MM).sum(axis=1) / np.maximum(sure, 1e-12)), np.asarray(sure)


def find_places(rows: tuple[RowTrace, ...], layout: PageLayout) -> list[Place]:
    """Every strip's start, and every row's end; not that of one column of a width of its own, which tells nothing of
    where it starts."""
    first, pitch = _columns(layout)
    places = []
    for row in rows:
        strips = sorted(row.strips, key=lambda s: s.x0_mm)
        for s in strips:
            places.append(_place(row, "start", s.x0_mm, s.x0_mm + LEVEL_MM, round((s.x0_mm - first) / pitch)))
        end = strips[-1].x1_mm
        if _is_standard(layout) or end - first > 1.5 * pitch:
            places.append(_place(row, "end", end, end - LEVEL_MM, round((end - first) / pitch)))
    return [p for p in places if p is not None][:MOST]


def _columns(layout: PageLayout) -> tuple[float, float]:
    """Where the first column starts, and how far the columns lie apart (mm)."""
    starts = np.unique([s.x0_mm for s in layout.strips])
    apart = np.diff(starts)
    apart = apart[apart > MIN_COLUMN_MM / 2]  # rows that the scan's edge cuts off may start side by side
    shortest = min(s.x1_mm - s.x0_mm for s in layout.strips)
    return float(starts[0]), float(np.median(apart)) if len(apart) else shortest


def _is_standard(layout: PageLayout) -> bool:
    """Whether the columns' width is a printed standard: then they move alike."""
    columns = layout.decided.get("columns")
    return columns is not None and columns.how == "layout"


def _place(row: RowTrace, kind: str, x_mm: float, inside_mm: float, columns: int) -> Place | None:
    """A place at the height of its trace, None where the decoder saw none."""
    near = (row.x_mm >= min(x_mm, inside_mm)) & (row.x_mm <= max(x_mm, inside_mm)) & (row.presence > PRESENT)
    if not near.any():
        return None
    return Place(END_KINDS.index(kind), x_mm, float(np.median(row.y_mm[near])), columns)


def _moved(strip: LeadStrip, layout: PageLayout, shift_mm: float, wider_mm: float) -> LeadStrip:
    """A strip with all columns ``shift_mm`` further right, each ``wider_mm`` wider."""
    first, pitch = _columns(layout)
    before, after = (round((x - first) / pitch) for x in (strip.x0_mm, strip.x1_mm))
    return replace(
        strip,
        x0_mm=strip.x0_mm + shift_mm + before * wider_mm,
        x1_mm=strip.x1_mm + shift_mm + after * wider_mm,
        start_s=strip.start_s + before * wider_mm / layout.paper_speed_mm_per_s,
    )


def cut_starts(photo: Photo, sheet: Sheet, places: list[Place]) -> F32:
    """Patches (n, 3, 96, 96) around places, along the lattice, as float32 0..255."""
    right, down = start_patch_mm()
    maps = [grid_xy(sheet, p.x_mm + right, p.y_mm + down) for p in places]
    small, shrink = shrunken(photo, min(map(local_scale, maps)))
    patches = np.stack([sample_shrunken(small, shrink, xy) for xy in maps])
    return np.ascontiguousarray(patches.transpose(0, 3, 1, 2), dtype=np.float32)


def agreed_mm(logits: F32, columns: NDArray[np.int64], *, standard: bool) -> tuple[float, float]:
    """How far right all columns lie, and how much wider each is (mm), by what logits (n, 102) say of n places that lie
    ``columns`` (n,) from the first start on."""
    p = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    said = p[:, :-1] + p[:, -1:] / len(OFFSETS_MM)  # a place that isn't there says nothing
    worth = np.log((1 - WRONG) * said + WRONG / len(OFFSETS_MM))
    wider = WIDER_MM if columns.any() else WIDER_MM[WIDER_MM == 0]
    total = np.log(_bells(OFFSETS_MM, BEFORE)) + np.log(_bells(wider, STANDARD if standard else OWN))[:, None]
    for c in np.unique(columns):
        here = np.pad(worth[columns == c].sum(axis=0), 1, constant_values=len(worth[columns == c]) * BEYOND)
        steps = np.rint((OFFSETS_MM + c * wider[:, None]) / START_BIN_MM).astype(np.int64) + START_BINS // 2 + 1
        total = total + here[np.clip(steps, 0, len(here) - 1)]
    w, s = np.unravel_index(int(total.argmax()), total.shape)
    near = np.exp(total - total[w, s]) * (np.abs(OFFSETS_MM - OFFSETS_MM[s]) < NEAR_MM)
    near = near * (np.abs(wider - wider[w]) < NEAR_WIDER_MM)[:, None]
    near = near if wider[w] else near * (wider == 0)[:, None]
    return float((near * OFFSETS_MM).sum() / near.sum()), float((near * wider[:, None]).sum() / near.sum())


def _bells(x: F64, bells: tuple[tuple[float, float], ...]) -> F64:
    """A sum of (share, standard deviation) normal densities at x (n,)."""
    return np.asarray(sum(share / s * np.exp(-0.5 * (x / s) ** 2) for share, s in bells), dtype=np.float64)
