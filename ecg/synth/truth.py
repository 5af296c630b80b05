"""What printer and camera know exactly, handed on as frozen values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecg.page import F32, U8, LeadStrip, PageLayout, Sheet
from ecg.records import EcgRecord

F64 = NDArray[np.float64]
PointMap = Callable[[NDArray[np.floating]], F64]  # (..., 2) -> (..., 2)


@dataclass(frozen=True, eq=False)
class TraceTruth:
    """One printed trace: mv (n,) on the printed clock, and where the pen went: x_mm (n,), y_mm (n,)."""

    strip: LeadStrip
    fs_hz: float
    mv: F32
    x_mm: F32
    y_mm: F32


@dataclass(frozen=True)
class MarkBox:
    """Something printed that is not a trace, its box in page mm.

    ``kind``: "lead" (text is the printed lead name), "speed" (text "25" or "50"), "gain" ("5", "10", "20", "10/5"),
    "pulse" (calibration pulse, text ""), "separator", "header", "footer", "handwriting", "stamp".
    """

    kind: str
    text: str
    x0_mm: float
    y0_mm: float
    x1_mm: float
    y1_mm: float


@dataclass(frozen=True)
class GridTruth:
    """Where the heavy lines run: x = x0_mm + 5 k, y = y0_mm + 5 k. ``kind``: lines, dots, heavy, none, or fine
    (1 mm lines only: which of them are the heavy ones nobody can see)."""

    kind: str
    x0_mm: float
    y0_mm: float
    # The rectangle that the grid covers, page mm (x0, y0, x1, y1); an empty one where there is no grid.
    area_mm: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class PrintedPage:
    """A page as the printer made it. Pixel (0, 0)'s centre lies at page mm (0.5, 0.5) / px_per_mm."""

    rgb: U8
    px_per_mm: float
    layout: PageLayout
    traces: tuple[TraceTruth, ...]
    marks: tuple[MarkBox, ...]
    grid: GridTruth
    record: EcgRecord
    style: object = None

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height."""
        return self.rgb.shape[1] / self.px_per_mm, self.rgb.shape[0] / self.px_per_mm


@dataclass(frozen=True, eq=False)
class Photograph:
    """A photo of a page with the exact maps between them.

    ``page_to_photo`` takes page mm to photo px (pixel centres at integers), ``photo_to_page`` the other way; NaN
    where the point isn't on the sheet (or, for photo_to_page, shows background).  ``sheet`` is the same map on the
    lattice of the printed grid's heavy lines, NaN outside the sheet.  ``page`` is None for pictures without an ECG.
    """

    rgb: U8
    page: PrintedPage | None
    page_to_photo: PointMap
    photo_to_page: PointMap
    sheet: Sheet | None
    condition: str = ""  # "scan", "screenshot", "flat", "folded", "crumpled", ...: for tables by condition
