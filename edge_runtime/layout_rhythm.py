"""Which lead a rhythm strip shows: by the name beside it, by custom, and by its likeness to the short leads."""

from __future__ import annotations

from typing import Final

import numpy as np

from ecg.layouts import LAYOUTS
from edge_runtime.layout_evidence import F64, LABEL_INDEX, Ink, family

RHYTHM_PRIOR: Final = {"II": 0.75, "V1": 0.11, "V5": 0.05, "V2": 0.012, "III": 0.012, "aVF": 0.012, "I": 0.012}
RHYTHM_RARE: Final = 0.006
COMBINATION_PRIOR: Final = {("II", "V1"): 1.0, ("V1", "II"): 0.6, ("V1", "II", "V5"): 1.0}
UNUSUAL: Final = 0.1  # a combination of rhythm leads that no known layout has
SAME_TIME: Final = 0.9  # how often a rhythm strip shows the same seconds as the short leads above it
# Correlations of a rhythm strip's ink with the short lead that it repeats, and with other leads: mean, sigma.
ALIKE: Final = (0.85, 0.12)
UNLIKE: Final = (0.5, 0.25)


def name_rhythm(
    rows: tuple[tuple[str, ...], ...], said: list[tuple[str, float]], likeness: list[dict[str, float]]
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The rhythm strips' leads and the confidence in each.

    ``said``: the name read beside each strip ("" for none) and its score; ``likeness``: each strip's correlation with
    the short leads.  Known combinations and whatever the names say compete.
    """
    known = {s.rhythm for s in LAYOUTS.values() if len(s.rhythm) == len(said) and s.rows == rows}
    known |= {combo for combo in (("II",), *COMBINATION_PRIOR) if len(combo) == len(said)}
    options = set(known) or {()}
    options |= {tuple(s or d for (s, _), d in zip(said, combo, strict=True)) for combo in options}
    options = {o for o in options if len(set(o)) == len(o)}
    weight = {o: _weight(o, said, likeness, o in known) for o in sorted(options)}
    best = max(weight, key=lambda o: weight[o])
    share = weight[best] / max(sum(weight.values()), 1e-12)
    return best, tuple(share if name else min(share, 0.6) for name, _ in said)


def _weight(
    leads: tuple[str, ...], said: list[tuple[str, float]], likeness: list[dict[str, float]], known: bool
) -> float:
    """Prior of a combination times the likelihood of the names read and of the strips' likeness to short leads."""
    weight = 1.0 if known else UNUSUAL
    if known and len(leads) > 1:
        weight *= COMBINATION_PRIOR.get(leads, UNUSUAL)
    else:
        weight *= float(np.prod([RHYTHM_PRIOR.get(lead, RHYTHM_RARE) for lead in leads]))
    for lead, (name, score), like in zip(leads, said, likeness, strict=True):
        weight *= _alike(like[lead]) if lead in like else 1.0
        if name:
            wrong = 0.02 + 0.3 * (1.0 - score)
            kin = 0.3 if family(LABEL_INDEX[name]) == family(LABEL_INDEX[lead]) else 0.03
            weight *= 1.0 - wrong if name == lead else wrong * kin
    return weight


def _alike(r: float) -> float:
    """Likelihood ratio of a correlation between "the same lead" and "another lead"."""
    log = [-0.5 * ((r - mean) / sigma) ** 2 - np.log(sigma) for mean, sigma in (ALIKE, UNLIKE)]
    return SAME_TIME * float(np.exp(log[0] - log[1])) + 1.0 - SAME_TIME


def rhythm_likeness(
    rows: tuple[tuple[str, ...], ...], rows_mm: tuple[float, ...], x0_mm: float, width_mm: float, ink: Ink
) -> list[dict[str, float]]:
    """For each rhythm strip, the correlation of its ink with each short lead's in that lead's column.

    A strip printed at the same time repeats the short lead exactly.  Leads that the photo cuts off are left out.
    """
    at = np.array(rows_mm)
    known = np.sort(at[np.isfinite(at)])
    half = float(np.clip(np.diff(known).min(initial=30.0) / 2, 5.0, 14.0))
    out: list[dict[str, float]] = []
    for y_strip in at[len(rows) :]:
        like: dict[str, float] = {}
        for y, row in zip(at, rows, strict=False):
            for c, lead in enumerate(row):
                span = x0_mm + c * width_mm + 1.0, x0_mm + (c + 1) * width_mm - 1.0
                if np.isfinite(y) and np.isfinite(y_strip):
                    r = _correlation(ink, span, float(y), float(y_strip), half)
                    like |= {} if r is None else {lead: r}
        out.append(like)
    return out


def _correlation(ink: Ink, span: tuple[float, float], y_a: float, y_b: float, half_mm: float) -> float | None:
    """Largest correlation over small vertical shifts of two rows' ink in one span, each height's mean taken off."""
    cols = ink.columns(*span)
    if (cols.stop - cols.start) * ink.cell_mm < 0.5 * (span[1] - span[0]) or not ink.on_page[:, cols].any():
        return None
    a = _patch(ink, cols, y_a, half_mm)
    best = -1.0
    for shift in (-2.0, -1.0, 0.0, 1.0, 2.0):
        b = _patch(ink, cols, y_b + shift * ink.cell_mm, half_mm)
        best = max(best, float((a * b).sum() / (np.sqrt((a * a).sum() * (b * b).sum()) + 1e-9)))
    return best if a.any() else None


def _patch(ink: Ink, cols: slice, y_mm: float, half_mm: float) -> F64:
    """The ink (2 h + 1, w) around a baseline, blurred by 2 cells along its height; none outside the map."""
    i, h = round((y_mm - ink.ys[0]) / ink.cell_mm), round(half_mm / ink.cell_mm) + 2
    low, high = max(i - h, 0), min(i + h + 1, len(ink.ys))
    there = np.zeros((2 * h + 1, cols.stop - cols.start))
    if low < high:
        there[low - i + h : high - i + h] = ink.there[low:high, cols]
    patch = there[:-4] + 2 * there[1:-3] + 3 * there[2:-2] + 2 * there[3:-1] + there[4:]
    return np.asarray(patch - patch.mean(axis=1, keepdims=True))
