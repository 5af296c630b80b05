"""The seam to whatever runs a net."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ecg.page import F32

Tensors = Mapping[str, NDArray[np.float32]]


class Engine(Protocol):
    """One net, loaded: inputs by name (or the only input as an array) to outputs by name, all float32."""

    def __call__(self, inputs: Tensors | F32) -> dict[str, F32]:
        """Run once. Raises ``ValueError`` where names or ranks differ from the net's."""
        ...

    def close(self) -> None:
        """Let go of memory and devices."""
        ...
