"""Deflections that leave the decoder's window: seen at its edge, read in a taller one where that follows them."""

import numpy as np

from ecg.geometry import StripWindow
from ecg.marks import STRIP_COLUMNS, STRIP_ROWS
from ecg.page import LeadStrip
from edge_runtime.decoder import RowTrace, _beyond, at_edge, followed

WINDOW = StripWindow(0.0, 50.0, 28.0, 8.0, STRIP_COLUMNS, STRIP_ROWS)
X = WINDOW.columns_mm()


def row(y_mm):
    strip = LeadStrip("V2", 0, 2.0, 60.0, 50.0, 0.0, 10.0)
    ones = np.ones(len(X), np.float32)
    return RowTrace((strip,), X, np.asarray(y_mm, float), ones, ones)


def deep_wave(mm):
    return 50.0 + mm * np.exp(-(((X - 30.0) / 1.5) ** 2))


def test_only_columns_at_the_edge_are_suspected():
    assert not at_edge(row(deep_wave(20.0)), WINDOW).any()
    over = at_edge(row(np.minimum(deep_wave(36.0), 77.0)), WINDOW)
    assert over[np.abs(X - 30.0) < 0.8].all()
    assert not over[np.abs(X - 30.0) > 4.0].any()


def test_a_taller_window_is_believed_where_the_trace_goes_on():
    cut = row(np.minimum(deep_wave(36.0), 77.0))
    over = at_edge(cut, WINDOW)
    whole = followed(cut, row(deep_wave(36.0)), over, WINDOW)
    assert np.allclose(whole.y_mm, deep_wave(36.0), atol=1.0)
    lost = followed(cut, row(np.full(len(X), 30.0)), over, WINDOW)  # it took the row above
    assert np.array_equal(lost.y_mm, cut.y_mm)


def test_a_row_within_the_window_is_not_read_again():
    def never(_):
        raise AssertionError("read again")

    calm = row(deep_wave(20.0))
    assert _beyond(calm, WINDOW, never, never) is calm
    assert _beyond(row(deep_wave(-20.0)), WINDOW, never, never).y_mm.min() > 29


def test_tall_deflections_come_from_the_taller_window():
    tall_half, truth = 1.5 * WINDOW.half_height_mm, deep_wave(36.0)

    def sample(window):
        assert window.half_height_mm == tall_half
        return [np.zeros((STRIP_ROWS, STRIP_COLUMNS, 3), np.uint8)]

    def decoder(pixels):
        height = np.full((1, STRIP_ROWS // 2, STRIP_COLUMNS), -9.0, np.float32)
        bins = np.rint(((truth - 50.0 + tall_half) * STRIP_ROWS / (2 * tall_half) - 1) / 2).astype(int)
        height[0, bins, np.arange(STRIP_COLUMNS)] = 9.0
        return {"height": height, "presence": np.full((1, STRIP_COLUMNS), 5.0, np.float32)}

    got = _beyond(row(np.minimum(truth, 77.0)), WINDOW, sample, decoder)
    assert abs(got.y_mm.max() - truth.max()) < 0.5
