"""Phases that least squares unwrapped wrongly: flat paper is set right, bent paper left alone."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.slips import unslipped

H, W = 180, 260


def flat(tilt: float = 0.0, bow: float = 0.0):
    y, x = np.mgrid[0:H, 0:W].astype(float)
    return 2 * np.pi / 5 * (x + tilt * y + bow * ((x - W / 2) / W) ** 2 * W)


def measured(phase, seed=1, noise=0.2):
    rng = np.random.default_rng(seed)
    return np.exp(1j * (phase + rng.normal(0, noise, phase.shape)))


@pytest.mark.parametrize(("tilt", "bow"), [(0.0, 0.0), (0.05, 0.02), (-0.1, 0.05)])
def test_a_page_half_a_band_off_comes_back(tilt, bow):
    true = flat(tilt, bow)
    x = np.arange(W)
    slipped = true + 2 * np.pi * np.clip((x - 170) / 60, 0, 1)  # least squares carried it over a band of 60 mm
    weight = np.ones((H, W))
    off = unslipped(slipped, measured(true), weight) - true
    off -= 2 * np.pi * np.round(np.median(off) / (2 * np.pi))
    assert np.abs(off).max() < 0.6


def test_phases_that_fit_stay_as_they_are():
    true = flat(0.05)
    assert unslipped(true, measured(true), np.ones((H, W))) is true


def test_bent_paper_is_left_to_least_squares():
    y, _ = np.mgrid[0:H, 0:W]
    true = flat() + 2 * np.pi * 0.9 * np.sin(y / 9.0)
    assert unslipped(true, measured(true), np.ones((H, W))) is true


def test_where_hardly_anything_is_seen_nothing_is_said():
    true = flat()
    weight = np.zeros((H, W))
    weight[:10, :10] = 1
    assert unslipped(true + 1.0, measured(true), weight).shape == true.shape
