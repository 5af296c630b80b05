"""Training of the mark reader: cross-entropy over patches, in minutes on one core; resumes from its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from distill.mark_samples import load_patches
from distill.nets import MarkReader
from distill.patch_train import PatchTraining, train_on_patches
from ecg.errors import InputError
from ecg.marks import READ_KINDS, STROKE_KINDS


@dataclass(frozen=True)
class MarkConfig(PatchTraining):
    """One training; ``patches`` is a folder of ``ecgscan-distill render-marks``."""

    held_out: int = 2000


def _odds(kinds: NDArray[np.int64]) -> NDArray[np.float64]:
    """Rare kinds nearly as often as common ones, and twice as often what is neither a name nor a text."""
    count = np.bincount(kinds, minlength=len(READ_KINDS)).clip(min=1)
    odds = 1.0 / count[kinds] ** 0.75
    odds[kinds == READ_KINDS.index("other")] *= 2
    return np.asarray(odds / odds.sum())


def turned_over(
    patches: NDArray[np.uint8], kinds: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A seventh of the patches upside down: no names then, but for those that look the same."""
    over = (rng.random(len(kinds)) < 1 / 7) & ~np.isin(kinds, [READ_KINDS.index(k) for k in STROKE_KINDS])
    patches, kinds = patches.copy(), kinds.copy()
    patches[over] = patches[over][:, ::-1, ::-1]
    kinds[over] = READ_KINDS.index("other")
    return patches, kinds


def _inputs(patches: NDArray[np.uint8], rng: np.random.Generator | None = None) -> Tensor:
    x = torch.from_numpy(patches.astype(np.float32))[:, None]
    if rng is not None:  # small shifts, so that no place in the patch is special
        x = torch.roll(x, (int(rng.integers(-2, 3)), int(rng.integers(-4, 5))), dims=(2, 3))
    return x.contiguous(memory_format=torch.channels_last)


def accuracy(net: nn.Module, patches: NDArray[np.uint8], kinds: NDArray[np.int64]) -> dict[str, float]:
    """Share read right: of all, of names, of texts, and of what is neither."""
    said = np.concatenate([net(_inputs(patches[k : k + 500])).argmax(1).numpy() for k in range(0, len(kinds), 500)])
    groups: dict[str, tuple[str, ...]] = {"lead": ("lead:",), "text": ("speed:", "gain:"), "other": ("other",)}
    out = {"all": float((said == kinds).mean())}
    for name, start in groups.items():
        here = np.isin(kinds, [i for i, k in enumerate(READ_KINDS) if k.startswith(start)])
        out[name] = float((said[here] == kinds[here]).mean()) if here.any() else float("nan")
    return out


def train_marks(config: MarkConfig) -> Path:
    """Train, going on from ``out``/marks.ckpt; returns it."""
    patches, kinds = load_patches(config.patches)
    if len(kinds) < 2 * config.held_out:
        raise InputError(f"{config.patches}: {len(kinds)} patches are too few; run ecgscan-distill render-marks first")
    held, seen = slice(0, config.held_out), slice(config.held_out, None)
    odds = _odds(kinds[seen])

    def batch(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        pick = config.held_out + rng.choice(len(odds), config.batch, p=odds)
        some, what = turned_over(patches[pick], kinds[pick], rng)
        return _inputs(some, rng), torch.from_numpy(what)

    def loss(logits: Tensor, what: Tensor) -> Tensor:
        return F.cross_entropy(logits, what, label_smoothing=0.02)

    def figures(net: nn.Module) -> dict[str, float]:
        return accuracy(net, patches[held], kinds[held])

    return train_on_patches("marks", MarkReader, config, batch, loss, figures)


def load_marks(path: Path) -> MarkReader:
    """A trained mark reader, in eval mode."""
    net = MarkReader()
    net.load_state_dict(torch.load(path, weights_only=True)["net"])
    return net.eval()
