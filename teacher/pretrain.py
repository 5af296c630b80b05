"""Our own signal encoder learns from reports before it is frozen and teaches pages."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from ecg.errors import EcgscanError
from teacher.checkpoint import write_tensors
from teacher.config import TeacherConfig
from teacher.encoders.resnet import ResnetSignalEncoder
from teacher.losses.infonce import infonce, positives
from teacher.losses.unit import Temperature
from teacher.model import Batch, projection
from teacher.pool import Pool
from teacher.report import Report


class TrainingError(EcgscanError):
    """A training can't go on."""


def warm_cosine(step: int, steps: int, warmup: int) -> float:
    """Share of the full learning rate at ``step``: linear warm-up, then half a cosine down to 1 %."""
    rise = min(1.0, (step + 1) / max(1, warmup))
    return rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps)))))


def augmented(batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """mv and known: half of the records as a page prints them, all at a gain some 10 % off."""
    b, _, n = batch.mv.shape
    nearest = torch.arange(n) * batch.printed.shape[2] // n
    paged = batch.known & batch.printed[:, :, nearest]
    # A page that shows next to nothing says nothing of the record.
    use = (torch.rand(b, generator=generator) < 0.5) & (paged.float().mean(dim=(1, 2)) > 0.1)
    gain = torch.exp(0.1 * torch.randn(b, 1, 1, generator=generator))
    return batch.mv * gain, torch.where(use[:, None, None], paged, batch.known)


def pretrain_signal(config: TeacherConfig, pool: Pool, text_width: int, path: Path, report: Report) -> None:
    """Train by signal-text contrast and write the encoder to ``path``; the same every time, so a crash loses little."""
    optim = config.optim
    torch.manual_seed(optim.seed)
    generator = torch.Generator().manual_seed(optim.seed)
    net = ResnetSignalEncoder(config.signal.width, config.signal.blocks).train()
    heads = nn.ModuleDict({
        "signal": projection(net.width, config.hidden, config.width),
        "text": projection(text_width, config.hidden, config.width),
        "tau": Temperature(),
    })  # fmt: skip
    parameters = [*net.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=optim.weight_decay)
    size = min(optim.pretrain_batch, config.data.pages)
    for step, numbers in enumerate(pool.numbers(optim.pretrain_steps, size, 0)):
        batch = pool.batch(numbers, with_pages=False)
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * warm_cosine(step, optim.pretrain_steps, optim.warmup)
        mv, known = augmented(batch, generator)
        signal, text = heads["signal"](net(mv, known)), heads["text"](batch.text)
        loss = infonce(signal, text, heads["tau"](), positives(batch.sentence))
        if not torch.isfinite(loss):
            raise TrainingError(f"signal step {step}: the loss is {loss.item()}; pages {numbers.tolist()}")
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, optim.clip_norm)
        optimiser.step()
        if step % optim.log_every == 0 or step == optim.pretrain_steps - 1:
            report.log("signal.jsonl", {"loss": round(loss.item(), 5)}, step)
        report.progress("signal encoder", step + 1, optim.pretrain_steps, f"loss {loss.item():.3f}")
    write_tensors(path, net.state_dict())
