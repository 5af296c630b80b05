"""The printer: a record and a style become a page with exact truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np

from ecg.leads import LEAD_INDEX, base_lead
from ecg.page import F32, LeadStrip, PageLayout
from ecg.records import EcgRecord
from ecg.synth.distractors import blank_page, distractor_page
from ecg.synth.furniture import draw_item
from ecg.synth.ink import Canvas, add_stroke, coverage
from ecg.synth.lettering import render_text
from ecg.synth.paper import draw_paper, finish_paper
from ecg.synth.resample import PRINT_HZ, printed_signal
from ecg.synth.style import PageStyle
from ecg.synth.style_random import random_style
from ecg.synth.truth import F64, PrintedPage, TraceTruth

__all__ = ["blank_page", "distractor_page", "plan_traces", "print_page", "random_page", "random_style"]

_SHORTEST_MM: Final = 4.0  # a shorter rest of a trace isn't worth a strip


def print_page(record: EcgRecord, style: PageStyle, rng: np.random.Generator) -> PrintedPage:
    """Print a record; ``rng`` moves only what has no meaning (grain, uneven ink, a writing hand).

    Pixel (0, 0)'s centre lies at page mm (0.5, 0.5) / px_per_mm; the truth's origin is the corner of what is left of
    the page after its crop. A seconds axis that starts later because of a crop starts at 0 again.
    """
    x0, y0, x1, y1 = style.geometry.crop_mm
    size_px = (round((x1 - x0) * style.px_per_mm), round((y1 - y0) * style.px_per_mm))
    canvas = draw_paper(style.paper, size_px, style.px_per_mm, (x0, y0), rng)
    traces = plan_traces(record, style)
    _draw_separators(canvas, style)
    _draw_traces(canvas, style, traces, rng)
    _draw_labels(canvas, style, rng)
    for k, item in enumerate(style.items):
        draw_item(canvas, item, style.items[k - 1] if item.follows else None, rng)
    rgb = finish_paper(canvas.rgb, style.paper, rng)
    rgb.setflags(write=False)
    size_mm = (size_px[0] / style.px_per_mm, size_px[1] / style.px_per_mm)
    kept = _on_canvas(traces, (x0, y0), size_mm)
    layout = PageLayout(
        style.name if len(kept) == len(style.layout.cells()) else "partial",
        style.geometry.speed_mm_per_s, style.geometry.gain_mm_per_mv, tuple(t.strip for t in kept),
        style.geometry.chest_gain_mm_per_mv,
    )  # fmt: skip
    grid = style.paper.grid.truth((x0, y0), size_mm)
    return PrintedPage(rgb, style.px_per_mm, layout, kept, tuple(canvas.marks), grid, record, style)


def random_page(rng: np.random.Generator, record: EcgRecord | None = None, **choices: Any) -> PrintedPage:
    """A record, or a synthetic heart's, on a page of random looks; ``choices`` are those of ``random_style``."""
    if record is None:
        from ecg.synth.heart import beat, random_heart  # the printer prints any record; only this default needs a heart

        record = beat(random_heart(rng), duration_s=float(rng.uniform(10, 13)), rng=rng)
    return print_page(record, random_style(rng, record, **choices), rng)


def plan_traces(record: EcgRecord, style: PageStyle) -> tuple[TraceTruth, ...]:
    """Where the pen goes for each printed lead, in mm of the whole page; what the record lacks is left out."""
    geo, spec, prep = style.geometry, style.layout, style.preparation
    mv = printed_signal(record, prep, geo.column_s * spec.n_columns)
    traces = []
    for lead, row, column, span in spec.cells():
        name, sign = base_lead(lead)
        start_s = column * geo.column_s
        first = int(np.ceil(start_s * PRINT_HZ - 1e-6))
        last = int(np.ceil((column + span) * geo.column_s * PRINT_HZ - 1e-6))
        part = mv[LEAD_INDEX[name], first:last]
        seen = np.flatnonzero(np.isfinite(part))
        if not len(seen):
            continue
        part = part[: seen[-1] + 1]
        if prep.detrend == "strip":
            part = part - np.float32(np.nanmean(part))
        part = np.clip(part, -prep.limit_mv, prep.limit_mv).astype(np.float32)
        x = geo.column_x_mm(column) + ((first + np.arange(len(part))) / PRINT_HZ - start_s) * geo.speed_mm_per_s
        gain = geo.gain_of(lead)
        y = geo.baselines_mm[row] - sign * gain * part.astype(np.float64)
        x_start, x_end = geo.column_x_mm(column), float(x[-1]) + geo.speed_mm_per_s / PRINT_HZ
        strip = LeadStrip(lead, row, x_start, x_end, geo.baselines_mm[row], start_s, gain)
        traces.append(TraceTruth(strip, PRINT_HZ, part, x.astype(np.float32), y.astype(np.float32)))
    return tuple(traces)


def _on_canvas(
    traces: tuple[TraceTruth, ...], origin_mm: tuple[float, float], size_mm: tuple[float, float]
) -> tuple[TraceTruth, ...]:
    """The traces cut to the canvas and counted from its corner; the first printed second becomes 0."""
    kept = []
    for trace in traces:
        x, y = trace.x_mm - np.float32(origin_mm[0]), trace.y_mm - np.float32(origin_mm[1])
        inside = np.flatnonzero((x >= 0) & (x < size_mm[0]))
        baseline = trace.strip.baseline_mm - origin_mm[1]
        if not len(inside) or not 0.5 < baseline < size_mm[1] - 0.5:
            continue
        i, j = int(inside[0]), int(inside[-1]) + 1
        x0 = max(trace.strip.x0_mm - origin_mm[0], 0.0)
        x1 = min(trace.strip.x1_mm - origin_mm[0], size_mm[0])
        if x1 - x0 < _SHORTEST_MM:
            continue
        speed = trace.fs_hz * float(x[-1] - x[0]) / max(len(x) - 1, 1)
        start = trace.strip.start_s + (x0 + origin_mm[0] - trace.strip.x0_mm) / speed
        strip = replace(trace.strip, x0_mm=x0, x1_mm=x1, baseline_mm=baseline, start_s=start)
        kept.append(TraceTruth(strip, trace.fs_hz, trace.mv[i:j], x[i:j], y[i:j]))
    earliest = min((t.strip.start_s for t in kept), default=0.0)
    return tuple(replace(t, strip=replace(t.strip, start_s=t.strip.start_s - earliest)) for t in kept)


def _draw_traces(canvas: Canvas, style: PageStyle, traces: tuple[TraceTruth, ...], rng: np.random.Generator) -> None:
    """Each row's traces and pulses in one layer of ink."""
    pen, px = style.pen, style.px_per_mm
    for row in range(style.layout.n_rows):
        lines = _runs([t for t in traces if t.strip.row == row], pen.join_columns)
        lines = _with_pulse(canvas, style, row, lines)
        if not lines:
            continue
        reach = pen.width_mm + 2 / px
        top = int(np.floor(canvas.y_px(min(float(y.min()) for _, y in lines) - reach)))
        bottom = int(np.ceil(canvas.y_px(max(float(y.max()) for _, y in lines) + reach)))
        top, bottom = max(top, 0), min(bottom, canvas.rgb.shape[0])
        if bottom - top < 2:
            continue
        acc = np.zeros((bottom - top + 1, canvas.rgb.shape[1]), dtype=np.float32)
        for x, y in lines:
            add_stroke(acc, canvas.x_px(x), canvas.y_px(y) - top, pen.width_mm * px)
        thin = _ink_strength(canvas, style, lines, rng)
        canvas.lay(coverage(acc, thin), 0, top, pen.rgb, pen.alpha)


def _runs(traces: list[TraceTruth], join: bool) -> list[tuple[F64, F64]]:
    """Polylines without gaps: the pen lifts where the record has none, and between columns unless they're joined."""
    lines: list[tuple[F64, F64]] = []
    for trace in sorted(traces, key=lambda t: t.strip.x0_mm):
        ok = np.isfinite(trace.y_mm)
        cuts = np.flatnonzero(np.diff(ok.astype(np.int8))) + 1
        for part in np.split(np.arange(len(ok)), cuts):
            if ok[part[0]] and len(part) > 1:
                lines.append((trace.x_mm[part].astype(np.float64), trace.y_mm[part].astype(np.float64)))
    if not join or len(lines) < 2:
        return lines
    return [(np.concatenate([x for x, _ in lines]), np.concatenate([y for _, y in lines]))]


def _with_pulse(canvas: Canvas, style: PageStyle, row: int, lines: list[tuple[F64, F64]]) -> list[tuple[F64, F64]]:
    """Add a row's calibration pulse to its polylines, joined to the trace where the style says so."""
    pulses, geo = style.pulses, style.geometry
    if row not in pulses.rows or not lines:
        return lines
    cells = [c for c in style.layout.cells() if c[1] == row]
    lead = cells[0 if pulses.side == "left" else -1][0]
    base, high = geo.baselines_mm[row], geo.gain_of(lead)
    after = float(lines[-1][0][-1]) + pulses.gap_mm
    start = geo.x0_mm - pulses.span_mm if pulses.side == "left" else after
    up, down = start + pulses.lead_mm, start + pulses.lead_mm + pulses.width_mm
    rise = 0.04
    x = np.array([start, up, up + rise, down - rise, down, down + pulses.lead_mm + 1e-3])
    y = np.array([base, base, base - high, base - high, base, base])
    canvas.mark("pulse", "", up, base - high, down, base)
    if not pulses.joined:
        return [(x, y), *lines]
    if pulses.side == "left":
        first = (np.concatenate([x, lines[0][0]]), np.concatenate([y, lines[0][1]]))
        return [first, *lines[1:]]
    return [*lines[:-1], (np.concatenate([lines[-1][0], x]), np.concatenate([lines[-1][1], y]))]


def _ink_strength(
    canvas: Canvas, style: PageStyle, lines: list[tuple[F64, F64]], rng: np.random.Generator
) -> F32 | None:
    """How much ink each column of pixels takes (W,), or None for all of it."""
    pen = style.pen
    if not pen.uneven and not pen.fade:
        return None
    w = canvas.rgb.shape[1]
    amount = np.ones(w)
    if pen.uneven:
        knots = rng.random(max(w // 24, 2))
        amount -= pen.uneven * np.interp(np.linspace(0, len(knots) - 1, w), np.arange(len(knots)), knots)
    if pen.fade:
        for x, y in lines:
            steep = np.abs(np.diff(y)) / np.maximum(np.diff(x), 1e-2)
            column = np.clip(canvas.x_px(x[1:]).astype(int), 0, w - 1)
            np.minimum.at(amount, column, 1.0 - pen.fade * np.clip((steep - 2.0) / 8.0, 0.0, 1.0))
    return amount.astype(np.float32)


def _draw_separators(canvas: Canvas, style: PageStyle) -> None:
    """What stands between two columns."""
    sep, geo, spec = style.separators, style.geometry, style.layout
    if sep.kind == "none" or spec.n_columns < 2:
        return
    rows, half = geo.baselines_mm[: len(spec.rows)], sep.width_mm / 2
    spread = 0.45 * (rows[1] - rows[0]) if len(rows) > 1 else 12.0
    for column in range(1, spec.n_columns):
        dots: list[tuple[float, float]] = []
        x = geo.column_x_mm(column) - geo.column_gap_mm / 2 + sep.off_mm
        if sep.kind in ("line", "dotted"):
            y0, y1 = rows[0] - spread, rows[-1] + spread
            dots = [(y0, y1)] if sep.kind == "line" else [(y, y + 0.4) for y in np.arange(y0, y1, 1.0)]
            canvas.mark("separator", "", x - half, y0, x + half, y1)
        else:
            h = sep.height_mm / 2
            for base in rows:
                reach = h if sep.kind == "tick" else 2 * h
                canvas.mark("separator", "", x - half, base - reach, x + half, base + reach)
                below = [(base - reach, base - h), (base + h, base + reach)]
                dots += [(base - h, base + h)] if sep.kind == "tick" else below
        for a, b in dots:
            canvas.fill(x - half, a, x + half, b, sep.rgb)


def _draw_labels(canvas: Canvas, style: PageStyle, rng: np.random.Generator) -> None:
    """Lead names; their marks carry the name as LEADS write it, whatever case was printed."""
    labels, geo = style.labels, style.geometry
    cap = labels.font.cap_mm
    for lead, row, column, _ in style.layout.cells():
        if lead in labels.hidden:
            continue
        shown = {"as": lead, "upper": lead.upper(), "lower": lead.lower()}[labels.case]
        text = render_text(shown, labels.font, style.px_per_mm, rng)
        x, base = geo.column_x_mm(column) + labels.dx_mm, geo.baselines_mm[row]
        if labels.place == "left" and column == 0:
            room = style.pulses.span_mm if style.pulses.side == "left" and style.pulses.rows else 0.0
            x = geo.x0_mm - room - labels.dx_mm - text.mask.shape[1] / style.px_per_mm
            y = base + cap / 2
        elif labels.place == "below":
            y = base + labels.dy_mm + cap
        else:
            y = base - (labels.dy_mm if labels.place != "left" else 4.0)
        left, top = int(canvas.x_px(x)) + text.left_px, int(canvas.y_px(y)) + text.top_px
        canvas.lay(text.mask, left, top, labels.rgb, labels.alpha)
        px, (ox, oy) = style.px_per_mm, canvas.origin_mm
        x0, y0 = left / px + ox, top / px + oy
        x1, y1 = x0 + text.mask.shape[1] / px, y0 + text.mask.shape[0] / px
        canvas.mark("lead", lead, x0, y0, x1, y1)
        if labels.box:
            canvas.frame(x0 - 0.7, y0 - 0.7, x1 + 0.7, y1 + 0.7, 0.2, labels.rgb)
        if labels.tick_mm:
            canvas.fill(x0 - 1.0, y1 - labels.tick_mm, x0 - 0.75, y1, labels.rgb)
