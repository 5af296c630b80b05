"""Printed speeds and gains beyond the finder's view: looked for where the page says too little of its scale."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np

from ecg.geometry import VIEW_PX_PER_MM, View, view_around
from ecg.marks import READ_KINDS
from ecg.page import Mark, Photo
from edge_runtime.engines.base import Engine
from edge_runtime.finder import Pose, bounded, fine_maps, plain_field
from edge_runtime.mark_reader import Places, read_marks, read_places

SURELY_READ: Final = 0.9  # of 214 texts read so surely on rendered pages one was misread
BAND_OVERLAP_MM, LEAST_BAND_MM = 4.0, 4.0  # a text cut by the view's edge is seen whole; less paper than that has none


def texts_beyond(photo: Photo, pose: Pose, fine: Engine, names: Engine) -> tuple[Mark, ...]:
    """Speeds and gains printed below the pose's view on the traces or, where no speed surely is, above it.

    Their places are in mm of that look, good for how two texts lie to each other and no more.
    """
    told: list[Mark] = []
    for band, y_mm in _bands_beyond(pose):
        maps = fine_maps(photo, bounded(band), fine)
        marks = read_marks(read_places(photo, maps, names), plain_field(maps))
        told += [replace(m, y_mm=m.y_mm + y_mm) for m in marks if m.kind.startswith(("speed:", "gain:"))]
        if speed_told(told):
            break
    return tuple(told)


def speed_told(marks: Iterable[Mark]) -> bool:
    """Whether a paper speed was surely read."""
    return any(m.kind.startswith("speed:") and m.score > SURELY_READ for m in marks)


def reads_speed(places: Places) -> bool:
    """Whether a place surely says a paper speed."""
    speeds = [k for k, kind in enumerate(READ_KINDS) if kind.startswith("speed:")]
    return bool((places.probability[:, speeds] > SURELY_READ).any())


def _bands_beyond(pose: Pose) -> list[tuple[View, float]]:
    """Views of the paper below and above the pose's view, and how far down from the paper's edge they start, mm."""
    paper = view_around(pose.paper_px, pose.px_per_mm, pose.angle_rad, 0.0)
    y = paper.from_photo(pose.view.corners_px())[:, 1]
    overlap = BAND_OVERLAP_MM * VIEW_PX_PER_MM
    spans = (
        (max(float(y.max()) - overlap, 0.0), float(paper.height)),
        (0.0, min(float(y.min()) + overlap, paper.height)),
    )
    bands = []
    for top, bottom in spans:
        if bottom - top - overlap > LEAST_BAND_MM * VIEW_PX_PER_MM:
            x_px, y_px = paper.to_photo(np.array([0.0, top]))
            band = replace(paper, origin_x_px=float(x_px), origin_y_px=float(y_px), height=int(np.ceil(bottom - top)))
            bands.append((band, top / VIEW_PX_PER_MM))
    return bands
