"""A one-page report: the ECG redrawn at 25 mm/s and 10 mm/mV on A4 landscape, as the page had its leads arranged.

Rows, columns and names are the page's; what was printed at another speed or gain is drawn to this scale.  Samples that
bridge a gap of the trace are drawn in another colour.  Name and date are left to be filled in by hand.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ecg.leads import LEAD_INDEX, base_lead
from ecg.page import LeadStrip, Reading
from edge_runtime.exports.canvas import Canvas, Colour
from edge_runtime.exports.document import SOFTWARE, Document, figure_lines, runs

A4_MM: Final = (297.0, 210.0)
SPEED_MM_PER_S: Final = 25.0
GAIN_MM_PER_MV: Final = 10.0
GRID_MM: Final = (13.5, 40.0, 283.5, 190.0)  # left, top, right, bottom: whole boxes of 5 mm
FIRST_MM: Final = GRID_MM[0] + 15.0  # where time 0 stands, right of the calibration pulse
_FINE: Final[Colour] = (1.0, 0.87, 0.85)
_HEAVY: Final[Colour] = (0.96, 0.66, 0.63)
_TRACE: Final[Colour] = (0.0, 0.0, 0.0)
_FILLED: Final[Colour] = (0.9, 0.45, 0.0)
_GREY: Final[Colour] = (0.35, 0.35, 0.35)
_TRACE_MM: Final = 0.25
_MAX_LINES: Final = 7  # above the grid


def contents(document: Document, names: tuple[str, ...]) -> tuple[bytes]:
    """The file's bytes."""
    canvas = Canvas(*A4_MM)
    _grid(canvas)
    canvas.clip(*GRID_MM)
    baselines = baselines_mm(document.reading)
    spacing = _spacing_mm(len(baselines))
    for y_mm in baselines.values() if spacing >= 15 else list(baselines.values())[-1:]:
        _pulse(canvas, y_mm)
    for strip in document.reading.layout.strips:
        _strip(canvas, document, strip, baselines[strip.row])
    for strip in document.reading.layout.strips:
        x_mm, y_mm = FIRST_MM + strip.start_s * SPEED_MM_PER_S, baselines[strip.row] - min(12.0, 0.34 * spacing)
        if x_mm < GRID_MM[2] - 5:
            canvas.text(x_mm + 1, y_mm, strip.lead, 3.6, bold=True)
            canvas.lines([(x_mm, y_mm - 2, x_mm, y_mm)], 0.3, _TRACE)
    canvas.unclip()
    _words(canvas, document)
    return (canvas.pdf("ECG read from a photo of paper", SOFTWARE, document.when),)


def baselines_mm(reading: Reading) -> dict[int, float]:
    """Page y of every row's 0 mV: evenly down the grid, the first and the last within reach of their peaks."""
    rows = sorted({s.row for s in reading.layout.strips})
    if not rows:
        return {}
    _, top, _, bottom = GRID_MM
    spacing = _spacing_mm(len(rows))
    first = top + 5 * round((bottom - top - spacing * (len(rows) - 1)) / 10)
    last = first + spacing * (len(rows) - 1)
    if len(rows) > 1:
        first = max(first, top + np.ceil(_reach_mm(reading, rows[0], up=1)))
        last = min(last, bottom - np.ceil(_reach_mm(reading, rows[-1], up=-1)))
    return dict(zip(rows, np.round(np.linspace(first, last, len(rows))).tolist(), strict=True))


def _reach_mm(reading: Reading, row: int, *, up: int) -> float:
    """How far a row's traces go above (up = 1) or below (-1) 0 mV, at most 45 mm."""
    reach = 0.0
    for strip in reading.layout.strips:
        if strip.row == row:
            lead, sign = base_lead(strip.lead)
            first, stop = _samples(reading, strip)
            mv = reading.signal.mv[LEAD_INDEX[lead], first:stop]
            reach = max(reach, float(np.max(up * sign * mv, initial=0.0, where=np.isfinite(mv))))
    return min(45.0, 1.0 + GAIN_MM_PER_MV * reach)


def _samples(reading: Reading, strip: LeadStrip) -> tuple[int, int]:
    """First and stop sample of a strip."""
    fs_hz, n = reading.signal.fs_hz, reading.signal.mv.shape[1]
    stop_s = strip.start_s + (strip.x1_mm - strip.x0_mm) / reading.layout.paper_speed_mm_per_s
    first = min(max(0, round(strip.start_s * fs_hz)), n)
    return first, min(max(first, round(stop_s * fs_hz)), n)


def _spacing_mm(n_rows: int) -> float:
    """From row to row: whole boxes where there is room, else whole millimetres."""
    height = GRID_MM[3] - GRID_MM[1]
    return 5.0 * int(min(height / max(n_rows, 1), 50.0) / 5) if n_rows <= 6 else float(int(height / n_rows))


def _grid(canvas: Canvas) -> None:
    left, top, right, bottom = GRID_MM
    for every, width_mm, colour in ((1, 0.1, _FINE), (5, 0.18, _HEAVY)):
        across = [(left + k, top, left + k, bottom) for k in range(0, round(right - left) + 1, every)]
        down = [(left, top + k, right, top + k) for k in range(0, round(bottom - top) + 1, every)]
        canvas.lines(across + down, width_mm, colour)


def _pulse(canvas: Canvas, y_mm: float) -> None:
    """1 mV for 0.2 s."""
    x = GRID_MM[0] + 5.0 + np.array([-2.5, 0.0, 0.0, 5.0, 5.0, 7.5])
    canvas.polyline(x, y_mm - GAIN_MM_PER_MV * np.array([0, 0, 1, 1, 0, 0]), _TRACE_MM, _TRACE)


def _strip(canvas: Canvas, document: Document, strip: LeadStrip, y_mm: float) -> None:
    """One printed trace, without what lies beyond the grid."""
    signal = document.reading.signal
    lead, sign = base_lead(strip.lead)
    i = LEAD_INDEX[lead]
    first, stop = _samples(document.reading, strip)
    x_mm = FIRST_MM + np.arange(first, stop) / signal.fs_hz * SPEED_MM_PER_S
    on_grid = x_mm <= GRID_MM[2]
    x_mm, mv = x_mm[on_grid], sign * signal.mv[i, first:stop][on_grid].astype(np.float64)
    filled = signal.filled[i, first:stop][on_grid]
    there = np.isfinite(mv)
    for mask, colour in ((there, _TRACE), (there & filled, _FILLED)):
        for a, b in runs(mask):
            canvas.polyline(x_mm[a:b], y_mm - GAIN_MM_PER_MV * mv[a:b], _TRACE_MM, colour)


def _words(canvas: Canvas, document: Document) -> None:
    """Header and footer."""
    left, top, right, bottom = GRID_MM
    layout, quality = document.reading.layout, document.reading.quality
    canvas.text(left, 13, "ECG read from a photo of paper", 5, bold=True)
    gains = f"{layout.gain_mm_per_mv:g}"
    if layout.chest_gain_mm_per_mv is not None:
        gains += f"/{layout.chest_gain_mm_per_mv:g}"
    how = "".join(f", {k.replace('_', ' ')} by {v.how}" for k, v in layout.decided.items())
    figures = [f"{k} {100 * quality[k]:.0f} %" for k in ("coverage", "confidence", "filled") if k in quality]
    said = (
        f"Photo: {document.photo_name}",
        f"Read: {document.when:%Y-%m-%d %H:%M}   {', '.join(figures)}",
        f"The page: {layout.name}, {layout.paper_speed_mm_per_s:g} mm/s, {gains} mm/mV{how}",
        *figure_lines(document.reading.measurements),
        *document.notes,
    )
    for k, line in enumerate(said[:_MAX_LINES]):  # below the third line nothing stands to the right
        canvas.text(left, 18 + 3.3 * k, line, 2.8, fit_mm=180 if k < 4 else right - left)
    for k, label in enumerate(("Name", "Born", "Recorded")):
        canvas.text(right - 78, 13 + 8 * k, label, 3, colour=_GREY)
        canvas.lines([(right - 62, 13.5 + 8 * k, right, 13.5 + 8 * k)], 0.2, _GREY)
    seconds = (right - FIRST_MM) / SPEED_MM_PER_S
    cut = f"   Only the first {seconds:.1f} s are drawn." if layout.duration_s > seconds + 0.05 else ""
    canvas.text(left, bottom + 5, f"{SPEED_MM_PER_S:g} mm/s   {GAIN_MM_PER_MV:g} mm/mV{cut}", 3.4, bold=True)
    if document.fills():
        canvas.text(left + 112, bottom + 5, "orange: filled in where the trace was hidden", 3, colour=_FILLED)
    x, y = right - 50, bottom + 4.5
    canvas.lines([(x, y, x + 50, y), (x, y - 1.5, x, y + 1.5), (x + 50, y - 1.5, x + 50, y + 1.5)], 0.25, _TRACE)
    canvas.text(x + 6, bottom + 9, "50 mm where printed at 100 %", 2.6, colour=_GREY)
    foot = f"Decision support, not a medical device.   {SOFTWARE}   reading {str(document.uid)[:8]}"
    canvas.text(left, bottom + 11, foot, 2.6, colour=_GREY)
