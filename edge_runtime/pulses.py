"""Calibration pulses looked at in the photo: two upright strokes, a level top, nothing inside.

The finder's view is too coarse to be sure of a lone pulse, and a page of unusual gain may say so by that pulse alone.
What has a pulse's shape at a pulse's size, stroke by stroke, is one; of what hasn't, nothing is said here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.geometry import grid_xy, local_scale, sample_shrunken, shrunken
from ecg.layouts import GAINS_MM_PER_MV
from ecg.page import U8, Mark, Photo, Sheet

SURE: Final = 0.97  # score of a mark that has a pulse's shape
LEAST_SEEN: Final = 0.25  # by the finder: fainter marks aren't looked at
WIDTHS_MM: Final = (5.0, 10.0)
SIZE_TRUST: Final = 0.07
PX_PER_MM: Final = 8.0
AROUND_MM: Final = 3.0
OFF_MM: Final = 1.5  # of a stroke from where the finder saw it
LEAST_DEPTH: Final = 40.0  # of ink against paper, grey values
INKED: Final = (0.5, 0.35, 0.25)  # of that depth: steep strokes are faint on some machines
STROKE: Final = 0.88  # of a stroke's length is inked
INSIDE: Final = 0.2  # of what lies between may be: grid lines
BEYOND: Final = 0.4  # and of what lies above one of the corners: waves go on there
CLEAR_MM: Final = 0.8  # beside a stroke's middle

Bools = NDArray[np.bool_]
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class _Box:
    """Middles of a pulse's strokes, and its feet, in px of its patch."""

    left: int
    right: int
    top: int
    foot: int

    @property
    def width_mm(self) -> float:
        """From stroke to stroke."""
        return (self.right - self.left) / PX_PER_MM

    @property
    def height_mm(self) -> float:
        """From the feet to the top."""
        return (self.foot - self.top) / PX_PER_MM


def looked_at(photo: Photo, sheet: Sheet, marks: Sequence[Mark]) -> tuple[Mark, ...]:
    """The marks, with those pulses that have a pulse's shape in the photo surely so and of the size seen there."""
    patches = {m: _patch_mm(m) for m in marks if m.kind == "pulse" and m.score > LEAST_SEEN}
    maps = {m: grid_xy(sheet, *xy) for m, xy in patches.items()}
    maps = {m: xy for m, xy in maps.items() if np.isfinite(xy).all()}
    if not maps:
        return tuple(marks)
    small, shrink = shrunken(photo, min(map(local_scale, maps.values())))
    # Grids are pale in some channel.
    seen = {m: sample_shrunken(small, shrink, xy).max(axis=-1) for m, xy in maps.items()}
    return tuple(_shaped(m, seen[m], *patches[m]) if m in seen else m for m in marks)


def _patch_mm(mark: Mark) -> tuple[F64, F64]:
    """Page x (w,) and y (h,) of the patch around a pulse."""
    half = np.array([mark.width_mm, mark.height_mm]) / 2 + AROUND_MM
    x, y = ((np.arange(round(2 * h * PX_PER_MM)) + 0.5) / PX_PER_MM - h for h in half)
    return mark.x_mm + x, mark.y_mm + y


def _shaped(mark: Mark, grey: U8, x_mm: F64, y_mm: F64) -> Mark:
    """The mark as the grey patch (h, w) shows it, where that has a pulse's shape; else as it was."""
    paper = float(np.median(grey))
    depth = paper - float(np.percentile(grey, 1))
    for share in INKED if depth > LEAST_DEPTH else ():
        box = _strokes(grey < paper - share * depth)
        if box is not None and _is_one_of(box.width_mm, WIDTHS_MM) and _is_one_of(box.height_mm, GAINS_MM_PER_MV):
            at = float(x_mm[(box.left + box.right) // 2]), float(y_mm[(box.top + box.foot) // 2])
            return Mark("pulse", *at, max(mark.score, SURE), box.width_mm, box.height_mm)
    return mark


def _is_one_of(size_mm: float, sizes_mm: Sequence[float]) -> bool:
    return any(abs(size_mm / s - 1) < SIZE_TRUST for s in sizes_mm)


def _strokes(ink: Bools) -> _Box | None:
    """A pulse's strokes in the ink (h, w) of its patch, or None where that isn't shaped like one."""
    edge, clear = round(AROUND_MM * PX_PER_MM), round(CLEAR_MM * PX_PER_MM)
    top, foot = edge, ink.shape[0] - edge
    if foot - top < 5 * clear:
        return None
    upright = cv2.dilate(ink.astype(np.uint8), np.ones((1, 3), np.uint8)) > 0
    level = cv2.dilate(ink.astype(np.uint8), np.ones((3, 1), np.uint8)) > 0
    sides = upright[top + 2 * clear : foot - 2 * clear].mean(axis=0)
    left, right = _highest(sides, edge), _highest(sides, ink.shape[1] - edge)
    if min(sides[left], sides[right]) < STROKE or right - left < 4 * clear:
        return None
    roof = level[:, left + clear : right - clear].mean(axis=1)
    top = _highest(roof, top)
    feet = [_end(upright[:, x], top + clear) for x in (left, right)]
    if roof[top] < STROKE or abs(feet[0] - feet[1]) > clear or min(feet) - top < 4 * clear:
        return None
    thick = int(ink[max(top - clear, 0) : top + clear, (left + right) // 2].sum())
    foot = round(np.mean(feet) - thick / 2)
    inside = ink[top + clear : foot - clear, left + clear : right - clear].mean()
    above = min(ink[max(top - 2 * clear, 0) : max(top - clear, 1), x].mean() for x in (left, right))
    return _Box(left, right, top, foot) if inside < INSIDE and above < BEYOND else None


def _highest(share: NDArray[np.floating], near: int) -> int:
    """The middle of the highest values (n,) near an index."""
    off = round(OFF_MM * PX_PER_MM)
    part = share[max(near - off, 0) : near + off + 1]
    return max(near - off, 0) + int(np.flatnonzero(part > part.max() - 0.02).mean())


def _end(stroke: Bools, start: int) -> int:
    """Where ink (n,) that runs down from an index ends, small breaks aside."""
    gone = cv2.erode((~stroke[start:, None]).astype(np.uint8), np.ones((5, 1), np.uint8))[:, 0]
    return start + (int(gone.argmax()) - 2 if gone.any() else len(gone))
