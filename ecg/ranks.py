"""Several arrays put in order element by element: numpy sorts short rows one by one, minima and maxima of whole arrays
take a tenth of that.

A sorting network (Batcher's odd-even merge sort: Knuth, The Art of Computer Programming 3, 5.2.2 M), without the
comparisons that lead to no wanted rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray


def ranked(arrays: NDArray[Any], rank: int) -> NDArray[Any]:
    """Of ``arrays`` (n, ...) the element that ``rank`` (0 to n - 1) others are sorted before: (...)."""
    return np.asarray(_sorted(arrays, frozenset((rank,)))[rank])


def ordered(arrays: NDArray[Any]) -> NDArray[Any]:
    """``np.sort(arrays, axis=0)`` of a few arrays without NaN."""
    return np.stack(_sorted(arrays, frozenset(range(len(arrays)))))


def _sorted(arrays: NDArray[Any], ranks: frozenset[int]) -> list[NDArray[Any]]:
    """The arrays, those of the wanted ranks where sorting puts them."""
    wires = list(arrays)
    for low, high, keep_low, keep_high in _comparisons(len(wires), ranks):
        a, b = wires[low], wires[high]
        if keep_low:
            wires[low] = np.minimum(a, b)
        if keep_high:
            wires[high] = np.maximum(a, b)
    return wires


@lru_cache
def _comparisons(n: int, ranks: frozenset[int]) -> tuple[tuple[int, int, bool, bool], ...]:
    """The comparisons (low, high, whether the smaller is wanted, whether the larger is) that put ``ranks`` in place."""
    wanted, out = set(ranks), []
    for low, high in reversed(list(_network(n))):
        keep = low in wanted, high in wanted
        if any(keep):
            out.append((low, high, *keep))
            wanted |= {low, high}
    return tuple(reversed(out))


def _network(n: int) -> Iterator[tuple[int, int]]:
    """Pairs to put in order, one after the other, which sort n elements."""
    p = 1
    while p < n:
        k = p
        while k >= 1:
            for j in range(k % p, n - k, 2 * k):
                for i in range(min(k, n - j - k)):
                    if (i + j) // (2 * p) == (i + j + k) // (2 * p):
                        yield i + j, i + j + k
            k //= 2
        p *= 2
