"""The lattice against warped grids whose millimetres are known."""

import cv2
import numpy as np
import pytest

from ecg.geometry import View
from edge_runtime.cosines import cosines
from edge_runtime.lattice import field_to_sheet, unwrap_grid

H, W = 160, 240


def warped_grid(seed: int, noise: float = 0.12, holes: int = 6):
    """Phases (4, h, w), true mm (h, w, 2), paper (h, w): turned, scaled, in perspective, crumpled by up to 3 mm."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:H, 0:W].astype(float)
    a, s, p = np.radians(rng.uniform(-8, 8)), rng.uniform(0.88, 1.12), rng.uniform(-6e-4, 6e-4, 2)
    depth = 1 + p[0] * (x - W / 2) + p[1] * (y - H / 2)
    mm = np.stack([np.cos(a) * x - np.sin(a) * y, np.sin(a) * x + np.cos(a) * y], -1) * s / depth[..., None]
    mm += cv2.resize(rng.normal(0, 1.2, (8, 12, 2)), (W, H), interpolation=cv2.INTER_CUBIC)
    phase = mm * 2 * np.pi / 5
    grid = np.stack([np.cos(phase[..., 0]), np.sin(phase[..., 0]), np.cos(phase[..., 1]), np.sin(phase[..., 1])])
    amplitude = np.ones((H, W))
    for _ in range(holes):
        centre = int(rng.integers(20, W - 20)), int(rng.integers(20, H - 20))
        cv2.circle(amplitude, centre, int(rng.integers(4, 9)), 0.05, -1)
    grid = grid * amplitude + rng.normal(0, noise, grid.shape)
    paper = np.zeros((H, W), np.float32)
    paper[8:-4, 10:-6] = 1
    return grid.astype(np.float32), mm, paper


@pytest.mark.parametrize("seed", range(6))
def test_unwrapped_millimetres_are_right_up_to_whole_boxes(seed):
    grid, mm, paper = warped_grid(seed)
    field = unwrap_grid(grid, paper)
    assert field is not None
    error = field.mm - mm
    error -= 5 * np.round(np.median(error[paper > 0], axis=0) / 5)
    size = np.hypot(error[..., 0], error[..., 1])[paper > 0]
    assert np.median(size) < 0.08
    assert np.percentile(size, 95) < 0.7  # the holes
    assert field.residual_mm < 0.25


@pytest.mark.parametrize("seed", range(3))
def test_nodes_lie_where_the_grid_lines_cross(seed):
    grid, mm, paper = warped_grid(seed, holes=0)
    view = View(30.0, -12.0, 2.5, 0.3, W * 4, H * 4)
    field = unwrap_grid(grid, paper)
    assert field is not None
    sheet, cells = field_to_sheet(field, view, paper > 0)
    known = np.isfinite(cells[..., 0])
    assert known.sum() > 500
    at = cells[known]
    inside = (at > 12).all(1) & (at < [W - 12, H - 12]).all(1)
    there = np.stack([cv2.remap(mm[..., k].astype(np.float32), at[inside][:, :1], at[inside][:, 1:], cv2.INTER_LINEAR)
                      for k in (0, 1)], -1)[:, 0]  # fmt: skip
    off = np.abs(there - 5 * np.round(there / 5))
    assert np.median(off) < 0.08
    assert np.allclose(sheet.node_px[known], view.to_photo(at * 4 + 1.5), atol=1e-2)


def test_cosines_transform_as_opencv_does():
    x = np.random.default_rng(0).normal(size=(88, 160)).astype(np.float32)
    assert np.allclose(cosines(88) @ x @ cosines(160).T, cv2.dct(x), atol=1e-5)


def test_no_grid_is_none():
    noise = np.random.default_rng(0).normal(0, 0.1, (4, H, W)).astype(np.float32)
    assert unwrap_grid(noise, np.ones((H, W), np.float32)) is None
