"""Where a reading's decibels went: the wrong layout, the clock, the gain, gaps, single leads or the paper."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecg.leads import LEADS
from ecg.metrics import Score, lead_error, on_grid
from ecg.page import Reading, Unreadable
from ecg.records import EcgRecord

F64 = NDArray[np.float64]

START_TOLERANCE_S: Final = 0.3
LAYOUT_SHARE: Final = 0.25  # of the leads printed elsewhere
STRETCH_PCT: Final = 0.08  # FIELD 4: 0.1 % of time scale costs 5 dB of a perfect reading
LAG_SPREAD_S: Final = 0.012
GAIN_OFF: Final = 0.06
MIN_COVERAGE: Final = 0.97
RESIDUAL_MM: Final = 0.35
LEAD_DROP_DB: Final = 6.0


@dataclass(frozen=True)
class Diagnosis:
    """Figures of one reading against its truth, and the likeliest cause of what is missing.

    ``stretch_pct``: how much longer than the truth the read time axis runs. ``gain_ratio``: read over true amplitude.
    """

    cause: str
    stretch_pct: float = float("nan")
    gain_ratio: float = float("nan")
    worst_leads: tuple[str, ...] = ()
    wrong_leads: tuple[str, ...] = field(default=())


def diagnose(truth: EcgRecord, result: Reading | Unreadable, score: Score) -> Diagnosis:
    """The likeliest cause, the gravest first."""
    if isinstance(result, Unreadable):
        return Diagnosis(f"refused: {result.stage}/{result.reason}")
    predicted = on_grid(result.signal.mv, result.signal.fs_hz, truth.mv.shape[1], truth.fs_hz)
    wrong = _wrong_leads(truth, predicted)
    stretch, gain = stretch_pct(truth, predicted), gain_ratio(truth, predicted, score)
    worst = _worst_leads(score)
    lags = np.array([lag for lag, row in zip(score.lag_s, truth.mv, strict=True) if np.isfinite(row).any()])
    spread = float(np.percentile(np.abs(lags - np.median(lags)), 75))
    causes = [
        (len(wrong) > LAYOUT_SHARE * len(LEADS), f"layout ({result.layout.name})"),
        (abs(np.log(max(gain, 1e-3))) > np.log(1 + GAIN_OFF), f"gain x{gain:.2f}"),
        (abs(stretch) > STRETCH_PCT, f"time scale {stretch:+.2f} %"),
        (spread > LAG_SPREAD_S, f"clock (lags spread {1000 * spread:.0f} ms)"),
        (score.coverage < MIN_COVERAGE, f"gaps ({100 * score.coverage:.0f} % covered)"),
        (result.sheet.residual_mm > RESIDUAL_MM, f"lattice ({result.sheet.residual_mm:.2f} mm)"),
        (bool(worst), f"trace of {' '.join(worst)}"),
    ]
    found = [text for holds, text in causes if holds]
    return Diagnosis(", ".join(found[:3]) or "trace", stretch, gain, worst, wrong)


def _wrong_leads(truth: EcgRecord, predicted: F64) -> tuple[str, ...]:
    """Leads whose read span starts elsewhere than their printed one."""
    wrong = []
    for lead, label, guess in zip(LEADS, truth.mv, predicted, strict=True):
        known, read = np.flatnonzero(np.isfinite(label)), np.flatnonzero(np.isfinite(guess))
        if len(known) and (not len(read) or abs(known[0] - read[0]) > START_TOLERANCE_S * truth.fs_hz):
            wrong.append(lead)
    return tuple(wrong)


def stretch_pct(truth: EcgRecord, predicted: F64, window_s: float = 2.5) -> float:
    """Percent by which the read time runs long, from the lags of windows along the longest printed lead."""
    spans = np.isfinite(truth.mv).sum(axis=1)
    lead = int(np.argmax(spans))
    n = round(window_s * truth.fs_hz)
    known = np.flatnonzero(np.isfinite(truth.mv[lead]))
    middle, lag = [], []
    for first in range(known[0] if len(known) else 0, len(truth.mv[lead]) - n + 1, n // 2):
        label, guess = truth.mv[lead, first : first + n].astype(np.float64), predicted[lead, first : first + n]
        if np.isfinite(label).all() and np.isfinite(guess).mean() > 0.7:
            middle.append(first + n / 2)
            # The lag that brings the reading onto the truth; the reading itself comes that much early.
            lag.append(-lead_error(label - label.mean(), guess, round(0.15 * truth.fs_hz)).lag)
    if len(lag) < 3:
        return float("nan")
    slopes = [(b - a) / (y - x) for i, (x, a) in enumerate(zip(middle, lag, strict=True))
              for y, b in zip(middle[i + 1 :], lag[i + 1 :], strict=True)]  # fmt: skip
    return 100.0 * float(np.median(slopes))  # Theil-Sen: one slipped beat doesn't bend it


def gain_ratio(truth: EcgRecord, predicted: F64, score: Score) -> float:
    """Read over true amplitude: the median over leads of the regression of the reading on the truth, lags removed."""
    ratios = []
    for label, guess, lag_s in zip(truth.mv.astype(np.float64), predicted, score.lag_s, strict=True):
        moved = np.roll(guess, round(lag_s * truth.fs_hz))
        ok = np.isfinite(label) & np.isfinite(moved)
        if ok.sum() < truth.fs_hz or label[ok].std() < 0.02:
            continue
        a, b = label[ok] - label[ok].mean(), moved[ok] - moved[ok].mean()
        if (a @ b) > 0.7 * np.sqrt((a @ a) * (b @ b)):  # elsewhere the shape is wrong, not the size
            ratios.append(float(np.sqrt((b @ b) / (a @ a))))
    return float(np.median(ratios)) if ratios else float("nan")


def _worst_leads(score: Score) -> tuple[str, ...]:
    """Leads that lie far below the median lead, worst first, at most three."""
    db = np.array(score.lead_db)
    if not np.isfinite(db).any():
        return ()
    low = [(value, lead) for value, lead in zip(db, LEADS, strict=True) if value < np.nanmedian(db) - LEAD_DROP_DB]
    return tuple(lead for _, lead in sorted(low)[:3])
