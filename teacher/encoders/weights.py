"""Weights that come from elsewhere: where they must lie, and loading that leaves nothing to chance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ecg.errors import InputError


class WeightsError(InputError):
    """Weights are missing, broken, or not those of this net."""


@dataclass(frozen=True)
class KeyCounts:
    """Tensors of a checkpoint: loaded into the net, and left aside because they belong to known other parts."""

    loaded: int
    left_aside: int


def require(path: str, what: str, fetch: str) -> Path:
    """The path, if it is there; WeightsError with what to fetch and where it goes otherwise."""
    if not path:
        raise WeightsError(f"{what} not found: no path is set; fetch {fetch} and name its place in the configuration")
    found = Path(path)
    if not found.exists():
        raise WeightsError(f"{path}: {what} not found; fetch {fetch} and put it at this path")
    return found


def read_state(path: Path) -> dict[str, Tensor]:
    """A checkpoint's tensors by name, out of .safetensors or a torch file (there inside "model" or "state_dict", too).

    Torch files are read with ``weights_only``: a checkpoint can't run code.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        raw: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for broken files
        raise WeightsError(f"{path}: can't be read as a checkpoint ({type(error).__name__}: {error})") from error
    for inner in ("model", "state_dict"):
        if isinstance(raw, dict) and isinstance(raw.get(inner), dict):
            raw = raw[inner]
    if not isinstance(raw, dict) or not all(isinstance(v, Tensor) for v in raw.values()) or not raw:
        raise WeightsError(f"{path}: holds no tensors by name")
    return raw


def load_strictly(net: nn.Module, state: Mapping[str, Tensor], path: Path, others: Iterable[str] = ()) -> KeyCounts:
    """Fill every parameter and buffer of ``net``; names under the prefixes ``others`` belong to other parts.

    WeightsError where a tensor is missing, has another shape, isn't finite, or belongs nowhere.
    """
    prefixes = tuple(others)
    wanted = net.state_dict()
    mine = {k: v for k, v in state.items() if k in wanted}
    aside = [k for k in state if k not in wanted and prefixes and k.startswith(prefixes)]
    missing = [k for k in wanted if k not in mine]
    strange = [k for k in state if k not in wanted and k not in aside]
    shaped = [
        f"{k} {tuple(v.shape)} for {tuple(wanted[k].shape)}" for k, v in mine.items() if v.shape != wanted[k].shape
    ]
    broken = [k for k, v in mine.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    for fault, names in (
        ("lacks", missing), ("has unknown tensors", strange), ("has other shapes", shaped),
        ("has values that are not finite in", broken),
    ):  # fmt: skip
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            raise WeightsError(f"{path}: {fault} {shown}: these are not the weights of {type(net).__name__}")
    net.load_state_dict(mine, strict=True)
    return KeyCounts(len(mine), len(aside))


class Frozen(nn.Module):
    """A net that stays as it is: no gradients, and ``train()`` leaves it in eval mode."""

    def freeze(self) -> None:
        """Switch gradients and training mode off for good."""
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> Frozen:
        """Stays in eval mode whatever is asked."""
        super().train(False)
        return self
