"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def write_npz(path: Path, arrays: Mapping[str, NDArray[np.generic]], *, compressed: bool = False) -> None:
    """Write arrays as .npz; several processes may write the same file, the last one stays."""
    part = path.with_suffix(f".{os.getpid()}.part")
    save = np.savez_compressed if compressed else np.savez
    with part.open("wb") as file:
        save(file, allow_pickle=False, **arrays)
    os.replace(part, path)
