"""A print taken as it leaves the printer: a photograph without a camera, pixel for pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ecg.page import LATTICE_MM, Sheet
from ecg.synth.truth import F64, Photograph, PrintedPage


def as_photograph(page: PrintedPage) -> Photograph:
    """The page's own pixels, with the maps that a camera would give; NaN off the page."""
    size = np.array(page.size_mm)

    def page_to_photo(mm: NDArray[np.floating]) -> F64:
        on = ((mm >= 0) & (mm <= size)).all(axis=-1, keepdims=True)
        return np.where(on, np.asarray(mm, np.float64) * page.px_per_mm - 0.5, np.nan)

    def photo_to_page(px: NDArray[np.floating]) -> F64:
        mm = (np.asarray(px, np.float64) + 0.5) / page.px_per_mm
        return np.where(((mm >= 0) & (mm <= size)).all(axis=-1, keepdims=True), mm, np.nan)

    return Photograph(page.rgb, page, page_to_photo, photo_to_page, _sheet(page), "print")


def _sheet(page: PrintedPage) -> Sheet:
    """The crossings of the heavy lines, and as many beyond the page: its rim is read too."""
    axes = []
    for start, side in zip((page.grid.x0_mm, page.grid.y0_mm), page.size_mm, strict=True):
        first = start - (np.floor(start / LATTICE_MM + 1e-6) + 1) * LATTICE_MM
        axes.append(np.arange(first, side + LATTICE_MM, LATTICE_MM))
    nodes = np.stack(np.meshgrid(*axes), axis=-1) * page.px_per_mm - 0.5
    return Sheet(nodes.astype(np.float32), float(axes[0][0]), float(axes[1][0]), 0.0, LATTICE_MM)
