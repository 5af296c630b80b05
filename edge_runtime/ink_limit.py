"""What a printed page's ink leaves of its signal: the middle of the stroke, seen without error on the true clock.

A pen has a width: waves narrower than it are printed lower than they are, and tremor finer than it becomes a band.
Whoever follows the middle of the ink, by hand or by machine, stops here; to do better takes knowledge of waves.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecg.leads import base_lead
from ecg.metrics import Score, score_reading
from ecg.synth.style import PageStyle
from ecg.synth.truth import PrintedPage, TraceTruth
from edge_runtime.evaluation import page_truth

STEP_MM: Final = 0.01  # divides what lies between two samples
F64 = NDArray[np.float64]


def ink_score(page: PrintedPage) -> Score:
    """The score of the middle of every trace's ink; of a lead printed twice that of the print which is its truth."""
    assert isinstance(page.style, PageStyle)
    seen = page_truth(replace(page, traces=tuple(_as_inked(t, page.style.pen.width_mm) for t in page.traces)))
    return score_reading(page_truth(page), seen.mv, seen.fs_hz)


def _as_inked(trace: TraceTruth, pen_mm: float) -> TraceTruth:
    """The trace with the millivolts that the middle of its ink shows."""
    _, sign = base_lead(trace.strip.lead)
    x, y = trace.x_mm.astype(np.float64), trace.y_mm.astype(np.float64)
    off_mv = (y - middle_of_ink(x, y, pen_mm)) / trace.strip.gain_mm_per_mv
    return replace(trace, mv=(trace.mv + sign * off_mv).astype(np.float32))


def middle_of_ink(x_mm: F64, y_mm: F64, pen_mm: float) -> F64:
    """Half way between upper and lower edge of what a round pen of ``pen_mm`` covers at each x (n,), rising."""
    fine = np.arange(x_mm[0], x_mm[-1] + STEP_MM, STEP_MM)
    y = np.interp(fine, x_mm, y_mm)
    reach = int(pen_mm / 2 / STEP_MM)
    beside = np.pad(y, reach, mode="edge")
    low, high = np.full(len(y), np.inf), np.full(len(y), -np.inf)
    for k in range(-reach, reach + 1):
        half = np.sqrt((pen_mm / 2) ** 2 - (k * STEP_MM) ** 2)
        part = beside[reach + k : reach + k + len(y)]
        low, high = np.minimum(low, part - half), np.maximum(high, part + half)
    return np.asarray(np.interp(x_mm, fine, (low + high) / 2), dtype=np.float64)
