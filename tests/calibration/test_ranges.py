"""Ranges: histograms see every value, and each method cuts tails as it should."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.ranges import BINS, METHODS, Histogram, fed, histograms, limits, session
from calibration.sqnr import below, node_sqnr_db, sqnr_db


def of(values) -> Histogram:
    counts, edges = np.histogram(values, BINS)
    return Histogram(counts.astype(np.int64), edges)


def test_histograms_hold_the_limits(net, feeds) -> None:
    found = histograms(net, ["unit", "b", "maps"], feeds)
    run = session(net, extra=["b"])
    b = np.concatenate([run.run(["b"], fed(run, f))[0].ravel() for f in feeds])
    assert limits(found["b"], "minmax") == pytest.approx((b.min(), b.max()), rel=1e-5)
    assert found["b"].counts.sum() == b.size
    assert found["unit"].edges[0] >= -2
    assert found["unit"].edges[-1] < 2


def test_percentile_cuts_both_tails() -> None:
    values = np.random.default_rng(0).normal(0, 1, 200_000)
    low, high = limits(of(values), "percentile-99.9")
    assert low == pytest.approx(np.quantile(values, 0.0005), abs=0.02)
    assert high == pytest.approx(np.quantile(values, 0.9995), abs=0.02)


def test_zeros_of_relu_stay_whole() -> None:
    values = np.maximum(np.random.default_rng(0).normal(0, 1, 100_000), 0)
    for method in METHODS:
        low, high = limits(of(values), method)
        assert low == pytest.approx(0, abs=1e-9)
        assert 2 < high < 5


def test_entropy_leaves_out_a_far_outlier() -> None:
    values = np.append(np.random.default_rng(0).normal(0, 1, 100_000), 300.0)
    low, high = limits(of(values), "entropy")
    assert 3 < high < 100
    assert low == pytest.approx(values.min(), abs=0.2)


def test_sqnr_of_known_noise() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, 100_000)
    noisy = x + rng.normal(0, 0.1, x.size)
    assert sqnr_db([[x, x]], [[noisy, x]]) == pytest.approx([20, 99], abs=0.1)


def test_the_worst_node_comes_first(net, feeds) -> None:
    tensors = ["unit", "a", "b", "c", "d", "e", "f", "mean"]
    ranges = {k: limits(h, "minmax") for k, h in histograms(net, tensors, feeds).items()}
    ranges["c"] = (0.0, ranges["c"][1] * 300)
    ranges["d"] = ranges["c"]
    ranges["e"] = (0.0, ranges["e"][1] * 300)
    figures = node_sqnr_db(net, ranges, feeds[:2])
    assert next(iter(figures)) == "f0"  # what reads e
    assert figures["f0"] < 15 < figures["b0"]
    assert below(figures, 15)[0] == "f0"
