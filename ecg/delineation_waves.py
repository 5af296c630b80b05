"""Onsets and ends of waves in rows of beats: each function takes rows (R, t) of one window and works on all at once.

Rows are leads of a median beat, or leads of single beats one after the other. Positions are samples of the window as
floats, NaN where a row has no such wave or isn't known where it would be. Shares and lengths were chosen on the even
half of LUDB's records at hand, by the marks' spread, and hold on the odd half (``edge_runtime.measure_eval``).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ecg.delineation_beats import F64, Flags, hann, smoothed, sums
from ecg.ranks import ordered

SLOPE_S: Final = (0.012, 0.024)  # smoothing of a lead's slope; the longer where noise decides
QUIET_S: Final = 0.012  # a QRS begins and ends where the lead is quiet for this long
QUIET_SHARE: Final = 0.04  # of the lead's steepest slope: less is quiet
FLOOR_MV_PER_S: Final = 1.0
NOISE_FACTOR: Final = 3.0
RESTING: Final = 0.3  # of the time before QRS a lead is at rest: between T, P and QRS
P_AREA_S: Final = 0.06  # windows of Zhang's area
T_AREA_S: Final = 0.128
P_LEVEL_S: Final = 0.006  # the level at k is the mean over this long on either side
T_LEVEL_S: Final = 0.016
FEW: Final = 32  # values: sorted by a network where many medians are wanted
BIPHASIC: Final = 4.0  # lobes whose areas differ by less than this factor both belong to the wave


def row_slopes(rows: F64, fs_hz: float, length_s: float = 0.012) -> F64:
    """Slope (R, t) in mV/s after smoothing; 0 at the window's ends, NaN where unknown."""
    smooth = smoothed(rows, hann(length_s, fs_hz))
    out = np.zeros_like(smooth)
    out[:, 1:-1] = (smooth[:, 2:] - smooth[:, :-2]) * (fs_hz / 2)
    return out


def between(n: int, first: F64, last: F64) -> Flags:
    """Mask (R, n): first <= sample <= last of each row; NaN bounds give an empty row."""
    index = np.arange(n)[None, :]
    return np.asarray((index >= first[:, None]) & (index <= last[:, None]))


def first_true(mask: Flags) -> F64:
    """First True of each row; NaN without one."""
    return np.where(mask.any(axis=1), np.argmax(mask, axis=1), np.nan)


def last_true(mask: Flags) -> F64:
    """Last True of each row; NaN without one."""
    return np.where(mask.any(axis=1), mask.shape[1] - 1.0 - np.argmax(mask[:, ::-1], axis=1), np.nan)


def nan_median(x: F64, axis: int) -> F64:
    """Median of what is finite; NaN where nothing is."""
    known = np.isfinite(x)
    x = np.where(known, x, np.inf)  # goes last
    x = ordered(x) if axis == 0 and len(x) <= FEW < x[0].size else np.sort(x, axis=axis)
    count = known.sum(axis=axis, keepdims=True)
    low = np.take_along_axis(x, np.maximum(count - 1, 0) // 2, axis=axis)
    high = np.take_along_axis(x, np.minimum(count // 2, x.shape[axis] - 1), axis=axis)
    return np.asarray(np.squeeze(np.where(count > 0, 0.5 * (low + high), np.nan), axis=axis))


def resting(slope: F64, mask: Flags, length: int) -> F64:
    """Root mean square slope (R,) over ``length`` samples where a lead rests: the RESTING quantile of all such pieces
    under the mask; 0 where none are known."""
    square = np.where(mask & np.isfinite(slope), slope, 0.0) ** 2
    total, full = sums(square, length), sums(mask & np.isfinite(slope), length) > length - 0.5
    pieces = np.sort(np.where(full, np.maximum(total, 0.0), np.inf), axis=1)
    at = (RESTING * np.maximum(full.sum(axis=1) - 1, 0)).astype(np.int64)
    best = pieces[np.arange(len(pieces)), at]
    return np.sqrt(np.where(np.isfinite(best), best, 0.0) / length)


def _runs(quiet: Flags, length: int) -> Flags:
    """True where the ``length`` samples that start here are all quiet."""
    return sums(np.pad(quiet, ((0, 0), (0, length - 1))), length) > length - 0.5


def _steepest(slope: F64) -> F64:
    """The slope (R,) that a tenth of each row exceeds; not the largest, which may be a pacemaker's impulse."""
    ordered = np.sort(np.where(np.isfinite(slope), slope, 0.0), axis=1)
    return np.asarray(ordered[:, int(0.9 * (ordered.shape[1] - 1))]) if ordered.shape[1] else np.zeros(len(slope))


def steep_part(rows: F64, at: int, fs_hz: float) -> tuple[int, int]:
    """First and last sample where the leads (L, t) together are steep about the sample ``at``."""
    slope = np.abs(row_slopes(rows, fs_hz, 0.016))
    near, far = round(0.12 * fs_hz), round(0.16 * fs_hz)
    lo, hi = max(at - near, 0), at + near
    steepest = _steepest(slope[:, max(at - round(0.06 * fs_hz), 0) : at + round(0.06 * fs_hz)])
    seen = steepest[steepest > 0]
    scale = np.maximum(steepest, 0.25 * float(np.median(seen)) if len(seen) else 1.0)
    known = np.isfinite(slope)
    power = np.minimum(np.where(known, slope / scale[:, None], 0.0), 1.0) ** 2
    level = np.sqrt(power.sum(axis=0) / np.maximum(known.sum(axis=0), 1))
    steep = level > 0.2 * level[lo:hi].max()
    steep[: max(at - far, 0)] = False
    steep[at + far :] = False
    found = np.flatnonzero(steep)
    if not len(found):
        return at, at
    parts = np.split(found, np.flatnonzero(np.diff(found) > 0.03 * fs_hz) + 1)
    nearest = min(parts, key=lambda p: float(np.abs(p - at).min()))
    return int(nearest[0]), int(nearest[-1])


def qrs_bounds(rows: F64, core: tuple[int, int], fs_hz: float) -> tuple[F64, F64]:
    """QRS onset and end (R,) of each row. ``core`` (first, last sample) is where the leads together are steep."""
    n, one = rows.shape[1], np.ones(len(rows))
    middle, reach = (core[0] + core[1]) // 2, max((core[1] - core[0]) // 2, round(0.04 * fs_hz))
    before_qrs = between(n, one * (core[0] - 0.3 * fs_hz), one * (core[0] - 0.01 * fs_hz))
    slope, steepest, threshold = np.empty_like(rows), np.zeros(len(rows)), np.full(len(rows), np.inf)
    todo = np.arange(len(rows))
    for length_s in SLOPE_S:  # noisy leads again, smoother
        slope[todo] = np.abs(row_slopes(rows[todo], fs_hz, length_s))
        steepest[todo] = _steepest(slope[todo, max(middle - reach, 0) : middle + reach + 1])
        noise = resting(slope[todo], before_qrs[todo], max(round(0.03 * fs_hz), 1))
        threshold[todo] = np.maximum(QUIET_SHARE * steepest[todo], np.maximum(NOISE_FACTOR * noise, FLOOR_MV_PER_S))
        todo = todo[NOISE_FACTOR * noise > QUIET_SHARE * steepest[todo]]
        if not len(todo):
            break
    length = max(round(QUIET_S * fs_hz), 1)
    wide = between(n, one * (core[0] - 0.01 * fs_hz), one * (core[1] + 0.02 * fs_hz)) & np.isfinite(slope)
    with np.errstate(invalid="ignore"):
        steep = wide & (slope >= 0.25 * steepest[:, None])
        quiet = slope < threshold[:, None]
    begin, end = first_true(steep), last_true(steep)
    runs = _runs(quiet, length)
    before = runs & between(n, one * (core[0] - 0.07 * fs_hz), begin - length + 1)
    after = runs & between(n, end, one * (core[1] + 0.09 * fs_hz))
    flat = steepest <= 0
    onset, offset = last_true(before) + length - 1, first_true(after)
    return np.where(flat, np.nan, onset), np.where(flat, np.nan, offset)


def hump(rows: F64, first: int, last: int, half_s: float, smooth_s: float, fs_hz: float) -> tuple[int | None, float]:
    """The sample in first..last where the leads (L, t) together bend most over ``half_s`` on either side, which is the
    peak of a wave of about twice that length, and the bend (mV, root mean square over leads); None without one."""
    h = max(round(half_s * fs_hz), 1)
    z = smoothed(rows, hann(smooth_s, fs_hz))
    bend = np.full_like(z, np.nan)
    bend[:, h:-h] = z[:, h:-h] - 0.5 * (z[:, 2 * h :] + z[:, : -2 * h])
    known = np.isfinite(bend)
    level = np.sqrt((np.where(known, bend, 0.0) ** 2).sum(axis=0) / np.maximum(known.sum(axis=0), 1))
    part = level[max(first, h) : max(last, 0)]
    if len(part) < 3 or not part.any():
        return None, 0.0
    tops = np.flatnonzero((part[1:-1] > part[:-2]) & (part[1:-1] >= part[2:])) + 1
    if not len(tops):
        return None, 0.0
    best = int(tops[np.argmax(part[tops])])
    return best + max(first, h), float(part[best])


def wave_end(rows: F64, first: F64, last: F64, area_s: float, level_s: float, fs_hz: float) -> tuple[F64, F64]:
    """End of a wave (R,) looked for in first..last of each row, and the size of the area that decides (R,) in mV s.

    Zhang Q, Manriquez AI, Medigue C, Papelier Y, Sorine M: An algorithm for robust and efficient location of T-wave
    ends in electrocardiograms. IEEE Trans Biomed Eng 2006;53:2544-2552. The area between the signal and its level at
    k, over the time ``area_s`` before k, is largest at the wave's end. Of a biphasic wave the later lobe ends it.
    """
    w, p = round(area_s * fs_hz), max(round(level_s * fs_hz), 1)
    n = rows.shape[1]
    known = np.isfinite(rows)
    total = np.cumsum(np.pad(np.where(known, rows, 0.0), ((0, 0), (1, 0))), axis=1)
    holes = np.cumsum(np.pad((~known).astype(np.int64), ((0, 0), (1, 0))), axis=1)
    k = np.arange(n)
    lo, hi = np.clip(k - w, 0, n), k + 1
    a, b = np.clip(k - p, 0, n), np.clip(k + p + 1, 0, n)
    level = (total[:, b] - total[:, a]) / (b - a)
    area = (total[:, hi] - total[:, lo] - level * (hi - lo)) / fs_hz
    whole = between(n, first, last) & (holes[:, b] == holes[:, lo])
    up, down = np.where(whole, area, -np.inf), np.where(whole, -area, -np.inf)
    at_up, at_down = np.argmax(up, axis=1), np.argmax(down, axis=1)
    top, bottom = up.max(axis=1), down.max(axis=1)
    size, other = np.maximum(top, bottom), np.minimum(top, bottom)
    at = np.where(other * BIPHASIC > size, np.maximum(at_up, at_down), np.where(top >= bottom, at_up, at_down))
    fine = whole.any(axis=1)
    return np.where(fine, at, np.nan), np.where(fine, size, 0.0)


def wave_start(rows: F64, first: F64, last: F64, area_s: float, level_s: float, fs_hz: float) -> tuple[F64, F64]:
    """Onset of a wave (R,) and its area: ``wave_end`` of time reversed."""
    n = rows.shape[1]
    at, size = wave_end(rows[:, ::-1], n - 1 - last, n - 1 - first, area_s, level_s, fs_hz)
    return n - 1 - at, size


def held(rows: F64, first: int, last: int) -> F64:
    """Rows whose level before ``first`` and after ``last`` stays what it is there: waves beside it are gone."""
    out = rows.copy()
    last = min(max(last, 0), rows.shape[1] - 1)
    if first > 0:
        out[:, :first] = out[:, first : first + 1]
    out[:, last + 1 :] = nan_median(rows[:, max(last - 3, 0) : last + 1], 1)[:, None]
    return out
