"""A decoder with fewer channels at its two finest levels, cut out of a wider one that then teaches it.

These levels take two thirds of the decoder's time.  Channels that carry little go: what flows through one (root mean
square over strips) times how strongly the layers behind it take it up.  What is cut off costs decibels at first;
trained on beside its teacher (``distill.losses.taught_loss``) the narrow net finds them again in some hundred steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from distill.from_bundle import NET_OF, begin_with_bundle, folded_weights
from distill.nets import StripDecoder
from ecg.bundle import load_bundle
from ecg.errors import InputError

Kept = dict[str, Tensor]


@dataclass(frozen=True)
class Group:
    """Channels that stay or go together: the outputs of the convolutions ``made_by``, seen behind the modules
    ``seen_at``; ``taken_by``: convolutions that take them, each with the first of its inputs that is one of them."""

    level: int
    made_by: tuple[str, ...]
    taken_by: tuple[tuple[str, int], ...]
    seen_at: tuple[str, ...]


def wide_decoder(folder: Path) -> StripDecoder:
    """The decoder of a bundle, as wide as it is, in eval mode; raises ``InputError`` where it is another net."""
    path = load_bundle(folder).net_path(NET_OF["strip"], "trt", "onnx")
    told = folded_weights(onnx.load(str(path)).graph)
    try:
        widths = tuple(int(told[f"encoder.levels.{k}.0.0.weight"].shape[0]) for k in range(5))
    except KeyError as err:
        raise InputError(f"{path}: of another net ({err} isn't there); give a bundle of this version") from err
    net = StripDecoder(widths)
    begin_with_bundle(net, "strip", folder)
    return net.eval()


def widths_of(net: StripDecoder) -> tuple[int, ...]:
    """The channels of each level, finest first."""
    return tuple(int(level[0][0].out_channels) for level in net.encoder.levels)  # type: ignore[index]


def groups(widths: tuple[int, ...]) -> tuple[Group, ...]:
    """The two finest levels' channels of a decoder of these widths: what leaves each encoder level, what leaves each
    level on the way back, and what each residual block thinks in."""
    (_, n1, n2, *_), up, down = widths, "decode.refine", "encoder.levels"
    return (
        Group(0, (f"{down}.0.0.0",), ((f"{down}.1.0.0", 0), ("decode.join.0.0", n1)), (f"{down}.0",)),
        Group(0, ("decode.join.0.0", f"{up}.0.body.1"), ((f"{up}.0.body.0.0", 0), ("height", 0), ("presence", 0)),
              ("decode.join.0", f"{up}.0")),
        Group(0, (f"{up}.0.body.0.0",), ((f"{up}.0.body.1", 0),), (f"{up}.0.body.0",)),
        Group(1, (f"{down}.1.0.0", f"{down}.1.1.body.1"),
              ((f"{down}.1.1.body.0.0", 0), (f"{down}.2.0.0", 0), ("decode.join.1.0", n2)),
              (f"{down}.1.0", f"{down}.1")),
        Group(1, (f"{down}.1.1.body.0.0",), ((f"{down}.1.1.body.1", 0),), (f"{down}.1.1.body.0",)),
        Group(1, ("decode.join.1.0", f"{up}.1.body.1"), ((f"{up}.1.body.0.0", 0), ("decode.join.0.0", 0)),
              ("decode.join.1", f"{up}.1")),
        Group(1, (f"{up}.1.body.0.0",), ((f"{up}.1.body.1", 0),), (f"{up}.1.body.0",)),
    )  # fmt: skip


@torch.no_grad()
def narrow(wide: StripDecoder, net: StripDecoder, inputs: Iterable[Tensor]) -> None:
    """Give ``net`` those channels of ``wide`` that matter most on ``inputs`` (B, 4, 224, W).

    Raises ``InputError`` where ``net`` is the wider one at a level, or differs at other levels than the two finest.
    """
    had, wanted = widths_of(wide), widths_of(net)
    if had[2:] != wanted[2:] or any(a < b for a, b in zip(had, wanted, strict=True)):
        raise InputError(f"a decoder of widths {wanted} can't be cut out of one of {had}; give a wider one")
    parts = groups(had)
    flow = _flow(wide.eval(), [name for part in parts for name in part.seen_at], inputs)
    weights = dict(wide.state_dict())
    outputs: Kept = {}
    inputs_gone: dict[str, Tensor] = {}
    for part in parts:
        taken = torch.stack(
            [_taken(weights[f"{name}.weight"], first, had[part.level]) for name, first in part.taken_by]
        )
        most = torch.stack([flow[name] for name in part.seen_at]).amax(dim=0)
        order = (most * taken.sum(dim=0).sqrt()).argsort(descending=True)
        kept, gone = order[: wanted[part.level]].sort().values, order[wanted[part.level] :]
        outputs |= dict.fromkeys(part.made_by, kept)
        for name, first in part.taken_by:
            inputs_gone[name] = torch.cat([inputs_gone.get(name, gone[:0]), first + gone])
    net.load_state_dict(_cut(weights, outputs, inputs_gone))


def _taken(weight: Tensor, first: int, n: int) -> Tensor:
    """Sum of squares (n,) of the weights that take up each of n inputs from ``first`` on."""
    return weight[:, first : first + n].pow(2).flatten(2).sum(dim=(0, 2))


def _flow(net: nn.Module, names: list[str], inputs: Iterable[Tensor]) -> dict[str, Tensor]:
    """Root mean square of each channel behind the modules named, over the inputs."""
    squares: dict[str, list[Tensor]] = {name: [] for name in names}

    def keep(name: str) -> Any:
        return lambda module, given, out: squares[name].append(out.pow(2).mean(dim=(0, 2, 3)))

    handles = [net.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    for x in inputs:
        net(x)
    for handle in handles:
        handle.remove()
    return {name: torch.stack(values).mean(dim=0).sqrt() for name, values in squares.items()}


def _cut(weights: dict[str, Tensor], outputs: Kept, inputs_gone: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with these outputs alone, of the convolutions and of the norms behind them, and without the inputs
    that are gone."""
    out = dict(weights)
    for name, gone in inputs_gone.items():
        stays = torch.ones(weights[f"{name}.weight"].shape[1], dtype=torch.bool)
        stays[gone] = False
        out[f"{name}.weight"] = weights[f"{name}.weight"][:, stays]
    for name, kept in outputs.items():
        parent, _, place = name.rpartition(".")
        norm = f"{parent}.{int(place) + 1}"
        out[f"{name}.weight"] = out[f"{name}.weight"][kept]
        for part in ("weight", "bias", "running_mean", "running_var"):
            out[f"{norm}.{part}"] = weights[f"{norm}.{part}"][kept]
    return out
