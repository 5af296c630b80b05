"""Einthoven's and Goldberger's relations, asked for softly: nothing inside a dead zone, the square beyond it."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

# Each row is a sum over I, II, III, aVR, aVL, aVF that is zero in every heart.  A page prints few of them together:
# 3x4 has I II III in its first column and the augmented leads (with II, where it is the rhythm strip) in its second.
RELATIONS: Final = (
    (1.0, -1.0, 1.0, 0.0, 0.0, 0.0),  # Einthoven: I + III = II
    (0.0, 0.0, 0.0, 1.0, 1.0, 1.0),  # Goldberger: aVR + aVL + aVF = 0
    (0.5, 0.5, 0.0, 1.0, 0.0, 0.0),  # aVR = -(I + II) / 2
    (-0.5, 0.0, 0.5, 0.0, 1.0, 0.0),  # aVL = (I - III) / 2
    (0.0, -0.5, -0.5, 0.0, 0.0, 1.0),  # aVF = (II + III) / 2
    (1.0, 0.0, 0.0, 2 / 3, -2 / 3, 0.0),  # I = 2/3 (aVL - aVR)
    (0.0, 1.0, 0.0, 2 / 3, 0.0, -2 / 3),  # II = 2/3 (aVF - aVR)
    (0.0, 0.0, 1.0, 0.0, 2 / 3, -2 / 3),  # III = 2/3 (aVF - aVL)
)


def applicable(printed: Tensor) -> Tensor:
    """Where (B, R, T) each relation can be asked: all its leads printed (B, 12, T) at the same time."""
    limb = printed[:, :6].bool()
    return torch.stack([limb[:, [k for k, c in enumerate(row) if c]].all(dim=1) for row in RELATIONS], dim=1)


def soft_lead(drawn_mv: Tensor, printed: Tensor, dead_zone_mv: float = 0.05) -> Tensor:
    """Mean squared excess in mV² of the relations' residuals over the dead zone; (B, 12, T) each.

    The dead zone leaves room for what a cart's rounding, a lead's own filter and a pen's width do to true leads.
    Zero, with zero gradient, where a batch prints no relation.
    """
    # r = C y (residuals), m = applicable, delta = dead zone
    # L = sum m max(0, |r| - delta)^2 / sum m
    y = drawn_mv if drawn_mv.dtype == torch.float64 else drawn_mv.float()
    c = torch.tensor(RELATIONS, dtype=y.dtype, device=y.device)
    with torch.autocast(y.device.type, enabled=False):
        r = torch.einsum("rl,blt->brt", c, y[:, :6])
    m = applicable(printed)
    excess = F.relu(torch.where(m, r, 0.0).abs() - dead_zone_mv)
    return excess.square().sum() / m.sum().clamp(min=1)
