"""The loop that nets of small patches are trained in: minutes on one core, resumed from its own checkpoint."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from distill.checkpoints import save_whole

SAVE_EVERY = 250


@dataclass(frozen=True)
class PatchTraining:
    """One training on the patches of a folder, into the folder ``out``."""

    patches: Path
    out: Path
    steps: int = 3000
    batch: int = 128
    lr: float = 2e-3
    seed: int = 0
    threads: int = 1


def train_on_patches(
    name: str, make: Callable[[], nn.Module], config: PatchTraining,
    loss_of: Callable[[nn.Module, np.random.Generator], Tensor], figures: Callable[[nn.Module], dict[str, float]],
) -> Path:  # fmt: skip
    """Train, going on from ``out``/NAME.ckpt; returns it.

    ``loss_of`` draws a step's batch with its own generator; ``figures`` tell of held-out patches.
    """
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    net = make().to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=config.lr, weight_decay=0.02)
    config.out.mkdir(parents=True, exist_ok=True)
    path, first = config.out / f"{name}.ckpt", 0
    if path.exists():
        state = torch.load(path, weights_only=True)
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
    (config.out / f"{name}.json").write_text(json.dumps(asdict(config), default=str, indent=1))
    start, losses = time.perf_counter(), []
    for step in range(first, config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.lr * learning_rate(step, config.steps)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(net, np.random.default_rng([config.seed, step]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == config.steps:
            line = {"step": step + 1, "spent_s": round(time.perf_counter() - start, 1),
                    "train_loss": round(float(np.mean(losses)), 4), **_held_out(net, figures)}  # fmt: skip
            losses = []
            print(f"{name} {line}", flush=True)
            with (config.out / f"{name}.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            save_whole({"net": net.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}, path)
    return path


def learning_rate(step: int, steps: int) -> float:
    """Share of the highest rate: up within 100 steps, then half a cosine down to a hundredth."""
    return min(1, (step + 1) / 100) * (0.01 + 0.495 * (1 + math.cos(math.pi * step / steps)))


@torch.no_grad()
def _held_out(net: nn.Module, figures: Callable[[nn.Module], dict[str, float]]) -> dict[str, float]:
    net.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        said = figures(net)
    net.train()
    return {k: round(v, 4) for k, v in said.items()}
