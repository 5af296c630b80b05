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
from distill.from_bundle import begin_with_bundle, unfold_norms
from distill.precision import training_precision

SAVE_EVERY = 250
UNFOLD_BATCHES = 8


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
    begin: Path | None = None  # a bundle's folder: the weights that a new run begins with


def train_on_patches(
    name: str, make: Callable[[], nn.Module], config: PatchTraining,
    batch_of: Callable[[np.random.Generator], tuple[Tensor, Tensor]], loss_of: Callable[[Tensor, Tensor], Tensor],
    figures: Callable[[nn.Module], dict[str, float]],
) -> Path:  # fmt: skip
    """Train, going on from ``out``/NAME.ckpt; returns it.

    ``batch_of`` draws a step's inputs and what is wanted of them with the step's own generator, ``loss_of`` compares
    what the net says with that; ``figures`` tell of held-out patches.
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
    elif config.begin is not None:
        begin_with_bundle(net, name, config.begin)
        unfold_norms(net, (batch_of(np.random.default_rng([config.seed, k]))[0] for k in range(UNFOLD_BATCHES)))
    (config.out / f"{name}.json").write_text(json.dumps(asdict(config), default=str, indent=1))
    start, losses = time.perf_counter(), []
    for step in range(first, config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.lr * learning_rate(step, config.steps)
        inputs, wanted = batch_of(np.random.default_rng([config.seed, step]))
        with training_precision():
            said = net(inputs)
        loss = loss_of(said.float(), wanted)
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
    with training_precision():
        said = figures(net)
    net.train()
    return {k: round(v, 4) for k, v in said.items()}
