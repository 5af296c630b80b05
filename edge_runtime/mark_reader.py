"""Names and texts read from the photo itself, at twice the finder's view, wherever the view shows something like one.

The fine finder sees that there is a name and where; at 4 px/mm it often takes V4 for V3 and 50 for 25.  A small net
looks at a patch of each place as the photo shows it and says which.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.geometry import VIEW_PX_PER_MM, View, shrunken
from ecg.marks import (
    FINE_STRIDE,
    LEAD_KINDS,
    MARK_KINDS,
    PATCH_HEIGHT,
    PATCH_PX_PER_MM,
    PATCH_WIDTH,
    READ_KINDS,
    STROKE_KINDS,
    TEXT_KINDS,
)
from ecg.page import F32, Mark, Photo
from edge_runtime.engines.base import Engine
from edge_runtime.lattice import Field, bilinear

if TYPE_CHECKING:
    from edge_runtime.finder import Maps

SEEN: Final = 0.06  # of the view's heat: a place worth a look
MOST: Final = 96  # places a page
MIN_PROBABILITY: Final = 0.3
# I, II and III are read shifted as well: their strokes count wherever they stand in the patch, what was taken for one
# more does not.
SHIFTS_MM: Final = ((0.4, 0.0), (-0.4, 0.0), (0.0, 0.4), (0.0, -0.4))
APART_MM: Final = 3.0  # the same name twice within this is one
_READABLE: Final = [MARK_KINDS.index(k) for k in (*LEAD_KINDS, *TEXT_KINDS)]
_ONE_WAY: Final = [READ_KINDS.index(k) for k in (*LEAD_KINDS, *TEXT_KINDS) if k not in STROKE_KINDS]
_STROKES: Final = [READ_KINDS.index(k) for k in STROKE_KINDS]
_OTHER: Final = READ_KINDS.index("other")


@dataclass(frozen=True, eq=False)
class Places:
    """Cells (n, 2) of a view with something like a name or a text, and the probability of each kind (n, kinds)."""

    cells: NDArray[np.float64]
    probability: F32


def read_places(photo: Photo, maps: Maps, reader: Engine) -> Places:
    """What can be read in a view."""
    cells = _places(maps)
    if not len(cells):
        return Places(cells, np.zeros((0, len(READ_KINDS)), np.float32))
    at = cells * FINE_STRIDE + (FINE_STRIDE - 1) / 2
    p = _told(photo, maps.view, at, reader)
    strokes = p[:, _STROKES].sum(axis=1) > MIN_PROBABILITY
    if strokes.any():
        shifted = [at[strokes] + VIEW_PX_PER_MM * np.array(by) for by in SHIFTS_MM]
        told = _told(photo, maps.view, np.concatenate(shifted), reader).reshape(len(SHIFTS_MM), -1, p.shape[1])
        p[strokes] = np.mean([p[strokes], *told], axis=0)
    return Places(cells, p)


def _told(photo: Photo, view: View, points: NDArray[np.float64], reader: Engine) -> F32:
    """The probability of each kind (n, kinds) at points (n, 2) of the view."""
    logits = reader(cut_patches(photo, view, points))["kind"]
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(p / p.sum(axis=1, keepdims=True), dtype=np.float32)


def read_marks(places: Places, field: Field) -> tuple[Mark, ...]:
    """Lead names, speeds and gains of a page, in page mm, with the reader's probability as their score."""
    kinds, mm = places.probability.argmax(axis=1), bilinear(field.mm, places.cells)
    told = [
        Mark(READ_KINDS[k], float(at[0]), float(at[1]), float(row[k]))
        for k, at, row in zip(kinds, mm, places.probability, strict=True)
        if k != _OTHER and row[k] > MIN_PROBABILITY
    ]
    return surest_apart(told, APART_MM)


def legible(places: Places) -> float:
    """How many different lead names, speeds and gains can be read in the view, each counted by its probability.

    I, II and III don't count: these read the same upside down, and lines look like them.
    """
    best = places.probability[:, _ONE_WAY].max(axis=0, initial=0.0)
    return float(best[best > 0.5].sum())


def surest_apart(marks: Iterable[Mark], apart_mm: float) -> tuple[Mark, ...]:
    """Of marks nearer to each other than ``apart_mm`` only the surest, the surest first: one place says one thing."""
    kept: list[Mark] = []
    for m in sorted(marks, key=lambda m: -m.score):
        if all(np.hypot(m.x_mm - k.x_mm, m.y_mm - k.y_mm) > apart_mm for k in kept):
            kept.append(m)
    return tuple(kept)


def _places(maps: Maps) -> NDArray[np.float64]:
    """Cells (n, 2) with something like a name or a text, the surest first."""
    heat = maps.marks[_READABLE].max(axis=0)
    rows, columns = np.nonzero((cv2.dilate(heat, np.ones((3, 3), np.uint8)) == heat) & (heat > SEEN))
    best = np.argsort(-heat[rows, columns], kind="stable")[:MOST]
    rows, columns = rows[best], columns[best]
    dx, dy = (np.clip(maps.place[k, rows, columns], -1, 1) for k in (0, 1))
    return np.stack([columns + dx, rows + dy], axis=-1).astype(np.float64)


def cut_patches(photo: Photo, view: View, points: NDArray[np.float64]) -> F32:
    """Patches (n, 1, 40, 224) around points (n, 2) of the view, the brightest channel, as float32 0..255."""
    step = view.scale * VIEW_PX_PER_MM / PATCH_PX_PER_MM  # photo px a patch px
    small, shrink = shrunken(photo, step)
    c, s = step * np.cos(view.angle_rad) * shrink, step * np.sin(view.angle_rad) * shrink
    half = np.array([(PATCH_WIDTH - 1) / 2, (PATCH_HEIGHT - 1) / 2])
    turn = np.array([[c, -s], [s, c]])
    out = np.empty((len(points), 1, PATCH_HEIGHT, PATCH_WIDTH), np.float32)
    for k, centre in enumerate(view.to_photo(points) * shrink + (0.5 * shrink - 0.5)):
        matrix = np.concatenate([turn, (centre - turn @ half)[:, None]], axis=1)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        patch = cv2.warpAffine(small, matrix, (PATCH_WIDTH, PATCH_HEIGHT), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        out[k, 0] = patch.max(axis=-1)
    return out
