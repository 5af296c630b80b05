"""Where traces start and end, to a hundredth of a millimetre: read once more from the photo around each place.

The fine finder sees starts at 4 px/mm and errs by .03 to .15 mm, alike in all rows; .025 mm are a millisecond at
25 mm/s.  A small net looks at a patch around each start and each row's end as they came out, and says how far off it
lies.  All columns move as one: what it says of every place is added up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ecg.geometry import grid_xy, local_scale, sample_shrunken, shrunken, start_patch_mm
from ecg.marks import END_KINDS, START_OFFSETS_MM
from ecg.page import F32, PageLayout, Photo, Sheet
from edge_runtime.decoder import RowTrace
from edge_runtime.engines.base import Engine

LEVEL_MM: Final = 1.0  # a patch is as high as its trace runs this far inside
PRESENT: Final = 0.3
MOST: Final = 64  # places a page
WRONG: Final = 0.02  # of the places are read with no relation to the truth
# How far off the finder's columns lie before: shares, and standard deviations in mm.
BEFORE: Final = ((0.9, 0.07), (0.1, 0.3))
NEAR_MM: Final = 0.15  # around the likeliest shift, of which the mean is taken
OFFSETS_MM: Final = np.array(START_OFFSETS_MM)


@dataclass(frozen=True)
class Place:
    """Where a trace starts or ends as far as is known: index in END_KINDS, page mm."""

    kind: int
    x_mm: float
    y_mm: float


def with_read_starts(
    photo: Photo, sheet: Sheet, rows: tuple[RowTrace, ...], layout: PageLayout, reader: Engine
) -> tuple[tuple[RowTrace, ...], PageLayout]:
    """Rows and layout with all strips moved to where the photo shows that they start and end."""
    places = find_places(rows, layout)
    if not places:
        return rows, layout
    place = reader(cut_starts(photo, sheet, places))["place"]
    shift = agreed_mm(place[np.arange(len(places)), [p.kind for p in places]])
    moved = {s: replace(s, x0_mm=s.x0_mm + shift, x1_mm=s.x1_mm + shift) for s in layout.strips}
    rows = tuple(replace(r, strips=tuple(moved[s] for s in r.strips)) for r in rows)
    return rows, replace(layout, strips=tuple(moved[s] for s in layout.strips))


def find_places(rows: tuple[RowTrace, ...], layout: PageLayout) -> list[Place]:
    """Every strip's start; and every row's end, where the columns' width is a printed standard: then all move alike."""
    places = []
    columns = layout.decided.get("columns")
    standard = columns is not None and columns.how == "layout"
    for row in rows:
        strips = sorted(row.strips, key=lambda s: s.x0_mm)
        places += [_place(row, "start", s.x0_mm, s.x0_mm + LEVEL_MM) for s in strips]
        if standard:
            places.append(_place(row, "end", strips[-1].x1_mm, strips[-1].x1_mm - LEVEL_MM))
    return [p for p in places if p is not None][:MOST]


def _place(row: RowTrace, kind: str, x_mm: float, inside_mm: float) -> Place | None:
    """A place at the height of its trace, None where the decoder saw none."""
    near = (row.x_mm >= min(x_mm, inside_mm)) & (row.x_mm <= max(x_mm, inside_mm)) & (row.presence > PRESENT)
    return Place(END_KINDS.index(kind), x_mm, float(np.median(row.y_mm[near]))) if near.any() else None


def cut_starts(photo: Photo, sheet: Sheet, places: list[Place]) -> F32:
    """Patches (n, 3, 96, 96) around places, along the lattice, as float32 0..255."""
    right, down = start_patch_mm()
    maps = [grid_xy(sheet, p.x_mm + right, p.y_mm + down) for p in places]
    small, shrink = shrunken(photo.rgb, min(map(local_scale, maps)))
    patches = np.stack([sample_shrunken(small, shrink, xy) for xy in maps])
    return np.ascontiguousarray(patches.transpose(0, 3, 1, 2), dtype=np.float32)


def agreed_mm(logits: F32) -> float:
    """The shift to the right that logits (n, 102) of n places that move as one agree on, mm."""
    p = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    said = p[:, :-1] + p[:, -1:] / len(OFFSETS_MM)  # a place that isn't there says nothing
    worth = np.log((1 - WRONG) * said + WRONG / len(OFFSETS_MM)).sum(axis=0)
    before = sum(share / s * np.exp(-0.5 * (OFFSETS_MM / s) ** 2) for share, s in BEFORE)
    worth = worth + np.log(before)
    best = int(worth.argmax())
    near = np.exp(worth - worth[best]) * (np.abs(OFFSETS_MM - OFFSETS_MM[best]) < NEAR_MM)
    return float((near * OFFSETS_MM).sum() / near.sum())
