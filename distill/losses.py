"""What the nets are trained to: one function a net, each term an equation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from distill.nets import expected_row

Batch = dict[str, Tensor]
STEEP_BINS = 2.0  # bins a column, 1 mm in 1/8 mm, as in a QRS complex
BESIDE_COLUMNS = 4


def masked_mean(x: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean, 0 where nothing counts."""
    return (x * weight).sum() / weight.sum().clamp(min=1.0)


def focal_heat(logits: Tensor, heat: Tensor) -> Tensor:
    """Penalty-reduced focal loss of CornerNet (arXiv 1808.01244, eq. 1; alpha 2, beta 4), per mark."""
    # p = probability, y = bell around each mark, 1 at it
    p = logits.sigmoid()
    at = (heat >= 1).float()
    hit = at * (1 - p) ** 2 * F.softplus(-logits)
    miss = (1 - at) * (1 - heat) ** 4 * p**2 * F.softplus(logits)
    return (hit.sum() + miss.sum()) / at.sum().clamp(min=1.0)


def coarse_loss(maps: Tensor, batch: Batch) -> dict[str, Tensor]:
    """Terms for maps (B, 7, 32, 32): paper, ecg (cross-entropy), time axis and its double (squared), log2 scale."""
    target = batch["maps"]
    paper = target[:, 0]
    return {
        "paper": F.binary_cross_entropy_with_logits(maps[:, 0], paper),
        "ecg": F.binary_cross_entropy_with_logits(maps[:, 1], target[:, 1]),
        "axis": masked_mean(((maps[:, 2:4] - target[:, 2:4]) ** 2).sum(1), paper),
        "axis2": masked_mean(((maps[:, 5:7] - target[:, 5:7]) ** 2).sum(1), paper),
        "scale": masked_mean((maps[:, 4] - target[:, 4]).abs(), paper),
    }


def fine_loss(out: tuple[Tensor, ...], batch: Batch) -> dict[str, Tensor]:
    """Terms for (grid, area, marks, place).

    The phases aren't normalised: the squared error makes their length the net's certainty.
    """
    grid, area, marks, place = out
    weight = batch["grid"]
    known = batch["weight"]
    off = (1 - weight) * 0.05  # where there is no grid the phases should vanish
    return {
        "phase": masked_mean(((grid - batch["phase"]) ** 2).sum(1), weight) + (grid**2).sum(1).mul(off).mean(),
        "paper": F.binary_cross_entropy_with_logits(area[:, 0], batch["paper"]) * 0.3,
        "trace": F.binary_cross_entropy_with_logits(area[:, 1], batch["trace"]),
        "marks": focal_heat(marks, batch["heat"]) * 0.5,
        "place": masked_mean((place[:, :4] - batch["place"][:, :4]).abs(), known[:, :4]),
        # Pulses are rare among marks: a term of their own, or their size stays at its prior.
        "size": masked_mean((place[:, 4:] - batch["place"][:, 4:]).abs(), known[:, 4:]),
    }


def strip_loss(out: tuple[Tensor, Tensor], batch: Batch) -> dict[str, Tensor]:
    """Terms for (height logits (B, bins, W), presence logits (B, W)).

    Height: cross-entropy to the two bins around the true height (their mean is exact), the expectation's absolute
    error, its first difference, and -log SNR of the window (FIELD 5: what digitisation winners found best).
    """
    height, presence = out
    present, true = batch["present"], batch["bin"]
    b, bins, w = height.shape
    low = true.floor().clamp(0, bins - 2).long()
    share = (true - low).clamp(0, 1)
    log_p = height.log_softmax(dim=1)
    ce = -((1 - share) * log_p.gather(1, low[:, None])[:, 0] + share * log_p.gather(1, low[:, None] + 1)[:, 0])
    y = expected_row(height)
    both = present[:, 1:] * present[:, :-1]
    # QRS complexes are a twentieth of the columns and nine tenths of the error's power: steep columns count 4 times,
    # and so do those close beside them, or the tips of R waves, level themselves, are cut short.
    steep = torch.cat([(true[:, 1:] - true[:, :-1]).abs() * both, both[:, :1] * 0], dim=1)
    steep = F.max_pool1d(steep[:, None], 2 * BESIDE_COLUMNS + 1, 1, BESIDE_COLUMNS)[:, 0]
    weight = present * (1 + 3 * (steep / STEEP_BINS).clamp(max=1))
    n = present.sum(1).clamp(min=1.0)
    mean = (true * present).sum(1) / n
    power = (((true - mean[:, None]) ** 2) * present).sum(1) / n + 1.0
    error = y - true
    offset = (error * present).sum(1) / n
    noise = (((error - offset[:, None]) ** 2) * present).sum(1) / n + 0.02
    seen = (n > 16).float()
    return {
        "height": masked_mean(ce, weight),
        "absolute": masked_mean(error.abs().clamp(max=20), present) * 0.3,
        "slope": masked_mean((y[:, 1:] - y[:, :-1] - true[:, 1:] + true[:, :-1]).abs(), both) * 0.5,
        "snr": masked_mean(torch.log(noise / power), seen),
        "presence": F.binary_cross_entropy_with_logits(presence, present) * 0.5,
    }


def taught_loss(out: tuple[Tensor, ...], told: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Terms for what a decoder says (height logits (B, bins, W), presence logits (B, W)) beside what its teacher does:
    the divergence of the heights' distributions, where the teacher sees a trace, and the cross-entropy of presence
    (Hinton, Vinyals and Dean, arXiv 1503.02531, at temperature 1)."""
    (height, presence), (told_height, told_presence) = out, told
    seen = told_presence.sigmoid()
    p = told_height.softmax(dim=1)
    divergence = (p * (told_height.log_softmax(dim=1) - height.log_softmax(dim=1))).sum(dim=1)
    return {
        "height_told": masked_mean(divergence, seen) * 2.0,
        "presence_told": F.binary_cross_entropy_with_logits(presence, seen) * 0.5,
    }
