"""Layouts found from simulated marks and ink: every arrangement, noise, losses, false and misread marks, crops."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pytest

from ecg.errors import InputError
from ecg.layouts import LAYOUTS, LayoutSpec
from ecg.page import LeadStrip, Mark, Overrides, PageLayout, TraceMap, Unreadable
from edge_runtime.layout import find_layout

FAMILIES = (
    ("I", "II", "III"),
    ("aVR", "aVL", "aVF", "-aVR"),
    ("V1", "V2", "V3", "V4", "V5", "V6"),
)
EVERY = tuple(LAYOUTS)


@dataclass(frozen=True)
class Style:
    """How a simulated page is printed and how badly it is seen."""

    speed: float = 25.0
    gain: float = 10.0
    column_mm: float = 0.0  # 0: what a 10 s page has at the speed
    drop: float = 0.15
    confuse: float = 0.05
    false_marks: int = 3
    names: bool = True
    pulse: bool = True
    pulse_mm: float = 5.0
    text: bool = False
    start_sigma: float = 0.3
    window_mm: tuple[float, float, float, float] | None = None  # x0, y0, x1, y1 of what the photo shows, from the trace


@dataclass(frozen=True)
class Simulated:
    """The truth and what a finder may see of it."""

    spec: LayoutSpec
    x0: float
    width: float
    strips: tuple[LeadStrip, ...]
    marks: tuple[Mark, ...]
    trace_map: TraceMap


def beat_mv(lead: str, t: np.ndarray, rr_s: float, seed: int) -> np.ndarray:
    """A crude ECG: QRS with R and S, P and T waves; a lead looks the same wherever it is printed."""
    rng = np.random.default_rng([seed, *lead.encode()])
    phase = np.mod(t, rr_s)
    r, s = rng.uniform(0.2, 1.3), rng.uniform(0.0, 1.0 if lead.startswith("V") else 0.3)
    sign = -1.0 if lead == "aVR" else 1.0
    waves = ((0.1, 0.12, 0.02), (r, 0.25, 0.012), (-s, 0.28, 0.012), (rng.uniform(0.05, 0.4), 0.5, 0.05))
    return sign * sum(a * np.exp(-0.5 * ((phase - at) / w) ** 2) for a, at, w in waves)


def simulate(spec: LayoutSpec, rng: np.random.Generator, style: Style = Style()) -> Simulated:
    """Print a layout at a random place and see it as a finder would."""
    width = style.column_mm or 10.0 * style.speed / spec.n_columns
    total = width * spec.n_columns
    pitch = rng.uniform(26, 38) if spec.n_rows < 5 else rng.uniform(20, 25) if spec.n_rows < 8 else rng.uniform(13, 17)
    origin = rng.uniform(-80, 80, 2)
    left = spec.n_columns == 1 or rng.random() < 0.2
    name_at = np.array([rng.uniform(-9, -5), rng.uniform(-2, 1)] if left else [rng.uniform(1, 6), -rng.uniform(4, 9)])
    seed = int(rng.integers(1 << 30))
    rr, wander = rng.uniform(0.5, 1.2), 0.8 if spec.n_rows > 8 else 1.5
    marks: list[Mark] = []
    strips: list[LeadStrip] = []
    ink = []
    for lead, row, col, span in spec.cells():
        x0, y0 = origin[0] + col * width, origin[1] + row * pitch + rng.normal(0, wander)
        x = np.arange(0, span * width, 0.1)
        t = x / style.speed
        y = y0 - style.gain * beat_mv(lead, t + col * width / style.speed, rr, seed) * (0.5 if pitch < 18 else 1)
        y += 0.4 * np.sin(2 * np.pi * (t / 4.0 + rng.random()))
        ink.append((x0 + x, y))
        strips.append(LeadStrip(lead, row, x0, x0 + span * width, float(y0), col * width / style.speed, style.gain))
        jitter = rng.normal(0, 0.5, 2) + [0.35 * len(lead) if not left else 0.0, 0.0]
        marks.append(seen_name(lead, np.array([x0, origin[1] + row * pitch]) + name_at + jitter, style, rng))
        sigma = style.start_sigma
        marks.append(Mark("start", x0 + rng.normal(0, sigma), y[0] + rng.normal(0, sigma), rng.uniform(0.5, 1)))
        if col + span == spec.n_columns:
            marks.append(Mark("end", x0 + x[-1] + rng.normal(0, sigma), y[-1], rng.uniform(0.5, 1)))
        if col == 0 and style.pulse:
            size = (style.pulse_mm + rng.normal(0, 0.3), style.gain * rng.normal(1, 0.02))
            at = (origin[0] - 5 - style.pulse_mm / 2 + rng.normal(0, 0.3), y0 - style.gain / 2)
            marks.append(Mark("pulse", *at, rng.uniform(0.5, 1), *size))
    marks = [m for m in marks if rng.random() >= style.drop and (style.names or not m.kind.startswith("lead:"))]
    bottom = origin + [0.3 * total, spec.n_rows * pitch]
    if style.text:
        marks += [Mark(f"speed:{style.speed:g}", *bottom, 0.8), Mark(f"gain:{style.gain:g}", *(bottom + [30, 0]), 0.8)]
    area = (origin[0] - 25, origin[1] - 28, origin[0] + total + 15, origin[1] + spec.n_rows * pitch + 10)
    marks += false_marks(area, style, rng)
    return crop(Simulated(spec, origin[0], width, tuple(strips), tuple(marks), draw(ink, area, rng)), style)


def seen_name(lead: str, at: np.ndarray, style: Style, rng: np.random.Generator) -> Mark:
    kin = [n for f in FAMILIES if lead in f for n in f if n != lead]
    if rng.random() < style.confuse:
        return Mark(f"lead:{kin[rng.integers(len(kin))]}", *at, rng.uniform(0.3, 0.9))
    return Mark(f"lead:{lead}", *at, rng.uniform(0.5, 1.0))


def false_marks(area: tuple[float, ...], style: Style, rng: np.random.Generator) -> list[Mark]:
    kinds = ("start", "end", "lead:V1", "lead:I", "lead:II", "lead:aVL")
    x, y = rng.uniform(area[0], area[2], style.false_marks), rng.uniform(area[1], area[3], style.false_marks)
    return [Mark(kinds[rng.integers(6)], x[i], y[i], rng.uniform(0.15, 0.6)) for i in range(style.false_marks)]


def draw(ink: list[tuple[np.ndarray, np.ndarray]], area: tuple[float, ...], rng: np.random.Generator) -> TraceMap:
    w, h = int(area[2] - area[0]), int(area[3] - area[1])
    density = np.zeros((h, w), dtype=np.float32)
    for x, y in ink:
        t = np.linspace(0, len(x) - 1, 6 * len(x))
        xs, ys = np.interp(t, np.arange(len(x)), x), np.interp(t, np.arange(len(x)), y)
        i, j = np.rint(ys - area[1]).astype(int), np.rint(xs - area[0]).astype(int)
        good = (i >= 0) & (i < h) & (j >= 0) & (j < w)
        density[i[good], j[good]] = 1.0
    density *= rng.uniform(0.4, 1.0, density.shape) * (rng.random(density.shape) > 0.05)
    density += (rng.random(density.shape) < 0.002) * 0.7
    return TraceMap(np.clip(density, 0, 1).astype(np.float32), np.ones((h, w), dtype=bool), area[0], area[1])


def crop(page: Simulated, style: Style) -> Simulated:
    """Keep what a window shows; its millimetres count from the trace's start and the first row's baseline."""
    if style.window_mm is None:
        return page
    top = min(s.baseline_mm for s in page.strips)
    x0, y0, x1, y1 = np.array(style.window_mm) + [page.x0, top, page.x0, top]
    m = page.trace_map
    xs, ys = m.x0_mm + np.arange(m.density.shape[1]), m.y0_mm + np.arange(m.density.shape[0])
    shown = ((xs >= x0) & (xs <= x1))[None, :] & ((ys >= y0) & (ys <= y1))[:, None]
    seen = tuple(k for k in page.marks if x0 <= k.x_mm <= x1 and y0 <= k.y_mm <= y1)
    trace_map = TraceMap(np.where(shown, m.density, 0).astype(np.float32), shown, m.x0_mm, m.y0_mm)
    return Simulated(page.spec, page.x0, page.width, page.strips, seen, trace_map)


def read(page: Simulated, overrides: Overrides | None = None) -> PageLayout:
    found = find_layout(page.marks, page.trace_map, overrides or Overrides())
    assert isinstance(found, PageLayout), found
    return found


def errors(page: Simulated, found: PageLayout) -> tuple[list[float], list[float], list[float]]:
    """x0 errors, relative width errors, baseline errors of the strips that are in both."""
    truth = {(s.lead, s.row): s for s in page.strips}
    pairs = [(truth[s.lead, s.row], s) for s in found.strips if (s.lead, s.row) in truth]
    x0 = [b.x0_mm - a.x0_mm for a, b in pairs]
    width = [(b.x1_mm - b.x0_mm) / (a.x1_mm - a.x0_mm) - 1.0 for a, b in pairs]
    return x0, width, [b.baseline_mm - a.baseline_mm for a, b in pairs]


def test_every_layout_is_recognised():
    rng = np.random.default_rng(1)
    wrong, total, slow = [], 0, []
    x0, width, baseline = [], [], []
    for name in EVERY:
        for _ in range(4 if name.startswith("1x1") else 10):
            page = simulate(LAYOUTS[name], rng)
            if name.startswith("1x1") and not any(m.kind == f"lead:{name[4:]}" for m in page.marks):
                continue  # the only name was lost or misread
            began = time.perf_counter()
            found = find_layout(page.marks, page.trace_map, Overrides())
            slow.append(time.perf_counter() - began)
            total += 1
            if not isinstance(found, PageLayout) or found.name != name:
                wrong.append((name, found.name if isinstance(found, PageLayout) else found.reason))
                continue
            assert found.paper_speed_mm_per_s == 25
            assert found.gain_mm_per_mv == 10
            for all_of, some in zip((x0, width, baseline), errors(page, found), strict=True):
                all_of.extend(some)
    assert len(wrong) <= 0.03 * total, wrong
    assert np.median(slow) < 0.03
    assert np.sqrt(np.mean(np.square(x0))) < 0.15
    assert np.mean(np.abs(width) < 0.002) > 0.97
    assert np.sqrt(np.mean(np.square(baseline))) < 1.0
