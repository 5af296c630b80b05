"""A printed page's rows as a decoder reads them before it is told of the other rows: what strips then show of these."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from distill.levels import level_mm
from ecg.bundle import load_bundle
from ecg.other_rows import ReadTrace
from ecg.page import Photo, Sheet
from ecg.synth.truth import Photograph
from edge_runtime.decoder import decode_rows, open_decoder
from edge_runtime.engines.base import Engine

LEVEL_ERROR_MM = 0.5  # what the runtime's baselines may be off by


@lru_cache(maxsize=1)
def decoder_of(bundle: Path) -> Engine:
    """The decoder of a bundle, loaded once a process."""
    return open_decoder(load_bundle(bundle), "ort", threads=1)


def first_reading(shot: Photograph, sheet: Sheet, decoder: Engine, rng: np.random.Generator) -> dict[int, ReadTrace]:
    """Each row's trace by its number, read along ``sheet`` with the true layout of a photograph of a page."""
    page = shot.page
    assert page is not None
    strips = tuple(
        replace(t.strip, x0_mm=float(t.x_mm[0]), x1_mm=float(t.x_mm[-1]),
                baseline_mm=level_mm(t) + rng.normal(0, LEVEL_ERROR_MM))
        for t in page.traces if len(t.x_mm) > 1
    )  # fmt: skip
    rows = decode_rows(Photo(shot.rgb), sheet, replace(page.layout, strips=strips), decoder, twice=False)
    return {row.strips[0].row: row.as_read() for row in rows}
