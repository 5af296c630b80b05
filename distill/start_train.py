"""Training of the start reader: where in a patch a trace starts or ends, as a distribution over places."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from distill.nets import StartReader
from distill.patch_train import PatchTraining, train_on_patches
from distill.start_samples import load_starts, start_files
from ecg.marks import END_KINDS, START_BINS, START_OFFSETS_MM, START_PX_PER_MM

TARGET_MM: Final = 0.015  # a target's standard deviation
BATCH_SEEN: Final = 200
MOST_PX: Final = 4  # a patch is moved by
OFFSETS_MM: Final = np.array(START_OFFSETS_MM)


@dataclass(frozen=True)
class StartTraining(PatchTraining):
    """One training; ``patches`` is a folder of ``ecgscan-distill render-starts``."""

    held_files: int = 5


def targets(offset_mm: NDArray[np.float64]) -> NDArray[np.float32]:
    """What a net should say of patches with these offsets (n,): (n, 102), the last for those that show none."""
    near = np.exp(-0.5 * ((offset_mm[:, None] - OFFSETS_MM) / TARGET_MM) ** 2)
    none = np.abs(offset_mm) > OFFSETS_MM[-1] + TARGET_MM
    near = np.where(none[:, None], 0.0, near / np.maximum(near.sum(axis=1, keepdims=True), 1e-12))
    return np.concatenate([near, none[:, None]], axis=1).astype(np.float32)


def moved(
    patches: NDArray[np.uint8], offset_mm: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Patches (n, 96, 96, 3) moved by a few whole pixels, their offsets (n,) with them; what left comes in again."""
    right, down = rng.integers(-MOST_PX, MOST_PX + 1, (2, len(patches)))
    after = offset_mm + right / START_PX_PER_MM[0]
    right = np.where(np.abs(after) <= OFFSETS_MM[-1], right, 0)
    rolled = [np.roll(p, (int(d), int(r)), axis=(0, 1)) for p, d, r in zip(patches, down, right, strict=True)]
    return np.stack(rolled), offset_mm + right / START_PX_PER_MM[0]


def as_input(patches: NDArray[np.uint8]) -> Tensor:
    """Patches (n, 96, 96, 3) as the net takes them."""
    x = torch.from_numpy(patches.astype(np.float32)).permute(0, 3, 1, 2)
    return x.contiguous(memory_format=torch.channels_last)


def start_figures(
    place: NDArray[np.floating], kinds: NDArray[np.int64], offset_mm: NDArray[np.float64]
) -> dict[str, float]:
    """Cross-entropy of logits (n, 2, 102), and how far the expected places lie off (median and 84th percentile, mm)."""
    logits = np.asarray(place, np.float64)[np.arange(len(kinds)), kinds]
    logits = logits - logits.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    here = np.exp(log_p[:, :-1])
    off = np.abs(here @ OFFSETS_MM / here.sum(axis=1) - offset_mm)
    out = {"loss": -float((targets(offset_mm) * log_p).sum(axis=1).mean())}
    for k, kind in enumerate(END_KINDS):
        some = off[(kinds == k) & (np.abs(offset_mm) <= OFFSETS_MM[-1])]
        for name, percent in (("off_mm", 50), ("off_84_mm", 84)):
            out[f"{kind}_{name}"] = float(np.percentile(some, percent)) if len(some) else float("nan")
    return out


def train_starts(config: StartTraining) -> Path:
    """Train, going on from ``out``/starts.ckpt; returns it."""
    files = start_files(config.patches)
    few = min(config.held_files, len(files) - 1)
    held, (patches, kinds, offsets) = load_starts(files[:few]), load_starts(files[few:])

    def batch(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        pick = np.sort(rng.integers(0, len(kinds), config.batch))
        some, off = moved(patches[pick], offsets[pick], rng)
        wanted = np.zeros((len(pick), len(END_KINDS), START_BINS + 1), np.float32)  # of the kind that isn't there: 0
        wanted[np.arange(len(pick)), kinds[pick]] = targets(off)
        return as_input(some), torch.from_numpy(wanted)

    def loss(said: Tensor, wanted: Tensor) -> Tensor:
        return -(wanted * F.log_softmax(said, dim=2)).sum(dim=(1, 2)).mean()

    def figures(net: nn.Module) -> dict[str, float]:
        parts = range(0, len(held[1]), BATCH_SEEN)
        place = np.concatenate([net(as_input(held[0][k : k + BATCH_SEEN])).float().numpy() for k in parts])
        return start_figures(place, held[1], held[2])

    return train_on_patches("starts", StartReader, config, batch, loss, figures)


def load_starts_net(path: Path) -> StartReader:
    """A trained start reader, in eval mode."""
    net = StartReader()
    net.load_state_dict(torch.load(path, weights_only=True)["net"])
    return net.eval()
