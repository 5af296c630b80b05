"""What the contrastive losses share: unit vectors in full precision and a temperature that stays within bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@contextmanager
def full_precision(x: Tensor) -> Iterator[None]:
    """No autocast on x's device: products of unit vectors near 1 lose the loss in bfloat16's eight bits."""
    with torch.autocast(x.device.type, enabled=False):
        yield


def unit(x: Tensor) -> Tensor:
    """Rows (n, d) at length 1, at least float32; a zero row stays zero."""
    return F.normalize(x if x.dtype == torch.float64 else x.float(), dim=-1)


class Temperature(nn.Module):
    """A learnable temperature that can't leave (low, high): log tau = log low + sigmoid(s) (log high - log low).

    Without bounds a temperature runs to 0 once a batch is solved, and gradients with it.
    """

    def __init__(self, initial: float = 0.07, low: float = 0.01, high: float = 0.5) -> None:
        super().__init__()
        if not 0 < low < initial < high:
            raise ValueError(f"temperature must satisfy 0 < low < initial < high, got {low}, {initial}, {high}")
        self.log_low, self.log_range = math.log(low), math.log(high / low)
        share = (math.log(initial) - self.log_low) / self.log_range
        self.s = nn.Parameter(torch.tensor(math.log(share / (1 - share))))

    def forward(self) -> Tensor:
        """tau, a scalar."""
        return torch.exp(self.log_low + torch.sigmoid(self.s.float()) * self.log_range)
