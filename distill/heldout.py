"""Held-out samples of the validation shards and what a net's results on them are worth, for whoever runs the net."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from distill import targets, train
from distill.shards import Shard
from ecg.errors import InputError

Arrays = dict[str, NDArray[np.generic]]
Run = Callable[[Arrays], Sequence[NDArray[np.floating]]]


def shard_paths(shards: Path) -> tuple[list[Path], list[Path]]:
    """Shards that validated the training, and those that it drew from."""
    paths = sorted(shards.glob("shard-*.npz"))
    if len(paths) <= train.VALIDATION_SHARDS:
        raise InputError(f"{shards}: has {len(paths)} shards, more than {train.VALIDATION_SHARDS} are needed; run "
                         "ecgscan-distill render first")  # fmt: skip
    return paths[: train.VALIDATION_SHARDS], paths[train.VALIDATION_SHARDS :]


def spread_inputs(what: str, paths: Sequence[Path], count: int, batch: int = 1) -> list[Arrays]:
    """``count`` inputs ``rgb`` (batch, channels, H, W) uint8, evenly out of spread shards: every condition is met."""
    n_shards = min(len(paths), max(1, count // 3))
    picked = [paths[k] for k in np.linspace(0, len(paths) - 1, n_shards).astype(int)]
    images = []
    for k, path in enumerate(picked):
        shard = Shard(path, (what,))
        n = shard.count(what)
        take = count * (k + 1) // n_shards - count * k // n_shards if n else 0
        samples = [getattr(shard, what)(int(i)) for i in np.linspace(0, n - 1, take)]
        images += [targets.shown(s).transpose(2, 0, 1) for s in samples]
    if not images:
        raise InputError(f"{paths[0].parent}: none of its shards holds samples for {what}; render with --crops and "
                         "--strips of 1 or more")  # fmt: skip
    return [{"rgb": np.stack(images[k : k + batch])} for k in range(0, len(images), batch)]


def batches(what: str, paths: Sequence[Path], limit: int = 96, batch: int = 12) -> Iterator[Arrays]:
    """Samples with their targets, as validation takes them."""
    left = limit
    for path in paths:
        shard = Shard(path, (what,))
        indices = np.linspace(0, shard.count(what) - 1, min(shard.count(what), -(-limit // len(paths)))).astype(int)
        for k in range(0, len(indices), batch):
            part = indices[k : k + batch][:left]
            left -= len(part)
            if len(part):
                yield train._collate(what, [getattr(shard, what)(int(i)) for i in part])


def score(what: str, run: Run, data: Sequence[Arrays]) -> dict[str, float]:
    """Mean of ``loss`` (all terms summed), of its terms and of the validation's figures over ``data``."""
    sums: dict[str, list[float]] = {}
    for batch in data:
        out = tuple(torch.from_numpy(np.array(x, np.float32)) for x in run({"rgb": batch["rgb"]}))
        tensors = {k: torch.from_numpy(v) for k, v in batch.items()}
        result = out[0] if len(out) == 1 else out
        terms = train._loss(what, result, tensors)
        total = torch.stack(list(terms.values())).sum()
        worth = {"loss": total, **terms, **train._figures(what, result, tensors)}
        for name, value in worth.items():
            sums.setdefault(name, []).append(float(value))
    return {name: float(np.nanmean(v)) for name, v in sums.items()}
