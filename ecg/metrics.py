"""How close a reading comes to the true signal: the usual decibels, coverage, error, and how often none was given.

``kaggle``  12 leads, best lag within 0.2 s a lead, offset removed; signal and noise power summed over the leads; the
            ratio capped at 384; mean of linear ratios over readings, then 10 log10 (digitisation challenge of 2025).
``clock``   the same ratio without the lag search: the printed clock must be right.
``physionet``  per record and lead, dB times the share of samples covered, then averaged (challenge of 2024).
Refused and failed readings count with ratio 0 and coverage 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecg.leads import N_LEADS
from ecg.records import EcgRecord

F64 = NDArray[np.float64]

MAX_LAG_S: Final = 0.2
RATIO_CAP: Final = 384.0  # 25.84 dB
RATIO_FLOOR: Final = 1e-3  # -30 dB
STATUSES: Final = ("read", "refused", "failed")


def decibels(ratio: float) -> float:
    """10 log10 of a power ratio, at least -30 dB."""
    return float(10.0 * np.log10(max(ratio, RATIO_FLOOR)))


@dataclass(frozen=True)
class Score:
    """One reading against its truth.

    ``ratio`` and ``clock_ratio`` are linear, capped power ratios with and without the lag search; ``lead_db`` holds
    per lead dB times coverage (NaN where the lead wasn't printed); ``rmse_uv`` is taken on the printed clock over the
    covered samples, one offset a lead removed (NaN where nothing was covered); ``lag_s`` (12) the lags found.
    """

    name: str
    status: str
    ratio: float
    clock_ratio: float
    coverage: float
    rmse_uv: float
    lead_db: tuple[float, ...]
    lag_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status must be one of {STATUSES}, got {self.status!r}")

    @property
    def db(self) -> float:
        """Decibels with the lag search."""
        return decibels(self.ratio)

    @property
    def clock_db(self) -> float:
        """Decibels on the printed clock."""
        return decibels(self.clock_ratio)

    @property
    def physionet_db(self) -> float:
        """Mean over the printed leads of dB times coverage."""
        return float(np.nanmean(self.lead_db)) if np.isfinite(self.lead_db).any() else 0.0


@dataclass(frozen=True)
class Summary:
    """Many readings: see the module's docstring. Rates and coverage are shares 0..1 of all ``n``."""

    n: int
    n_read: int
    kaggle_db: float
    physionet_db: float
    median_db: float
    p10_db: float
    clock_median_db: float
    coverage: float
    rmse_uv: float
    under_6db: int
    refusal_rate: float
    failure_rate: float


@dataclass(frozen=True)
class LeadError:
    """Powers of one printed lead (mV² summed over its samples) at the best lag."""

    signal: float
    noise: float
    covered_signal: float
    covered_noise: float
    lag: int


def lead_error(label_mv: F64, predicted_mv: F64, max_lag: int) -> LeadError:
    """Signal and noise power of one lead (n,) over its printed samples at the best lag of at most ``max_lag`` samples.

    The best lag has the largest covariance; where the prediction is NaN the noise is the label itself.
    """
    signal = float(np.sum(label_mv**2))
    lag = _best_lag(label_mv, predicted_mv, max_lag)
    if lag is None:
        return LeadError(signal, signal, 0.0, 0.0, 0)
    moved = _shifted(predicted_mv, lag)
    ok = np.isfinite(moved)
    difference = np.where(ok, moved - np.mean(moved[ok] - label_mv[ok]), 0.0)
    error = (label_mv - difference) ** 2
    return LeadError(
        signal, float(np.sum(error)), float(np.sum(label_mv[ok] ** 2)), float(np.sum(error[ok])), lag
    )  # fmt: skip


def _best_lag(label_mv: F64, predicted_mv: F64, max_lag: int) -> int | None:
    """The lag with the largest covariance sum over the finite samples; None where fewer than two are finite."""
    n = len(label_mv)
    ok = np.isfinite(predicted_mv).astype(np.float64)
    value = np.where(ok > 0, predicted_mv, 0.0)
    # Row k of a "valid" correlation with zeros around is the prediction moved by max_lag - k samples to the right.
    pad = max_lag
    value, ok = np.pad(value, pad), np.pad(ok, pad)
    centred = label_mv - label_mv.mean()
    count = np.correlate(ok, np.ones(n), "valid")
    mean = np.correlate(value, np.ones(n), "valid") / np.maximum(count, 1.0)
    covariance = np.correlate(value, centred, "valid") - mean * np.correlate(ok, centred, "valid")
    covariance[count < 2] = -np.inf
    by_lag = covariance[::-1]  # lags -max_lag .. max_lag; the first of equals wins
    best = int(np.argmax(by_lag))
    return best - max_lag if np.isfinite(by_lag[best]) else None


def _shifted(values: F64, lag: int) -> F64:
    """Values moved ``lag`` samples to the right, NaN where nothing came from."""
    out = np.full(len(values), np.nan)
    if lag >= 0:
        out[lag:] = values[: len(values) - lag]
    else:
        out[:lag] = values[-lag:]
    return out


def on_grid(mv: NDArray[np.floating], fs_hz: float, n: int, to_fs_hz: float) -> F64:
    """A signal (12, m) at fs_hz on n samples at to_fs_hz from the same start; NaN stays NaN, gaps aren't bridged."""
    source = np.asarray(mv, dtype=np.float64)
    if fs_hz == to_fs_hz:
        out = np.full((source.shape[0], n), np.nan)
        m = min(n, source.shape[1])
        out[:, :m] = source[:, :m]
        return out
    t, grid = np.arange(source.shape[1]) / fs_hz, np.arange(n) / to_fs_hz
    out = np.full((source.shape[0], n), np.nan)
    for lead, row in enumerate(source):
        ok = np.isfinite(row)
        if ok.sum() > 1:
            value = np.interp(grid, t[ok], row[ok], left=np.nan, right=np.nan)
            value[np.interp(grid, t, ok.astype(np.float64), left=0, right=0) <= 0.5] = np.nan
            out[lead] = value
    return out


def score_reading(
    truth: EcgRecord, predicted_mv: NDArray[np.floating] | None, fs_hz: float = 500.0, status: str = ""
) -> Score:
    """Score a reading against its truth (12, n) mV, NaN where not printed, both from the printed start.

    ``predicted_mv`` (12, m) at ``fs_hz``; None for a refused or failed photo (``status`` says which; "failed" unless
    given). Samples outside a lead's printed span, from its first to its last finite sample, don't count.
    """
    if predicted_mv is None:
        nothing = tuple(0.0 if np.isfinite(row).any() else np.nan for row in truth.mv)
        return Score(truth.name, status or "failed", 0.0, 0.0, 0.0, np.nan, nothing, (0.0,) * N_LEADS)
    if predicted_mv.shape[0] != N_LEADS:
        raise ValueError(f"predicted_mv must be ({N_LEADS}, m), got {predicted_mv.shape}")
    predicted = on_grid(predicted_mv, fs_hz, truth.mv.shape[1], truth.fs_hz)
    max_lag = round(MAX_LAG_S * truth.fs_hz)
    sums = np.zeros(4)  # signal and noise power with lag search, noise power and covered noise on the clock
    covered = total = 0
    lead_db, lag_s = [np.nan] * N_LEADS, [0.0] * N_LEADS
    for lead, (label, guess) in enumerate(_printed(truth.mv, predicted)):
        if len(label) == 0:
            continue
        best, clock = lead_error(label, guess, max_lag), lead_error(label, guess, 0)
        n_covered = int(np.isfinite(guess).sum())
        covered, total = covered + n_covered, total + len(label)
        sums += best.signal, best.noise, clock.noise, clock.covered_noise
        ratio = _ratio(best.covered_signal, best.covered_noise)
        lead_db[lead] = decibels(ratio) * n_covered / len(label) if n_covered else 0.0
        lag_s[lead] = best.lag / truth.fs_hz
    rmse_uv = 1000.0 * float(np.sqrt(sums[3] / covered)) if covered else np.nan
    return Score(
        truth.name, status or "read", _ratio(sums[0], sums[1]), _ratio(sums[0], sums[2]), covered / max(total, 1),
        rmse_uv, tuple(lead_db), tuple(lag_s),
    )  # fmt: skip


def _ratio(signal: float, noise: float) -> float:
    """The capped power ratio; 0 where there is no signal."""
    if signal <= 0:
        return 0.0
    return float(min(signal / noise, RATIO_CAP)) if noise > 0 else RATIO_CAP


def _printed(truth_mv: NDArray[np.floating], predicted: F64) -> list[tuple[F64, F64]]:
    """Per lead the truth and the prediction over the printed span; unknown samples inside it are left out."""
    out = []
    for label, guess in zip(truth_mv.astype(np.float64), predicted, strict=True):
        known = np.flatnonzero(np.isfinite(label))
        span = slice(known[0], known[-1] + 1) if len(known) else slice(0, 0)
        label, guess = label[span], guess[span]
        keep = np.isfinite(label)
        out.append((label, guess) if keep.all() else (label[keep], guess[keep]))
    return out


def summarise(scores: Sequence[Score]) -> Summary:
    """The figures over many readings; medians count what wasn't read, and what is below 0 dB, as 0 dB."""
    if not scores:
        raise ValueError("no scores to summarise")
    ratios = np.array([s.ratio for s in scores])
    per = np.maximum([s.db for s in scores], 0.0)
    clock = np.maximum([s.clock_db for s in scores], 0.0)
    rmse = np.array([s.rmse_uv for s in scores])
    n = len(scores)
    return Summary(
        n=n,
        n_read=sum(s.status == "read" for s in scores),
        kaggle_db=decibels(float(ratios.mean())),
        physionet_db=float(np.mean([s.physionet_db for s in scores])),
        median_db=float(np.median(per)),
        p10_db=float(np.percentile(per, 10)),
        clock_median_db=float(np.median(clock)),
        coverage=float(np.mean([s.coverage for s in scores])),
        rmse_uv=float(np.nanmedian(rmse)) if np.isfinite(rmse).any() else float("nan"),
        under_6db=int(np.sum(per < 6)),
        refusal_rate=sum(s.status == "refused" for s in scores) / n,
        failure_rate=sum(s.status == "failed" for s in scores) / n,
    )


def auroc(score: NDArray[np.floating], true: NDArray[np.bool_]) -> float:
    """Share of (positive, negative) pairs in the right order, ties half; NaN without both kinds. (n,) each."""
    n_true = int(true.sum())
    if n_true in (0, len(true)):
        return float("nan")
    _, group, count = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[group]  # mean rank of ties, from 1
    return float((ranks[true].sum() - n_true * (n_true + 1) / 2) / (n_true * (len(true) - n_true)))
