"""The camera's truth: project and re-find, invert, repeat."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from ecg.page import PageLayout
from ecg.records import EcgRecord
from ecg.synth.camera import CONDITIONS, photograph, random_scene, random_shot
from ecg.synth.develop import Development
from ecg.synth.lens import View, pixel_map, place
from ecg.synth.light import Lighting
from ecg.synth.paper_shape import Crumple, Curl, Fold, PaperShape, bend
from ecg.synth.shots import Shot
from ecg.synth.truth import F64, GridTruth, PrintedPage

SIZE_MM = (240.0, 170.0)
SHAPES = {
    "flat": PaperShape(),
    "letter fold": PaperShape(folds=(Fold(90, -0.17, 0.3), Fold(90, 0.17, -0.3))),
    "roll": PaperShape(curls=(Curl("roll", 80, 0.1, 0.5, 80),)),
    "corner": PaperShape(curls=(Curl("edge", 45, 0.3, 0.6, 20),)),
    "crumple": PaperShape(crumples=(Crumple(0.25),)),
    "hard crumple": PaperShape(crumples=(Crumple(0.45, 30, 0.6, 0.2, 8, 4),)),
}


def make_page(px_per_mm: float = 8.0, dots_mm: F64 | None = None) -> PrintedPage:
    """White paper with a pale grid, or with round dots at known millimetres."""
    w, h = (round(s * px_per_mm) for s in SIZE_MM)
    rgb = np.full((h, w, 3), 245, np.uint8)
    if dots_mm is None:
        for k in range(5, int(SIZE_MM[0]), 5):
            cv2.line(rgb, (round(k * px_per_mm), 0), (round(k * px_per_mm), h), (235, 150, 150), 1)
        for k in range(5, int(SIZE_MM[1]), 5):
            cv2.line(rgb, (0, round(k * px_per_mm)), (w, round(k * px_per_mm)), (235, 150, 150), 1)
    else:
        y, x = (np.mgrid[:h, :w] + 0.5) / px_per_mm
        for dx, dy in dots_mm:
            i0, i1 = int((dy - 1.2) * px_per_mm), int((dy + 1.2) * px_per_mm) + 1
            j0, j1 = int((dx - 1.2) * px_per_mm), int((dx + 1.2) * px_per_mm) + 1
            r = np.hypot(x[i0:i1, j0:j1] - dx, y[i0:i1, j0:j1] - dy)
            cover = np.clip((0.6 - r) * px_per_mm + 0.5, 0, 1)[..., None]
            rgb[i0:i1, j0:j1] = np.round(245 - 225 * cover).astype(np.uint8)
    layout = PageLayout("3x4+1", 25.0, 10.0, ())
    grid = GridTruth("lines", 5.0, 5.0, (0.0, 0.0, *SIZE_MM))
    return PrintedPage(rgb, px_per_mm, layout, (), (), grid, EcgRecord(np.zeros((12, 10), np.float32), 500.0))


@pytest.mark.parametrize("name", SHAPES)
def test_the_two_maps_invert_each_other(name: str) -> None:
    rng = np.random.default_rng(3)
    view = View(tilt_deg=25, azimuth_deg=40, roll_deg=12, k1=0.03, k2=-0.01)
    pm = pixel_map(bend(SHAPES[name], SIZE_MM, rng), place(view, SIZE_MM, 1000))
    mm = rng.uniform([0, 0], SIZE_MM, (4000, 2))
    px = pm.page_to_photo(mm)
    assert np.isfinite(px).all()
    seen = ((px >= 0) & (px <= np.array(pm.size_px) - 1)).all(axis=1)
    assert seen.mean() > 0.8
    back = pm.photo_to_page(px[seen])
    # Points within a hair of the sheet's edge may come back as off the sheet.
    assert np.isfinite(back).all(axis=1).mean() > 0.999
    assert np.nanmax(np.abs(back - mm[seen])) < 1e-5
    again = pm.page_to_photo(back[np.isfinite(back).all(axis=1)])
    assert np.nanmax(np.abs(again - px[seen][np.isfinite(back).all(axis=1)])) < 1e-3


@pytest.mark.parametrize("name", SHAPES)
def test_no_part_of_the_sheet_hides_another(name: str) -> None:
    rng = np.random.default_rng(5)
    view = View(tilt_deg=35, azimuth_deg=200, roll_deg=-100, distance=1.0)
    pm = pixel_map(bend(SHAPES[name], SIZE_MM, rng), place(view, SIZE_MM, 1000))
    ex, ey = np.diff(pm.page_mm, axis=1)[:-1], np.diff(pm.page_mm, axis=0)[:, :-1]
    det = ex[..., 0] * ey[..., 1] - ex[..., 1] * ey[..., 0]
    assert (det[pm.on_sheet[:-1, :-1]] > 0).all()


def test_a_bent_sheet_keeps_its_lengths() -> None:
    """A cylinder is isometric: steps of 1 mm along the sheet stay 1 mm long in space."""
    surface = bend(PaperShape(curls=(Curl("roll", 90, 0.0, 0.6, 60),)), SIZE_MM, np.random.default_rng(0))
    step = np.diff(np.dstack([surface.shift_mm, surface.z_mm]), axis=1)[10:-10, 10:-10].astype(np.float64)
    length = np.sqrt((1 + step[..., 0]) ** 2 + step[..., 1] ** 2 + step[..., 2] ** 2)
    assert np.abs(length - 1).max() < 0.02
    assert np.ptp(surface.z_mm) > 20


def centroid(rgb: np.ndarray, at: F64, half: int) -> F64:
    """Centre of the dark dot near ``at``."""
    x0, y0 = np.round(at).astype(int) - half
    patch = rgb[y0 : y0 + 2 * half + 1, x0 : x0 + 2 * half + 1].astype(np.float64).mean(axis=2)
    border = np.concatenate([patch[0], patch[-1], patch[:, 0], patch[:, -1]])
    dark = np.clip(np.median(border) - patch - 25, 0, None)
    y, x = np.mgrid[: patch.shape[0], : patch.shape[1]]
    return np.array([(x * dark).sum(), (y * dark).sum()]) / dark.sum() + [x0, y0]


@pytest.mark.parametrize("name", SHAPES)
def test_printed_dots_are_found_where_the_map_says(name: str) -> None:
    rng = np.random.default_rng(11)
    dots = np.stack(np.meshgrid(np.arange(5, 236, 10.0), np.arange(5, 166, 10.0)), axis=-1).reshape(-1, 2)
    page = make_page(8.0, dots)
    view = View(window=(-0.05, -0.05, 1.05, 1.05), tilt_deg=12, azimuth_deg=70, roll_deg=8, k1=0.02)
    dev = Development(defocus_px=0.5, noise=1.5, sharpen=0.4, exposure=0.85, jpeg=92)
    shot = Shot("flat", 1600, view, SHAPES[name], Lighting(), dev, "wood")
    photo = photograph(page, shot, rng)
    px = photo.page_to_photo(dots)
    assert photo.sheet is not None
    h, w = photo.rgb.shape[:2]
    inside = ((px > 12) & (px < [w - 13, h - 13])).all(axis=1)
    assert inside.sum() > 200
    errors = np.array([np.hypot(*(centroid(photo.rgb, p, 7) - p)) for p in px[inside]])
    assert np.median(errors) < 0.1
    # A dot that a ridge runs through is no longer symmetric: its centroid isn't its centre.
    assert np.quantile(errors, 0.98) < 0.3


def test_sheet_holds_the_map_at_the_heavy_lines() -> None:
    page = make_page()
    photo = photograph(page, random_shot(np.random.default_rng(1), condition="crumpled"), np.random.default_rng(2))
    sheet = photo.sheet
    assert sheet is not None
    ny, nx = sheet.node_px.shape[:2]
    assert (sheet.x0_mm, sheet.y0_mm) == (0.0, 0.0)
    assert (ny, nx) == (35, 49)
    mm = np.stack(np.meshgrid(5.0 * np.arange(nx), 5.0 * np.arange(ny)), axis=-1)
    known = np.isfinite(sheet.node_px).all(axis=-1)
    assert known.any()
    assert np.abs(photo.page_to_photo(mm)[known] - sheet.node_px[known]).max() < 1e-3


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_condition_gives_a_photo_and_the_same_bytes_again(condition: str) -> None:
    page = make_page(6.0)
    for seed in range(3):
        shots = [random_shot(np.random.default_rng(seed), condition=condition, long_side_px=640) for _ in range(2)]
        assert shots[0] == shots[1]
        a, b = (photograph(page, shots[0], np.random.default_rng(seed)) for _ in range(2))
        assert a.condition == condition
        assert a.rgb.dtype == np.uint8
        assert max(a.rgb.shape) == 640
        np.testing.assert_array_equal(a.rgb, b.rgb)
        assert a.rgb.std() > 2


def test_screenshot_of_a_page_is_the_page() -> None:
    page = make_page(8.0)
    view = View(window=(0, 0, 1, 1), aspect=None, distance=40)
    shot = Shot("screenshot", 1920, view, development=Development(exposure=1.0, jpeg=0, shoulder=False))
    photo = photograph(page, shot, np.random.default_rng(0))
    assert photo.rgb.shape == page.rgb.shape
    np.testing.assert_allclose(photo.page_to_photo(np.array([10.0, 20.0])), [79.5, 159.5], atol=1e-3)
    assert np.abs(photo.rgb.astype(int) - page.rgb).mean() < 0.5


def test_maps_say_where_there_is_no_sheet() -> None:
    shot = random_shot(np.random.default_rng(4), condition="flat", long_side_px=640)
    photo = photograph(make_page(6.0), replace(shot, view=View()), np.random.default_rng(0))
    assert np.isnan(photo.page_to_photo(np.array([[-1.0, 5.0], [5.0, SIZE_MM[1] + 1]]))).all()
    assert np.isnan(photo.photo_to_page(np.array([[0.0, 0.0], [-5.0, 10.0]]))).all()
    assert np.isfinite(photo.photo_to_page(np.array([320.0, 240.0]))).all()


def test_upright_and_scale_are_obeyed() -> None:
    for seed in range(20):
        shot = random_shot(np.random.default_rng(seed), condition="flat", upright=True)
        assert abs(shot.view.roll_deg) <= 25
    shot = random_shot(np.random.default_rng(0), condition="flat", long_side_px=640, px_per_mm=6.0)
    photo = photograph(make_page(8.0), replace(shot, view=replace(shot.view, tilt_deg=0.0)), np.random.default_rng(0))
    px = photo.page_to_photo(np.array([[120.0, 85.0], [121.0, 85.0]]))
    assert 3 < np.hypot(*(px[1] - px[0])) < 9


def test_unknown_condition_is_named() -> None:
    with pytest.raises(ValueError, match="crumpled"):
        random_shot(np.random.default_rng(0), condition="soaked")


def test_scenes_have_no_page_and_repeat() -> None:
    for seed in range(6):
        a, b = (random_scene(np.random.default_rng(seed), 480) for _ in range(2))
        assert a.page is None
        assert a.sheet is None
        assert max(a.rgb.shape) == 480
        np.testing.assert_array_equal(a.rgb, b.rgb)
        assert np.isnan(a.photo_to_page(np.array([3.0, 4.0]))).all()
