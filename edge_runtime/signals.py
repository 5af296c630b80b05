"""Rows of heights to twelve leads in millivolts on the printed clock."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ecg.leads import LEAD_INDEX, N_LEADS, base_lead
from ecg.page import EcgSignal, LeadStrip, PageLayout
from edge_runtime.decoder import RowTrace

FS_HZ = 500.0
PRESENT = 0.3
MAX_FILL_S = 0.12  # longer gaps stay empty
ISLAND_S = 0.1  # shorter stretches between such gaps are no trace
BESIDE_MM = 0.6  # columns so far beyond a row's ends are read along
CONTINUED_STEPS = 1.5  # beyond its last column a trace goes on as it ran for so many columns
EDGE_MM = 0.35  # beside a lead's ends: where pulses, separators and neighbours leave strokes across the trace
STROKE_MM, LEVEL_MM = 1.0, 0.5
LEVEL_COLUMNS = 4
F64 = NDArray[np.float64]


def assemble(rows: tuple[RowTrace, ...], layout: PageLayout) -> EcgSignal:
    """All printed leads at 500 Hz; where a lead is printed twice, each sample comes from the surer one."""
    n = round(layout.duration_s * FS_HZ)
    mv = np.full((N_LEADS, n), np.nan, np.float32)
    confidence = np.zeros((N_LEADS, n), np.float32)
    filled = np.zeros((N_LEADS, n), bool)
    long_first = sorted(((s, r) for r in rows for s in r.strips), key=lambda p: p[0].x0_mm - p[0].x1_mm)
    for strip, row in long_first:
        k0, values, sure, fill = _lead(strip, row, layout.paper_speed_mm_per_s)
        lead, _ = base_lead(strip.lead)
        i, part = LEAD_INDEX[lead], slice(k0, min(k0 + len(values), n))
        m = part.stop - k0
        use = np.isfinite(values[:m]) & ~np.isfinite(mv[i, part])
        mv[i, part][use] = values[:m][use]
        confidence[i, part][use] = sure[:m][use]
        filled[i, part][use] = fill[:m][use]
    return EcgSignal(mv, FS_HZ, confidence, filled)


def levelled(rows: tuple[RowTrace, ...], layout: PageLayout, signal: EcgSignal) -> PageLayout:
    """The layout with the zero of leads that are printed again where the signal, taken from the longer print, has it.

    Where a trace wanders the middle of 2.5 seconds is another than that of ten.
    """
    moved: dict[LeadStrip, LeadStrip] = {}
    for row in rows:
        for strip in row.strips:
            longest = max(s.x1_mm - s.x0_mm for s in layout.strips if s.lead == strip.lead)
            if strip.x1_mm - strip.x0_mm < longest:
                off = _off_own_ink(strip, row, layout, signal)
                moved[strip] = replace(strip, baseline_mm=strip.baseline_mm + off)
    return replace(layout, strips=tuple(moved.get(s, s) for s in layout.strips))


def _off_own_ink(strip: LeadStrip, row: RowTrace, layout: PageLayout, signal: EcgSignal) -> float:
    """How far below the lead's signal a strip's own ink runs, mm: the median; 0 where nothing tells."""
    lead, sign = base_lead(strip.lead)
    at_s = strip.start_s + (row.x_mm - strip.x0_mm) / layout.paper_speed_mm_per_s
    k = np.rint(at_s * signal.fs_hz).astype(int)
    own = (row.x_mm > strip.x0_mm) & (row.x_mm < strip.x1_mm) & (row.presence > PRESENT)
    own &= (k >= 0) & (k < signal.mv.shape[1])
    expected = strip.baseline_mm - sign * signal.mv[LEAD_INDEX[lead], k[own]] * strip.gain_mm_per_mv
    off = row.y_mm[own] - expected
    off = off[np.isfinite(off)]
    return float(np.median(off)) if len(off) else 0.0


def _lead(strip: LeadStrip, row: RowTrace, speed: float) -> tuple[int, F64, F64, NDArray[np.bool_]]:
    """First sample, mV, confidence and filled flags of one printed lead."""
    start, length = strip.start_s, (strip.x1_mm - strip.x0_mm) / speed
    k0, k1 = round(start * FS_HZ), round((start + length) * FS_HZ)
    t = np.arange(k0, k1) / FS_HZ
    x = strip.x0_mm + (t - start) * speed
    present = without_islands(row.x_mm, own_columns(strip, row) & (row.presence > PRESENT), speed)
    if present.sum() < 4:
        return k0, np.full(len(t), np.nan), np.zeros(len(t)), np.zeros(len(t), bool)
    _, sign = base_lead(strip.lead)
    xs = row.x_mm[present]
    y = continued(xs, without_strokes(xs, row.y_mm[present], strip.x0_mm, strip.x1_mm), x)
    mv = sign * (strip.baseline_mm - y) / strip.gain_mm_per_mv
    sure = np.interp(x, row.x_mm, row.presence * row.sharpness) * strip.confidence
    # How far the nearest read columns on both sides lie apart tells a gap.
    right = np.clip(np.searchsorted(xs, x), 1, len(xs) - 1)
    gap_s = (xs[right] - xs[right - 1]) / speed
    edge_s = np.maximum(xs[0] - x, x - xs[-1]) / speed
    step_s = float(np.median(np.diff(row.x_mm))) / speed
    filled = (gap_s > 1.6 * step_s) | (edge_s > step_s)
    mv = np.where((gap_s > MAX_FILL_S) | (edge_s > 0.02), np.nan, mv)
    return k0, mv, np.clip(sure, 0, 1), filled & np.isfinite(mv)


def own_columns(strip: LeadStrip, row: RowTrace) -> NDArray[np.bool_]:
    """Which of a row's columns (n,) show a lead: those that lie on its side of the middle between it and its neighbours
    as a whole, and at the row's ends a few beyond.

    A column that shows a bit of both leads lies somewhere between them, where neither runs.
    """
    half_mm = 0.49 * float(np.median(np.diff(row.x_mm)))  # tiles often start so that columns end just where leads do
    low, high = strip.x0_mm - BESIDE_MM, strip.x1_mm + BESIDE_MM
    for other in row.strips:
        if other.x0_mm < strip.x0_mm:
            low = max(low, (other.x1_mm + strip.x0_mm) / 2 + half_mm)
        elif other.x0_mm > strip.x0_mm:
            high = min(high, (strip.x1_mm + other.x0_mm) / 2 - half_mm)
    return np.asarray((row.x_mm > low) & (row.x_mm < high))


def without_islands(x_mm: F64, present: NDArray[np.bool_], speed: float) -> NDArray[np.bool_]:
    """Columns (n,) where a trace is present without lone short stretches: what is left there of lines and stains."""
    at = np.flatnonzero(present)
    out = present.copy()
    for stretch in np.split(at, np.flatnonzero(np.diff(x_mm[at]) > MAX_FILL_S * speed) + 1):
        if len(stretch) and x_mm[stretch[-1]] - x_mm[stretch[0]] < ISLAND_S * speed:
            out[stretch] = False
    return out


def without_strokes(x: F64, y: F64, x0_mm: float, x1_mm: float) -> F64:
    """Heights (n,) at columns x (n,) without what the falling edge of a pulse, a separator or the neighbouring lead
    draws on the first and last columns of a lead: such columns take the height of the first one inside.

    Only where the trace runs level just inside: a QRS complex at the very end of a lead is as steep there."""
    out = y.copy()
    for edge, order in ((x < x0_mm + EDGE_MM, slice(None)), (x > x1_mm - EDGE_MM, slice(None, None, -1))):
        beside = int(edge.sum())
        if 0 < beside < len(x):
            part, within = out[order], ((x >= x0_mm) & (x <= x1_mm))[order][:beside]  # views: outermost column first
            off = np.flatnonzero(within & (np.abs(part[:beside] - part[beside]) > STROKE_MM))
            level = np.ptp(part[beside : beside + LEVEL_COLUMNS]) < LEVEL_MM
            if len(off) and level:
                part[: off[-1] + 1] = part[beside]
    return out


def continued(x: F64, y: F64, at: F64) -> F64:
    """``cubic``, going on beyond its ends as steeply as it ran: a QRS complex that a lead's end cuts does not stop with
    the last whole column."""
    out = cubic(x, y, at)
    for (x0, x1, _), (y0, y1, y2), beyond in (
        (x[:3], y[:3], at < x[0]), (x[:-4:-1], y[:-4:-1], at > x[-1])
    ):  # fmt: skip
        turned = (y1 - y0) * (y2 - y1) < 0  # a peak: where it goes from there isn't known
        slope = 0.0 if turned else (y1 - y0) / (x1 - x0)
        most = CONTINUED_STEPS * abs(x1 - x0)
        out[beyond] = y0 + slope * np.clip(at[beyond] - x0, -most, most)
    return out


def cubic(x: F64, y: F64, at: F64) -> F64:
    """Piecewise cubic Hermite interpolation with Catmull-Rom slopes for even steps, monotone (Fritsch-Carlson, as
    PCHIP) across gaps so that a fill never overshoots; straight lines beyond the ends are cut to the end values."""
    h = np.diff(x)
    d = np.diff(y) / h
    inner = (h[1:] * d[:-1] + h[:-1] * d[1:]) / (h[1:] + h[:-1])
    gap = (h[1:] > 1.6 * np.median(h)) | (h[:-1] > 1.6 * np.median(h))
    with np.errstate(divide="ignore", invalid="ignore"):
        w1, w2 = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
        harmonic = np.where(d[:-1] * d[1:] > 0, (w1 + w2) / (w1 / d[:-1] + w2 / d[1:]), 0.0)
    slope = np.concatenate([d[:1], np.where(gap, harmonic, inner), d[-1:]])
    at = np.clip(at, x[0], x[-1])
    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    t = (at - x[i]) / h[i]
    return np.asarray(
        y[i] * (1 + 2 * t) * (1 - t) ** 2 + h[i] * slope[i] * t * (1 - t) ** 2
        + y[i + 1] * t * t * (3 - 2 * t) + h[i] * slope[i + 1] * t * t * (t - 1)
    )  # fmt: skip
