"""Sorting networks against numpy's sorting."""

from __future__ import annotations

import numpy as np
import pytest

from ecg.ranks import ordered, ranked


@pytest.mark.parametrize("n", [1, 2, 3, 7, 9, 15, 25, 32])
def test_every_rank_is_where_sorting_puts_it(n):
    arrays = np.random.default_rng(n).integers(0, 20, (n, 6, 5), dtype=np.uint8)  # with ties
    wanted = np.sort(arrays, axis=0)
    for rank in range(n):
        assert np.array_equal(ranked(arrays, rank), wanted[rank])
    assert np.array_equal(ordered(arrays), wanted)


def test_what_is_infinite_goes_last_and_the_arrays_stay():
    arrays = np.array([[np.inf, -1.0], [2.0, np.inf], [0.5, 3.0]])
    before = arrays.copy()
    assert np.array_equal(ordered(arrays), [[0.5, -1.0], [2.0, 3.0], [np.inf, np.inf]])
    assert np.array_equal(arrays, before)
