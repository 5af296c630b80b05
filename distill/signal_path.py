"""The signal path: decoded leads to findings and an embedding.

A bank of small random filters (as ROCKET's, arXiv 1910.13051) runs over each lead alone; what each filter saw at its
strongest, on average and how often is all that the trained layers get.  With a thousand and a half records to learn
from, this generalises better than learnt filters, and its training takes seconds once the features are there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg.findings import FINDINGS
from ecg.leads import N_LEADS
from ecg.signal_input import SIGNAL_CHANNELS, SIGNAL_SAMPLES

EXAMPLE_SHAPE = (1, SIGNAL_CHANNELS, SIGNAL_SAMPLES)
_UNKNOWN = 30.0  # taken off where nothing is known, so that no maximum lies there
_FLOOR = -3.0
_STEEP = 4.0  # of the ramp that counts how often a filter answers
_FAR = 6.0  # standard deviations that a feature may lie from its mean


@dataclass(frozen=True)
class SignalNetConfig:
    """``banks``: (filters, dilation, stride) of each bank, taps of ``length``; ``hidden``, ``embedding``: widths."""

    banks: tuple[tuple[int, int, int], ...] = ((32, 1, 1), (24, 2, 2), (24, 4, 2), (16, 8, 4), (16, 16, 8))
    length: int = 9
    hidden: int = 192
    embedding: int = 256
    findings: int = len(FINDINGS)
    seed: int = 0

    @property
    def n_features(self) -> int:
        """Three for each filter and lead; each lead's size, and how much of it is known."""
        return 3 * N_LEADS * sum(n for n, _, _ in self.banks) + 2 * N_LEADS


class KernelFeatures(nn.Module):
    """(B, 36, 1000) of ``ecg.signal_input`` to features (B, n_features); nothing here is trained."""

    def __init__(self, config: SignalNetConfig) -> None:
        super().__init__()
        self.config = config
        g = torch.Generator().manual_seed(config.seed)
        self.banks = nn.ModuleList()
        for n, dilation, stride in config.banks:
            reach = dilation * (config.length // 2)
            bank = nn.Conv2d(1, n, (1, config.length), (1, stride), (0, reach), (1, dilation))
            w = torch.randn(n, 1, 1, config.length, generator=g)
            w = w - w.mean(dim=-1, keepdim=True)
            bank.weight = nn.Parameter(w / w.square().sum(dim=-1, keepdim=True).sqrt(), requires_grad=False)
            bank.bias = nn.Parameter((torch.rand(n, generator=g) * 2 - 1) * 0.7, requires_grad=False)
            self.banks.append(bank)

    def forward(self, x: Tensor) -> Tensor:
        """Per filter and lead: strongest answer, mean answer above 0, share of answers above 0."""
        b = x.shape[0]
        shape, known, size = x.reshape(b, 3, 1, N_LEADS, SIGNAL_SAMPLES).unbind(1)
        share = known.mean(dim=-1)
        out = [(size.mean(dim=-1) / share.clamp(min=1e-3)).flatten(1), share.flatten(1)]
        for bank, (_, _, stride) in zip(self.banks, self.config.banks, strict=True):
            here = known[..., ::stride]
            count = here.sum(dim=-1).clamp(min=1.0)
            y = bank(shape) + (here - 1.0) * _UNKNOWN
            strongest = y.amax(dim=-1).clamp(min=_FLOOR)
            above = y.clamp(min=0.0)
            mean = above.sum(dim=-1) / count
            often = (above * _STEEP).clamp(max=1.0).sum(dim=-1) / count
            out += [strongest.flatten(1), mean.flatten(1), often.flatten(1)]
        return torch.cat(out, dim=1)


class Heads(nn.Module):
    """Features to logits and an embedding: a linear layer and beside it one with a hidden layer."""

    def __init__(self, config: SignalNetConfig, dropout: float = 0.5) -> None:
        super().__init__()
        n = config.n_features
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("scale", torch.ones(n))
        self.drop = nn.Dropout(dropout)
        self.linear = nn.Linear(n, config.findings)
        self.hidden = nn.Linear(n, config.hidden)
        self.findings = nn.Linear(config.hidden, config.findings)
        self.embed = nn.Linear(config.hidden, config.embedding)

    def standard(self, features: Tensor) -> Tensor:
        """Features at mean 0 and deviation 1."""
        return ((features - self.mean) * self.scale).clamp(-_FAR, _FAR)  # type: ignore[operator]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, findings) and embedding (B, embedding), not normalised."""
        z = self.standard(features)
        h = self.drop(F.relu(self.hidden(self.drop(z) if self.training else z)))
        return 0.5 * (self.linear(z) + self.findings(h)), self.embed(h)


class SignalNet(nn.Module):
    """(B, 36, 1000) of ``ecg.signal_input`` to logits (B, findings) and an embedding (B, embedding)."""

    def __init__(self, config: SignalNetConfig = SignalNetConfig()) -> None:
        super().__init__()
        self.config = config
        self.features = KernelFeatures(config)
        self.heads = Heads(config)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and embedding."""
        logits, embedding = self.heads(self.features(x))
        return logits, embedding


def save_signal_net(net: SignalNet, path: Path, extra: dict[str, Any] | None = None) -> None:
    """Weights and configuration."""
    torch.save({"config": asdict(net.config), "net": net.state_dict(), **(extra or {})}, path)


def load_signal_net(path: Path) -> SignalNet:
    """The net of a checkpoint in eval mode; what ``export.to_onnx`` takes."""
    state = torch.load(path, weights_only=True)
    config = dict(state["config"])
    config["banks"] = tuple(tuple(b) for b in config["banks"])
    net = SignalNet(SignalNetConfig(**config))
    net.load_state_dict(state["net"])
    return net.eval()
