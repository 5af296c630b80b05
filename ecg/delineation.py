"""Where P, QRS and T begin, peak and end: on the median beat of each lead, over all leads, and in each beat.

As carts do: QRS complexes are found over all leads, beats of the dominant shape are aligned and give one median beat a
lead; waves are delineated there; the global onset is the earliest and the global end the latest that other leads bear
out. Leads may be known for a part of the time only (3x4 pages): the beats of a rhythm strip tie the columns together,
without one the columns are tied at their QRS onsets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecg.delineation_beats import (
    F64,
    PREMATURE,
    Beats,
    Flags,
    Indices,
    bridged,
    find_qrs,
    hann,
    slopes,
    smoothed,
    sort_beats,
    sums,
    windows,
    without_impulses,
)
from ecg.delineation_leads import (
    MARKS,
    P_OFF,
    P_ON,
    QRS_OFF,
    QRS_ON,
    QRS_PEAK,
    T_OFF,
    global_marks,
    global_qrs,
    lead_bounds,
)
from ecg.delineation_waves import nan_median
from ecg.leads import N_LEADS

BEFORE_S: Final = 0.6  # the median beat's window about its fiducial
AFTER_S: Final = 0.9
MIN_CONFIDENCE: Final = 0.15  # samples below count as not printed
P_LIKE: Final = 0.65  # the median likeness that P waves must have; below, they aren't in step with QRS
P_IN_T_S: Final = 0.03  # P may begin this much before the T before it ends
IN_STEP_S: Final = 0.008  # columns whose QRS begin this near each other are in step
LOWEST_FS_HZ: Final = 400.0
SEARCH_S: Final = 0.04  # a single beat's marks lie this near the median beat's


@dataclass(frozen=True, eq=False)
class Delineation:
    """Marks are in the order of MARKS. Times in s from the signal's start, or from a beat's fiducial (``rel``).

    ``beat_s`` (b,) fiducials of all beats; flags (b,): ``usual`` the dominant shape, ``whole`` seen as a whole in at
    least one lead, ``premature``, ``used`` in the median beats. ``beat_marks_s`` (b, 9) of each beat of usual shape.
    ``median_mv`` (12, t) median beats, sample i at rel ``median_start_s + i / fs_hz``; ``lead_marks_s`` (12, 9) rel on
    them; ``marks_s`` (9,) rel, global; ``scatter_s`` (9,) how far apart the leads that decide a global mark are;
    ``lead_beats`` (12,) how many beats each median has. NaN where there is no such wave or it isn't known.
    ``p_likeness``: median correlation of the beats' P waves with each other's median; ``no_p`` says why P isn't marked.
    ``noise_mv``: standard deviation of what is faster than 30 ms and no QRS, median over the leads.
    """

    fs_hz: float
    beat_s: F64
    usual: Flags
    whole: Flags
    premature: Flags
    used: Flags
    beat_marks_s: F64
    median_mv: F64
    median_start_s: float
    lead_marks_s: F64
    marks_s: F64
    scatter_s: F64
    lead_beats: NDArray[np.int64]
    p_likeness: float = 0.0
    no_p: str = "no P wave seen"
    noise_mv: float = 0.0

    def interval_s(self, first: int, last: int) -> float:
        """Time between two global marks, NaN where one isn't known."""
        return float(self.marks_s[last] - self.marks_s[first])


def delineate(mv: NDArray[np.floating], fs_hz: float, confidence: NDArray[np.floating] | None = None) -> Delineation:
    """Delineate (12, n) mV, NaN where not printed; ``confidence`` (12, n) 0..1 leaves out what is hardly read.

    A signal without beats gives a Delineation without beats. Raises ValueError for another shape or a rate below 50 Hz.
    """
    if mv.ndim != 2 or mv.shape[0] != N_LEADS:
        raise ValueError(f"mv must be ({N_LEADS}, n), got {mv.shape}")
    if not fs_hz >= 50:
        raise ValueError(f"fs_hz must be at least 50, got {fs_hz}")
    x = np.where(np.isfinite(mv), mv, np.nan).astype(np.float64)
    if confidence is not None:
        x[confidence < MIN_CONFIDENCE] = np.nan
    x, fs_hz = _resampled(x, float(fs_hz))
    x = bridged(without_impulses(x, fs_hz), fs_hz) if x.shape[1] > 1 else x
    if x.shape[1] < 0.5 * fs_hz or not np.isfinite(x).any():
        return _nothing(fs_hz)
    slope = slopes(x, fs_hz)
    beats = sort_beats(slope, find_qrs(slope, fs_hz), fs_hz)
    if not len(beats.at):
        return _nothing(fs_hz)
    premature = _premature(beats)
    used = _used(beats.usual, premature)
    x, beats, rows, count = _median_beats(x, beats, used, fs_hz)
    return _delineated(x, beats, premature, used, rows, count, fs_hz)


def _resampled(x: F64, fs_hz: float) -> tuple[F64, float]:
    """Slow signals on a finer clock (straight lines), fast ones averaged: 400 to 1200 Hz."""
    if fs_hz < LOWEST_FS_HZ and x.shape[1] > 1:
        k = int(np.ceil(LOWEST_FS_HZ / fs_hz))
        t, fine = np.arange(x.shape[1]), np.arange((x.shape[1] - 1) * k + 1) / k
        return np.stack([np.interp(fine, t, row) for row in x]), fs_hz * k  # NaN spreads to its neighbours
    k = int(fs_hz // LOWEST_FS_HZ) if fs_hz > 1200 else 1
    n = x.shape[1] // k * k
    return x[:, :n].reshape(len(x), -1, k).mean(axis=2), fs_hz / k


def _nothing(fs_hz: float) -> Delineation:
    """No beats."""
    none, no = np.zeros(0), np.zeros(0, bool)
    return Delineation(
        fs_hz, none, no, no, no, no, np.zeros((0, len(MARKS))), np.full((N_LEADS, 1), np.nan), 0.0,
        np.full((N_LEADS, len(MARKS)), np.nan), np.full(len(MARKS), np.nan), np.full(len(MARKS), np.nan),
        np.zeros(N_LEADS, np.int64),
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------------- median beats


def _premature(beats: Beats) -> Flags:
    """Beats that come clearly before the usual interval is over (b,)."""
    rr = beats.intervals()
    usual = float(np.nanmedian(rr)) if len(rr) > 1 else np.nan
    with np.errstate(invalid="ignore"):
        return np.asarray(rr < PREMATURE * usual)


def _used(usual: Flags, premature: Flags) -> Flags:
    """Beats for the median: of usual shape and in time; in irregular rhythms, of usual shape."""
    in_time = usual & ~premature
    return in_time if in_time.sum() >= max(0.5 * usual.sum(), 1) else usual


def _median_beats(x: F64, beats: Beats, used: Flags, fs_hz: float) -> tuple[F64, Beats, F64, NDArray[np.int64]]:
    """The signal with its columns tied together, the beats as they lie then, the median beat of each lead (12, t) on
    a level baseline, and of how many beats it is (12,)."""
    zero = round(BEFORE_S * fs_hz)
    beats = _tied_beats(x, beats, used, fs_hz)
    rows, take = _averaged(x, beats.at[used], fs_hz)
    shift = _column_shifts(rows, take, fs_hz)
    if shift.any():
        x = _moved(x, shift)
        rows, _ = _averaged(x, beats.at[used], fs_hz)
    onset, _ = global_qrs(rows, zero, fs_hz)
    onset = onset if np.isfinite(onset) else zero - 0.04 * fs_hz
    flat = _levelled(x, beats.at[beats.usual], round(onset) - zero, fs_hz)
    rows, take = _averaged(flat, beats.at[used], fs_hz)
    return x, beats, rows, take.sum(axis=0)


def _tied_beats(x: F64, beats: Beats, used: Flags, fs_hz: float) -> Beats:
    """Beats of columns without a common lead, moved so that QRS begins at the same time before every fiducial."""
    groups = np.unique(beats.group[used])
    if len(groups) < 2:
        return beats
    zero, at = round(BEFORE_S * fs_hz), beats.at.copy()
    for g in groups:
        rows, _ = _averaged(x, beats.at[used & (beats.group == g)], fs_hz)
        onset, _ = global_qrs(rows, zero, fs_hz)
        if np.isfinite(onset):
            at[beats.group == g] += round(onset) - zero + round(0.04 * fs_hz)
    return replace(beats, at=at)


def _column_shifts(rows: F64, take: Flags, fs_hz: float) -> Indices:
    """By how many samples each lead (12,) lies later than the others, from the QRS onsets of its column.

    Columns of a page may be out of step by what was misread of their start. Leads of one column share their beats
    (``take`` (b, 12)); differences that anatomy may explain are left alone, and single leads are.
    """
    zero, shift = round(BEFORE_S * fs_hz), np.zeros(len(rows), np.int64)
    columns: dict[bytes, list[int]] = {}
    for lead in np.flatnonzero(take.any(axis=0)):
        columns.setdefault(take[:, lead].tobytes(), []).append(int(lead))
    together = [leads for leads in columns.values() if len(leads) > 1]
    if len(together) < 2:
        return shift
    onsets = [global_qrs(rows[leads], zero, fs_hz)[0] for leads in together]
    known = [v for v, leads in zip(onsets, together, strict=True) for _ in leads if np.isfinite(v)]
    for onset, leads in zip(onsets, together, strict=True):
        if np.isfinite(onset):
            off = onset - float(np.median(known))
            shift[leads] = round(off - np.clip(off, -IN_STEP_S * fs_hz, IN_STEP_S * fs_hz))
    return shift


def _moved(x: F64, shift: Indices) -> F64:
    """Each lead (12, n) earlier by its shift in samples; NaN where nothing is known."""
    index = np.arange(x.shape[1])[None, :] + shift[:, None]
    moved = np.take_along_axis(x, np.clip(index, 0, x.shape[1] - 1), axis=1)
    return np.where((index >= 0) & (index < x.shape[1]), moved, np.nan)


def _averaged(x: F64, at: Indices, fs_hz: float) -> tuple[F64, Flags]:
    """Median over beats (12, t) of the windows about ``at``, and which beats it is made of (b, 12).

    Beats whose P, QRS and T are not all seen are left out where a lead has others: their ends would leave steps.
    """
    pieces = windows(x, at, -round(BEFORE_S * fs_hz), round(AFTER_S * fs_hz))
    zero = round(BEFORE_S * fs_hz)
    inner = np.isfinite(pieces[:, :, zero - round(0.22 * fs_hz) : zero + round(0.36 * fs_hz)]).all(axis=2)
    seen = np.isfinite(pieces[:, :, zero - round(0.06 * fs_hz) : zero + round(0.1 * fs_hz)]).all(axis=2)
    take = np.asarray(np.where(inner.any(axis=0), inner, seen))
    rows = nan_median(np.where(take[:, :, None], pieces, np.nan), 0)
    level = nan_median(rows[:, zero - round(0.1 * fs_hz) : zero - round(0.05 * fs_hz)], 1)
    return rows - np.where(np.isfinite(level), level, 0.0)[:, None], take


def _levelled(x: F64, at: Indices, onset: int, fs_hz: float) -> F64:
    """The signal less straight lines through its levels just before each QRS (``onset`` samples after ``at``)."""
    first, last = onset - round(0.02 * fs_hz), onset - round(0.004 * fs_hz)
    levels = nan_median(windows(x, at, first, last), 2)
    centre = at + 0.5 * (first + last)
    out = x.copy()
    index = np.arange(x.shape[1])
    for lead in range(len(x)):
        known = np.isfinite(levels[:, lead])
        if known.any():
            out[lead] -= np.interp(index, centre[known], levels[known, lead])
    return out


# ---------------------------------------------------------------------------------------------------------------- waves


def _delineated(
    x: F64, beats: Beats, premature: Flags, used: Flags, rows: F64, count: NDArray[np.int64], fs_hz: float
) -> Delineation:
    """All marks, from the median beats."""
    zero = round(BEFORE_S * fs_hz)
    usual_rr = _usual_rr(beats, used, fs_hz)
    lead_marks, fair = lead_bounds(rows, zero, usual_rr, fs_hz)
    marks, scatter = global_marks(lead_marks, fair)
    likeness, no_p = _p_found(x, beats.at[used], marks, zero, usual_rr, fs_hz)
    if no_p:
        lead_marks[:, : P_OFF + 1] = marks[: P_OFF + 1] = scatter[: P_OFF + 1] = np.nan
    beat_marks = _beat_marks(x, beats, rows, lead_marks, marks, fair, zero, fs_hz)
    noise_mv = _noise_mv(x, fs_hz)
    return Delineation(
        fs_hz, beats.at / fs_hz, beats.usual, beats.whole, premature, used, beat_marks, rows, -zero / fs_hz,
        (lead_marks - zero) / fs_hz, (marks - zero) / fs_hz, scatter / fs_hz, count, likeness, no_p, noise_mv,
    )  # fmt: skip


def _noise_mv(x: F64, fs_hz: float) -> float:
    """Robust standard deviation of what is faster than 30 ms, median over the leads (QRS is too short to count)."""
    fast = np.abs(x - smoothed(x, hann(0.03, fs_hz)))
    each = 1.4826 * nan_median(fast, 1)
    return float(nan_median(each[:, None], 0)[0])


def _usual_rr(beats: Beats, used: Flags, fs_hz: float) -> float:
    """The median interval before the used beats, s; 1 where none is known."""
    rr = beats.intervals()[used]
    rr = rr[np.isfinite(rr)]
    return float(np.median(rr)) / fs_hz if len(rr) else 1.0


def _p_found(x: F64, at: Indices, marks: F64, zero: int, rr_s: float, fs_hz: float) -> tuple[float, str]:
    """How like each other the beats' P waves are, and why there is no P wave (empty where there is one)."""
    if not np.isfinite(marks[[P_ON, P_OFF]]).all():
        return 0.0, "no P wave seen"
    t_off = marks[T_OFF] if np.isfinite(marks[T_OFF]) else zero + 0.4 * np.sqrt(rr_s) * fs_hz
    if marks[P_ON] < t_off - (rr_s + P_IN_T_S) * fs_hz:
        return 0.0, "P can't be told from the T wave before it"
    likeness = _p_likeness(x, at, marks, zero, fs_hz)
    return likeness, "" if likeness >= P_LIKE else "no P wave in step with QRS"


def _p_likeness(x: F64, at: Indices, marks: F64, zero: int, fs_hz: float) -> float:
    """Median correlation of the beats' P waves with the others' median, over the leads that each beat has."""
    pad = 0.02 * fs_hz
    first = round(max(marks[P_ON] - pad, 0)) - zero
    last = round(min(marks[P_OFF] + pad, marks[QRS_ON])) - zero
    pieces = windows(x, at, first, last)
    known = np.asarray(np.isfinite(pieces).all(axis=2))
    pieces = np.where(known[:, :, None], pieces, 0.0)
    t = np.linspace(-1, 1, pieces.shape[2])
    pieces = pieces - pieces.mean(axis=2, keepdims=True)
    pieces = pieces - (pieces @ t / (t @ t))[:, :, None] * t
    likeness = []
    for b in range(len(pieces)):
        others = known & (np.arange(len(pieces)) != b)[:, None]
        shared = known[b] & others.any(axis=0)
        if not shared.any():
            continue
        model = nan_median(np.where(others[:, :, None], pieces, np.nan), 0)[shared]
        mine = pieces[b][shared]
        likeness.append(float((model * mine).sum() / np.sqrt(max((model**2).sum() * (mine**2).sum(), 1e-18))))
    return float(np.median(likeness)) if likeness else 0.0


# --------------------------------------------------------------------------------------------------------- single beats


def _beat_marks(
    x: F64, beats: Beats, rows: F64, lead_marks: F64, marks: F64, fair: NDArray[np.bool_], zero: int, fs_hz: float
) -> F64:
    """Marks (b, 9) in s of each beat of usual shape: the global marks, moved by the median over its leads of how far
    its own marks are from those of the median beat."""
    out = np.full((len(beats.at), len(MARKS)), np.nan)
    chosen = np.flatnonzero(beats.usual)
    if not len(chosen) or not np.isfinite(marks[QRS_ON]):
        return out
    pieces = windows(x, beats.at[chosen], -round(BEFORE_S * fs_hz), round(AFTER_S * fs_hz))
    b, n_leads, n = pieces.shape
    flat = pieces.reshape(b * n_leads, n)
    median = np.tile(lead_marks, (b, 1))
    own = _searched(flat, np.tile(rows, (b, 1)), median, marks, fs_hz)
    moved = (own - median).reshape(b, n_leads, len(MARKS))
    for wave in range(3):
        k = slice(3 * wave, 3 * wave + 3)
        shift = nan_median(np.where(fair[wave][None, :, None], moved[:, :, k], np.nan), 1)
        out[chosen, k] = (beats.at[chosen, None] - zero + marks[k] + shift) / fs_hz
    return out


def _searched(flat: F64, like: F64, median: F64, marks: F64, fs_hz: float) -> F64:
    """Marks (R, 9) of rows (R, t), each near the mark of its lead's median beat: where the piece of signal about the
    mark fits the median beat's best (``like`` (R, t))."""
    out = np.full_like(median, np.nan)
    reach, half = round(SEARCH_S * fs_hz), round(0.03 * fs_hz)
    for k in range(len(MARKS)):
        good = np.flatnonzero(np.isfinite(median[:, k]))
        if not len(good):
            continue
        centre = median[good, k].astype(np.int64)
        wide = half if k in (QRS_ON, QRS_PEAK, QRS_OFF) else 2 * half
        length = 2 * wide + 1
        offsets = np.arange(-reach - wide, reach + wide + 1)
        index = np.clip(centre[:, None] + offsets, 0, flat.shape[1] - 1)
        mine = flat[good[:, None], index]
        model = like[good[:, None], index][:, reach : reach + length]
        model = model - model.mean(axis=1, keepdims=True)
        known = np.isfinite(mine).all(axis=1) & np.isfinite(model).all(axis=1)
        good, mine, model = good[known], mine[known], model[known]
        # The squared difference of piece and model, both without their means, written out: no (R, lags, t) array.
        part = np.lib.stride_tricks.sliding_window_view(mine, length, axis=1)
        own = sums(mine**2, length) - sums(mine, length) ** 2 / length
        error = own - 2.0 * np.einsum("rkt,rt->rk", part, model) + (model**2).sum(axis=1, keepdims=True)
        best = np.argmin(error, axis=1) - reach
        inner = np.abs(best) < reach
        out[good[inner], k] = median[good[inner], k] + best[inner]
    return out
