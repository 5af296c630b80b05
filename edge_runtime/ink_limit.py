"""What a printed page's ink leaves of its signal: the middle of the stroke, seen without error on the true clock.

A pen has a width: waves narrower than it are printed lower than they are, and tremor finer than it becomes a band.
Whoever follows the middle of the ink, by hand or by machine, stops here; to do better takes knowledge of waves.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecg.leads import LEAD_INDEX, base_lead
from ecg.metrics import Score, score_reading
from ecg.synth.style import PageStyle
from ecg.synth.truth import PrintedPage
from edge_runtime.evaluation import page_truth

STEP_MM: Final = 0.01  # divides what lies between two samples
F64 = NDArray[np.float64]


def ink_score(page: PrintedPage) -> Score:
    """The score of the middle of every trace's ink; where a lead is printed twice, of its longer print."""
    assert isinstance(page.style, PageStyle)
    truth = page_truth(page)
    mv = np.full_like(truth.mv, np.nan)
    for trace in page.traces:  # rhythm strips come last and win, as in the truth
        lead, sign = base_lead(trace.strip.lead)
        x, y = trace.x_mm.astype(np.float64), trace.y_mm.astype(np.float64)
        off_mv = (y - middle_of_ink(x, y, page.style.pen.width_mm)) / trace.strip.gain_mm_per_mv
        first = round(trace.strip.start_s * trace.fs_hz)
        mv[LEAD_INDEX[lead], first : first + len(trace.mv)] = trace.mv + sign * off_mv
    return score_reading(truth, mv, truth.fs_hz)


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
