"""Where the heart beats: QRS complexes found over all leads, aligned, sorted by shape, cut into windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]

MAX_BRIDGE_S: Final = 0.06  # shorter gaps are bridged by a straight line
IMPULSE_MV: Final = 0.15
IMPULSE_MV_PER_S: Final = 40.0
DETECT: Final = 0.09  # of the activity of a typical QRS: wide ectopic beats reach little more, T waves less
SMOOTH_S: Final = 0.02
REFRACTORY_S: Final = 0.22
SHAPE_S: Final = (-0.07, 0.09)  # about the fiducial: what tells a beat's shape
MAX_LAG_S: Final = 0.05
SAME_SHAPE: Final = 0.8  # correlation
MIN_LIKE: Final = 0.5  # beats less like the dominant one aren't aligned with it
PREMATURE: Final = 0.85  # of the usual interval
SMALLEST_BEAT: Final = 0.4  # of the dominant one's size


@dataclass(frozen=True, eq=False)
class Beats:
    """Beats in order of time.

    ``at`` (b,) sample of the fiducial, the same point of each dominant beat; ``usual`` (b,) True for the dominant
    shape; ``whole`` (b,) seen from before its onset to after its end in at least one lead; ``group`` (b,): beats of
    one group are aligned with each other through leads they share, those of different groups are not.
    """

    at: Indices
    usual: Flags
    whole: Flags
    group: Indices

    def intervals(self) -> F64:
        """Samples since the beat before (b,); NaN for the first."""
        return np.concatenate([[np.nan], np.diff(self.at).astype(np.float64)])[: len(self.at)]


def bridged(mv: F64, fs_hz: float) -> F64:
    """The signal (L, n) with gaps up to MAX_BRIDGE_S filled by straight lines."""
    out = mv.copy()
    longest = round(MAX_BRIDGE_S * fs_hz)
    for row in out:
        known = np.flatnonzero(np.isfinite(row))
        for k in np.flatnonzero((np.diff(known) > 1) & (np.diff(known) <= longest + 1)):
            a, b = known[k], known[k + 1]
            row[a : b + 1] = np.linspace(row[a], row[b], b - a + 1)
    return out


def without_impulses(mv: F64, fs_hz: float) -> F64:
    """The signal (L, n) with a pacemaker's impulses cut out (NaN): a few ms that stick out of a quiet neighbourhood.

    The other samples of 26 ms about a pacemaker's impulse lie close together; those about an R wave's peak don't.
    """
    half, wide = max(round(0.013 * fs_hz), 3), max(round(0.008 * fs_hz), 2)
    jump = np.zeros_like(mv, dtype=bool)
    with np.errstate(invalid="ignore"):
        jump[:, 1:] = np.abs(np.diff(mv, axis=1)) * fs_hz > IMPULSE_MV_PER_S
        jump[:, :-1] |= jump[:, 1:]
    lead, at = np.nonzero(jump)
    inside = (at >= half) & (at < mv.shape[1] - half)
    lead, at = lead[inside], at[inside]
    if not len(at):
        return mv
    near = mv[lead[:, None], at[:, None] + np.arange(-half, half + 1)]
    out_by = mv[lead, at] - np.median(near, axis=1)
    ordered = np.sort(near * np.sign(out_by)[:, None], axis=1)  # the impulse is on top
    spread = ordered[:, 2 * half - wide] - ordered[:, 1]
    with np.errstate(invalid="ignore"):
        impulse = (np.abs(out_by) > IMPULSE_MV) & (spread < 0.25 * np.abs(out_by))
    out = mv.copy()
    for side in (-1, 0, 1):
        out[lead[impulse], at[impulse] + side] = np.nan
    return out


def hann(length_s: float, fs_hz: float) -> F64:
    """A Hann window of odd length with sum 1."""
    half = max(round(length_s * fs_hz / 2), 1)
    w = np.hanning(2 * half + 3)[1:-1]
    return np.asarray(w / w.sum(), dtype=np.float64)


def smoothed(x: F64, kernel: F64) -> F64:
    """Rows (L, n) convolved with a symmetric kernel of odd length over what is known; NaN stays NaN."""
    known = np.isfinite(x)
    one = np.ones(1)
    out, weight = (
        cv2.sepFilter2D(rows, cv2.CV_64F, kernel, one, borderType=cv2.BORDER_CONSTANT)
        for rows in (np.where(known, x, 0.0), known.astype(np.float64))
    )
    return np.where(known, out / np.maximum(weight, 1e-9), np.nan)


def sums(x: NDArray[np.float64] | Flags, length: int) -> F64:
    """Sums of every ``length`` neighbours along the last axis (..., n): (..., n - length + 1)."""
    total = np.zeros((*x.shape[:-1], x.shape[-1] + 1))
    np.cumsum(x, axis=-1, out=total[..., 1:])
    return np.asarray(total[..., length:] - total[..., :-length])


def slopes(mv: F64, fs_hz: float, length_s: float = SMOOTH_S) -> F64:
    """The smoothed signal's slope (L, n) in mV/s; NaN at the ends of what is known."""
    smooth = smoothed(mv, hann(length_s, fs_hz))
    out = np.full_like(smooth, np.nan)
    out[:, 1:-1] = (smooth[:, 2:] - smooth[:, :-2]) * (fs_hz / 2)
    return out


# ------------------------------------------------------------------------------------------------------------ detection


def activity(slope: F64, fs_hz: float) -> F64:
    """How much the leads move (n,): mean square of their slopes, each against its own steepest, over 80 ms."""
    steepest = np.array([_quantile(np.abs(row), 0.98) for row in slope])
    seen = steepest[steepest > 0]
    if not len(seen):
        return np.zeros(slope.shape[1])
    scale = np.maximum(steepest, 0.25 * float(np.median(seen)))
    known = np.isfinite(slope)
    power = np.where(known, slope / scale[:, None], 0.0) ** 2
    mean = np.minimum(power, 9.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.convolve(mean, hann(0.12, fs_hz), "same")


def _quantile(values: F64, q: float) -> float:
    values = values[np.isfinite(values)]
    return float(np.quantile(values, q)) if len(values) else 0.0


def find_qrs(slope: F64, fs_hz: float) -> Indices:
    """Samples of the QRS complexes (b,), each at the centre of its activity, from slopes (L, n)."""
    level = activity(slope, fs_hz)
    peaks = np.flatnonzero((level[1:-1] > level[:-2]) & (level[1:-1] >= level[2:])) + 1
    width = max(round(1.6 * fs_hz), 1)
    tops = [level[k : k + width].max() for k in range(0, max(len(level) - width // 2, 1), width)]
    typical = float(np.median(tops)) if tops else 0.0
    if typical <= 0:
        return np.zeros(0, dtype=np.int64)
    found = _apart(peaks, level, DETECT * typical, fs_hz)
    for _ in range(2):  # a second look at pauses that are longer than the rhythm lets expect
        if len(found) < 3:
            break
        usual = float(np.median(np.diff(found)))
        before = found[np.clip(np.searchsorted(found, peaks) - 1, 0, len(found) - 2)]
        after = found[np.clip(np.searchsorted(found, peaks), 1, len(found) - 1)]
        alone = (peaks - before > 0.6 * usual) & (after - peaks > 0.6 * usual)
        missing = peaks[alone & (level[peaks] > 0.05 * typical)].tolist()
        if not missing:
            break
        found = _apart(np.array(sorted({*found.tolist(), *missing})), level, 0.05 * typical, fs_hz)
    return _centred(found, level, fs_hz)


def _apart(peaks: Indices, level: F64, threshold: float, fs_hz: float) -> Indices:
    """Peaks above the threshold, the higher first, none within the refractory time of another; no T waves."""
    chosen: list[int] = []
    for p in peaks[np.argsort(-level[peaks], kind="stable")]:
        if level[p] < threshold:
            break
        if all(abs(p - c) >= REFRACTORY_S * fs_hz for c in chosen):
            chosen.append(int(p))
    chosen.sort()
    out: list[int] = []
    for c in chosen:  # a T wave follows within 0.4 s and is far less steep than its QRS
        if out and c - out[-1] < 0.4 * fs_hz and level[c] < 0.3 * level[out[-1]]:
            continue
        out.append(c)
    return np.array(out, dtype=np.int64)


def _centred(at: Indices, level: F64, fs_hz: float) -> Indices:
    """The centre of gravity of the activity about each peak."""
    half = round(0.07 * fs_hz)
    index = at[:, None] + np.arange(-half, half + 1)
    weight = np.where((index >= 0) & (index < len(level)), level[np.clip(index, 0, len(level) - 1)], 0.0) ** 2
    shift = (weight * np.arange(-half, half + 1)).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-12)
    return np.asarray(at + np.round(shift), dtype=np.int64)


# ------------------------------------------------------------------------------------------------------------- windows


def windows(x: F64, at: Indices, first: int, last: int) -> F64:
    """Pieces (b, L, last - first + 1) of rows (L, n) about the samples ``at``; NaN beyond the signal."""
    n, length = x.shape[1], last + 1 - first
    out = np.full((len(at), len(x), length), np.nan)
    for piece, start in zip(out, (at + first).tolist(), strict=True):
        a, b = max(start, 0), min(start + length, n)
        if a < b:
            piece[:, a - start : b - start] = x[:, a:b]
    return out


def _whole(pieces: F64) -> Flags:
    """Which leads of which beats (b, L) are known over the whole piece."""
    return np.asarray(np.isfinite(pieces).all(axis=2))


def sort_beats(slope: F64, at: Indices, fs_hz: float) -> Beats:
    """Find the dominant shape, and shift every beat to where it fits that shape best. ``slope`` (L, n) mV/s.

    What is far less steep than the dominant beat (a P wave in a pause, a burst of noise) is no beat; those cut by the
    signal's ends are left out.
    """
    first, last = round(SHAPE_S[0] * fs_hz), round(SHAPE_S[1] * fs_hz)
    if not len(at):
        return Beats(at, np.zeros(0, bool), np.zeros(0, bool), np.zeros(0, np.int64))
    pieces = windows(slope, at, first, last)
    group = _groups(_whole(pieces))
    usual = _seed(pieces, group)
    for _ in range(3):
        template = _template(windows(slope, at, first, last), usual)
        at, like = _shifted(slope, at, template, fs_hz)
        usual = like >= SAME_SHAPE
        if not usual.any():
            usual = like >= np.nanmax(np.where(np.isfinite(like), like, -1))
    pieces = windows(slope, at, first, last)
    whole = np.asarray(_whole(pieces).any(axis=1))
    large = _relative_size(pieces, template) >= SMALLEST_BEAT
    keep = np.concatenate([[True], np.diff(at) > 0.5 * REFRACTORY_S * fs_hz]) & (usual | large | ~whole)
    known = np.flatnonzero(np.isfinite(slope).any(axis=0))
    keep &= whole | ((at + first >= known[0]) & (at + last <= known[-1]))  # half a beat at the end has no fiducial
    return Beats(at[keep], (usual & whole)[keep], whole[keep], group[keep])


def _relative_size(pieces: F64, template: F64) -> F64:
    """How large each beat is beside the dominant one (b,), by what its slopes add up to, over the leads it has."""
    whole = _whole(pieces) & template.any(axis=1)
    mine = np.where(whole[:, :, None], pieces, 0.0)
    mine = mine - np.where(whole, mine.mean(axis=2), 0.0)[:, :, None]
    size = (np.ptp(np.cumsum(mine, axis=2), axis=2) ** 2).sum(axis=1)
    typical = np.ptp(np.cumsum(template - template.mean(axis=1, keepdims=True), axis=1), axis=1) ** 2
    wanted = whole.astype(np.float64) @ typical
    return np.asarray(np.where(wanted > 0, np.sqrt(size / np.maximum(wanted, 1e-12)), 1.0))


def _groups(whole: Flags) -> Indices:
    """Numbers (b,) of the connected sets of beats that share leads; ``whole`` (b, L)."""
    group = np.arange(len(whole))
    for lead in range(whole.shape[1]):
        members = group[whole[:, lead]]
        if len(members):
            group = np.where(np.isin(group, members), members.min(), group)
    return group


def _similarity(pieces: F64) -> F64:
    """Correlation (b, b) of all beats with each other over the leads they share; 0 where they share none."""
    whole = _whole(pieces)
    x = np.where(whole[:, :, None], pieces, 0.0)
    products = np.einsum("ilt,jlt->ij", x, x)
    energy = (x**2).sum(axis=2)
    shared = energy @ whole.T.astype(np.float64)  # of beat i over the leads that j has
    return np.asarray(products / np.sqrt(np.maximum(shared * shared.T, 1e-12)))


def _seed(pieces: F64, group: Indices) -> Flags:
    """Beats like the one that most others are like, in each group."""
    like = _similarity(pieces) >= SAME_SHAPE
    usual = np.zeros(len(pieces), bool)
    for g in np.unique(group):
        members = np.flatnonzero(group == g)
        near = like[np.ix_(members, members)]
        usual[members] = near[np.argmax(near.sum(axis=1))]
    return usual


def _template(pieces: F64, usual: Flags) -> F64:
    """The median of the usual beats (L, t); leads that none of them has are 0."""
    whole = _whole(pieces) & usual[:, None]
    x = np.where(whole[:, :, None], pieces, np.nan)
    out = np.zeros(pieces.shape[1:])
    for lead in np.flatnonzero(whole.any(axis=0)):
        out[lead] = np.median(x[whole[:, lead], lead], axis=0)
    return out


def _shifted(slope: F64, at: Indices, template: F64, fs_hz: float) -> tuple[Indices, F64]:
    """Beats moved by up to MAX_LAG_S to where they are most like the template, and how like they are then (b,)."""
    reach = round(MAX_LAG_S * fs_hz)
    first, last = round(SHAPE_S[0] * fs_hz) - reach, round(SHAPE_S[1] * fs_hz) + reach
    pieces = windows(slope, at, first, last)
    size = template.shape[1]
    known = np.asarray(template.any(axis=1))  # leads that no usual beat has yet don't count
    there = np.isfinite(pieces)
    whole = (sums(there, size) > size - 0.5) & known[None, :, None]  # (b, L, lags)
    filled = np.where(there, pieces, 0.0)
    part = np.lib.stride_tricks.sliding_window_view(filled, size, axis=2)  # (b, L, lags, t)
    product = (np.einsum("blkt,lt->blk", part, template) * whole).sum(axis=1)
    own = (sums(filled**2, size) * whole).sum(axis=1)
    wanted = np.einsum("blk,l->bk", whole.astype(np.float64), (template**2).sum(axis=1))
    like = product / np.sqrt(np.maximum(own * wanted, 1e-12))
    # The full overlap of template and beat counts: a lead that is lost on the way may not win.
    score = like * np.sqrt(wanted / np.maximum(wanted.max(axis=1, keepdims=True), 1e-12))
    best = np.argmax(score, axis=1)
    found = like[np.arange(len(at)), best]
    # A beat cut by the end of its leads, or of another shape, stays where it was seen.
    return np.where(found >= MIN_LIKE, at + best - reach, at), found
