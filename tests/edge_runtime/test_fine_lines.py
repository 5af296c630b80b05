"""The lattice of paper whose 1 mm lines are all alike, against bent sheets whose millimetres are known."""

import cv2
import numpy as np
import pytest

from ecg.geometry import VIEW_PX_PER_MM
from edge_runtime.fine_lines import box_share, fine_field, paper_lines

H, W = 90, 150  # cells


def view_of(mm: np.ndarray, heavy: float = 1.0, noise: float = 3.0, seed: int = 0, light: float = 1.0) -> np.ndarray:
    """A view (4 H, 4 W, 3) of lines at whole millimetres of ``mm`` (4 H, 4 W, 2), every fifth ``heavy`` times as
    dark and the others ``light`` times, with a trace across them."""
    rng = np.random.default_rng(seed)
    dark = np.zeros(mm.shape[:2])
    for axis in (0, 1):
        off = np.abs(mm[..., axis] - np.rint(mm[..., axis]))
        strength = np.where(np.rint(mm[..., axis]) % 5 == 0, heavy, light)
        dark = np.maximum(dark, 40 * strength * np.clip(1.2 - 4 * off, 0, 1))
    trace = np.abs(mm[..., 1] - 45 - 6 * np.sin(mm[..., 0] / 3)) < 0.3
    grey = np.where(trace, 30, 225 - dark) + rng.normal(0, noise, dark.shape)
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def sheet(seed: int, size: float = 1.04, turn_deg: float = 3.0) -> np.ndarray:
    """Page mm (4 H, 4 W, 2) of a view of bent paper, its size and turn misjudged."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 4 * H, 0 : 4 * W] / VIEW_PX_PER_MM
    a = np.radians(turn_deg)
    mm = size * np.stack([np.cos(a) * x - np.sin(a) * y, np.sin(a) * x + np.cos(a) * y], -1)
    return mm + cv2.resize(rng.normal(0, 0.5, (4, 6, 2)), (4 * W, 4 * H), interpolation=cv2.INTER_CUBIC)


def cells(mm: np.ndarray) -> np.ndarray:
    """At the middles of the cells (H, W, 2)."""
    return mm.reshape(H, 4, W, 4, 2).mean(axis=(1, 3))


def traced(mm: np.ndarray) -> np.ndarray:
    at = cells(mm)
    return (np.abs(at[..., 1] - 45 - 6 * np.sin(at[..., 0] / 3)) < 1.0).astype(np.float32)


@pytest.mark.parametrize(("seed", "size", "turn_deg"), [(1, 1.04, 3.0), (2, 0.93, -6.0), (3, 1.0, 0.0)])
def test_millimetres_are_right_up_to_a_whole_number(seed, size, turn_deg):
    mm = sheet(seed, size, turn_deg)
    paper = np.ones((H, W), np.float32)
    field = fine_field(paper_lines(view_of(mm), paper, traced(mm)), paper)
    assert field is not None
    assert field.lines_mm == 1.0
    assert field.residual_mm < 0.05
    off = (field.mm - cells(mm))[5:-5, 5:-5]
    whole = np.median(off, axis=(0, 1))
    assert np.allclose(whole, np.rint(whole), atol=0.03)
    assert np.quantile(np.abs(off - np.rint(whole)), 0.95) < 0.1


@pytest.mark.parametrize(("size", "apart"), [(0.6, 3), (0.8, 4), (0.4, 2)])
def test_lines_of_boxes_shown_too_small_are_no_1_mm_lines(size, apart):
    """Five millimetres that the view shows as two to four are a comb that a wave of one millimetre fits as well."""
    mm = sheet(1, 1 / size, 0.5)
    view, paper, trace = view_of(mm, light=0.0), np.ones((H, W), np.float32), traced(mm)
    lines = paper_lines(view, paper, trace)
    assert lines.apart == apart
    assert fine_field(lines, paper) is None
    even = sheet(1, 1.0, 0.5)
    assert paper_lines(view_of(even), paper, traced(even)).apart == 1
    assert paper_lines(view_of(even, heavy=2.0), paper, traced(even)).apart == 1


def test_bare_paper_and_noise_show_no_lines():
    rng = np.random.default_rng(0)
    noise = np.repeat(rng.normal(200, 25, (4 * H, 4 * W, 1)).clip(0, 255).astype(np.uint8), 3, axis=2)
    paper = np.ones((H, W), np.float32)
    none = np.zeros_like(paper)
    assert fine_field(paper_lines(noise, paper, none), paper) is None
    assert fine_field(paper_lines(np.full((4 * H, 4 * W, 3), 230, np.uint8), paper, none), paper) is None
    assert fine_field(paper_lines(noise, none, none), none) is None


def test_phases_of_boxes_agree_with_heavier_lines_and_guesses_do_not():
    mm = sheet(4)
    paper = np.ones((H, W), np.float32)
    field = fine_field(paper_lines(view_of(mm, heavy=2.0), paper, traced(mm)), paper)
    assert field is not None
    phase = 2 * np.pi * cells(mm) / 5
    grid = np.stack([f(phase[..., k]) for k in (0, 1) for f in (np.cos, np.sin)]).astype(np.float32)
    assert box_share(grid, field) > 0.95
    rng = np.random.default_rng(5)
    slips = cv2.resize(rng.integers(0, 5, (9, 15, 2)).astype(np.float32), (W, H), interpolation=cv2.INTER_NEAREST)
    phase = 2 * np.pi * (cells(mm) + slips) / 5
    grid = np.stack([f(phase[..., k]) for k in (0, 1) for f in (np.cos, np.sin)]).astype(np.float32)
    assert box_share(grid, field) < 0.45
