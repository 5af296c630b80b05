"""A training's state in one safetensors file, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from teacher.encoders.weights import WeightsError
from teacher.model import Teacher

CHECKPOINT = "checkpoint.safetensors"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], **said: str) -> None:
    """Write tensors and notes; a reader finds the old file or the new one, after a power cut too."""
    part = path.with_suffix(f".{os.getpid()}.part")
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, part, metadata=said)
    part.chmod(0o644)  # safetensors writes for its user only
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and notes; WeightsError where the file is missing or broken."""
    try:
        with safe_open(path, framework="pt") as file:
            return {k: file.get_tensor(k) for k in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except Exception as error:  # safetensors raises its own
        raise WeightsError(f"{path}: can't be read ({type(error).__name__}: {error})") from error


def save_checkpoint(path: Path, net: Teacher, optimiser: torch.optim.Optimizer, step: int) -> None:
    """The net's own weights and the optimiser's moments after ``step`` steps."""
    tensors = {f"net/{k}": v for k, v in net.saved_state().items()}
    for name, parameter in _trained(net).items():
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[f"optim/{key}/{name}"] = torch.as_tensor(value)
    write_tensors(path, tensors, step=str(step))


def load_checkpoint(path: Path, net: Teacher, optimiser: torch.optim.Optimizer | None = None) -> int:
    """Put everything back where it was; returns the steps done. WeightsError where the file doesn't fit."""
    tensors, said = read_tensors(path)
    if not said.get("step", "").isdigit():
        raise WeightsError(f"{path}: doesn't say its step; not a checkpoint of this command")
    net.load_saved({k.removeprefix("net/"): v for k, v in tensors.items() if k.startswith("net/")})
    if optimiser is None:
        return int(said["step"])
    trained = _trained(net)
    for key, value in tensors.items():
        if not key.startswith("optim/"):
            continue
        _, what, name = key.split("/", 2)
        if name not in trained:
            raise WeightsError(f"{path}: has moments for {name}, which doesn't train here")
        # AdamW keeps its step count on the CPU, its moments beside the weights.
        device = "cpu" if what == "step" else trained[name].device
        optimiser.state[trained[name]][what] = value.to(device)
    return int(said["step"])


def _trained(net: Teacher) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in net.named_parameters() if p.requires_grad}
