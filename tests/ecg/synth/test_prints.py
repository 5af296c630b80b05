"""Prints taken as photographs without a camera."""

from __future__ import annotations

import numpy as np

from ecg.geometry import photo_xy
from ecg.synth.heart import beat, random_heart
from ecg.synth.printer import random_page
from ecg.synth.prints import as_photograph


def test_maps_and_lattice_of_a_print_are_its_own_pixels():
    rng = np.random.default_rng(3)
    page = random_page(rng, beat(random_heart(rng), rng=rng), layout="3x4+1", partial=False)
    shot = as_photograph(page)
    mm = np.array([[10.0, 20.0], [123.4, 56.7]])
    px = shot.page_to_photo(mm)
    assert np.allclose(shot.photo_to_page(px), mm)
    assert np.allclose(px, mm * page.px_per_mm - 0.5)
    assert np.isnan(shot.page_to_photo(np.array([[-1.0, 5.0]]))).all()
    assert shot.sheet is not None
    assert np.allclose(photo_xy(shot.sheet, mm), px, atol=1e-2)
    # Nodes lie on the heavy lines.
    assert np.allclose(np.mod(shot.sheet.x0_mm - page.grid.x0_mm, 5.0) % 5.0, 0, atol=1e-6)
