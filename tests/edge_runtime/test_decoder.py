"""The decoder's windows: low for low traces, taller where a deflection reaches their edge."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from ecg.geometry import StripWindow
from ecg.marks import STRIP_COLUMNS, STRIP_LEAST_HALF_MM, STRIP_ROWS, strip_half_height_mm
from ecg.other_rows import ReadTrace
from ecg.page import LeadStrip, PageLayout, Photo, Sheet, TraceMap
from edge_runtime.decoder import Look, Strips, Tile, at_edge, decode_rows, followed, joined, settled, within
from edge_runtime.decoder_windows import (
    AFTER_MM,
    COLUMNS_STEP,
    LEAST_COLUMNS,
    MARGIN_MM,
    rows_of,
    tile_windows,
    usual_half_mm,
)
from edge_runtime.layout_evidence import find_ink

WINDOW = StripWindow(0.0, 50.0, 28.0, 8.0, STRIP_COLUMNS, STRIP_ROWS)
X = WINDOW.columns_mm()


def tile(y_mm, window=WINDOW):
    ones = np.ones(len(X), np.float32)
    return Tile(window, np.asarray(y_mm, float), ones, ones)


def deep_wave(mm):
    return 50.0 + mm * np.exp(-(((X - 30.0) / 1.5) ** 2))


def seen_through(window, truth):
    """What a perfect reader gives of a trace in a window: it stops at the edge."""
    most = window.half_height_mm - 0.5
    return tile(np.clip(truth, window.y_centre_mm - most, window.y_centre_mm + most), window)


def test_only_columns_at_the_edge_are_suspected():
    assert not at_edge(tile(deep_wave(20.0))).any()
    over = at_edge(tile(np.minimum(deep_wave(36.0), 77.0)))
    assert over[np.abs(X - 30.0) < 0.8].all()
    assert not over[np.abs(X - 30.0) > 4.0].any()


def test_a_taller_window_is_believed_where_the_trace_goes_on():
    cut = tile(np.minimum(deep_wave(36.0), 77.0))
    over = at_edge(cut)
    whole = followed(cut, tile(deep_wave(36.0)), over)
    assert np.allclose(whole.y_mm, deep_wave(36.0), atol=1.0)
    lost = followed(cut, tile(np.full(len(X), 30.0)), over)  # it took the row above
    assert np.array_equal(lost.y_mm, cut.y_mm)


def test_a_tile_within_its_window_is_not_read_again():
    def never(_):
        raise AssertionError("read again")

    calm = tile(deep_wave(20.0))
    look = Look(WINDOW, 28.0)
    assert settled([look], [calm], never) == [calm]
    assert settled([look], [tile(deep_wave(-20.0))], never)[0].y_mm.min() > 29


def test_tall_deflections_come_from_taller_windows_one_after_the_other():
    truth, asked = deep_wave(36.0), []

    def read(looks):
        asked.append([k.window.half_height_mm for k in looks])
        return [seen_through(k.window, truth) for k in looks]

    low, usual = (replace(WINDOW, half_height_mm=half) for half in (12.0, 28.0))
    looks = [Look(low, 28.0), Look(replace(WINDOW, half_height_mm=60.0), 28.0), Look(usual, 28.0)]
    got = settled(looks, [seen_through(k.window, truth) for k in looks], read)
    assert asked == [[28.0, 42.0], [42.0]]
    assert all(np.abs(t.y_mm - truth).max() < 0.6 for t in got)


def ink_of(rows_mm, waves_mm):
    """A trace map with one trace a row, each with one wave of so many mm up, 60 mm from the left."""
    density = np.zeros((120, 160), np.float32)
    for y, wave in zip(rows_mm, waves_mm, strict=True):
        density[round(y), 10:150] = 1.0
        density[round(y - wave) : round(y) + 1, 60] = 1.0
    return find_ink(TraceMap(density, np.ones(density.shape, bool), 0.0, 0.0))


def page_of(rows_mm):
    strips = (LeadStrip(lead, k, 10.0, 150.0, rows_mm[k], 0.0, 10.0) for k, lead in enumerate(("I", "II")))
    return PageLayout("partial", 25.0, 10.0, tuple(strips))


def test_low_traces_get_low_windows_and_waves_room():
    rows = (40.0, 80.0)
    layout = page_of(rows)
    calm, tall = tile_windows(rows_of(layout), layout, ink_of(rows, (3.0, 18.0)))
    assert {w.half_height_mm for w in calm} == {STRIP_LEAST_HALF_MM}
    assert max(w.half_height_mm for w in tall) == 18.0 + MARGIN_MM
    assert tall[-1].half_height_mm == STRIP_LEAST_HALF_MM  # the wave stands in the first tile
    assert all(w.y_centre_mm == 80.0 for w in tall)


def test_traces_that_run_into_each_other_get_the_whole_window():
    rows = (40.0, 60.0)
    layout = page_of(rows)
    windows = tile_windows(rows_of(layout), layout, ink_of(rows, (3.0, 30.0)))
    usual = usual_half_mm(layout.strips[:1], layout)
    assert usual == strip_half_height_mm(10.0)
    assert windows[1][0].half_height_mm == usual
    assert windows[0][0].half_height_mm >= 20.0 + MARGIN_MM  # the lower wave may be the upper row's


def test_a_row_that_leaves_its_baseline_for_long_gets_the_usual_window():
    density = np.zeros((120, 160), np.float32)
    density[40, 10:60] = density[20, 60:150] = density[80, 10:150] = 1.0
    ink = find_ink(TraceMap(density, np.ones(density.shape, bool), 0.0, 0.0))
    layout = page_of((40.0, 80.0))
    wanders, calm = tile_windows(rows_of(layout), layout, ink)
    assert wanders[0].half_height_mm == 20.0 + MARGIN_MM  # no other row is nearer to what it wanders to
    assert calm[0].half_height_mm == STRIP_LEAST_HALF_MM
    density[20, 60:150] = 0.0
    assert ink is not None
    bare = tile_windows(rows_of(layout), layout, find_ink(TraceMap(density, np.ones(density.shape, bool), 0.0, 0.0)))
    assert bare[0][1].half_height_mm == strip_half_height_mm(10.0)


def test_rows_of_several_columns_keep_the_usual_window():
    layout = page_of((40.0, 80.0))
    two = (replace(layout.strips[0], x1_mm=80.0), replace(layout.strips[0], lead="aVR", x0_mm=80.0), layout.strips[1])
    layout = replace(layout, strips=two)
    columns, calm = tile_windows(rows_of(layout), layout, ink_of((40.0, 80.0), (3.0, 3.0)))
    assert {w.half_height_mm for w in columns} == {strip_half_height_mm(10.0)}
    assert {w.half_height_mm for w in calm} == {STRIP_LEAST_HALF_MM}


def test_without_ink_every_window_is_the_usual_one():
    layout = page_of((40.0, 80.0))
    windows = tile_windows(rows_of(layout), layout, None)
    assert {w.half_height_mm for row in windows for w in row} == {strip_half_height_mm(10.0)}
    step = windows[0][1].x0_mm - windows[0][0].x0_mm
    assert step * windows[0][0].px_per_mm_x == STRIP_COLUMNS - 96


@pytest.mark.parametrize("length_mm", [3.0, 40.0, 52.1, 100.0, 240.0])
def test_a_rows_last_tile_ends_where_the_row_does(length_mm):
    layout = page_of((40.0, 80.0))
    layout = replace(layout, strips=(replace(layout.strips[0], x1_mm=layout.strips[0].x0_mm + length_mm),))
    (windows,) = tile_windows(rows_of(layout), layout, None)
    *others, last = windows
    end_mm = last.x0_mm + last.n_columns / last.px_per_mm_x
    beyond_mm = end_mm - (layout.strips[0].x1_mm + AFTER_MM)
    assert {w.n_columns for w in others} <= {STRIP_COLUMNS}
    assert last.n_columns % COLUMNS_STEP == 0
    assert beyond_mm >= -1e-6
    assert last.n_columns == LEAST_COLUMNS or beyond_mm < COLUMNS_STEP / last.px_per_mm_x


def test_rows_on_one_line_are_read_each():
    """Two strips taken for the same line share a window: both get its trace."""
    nodes = np.stack(np.meshgrid(np.arange(45) * 20.0, np.arange(25) * 20.0), -1).astype(np.float32)

    def decoder(pixels):
        n, columns = pixels.shape[0], pixels.shape[3]
        return {"height": np.zeros((n, STRIP_ROWS // 2, columns), np.float32), "presence": np.zeros((n, columns))}

    photo = Photo(np.full((480, 880, 3), 200, np.uint8))
    rows = decode_rows(photo, Sheet(nodes), page_of((60.0, 60.0)), decoder)
    assert [r.strips[0].lead for r in rows] == ["I", "II"]
    assert np.array_equal(rows[0].x_mm, rows[1].x_mm)


class Lines:
    """A decoder that puts every trace at one height of its window, and keeps what it was shown of other rows."""

    def __init__(self, row: int) -> None:
        self.row = row
        self.told: list[np.ndarray] = []

    def __call__(self, strips):
        assert strips.shape[1:3] == (4, STRIP_ROWS)
        columns = strips.shape[3]
        assert columns % 32 == 0
        self.told += list(strips[:, 3].astype(int) - 128)  # 128: none
        height = np.zeros((len(strips), STRIP_ROWS // 2, columns), np.float32)
        height[:, self.row // 2] = 40.0
        return {"height": height, "presence": np.full((len(strips), columns), 9.0, np.float32)}


def test_rows_that_meet_are_read_again_and_told_of_each_other():
    nodes = np.stack(np.meshgrid(np.arange(45) * 20.0, np.arange(25) * 20.0), -1).astype(np.float32)
    photo, sheet = Photo(np.full((480, 880, 3), 200, np.uint8)), Sheet(nodes)
    decoder = Lines(STRIP_ROWS // 2)
    rows = decode_rows(photo, sheet, page_of((50.0, 51.5)), decoder)
    first = len(decoder.told) // 2
    assert not any(plane.any() for plane in decoder.told[:first])
    assert all(plane.any() for plane in decoder.told[first:])
    # The lower row is 1.5 mm below: the upper one's window shows it below the middle, and the other way round.
    at = [np.flatnonzero(plane.max(axis=1)).mean() for plane in decoder.told[first:]]
    per_mm = STRIP_ROWS / (2 * strip_half_height_mm(10.0))
    tiles = first // 2
    assert np.allclose(at[:tiles], STRIP_ROWS / 2 + 1.5 * per_mm, atol=1.5)
    assert np.allclose(at[tiles:], STRIP_ROWS / 2 - 1.5 * per_mm, atol=1.5)
    assert [round(r.centre_mm, 1) for r in rows] == [50.0, 51.5]


def test_rows_apart_are_read_once():
    nodes = np.stack(np.meshgrid(np.arange(45) * 20.0, np.arange(25) * 20.0), -1).astype(np.float32)
    decoder = Lines(STRIP_ROWS // 2)
    decode_rows(Photo(np.full((480, 880, 3), 200, np.uint8)), Sheet(nodes), page_of((40.0, 60.0)), decoder)
    assert decoder.told
    assert not any(plane.any() for plane in decoder.told)


class Darkest:
    """A decoder that takes the darkest row of each column."""

    def __init__(self, calls_at_once: int) -> None:
        self.calls_at_once, self.widths = calls_at_once, []

    def __call__(self, strips):
        self.widths.append(strips.shape[3])
        height = -strips[:, :3].mean(axis=1)[:, ::2].astype(np.float32)
        return {"height": height, "presence": np.full(height.shape[::2], 9.0, np.float32)}


def test_tiles_read_side_by_side_are_those_read_one_after_the_other():
    nodes = np.stack(np.meshgrid(np.arange(45) * 20.0, np.arange(25) * 20.0), -1).astype(np.float32)
    rgb = np.random.default_rng(3).integers(0, 255, (480, 880, 3), dtype=np.uint8)
    one, two = Darkest(1), Darkest(2)
    read = [decode_rows(Photo(rgb), Sheet(nodes), page_of((50.0, 51.5)), net) for net in (one, two)]
    for a, b in zip(*read, strict=True):
        assert np.array_equal(a.y_mm, b.y_mm)


def test_tiles_of_a_row_are_read_at_once_and_give_what_each_alone_gives():
    nodes = np.stack(np.meshgrid(np.arange(100) * 20.0, np.arange(25) * 20.0), -1).astype(np.float32)
    rgb = cv2.GaussianBlur(np.random.default_rng(4).integers(0, 255, (480, 1980, 3), dtype=np.uint8), (0, 0), 2)
    windows = [StripWindow(5.0 + k * (STRIP_COLUMNS - 96) / 8.0, 50.0, 28.0, 8.0, STRIP_COLUMNS, STRIP_ROWS)
               for k in range(8)]  # fmt: skip
    looks = [Look(w, 28.0) for w in windows]
    net = Darkest(1)
    strips = Strips(Photo(rgb), Sheet(nodes), windows, net)
    together = strips.read(looks)
    assert net.widths == 4 * [2 * STRIP_COLUMNS - 96]
    for look, tile in zip(looks, together, strict=True):
        (alone,) = strips.read([look])
        assert tile.window == alone.window == look.window
        # Where pixels are sampled differs by what sums in another order round off.
        assert np.quantile(np.abs(tile.y_mm - alone.y_mm), 0.8) < 0.01


def test_only_windows_that_go_on_are_joined():
    def look(x0_mm: float, half_mm: float = 28.0, others: tuple = ()) -> Look:
        return Look(StripWindow(x0_mm, 50.0, half_mm, 8.0, STRIP_COLUMNS, STRIP_ROWS), 28.0, others)

    told = (ReadTrace(np.arange(2.0), np.zeros(2), np.ones(2, np.float32)),)
    a, b, c = look(0.0), look(52.0), look(104.0)
    assert [list(s) for s in joined([a, b, c], 3)] == [[a, b, c]]
    assert [list(s) for s in joined([a, b, c], 2)] == [[a, b], [c]]
    assert [list(s) for s in joined([a, b, c], 0)] == [[a], [b], [c]]
    for other in (look(60.0), look(52.0, 20.0), look(52.0, others=told), a):
        assert [len(s) for s in joined([a, other], 3)] == [1, 1]
    assert [len(s) for s in joined([look(0.0, others=told), look(52.0, others=told)], 3)] == [2]


def test_nothing_is_read_outside_the_photo_or_along_its_edge():
    """A photo that ends 40 mm right of the window's start, its lattice unknown for the last 4 mm."""
    level = tile(np.full(STRIP_COLUMNS, 50.0))
    x_mm, y_mm = np.meshgrid(WINDOW.columns_mm(), WINDOW.rows_mm())
    xy = np.dstack([x_mm, y_mm]).astype(np.float32) * 10.0
    assert within(level, xy, (1000, 1000)) is level
    xy[:, -32:] = np.nan
    seen = within(level, xy, (400, 1000))
    last = np.flatnonzero(seen.presence > 0)[-1]
    assert seen.presence[: last + 1].all()
    assert 40.0 - 0.5 < WINDOW.columns_mm()[last] < 40.0 - 0.1
    assert not within(level, xy, (1000, 1000)).presence[-32:].any()
    # The photo's upper edge runs through the window, far above the trace and then along it.
    xy[..., 1] -= 300.0
    assert within(level, xy, (1000, 1000)).presence[:-40].all()
    xy[..., 1] -= 199.0
    assert not within(level, xy, (1000, 1000)).presence.any()
