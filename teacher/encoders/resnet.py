"""Our own signal encoder: a small 1-D residual net with growing dilation, trained by signal-text contrast."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg.leads import N_LEADS
from teacher.encoders.weights import load_strictly, read_state, require


class _Block(nn.Module):
    """Two convolutions over time, halving it, with a shortcut."""

    def __init__(self, n_in: int, n_out: int, dilation: int) -> None:
        super().__init__()
        self.one = nn.Conv1d(n_in, n_out, 5, stride=2, padding=2, bias=False)
        self.norm_one = nn.BatchNorm1d(n_out)
        self.two = nn.Conv1d(n_out, n_out, 5, padding=2 * dilation, dilation=dilation, bias=False)
        self.norm_two = nn.BatchNorm1d(n_out)
        self.short = nn.Conv1d(n_in, n_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.gelu(self.norm_one(self.one(x)))
        y = self.norm_two(self.two(y))
        return F.gelu(y + self.short(F.avg_pool1d(x, 2, ceil_mode=True)))


class ResnetSignalEncoder(nn.Module):
    """10 s at 100 Hz to (B, width): mean and greatest value over time of the last block, through one layer.

    A lead's mask enters beside it, so that what isn't known differs from a flat line.
    """

    fs_hz = 100.0
    n_samples = 1000

    def __init__(self, width: int = 160, blocks: int = 4) -> None:
        super().__init__()
        self.width = width
        widths = [2 * N_LEADS, *(min(width, 32 * 2**k) for k in range(blocks))]
        self.blocks = nn.Sequential(*(_Block(a, b, 2**k) for k, (a, b) in enumerate(pairwise(widths))))
        self.head = nn.Linear(2 * widths[-1], width)

    @classmethod
    def load(cls, weights: str, width: int, blocks: int) -> ResnetSignalEncoder:
        """A trained one from its file; WeightsError where it is missing or of another shape."""
        path = require(weights, "the signal encoder's weights", "a run's signal.safetensors")
        net = cls(width, blocks)
        load_strictly(net, read_state(path), path)
        return net

    def forward(self, mv: Tensor, known: Tensor) -> Tensor:
        """(B, width) from mV (B, 12, 1000), read only where ``known`` (B, 12, 1000)."""
        x = torch.cat([torch.where(known.bool(), mv, 0.0), known.to(mv.dtype)], dim=1)
        x = self.blocks(x)
        return self.head(torch.cat([x.mean(dim=-1), x.amax(dim=-1)], dim=1))
