"""Columns that leave paper blank between them, as the decoder's presence shows it."""

from dataclasses import replace

import numpy as np
import pytest

from ecg.page import LeadStrip, PageLayout
from edge_runtime.decoder import RowTrace
from edge_runtime.layout_gaps import with_seen_gaps

LEADS = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
PITCH, X0 = 62.5, 20.0


def page(thought: float, real: float):
    """Three rows and a rhythm strip, thought to leave ``thought`` mm blank a column while ``real`` mm are."""
    rows = []
    x = X0 - 6 + (np.arange(8 * 280) + 0.5) / 8
    for r, leads in enumerate((*LEADS, ("II",))):
        width = (PITCH - thought) * (4 if len(leads) == 1 else 1)
        strips = tuple(
            LeadStrip(lead, r, X0 + k * PITCH, X0 + k * PITCH + width, 30.0 * r, k * (PITCH - thought) / 25, 10.0)
            for k, lead in enumerate(leads)
        )
        inside = (x > X0) & (x < X0 + 4 * PITCH - real)
        if len(leads) > 1:
            inside &= np.mod(x - X0, PITCH) < PITCH - real
        rows.append(RowTrace(strips, x, np.full(len(x), 30.0 * r), inside.astype(np.float32), np.ones(len(x), "f4")))
    strips = tuple(s for row in rows for s in row.strips)
    return tuple(rows), PageLayout("3x4+1", 25.0, 10.0, strips)


@pytest.mark.parametrize(("thought", "real"), [(0.0, 2.5), (2.0, 0.0), (1.0, 3.0)])
def test_columns_take_the_blank_that_is_seen(thought, real):
    rows, layout = with_seen_gaps(*page(thought, real))
    for strip in layout.strips:
        k = round((strip.x0_mm - X0) / PITCH)
        assert strip.start_s == pytest.approx(k * (PITCH - real) / 25, abs=0.01)
        columns = 4 if strip.row == 3 else 1
        assert strip.x1_mm - strip.x0_mm == pytest.approx(columns * (PITCH - real), abs=0.6)
    assert tuple(s for r in rows for s in r.strips) == layout.strips


def test_nothing_moves_where_the_blank_was_known_or_the_rows_disagree():
    rows, layout = page(0.0, 0.0)
    assert with_seen_gaps(rows, layout)[1] is layout
    for k, row in enumerate(rows[:3]):  # a fold across one boundary of each row, not a gap of all
        row.presence[(row.x_mm > X0 + (k + 1) * PITCH - 3) & (row.x_mm < X0 + (k + 1) * PITCH)] = 0
    assert with_seen_gaps(rows, layout)[1] is layout


def test_a_stroke_between_columns_of_a_usual_distance_is_no_blank():
    rows, layout = page(0.0, 1.3)
    assert with_seen_gaps(rows, layout)[1] is layout


def test_a_line_drawn_through_blanks_of_usual_columns_leaves_them():
    rows, layout = page(0.0, 0.0)  # traces run through; the marks told of columns of 60.5 mm and blanks of 2, or ...
    assert with_seen_gaps(*page(2.0, 0.0))[1] != page(2.0, 0.0)[1]
    wide = tuple(_stretched(r) for r in page(2.0, 0.0)[0])  # ... of 62.5 mm and blanks of 2
    layout = PageLayout("3x4+1", 25.0, 10.0, tuple(s for r in wide for s in r.strips))
    assert with_seen_gaps(wide, layout)[1] is layout


def _stretched(row: RowTrace) -> RowTrace:
    """The row on columns 64.5 mm apart."""

    def moved(s: LeadStrip) -> LeadStrip:
        x0 = X0 + 64.5 / PITCH * (s.x0_mm - X0)
        return replace(s, x0_mm=x0, x1_mm=x0 + 62.5 * (4 if len(row.strips) == 1 else 1))

    strips = tuple(moved(s) for s in row.strips)
    return replace(row, strips=strips, presence=np.ones_like(row.presence))


def test_pages_without_columns_stay_as_they_are():
    rows, layout = page(0.0, 2.0)
    single = PageLayout("12x1", 25.0, 10.0, rows[3].strips)
    assert with_seen_gaps(rows[3:], single) == (rows[3:], single)
