"""Pages as twelve rows of ink (``ecg.page_input``), sampled along the exact truth, shaken as a reader's sheet would be.

No net is needed to make them: training pages know where they lie in the photo.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import cv2
import numpy as np

from ecg.page import U8, PageLayout, Sheet
from ecg.page_input import page_input
from ecg.records import EcgRecord
from ecg.synth.camera import photograph
from ecg.synth.printer import random_page
from ecg.synth.shake import shaken_sheet
from ecg.synth.shots import random_shot
from ecg.synth.truth import Photograph, PrintedPage

USUAL_SHARE: Final = 0.5  # of pages in 3x4+1 at 25 mm/s and 10 mm/mV, as most carts print; the rest are of any kind
NODE_MM: Final = 5.0
LATTICE_ERROR_MM = 0.15  # what the edge's lattice may be off by
Rng = np.random.Generator


def print_page(record: EcgRecord, rng: Rng) -> PrintedPage:
    """The record on a page as carts print them; without its report, or the page could be matched by reading."""
    quiet = replace(record, report="")
    if rng.random() < USUAL_SHARE:
        return random_page(rng, quiet, layout="3x4+1", speed_mm_per_s=25.0, gain_mm_per_mv=10.0, partial=False)
    return random_page(rng, quiet)


def shoot(page: PrintedPage, long_side_px: int, rng: Rng) -> Photograph:
    """A photo whose long side lies within a third of ``long_side_px``."""
    size = round(long_side_px * float(np.exp(rng.uniform(-0.3, 0.3))))
    return photograph(page, random_shot(rng, long_side_px=size, upright=rng.random() < 0.8), rng)


def lead_page(page: PrintedPage, shot: Photograph | None, rng: Rng) -> U8:
    """The page's rows of ink (768, 768, 1), each time read a little otherwise; without a photo, from the print."""
    if shot is not None and shot.sheet is not None:
        rgb, sheet = shot.rgb, shot.sheet
    else:
        rgb, sheet = _worn(page.rgb, rng), flat_sheet(page)
    return page_input(rgb, shaken_sheet(sheet, rng, LATTICE_ERROR_MM), shaken_layout(page.layout, rng))[..., None]


def clean_page(page: PrintedPage) -> U8:
    """The rows of ink (768, 768, 1) of a print, sampled exactly."""
    return page_input(page.rgb, flat_sheet(page), page.layout)[..., None]


def flat_sheet(page: PrintedPage) -> Sheet:
    """Where a print's millimetres lie in its own pixels, with room about it."""
    w, h = page.size_mm
    x, y = (np.arange(-4 * NODE_MM, side + 5 * NODE_MM, NODE_MM) for side in (w, h))
    nodes = np.stack(np.meshgrid(x, y), axis=-1) * page.px_per_mm - 0.5
    return Sheet(nodes.astype(np.float32), float(x[0]), float(y[0]), 0.0, NODE_MM)


def shaken_layout(layout: PageLayout, rng: Rng) -> PageLayout:
    """Each strip some tenths of a millimetre off, as a reader finds its start and its baseline."""
    drift = rng.normal(0, 0.4)

    def moved(strip_x: float, sigma: float) -> float:
        return strip_x + drift + float(rng.normal(0, sigma))

    strips = []
    for s in layout.strips:
        x0 = moved(s.x0_mm, 0.3)
        strips.append(replace(s, x0_mm=x0, x1_mm=max(moved(s.x1_mm, 0.3), x0 + 1.0),
                              baseline_mm=s.baseline_mm + float(rng.normal(0, 0.6))))  # fmt: skip
    return replace(layout, strips=tuple(strips))


def _worn(rgb: U8, rng: Rng) -> U8:
    """A print as a scan, a copy or a screenshot shows it: another size, soft, noisy, compressed."""
    scale = float(rng.uniform(0.45, 1.0))
    out = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if rng.random() < 0.7 else rgb
    if (sigma := float(rng.uniform(-0.6, 1.4))) > 0.2:
        out = cv2.GaussianBlur(out, (0, 0), sigma)
    if rng.random() < 0.5:
        light = float(rng.uniform(0.6, 1.0))
        out = cv2.addWeighted(out, light, out, 0.0, float(rng.uniform(-10, 40)) * (1 - light))
    if (strength := float(rng.uniform(-6, 12))) > 0:
        noise = np.empty(out.shape[:2], np.int16)
        cv2.setRNGSeed(int(rng.integers(2**31)))
        cv2.randn(noise, np.zeros(1), np.full(1, strength))
        out = np.clip(out.astype(np.int16) + noise[..., None], 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        quality = int(rng.integers(30, 95))
        data = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        out = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    if out.shape == rgb.shape:
        return np.asarray(out, np.uint8)
    # The print's own size again: its truth counts in those pixels.
    return np.asarray(cv2.resize(out, (rgb.shape[1], rgb.shape[0]), interpolation=cv2.INTER_LINEAR), np.uint8)
