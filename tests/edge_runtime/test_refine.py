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


def warped(to_page, seed: int = 0, ink: bool = True) -> np.ndarray:
    """A page of 1 mm and 5 mm lines with traces over it, seen so that photo px (x, y) show to_page(x, y) mm."""
    rng = np.random.default_rng(seed)
    x, y = to_page(*np.meshgrid(np.arange(1350.0), np.arange(900.0)))
    dark = sum(
        depth * np.exp(-(((np.mod(v + step / 2, step) - step / 2) / 0.14) ** 2))
        for v in (x, y) for step, depth in ((1, 30), (5, 60))
    )  # fmt: skip
    if ink:
        for row in (25.3, 50.2, 75.1):  # traces that run along horizontal lines
            dark = dark + 150 * np.exp(-(((y - row - 0.4 * np.sin(x / 7)) / 0.2) ** 2))
    return np.repeat(np.clip(235 - dark + rng.normal(0, 3, dark.shape), 1, 255)[..., None], 3, axis=-1).astype(np.uint8)


def as_found(to_photo, seed: int = 0) -> tuple[Sheet, np.ndarray]:
    """A lattice that errs by up to some tenths of a millimetre, smoothly, and its true nodes."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(2, 28) * 5.0, np.arange(2, 18) * 5.0)
    wrong = [cv2.resize(rng.normal(0, 0.07, (4, 6)), x.shape[::-1], interpolation=cv2.INTER_CUBIC) for _ in range(2)]
    sheet = Sheet(np.stack(to_photo(x + wrong[0], y + wrong[1]), -1).astype(np.float32), 10.0, 10.0)
    return sheet, np.stack(to_photo(x, y), -1)


def rms_mm(nodes: np.ndarray, true: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean((nodes - true)[1:-1, 1:-1] ** 2, axis=(0, 1))) / PX_PER_MM


@pytest.mark.parametrize("seed", range(2))
def test_a_flat_sheet_in_perspective_is_found_to_a_hundredth_of_a_millimetre(seed):
    h = np.array([[9.0, 0.15, 8.0], [-0.2, 9.1, 20.0], [4e-4, -3e-4, 1.0]])
    back = np.linalg.inv(h)

    def through(m, x, y):
        d = m[2, 0] * x + m[2, 1] * y + m[2, 2]
        return (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / d, (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / d

    sheet, true = as_found(lambda x, y: through(h, x, y), seed)
    assert rms_mm(sheet.node_px, true).max() > 0.04
    out = refined(Photo(warped(lambda x, y: through(back, x, y), seed)), sheet)
    assert rms_mm(out.node_px, true).max() < 0.01


def test_a_fold_is_not_flattened():
    """Right of 75 mm time runs 3 % slower, below 50 mm heights grow 2 % faster."""

    def to_photo(x, y):
        return (x - 0.03 * np.clip(x - 75, 0, None)) * PX_PER_MM, (y + 0.02 * np.clip(y - 50, 0, None)) * PX_PER_MM

    def to_page(x, y):
        x, y = x / PX_PER_MM, y / PX_PER_MM
        return np.where(x < 75, x, 75 + (x - 75) / 0.97), np.where(y < 50, y, 50 + (y - 50) / 1.02)

    sheet, true = as_found(to_photo)
    out = refined(Photo(warped(to_page)), sheet)
    assert rms_mm(out.node_px, true).max() < 0.03
    assert (rms_mm(out.node_px, true) < 0.5 * rms_mm(sheet.node_px, true)).all()
