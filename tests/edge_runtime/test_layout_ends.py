"""Rows of no usual width, read on to where the decoder saw their traces end."""

from dataclasses import replace

import numpy as np
import pytest

from ecg.page import LeadStrip, PageLayout
from edge_runtime.decoder import RowTrace
from edge_runtime.layout_ends import ROUND_END_MM, with_seen_ends

X0 = 20.0


def page(width: float, runs_on: tuple[float, ...]):
    """Rows of one column, thought to be ``width`` mm wide; the stroke of each shows ``runs_on`` mm beyond that."""
    x = X0 - 6 + (np.arange(8 * (width + 14)) + 0.5) / 8
    rows = []
    for r, more in enumerate(runs_on):
        strips = (LeadStrip("I" if r == 0 else f"V{r}", r, X0, X0 + width, 30.0 * r, 0.0, 10.0),)
        inside = (x > X0) & (x < X0 + width + more)
        rows.append(RowTrace(strips, x, np.full(len(x), 30.0 * r), inside.astype(np.float32), np.ones(len(x), "f4")))
    return tuple(rows), PageLayout("partial", 25.0, 10.0, tuple(s for row in rows for s in row.strips))


@pytest.mark.parametrize("runs_on", [(1.2,), (1.1, 1.2, 0.0, 1.3)])
def test_the_end_moves_to_where_most_rows_stop(runs_on):
    rows, layout = with_seen_ends(*page(96.2, runs_on))
    for strip in layout.strips:
        assert strip.x0_mm == X0
        assert strip.x1_mm == pytest.approx(X0 + 96.2 + 1.2 - ROUND_END_MM, abs=0.13)  # a column is 1/8 mm
    assert tuple(s for r in rows for s in r.strips) == layout.strips


@pytest.mark.parametrize(
    ("width", "runs_on"),
    [(250.0, (1.2,)), (96.2, (0.3,)), (96.2, (-3.0,)), (96.2, (5.0,)), (96.2, (1.2, 0.0, 0.0))],
    ids=["usual width", "a round end", "stops before", "another trace", "one row of three"],
)
def test_nothing_moves_otherwise(width, runs_on):
    rows, layout = page(width, runs_on)
    assert with_seen_ends(rows, layout) == (rows, layout)


def test_pages_of_columns_stay_as_they_are():
    rows, layout = page(96.2, (1.2,))
    second = replace(rows[0].strips[0], lead="II", x0_mm=X0 + 50.0, x1_mm=X0 + 96.2, start_s=2.0)
    rows = (replace(rows[0], strips=(*rows[0].strips, second)),)
    layout = replace(layout, strips=rows[0].strips)
    assert with_seen_ends(rows, layout) == (rows, layout)
