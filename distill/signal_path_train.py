"""Training of the signal path: findings, and an embedding contrasted with the prompts of what was found."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from calibration.confidence_metrics import auroc
from distill.signal_path import SignalNet, SignalNetConfig, save_signal_net
from distill.signal_path_data import Signals, as_read
from distill.text_space import TextSpace
from ecg.findings import SUPERCLASSES
from ecg.signal_input import signal_input

N_CLASSES = len(SUPERCLASSES)


@dataclass(frozen=True)
class SignalTrainConfig:
    """One net. ``synthetic``: share of synthetic hearts in a batch at the start and at the end; ``class_weight`` counts
    the superclasses more than the codes."""

    net: SignalNetConfig = field(default_factory=SignalNetConfig)
    steps: int = 1200
    batch: int = 64
    lr: float = 3e-3
    weight_decay: float = 0.05
    warmup: int = 50
    ema: float = 0.995
    synthetic: tuple[float, float] = (0.5, 0.1)
    class_weight: float = 3.0
    align: float = 0.5
    mixup: float = 0.0
    label_smoothing: float = 0.02
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Targets:
    """What a batch should say: target and known (B, findings), concepts (B, prompts) that its codes name."""

    target: Tensor
    known: Tensor
    concepts: Tensor


def concepts_of(signals: Signals, space: TextSpace) -> np.ndarray:
    """Which of the space's codes (superclasses left out) each record has, (n, codes)."""
    codes = [c for c in space.vectors if not c.startswith("class:")]
    index = {c: k for k, c in enumerate(codes)}
    out = np.zeros((len(signals), len(codes)), np.float32)
    for row, said in zip(out, signals.codes, strict=True):
        for c in said:
            if c in index:
                row[index[c]] = 1
    return out


class Feed:
    """Batches of real and synthetic records as read from pages."""

    def __init__(self, config: SignalTrainConfig, real: Signals, synthetic: Signals | None, space: TextSpace) -> None:
        self.config, self.real, self.synthetic = config, real, synthetic
        self.concepts = {id(s): concepts_of(s, space) for s in (real, synthetic) if s is not None}
        self.rng = np.random.default_rng([config.seed, 5])
        self._queue: list[int] = []

    def batch(self, progress: float) -> tuple[Tensor, Targets]:
        """One batch; ``progress`` 0 to 1 moves the share of synthetic hearts."""
        c = self.config
        share = c.synthetic[0] + (c.synthetic[1] - c.synthetic[0]) * progress if self.synthetic else 0.0
        rows, parts = [], []
        for _ in range(c.batch):
            if self.synthetic is not None and self.rng.random() < share:
                source, k = self.synthetic, int(self.rng.integers(len(self.synthetic)))
            else:
                source, k = self.real, self._next()
            rows.append(as_read(source.mv[k], bool(source.true_mv[k]), self.rng))
            parts.append((source.target[k], source.known[k], self.concepts[id(source)][k]))
        x = torch.from_numpy(signal_input(np.stack(rows)))
        target, known, concepts = (torch.from_numpy(np.stack(p).astype(np.float32)) for p in zip(*parts, strict=True))
        if c.mixup:
            x, target, known, concepts = self._mixed(x, target, known, concepts)
        return x, Targets(target, known, concepts)

    def _mixed(self, x: Tensor, *rest: Tensor) -> list[Tensor]:
        w = float(self.rng.beta(self.config.mixup, self.config.mixup))
        w = max(w, 1 - w)
        return [t * w + t.flip(0) * (1 - w) for t in (x, *rest)]

    def _next(self) -> int:
        """Every record once before any comes again."""
        if not self._queue:
            self._queue = self.rng.permutation(len(self.real)).tolist()
        return self._queue.pop()


class AlignLoss(nn.Module):
    """Embedding against the prompts of the record's codes: each code's own yes or no (sigmoid contrast), and which
    codes out of all (InfoNCE over prompts).  Superclass prompts take no part: they stay zero-shot."""

    def __init__(self, space: TextSpace) -> None:
        super().__init__()
        codes = [c for c in space.vectors if not c.startswith("class:")]
        self.register_buffer("text", torch.from_numpy(np.stack([space.of(c) for c in codes])))
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(-4.0))

    def forward(self, embedding: Tensor, concepts: Tensor) -> Tensor:
        """A scalar."""
        cosine = F.normalize(embedding.float(), dim=1) @ self.text.T  # type: ignore[operator]
        scale = self.scale.clamp(max=math.log(60.0)).exp()
        yes = F.binary_cross_entropy_with_logits(cosine * scale + self.bias, concepts.clamp(0, 1), reduction="none")
        said = concepts / concepts.sum(dim=1, keepdim=True).clamp(min=1e-6)
        which = -(said * F.log_softmax(cosine * scale, dim=1)).sum(dim=1)
        return yes.sum(dim=1).mean() * 0.2 + which.mean() * 0.2


def findings_loss(logits: Tensor, targets: Targets, config: SignalTrainConfig) -> Tensor:
    """Cross-entropy of each finding where the source says something."""
    smooth = config.label_smoothing
    want = targets.target * (1 - 2 * smooth) + smooth
    each = F.binary_cross_entropy_with_logits(logits.float(), want, reduction="none") * targets.known
    weight = torch.ones(each.shape[1])
    weight[:N_CLASSES] = config.class_weight
    return (each * weight).sum() / weight.sum() / len(each) * 5


def train_signal_net(
    config: SignalTrainConfig, feed: Feed, space: TextSpace, tell: Callable[[str], None] = print,
    check: Callable[[SignalNet], dict[str, float]] | None = None, check_every: int = 200,
) -> SignalNet:  # fmt: skip
    """Train one net; returns its running average in eval mode."""
    torch.manual_seed(config.seed)
    net = SignalNet(config.net)
    net = net.to(memory_format=torch.channels_last)
    align = AlignLoss(space)
    mean = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema), use_buffers=True
    )
    groups = [{"params": net.parameters()}, {"params": align.parameters(), "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
    start, sums = time.perf_counter(), []
    for step in range(config.steps):
        progress = step / config.steps
        rate = config.lr * min(1, (step + 1) / config.warmup) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        x, targets = feed.batch(progress)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, embedding = net(x)
        loss = findings_loss(logits, targets, config)
        total = loss + config.align * align(embedding, targets.concepts)
        optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimiser.step()
        if step >= config.steps // 10:
            mean.update_parameters(net)
        sums.append([float(loss.detach()), float(total.detach())])
        if (step + 1) % check_every == 0 or step + 1 == config.steps:
            said: dict[str, Any] = {"step": step + 1, "s": round(time.perf_counter() - start),
                                    "loss": np.mean(sums, axis=0).round(4).tolist()}  # fmt: skip
            sums = []
            if check:
                said |= check(mean.module.eval())
            tell(json.dumps(said))
    return mean.module.eval()


@torch.no_grad()
def predict(net: nn.Module, mv: np.ndarray, batch: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, findings) and unit embeddings (n, d) of readings (n, 12, 1000), NaN where not known."""
    logits, embeddings = [], []
    for k in range(0, len(mv), batch):
        x = torch.from_numpy(signal_input(mv[k : k + batch]))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            a, b = net(x)
        logits.append(a.float().numpy())
        embeddings.append(F.normalize(b.float(), dim=1).numpy())
    return np.concatenate(logits), np.concatenate(embeddings)


def zero_shot(embedding: np.ndarray, space: TextSpace) -> np.ndarray:
    """Cosines (n, 5) with the superclasses' prompts, each less the mean of the others."""
    text = np.stack([space.of(f"class:{c}") for c in SUPERCLASSES])
    cosine = embedding @ text.T
    others = (cosine.sum(axis=1, keepdims=True) - cosine) / (N_CLASSES - 1)
    return np.asarray(cosine - others)


def figures(net: nn.Module, mv: np.ndarray, target: np.ndarray, space: TextSpace) -> dict[str, float]:
    """AUROC of each superclass, their mean, and the zero-shot mean."""
    logits, embedding = predict(net, mv)
    true = target[:, :N_CLASSES] > 0.5
    each = [auroc(logits[:, k], true[:, k]) for k in range(N_CLASSES)]
    similar = zero_shot(embedding, space)
    shot = [auroc(similar[:, k], true[:, k]) for k in range(N_CLASSES)]
    out = {"macro": float(np.mean(each)), "zero_shot": float(np.mean(shot))}
    return {k: round(v, 4) for k, v in (out | dict(zip(SUPERCLASSES, each, strict=True))).items()}


def simulated(signals: Signals, seed: int) -> np.ndarray:
    """Each record once as read from a page, the same every time (n, 12, 1000)."""
    rng = np.random.default_rng(seed)
    return np.stack([as_read(mv, bool(true), rng) for mv, true in zip(signals.mv, signals.true_mv, strict=True)])


def save_trained(nets: Sequence[SignalNet], configs: Sequence[SignalTrainConfig], space: TextSpace, path: Path) -> None:
    """The nets with how they were trained."""
    save_signal_net(list(nets), path, {"trained": json.dumps([asdict(c) for c in configs]), "space": space.name})
