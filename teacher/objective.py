"""The teacher's losses over one batch of all processes; a term whose weight is 0 isn't computed."""

from __future__ import annotations

import torch
from torch import Tensor

from teacher.config import LossConfig
from teacher.losses.gather import gathered, shared_mean
from teacher.losses.gramian import gramian
from teacher.losses.infonce import infonce, positives
from teacher.losses.reconstruction import reconstruction
from teacher.losses.soft_lead import applicable, soft_lead
from teacher.model import Batch


def terms(out: dict[str, Tensor], batch: Batch, config: LossConfig) -> dict[str, Tensor]:
    """Each term that is switched on, unweighted, from ``Teacher.forward``'s outputs.

    Averaged over processes they are those of one process with the whole batch, and so are the weights' gradients.
    """
    found: dict[str, Tensor] = {}
    contrasts = config.image_text or config.image_signal or config.gramian
    rows = {name: gathered(out[name]) for name in ("image", "signal", "text") if contrasts and name in out}
    if config.image_text:
        same = positives(gathered(batch.sentence))
        found["image_text"] = infonce(rows["image"], rows["text"], out["tau:image_text"], same)
    if config.image_signal:
        same = positives(gathered(batch.record))
        found["image_signal"] = infonce(rows["image"], rows["signal"], out["tau:image_signal"], same)
    if config.gramian:
        found["gramian"] = gramian(
            rows["image"], rows["signal"], rows["text"], out["tau:gramian"], config.label_smoothing
        )
    if config.reconstruction:
        mean = reconstruction(out["drawn_mv"], batch.target_mv, batch.printed, config.slope_weight)
        found["reconstruction"] = shared_mean(mean, batch.printed.sum())
    if config.soft_lead:
        mean = soft_lead(out["drawn_mv"], batch.printed, config.dead_zone_mv)
        found["soft_lead"] = shared_mean(mean, applicable(batch.printed).sum())
    return found


def total(found: dict[str, Tensor], config: LossConfig) -> Tensor:
    """The weighted sum that is minimised."""
    return torch.stack([getattr(config, name) * term for name, term in found.items()]).sum()
