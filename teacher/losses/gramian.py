"""Gramian contrast of three modalities (GRAM, arXiv 2412.11959): the volume that three unit vectors span."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from teacher.losses.unit import full_precision, unit

EPSILON = 1e-6  # under the root: its slope is at most 1 / (2 sqrt(EPSILON)) = 500


def volumes(a: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """Vol (n, m) of every anchor a_i (n, d) with every matched pair (v_j, w_j) (m, d); 0 parallel, 1 orthogonal."""
    # a = image, v = signal, w = text; only the anchor is swapped
    with full_precision(a):
        a, v, w = unit(a), unit(v), unit(w)
        av = torch.einsum("nd,md->nm", a, v)
        aw = torch.einsum("nd,md->nm", a, w)
        vw = torch.einsum("md,md->m", v, w)
        det = 1 + 2 * av * aw * vw - av**2 - aw**2 - vw**2
        return torch.sqrt(det.clamp(min=0) + EPSILON)


def gramian(image: Tensor, signal: Tensor, text: Tensor, tau: Tensor | float, label_smoothing: float = 0.1) -> Tensor:
    """Cross-entropy of -Vol / tau, both ways; (n, d) each, n is the batch over all processes.

    The volume is blind to sign and vanishes for every anchor where signal and text agree, so it needs plain InfoNCE
    beside it.
    """
    with full_precision(image):
        logits = -volumes(image, signal, text) / tau
        own = torch.arange(len(logits), device=logits.device)
        return 0.5 * (
            F.cross_entropy(logits, own, label_smoothing=label_smoothing)
            + F.cross_entropy(logits.T, own, label_smoothing=label_smoothing)
        )
