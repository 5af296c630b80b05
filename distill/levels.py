"""Where a printed trace mostly runs."""

from __future__ import annotations

import numpy as np

from ecg.synth.truth import TraceTruth


def level_mm(trace: TraceTruth) -> float:
    """Where a trace mostly runs, page mm: what the runtime takes for its baseline. Its zero nobody sees."""
    y_mm = trace.y_mm[np.isfinite(trace.y_mm)]
    counts = np.bincount(np.rint(y_mm - y_mm.min()).astype(np.int64))
    mode = float(np.convolve(counts, np.ones(3), mode="same").argmax()) + float(y_mm.min())
    return float(np.median(y_mm[np.abs(y_mm - mode) <= 2.5]))
