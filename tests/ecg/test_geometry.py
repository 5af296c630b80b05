from dataclasses import replace

import cv2
import numpy as np
import pytest

from ecg.geometry import (
    StripWindow,
    View,
    bent_mm,
    grid_xy,
    photo_xy,
    render_view,
    shrunken,
    strip_xy,
    view_around,
)
from ecg.page import Photo, Sheet


def curved_sheet(step_mm: float = 5.0) -> Sheet:
    x, y = np.meshgrid(np.arange(20) * step_mm, np.arange(14) * step_mm)
    px = np.stack([7 * x + 0.01 * x * y + 30, 8 * y - 0.012 * x**2 + 400], axis=-1)
    return Sheet(px.astype(np.float32), 0.0, 0.0)


def test_cubic_lattice_reproduces_a_quadratic_surface_exactly():
    sheet = curved_sheet()
    x, y = np.linspace(6, 88, 41), np.linspace(6, 58, 29)
    got = grid_xy(sheet, x, y)
    gx, gy = np.meshgrid(x, y)
    assert np.abs(got[..., 0] - (7 * gx + 0.01 * gx * gy + 30)).max() < 1e-3
    assert np.abs(got[..., 1] - (8 * gy - 0.012 * gx**2 + 400)).max() < 1e-3


def test_scattered_and_gridded_points_agree():
    sheet = curved_sheet()
    x, y = np.array([3.3, 50.0, 94.0]), np.array([1.0, 33.0])
    grid = grid_xy(sheet, x, y)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    assert np.allclose(photo_xy(sheet, points).reshape(2, 3, 2), grid, atol=1e-3)


def test_beyond_the_paper_is_nan_and_near_holes_is_not():
    sheet = curved_sheet()
    px = sheet.node_px.copy()
    px[:, 15:] = np.nan
    holed = Sheet(px)
    got = photo_xy(holed, np.array([[71.0, 20.0], [85.0, 20.0], [-9.0, 20.0]]))
    assert np.isfinite(got[0]).all()
    assert np.isnan(got[1:]).all()


def test_view_goes_there_and_back():
    view = view_around(np.array([[100.0, 50.0], [900.0, 700.0]]), 7.0, 0.4, 5.0)
    xy = np.random.default_rng(0).uniform(0, 500, (40, 2))
    assert np.allclose(view.from_photo(view.to_photo(xy)), xy)
    corners = view.from_photo(np.array([[100.0, 50.0], [900.0, 700.0]]))
    assert (corners >= 0).all()
    assert (corners[:, 0] <= view.width).all()


def test_view_rotates_clockwise_on_screen():
    view = View(10.0, 20.0, 2.0, np.pi / 2, 5, 5)
    assert np.allclose(view.to_photo(np.array([1.0, 0.0])), [10.0, 22.0])


@pytest.mark.parametrize("px_per_mm", [3.0, 7.0, 12.6, 16.4])
def test_a_view_of_a_part_shows_what_a_view_of_all_shows(px_per_mm):
    """Only the part that a view lies on is shrunk, in the blocks of px that the whole photo is shrunk in."""
    rng = np.random.default_rng(1)
    rgb = cv2.GaussianBlur(rng.integers(0, 255, (600, 900, 3), dtype=np.uint8), (0, 0), 3)
    view = view_around(np.array([[250.0, 211.0], [530.0, 380.0]]), px_per_mm, 0.2, 0.0)
    small, shrink = shrunken(Photo(rgb), view.scale)
    m = view.matrix() * shrink
    m[:, 2] += 0.5 * shrink - 0.5
    whole = cv2.warpAffine(small, m, (view.width, view.height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    off = np.abs(render_view(Photo(rgb), view).astype(int) - whole)
    assert off.max() <= (1 if shrink == 1 / round(1 / shrink) else 8)
    assert not render_view(Photo(rgb), replace(view, origin_x_px=5000.0)).any()


def test_strip_rows_and_heights_are_inverse():
    window = StripWindow(10.0, 40.0, 28.0, 8.0, 64, 224)
    y = np.array([20.0, 40.0, 55.5])
    assert np.allclose(window.y_mm_of(window.row_of(y)), y)
    assert window.rows_mm()[0] == pytest.approx(12.125)
    assert strip_xy(curved_sheet(), window).shape == (224, 64, 2)


def test_a_lattice_is_bent_by_what_no_even_grid_explains():
    x, y = np.meshgrid(np.arange(0.0, 101.0, 5.0), np.arange(0.0, 81.0, 5.0))
    turned = np.stack([8 * x - 0.3 * y + 5, 0.3 * x + 8.1 * y + 9], axis=-1)
    turned[0, 3] = np.nan
    assert bent_mm(Sheet(turned.astype(np.float32))) < 1e-3
    wavy = turned + 8 * 0.5 * np.stack([np.sin(x / 9), np.zeros_like(x)], axis=-1)
    assert bent_mm(Sheet(wavy.astype(np.float32))) == pytest.approx(0.35, abs=0.05)
