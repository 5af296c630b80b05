"""Other rows' traces as a window is told of them: where they run, as surely as they were read, strokes whole."""

from __future__ import annotations

import numpy as np

from ecg.geometry import StripWindow
from ecg.other_rows import LEAST_SURE, ReadTrace, as_told, drawn

WINDOW = StripWindow(10.0, 50.0, 14.0, 8.0, 128, 224)


def trace(y_mm: np.ndarray, sure: float = 1.0) -> ReadTrace:
    x = np.linspace(8.0, 30.0, len(y_mm))
    return ReadTrace(x, np.asarray(y_mm, np.float64), np.full(len(x), sure, np.float32))


def test_a_level_trace_is_a_line_at_its_height() -> None:
    plane = drawn(WINDOW, [trace(np.full(200, 55.0))])
    assert plane.shape == (224, 128)
    centre = (plane * np.arange(224.0)[:, None]).sum(axis=0) / plane.sum(axis=0)
    assert np.allclose(centre, WINDOW.row_of(np.array(55.0)), atol=0.05)
    assert (plane.max(axis=0) == 255).all()
    assert 1 <= (plane > 0).sum(axis=0).max() <= 4


def test_a_steep_stroke_has_no_gaps() -> None:
    y = np.where(np.arange(400) < 200, 45.0, 55.0)
    plane = drawn(WINDOW, [trace(y)])
    rows = np.flatnonzero(plane.max(axis=1) > 250)
    low, high = WINDOW.row_of(np.array([45.0, 55.0]))
    assert np.array_equal(rows, np.arange(rows[0], rows[-1] + 1))
    assert abs(rows[0] - low) < 1.5
    assert abs(rows[-1] - high) < 1.5


def test_as_sure_as_it_was_read_and_nothing_where_it_was_not() -> None:
    assert abs(int(drawn(WINDOW, [trace(np.full(200, 50.0), 0.5)]).max()) - 128) <= 1
    assert not drawn(WINDOW, [trace(np.full(200, 50.0), LEAST_SURE / 2)]).any()
    assert not drawn(WINDOW, [trace(np.full(200, 90.0))]).any()  # beyond the window
    assert not drawn(WINDOW, []).any()
    short = ReadTrace(np.array([12.0, 14.0]), np.array([50.0, 50.0]), np.ones(2, np.float32))
    seen = np.flatnonzero(drawn(WINDOW, [short]).any(axis=0))
    assert 15 <= seen[0] <= 17
    assert 30 <= seen[-1] <= 32


def test_told_as_a_fourth_colour() -> None:
    told = as_told(np.arange(256, dtype=np.uint8))
    assert told.dtype == np.uint8
    assert (told[0], told[255]) == (128, 255)  # on the colours' scale (v / 64 - 2) nothing is 0
    assert (np.diff(told.astype(int)) >= 0).all()
