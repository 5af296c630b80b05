"""How far the drawn signal is from the recorded one, only where the page prints it."""

from __future__ import annotations

import torch
from torch import Tensor


def reconstruction(drawn_mv: Tensor, true_mv: Tensor, printed: Tensor, slope_weight: float = 0.5) -> Tensor:
    """Mean absolute error in mV, and of the first difference; (B, 12, T) each, ``true_mv`` may be NaN if not printed.

    Zero, with zero gradient, where a batch prints nothing.
    """
    # y = drawn, x = true, m = printed, m1 = printed together with the sample before
    # L = (sum m |y - x| + slope_weight * sum m1 |dy - dx|) / sum m
    y = drawn_mv if drawn_mv.dtype == torch.float64 else drawn_mv.float()
    m = printed.bool()
    error = torch.where(m, y - torch.where(m, true_mv, 0.0).to(y.dtype), 0.0)
    m1 = m[..., 1:] & m[..., :-1]
    slope = torch.where(m1, error[..., 1:] - error[..., :-1], 0.0)
    return (error.abs().sum() + slope_weight * slope.abs().sum()) / m.sum().clamp(min=1)
