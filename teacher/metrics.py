"""AUROC with bootstrap intervals, and logistic regression by L-BFGS: what the evaluation's tables are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ecg.metrics import auroc

Floats = NDArray[np.floating]
MIN_POSITIVES = 10


def class_aurocs(scores: Floats, labels: NDArray[np.bool_]) -> Floats:
    """AUROC of each column, (classes,)."""
    return np.array([auroc(scores[:, k], labels[:, k]) for k in range(labels.shape[1])])


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % bootstrap interval over records."""

    value: float
    low: float
    high: float

    def as_list(self) -> list[float]:
        """For JSON."""
        return [self.value, self.low, self.high]


@dataclass(frozen=True)
class AurocTable:
    """Macro over all classes, macro over those with ten positives or more, and each class."""

    macro: Interval
    macro_common: Interval
    classes: dict[str, Interval]
    positives: dict[str, int]


def auroc_table(
    scores: Floats, labels: NDArray[np.bool_], names: Sequence[str], draws: int = 1000, seed: int = 0
) -> AurocTable:
    """Figures of scores (n, classes) against labels (n, classes), with intervals over resampled records."""
    rng = np.random.default_rng(seed)
    common = labels.sum(axis=0) >= MIN_POSITIVES
    real = class_aurocs(scores, labels)
    drawn = np.full((draws, labels.shape[1]), np.nan)
    for k in range(draws):
        at = rng.integers(len(labels), size=len(labels))
        drawn[k] = class_aurocs(scores[at], labels[at])
    return AurocTable(
        _macro(real, drawn, np.ones(len(common), bool)),
        _macro(real, drawn, common),
        {name: _interval(real[k], drawn[:, k]) for k, name in enumerate(names)},
        {name: int(labels[:, k].sum()) for k, name in enumerate(names)},
    )


def _macro(real: Floats, drawn: Floats, use: NDArray[np.bool_]) -> Interval:
    real, drawn = real[use], drawn[:, use]
    there = np.isfinite(real)
    if not there.any():
        return Interval(float("nan"), float("nan"), float("nan"))
    count = np.isfinite(drawn).sum(axis=1)
    means = np.nansum(drawn, axis=1)[count > 0] / count[count > 0]
    return _interval(float(real[there].mean()), means)


def _interval(value: float, drawn: Floats) -> Interval:
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(value), float(low), float(high))


# -------------------------------------------------------------------------------------------------- linear probe


@dataclass(frozen=True, eq=False)
class Probe:
    """One logistic regression a class on standardised features."""

    mean: Tensor
    spread: Tensor
    weight: Tensor
    bias: Tensor

    def scores(self, x: Floats) -> Floats:
        """Log odds (n, classes) of features (n, d)."""
        z = (torch.as_tensor(np.asarray(x, np.float64)) - self.mean) / self.spread
        return (z @ self.weight + self.bias).numpy()


def fit_probe(x: Floats, labels: NDArray[np.bool_], strength: float, steps: int = 60) -> Probe:
    """Logistic regressions of labels (n, classes) on features (n, d); ``strength`` weighs the squared weights' mean
    loss against the data's."""
    data = torch.as_tensor(np.asarray(x, np.float64))
    mean, spread = data.mean(dim=0), data.std(dim=0).clamp(min=1e-6)
    z, y = (data - mean) / spread, torch.as_tensor(labels.astype(np.float64))
    weight = torch.zeros(z.shape[1], y.shape[1], dtype=torch.float64, requires_grad=True)
    rate = y.mean(dim=0).clamp(1e-3, 1 - 1e-3)
    bias = torch.log(rate / (1 - rate)).detach().requires_grad_(True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.binary_cross_entropy_with_logits(z @ weight + bias, y) * y.shape[1]
        loss = loss + 0.5 * strength * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    return Probe(mean, spread, weight.detach(), bias.detach())


STRENGTHS = (1.0, 0.3, 0.1, 0.03, 0.01)


def chosen_probe(
    train: tuple[Floats, NDArray[np.bool_]], valid: tuple[Floats, NDArray[np.bool_]]
) -> tuple[Probe, float]:
    """The probe whose strength does best on the validation records (mean AUROC of the classes that they show)."""
    best: tuple[float, Probe, float] | None = None
    for strength in STRENGTHS:
        probe = fit_probe(*train, strength)
        value = float(np.nanmean(class_aurocs(probe.scores(valid[0]), valid[1])))
        if best is None or value > best[0]:
            best = (value, probe, strength)
    assert best is not None
    return best[1], best[2]
