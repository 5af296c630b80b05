"""Training of the signal path: features of many copies of each record once, then the heads on them in seconds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from distill.signal_path import Heads, KernelFeatures, SignalNet, SignalNetConfig, save_signal_net
from distill.signal_path_data import N_CLASSES, Signals, as_read, real_signals, synthetic_signals
from distill.text_space import TextSpace
from ecg.findings import SUPERCLASSES
from ecg.metrics import auroc
from ecg.signal_input import signal_input

F32 = NDArray[np.float32]
_TOGETHER = 4  # records a pass of the filters: what they make stays in the processor's cache


@dataclass(frozen=True)
class SignalTrainConfig:
    """``copies`` of each real record, as read from as many pages; ``synthetic`` hearts, each once.

    ``class_weight`` counts the superclasses more than the codes, ``synthetic_weight`` synthetic hearts less than real
    ones; ``shrink`` is the square penalty on the linear layer, ``align`` the weight of the contrast with prompts.
    Where a teacher's embeddings are there, ``cosine`` and ``relational`` bring the embedding to them, ``scores`` its
    cosines with every prompt to theirs; ``prompts`` is what the cosine with a superclass then counts in its logit.
    """

    net: SignalNetConfig = field(default_factory=SignalNetConfig)
    copies: int = 12
    synthetic: int = 2400
    epochs: int = 8
    batch: int = 256
    lr: float = 1e-3
    shrink: float = 0.003
    weight_decay: float = 0.3
    class_weight: float = 2.0
    synthetic_weight: float = 0.3
    align: float = 0.5
    cosine: float = 1.0
    relational: float = 1.0
    scores: float = 5.0
    prompts: float = 8.0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Table:
    """n rows to train on: features (n, f) float16, target, known (n, findings), concepts (n, prompts), weight (n,),
    taught (n, d): the teacher's unit vectors, 0 where it has none."""

    features: NDArray[np.float16]
    target: F32
    known: F32
    concepts: F32
    weight: F32
    taught: F32


@torch.no_grad()
def features_of(bank: KernelFeatures, mv: F32) -> NDArray[np.float16]:
    """Features (n, f) of readings (n, 12, 1000), NaN where not known."""
    parts = [bank(torch.from_numpy(signal_input(mv[k : k + _TOGETHER]))) for k in range(0, len(mv), _TOGETHER)]
    return torch.cat(parts).numpy().astype(np.float16)


def simulated(signals: Signals, seed: int) -> F32:
    """Each record once as read from a page, the same every time (n, 12, 1000)."""
    rng = np.random.default_rng([seed, 77])
    return np.stack([as_read(mv, bool(true), rng) for mv, true in zip(signals.mv, signals.true_mv, strict=True)])


def _copy(bank: KernelFeatures, real: Signals, k: int) -> NDArray[np.float16]:
    """Features of the k-th simulated reading of every record."""
    return features_of(bank, simulated(real, k))


def concepts_of(signals: Signals, space: TextSpace) -> F32:
    """Which of the space's codes (superclasses left out) each record has, (n, codes)."""
    index = {c: k for k, c in enumerate(_codes(space))}
    out = np.zeros((len(signals), len(index)), np.float32)
    for row, said in zip(out, signals.codes, strict=True):
        row[[index[c] for c in said if c in index]] = 1
    return out


def _codes(space: TextSpace) -> list[str]:
    return [c for c in space.vectors if not c.startswith("class:")]


def table(
    features: Sequence[NDArray[np.float16]], signals: Signals, space: TextSpace, weight: float = 1.0,
    taught: Mapping[str, F32] | None = None,
) -> Table:  # fmt: skip
    """Copies of one set of records as rows; ``taught``: the teacher's vectors by the records' names."""
    n = len(features)
    known = np.tile(signals.known, (n, 1)).astype(np.float32)
    concepts = np.tile(concepts_of(signals, space), (n, 1))
    weights = np.full(n * len(signals), weight, np.float32)
    none = np.zeros(space.width, np.float32)
    vectors = np.stack([(taught or {}).get(str(name), none) for name in signals.name])
    return Table(np.concatenate(list(features)), np.tile(signals.target, (n, 1)), known, concepts, weights,
                 np.tile(vectors, (n, 1)))  # fmt: skip


def joined(tables: Sequence[Table]) -> Table:
    """All rows."""
    return Table(*(np.concatenate([getattr(t, f) for t in tables]) for f in Table.__dataclass_fields__))


class AlignLoss(nn.Module):
    """Embedding against the prompts of the record's codes: each code's own yes or no (sigmoid contrast), and which
    codes out of all (InfoNCE over prompts).  Superclass prompts take no part: they stay zero-shot."""

    def __init__(self, space: TextSpace) -> None:
        super().__init__()
        self.register_buffer("text", torch.from_numpy(np.stack([space.of(c) for c in _codes(space)])))
        self.scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.bias = nn.Parameter(torch.tensor(-4.0))

    def forward(self, embedding: Tensor, concepts: Tensor) -> Tensor:
        """Per row (B,)."""
        cosine = F.normalize(embedding.float(), dim=1) @ self.text.T  # type: ignore[operator]
        scale = self.scale.clamp(max=math.log(60.0)).exp()
        yes = F.binary_cross_entropy_with_logits(cosine * scale + self.bias, concepts.clamp(0, 1), reduction="none")
        said = concepts / concepts.sum(dim=1, keepdim=True).clamp(min=1e-6)
        which = -(said * F.log_softmax(cosine * scale, dim=1)).sum(dim=1)
        return yes.sum(dim=1) * 0.2 + which * 0.2


class DistilLoss(nn.Module):
    """Embedding against the teacher's: directly, by the batch's table of cosines (RKD, arXiv 1904.05068), and by its
    cosines with the prompts, superclasses above all.  Rows that the teacher has no vector of count nothing."""

    def __init__(self, space: TextSpace, config: SignalTrainConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("text", torch.from_numpy(np.stack([space.of(c) for c in space.vectors])))
        coarse = torch.tensor([1.0 if c.startswith("class:") else 0.2 for c in space.vectors])
        self.register_buffer("counts", coarse)

    def forward(self, embedding: Tensor, taught: Tensor) -> Tensor:
        """The mean over the rows that the teacher knows."""
        there = taught.square().sum(dim=1) > 0.5
        if not there.any():
            return embedding.sum() * 0.0
        e, t = F.normalize(embedding.float(), dim=1)[there], taught[there]
        off = ((e - t) @ self.text.T).square() * self.counts  # type: ignore[operator]
        near = (1 - (e * t).sum(dim=1)).mean()
        alike = F.mse_loss(e @ e.T, t @ t.T)
        c = self.config
        return c.cosine * near + c.relational * alike + c.scores * off.sum(dim=1).mean()


def train_heads(rows: Table, space: TextSpace, config: SignalTrainConfig) -> Heads:
    """Fit the heads on features; returns them in eval mode."""
    torch.manual_seed(config.seed)
    heads, align, distil = Heads(config.net), AlignLoss(space), DistilLoss(space, config)
    _standardise(heads, rows)
    x = torch.from_numpy(rows.features)
    rest = [torch.from_numpy(a) for a in (rows.target, rows.known, rows.concepts, rows.weight, rows.taught)]
    class_weight = torch.ones(config.net.findings)
    class_weight[:N_CLASSES] = config.class_weight
    decayed = [heads.hidden.weight, heads.findings.weight, heads.embed.weight]
    others = [p for p in (*heads.parameters(), *align.parameters()) if not any(p is d for d in decayed)]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=config.lr)
    steps = config.epochs * math.ceil(len(x) / config.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.lr * 2, total_steps=steps, pct_start=0.1)
    heads.train()
    for _ in range(config.epochs):
        for k in torch.randperm(len(x)).split(config.batch):
            target, known, concepts, weight, taught = (r[k] for r in rest)
            logits, embedding = heads(x[k].float())
            each = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * known * class_weight
            loss = (each.sum(dim=1) + config.align * align(embedding, concepts)) * weight
            total = loss.mean() + config.shrink * heads.linear.weight.square().sum() + distil(embedding, taught)
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
            schedule.step()
    return heads.eval()


def count_prompts(heads: Heads, space: TextSpace, weight: float) -> None:
    """Add ``weight`` times the embedding's cosine with each superclass's prompts to its logit: beside what the labels
    taught, what the teacher did."""
    text = torch.from_numpy(np.stack([space.of(f"class:{c}") for c in SUPERCLASSES]))
    heads.prompts[:N_CLASSES] = weight * text


def _standardise(heads: Heads, rows: Table) -> None:
    real = rows.weight >= rows.weight.max()
    part = rows.features[real][::3].astype(np.float32)
    heads.mean.copy_(torch.from_numpy(part.mean(axis=0)))  # type: ignore[operator]
    heads.scale.copy_(torch.from_numpy(1 / (part.std(axis=0) + 1e-2)))  # type: ignore[operator]


@torch.no_grad()
def predict_features(heads: Heads, features: NDArray[np.floating]) -> tuple[F32, F32]:
    """Logits (n, findings) and unit embeddings (n, d)."""
    logits, embedding = heads(torch.from_numpy(features.astype(np.float32)))
    return logits.numpy(), F.normalize(embedding, dim=1).numpy()


def predict(net: SignalNet, mv: F32) -> tuple[F32, F32]:
    """Logits (n, findings) and unit embeddings (n, d) of readings (n, 12, 1000), NaN where not known."""
    return predict_features(net.heads, features_of(net.features, mv))


def zero_shot(embedding: F32, space: TextSpace) -> F32:
    """Cosines (n, 5) with the superclasses' prompts, each less the mean of the others."""
    text = np.stack([space.of(f"class:{c}") for c in SUPERCLASSES])
    cosine = embedding @ text.T
    others = (cosine.sum(axis=1, keepdims=True) - cosine) / (N_CLASSES - 1)
    return np.asarray(cosine - others)


def figures(logits: F32, embedding: F32, target: F32, space: TextSpace) -> dict[str, float]:
    """AUROC of each superclass, their mean, that of the codes with ten positives, and the zero-shot mean."""
    true = target > 0.5
    each = [auroc(logits[:, k], true[:, k]) for k in range(N_CLASSES)]
    codes = [auroc(logits[:, k], true[:, k]) for k in range(N_CLASSES, true.shape[1]) if true[:, k].sum() >= 10]
    similar = zero_shot(embedding, space)
    shot = [auroc(similar[:, k], true[:, k]) for k in range(N_CLASSES)]
    out = {"macro": np.mean(each), "zero_shot": np.mean(shot), "codes": np.mean(codes)}
    return {k: round(float(v), 4) for k, v in (out | dict(zip(SUPERCLASSES, each, strict=True))).items()}


# -------------------------------------------------------------------------------------------------------------- the run


def train_signal_path(
    specs: Sequence[str], out: Path, space: TextSpace, config: SignalTrainConfig, folds: tuple[int, ...],
    taught: Mapping[str, F32] | None = None, tell: Callable[[str], None] = print,
) -> Path:  # fmt: skip
    """Train on the records of ``specs`` and ``folds`` and write ``findings.ckpt``; features that an earlier run kept
    in ``out`` are used again.  ``taught``: a teacher's unit vectors by the records' names, in ``space``."""
    out.mkdir(parents=True, exist_ok=True)
    bank = KernelFeatures(config.net)
    real = real_signals(specs, folds)
    copies = [_kept(out / f"features-{k:02d}.npy", partial(_copy, bank, real, k), tell) for k in range(config.copies)]
    rows = [table(copies, real, space, taught=taught)]
    if config.synthetic:
        hearts = synthetic_signals(config.synthetic, config.seed)
        made = _kept(out / "features-synthetic.npy", lambda: features_of(bank, simulated(hearts, 1)), tell)
        rows.append(table([made], hearts, space, config.synthetic_weight))
    heads = train_heads(joined(rows), space, config)
    if taught:
        count_prompts(heads, space, config.prompts)
    return save_run(heads, config, space, real, out)


def save_run(heads: Heads, config: SignalTrainConfig, space: TextSpace, real: Signals, out: Path) -> Path:
    """Write ``findings.ckpt``: the net, how it was trained, and how common each finding is."""
    net = SignalNet(config.net)
    net.heads.load_state_dict(heads.state_dict())
    prevalence = (real.target * real.known).sum(axis=0) / np.maximum(real.known.sum(axis=0), 1)
    extra: dict[str, Any] = {"trained": json.dumps(asdict(config)), "space": space.name,
                             "prevalence": torch.from_numpy(prevalence)}  # fmt: skip
    save_signal_net(net, out / "findings.ckpt", extra)
    return out / "findings.ckpt"


def _kept(
    path: Path, make: Callable[[], NDArray[np.float16]], tell: Callable[[str], None]
) -> NDArray[np.float16]:  # fmt: skip
    if not path.exists():
        np.save(path, make())
        tell(f"wrote {path.name}")
    return np.asarray(np.load(path))
