"""How far the leads of one reading contradict each other: what is printed twice, and Einthoven's relation.

Both are judged before the limb leads are reconciled, each lead about its own median: zero lines are arbitrary.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecg.leads import LEAD_INDEX, base_lead
from ecg.page import EcgSignal, LeadStrip, PageLayout
from edge_runtime.decoder import RowTrace
from edge_runtime.signals import FS_HZ, assemble

F64 = NDArray[np.float64]
MIN_SAMPLES: Final = round(0.5 * FS_HZ)
MAX_LAG: Final = round(0.02 * FS_HZ)  # two prints of one lead may be 20 ms apart: half a millimetre at 25 mm/s
MAX_ROW_LAG: Final = 12  # samples at 500 Hz, 24 ms: 0.6 mm at 25 mm/s
ROW_LAG_STEP: Final = 3
UNKNOWN: Final = -1.0


def contradictions(rows: tuple[RowTrace, ...], layout: PageLayout, signal: EcgSignal) -> dict[str, float]:
    """Quality figures "repeat_error" and "einthoven_error": rms of the difference over rms of the leads, -1 unknown.

    0 is perfect agreement, about 1.4 what two unrelated leads of like size give.
    """
    return {"repeat_error": round(repeat_error(rows, layout), 4), "einthoven_error": round(einthoven_error(signal), 4)}


def einthoven_error(signal: EcgSignal) -> float:
    """Rms of I + III - II over the rms of the three, where all three are read; -1 where they aren't.

    At the best of a few lags of I and III: rows that the paper's bend sets some tenths of a millimetre apart in time
    are no contradiction, while two leads taken for each other stay one.
    """
    limb = np.asarray(signal.mv[[LEAD_INDEX[n] for n in ("I", "III", "II")]], dtype=np.float64)
    read = np.isfinite(limb).all(axis=0)
    together = np.flatnonzero(read)
    if len(together) < MIN_SAMPLES:
        return UNKNOWN
    limb = limb - np.median(limb[:, read], axis=1, keepdims=True)
    # Three leads of a 3x4 page share a quarter of its clock: the lags need no more of it.
    limb = limb[:, max(0, together[0] - 2 * MAX_ROW_LAG) : together[-1] + 1 + 2 * MAX_ROW_LAG]
    lags = range(-MAX_ROW_LAG, MAX_ROW_LAG + 1, ROW_LAG_STEP)
    first, third = ([_moved(row, lag) for lag in lags] for row in limb[:2])
    return min(_einthoven(a, b, limb[2]) for a in first for b in third)


def _moved(x: F64, lag: int) -> F64:
    """x (n,) ``lag`` samples later, NaN where nothing comes in."""
    out = np.full_like(x, np.nan)
    out[max(lag, 0) : len(x) + min(lag, 0)] = x[max(-lag, 0) : len(x) - max(lag, 0)]
    return out


def _einthoven(first: F64, third: F64, second: F64) -> float:
    """Rms of I + III - II over the rms of the three (n,), about their medians; infinite where they share too little."""
    residual = first + third - second
    together = np.isfinite(residual)
    n = int(together.sum())
    if n < MIN_SAMPLES // 2:
        return np.inf
    power = sum(float(np.dot(x, x)) for x in (first[together], third[together], second[together]))
    off = residual[together]
    return float(np.sqrt(np.dot(off, off) / n)) / max(float(np.sqrt(power / n)), 0.02)


def repeat_error(rows: tuple[RowTrace, ...], layout: PageLayout) -> float:
    """The worst disagreement of a rhythm strip with the short lead of the same name; -1 where none is printed."""
    strips = [(s, row) for row in rows for s in row.strips]
    worst = UNKNOWN
    for k, (short, row) in enumerate(strips):
        for long, other in strips[k + 1 :]:
            if base_lead(short.lead)[0] == base_lead(long.lead)[0]:
                pair = (_alone(short, row, layout), _alone(long, other, layout))
                worst = max(worst, _difference(*pair))
    return worst


def _alone(strip: LeadStrip, row: RowTrace, layout: PageLayout) -> F64:
    """One printed trace on the page's clock, (n,) mV."""
    single = PageLayout(layout.name, layout.paper_speed_mm_per_s, layout.gain_mm_per_mv, (strip,))
    read = RowTrace((strip,), row.x_mm, row.y_mm, row.presence, row.sharpness)
    return np.asarray(assemble((read,), single).mv[LEAD_INDEX[base_lead(strip.lead)[0]]], dtype=np.float64)


def _difference(a: F64, b: F64) -> float:
    """Rms difference of two readings of one lead over their rms, at the best of a few lags; -1 with too little."""
    n = min(len(a), len(b))
    best = np.inf
    for lag in range(-MAX_LAG, MAX_LAG + 1, 2):
        x, y = a[max(lag, 0) : n + min(lag, 0)], b[max(-lag, 0) : n + min(-lag, 0)]
        both = np.isfinite(x) & np.isfinite(y)
        if both.sum() < MIN_SAMPLES:
            continue
        x, y = x[both] - np.median(x[both]), y[both] - np.median(y[both])
        size = float(np.sqrt((x**2).mean() + (y**2).mean()) / np.sqrt(2))
        best = min(best, float(np.sqrt(((x - y) ** 2).mean())) / max(size, 0.02))
    return best if np.isfinite(best) else UNKNOWN
