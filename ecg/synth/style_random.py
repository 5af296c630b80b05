"""Draw everything that decides a page at random: ``random_style``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ecg.layouts import LAYOUTS, LayoutSpec
from ecg.leads import LEADS
from ecg.records import EcgRecord
from ecg.synth import style_items
from ecg.synth.ink import Rgb
from ecg.synth.lettering import FontStyle
from ecg.synth.paper import Rect
from ecg.synth.style import BLACK, Geometry, Item, Labels, PageStyle, Pen, Preparation, Pulses, Separators
from ecg.synth.style_paper import random_paper

_LAYOUT_SHARES: Final = {
    "3x4+1": 0.45, "3x4": 0.09, "3x4+1-V1": 0.03, "3x4+1-V5": 0.02, "3x4+2": 0.02, "3x4+2-V1-II": 0.01, "3x4+3": 0.06,
    "6x2": 0.07, "6x2+1": 0.04, "12x1": 0.05, "4x3": 0.03, "3x4-cabrera": 0.02, "3x4+1-cabrera": 0.02,
    "6x2-cabrera": 0.015, "12x1-cabrera": 0.01, "6x1-limb": 0.015, "6x1-chest": 0.015,
    **{f"1x1-{lead}": 0.035 * (4 if lead == "II" else 1) / 15 for lead in LEADS},
}  # fmt: skip
_FAMILIES: Final = {"kit": 0.30, "cart": 0.42, "roll": 0.14, "screen": 0.14}
_SHEETS_MM: Final = ((297.0, 210.0), (279.4, 215.9), (280.0, 215.0), (297.0, 210.0), (210.0, 297.0), (420.0, 297.0))
_INKS: Final[tuple[Rgb, ...]] = (
    BLACK, BLACK, BLACK, (0.15, 0.15, 0.17), (0.10, 0.10, 0.32), (0.25, 0.25, 0.28), (0.22, 0.16, 0.16)
)  # fmt: skip


@dataclass(frozen=True)
class _Frame:
    """Room around the traces, mm, and the family of machines that decides it."""

    family: str
    header_mm: float
    footer_mm: float
    side_mm: float


def _pick(rng: np.random.Generator, shares: dict[str, float]) -> str:
    weights = np.array(list(shares.values()))
    return list(shares)[int(rng.choice(len(weights), p=weights / weights.sum()))]


def _frame(rng: np.random.Generator, spec: LayoutSpec) -> _Frame:
    family = _pick(rng, _FAMILIES)
    if len(spec.rows) == 1:
        family = "roll"
    if family == "screen":
        header = rng.uniform(5, 25) if rng.random() < 0.33 else 0.0
        return _Frame(family, header, rng.uniform(0, 8), rng.uniform(0, 8))
    if family == "roll":
        return _Frame(family, rng.uniform(2, 25), rng.uniform(2, 12), rng.uniform(3, 12))
    return _Frame(family, rng.uniform(12, 60), rng.uniform(5, 14), rng.uniform(4, 14))


def _row_spacing(rng: np.random.Generator, n_rows: int, gain: float) -> float:
    if n_rows > 8:
        return float(rng.uniform(12.5, 20))
    if n_rows > 5:
        return float(rng.uniform(18, 28))
    low = 26.0 if gain > 15 else 18.0
    return float(np.clip(rng.normal(26 if gain < 15 else 32, 5), low, 38))


def _column_s(rng: np.random.Generator, spec: LayoutSpec, speed: float, duration_s: float) -> float:
    """Seconds per column: 10 s over a page, 2.5 s a column, or what other machines do; half of it at 50 mm/s."""
    n = spec.n_columns
    usual = rng.random() < 0.75
    if spec.name.startswith("1x1"):
        total = float(rng.uniform(3, 12))
    elif n == 3:
        total = float(rng.choice([7.5, 10.0]))
    elif n == 1:
        total = 10.0 if usual else float(rng.uniform(5, 12))
    else:
        total = 10.0 if usual else float(rng.choice([8.0, 9.0, 9.6, 10.4, 11.0, 12.0, rng.uniform(8, 12)]))
    if speed > 30 and rng.random() < 0.75:
        total /= 2
    return min(total, duration_s) / n


def _pulses(rng: np.random.Generator, spec: LayoutSpec, speed: float, kit: bool) -> Pulses:
    width = 5.0 if speed > 30 and rng.random() < 0.3 else 0.2 * speed
    every = tuple(range(spec.n_rows))
    if kit and rng.random() < 0.85:
        return Pulses(every, "left", width, 0.0, rng.choice([0.0, 0.0, 1.0, 2.0]), rng.random() < 0.5)
    mode = rng.random()
    some = tuple(k for k in every if rng.random() < 0.5)
    rows = every if mode < 0.62 else (0,) if mode < 0.68 else some if mode < 0.73 else every[-1:] if mode < 0.76 else ()
    side = "right" if rng.random() < 0.14 else "left"
    gap = 0.0 if rng.random() < 0.4 else float(rng.uniform(0.5, 5.0))
    return Pulses(rows, side, width, float(rng.choice([0.0, 1.0, 2.0, 2.5])), gap, rng.random() < 0.4)


def _baselines(rng: np.random.Generator, top: float, spacing: float, n_rows: int, snap: bool) -> tuple[float, ...]:
    jitter = 0.0 if snap else float(rng.choice([0.0, 0.3, 1.2]))
    rows = top + spacing * (np.arange(n_rows) + rng.uniform(0.4, 0.6)) + rng.normal(0, 1, n_rows) * jitter
    return tuple(float(v) for v in rows)


def _geometry(
    rng: np.random.Generator, spec: LayoutSpec, speed: float, gains: tuple[float, float | None], column_s: float,
    pulses: Pulses, frame: _Frame, label_room: float,
) -> Geometry:  # fmt: skip
    """Put the traces on a sheet that is large enough: a standard one where it fits, else one cut to measure."""
    gap = float(rng.uniform(1, 4)) if rng.random() < 0.05 and spec.n_columns > 1 else 0.0
    wide = spec.n_columns * column_s * speed + (spec.n_columns - 1) * gap
    spacing = _row_spacing(rng, spec.n_rows, gains[0])
    left = frame.side_mm + label_room + (pulses.span_mm if pulses.side == "left" else 0.0)
    right = frame.side_mm + (pulses.span_mm + 2.0 if pulses.side == "right" else 0.0)
    need = (left + wide + right, frame.header_mm + spacing * spec.n_rows + frame.footer_mm)
    page = need
    if frame.family in ("kit", "cart"):
        if need[1] > 250:  # squeeze the rows rather than print on a poster
            spacing = max((225 - frame.header_mm) / spec.n_rows, 12.5)
            need = (need[0], frame.header_mm + spacing * spec.n_rows + frame.footer_mm)
        fitting = [s for s in _SHEETS_MM if s[0] >= need[0] and s[1] >= need[1]]
        fitting = [s for s in fitting if s[0] * s[1] < 2.2 * need[0] * need[1]]
        page = fitting[int(rng.integers(len(fitting)))] if fitting else need
    spare = (page[0] - need[0], page[1] - need[1])
    x0 = left + spare[0] * rng.uniform(0.0, 1.0)
    top = frame.header_mm + spare[1] * rng.uniform(0.2, 1.0)
    rows = _baselines(rng, top, spacing, spec.n_rows, rng.random() < 0.3)
    whole = (0.0, 0.0, page[0], page[1])
    return Geometry(page, whole, float(x0), rows, column_s, speed, gains[0], gains[1], gap)


def _crop(rng: np.random.Generator, geometry: Geometry, spec: LayoutSpec) -> Rect:
    """A window that cuts columns or rows off."""
    w, h = geometry.page_mm
    x0, y0, x1, y1 = 0.0, 0.0, w, h
    mode = rng.random()
    if mode < 0.7:
        lost = rng.uniform(0.08, 0.5) * w
        left = lost * rng.choice([0.0, 0.0, 1.0, rng.random()])
        x0, x1 = left, w - (lost - left)
    if mode > 0.45 and spec.n_rows > 1:
        rows = geometry.baselines_mm
        spacing = rows[1] - rows[0]
        first = int(rng.integers(0, spec.n_rows - 1)) if rng.random() < 0.5 else 0
        last = int(rng.integers(first + 1, spec.n_rows)) if spec.n_rows > 2 else first + 1
        between = rng.uniform(0.3, 0.7, 2) * spacing
        y0 = max(rows[first] - between[0], 0.0) if first else 0.0
        y1 = min(rows[last] + between[1], h)
    if x1 - x0 < 40 or y1 - y0 < 20:
        return 0.0, 0.0, w, h
    return float(x0), float(y0), float(x1), float(y1)


def _labels(rng: np.random.Generator, frame: _Frame, spec: LayoutSpec, fonts: tuple[str, ...]) -> Labels:
    cap = float(rng.uniform(1.7, 3.6))
    font = style_items.random_font(rng, fonts, cap)
    place = _pick(rng, {"above": 0.42, "below": 0.2, "inside": 0.13, "left": 0.25})
    if frame.family == "kit":
        place = _pick(rng, {"below": 0.75, "above": 0.15, "inside": 0.1})
        if rng.random() < 0.6:
            font = FontStyle("aileron" if not fonts else fonts[int(rng.integers(len(fonts)))], cap)
    if place == "left" and spec.n_columns > 1 and rng.random() < 0.5:
        place = "above"
    dy = {"above": rng.uniform(2.0, 8.0), "below": rng.uniform(1.2, 5.0), "inside": rng.uniform(0.2, 2.0), "left": 0.0}
    hidden: tuple[str, ...] = ()
    if rng.random() < 0.03:
        names = [c[0] for c in spec.cells()]
        hidden = tuple(names) if rng.random() < 0.4 else tuple(n for n in names if rng.random() < 0.2)
    return Labels(
        font, _INKS[int(rng.integers(len(_INKS)))], float(rng.uniform(0.7, 1.0)), place,
        float(rng.uniform(-0.5, 3.0)) if place != "left" else float(rng.uniform(1.0, 3.0)),
        float(dy[place]), _pick(rng, {"as": 0.86, "upper": 0.1, "lower": 0.04}),
        rng.random() < 0.04, float(rng.uniform(1.2, 2.5)) if rng.random() < 0.1 else 0.0, hidden,
    )  # fmt: skip


def _separators(rng: np.random.Generator, frame: _Frame, ink: Rgb) -> Separators:
    shares = {"none": 0.42, "tick": 0.24, "double": 0.14, "dotted": 0.1, "line": 0.1}
    if frame.family == "kit":
        shares = {"tick": 0.85, "none": 0.15}
    kind = _pick(rng, shares)
    width = rng.uniform(0.35, 0.9) if kind == "tick" else rng.uniform(0.15, 0.4)
    return Separators(kind, float(width), float(rng.uniform(3, 6.5)), ink if rng.random() < 0.8 else (0.4, 0.4, 0.4))


def _pen(rng: np.random.Generator) -> Pen:
    width = float(np.clip(rng.lognormal(np.log(0.28), 0.32), 0.15, 0.6))
    faint = rng.random() < 0.12
    alpha = rng.uniform(0.45, 0.75) if faint else rng.uniform(0.85, 1.0)
    return Pen(
        width, _INKS[int(rng.integers(len(_INKS)))], float(alpha),
        float(rng.uniform(0.1, 0.5)) if rng.random() < 0.3 else 0.0,
        float(rng.uniform(0.2, 0.7)) if rng.random() < 0.25 else 0.0, rng.random() < 0.3,
    )  # fmt: skip


def _preparation(rng: np.random.Generator, record: EcgRecord | None, shown_s: float) -> Preparation:
    spare = 0.0 if record is None else max(record.duration_s - shown_s, 0.0)
    start = np.floor(rng.uniform(0, spare) * 125) / 125 if spare > 0.1 else 0.0
    scale: tuple[float, ...] = ()
    # Records that lost their gain have unit variance; one that was given a gain since is left alone.
    if record is not None and not record.true_mv and 0.6 < float(np.median(np.nanstd(record.mv, axis=1))) < 1.5:
        limb, chest = rng.uniform(0.10, 0.22), rng.uniform(0.15, 0.38, 6)
        scale = (float(limb),) * 6 + tuple(float(v) for v in chest)
    limit = float(rng.uniform(1.2, 2.5)) if rng.random() < 0.05 else float("inf")
    return Preparation(float(start), scale, _pick(rng, {"": 0.65, "strip": 0.2, "lead": 0.15}), limit)


def _items(
    rng: np.random.Generator, record: EcgRecord | None, geometry: Geometry, frame: _Frame, fonts: tuple[str, ...]
) -> tuple[Item, ...]:
    spacing = geometry.baselines_mm[1] - geometry.baselines_mm[0] if len(geometry.baselines_mm) > 1 else 24.0
    page, top = geometry.page_mm, geometry.baselines_mm[0] - 0.45 * spacing
    items: list[Item] = []
    if rng.random() < 0.85:
        items += style_items.header(rng, record, page, top, fonts)
    if rng.random() < 0.82:
        y = page[1] - rng.uniform(1.5, max(frame.footer_mm - 1, 2)) if rng.random() < 0.8 else max(top - 2, 4)
        items += style_items.settings(rng, geometry, page, float(y), fonts)
    if rng.random() < 0.4:
        items += style_items.footer(rng, page, page[1] - rng.uniform(1.5, 4.0), fonts)
    if rng.random() < 0.22:
        items += style_items.handwriting(rng, page, top)
    return tuple(items + style_items.extras(rng, page, top, fonts))


def random_style(
    rng: np.random.Generator,
    record: EcgRecord | None = None,
    *,
    layout: str | None = None,
    speed_mm_per_s: float | None = None,
    gain_mm_per_mv: float | None = None,
    chest_gain_mm_per_mv: float | None = None,
    grid: str | None = None,
    fonts: tuple[str, ...] = (),
    px_per_mm: float | None = 8.0,
    partial: bool | None = None,
    furniture: bool = True,
) -> PageStyle:
    """A page's looks, drawn from ``rng``; what is given stays fixed.

    ``record`` decides how many seconds there are to print and what the header says. ``layout`` is a name of
    ``LAYOUTS``; ``grid`` one of "lines", "fine", "dots", "heavy", "none"; ``fonts`` are paths of TrueType files;
    ``px_per_mm`` None draws it from 8 to 12; ``partial`` crops the page (None: sometimes); ``furniture`` False leaves
    out all but traces, names, pulses and separators.

    Raises KeyError for an unknown layout.
    """
    spec = LAYOUTS[layout or _pick(rng, _LAYOUT_SHARES)]
    frame = _frame(rng, spec)
    kit = frame.family == "kit"
    speed = speed_mm_per_s or (25.0 if rng.random() < (0.95 if kit else 0.75) else 50.0)
    gains = _gains(rng, gain_mm_per_mv, chest_gain_mm_per_mv)
    column_s = _column_s(rng, spec, speed, 10.0 if record is None else record.duration_s)
    pulses = _pulses(rng, spec, speed, kit)
    labels = _labels(rng, frame, spec, fonts)
    label_room = 4.0 * labels.font.cap_mm if labels.place == "left" else 0.0
    geometry = _geometry(rng, spec, speed, gains, column_s, pulses, frame, label_room)
    if len(geometry.baselines_mm) > 8:
        labels = replace(labels, dy_mm=labels.dy_mm * 0.6, font=replace(labels.font, cap_mm=labels.font.cap_mm * 0.8))
    if partial or (partial is None and rng.random() < 0.1):
        geometry = replace(geometry, crop_mm=_crop(rng, geometry, spec))
    rows = geometry.baselines_mm
    spread = 0.5 * (rows[1] - rows[0]) if len(rows) > 1 else 14.0
    end = geometry.column_x_mm(spec.n_columns)
    traces = (geometry.x0_mm - pulses.span_mm - 1, rows[0] - spread, end + 1, rows[-1] + spread)
    anchor = (geometry.x0_mm, rows[0]) if rng.random() < 0.2 else None
    paper = random_paper(rng, geometry.page_mm, traces, kit=kit, kind=grid, anchor_mm=anchor)
    pen = _pen(rng)
    return PageStyle(
        spec, geometry, paper, pen, labels, _separators(rng, frame, pen.rgb), pulses,
        _preparation(rng, record, column_s * spec.n_columns),
        _items(rng, record, geometry, frame, fonts) if furniture else (),
        float(rng.uniform(8, 12)) if px_per_mm is None else px_per_mm,
    )  # fmt: skip


def _gains(rng: np.random.Generator, gain: float | None, chest: float | None) -> tuple[float, float | None]:
    """Limb gain, and the chest gain where it differs."""
    if gain is not None:
        return gain, chest
    kind = _pick(rng, {"10": 0.75, "5": 0.1, "20": 0.07, "split": 0.08})
    return (10.0, 5.0) if kind == "split" else (float(kind), chest)
