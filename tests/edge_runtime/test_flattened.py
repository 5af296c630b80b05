"""Bent paper looked at flattened, by a net that says where lines lie."""

from dataclasses import replace

import numpy as np
import pytest

from ecg.page import Mark, Photo, Sheet
from edge_runtime.flattened import FIRST_MM, looked_flat, stands_steep
from edge_runtime.lattice import RAD_PER_MM, Field

H, W = 60, 90
PX_PER_MM, CORNER_PX = 3.0, 40.0
X0_MM, Y0_MM = -10.0, 5.0


def field(mm: np.ndarray, lines_mm: float = 5.0) -> Field:
    return Field(mm.astype(np.float32), np.ones(mm.shape[:2], np.float32), 0.05, lines_mm)


def view_mm(beyond: float = 1.0) -> np.ndarray:
    """Page mm of a view's cells, the paper beyond column 60 ``beyond`` times as many mm a cell."""
    y, x = np.mgrid[0:H, 0:W].astype(float)
    return np.stack([1.2 * (x + (beyond - 1) * np.maximum(x - 60, 0)), 0.9 * y], axis=-1)


@pytest.mark.parametrize(("beyond", "steep"), [(1.0, False), (1.05, False), (1.5, True), (0.7, True)])
def test_paper_that_stands_steep_is_told_from_paper_that_lies_askew(beyond, steep):
    assert stands_steep(field(view_mm(beyond)), np.ones((H, W), np.float32)) is steep


def test_only_paper_with_traces_counts_and_only_heavy_lines():
    trace = np.zeros((H, W), np.float32)
    assert not stands_steep(field(view_mm(1.5)), trace)
    trace[:, :50] = 1
    assert not stands_steep(field(view_mm(1.5)), trace)
    assert not stands_steep(field(view_mm(1.5), lines_mm=1.0), np.ones((H, W), np.float32))


class Lines:
    """A net that sees the grid's lines ``off_mm`` beyond where a flattened sheet's lie."""

    def __init__(self, off_mm: tuple[float, float]) -> None:
        self.off_mm, self.seen = off_mm, 0

    def __call__(self, rgb: np.ndarray) -> dict[str, np.ndarray]:
        h, w = rgb.shape[2] // 4, rgb.shape[3] // 4
        x, y = X0_MM + FIRST_MM + np.arange(w)[None], Y0_MM + FIRST_MM + np.arange(h)[:, None]
        parts = []
        for mm, off in zip((x, y), self.off_mm, strict=True):
            phase = np.broadcast_to((mm + off) * RAD_PER_MM, (h, w))
            parts += [np.cos(phase), np.sin(phase)]
        self.seen += 1
        return {"grid": np.stack(parts)[None].astype(np.float32), "area": np.full((1, 2, h, w), 5.0, np.float32)}


def flat_sheet(nx: int = 17, ny: int = 13) -> Sheet:
    px = CORNER_PX + 5.0 * PX_PER_MM * np.stack(np.meshgrid(np.arange(nx), np.arange(ny)), axis=-1)
    return Sheet(px.astype(np.float32), X0_MM, Y0_MM, 0.05)


@pytest.mark.parametrize("off_mm", [(0.0, 0.0), (0.7, -0.4), (-1.3, 0.9)])
def test_nodes_cells_and_marks_move_to_where_the_lines_are_seen(off_mm):
    sheet, photo = flat_sheet(), Photo(np.full((320, 400, 3), 255, np.uint8))
    cells, mark = sheet.node_px / 3.0, Mark("start", 12.0, 20.0, 0.9)
    moved, moved_cells, (moved_mark,) = looked_flat(photo, sheet, cells, (mark,), Lines(off_mm))
    known = np.isfinite(moved.node_px[..., 0]) & (moved.node_px[..., 0] != sheet.node_px[..., 0])
    assert known.sum() > 100 or off_mm == (0.0, 0.0)
    inside = np.s_[2:-2, 2:-2]
    # What the sheet calls x lies at x + off: the node for x is that much nearer.
    assert np.allclose((moved.node_px - sheet.node_px)[inside], -PX_PER_MM * np.array(off_mm), atol=0.05)
    assert np.allclose((moved_cells - cells)[inside], -PX_PER_MM * np.array(off_mm) / 3.0, atol=0.05)
    assert (moved_mark.x_mm, moved_mark.y_mm) == pytest.approx((12.0 + off_mm[0], 20.0 + off_mm[1]), abs=0.02)


def test_unknown_nodes_stay_unknown():
    sheet, photo = flat_sheet(), Photo(np.full((320, 400, 3), 255, np.uint8))
    holes = sheet.node_px.copy()
    holes[:, 12:] = np.nan
    moved, _, _ = looked_flat(photo, replace(sheet, node_px=holes), holes, (), Lines((0.5, 0.2)))
    assert np.isnan(moved.node_px[:, 12:]).all()
    assert np.isfinite(moved.node_px[:, :11]).all()


def test_paper_of_too_many_px_is_not_looked_at_again():
    net, sheet = Lines((0.5, 0.5)), flat_sheet(140, 140)
    moved, _, _ = looked_flat(Photo(np.zeros((100, 100, 3), np.uint8)), sheet, sheet.node_px, (), net)
    assert net.seen == 0
    assert moved is sheet
