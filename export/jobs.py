"""What the export needs to know of a net, whichever net it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.choose import Limit
from ecg.bundle import TensorSpec

Feed = Mapping[str, NDArray[np.generic]]
# A run of the net (inputs by name to results in order) to figures by name, ``loss`` among them.
Figures = Callable[[Callable[[Feed], Sequence[NDArray[Any]]]], dict[str, float]]


@dataclass(frozen=True, eq=False)
class NetJob:
    """One net on its way into a bundle.

    ``net``: a torch module in eval mode that takes the inputs in order.  ``example``: inputs that it is traced with.
    ``sizes``: least, usual and largest of each free size; ``multiple``: free sizes are multiples of this.
    ``calibration``: inputs for the ranges, a batch each; ``figures``: the net's own task on held-out samples, which
    8 bits may worsen by ``limits``.  Without both the net stays in float.
    """

    name: str
    net: Any
    example: Feed
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    settings: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    multiple: Mapping[str, int] = field(default_factory=dict)
    calibration: Callable[[], Sequence[Feed]] | None = None
    figures: Figures | None = None
    limits: tuple[Limit, ...] = ()


@dataclass(frozen=True)
class JobSource:
    """Where jobs come from: a run's checkpoints, and what calibrates and holds out (None: float only).

    ``shards`` for finders and decoder, ``patches`` (``ecgscan-distill render-marks``) for the mark reader, ``starts``
    (``ecgscan-distill render-starts``) for the start reader, ``readings`` (``ecgscan-distill readings``) for the
    findings' net.
    """

    run: Path
    shards: Path | None = None
    readings: Path | None = None
    patches: Path | None = None
    starts: Path | None = None
    samples: int = 32
    held_out: int = 36
