"""Our own signal encoder: random 1-D convolutions, pooled, then a learned layer.

Random kernels need no training and don't wear out on few records (ROCKET, arXiv 1910.13051): each lead, in units of
its own spread, is convolved with kernels of several dilations; their share above a threshold, greatest value and size
over the known samples are the features.  Voltages enter beside them as the leads' spreads.  Only the layer on top
learns, by signal-text contrast.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg.leads import N_LEADS
from teacher.encoders.weights import load_strictly, read_state, require

SIGNAL_HZ: Final = 100.0
SIGNAL_SAMPLES: Final = 1000
_LENGTH: Final = 9
_DILATIONS: Final = (1, 2, 4, 8, 16)  # at 100 Hz: 90 ms to 1.3 s
_STRIDE: Final = 2
_LEAST_MV: Final = 0.01
_SEED: Final = 3


class KernelFeatures(nn.Module):
    """12 leads to (B, n_features), standardised once ``fit`` saw some; ``kernels`` a lead and dilation."""

    mean: Tensor
    spread: Tensor
    weights: Tensor
    thresholds: Tensor

    def __init__(self, kernels: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(_SEED)
        w = torch.randn(len(_DILATIONS), kernels, _LENGTH, generator=generator)
        w = w - w.mean(dim=-1, keepdim=True)  # blind to the baseline
        self.register_buffer("weights", w / w.norm(dim=-1, keepdim=True))
        self.register_buffer("thresholds", torch.rand(len(_DILATIONS), kernels, 1, generator=generator) * 2 - 1)
        self.n_features = N_LEADS * (3 * len(_DILATIONS) * kernels + 2)
        self.register_buffer("mean", torch.zeros(self.n_features))
        self.register_buffer("spread", torch.ones(self.n_features))

    @torch.no_grad()
    def raw(self, mv: Tensor, known: Tensor) -> Tensor:
        """Not yet standardised, from mV (B, 12, n) at 100 Hz, read only where ``known``; without gradient."""
        with torch.autocast(mv.device.type, enabled=False):
            return self._raw(mv.float(), known.bool())

    def _raw(self, mv: Tensor, known: Tensor) -> Tensor:
        b, _, n = mv.shape
        there = known.float()
        count = there.sum(dim=-1, keepdim=True).clamp(min=1)
        x = torch.where(known, mv, 0.0)
        x = (x - x.sum(dim=-1, keepdim=True) / count) * there
        spread = (x.square().sum(dim=-1, keepdim=True) / count).sqrt().clamp(min=_LEAST_MV)
        x = (x / spread).clamp(-8, 8).reshape(b * N_LEADS, n)
        where = there.reshape(b * N_LEADS, 1, n)[..., ::_STRIDE]
        some = where.sum(dim=-1).clamp(min=1)
        parts = []
        for w, threshold, dilation in zip(self.weights, self.thresholds, _DILATIONS, strict=True):
            reach = dilation * (_LENGTH // 2)
            padded = F.pad(x, (reach, reach))
            taps = torch.stack([padded[:, k * dilation : k * dilation + n : _STRIDE] for k in range(_LENGTH)], dim=1)
            y = w @ taps * where
            above = ((y > threshold) * where).sum(dim=-1) / some
            parts += [above, y.amax(dim=-1), y.square().sum(dim=-1).div(some).sqrt()]
        leads = torch.cat(parts, dim=1).reshape(b, -1)
        return torch.cat([leads, spread[..., 0].log(), there.mean(dim=-1)], dim=1)

    def fit(self, raw: Tensor) -> None:
        """Take the mean and spread of these features as the standard."""
        self.mean.copy_(raw.mean(dim=0))
        self.spread.copy_(raw.std(dim=0).clamp(min=1e-2))

    def standard(self, raw: Tensor) -> Tensor:
        """In units of the spread, within ±5."""
        return ((raw - self.mean) / self.spread).clamp(-5, 5)

    def forward(self, mv: Tensor, known: Tensor) -> Tensor:
        """Standardised features."""
        return self.standard(self.raw(mv, known))


class KernelSignalEncoder(nn.Module):
    """10 s at 100 Hz to (B, width)."""

    fs_hz = SIGNAL_HZ
    n_samples = SIGNAL_SAMPLES

    def __init__(self, width: int = 256, kernels: int = 10) -> None:
        super().__init__()
        self.width = width
        self.kernels = KernelFeatures(kernels)
        self.layer = nn.Linear(self.kernels.n_features, width)

    @classmethod
    def load(cls, weights: str, width: int, kernels: int) -> KernelSignalEncoder:
        """A trained one from its file; WeightsError where it is missing or of another shape."""
        path = require(weights, "the signal encoder's weights", "a run's signal.safetensors")
        net = cls(width, kernels)
        load_strictly(net, read_state(path), path)
        return net

    def forward(self, mv: Tensor, known: Tensor) -> Tensor:
        """(B, width) from mV (B, 12, 1000), read only where ``known`` (B, 12, 1000)."""
        return self.layer(self.kernels(mv, known))
