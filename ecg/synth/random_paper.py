"""Folds, curls and crumples drawn as paper ECGs have them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ecg.synth.paper_shape import Crumple, Curl, Fold, PaperShape

Rng = np.random.Generator


def pick(rng: Rng, options: dict[str, float]) -> str:
    """One of the options, drawn by its weight."""
    p = np.array(list(options.values()))
    return str(rng.choice(list(options), p=p / p.sum()))


def _slope(rng: Rng, low: float, high: float) -> float:
    return float(rng.uniform(low, high) * rng.choice([-1, 1]))


def random_folds(rng: Rng) -> tuple[Fold, ...]:
    """Half, letter, cross, accordion and diagonal folds, and dog ears."""
    kind = pick(rng, {"half": 0.2, "letter": 0.22, "cross": 0.16, "accordion": 0.14, "diagonal": 0.2, "ear": 0.08})
    base = float(rng.choice([0, 90]) + rng.normal(0, 1.2))
    hard = rng.uniform(0.06, 0.34)
    radius = float(rng.uniform(0.5, 2.5))
    reach = float("inf") if rng.random() < 0.6 else float(rng.uniform(25, 90))
    sign = float(rng.choice([-1, 1]))

    def crease(angle: float, offset: float, strength: float) -> Fold:
        jitter = rng.normal(0, 1.0)
        return Fold(angle + jitter, offset + rng.normal(0, 0.01), strength * rng.uniform(0.6, 1.1), radius, reach)

    if kind == "half":
        return (crease(base, 0.0, sign * hard),)
    if kind == "letter":
        second = -sign if rng.random() < 0.6 else sign
        return crease(base, -1 / 6, sign * hard), crease(base, 1 / 6, second * hard)
    if kind == "cross":
        return crease(base, 0.0, sign * hard), crease(base + 90, 0.0, float(rng.choice([-1, 1])) * hard * 0.8)
    if kind == "accordion":
        n = int(rng.integers(3, 5))
        return tuple(crease(base, (k + 1) / (n + 1) - 0.5, sign * (-1) ** k * hard) for k in range(n))
    if kind == "ear":
        angle = float(rng.choice([45, 135]) + rng.normal(0, 10))
        return (Fold(angle, float(rng.choice([-1, 1]) * rng.uniform(0.33, 0.45)), abs(hard), radius),)
    n = int(rng.integers(1, 4))
    return tuple(
        crease(rng.uniform(0, 180), rng.uniform(-0.3, 0.3), float(rng.choice([-1, 1])) * hard) for _ in range(n)
    )


def _curls(rng: Rng) -> tuple[Curl, ...]:
    kind = pick(rng, {"roll": 0.4, "wave": 0.2, "edge": 0.2, "corner": 0.2})
    if kind == "roll":  # paper that was wound on a roll, or a page of a binder
        angle = float(rng.choice([0, 90]) + rng.normal(0, 8))
        return (Curl("roll", angle, float(rng.uniform(-0.4, 0.4)), _slope(rng, 0.1, 0.5), float(rng.uniform(60, 220))),)
    if kind == "wave":
        angle = float(rng.uniform(0, 180))
        return (Curl("wave", angle, 0.0, float(rng.uniform(0.05, 0.25)), float(rng.uniform(90, 300))),)
    edges = []
    for _ in range(int(rng.integers(1, 4))):
        base = rng.choice([0, 90, 180, 270]) if kind == "edge" else rng.choice([45, 135, 225, 315])
        offset = rng.uniform(0.15, 0.4)
        edges.append(
            Curl(
                "edge",
                float(base + rng.normal(0, 9)),
                float(offset),
                float(rng.uniform(0.15, 0.7)),
                float(rng.uniform(10, 60)),
            )
        )
    return tuple(edges)


def _ripples(rng: Rng, strength: float) -> Crumple:
    """What every handled sheet has: faint dents and waves."""
    return Crumple(
        float(strength * rng.uniform(0.3, 1)), float(rng.uniform(35, 90)), float(rng.uniform(1, 3)), 0.8, 1, 2
    )


def random_paper(rng: Rng, condition: str) -> PaperShape:
    """A sheet as it comes in a condition: flat, curled, folded or crumpled; flat in any other."""
    if condition == "flat":
        return PaperShape(crumples=(_ripples(rng, 0.035),)) if rng.random() < 0.8 else PaperShape()
    if condition == "curled":
        return PaperShape(curls=_curls(rng), crumples=(_ripples(rng, 0.035),))
    if condition == "folded":
        folds = random_folds(rng)
        soft = float(rng.choice([0.03, 0.05, 0.09]))
        curls = _curls(rng) if rng.random() < 0.12 else ()
        return PaperShape(folds=folds, curls=curls, crumples=(_ripples(rng, soft),))
    if condition == "crumpled":
        slope = float(
            rng.choice([rng.uniform(0.06, 0.14), rng.uniform(0.12, 0.24), rng.uniform(0.2, 0.36)], p=[0.3, 0.45, 0.25])
        )
        crumple = Crumple(
            slope,
            float(rng.uniform(22, 70)),
            float(rng.uniform(0.3, 0.9)),
            float(rng.uniform(0, 1)),
            int(rng.integers(0, 12)),
            int(rng.integers(3, 5)),
        )
        folds = random_folds(rng) if rng.random() < 0.25 else ()
        curls = _curls(rng) if rng.random() < 0.2 else ()
        return PaperShape(folds=tuple(replace(f, slope=f.slope * 0.6) for f in folds), curls=curls, crumples=(crumple,))
    return PaperShape()
