"""Batches of all processes as one, so that losses give the same on one process and on many.

The gradient of a gathered row is summed over the processes' losses; data-parallel averaging divides by their number,
so the weights' gradient is the single process's.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        parts = [torch.empty_like(x) for _ in range(processes())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)
        first = dist.get_rank() * ctx.rows
        return grad[first : first + ctx.rows]


def gathered(x: Tensor) -> Tensor:
    """Rows (n, ...) of every process in rank order (processes * n, ...), differentiable; n must be the same on all."""
    return _Gather.apply(x) if processes() > 1 else x


def shared_mean(mean: Tensor, count: Tensor) -> Tensor:
    """A process's share of the mean over all processes' counted samples: averaged over processes it is that mean."""
    if processes() == 1:
        return mean
    total = count.detach().to(mean.dtype).clone()
    dist.all_reduce(total)
    return mean * count * processes() / total.clamp(min=1)
