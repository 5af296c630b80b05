"""Fields on a rectangle in cosines: there, differences between cells, mirrored at the edges, are diagonal."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ecg.page import F32


@lru_cache(maxsize=16)
def cosines(n: int) -> F32:
    """The orthonormal DCT-II as a matrix (n, n): quicker than a transform at sizes that are no powers of two."""
    k = np.arange(n)
    rows = np.sqrt(2 / n) * np.cos(np.pi * k[:, None] * (k + 0.5) / n)
    rows[0] = np.sqrt(1 / n)
    return np.asarray(rows, dtype=np.float32)


def bends(h: int, w: int) -> NDArray[np.float64]:
    """What minus the second differences along x and y multiply each cosine (h, w) by; 0 for the constant one."""
    down, across = (2 - 2 * np.cos(np.pi * np.arange(n) / n) for n in (h, w))
    return np.asarray(down[:, None] + across[None], dtype=np.float64)
