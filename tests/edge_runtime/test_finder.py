"""The finder's geometry with a fine net that knows the truth: the probe, and what stands in for a grid."""

from dataclasses import replace

import numpy as np
import pytest

from ecg.geometry import VIEW_PX_PER_MM, View, view_around
from ecg.marks import FINE_STRIDE, MARK_KINDS, READ_KINDS
from ecg.page import Mark, Photo
from edge_runtime import far_texts, finder
from edge_runtime.coarse import folded
from edge_runtime.far_texts import texts_beyond
from edge_runtime.finder import Maps, Pose, _straightened, _told
from edge_runtime.lattice import RAD_PER_MM
from edge_runtime.mark_reader import Places

PX_PER_MM, TURN = 8.0, np.radians(13.0)
PHOTO = Photo(np.zeros((1600, 2400, 3), np.uint8))
CORNERS = np.array([[300.0, 200.0], [2100.0, 200.0], [300.0, 1400.0], [2100.0, 1400.0]])


def true_maps(photo: Photo, view: View, fine: object, seen: float = 1.0) -> Maps:
    """What a perfect fine finder would say of a page at ``PX_PER_MM``, turned by ``TURN``."""
    h, w = view.height // FINE_STRIDE, view.width // FINE_STRIDE
    cells = np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1) * FINE_STRIDE + (FINE_STRIDE - 1) / 2
    mm = View(40.0, -30.0, PX_PER_MM, TURN, 1, 1).from_photo(view.to_photo(cells)) * RAD_PER_MM
    grid = seen * np.stack([np.cos(mm[..., 0]), np.sin(mm[..., 0]), np.cos(mm[..., 1]), np.sin(mm[..., 1])])
    ones = np.ones((h, w), np.float32)
    return Maps(view, grid.astype(np.float32), ones, ones, np.zeros((len(MARK_KINDS), h, w)), np.zeros((6, h, w)))


def pose(off_scale: float, off_turn: float) -> Pose:
    px_per_mm, angle = PX_PER_MM * off_scale, TURN + off_turn
    return Pose(px_per_mm, angle, 0.9, 0.9, view_around(CORNERS, px_per_mm, angle, 10.0), CORNERS, CORNERS)


@pytest.mark.parametrize(("off_scale", "off_turn"), [(1.0, 0.2), (0.9, -0.25), (1.12, 0.05), (1.3, 0.3)])
def test_the_probe_tells_scale_and_turn(monkeypatch, off_scale, off_turn):
    monkeypatch.setattr(finder, "fine_maps", true_maps)
    got = _straightened(PHOTO, pose(off_scale, off_turn), None)
    assert abs(got.px_per_mm / PX_PER_MM - 1) < 0.01
    assert abs(got.angle_rad - TURN) < np.radians(0.5)
    inside = got.view.from_photo(CORNERS)
    assert (inside >= 0).all()
    assert (inside <= [got.view.width, got.view.height]).all()


def test_the_probe_leaves_a_good_pose_and_a_page_without_grid_alone(monkeypatch):
    monkeypatch.setattr(finder, "fine_maps", true_maps)
    good = pose(1.01, 0.01)
    assert _straightened(PHOTO, good, None) is good
    monkeypatch.setattr(finder, "fine_maps", lambda *a: true_maps(*a, seen=0.1))
    off = pose(1.2, 0.2)
    assert _straightened(PHOTO, off, None) is off


def test_a_second_look_that_shows_no_grid_changes_nothing(monkeypatch):
    """Maps and lattice always belong to one view: the second one has another size."""
    monkeypatch.setattr(finder, "fine_maps", true_maps)
    off = pose(0.8, 0.0)
    maps = true_maps(PHOTO, off.view, None)
    field = finder.unwrap_grid(maps.grid, maps.paper)
    assert field is not None
    closer = finder._second_look(PHOTO, off, maps, field, None)
    assert abs(closer[0].px_per_mm / PX_PER_MM - 1) < 0.01
    assert closer[2].mm.shape[:2] == closer[1].paper.shape
    assert closer[1].paper.shape != maps.paper.shape
    monkeypatch.setattr(finder, "unwrap_grid", lambda grid, paper: None)
    kept = finder._second_look(PHOTO, off, maps, field, None)
    assert all(a is b for a, b in zip(kept, (off, maps, field), strict=True))


def test_texts_are_looked_for_below_the_view_and_then_above_it(monkeypatch):
    """A page of 340 x 290 mm, its traces in the middle 130 mm: the bands hold the rest, and nothing twice but 4 mm."""
    seen = pose(1.0, 0.0)
    turn = View(0.0, 0.0, PX_PER_MM / 4, TURN, 1, 1)
    edge = turn.from_photo(seen.view.to_photo(np.array([[0.0, 0.0], [seen.view.width, seen.view.height]])))
    paper = turn.to_photo(np.array([[edge[0, 0], edge[0, 1] - 200], [edge[1, 0], edge[1, 1] + 120]]))
    (below, down_mm), (above, top_mm) = far_texts._bands_beyond(replace(seen, paper_px=paper))
    assert below.height == pytest.approx(120 + 16, abs=2)
    assert above.height == pytest.approx(200 + 16, abs=2)
    assert top_mm == 0
    assert down_mm == pytest.approx((200 + seen.view.height - 16) / 4, abs=0.5)
    assert below.from_photo(paper[1:])[0] == pytest.approx([below.width, below.height], abs=2)
    assert far_texts._bands_beyond(seen) == []

    looked = []
    monkeypatch.setattr(
        far_texts, "fine_maps", lambda photo, view, fine: looked.append(view) or true_maps(photo, view, None)
    )
    monkeypatch.setattr(far_texts, "read_places", lambda *a: None)
    monkeypatch.setattr(
        far_texts, "read_marks", lambda *a: (Mark("speed:50", 5.0, 3.0, score), Mark("lead:I", 0, 0, 1))
    )
    wide, score = replace(seen, paper_px=paper), 0.95
    assert texts_beyond(PHOTO, wide, None, None) == (Mark("speed:50", 5.0, 3.0 + down_mm, 0.95),)
    score = 0.5
    assert len(texts_beyond(PHOTO, wide, None, None)) == 2
    assert len(looked) == 3


def test_names_texts_and_pulses_count_once_a_kind_and_ends_not_at_all():
    marks = [Mark("lead:III", 0, 0, 0.6), Mark("lead:III", 9, 9, 0.5), Mark("pulse", 0, 0, 0.3), Mark("start", 0, 0, 1)]
    assert _told(tuple(marks)) == pytest.approx(0.9)


@pytest.mark.parametrize("upright", [False, True])
def test_a_long_strip_is_folded_and_its_points_find_back(upright):
    rgb = np.zeros((100, 1600, 3), np.uint8)
    rgb[40:44, 1210:1214] = 255
    photo = Photo(np.ascontiguousarray(rgb.transpose(1, 0, 2)) if upright else rgb)
    strip = folded(photo)
    assert strip.pieces == 3
    assert max(strip.photo.rgb.shape[:2]) / min(strip.photo.rgb.shape[:2]) < 2
    y, x = (float(v.mean()) for v in np.nonzero(strip.photo.rgb[..., 0]))
    back = strip.unfolded(np.array([[x, y]]), np.array([[x, y]]))[0]
    assert back == pytest.approx([41.5, 1211.5] if upright else [1211.5, 41.5])
    # A cell's corner that touches the next piece still belongs to its own.
    corner = np.array([[100.0, 100.0], [100.0, 200.0]])
    middles = np.array([[90.0, 90.0], [90.0, 190.0]])
    flip = slice(None, None, -1) if upright else slice(None)
    found = strip.unfolded(corner[:, flip], middles[:, flip])[:, flip]
    assert found == pytest.approx(np.array([[100.0, 100.0], [100.0 + strip.length_px, 100.0]]))


def test_pages_of_usual_shape_stay_whole():
    photo = Photo(np.zeros((300, 1500, 3), np.uint8))
    assert folded(photo).photo is photo
    points = np.array([[1499.0, 299.0]])
    assert folded(photo).unfolded(points, points) == pytest.approx(points)


@pytest.mark.parametrize("off_scale", [0.44, 0.6, 1.65])
def test_where_no_grid_shows_other_sizes_are_tried(monkeypatch, off_scale):
    """A net that sees the grid only where a millimetre is about as large as it learnt."""

    def maps_of(photo: Photo, view: View, fine: object) -> Maps:
        right = abs(np.log(view.scale * VIEW_PX_PER_MM / PX_PER_MM)) < 0.15
        return true_maps(photo, view, fine, seen=1.0 if right else 0.1)

    monkeypatch.setattr(finder, "fine_maps", maps_of)
    off = pose(off_scale, 0.0)
    maps, best, _ = finder._best_size(PHOTO, maps_of(PHOTO, off.view, None), off, None, None, None)
    assert best.px_per_mm == pytest.approx(PX_PER_MM, rel=0.15)
    assert maps.view.scale * VIEW_PX_PER_MM == pytest.approx(PX_PER_MM, rel=0.15)


def test_a_speed_that_is_surely_read_needs_no_far_texts():
    def places(probability):
        row = np.zeros((1, len(READ_KINDS)), np.float32)
        row[0, READ_KINDS.index("speed:25")] = probability
        return Places(np.zeros((1, 2)), row)

    assert far_texts.reads_speed(places(0.95))
    assert not far_texts.reads_speed(places(0.6))
    assert not far_texts.reads_speed(Places(np.zeros((0, 2)), np.zeros((0, len(READ_KINDS)), np.float32)))
