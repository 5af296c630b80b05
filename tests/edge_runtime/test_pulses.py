"""Calibration pulses told by their shape in the photo."""

import numpy as np
import pytest

from ecg.page import Mark, Photo, Sheet
from edge_runtime.pulses import SURE, looked_at

PX = 10.0
LEFT, FOOT = 30.0, 60.0  # page mm of a pulse's left stroke and of its feet


def paper() -> np.ndarray:
    rgb = np.full((1000, 1000, 3), (250, 235, 225), np.uint8)
    for k in range(0, 1000, 50):
        rgb[:, k : k + 2] = rgb[k : k + 2] = (240, 150, 140)
    return rgb


def draw(rgb: np.ndarray, x0: float, y0: float, x1: float, y1: float, ink: int = 20, pen: float = 0.3) -> None:
    a, b, c, d = (round(v * PX) for v in (x0 - pen / 2, x1 + pen / 2, y0 - pen / 2, y1 + pen / 2))
    rgb[c:d, a:b] = ink


def pulse(rgb: np.ndarray, width: float, height: float) -> None:
    draw(rgb, LEFT, FOOT - height, LEFT, FOOT)
    draw(rgb, LEFT + width, FOOT - height, LEFT + width, FOOT)
    draw(rgb, LEFT, FOOT - height, LEFT + width, FOOT - height)
    draw(rgb, LEFT + width, FOOT, LEFT + 40, FOOT)  # the trace


def mark(width: float, height: float, score: float = 0.5) -> Mark:
    return Mark("pulse", LEFT + width / 2, FOOT - height / 2, score, width, height)


def sheet() -> Sheet:
    x, y = np.meshgrid(np.arange(0, 101, 5.0), np.arange(0, 101, 5.0))
    return Sheet((np.stack([x, y], -1) * PX - 0.5).astype(np.float32))


@pytest.mark.parametrize(("width", "height"), [(5.0, 10.0), (5.0, 20.0), (10.0, 5.0), (10.0, 10.0)])
def test_what_has_a_pulse_s_shape_is_one_of_the_size_seen(width, height):
    rgb = paper()
    pulse(rgb, width, height)
    (seen,) = looked_at(Photo(rgb), sheet(), [mark(width + 0.6, height - 0.7)])
    assert seen.score == SURE
    assert seen.width_mm == pytest.approx(width, abs=0.15)
    assert seen.height_mm == pytest.approx(height, abs=0.2)
    assert seen.x_mm == pytest.approx(LEFT + width / 2, abs=0.15)


def test_faint_upright_strokes_are_strokes():
    rgb = paper()
    pulse(rgb, 5.0, 10.0)
    for x in (LEFT, LEFT + 5.0):
        draw(rgb, x, FOOT - 9.5, x, FOOT - 0.5, ink=150)
    (seen,) = looked_at(Photo(rgb), sheet(), [mark(5.0, 10.0)])
    assert seen.score == SURE


def _nothing(rgb: np.ndarray) -> None:
    pass


def _one_stroke(rgb: np.ndarray) -> None:
    draw(rgb, LEFT, FOOT - 10, LEFT, FOOT)
    draw(rgb, LEFT, FOOT - 10, LEFT + 5, FOOT - 10)


def _no_top(rgb: np.ndarray) -> None:
    for x in (LEFT, LEFT + 5):
        draw(rgb, x, FOOT - 10, x, FOOT)


def _filled(rgb: np.ndarray) -> None:
    draw(rgb, LEFT, FOOT - 10, LEFT + 5, FOOT)


def _strokes_that_go_on(rgb: np.ndarray) -> None:
    pulse(rgb, 5.0, 10.0)
    for x in (LEFT, LEFT + 5):
        draw(rgb, x, FOOT - 20, x, FOOT)


def _another_size(rgb: np.ndarray) -> None:
    pulse(rgb, 7.0, 10.0)


@pytest.mark.parametrize("drawn", [_nothing, _one_stroke, _no_top, _filled, _strokes_that_go_on, _another_size])
def test_of_what_has_not_nothing_is_said(drawn):
    rgb = paper()
    drawn(rgb)
    said = mark(7.0 if drawn is _another_size else 5.0, 10.0)
    assert looked_at(Photo(rgb), sheet(), [said]) == (said,)


def test_other_marks_faint_ones_and_those_off_the_paper_stay_as_they_are():
    rgb = paper()
    pulse(rgb, 5.0, 10.0)
    tiny = Mark("pulse", 32.0, 55.0, 0.5, 0.4, 0.3)
    marks = (Mark("start", 35.0, 60.0, 0.9), mark(5.0, 10.0, 0.1), Mark("pulse", 2.0, 3.0, 0.8, 5.0, 10.0), tiny)
    assert looked_at(Photo(rgb), sheet(), marks) == marks
