"""Our own signal encoder learns from sentences before it is frozen and teaches pages.

Every record is contrasted with every concept's sentence: pairs that belong together against all that don't, each by
itself (the sigmoid loss of SigLIP, arXiv 2303.15343), for a record fits several sentences and many records fit one.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ecg.errors import EcgscanError
from ecg.findings import SUPERCLASSES
from teacher.checkpoint import write_tensors
from teacher.config import TeacherConfig
from teacher.encoders.kernels import KernelSignalEncoder
from teacher.encoders.protocols import TextEncoder
from teacher.model import projection
from teacher.prompts import PROMPTS, SUPERCLASS_PROMPTS
from teacher.report import Report
from teacher.signal_set import CONCEPTS, SignalSet, read_signals

VIEWS: Final = 3  # of each signal: gains, cuts and noise drawn anew
SUPERCLASS_WEIGHT: Final = 4.0  # beside a code's 1
_LR: Final = 1e-3
_DROPOUT: Final = 0.3
_DECAY: Final = 0.05
_SHOWN: Final = 64


class TrainingError(EcgscanError):
    """A training can't go on."""


def warm_cosine(step: int, steps: int, warmup: int) -> float:
    """Share of the full learning rate at ``step``: linear warm-up, then half a cosine down to 1 %."""
    rise = min(1.0, (step + 1) / max(1, warmup))
    return rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps)))))


def view_features(net: KernelSignalEncoder, signals: SignalSet, seed: int, report: Report) -> Tensor:
    """Raw features (views, n, n_features) of the signals as pages would show them."""
    views = []
    for view in range(VIEWS):
        rng = np.random.default_rng([seed, 11, view])
        parts = []
        for k in range(0, len(signals), _SHOWN):
            mv, known = signals.draw(np.arange(k, min(k + _SHOWN, len(signals))), rng)
            parts.append(net.kernels.raw(torch.from_numpy(mv), torch.from_numpy(known)))
            report.progress("signals", view * len(signals) + k, VIEWS * len(signals))
        views.append(torch.cat(parts))
    return torch.stack(views)


class Sentences:
    """Every concept's sentences as the text encoder has them: one of each is drawn a step."""

    def __init__(self, text: TextEncoder) -> None:
        sets = [*PROMPTS.values(), *SUPERCLASS_PROMPTS.values()]
        self.rows = text.embed([s for one in sets for s in one])
        self.ends = np.cumsum([len(one) for one in sets])
        self.sizes = np.array([len(one) for one in sets])

    def draw(self, rng: np.random.Generator) -> Tensor:
        """(len(CONCEPTS), width): one sentence a concept."""
        at = self.ends - 1 - (rng.random(len(self.sizes)) * self.sizes).astype(np.int64)
        return self.rows[torch.from_numpy(at)]


def pretrain_signal(config: TeacherConfig, text: TextEncoder, path: Path, heads_path: Path, report: Report) -> None:
    """Train, and write the encoder to ``path`` and its two projections to ``heads_path``; the same every time."""
    optim = config.optim
    torch.manual_seed(optim.seed)
    net = KernelSignalEncoder(config.signal.width, config.signal.kernels)
    signals = read_signals(config, net.fs_hz, net.n_samples, lambda k, of: report.progress("records", k, of))
    raw = view_features(net, signals, optim.seed, report)
    net.kernels.fit(raw.flatten(0, 1))
    heads = train_head(config, net, net.kernels.standard(raw), signals.concepts, Sentences(text), report)
    write_tensors(heads_path, heads)
    write_tensors(path, net.state_dict())


def train_head(
    config: TeacherConfig,
    net: KernelSignalEncoder,
    features: Tensor,
    concepts: NDArray[np.bool_],
    sentences: Sentences,
    report: Report,
) -> dict[str, Tensor]:
    """Train the encoder's layer on features (views, n, f) and return the projections "signal.*" and "text.*"."""
    optim = config.optim
    rng = np.random.default_rng([optim.seed, 12])
    heads = nn.ModuleDict({
        "signal": projection(net.width, config.hidden, config.width),
        "text": projection(sentences.rows.shape[1], config.hidden, config.width),
    })  # fmt: skip
    scale, bias = nn.Parameter(torch.tensor(math.log(10.0))), nn.Parameter(torch.tensor(-5.0))
    parameters = [*net.layer.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(
        [{"params": parameters, "weight_decay": _DECAY}, {"params": [scale, bias], "weight_decay": 0.0}], lr=_LR
    )
    weight = concept_weights(concepts)
    said = torch.from_numpy(concepts).float()
    size = min(optim.pretrain_batch, len(concepts))
    net.train()
    for step in range(optim.pretrain_steps):
        at = torch.from_numpy(rng.choice(len(concepts), size, replace=False))
        for group in optimiser.param_groups:
            group["lr"] = _LR * warm_cosine(step, optim.pretrain_steps, optim.warmup)
        x = F.dropout(features[int(rng.integers(len(features))), at], _DROPOUT)
        signal = F.normalize(heads["signal"](net.layer(x)), dim=-1)
        words = F.normalize(heads["text"](sentences.draw(rng)), dim=-1)
        logits = signal @ words.T * scale.exp() + bias
        loss = (F.binary_cross_entropy_with_logits(logits, said[at], reduction="none").mean(dim=0) * weight).sum()
        if not torch.isfinite(loss):
            raise TrainingError(f"signal step {step}: the loss is {loss.item()}; records {at.tolist()}")
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, optim.clip_norm)
        optimiser.step()
        if step % (10 * optim.log_every) == 0 or step == optim.pretrain_steps - 1:
            report.log("signal.jsonl", {"loss": round(loss.item(), 5)}, step)
        report.progress("signal encoder", step + 1, optim.pretrain_steps, f"loss {loss.item():.3f}")
    net.eval()
    return dict(heads.state_dict())


def concept_weights(concepts: NDArray[np.bool_]) -> Tensor:
    """(len(CONCEPTS),), summing to 1: superclasses weigh more, what no record shows nothing."""
    weight = np.where(np.isin(CONCEPTS, SUPERCLASSES), SUPERCLASS_WEIGHT, 1.0) * concepts.any(axis=0)
    return torch.from_numpy(weight / max(weight.sum(), 1e-9)).float()
