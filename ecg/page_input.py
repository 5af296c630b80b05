"""The page as encoders see it: twelve rows of ink, one a lead, on one clock, out of whatever layout was printed.

A photo shows leads in many arrangements, speeds and gains, under many lights.  None of it says anything about the
heart, so it is taken out before a net looks: each printed lead's own pixels are sampled along the sheet into the
lead's row of a fixed picture, at fixed px per second and per mV; what the page does not print stays 0.  Header text,
hands and tables stay outside: no name or printed diagnosis can reach an embedding.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.geometry import grid_xy, local_scale, sample_shrunken, shrunken
from ecg.leads import LEAD_INDEX, N_LEADS, base_lead
from ecg.page import F32, U8, LeadStrip, PageLayout, Photo, Sheet

PAGE_SECONDS: Final = 10.0
PAGE_WIDTH_PX: Final = 768
ROW_PX: Final = 64
PAGE_HEIGHT_PX: Final = ROW_PX * N_LEADS
HALF_ROW_MV: Final = 2.5
PX_PER_S: Final = PAGE_WIDTH_PX / PAGE_SECONDS
PX_PER_MV: Final = ROW_PX / (2 * HALF_ROW_MV)
_PAPER_BLUR_PX: Final = 31


def page_input(rgb: U8, sheet: Sheet, layout: PageLayout) -> U8:
    """The photo's printed leads as one picture (768, 768): 255 where all is ink, 0 for paper and for what isn't there.

    Row k * 64 .. (k + 1) * 64 shows lead k of ``ecg.leads.LEADS`` from +2.5 mV down to -2.5 mV; columns run from the
    printed start over 10 s.  Where a lead stands both in a column and in a rhythm strip, the column counts.
    """
    out = np.zeros((PAGE_HEIGHT_PX, PAGE_WIDTH_PX), np.uint8)
    small: tuple[U8, float] | None = None
    # Rhythm strips first: a lead's own column, printed beside the others of its moment, is laid over them.
    for strip in sorted(layout.strips, key=lambda s: s.x0_mm - s.x1_mm):
        columns = _columns(strip, layout.paper_speed_mm_per_s)
        if columns.size < 2:
            continue
        xy = _strip_px(strip, columns, sheet, layout.paper_speed_mm_per_s)
        if small is None:
            small = shrunken(Photo(rgb), local_scale(xy))
        lead, sign = base_lead(strip.lead)
        ink = _ink(sample_shrunken(*small, xy, fill=0), _on_photo(xy, rgb, 1.0 / small[1]))
        row = LEAD_INDEX[lead] * ROW_PX
        out[row : row + ROW_PX, columns] = ink if sign > 0 else ink[::-1]
    return out


def _columns(strip: LeadStrip, speed: float) -> NDArray[np.int64]:
    """The picture's columns whose centres the strip prints."""
    first = strip.start_s * PX_PER_S
    last = first + (strip.x1_mm - strip.x0_mm) / speed * PX_PER_S
    at = np.arange(PAGE_WIDTH_PX)
    return at[(at + 0.5 >= first) & (at + 0.5 <= last)]


def _strip_px(strip: LeadStrip, columns: NDArray[np.int64], sheet: Sheet, speed: float) -> F32:
    x_mm = strip.x0_mm + ((columns + 0.5) / PX_PER_S - strip.start_s) * speed
    mv = HALF_ROW_MV - (np.arange(ROW_PX) + 0.5) / PX_PER_MV
    return grid_xy(sheet, x_mm, strip.baseline_mm - mv * strip.gain_mm_per_mv)


def _on_photo(xy: F32, rgb: U8, margin_px: float) -> NDArray[np.bool_]:
    """Where the photo shows something; its last pixels are mixed with what lies beyond, so they don't count."""
    last = np.array([rgb.shape[1], rgb.shape[0]]) - 1 - margin_px
    with np.errstate(invalid="ignore"):
        return np.asarray((xy >= margin_px).all(axis=-1) & (xy <= last).all(axis=-1))


def _ink(rgb: U8, known: NDArray[np.bool_]) -> U8:
    """Darkness against the paper around, (h, w) uint8.

    The brightest channel counts: a coloured grid is as bright as paper in one of them, black ink in none.
    """
    bright = rgb.max(axis=-1)
    # Paper is what most of the neighbourhood is at least as dark as: a blurred maximum follows shadows, not strokes.
    paper = cv2.GaussianBlur(cv2.dilate(bright, np.ones((9, 9), np.uint8)), (_PAPER_BLUR_PX, _PAPER_BLUR_PX), 0)
    level = bright.astype(np.float32) / np.maximum(paper.astype(np.float32), 16.0)
    ink = np.clip((1.0 - level) * 1.25, 0.0, 1.0) * known
    return np.asarray(np.rint(255.0 * ink), np.uint8)
