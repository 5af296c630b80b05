"""The signal path: decoded leads to findings and an embedding.

A bank of small random filters (as ROCKET's, arXiv 1910.13051) runs over each lead alone; how strongly each filter
answers, at most and in a usual second, is all that the trained layers get.  With a thousand and a half records to learn
from, this generalises better than learnt filters, and its training takes seconds once the features are there.

What it computes is laid out for 8 bits: a filter with gaps is a plain one on every d-th sample, and a plain one on one
channel is one on four (four samples side by side, four results), so that all of it is convolution, ReLU and maxima.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill.checkpoints import save_whole
from ecg.errors import InputError
from ecg.findings import FINDINGS
from ecg.leads import N_LEADS
from ecg.signal_input import SIGNAL_CHANNELS, SIGNAL_SAMPLES

EXAMPLE_SHAPE = (1, SIGNAL_CHANNELS, SIGNAL_SAMPLES)
_TAPS = 9
_PHASES = 4  # samples that a convolution takes and gives at once
_WINDOWS = 8  # of 1.28 s: about one beat each
_PADDED = 1024  # samples: a multiple of windows, phases and dilations
_LEAST_KNOWN = 0.25  # of a window
_FAR = 6.0  # standard deviations that a feature may lie from its mean


@dataclass(frozen=True)
class SignalNetConfig:
    """``banks``: (filters, dilation, stride) of each bank, taps of 9; ``hidden``, ``embedding``: widths."""

    banks: tuple[tuple[int, int, int], ...] = ((112, 1, 1), (80, 2, 2), (64, 4, 2), (48, 8, 4), (32, 16, 8))
    bias: float = 1.0
    hidden: int = 192
    embedding: int = 256
    findings: int = len(FINDINGS)
    seed: int = 0

    @property
    def n_features(self) -> int:
        """Two for each filter and lead; each lead's size, and how much of it is known."""
        return 2 * N_LEADS * sum(n for n, _, _ in self.banks) + 2 * N_LEADS


def filter_bank(n: int, bias: float, g: torch.Generator) -> nn.Conv2d:
    """n random filters of 9 taps that see no baseline, as one convolution of groups of four samples: channel k of the
    input is sample 4 i + k, channel 4 f + k of the result is filter f at that sample."""
    w = torch.randn(n, _TAPS, generator=g)
    w = w - w.mean(dim=-1, keepdim=True)
    w = w / w.norm(dim=-1, keepdim=True)
    laid = torch.zeros(n, _PHASES, 3 * _PHASES)  # the groups before, at and after the result's
    for k in range(_PHASES):
        laid[:, k, k : k + _TAPS] = w
    bank = nn.Conv2d(_PHASES, _PHASES * n, (1, 3), padding=(0, 1))
    kernel = laid.reshape(n, _PHASES, 3, _PHASES).permute(0, 1, 3, 2).reshape(_PHASES * n, _PHASES, 1, 3)
    bank.weight = nn.Parameter(kernel.contiguous(), requires_grad=False)
    offset = (torch.rand(n, generator=g) * 2 - 1) * bias
    bank.bias = nn.Parameter(offset.repeat_interleave(_PHASES), requires_grad=False)
    return bank


class KernelFeatures(nn.Module):
    """(B, 36, 1000) of ``ecg.signal_input`` to features (B, n_features); nothing here is trained."""

    def __init__(self, config: SignalNetConfig) -> None:
        super().__init__()
        self.config = config
        g = torch.Generator().manual_seed(config.seed)
        self.banks = nn.ModuleList(filter_bank(n, config.bias, g) for n, _, _ in config.banks)

    def forward(self, x: Tensor) -> Tensor:
        """Per filter and lead: the strongest answer, and the mean over windows of each one's strongest."""
        b, more = x.shape[0], _PADDED - SIGNAL_SAMPLES
        shape, known, size = x.reshape(b, 3, N_LEADS, SIGNAL_SAMPLES).unbind(1)
        share = known.mean(dim=-1)
        out = [size.mean(dim=-1) / share.clamp(min=1e-3), share]
        shape, wide = F.pad(shape, (0, more)), _PADDED // _WINDOWS
        told = F.avg_pool1d(F.pad(known, (0, more)), wide, wide)
        here = (told > _LEAST_KNOWN).to(x.dtype)[:, None]
        weight = told[:, None] * here
        total = weight.sum(dim=-1).clamp(min=1e-2)
        for bank, (n, dilation, stride) in zip(self.banks, self.config.banks, strict=True):
            rows, groups = dilation // stride, _PADDED // dilation // _PHASES
            every = shape.reshape(b, N_LEADS, -1, dilation)[..., ::stride].permute(0, 3, 1, 2)
            grouped = every.reshape(b, rows * N_LEADS, groups, _PHASES).permute(0, 3, 1, 2)
            window = (1, groups // _WINDOWS)
            top = F.max_pool2d(F.relu(bank(grouped)), window, window)
            top = top.reshape(b, n, _PHASES, rows, N_LEADS, _WINDOWS).amax(dim=(2, 3))
            out += [(top * here).amax(dim=-1).flatten(1), ((top * weight).sum(dim=-1) / total).flatten(1)]
        return torch.cat(out, dim=1)


class Heads(nn.Module):
    """Features to logits and an embedding: a linear layer and beside it one with a hidden layer.

    ``prompts`` (findings, embedding), at a length that says how much they count: the embedding's cosine with a
    finding's prompt is added to its logit.  0 unless an embedding that a teacher taught is worth it.
    """

    prompts: Tensor

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
        self.register_buffer("prompts", torch.zeros(config.findings, config.embedding))

    def standard(self, features: Tensor) -> Tensor:
        """Features at mean 0 and deviation 1."""
        return ((features - self.mean) * self.scale).clamp(-_FAR, _FAR)  # type: ignore[operator]

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, findings) and embedding (B, embedding), not normalised."""
        z = self.standard(features)
        h = self.drop(F.relu(self.hidden(self.drop(z) if self.training else z)))
        e = self.embed(h)
        alike = F.linear(F.normalize(e, dim=1), self.prompts)
        return 0.5 * (self.linear(z) + self.findings(h)) + alike, e


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
    save_whole({"config": asdict(net.config), "net": net.state_dict(), **(extra or {})}, path)


def load_signal_net(path: Path) -> SignalNet:
    """The net of a checkpoint in eval mode; what ``export.to_onnx`` takes.  InputError where it is of another build."""
    state = torch.load(path, weights_only=True)
    config = dict(state["config"])
    if set(config) != {f.name for f in fields(SignalNetConfig)}:
        raise InputError(f"{path}: is a net of another version; train it anew with ecgscan-distill findings")
    config["banks"] = tuple(tuple(b) for b in config["banks"])
    net = SignalNet(SignalNetConfig(**config))
    net.load_state_dict(state["net"])
    return net.eval()
