"""Paper speed and gain from calibration pulses, printed text and the page's width, weighed by their likelihoods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ecg.layouts import GAINS_MM_PER_MV, PAPER_SPEEDS_MM_PER_S, LayoutSpec
from ecg.leads import CHEST_LEADS
from ecg.marks import SPLIT_GAIN
from ecg.page import Decided, Mark
from edge_runtime.layout_evidence import F64, Seen
from edge_runtime.layout_fit import Columns

SPEED_PRIOR: Final = {25.0: 0.88, 50.0: 0.12}
GAIN_PRIOR: Final = {5.0: 0.06, 10.0: 0.88, 20.0: 0.06}
# Pulse widths by speed: 0.2 s is 5 mm at 25 mm/s, 10 mm at 50, but some machines print 5 mm always.
PULSE_WIDTHS: Final = {25.0: ((0.90, 5.0), (0.003, 10.0)), 50.0: ((0.35, 5.0), (0.55, 10.0))}
PULSE_WIDTH_SIGMA_MM: Final = 0.8
FAINT: Final = 0.3  # pulses seen less surely than this are no evidence
SPLIT_SURE: Final = 0.8  # of a text "10/5"
ELSE_PER_MM: Final = 0.002  # likelihood of a width that no rule explains
# Seconds on a page from its first column to its end, and how usual they are.
PAGE_SECONDS: Final = ((10.0, 1.0), (5.0, 0.4), (20.0, 0.02), (2.5, 0.1), (12.0, 0.1), (8.0, 0.1), (6.0, 0.1))


@dataclass(frozen=True)
class Scale:
    """Paper speed and gains of a page."""

    speed_mm_per_s: float
    gain_mm_per_mv: float
    chest_gain_mm_per_mv: float | None
    speed: Decided
    gain: Decided


def find_scale(seen: Seen, columns: Columns, spec: LayoutSpec, rows_mm: tuple[float, ...]) -> Scale:
    """The likeliest speed and gain; ``how`` names the evidence that spoke loudest."""
    pulses = _beside_rows(seen.pulses, columns, spec, rows_mm)
    speed, speed_by = _decide(
        SPEED_PRIOR,
        {
            "text": {v: _text(seen, f"speed:{v:g}", "speed:") for v in PAPER_SPEEDS_MM_PER_S},
            "pulse": {v: _pulse_width(pulses, v) for v in PAPER_SPEEDS_MM_PER_S},
            "layout": {v: _page_time(columns, spec, v) for v in PAPER_SPEEDS_MM_PER_S},
        },
    )
    limb, chest = _split_pulses(pulses, columns, spec, rows_mm)
    gain, gain_by = _decide(
        GAIN_PRIOR,
        {
            "text": {g: _text(seen, f"gain:{g:g}", "gain:") for g in GAINS_MM_PER_MV},
            "pulse": {g: _pulse_height(limb, g) for g in GAINS_MM_PER_MV},
        },
    )
    split = _chest_gain(seen, chest, gain)
    if split is not None and split[0] > gain:  # "10/5": limb leads never have the smaller one
        gain, split = split[0], (gain, split[1])
    return Scale(speed, gain, split[0] if split else None, speed_by, gain_by)


def _beside_rows(
    pulses: tuple[Mark, ...], columns: Columns, spec: LayoutSpec, rows_mm: tuple[float, ...]
) -> tuple[Mark, ...]:
    """Pulses that stand on a row's baseline before its first column or behind its last; all if none does."""
    rows = np.array([y for y in rows_mm if np.isfinite(y)])
    right = columns.x0_mm + spec.n_columns * columns.width_mm
    good = [
        m
        for m in pulses
        if np.abs(rows - m.y_mm - m.height_mm / 2).min() < 5.0
        and (-25.0 < m.x_mm - columns.x0_mm < 4.0 or -4.0 < m.x_mm - right < 25.0)
    ]
    return tuple(good) or pulses


def _decide(prior: dict[float, float], evidence: dict[str, dict[float, float]]) -> tuple[float, Decided]:
    """The value of highest posterior, its probability, and the evidence whose log likelihoods favour it most."""
    values = list(prior)
    log = np.log([prior[v] for v in values])
    parts = {how: np.array([by[v] for v in values]) for how, by in evidence.items()}
    for part in parts.values():
        log = log + part
    p = np.exp(log - log.max())
    p /= p.sum()
    i = int(p.argmax())
    push = {how: float(part[i] - np.delete(part, i).max()) for how, part in parts.items()}
    how = max(push, key=lambda k: push[k])
    # The page's usual width counts, but it is no reading of the page.
    return values[i], Decided(how if push[how] > 0.3 else "default", round(float(p[i]), 3))


def _text(seen: Seen, kind: str, group: str) -> float:
    """Log likelihood of the printed texts if this one is printed: the surest mark of each value counts, once.

    One misread text raises several marks side by side, so these are not several witnesses.
    """
    total = 0.0
    kinds = {m.kind for m in seen.texts if m.kind.startswith(group)}
    for here in sorted(kinds):
        score = max(min(m.score, 1.0) for m in seen.texts if m.kind == here)
        wrong = 0.66 - 0.65 * min(max((score - 0.3) / 0.65, 0.0), 1.0)  # below 0.3 a mark says nothing
        says = here == kind or (here == SPLIT_GAIN and kind == SPLIT_GAIN.split("/")[0])
        total += float(np.log(1.0 - wrong if says else wrong / 2))
    return total


def _pulse_width(pulses: tuple[Mark, ...], speed: float) -> float:
    sized = [m for m in pulses if m.width_mm > 0]
    if not sized:
        return 0.0
    best = min(0.5, max(m.score for m in sized))
    z = (
        float(np.median([m.width_mm for m in sized if m.score >= best])) - np.array([w for _, w in PULSE_WIDTHS[speed]])
    ) / PULSE_WIDTH_SIGMA_MM
    share = np.array([s for s, _ in PULSE_WIDTHS[speed]])
    peak = share * np.exp(-0.5 * z**2) / (PULSE_WIDTH_SIGMA_MM * np.sqrt(2 * np.pi))
    return float(np.log(peak.sum() + ELSE_PER_MM)) * min(float(_worth(np.array([m.score for m in sized])).sum()), 1.0)


def _page_time(columns: Columns, spec: LayoutSpec, speed: float) -> float:
    """Log of how usual the page's seconds are at this speed."""
    seconds = spec.n_columns * columns.width_mm / speed
    return float(np.log(0.05 + sum(p * np.exp(-0.5 * ((seconds / t - 1.0) / 0.04) ** 2) for t, p in PAGE_SECONDS)))


def _split_pulses(
    pulses: tuple[Mark, ...], columns: Columns, spec: LayoutSpec, rows_mm: tuple[float, ...]
) -> tuple[F64, F64]:
    """(height mm, score) of the pulses that calibrate limb leads (or all), and of those for chest leads only."""
    limb: list[tuple[float, float]] = []
    chest: list[tuple[float, float]] = []
    rows = np.where(np.isfinite(rows_mm), rows_mm, 1e6)
    middle = columns.x0_mm + spec.n_columns * columns.width_mm / 2
    chest_right = bool(spec.rows) and all(row[-1] in CHEST_LEADS for row in spec.rows)
    for m in pulses:
        row = int(np.abs(rows - (m.y_mm + m.height_mm / 2)).argmin())
        leads = spec.rows[row] if row < len(spec.rows) else spec.rhythm[row - len(spec.rows) :][:1]
        here = all(lead in CHEST_LEADS for lead in leads) or (chest_right and len(leads) > 1 and m.x_mm > middle)
        if m.height_mm > 0 and m.score > FAINT:
            (chest if here else limb).append((m.height_mm, m.score))
    if not limb:
        limb, chest = chest, []
    return np.array(limb).reshape(-1, 2), np.array(chest).reshape(-1, 2)


def _pulse_height(pulses: F64, gain: float) -> float:
    """Log likelihood of (height, score) (n, 2): heavy tails as some are misread; several count as two at most."""
    if not pulses.size:
        return 0.0
    heights, scores = pulses.T
    sigma = 0.05 * gain + 0.3
    each = np.log(1.0 / (sigma * (1.0 + ((heights - gain) / sigma) ** 2)) + 0.003)
    return float((each * _worth(scores)).sum() * min(1.0, 2.0 / len(heights)))


def _worth(scores: F64) -> F64:
    """How much a mark of a score counts: a faint one, such as the edge of a wave, next to nothing."""
    return np.asarray(np.clip((scores - FAINT) / 0.3, 0.02, 1.0), dtype=np.float64)


def _chest_gain(seen: Seen, chest: F64, gain: float) -> tuple[float, float] | None:
    """The chest leads' own gain and its confidence, from their own pulses or from two gains printed as one text."""
    if len(chest) >= 2:
        own = max(GAINS_MM_PER_MV, key=lambda g: _pulse_height(chest, g))
        if own != gain and abs(float(np.median(chest[:, 0])) - own) < 0.15 * own:
            return own, 0.9
    printed = {m.kind: m.score for m in sorted(seen.texts, key=lambda m: m.score) if m.kind.startswith("gain:")}
    split = printed.pop(SPLIT_GAIN, 0.0)
    limb_gain, chest_gain = (float(g) for g in SPLIT_GAIN.removeprefix("gain:").split("/"))
    if split > SPLIT_SURE and split > max(printed.values(), default=0.0) - 0.1 and gain == limb_gain:
        return chest_gain, 0.7
    return None
