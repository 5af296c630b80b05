"""The seam to whatever runs a net."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ecg.bundle import TensorSpec
from ecg.errors import BundleError, EcgscanError
from ecg.page import F32

Values = NDArray[np.float32] | NDArray[np.uint8]
Tensors = Mapping[str, Values]


class Engine(Protocol):
    """One net, loaded: inputs by name (or the only input as an array) to outputs by name, all float32.

    Inputs may be uint8 where the values are (pictures): each engine gives its net the type that it takes.
    """

    def __call__(self, inputs: Tensors | Values) -> dict[str, F32]:
        """Run once. Raises ``ValueError`` where names or ranks differ from the net's."""
        ...

    def close(self) -> None:
        """Let go of memory and devices."""
        ...


def calls_at_once(engine: Engine) -> int:
    """How many threads should call an engine at a time: one, unless it says otherwise."""
    return int(getattr(engine, "calls_at_once", 1))


def by_name(inputs: Tensors | Values, names: Sequence[str], file: str) -> Tensors:
    """Inputs by name; raises ``ValueError`` where the names are not the net's."""
    if isinstance(inputs, np.ndarray):
        if len(names) != 1:
            raise ValueError(f"{file} has inputs {list(names)}: give them by name")
        return {names[0]: inputs}
    if set(inputs) != set(names):
        raise ValueError(f"{file} has inputs {list(names)}, got {sorted(inputs)}")
    return inputs


def check_tensors(path: Any, what: str, told: Sequence[TensorSpec], found: Mapping[str, int]) -> None:
    """Raise ``BundleError`` where a net's tensors (name: rank) are not those that bundle.json names."""
    want = {t.name: len(t.shape) for t in told}
    if want != dict(found):
        raise BundleError(f"{path}: has {what} {_ranks(found)}, bundle.json says {_ranks(want)}; "
                          "export the bundle again")  # fmt: skip


def _ranks(tensors: Mapping[str, int]) -> str:
    return ", ".join(f"{name} of rank {rank}" for name, rank in tensors.items())


def extra_module(name: str, extra: str) -> ModuleType:
    """A package that an engine needs; raises ``EcgscanError`` in one line where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as err:
        raise EcgscanError(
            f"--engine {extra} needs {name}: pip install 'ecgscan[{extra}]', or use --engine ort"
        ) from err


def usable_cores() -> int:
    """Cores that this process may run on (a container may allow fewer than the machine has)."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
