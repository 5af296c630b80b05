"""How good scores and probabilities are: AUROC, calibration error, reliability, with intervals over records."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg.metrics import auroc

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]
ECE_BINS = 10


def macro_auroc(scores: Floats, true: Flags) -> float:
    """Mean AUROC over the columns that have both kinds."""
    values = [auroc(scores[:, k], true[:, k]) for k in range(true.shape[1])]
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def reliability(probability: Floats, true: Flags, bins: int = ECE_BINS) -> list[dict[str, float]]:
    """Per bin of equal width that holds any: how many, mean probability, share that is true."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    out = []
    for b in range(bins):
        here = index == b
        if here.any():
            out.append({"n": int(here.sum()), "probability": float(probability[here].mean()),
                        "share": float(true[here].mean())})  # fmt: skip
    return out


def calibration_error(probability: Floats, true: Flags, bins: int = ECE_BINS) -> float:
    """Expected calibration error: the bins' gaps between probability and share, weighted by how many they hold."""
    rows = reliability(probability, true, bins)
    return sum(r["n"] * abs(r["probability"] - r["share"]) for r in rows) / max(len(true), 1)


def brier(probability: Floats, true: Flags) -> float:
    """Mean square of probability less truth."""
    return float(np.mean((probability - true) ** 2))


def bootstrap(function: Any, arrays: tuple[NDArray[Any], ...], draws: int = 500, seed: int = 0) -> list[float]:
    """[value, low, high]: ``function(*arrays)`` and its 95 % interval over resampled rows."""
    rng = np.random.default_rng(seed)
    n = len(arrays[0])
    values = []
    for _ in range(draws):
        k = rng.integers(0, n, n)
        values.append(function(*(a[k] for a in arrays)))
    good = np.array([v for v in values if np.isfinite(v)])
    low, high = np.percentile(good, [2.5, 97.5]) if len(good) else (np.nan, np.nan)
    return [float(function(*arrays)), float(low), float(high)]
