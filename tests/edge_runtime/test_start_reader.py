"""What is made of the start reader's answers, and that it is shown the photo where the places are."""

from dataclasses import replace

import numpy as np
import pytest

from ecg.marks import START_BINS, START_PX_PER_MM, START_SIDE
from ecg.page import Decided, LeadStrip, PageLayout, Photo, Sheet
from edge_runtime.decoder import RowTrace
from edge_runtime.start_reader import (
    OFFSETS_MM,
    PAST_END_MM,
    Place,
    agreed_mm,
    cut_starts,
    find_places,
    searched_mm,
    with_read_starts,
)

PX = 8.0


def logits(*offsets_mm: float | None) -> np.ndarray:
    """Of places that lie ``offsets_mm`` off, None for those that aren't there."""
    out = np.full((len(offsets_mm), START_BINS + 1), -12.0, np.float32)
    for row, off in zip(out, offsets_mm, strict=True):
        if off is None:
            row[-1] = 4.0
        else:
            row[:-1] = -0.5 * ((OFFSETS_MM - off) / 0.03) ** 2
    return out


def sheet() -> Sheet:
    x, y = np.meshgrid(np.arange(0, 121, 5.0), np.arange(0, 81, 5.0))
    return Sheet((np.stack([x, y], -1) * PX - 0.5).astype(np.float32))


def page(how: str = "layout") -> tuple[tuple[RowTrace, ...], PageLayout]:
    """Two rows of two columns of 40 mm from x = 20 on, level at 20 and 50 mm."""
    x = 14 + (np.arange(8 * 94) + 0.5) / 8
    rows, strips = [], []
    for r, y in enumerate((20.0, 50.0)):
        row = tuple(
            LeadStrip(lead, r, 20.0 + 40 * c, 60.0 + 40 * c, y, 1.6 * c, 10.0)
            for c, lead in enumerate((("I", "V1"), ("II", "V2"))[r])
        )
        there = ((x > 20) & (x < 100)).astype(np.float32)
        rows.append(RowTrace(row, x, np.full(len(x), y), there, there))
        strips += row
    return tuple(rows), PageLayout("partial", 25.0, 10.0, tuple(strips), decided={"columns": Decided(how, 1.0)})


class Says:
    """The same answer for every patch it is shown."""

    def __init__(self, off_mm: float | None) -> None:
        self.off_mm, self.seen = off_mm, np.zeros(0)

    def __call__(self, patches):
        self.seen = patches
        return {"place": np.repeat(logits(self.off_mm)[None], len(patches), 0).repeat(2, 1)}

    def close(self) -> None:
        """Nothing to let go of."""


def shift_of(said: np.ndarray) -> float:
    """The shift that places of one column agree on."""
    return agreed_mm(said, np.zeros(len(said), int), standard=True)[0]


def test_places_that_agree_move_the_columns_there():
    assert shift_of(logits(0.12, 0.13, 0.12, 0.11)) == pytest.approx(0.12, abs=0.005)


def test_a_place_read_wrongly_doesn_t_count_against_three_that_agree():
    assert shift_of(logits(0.05, 0.06, -0.7, 0.05)) == pytest.approx(0.053, abs=0.01)


def test_places_that_aren_t_there_say_nothing():
    assert shift_of(logits(None, None)) == pytest.approx(0.0, abs=0.005)
    assert shift_of(logits(None, 0.1, None)) == pytest.approx(shift_of(logits(0.1)), abs=0.005)


def test_small_shifts_are_likelier_than_large_ones():
    flat = np.zeros((1, START_BINS + 1), np.float32)
    flat[0, :-1][OFFSETS_MM < 0] = -12.0  # somewhere to the right, no matter how far
    assert 0.0 < shift_of(flat) < 0.1


def test_columns_of_a_width_of_their_own_grow_where_their_places_say_so():
    columns = np.array([0, 1, 2, 3, 4])
    said = logits(*(0.05 + 0.07 * columns))
    shift, wider = agreed_mm(said, columns, standard=False)
    assert (shift, wider) == (pytest.approx(0.05, abs=0.01), pytest.approx(0.07, abs=0.005))


def test_columns_of_a_standard_width_grow_only_for_good_reason():
    columns = np.array([0, 1, 2, 3])
    assert agreed_mm(logits(0.05, 0.06, 0.07, 0.08), columns, standard=True)[1] == 0.0
    many = np.tile(columns, 3)
    assert agreed_mm(logits(*(0.2 * many)), many, standard=True)[1] == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("how", ["layout", "marks"])
def test_places_are_every_start_and_every_row_s_end(how):
    places = find_places(*page(how))
    assert [(p.x_mm, p.y_mm, p.columns) for p in places if p.kind == 0] == [
        (20, 20, 0), (60, 20, 1), (20, 50, 0), (60, 50, 1)
    ]  # fmt: skip
    assert [(p.x_mm, p.y_mm, p.columns) for p in places if p.kind == 1] == [(100, 20, 2), (100, 50, 2)]


def test_rows_that_the_scan_s_edge_cuts_off_start_no_columns():
    rows, layout = page()
    cut = replace(rows[0].strips[0], x0_mm=20.4)
    first = replace(rows[0], strips=(cut, rows[0].strips[1]))
    places = find_places((first, rows[1]), replace(layout, strips=(*first.strips, *rows[1].strips)))
    assert [p.columns for p in places] == [0, 1, 2, 0, 1, 2]


def test_the_end_of_a_row_of_its_own_length_says_nothing_of_its_start():
    rows, layout = page("marks")
    lone = replace(rows[0], strips=(replace(rows[0].strips[0], x1_mm=100.0),))
    assert [p.kind for p in find_places((lone,), replace(layout, strips=lone.strips))] == [0]
    standard = replace(layout, strips=lone.strips, decided={"columns": Decided("layout", 1.0)})
    assert [p.kind for p in find_places((lone,), standard)] == [0, 1]


def test_a_place_without_a_trace_is_left_out():
    rows, layout = page()
    gone = replace(rows[0], presence=np.where(rows[0].x_mm < 40, 0, rows[0].presence).astype(np.float32))
    assert len(find_places((gone, rows[1]), layout)) == 5


def test_all_strips_move_as_one_and_keep_their_times():
    rows, layout = page()
    reader = Says(-0.08)
    after, moved = with_read_starts(Photo(np.full((640, 960, 3), 200, np.uint8)), sheet(), rows, layout, reader)
    assert reader.seen.shape == (6, 3, START_SIDE, START_SIDE)
    assert reader.seen.dtype == np.float32
    for was, now in zip(layout.strips, moved.strips, strict=True):
        assert now.x0_mm == pytest.approx(was.x0_mm - 0.08, abs=0.005)
        assert now.x1_mm - now.x0_mm == pytest.approx(was.x1_mm - was.x0_mm)
        assert (now.lead, now.start_s, now.baseline_mm) == (was.lead, was.start_s, was.baseline_mm)
    assert tuple(s for r in after for s in r.strips) == moved.strips


def test_photos_keep_the_finder_s_starts():
    nodes = np.array(sheet().node_px)
    nodes[..., 1] *= 1 + 0.05 * nodes[..., :1].squeeze(-1) / nodes[..., 0].max()  # seen from an angle
    rows, layout = page()
    reader = Says(-0.08)
    photo = Photo(np.full((760, 960, 3), 200, np.uint8))
    assert with_read_starts(photo, Sheet(nodes), rows, layout, reader) == (rows, layout)
    assert not len(reader.seen)


class SaysWider(Says):
    """Every column 0.1 mm wider than was thought; six places, row by row."""

    def __call__(self, patches):
        said = logits(0.0, 0.1, 0.2, 0.0, 0.1, 0.2)
        return {"place": np.stack([said, said], axis=1)}


def test_wider_columns_take_more_time():
    photo = Photo(np.full((640, 960, 3), 200, np.uint8))
    _, layout = with_read_starts(photo, sheet(), *page("marks"), SaysWider(None))
    for strip in layout.strips:
        second = strip.lead in ("V1", "V2")
        assert strip.x0_mm == pytest.approx(60.1 if second else 20.0, abs=0.01)
        assert strip.x1_mm - strip.x0_mm == pytest.approx(40.1, abs=0.01)
        assert strip.start_s == pytest.approx(40.1 / 25.0 if second else 0.0, abs=1e-3)


def test_nothing_moves_where_no_trace_starts():
    rows, layout = page()
    nothing = tuple(replace(r, presence=np.zeros_like(r.presence)) for r in rows)
    photo = Photo(np.full((640, 960, 3), 200, np.uint8))
    assert with_read_starts(photo, sheet(), nothing, layout, Says(0.1)) == (nothing, layout)
    assert with_read_starts(photo, sheet(), rows, layout, Says(None))[1].strips[0].x0_mm == pytest.approx(20, abs=0.005)


def chances(*offsets_mm: float | None) -> np.ndarray:
    p = np.exp(logits(*offsets_mm).astype(float))
    return p / p.sum(axis=1, keepdims=True)


def test_a_place_is_looked_for_beside_where_it_was_thought_unless_it_is_seen_there():
    def page_with(*starts_mm: float):
        def read(off_mm):
            beside = [min((s - x for s in starts_mm), key=abs) for x in off_mm]
            return chances(*(b if abs(b) < 1 else None for b in beside))

        return read

    assert searched_mm(page_with(0.3, 2.0), 0.3) == pytest.approx(0.3, abs=0.01)
    assert searched_mm(page_with(-2.7), 0.3) == pytest.approx(-2.7, abs=0.01)
    assert searched_mm(page_with(9.0), 0.3) == 0.0  # nowhere near


class SeesInk(Says):
    """Says where ink starts or ends in its patches, by their middle rows."""

    def __call__(self, patches):
        dark = patches[:, :, START_SIDE // 2 - 2 : START_SIDE // 2 + 2].mean(axis=(1, 2)) < 130
        edges = np.diff(dark.astype(int), axis=1)
        answers = []
        for kind in (1, -1):
            at = [np.flatnonzero(e == kind) for e in edges]
            mm = [(float(a[0]) + 1 - START_SIDE / 2) / START_PX_PER_MM[0] if len(a) else None for a in at]
            answers.append(logits(*(m if m is not None and abs(m) < 1 else None for m in mm)))
        return {"place": np.stack(answers, axis=1)}


def test_rows_of_their_own_length_start_and_end_where_each_is_seen():
    """Their columns were thought to start 2.6 mm too early, and to end 0.3 mm too late."""
    rows, layout = page("marks")
    strips = [replace(r.strips[0], x0_mm=22.6 - 5.2, x1_mm=100.0 + 0.3) for r in rows]
    rows = tuple(replace(r, strips=(s,), presence=np.ones_like(r.presence)) for r, s in zip(rows, strips, strict=True))
    rgb = np.full((640, 960, 3), 230, np.uint8)
    for y in (20.0, 50.0):
        rgb[round((y - 0.4) * PX) : round((y + 0.4) * PX), round(20.0 * PX) : round(100.0 * PX)] = 20
    _, moved = with_read_starts(Photo(rgb), sheet(), rows, replace(layout, strips=tuple(strips)), SeesInk(None))
    for strip in moved.strips:
        assert strip.x0_mm == pytest.approx(20.0, abs=0.05)
        assert strip.x1_mm == pytest.approx(100.0 + PAST_END_MM, abs=0.05)
        assert strip.start_s == 0.0


def test_a_patch_shows_its_place_in_its_middle():
    rgb = np.full((640, 960, 3), 240, np.uint8)
    rgb[:, round(50.0 * PX) :] = 20  # ink from x = 50 mm on
    rgb[: round(30.0 * PX)] = 240  # and from y = 30 mm down
    patch = cut_starts(Photo(rgb), sheet(), [Place(0, 50.1, 30.2, 0)])[0].mean(axis=0)
    column, row = patch[-1], patch[:, -1]
    x_mm = (np.interp(130, column[::-1], np.arange(START_SIDE)[::-1] + 0.5) - START_SIDE / 2) / START_PX_PER_MM[0]
    y_mm = (np.interp(130, row[::-1], np.arange(START_SIDE)[::-1] + 0.5) - START_SIDE / 2) / START_PX_PER_MM[1]
    assert x_mm == pytest.approx(-0.1, abs=0.01)
    assert y_mm == pytest.approx(-0.2, abs=0.015)
