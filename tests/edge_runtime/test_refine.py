"""The lattice on grid lines that are drawn where it is known."""

import cv2
import numpy as np
import pytest

from ecg.page import Photo, Sheet
from edge_runtime.refine import refined

PX_PER_MM = 9.0


def page(shift_mm, ink: bool = False) -> np.ndarray:
    """White paper, heavy lines every 5 mm, the vertical ones displaced by shift_mm(x, y)."""
    h, w = 900, 1350
    y, x = np.mgrid[0:h, 0:w] / PX_PER_MM
    near = np.abs(np.mod(x - shift_mm(x, y) + 2.5, 5) - 2.5)
    across = np.abs(np.mod(y + 2.5, 5) - 2.5)
    light = 235 - 90 * np.exp(-((near / 0.15) ** 2)) - 90 * np.exp(-((across / 0.15) ** 2))
    rgb = np.repeat(np.clip(light, 0, 255)[..., None], 3, axis=-1).astype(np.uint8)
    if ink:
        for k in range(40, 1300, 190):
            cv2.line(rgb, (k, 300), (k + 6, 560), (20, 20, 20), 3)
    return rgb


def lattice() -> Sheet:
    x, y = np.meshgrid(np.arange(2, 28) * 5.0, np.arange(2, 18) * 5.0)
    return Sheet((np.stack([x, y], -1) * PX_PER_MM).astype(np.float32), 10.0, 10.0)


@pytest.mark.parametrize("ink", [False, True])
def test_nodes_move_onto_the_lines_and_ink_does_not_draw_them(ink):
    def shift(x, y):
        return 0.12 * np.sin(x / 9) * np.cos(y / 25)

    sheet = lattice()
    moved = refined(Photo(page(shift, ink)), sheet).node_px - sheet.node_px
    x, y = np.meshgrid(np.arange(2, 28) * 5.0, np.arange(2, 18) * 5.0)
    want = shift(x, y) * PX_PER_MM
    inner = (slice(2, -2), slice(2, -2))
    before, after = np.abs(want[inner]), np.abs(moved[..., 0] - want)[inner]
    assert np.sqrt(np.mean(after**2)) < (0.5 if ink else 0.35) * np.sqrt(np.mean(before**2))
    assert np.abs(moved[..., 1]).max() < 0.02


def test_without_lines_nothing_moves():
    sheet = lattice()
    blank = Photo(np.full((900, 1350, 3), 240, np.uint8))
    assert np.allclose(refined(blank, sheet).node_px, sheet.node_px, atol=1e-3)


def test_unknown_nodes_stay_unknown():
    nodes = lattice().node_px.copy()
    nodes[:3, :4] = np.nan
    out = refined(Photo(page(lambda x, y: 0 * x)), Sheet(nodes, 10.0, 10.0))
    assert np.array_equal(np.isnan(out.node_px), np.isnan(nodes))


def test_fine_lines_do_not_draw_the_nodes_aside():
    y, x = np.mgrid[0:900, 0:1350] / PX_PER_MM
    fine = np.abs(np.mod(x - 0.1 + 0.5, 1) - 0.5)
    heavy = np.abs(np.mod(x - 0.1 + 2.5, 5) - 2.5)
    light = 235 - 40 * np.exp(-((fine / 0.12) ** 2)) - 60 * np.exp(-((heavy / 0.15) ** 2)) + 0 * y
    rgb = np.repeat(np.clip(light, 0, 255)[..., None], 3, axis=-1).astype(np.uint8)
    sheet = lattice()
    moved_mm = (refined(Photo(rgb), sheet).node_px - sheet.node_px)[2:-2, 2:-2, 0] / PX_PER_MM
    assert np.abs(moved_mm - 0.1).max() < 0.02


def test_lines_rounded_to_whole_dots_do_not_bend_the_clock():
    dot_mm = 0.17

    def rounded(x, y):
        true = 5.0 * np.rint(x / 5.0)
        return np.rint(true / dot_mm) * dot_mm - true + 0 * y

    sheet = lattice()
    photo = Photo(page(rounded))
    x, _ = np.meshgrid(np.arange(2, 28) * 5.0, np.arange(2, 18) * 5.0)
    printed = rounded(x, 0 * x)
    moved_mm = (refined(photo, sheet).node_px - sheet.node_px)[2:-2, 3:-3, 0] / PX_PER_MM
    assert printed.std() > 0.04  # 1.6 ms at 25 mm/s
    assert moved_mm.std() < 0.25 * printed.std()
