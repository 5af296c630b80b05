"""InfoNCE between two modalities (CLIP, arXiv 2103.00020): image-text and image-signal."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from teacher.losses.unit import full_precision, unit


def positives(groups: Tensor) -> Tensor:
    """Targets (n, n) from ids (n,): each row shares its weight among the pairs of equal id.

    Many ECGs carry the very same sentence; without this "normal ecg" would push "normal ecg" away.
    """
    same = (groups[:, None] == groups[None, :]).float()
    return same / same.sum(dim=1, keepdim=True)


def infonce(a: Tensor, b: Tensor, tau: Tensor | float, target: Tensor | None = None) -> Tensor:
    """Symmetric cross-entropy of the matched pairs (a_i, b_i) against all others.

    a, b (n, d), of any length; n is the batch over all processes.  ``target`` (n, n) defaults to the diagonal.
    """
    # n = pairs, d = width, p = target, tau = temperature
    with full_precision(a):
        logits = torch.einsum("nd,md->nm", unit(a), unit(b)) / tau
        p = torch.eye(len(a), device=a.device) if target is None else target
        return 0.5 * (F.cross_entropy(logits, p.to(logits.dtype)) + F.cross_entropy(logits.T, p.T.to(logits.dtype)))
