"""A look at each frame: the coarse finder and cheap measures, how far the picture moved, and which frame to take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from ecg.page import F32, U8, GateFinding, Photo
from edge_runtime.coarse import thumbnail
from edge_runtime.engines.base import Engine
from edge_runtime.gate import gate_frame
from edge_runtime.gate_measures import Area, PhotoMeasures, coarse_area, measure

MOTION_PX: Final = 160  # width of the picture that motion is measured on
CHANGED: Final = 0.12  # mean difference of two small pictures, of their range: another page, or none
GREEN_FRAMES: Final = 4
UNSURE_MOTION: Final = 0.05  # what motion counts as where two frames have little in common


@dataclass(frozen=True, eq=False)
class Glance:
    """What one look at a frame told: where the ECG is, the measures, the doubts (none: green), the small picture."""

    area: Area
    measures: PhotoMeasures
    findings: tuple[GateFinding, ...]
    small: F32

    @property
    def green(self) -> bool:
        """Nothing keeps this frame from being taken."""
        return not self.findings


def glance(photo: Photo, coarse: Engine, before: Glance | None = None) -> Glance:
    """Look at a frame; ``before`` is the look at the frame before it, for motion."""
    area = coarse_area(photo, coarse)
    measures = measure(photo, area)
    small = _small(thumbnail(photo)[0], photo.rgb.shape, area.factor)
    motion = _motion(before.small, small) if before is not None and before.small.shape == small.shape else 0.0
    return Glance(area, measures, gate_frame(measures, motion), small)


def changed(a: Glance, b: Glance) -> bool:
    """Whether two looks show different things."""
    if a.small.shape != b.small.shape:
        return True
    low, high = np.percentile(a.small, (2, 98))
    return float(np.abs(a.small - b.small).mean()) > CHANGED * max(float(high - low), 20.0)


class Chooser:
    """Waits for a few green frames in a row and gives the sharpest of them; then waits until the picture changes."""

    def __init__(self, green_frames: int = GREEN_FRAMES) -> None:
        self._needed = green_frames
        self._count = 0
        self._best: tuple[float, Photo, Glance] | None = None
        self._taken: Glance | None = None

    def add(self, photo: Photo, look: Glance) -> Photo | None:
        """Take a frame into account; the frame to read, once there is one."""
        if self._taken is not None:
            if not changed(self._taken, look):
                return None
            self._taken = None
        if not look.green:
            self._count, self._best = 0, None
            return None
        self._count += 1
        if self._best is None or look.measures.blur_mm < self._best[0]:
            self._best = (look.measures.blur_mm, photo, look)
        if self._count < self._needed:
            return None
        _, best, self._taken = self._best
        self._count, self._best = 0, None
        return best

    @property
    def waiting(self) -> bool:
        """The picture was taken and nothing has changed since."""
        return self._taken is not None

    def again(self) -> None:
        """Forget what was taken: the same page may be taken once more."""
        self._taken = None


def _small(letterboxed: U8, shape: tuple[int, ...], factor: float) -> F32:
    """The frame in grey, about ``MOTION_PX`` wide, without the letterbox's bars."""
    h, w = (max(1, round(n * factor)) for n in shape[:2])
    grey = cv2.cvtColor(letterboxed[:h, :w], cv2.COLOR_RGB2GRAY)
    size = (MOTION_PX, max(16, round(MOTION_PX * h / w)))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def _motion(before: F32, now: F32) -> float:
    """How far the picture moved, in picture widths, by phase correlation (Kuglin and Hines 1975)."""
    window = cv2.createHanningWindow((now.shape[1], now.shape[0]), cv2.CV_32F)
    (dx, dy), response = cv2.phaseCorrelate(before, now, window)
    shift: float = float(np.hypot(dx, dy)) / now.shape[1]
    unlike = response < 0.05 and float(np.abs(before - now).mean()) > 2.0
    return float(max(shift, UNSURE_MOTION)) if unlike else shift
