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
# How often a pulse's width is misread, by its score (325 pulses of 5 mm on rendered photographs), and as what.
WIDTH_MISREAD: Final = ((0.25, 0.375, 0.525, 0.675), (0.5, 0.45, 0.15, 0.005))
MISREAD_PER_MM: Final = 0.07
FAINT: Final = 0.3  # pulses seen less surely than this are no evidence
# How high the finder sees a pulse of so many mm, and how well (mm).
PULSE_SEEN_MM: Final = {5.0: (5.05, 0.3), 10.0: (10.0, 0.35), 20.0: (19.9, 0.8)}
# How often the best pulse of a page is none, or is misread in height, by its score (on 215 rendered pages, half of them
# photographed), and as what.
HEIGHT_MISREAD: Final = ((0.35, 0.45, 0.6, 0.7, 0.75, 0.8, 0.9), (0.95, 0.8, 0.6, 0.4, 0.15, 0.02, 0.005))
WRONG_PER_MM: Final = 0.05
FALSE_PER_MM: Final = 0.003  # likelihood of a height that no gain explains
CROWDED_PER_MM: Final = 0.03  # and of a high pulse that its neighbours cut into pieces
# Of a text "10/5": on 420 rendered pages 13 of the 139 that say so were read less surely than .93, and of the others
# none at .7 or more once what stands behind one gain is left out.
SPLIT_SURE: Final = 0.8
PART_SURE: Final = 0.8  # of "10" and "5" in a text "Limb 10 mm/mV Chest 5 mm/mV",
PARTS_MM: Final = (90.0, 3.0)  # no further apart than this along and across the line
BEHIND_MM: Final = (25.0, 3.0)  # "0.05-150 Hz" is read as "10/5" this near behind a gain, along and across the line
SEEN_AS_TEXT: Final = 0.5
SAME_TEXT_MM: Final = (11.0, 2.0)  # marks this near along and across the line read one text
# How often the best mark of a printed text misreads it, by its score.
MISREAD: Final = ((0.3, 0.6, 0.8, 0.9, 0.95, 0.98), (0.66, 0.45, 0.25, 0.06, 0.01, 0.003))
# Machines print speed and gain side by side.  Of gains read there on 420 rendered pages none of 245 was misread that
# scored .9 or more, elsewhere 1 of 65 (an R wave in the header); from .6 to .9 it was 6 of 24, elsewhere 2 of 3.
BESIDE_MM: Final = (90.0, 4.0)  # along and across the line
BESIDE_SURE: Final = 0.6  # of the speed
BESIDE_MISREAD: Final = 1 / 3  # as often as others
OWN_SHARE: Final = 0.5  # of the right pulses' scores that left ones reach where each side has its own
_SPLIT: Final = SPLIT_GAIN.removeprefix("gain:").split("/")  # the limb leads' gain and the chest leads'
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
    printed, beside = _beside_speeds(seen.texts)
    texts = _said(printed)
    pitch = float(np.diff(np.sort([y for y in rows_mm if np.isfinite(y)])).min(initial=60.0))
    speed, speed_by = _decide(
        SPEED_PRIOR,
        {
            "text": {v: _text(texts, f"speed:{v:g}", "speed:") for v in PAPER_SPEEDS_MM_PER_S},
            "pulse": {v: _pulse_width(pulses, v) for v in PAPER_SPEEDS_MM_PER_S},
            "layout": {v: _page_time(columns, spec, v) for v in PAPER_SPEEDS_MM_PER_S},
        },
    )
    limb, chest = _split_pulses(pulses, columns, spec, rows_mm)
    gain, gain_by = _decide(
        GAIN_PRIOR,
        {
            "text": {g: _text(texts, f"gain:{g:g}", "gain:", beside) for g in GAINS_MM_PER_MV},
            "pulse": {g: _pulse_height(limb, g, pitch) for g in GAINS_MM_PER_MV},
        },
    )
    split = _chest_gain(texts, chest, gain, pitch)
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


def _said(texts: tuple[Mark, ...]) -> dict[str, float]:
    """Each speed and gain that is read somewhere and its best score.

    A long text raises several marks along its line, some of which misread a part of it: the surest counts.
    """
    left = sorted((m for m in texts if not _behind(m, texts)), key=lambda m: -m.score)
    said: dict[str, float] = {}
    while left:
        best = left[0]
        said[best.kind] = max(said.get(best.kind, 0.0), min(best.score, 1.0))
        one = [best]
        while near := [m for m in left if m not in one and any(_same_text(m, k) for k in one)]:
            one += near
        left = [m for m in left if m not in one]
    both = _parted(texts)
    if both > said.get(SPLIT_GAIN, 0.0):
        said = {k: v for k, v in said.items() if not k.startswith("gain:")} | {SPLIT_GAIN: both}
    return said


def _behind(mark: Mark, texts: tuple[Mark, ...]) -> bool:
    """Whether a "10/5" is the frequency band that stands behind one gain: read once, and no "5" comes after it."""
    if mark.kind != SPLIT_GAIN:
        return False
    line = [m for m in texts if m.kind.startswith("gain:") and m is not mark and m.score > SEEN_AS_TEXT
            and abs(m.y_mm - mark.y_mm) < BEHIND_MM[1] and abs(m.x_mm - mark.x_mm) < PARTS_MM[0]]  # fmt: skip
    if any(m.kind == SPLIT_GAIN or (m.kind == f"gain:{_SPLIT[1]}" and m.x_mm > mark.x_mm) for m in line):
        return False
    return any(m.score > PART_SURE and 0.0 < mark.x_mm - m.x_mm < BEHIND_MM[0] for m in line)


def _parted(texts: tuple[Mark, ...]) -> float:
    """How surely the limb leads' gain stands left of the chest leads' on one line."""
    limb, chest = ([m for m in texts if m.kind == f"gain:{g}" and m.score > PART_SURE] for g in _SPLIT)
    on_a_line = [
        max(min(a.score, b.score), SPLIT_SURE)
        for a in limb
        for b in chest
        if 0.0 < b.x_mm - a.x_mm < PARTS_MM[0] and abs(b.y_mm - a.y_mm) < PARTS_MM[1]
    ]
    return max(on_a_line, default=0.0)


def _same_text(a: Mark, b: Mark) -> bool:
    near = abs(a.x_mm - b.x_mm) < SAME_TEXT_MM[0] and abs(a.y_mm - b.y_mm) < SAME_TEXT_MM[1]
    return near and a.kind.split(":")[0] == b.kind.split(":")[0]


def _beside_speeds(texts: tuple[Mark, ...]) -> tuple[tuple[Mark, ...], frozenset[str]]:
    """The texts, without gains elsewhere if one stands beside a speed; and what the gains beside speeds say."""
    speeds = [m for m in texts if m.kind.startswith("speed:") and m.score > BESIDE_SURE]
    gains = [m for m in texts if m.kind.startswith("gain:")]
    beside = [
        g for g in gains
        if any(abs(g.x_mm - s.x_mm) < BESIDE_MM[0] and abs(g.y_mm - s.y_mm) < BESIDE_MM[1] for s in speeds)
    ]  # fmt: skip
    if not any(g.score > BESIDE_SURE for g in beside):
        return texts, frozenset()
    return tuple(m for m in texts if m not in gains or m in beside), frozenset(g.kind for g in beside)


def _text(texts: dict[str, float], kind: str, group: str, beside: frozenset[str] = frozenset()) -> float:
    """Log likelihood of the texts read if this one is printed; ``beside``: those that stand beside a speed."""
    total = 0.0
    for here, score in texts.items():
        if here.startswith(group):
            wrong = float(np.interp(score, *MISREAD)) * (BESIDE_MISREAD if here in beside else 1.0)
            says = here == kind or (here == SPLIT_GAIN and kind == f"gain:{_SPLIT[0]}")
            total += float(np.log(1.0 - wrong if says else wrong / 2))
    return total


def _pulse_width(pulses: tuple[Mark, ...], speed: float) -> float:
    sized = [m for m in pulses if m.width_mm > 0]
    if not sized:
        return 0.0
    best = max(m.score for m in sized)
    seen = float(np.median([m.width_mm for m in sized if m.score >= min(0.5, best)]))
    z = (seen - np.array([w for _, w in PULSE_WIDTHS[speed]])) / PULSE_WIDTH_SIGMA_MM
    wrong = float(np.interp(best, *WIDTH_MISREAD))
    share = np.array([s for s, _ in PULSE_WIDTHS[speed]])
    peak = share * np.exp(-0.5 * z**2) / (PULSE_WIDTH_SIGMA_MM * np.sqrt(2 * np.pi))
    likely = (1.0 - wrong) * peak.sum() + wrong * MISREAD_PER_MM + ELSE_PER_MM
    # Pulses of one page are alike and misread alike: the surest counts, and not their number.
    return float(np.log(likely)) * float(_worth(np.array(best)))


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
    seen = [m for m in pulses if m.height_mm > 0 and m.score > FAINT]
    # Pulses right of the chest leads are theirs alone where others stand on the left.
    left = sum(m.score for m in seen if m.x_mm <= middle)
    right = sum(m.score for m in seen if m.x_mm > middle)
    chest_right = bool(spec.rows) and all(row[-1] in CHEST_LEADS for row in spec.rows) and left > OWN_SHARE * right
    for m in seen:
        row = int(np.abs(rows - (m.y_mm + m.height_mm / 2)).argmin())
        leads = spec.rows[row] if row < len(spec.rows) else spec.rhythm[row - len(spec.rows) :][:1]
        here = all(lead in CHEST_LEADS for lead in leads) or (chest_right and len(leads) > 1 and m.x_mm > middle)
        (chest if here else limb).append((m.height_mm, m.score))
    if not limb:
        limb, chest = chest, []
    return np.array(limb).reshape(-1, 2), np.array(chest).reshape(-1, 2)


def _pulse_height(pulses: F64, gain: float, pitch_mm: float) -> float:
    """Log likelihood of (height, score) (n, 2): heavy tails as some are misread; several count as two at most.

    Where rows stand closer than a pulse is high, each is crossed by its neighbour's and seems to be several.
    """
    if not pulses.size:
        return 0.0
    heights, scores = pulses.T
    usual, sigma = PULSE_SEEN_MM[gain]
    peak = 1.0 / (np.pi * sigma * (1.0 + ((heights - usual) / sigma) ** 2))
    wrong = float(np.interp(scores.max(), *HEIGHT_MISREAD))
    peak = (1.0 - wrong) * peak + wrong * WRONG_PER_MM
    each = np.log(peak + (CROWDED_PER_MM if pitch_mm < gain else FALSE_PER_MM))
    most = 1.0 if pitch_mm < max(GAINS_MM_PER_MV) else 2.0
    worth = _worth(scores)
    return float((each * worth).sum() * min(1.0, most / worth.sum()))


def _worth(scores: F64) -> F64:
    """How much a mark of a score counts: a faint one, such as the edge of a wave, next to nothing."""
    return np.asarray(np.clip((scores - FAINT) / 0.3, 0.02, 1.0), dtype=np.float64)


def _chest_gain(texts: dict[str, float], chest: F64, gain: float, pitch_mm: float) -> tuple[float, float] | None:
    """The chest leads' own gain and its confidence, from their own pulses or from two gains printed as one text."""
    if len(chest) >= 2 and pitch_mm > gain:
        own = max(GAINS_MM_PER_MV, key=lambda g: _pulse_height(chest, g, pitch_mm))
        if own != gain and abs(float(np.median(chest[:, 0])) - own) < 0.15 * own:
            return own, 0.9
    printed = {kind: score for kind, score in texts.items() if kind.startswith("gain:")}
    split = printed.pop(SPLIT_GAIN, 0.0)
    limb_gain, chest_gain = (float(g) for g in _SPLIT)
    if split >= SPLIT_SURE and split > max(printed.values(), default=0.0) - 0.1 and gain == limb_gain:
        return chest_gain, 0.7
    return None
