"""The marks of one median beat: in each of its leads, and from all of them."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecg.delineation_beats import F64, Flags
from ecg.delineation_waves import (
    P_AREA_S,
    P_LEVEL_S,
    T_AREA_S,
    T_LEVEL_S,
    held,
    hump,
    qrs_bounds,
    steep_part,
    wave_end,
    wave_start,
)

MARKS: Final = ("p_on", "p_peak", "p_off", "qrs_on", "qrs_peak", "qrs_off", "t_on", "t_peak", "t_off")
P_ON, P_PEAK, P_OFF, QRS_ON, QRS_PEAK, QRS_OFF, T_ON, T_PEAK, T_OFF = range(len(MARKS))

OTHERS: Final = (1, 2, 1)  # leads that must bear out a global bound of P, QRS, T; QRS is steep and hides least in noise
MIN_QRS_MV: Final = 0.06  # smaller complexes don't tell where QRS begins or ends
P_SHARE: Final = 0.35  # of the largest area of the wave in any lead: smaller waves don't tell its bounds
T_SHARE: Final = 0.25
LONGEST_PR_S: Final = 0.36
T_REACH_S: Final = 0.16  # from peak to end at a heart rate of 60, longest


def lead_bounds(rows: F64, zero: int, rr_s: float, fs_hz: float) -> tuple[F64, NDArray[np.bool_]]:
    """Marks (12, 9) in samples of the window on the leads' median beats, and which leads are fair for P, QRS and T
    (3, 12). ``zero`` is the fiducial's sample."""
    out = np.full((len(rows), len(MARKS)), np.nan)
    core = steep_part(rows, zero, fs_hz)
    out[:, QRS_ON], out[:, QRS_OFF] = qrs_bounds(rows, core, fs_hz)
    fair = np.zeros((3, len(rows)), bool)
    fair[1] = _fair_qrs(rows, core)
    onset = borne_out(out[:, QRS_ON], fair[1], True, OTHERS[1])[0]
    offset = borne_out(out[:, QRS_OFF], fair[1], False, OTHERS[1])[0]
    if not (np.isfinite(onset) and np.isfinite(offset)):
        return out, fair
    out[:, QRS_PEAK] = _extreme(rows, out[:, QRS_ON], out[:, QRS_OFF])
    fair[2] = _t_bounds(rows, out, zero, offset, rr_s, fs_hz)
    fair[0] = _p_bounds(rows, out, zero, onset, rr_s, fs_hz)
    return out, fair


def _t_bounds(rows: F64, out: F64, zero: int, offset: float, rr_s: float, fs_hz: float) -> Flags:
    """Fill in T; which leads are fair for it. The peak is where the leads bend most after the QRS."""
    root = float(np.sqrt(max(rr_s, 0.3)))
    held_rows = held(rows, round(offset + 0.02 * fs_hz), rows.shape[1] - 1)
    begin = round(offset + 0.05 * fs_hz)
    final = zero + round(min(0.46 * root, max(rr_s - 0.2, 0.62 * rr_s)) * fs_hz)
    peak, _ = hump(held_rows, begin, max(final, begin + round(0.06 * fs_hz)), 0.06, 0.05, fs_hz)
    if peak is None:
        return np.zeros(len(rows), bool)
    one = np.ones(len(rows))
    limit = min(peak + T_REACH_S * max(root, 0.7) * fs_hz, zero + (rr_s - 0.05) * fs_hz)
    out[:, T_OFF], size = wave_end(rows, one * peak, one * limit, T_AREA_S, T_LEVEL_S, fs_hz)
    first, last = one * max(peak - 0.22 * root * fs_hz, offset), one * (peak - 0.02 * fs_hz)
    out[:, T_ON], _ = wave_start(held_rows, first, last, T_AREA_S, T_LEVEL_S, fs_hz)
    fair = (size > T_SHARE * size.max()) & (size > 0)
    out[:, T_PEAK] = _extreme(rows, out[:, T_ON], out[:, T_OFF])
    return np.asarray(fair)


def _p_bounds(rows: F64, out: F64, zero: int, onset: float, rr_s: float, fs_hz: float) -> Flags:
    """Fill in P; which leads are fair for it. The peak is where the leads bend most between T and QRS."""
    root = float(np.sqrt(max(rr_s, 0.3)))
    after_t = zero - rr_s * fs_hz + 0.42 * root * fs_hz
    first = round(max(onset - LONGEST_PR_S * fs_hz, min(after_t, onset - 0.14 * fs_hz), 0.06 * fs_hz))
    held_rows = held(rows, 0, round(onset) - round(0.008 * fs_hz))
    peak, bend = hump(held_rows, first, round(onset - 0.034 * fs_hz), 0.034, 0.03, fs_hz)
    if peak is None or bend <= 0:
        return np.zeros(len(rows), bool)
    one = np.ones(len(rows))
    near, far = 0.01 * fs_hz, 0.1 * fs_hz
    p_off, _ = wave_end(held_rows, one * (peak + near), one * min(peak + far, onset), P_AREA_S, P_LEVEL_S, fs_hz)
    p_on, size = wave_start(
        held_rows, one * max(peak - far, first - 0.06 * fs_hz), one * (peak - near), P_AREA_S, P_LEVEL_S, fs_hz
    )
    out[:, P_ON], out[:, P_OFF] = p_on, p_off
    out[:, P_PEAK] = _extreme(rows, p_on, p_off)
    return np.asarray((size > P_SHARE * size.max()) & (size > 0))


def _extreme(rows: F64, first: F64, last: F64) -> F64:
    """Where each row is farthest from the line between its bounds (R,)."""
    out = np.full(len(rows), np.nan)
    for r in np.flatnonzero(np.isfinite(first) & np.isfinite(last)):
        a, b = int(first[r]), int(last[r])
        part = rows[r, a : b + 1]
        if b > a + 1 and np.isfinite(part).all():
            out[r] = a + int(np.argmax(np.abs(part - np.linspace(part[0], part[-1], len(part)))))
    return out


def global_marks(lead_marks: F64, fair: NDArray[np.bool_]) -> tuple[F64, F64]:
    """Global marks (9,) and how far apart the leads are that decide them (9,)."""
    marks, scatter = np.full(len(MARKS), np.nan), np.full(len(MARKS), np.nan)
    for wave in range(3):
        for k, first in ((3 * wave, True), (3 * wave + 2, False)):
            marks[k], scatter[k] = borne_out(lead_marks[:, k], fair[wave], first, OTHERS[wave])
        peaks = lead_marks[fair[wave], 3 * wave + 1]
        peaks = peaks[np.isfinite(peaks)]
        if len(peaks):
            marks[3 * wave + 1], scatter[3 * wave + 1] = np.median(peaks), np.std(peaks)
    return marks, scatter


def global_qrs(rows: F64, zero: int, fs_hz: float) -> tuple[float, float]:
    """QRS onset and end over all leads, in samples of the window."""
    core = steep_part(rows, zero, fs_hz)
    onset, offset = qrs_bounds(rows, core, fs_hz)
    fair = _fair_qrs(rows, core)
    return borne_out(onset, fair, True, OTHERS[1])[0], borne_out(offset, fair, False, OTHERS[1])[0]


def _fair_qrs(rows: F64, core: tuple[int, int]) -> Flags:
    """Leads whose QRS is large enough to tell its bounds (12,)."""
    part = np.where(np.isfinite(rows), rows, 0.0)[:, core[0] : core[1] + 1]
    return np.asarray(np.ptp(part, axis=1) > MIN_QRS_MV) if part.shape[1] else np.zeros(len(rows), bool)


def borne_out(marks: F64, fair: Flags, first: bool, others: int) -> tuple[float, float]:
    """The earliest (``first``) or latest mark that ``others`` leads bear out by theirs, and the spread of the four
    outermost. Of few leads it is at most the middle one; NaN without any fair lead."""
    values = np.sort(marks[fair & np.isfinite(marks)])
    if not len(values):
        return float("nan"), float("nan")
    values = values if first else values[::-1]
    chosen = float(values[min(others, (len(values) - 1) // 2)])
    return chosen, float(np.std(values[:4])) if len(values) > 1 else float("nan")
