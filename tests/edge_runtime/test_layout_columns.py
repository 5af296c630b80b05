"""Columns' lines from start and end marks: standard widths, others, blanks, marks that err alike."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.layout_columns import Lines, fit_lines
from edge_runtime.layout_evidence import Points


def points(*x: float, score: float = 0.6) -> Points:
    return Points(np.array(x), np.zeros(len(x)), np.full(len(x), score))


def rows(*lines: float, n: int = 3, noise: float = 0.1, seed: int = 1) -> Points:
    rng = np.random.default_rng(seed)
    return points(*(line + rng.normal(0, noise) for line in lines for _ in range(n)))


def fitted(first, inner, ends, n_cols, guess, rhythm_ends=None) -> Lines:
    return fit_lines(first, inner, ends, points() if rhythm_ends is None else rhythm_ends, n_cols, guess)


def test_standard_columns_are_standard():
    found = fitted(rows(20.0), rows(82.5, 145.0, 207.5), rows(270.0), 4, (20.3, 62.4))
    assert found.nominal
    assert found.pitch_mm == 62.5
    assert found.gap_mm == 0.0
    assert found.x0_mm == pytest.approx(20.0, abs=0.12)


def test_starts_at_the_foot_of_pulses_give_way_to_all_other_lines():
    """Where a pulse runs on into the trace, all rows show the start where the pulse ends, 2 mm too early."""
    found = fitted(rows(18.0, n=4), rows(82.5, 145.0, 207.5), rows(270.0), 4, (18.5, 62.9))
    assert found.nominal
    assert found.x0_mm == pytest.approx(20.0, abs=0.15)


def test_single_rows_start_ten_seconds_before_they_end():
    found = fitted(points(13.0, 13.2, 20.1), points(), rows(270.0, n=6), 1, (13.1, 257.0))
    assert found.nominal
    assert found.x0_mm == pytest.approx(20.0, abs=0.2)


@pytest.mark.parametrize("width", [65.0, 61.0, 55.3])
def test_other_widths_are_measured(width):
    lines = [20.0 + width * k for k in range(5)]
    found = fitted(rows(lines[0], n=4), rows(*lines[1:4]), rows(lines[4], n=4), 4, (20.5, width + 0.3))
    assert not found.nominal
    assert found.gap_mm == 0.0
    assert (found.x0_mm, found.pitch_mm) == pytest.approx((20.0, width), abs=0.15)


@pytest.mark.parametrize("seen", [0.0, 1.5], ids=["starts", "separators"])
def test_blanks_between_standard_columns(seen):
    inner = [20.0 + 65.5 * k - seen for k in (1, 2, 3)]
    found = fitted(rows(20.0, n=5), rows(*inner), rows(20.0 + 3 * 65.5 + 62.5, n=4), 4, (20.2, 65.2))
    assert (found.x0_mm, found.pitch_mm, found.gap_mm) == pytest.approx((20.0, 65.5, 3.0), abs=0.3)


def test_rhythm_strips_that_end_early_tell_of_blanks():
    """Columns 64.6 mm apart: of their own width, or usual ones with blanks; where the rhythm strip ends decides."""
    lines, end = rows(*(20.0 + 64.6 * k for k in (1, 2, 3))), rows(20.0 + 4 * 64.6, n=1)
    without = fitted(rows(20.0), lines, end, 4, (20.2, 64.4), rows(20.0 + 4 * 64.6))
    with_blanks = fitted(rows(20.0), lines, end, 4, (20.2, 64.4), rows(20.0 + 4 * 62.5))
    assert without.gap_mm == 0.0
    assert with_blanks.gap_mm == pytest.approx(2.1, abs=0.15)


def test_without_marks_the_first_look_stays():
    found = fitted(points(), points(), points(), 4, (21.0, 62.6))
    assert (found.x0_mm, found.pitch_mm) == pytest.approx((21.0, 62.5), abs=0.1)


def test_a_row_that_stands_alone_may_have_any_length():
    """A strip of 238 mm: its one end mark isn't overruled by the 250 mm that columns of whole pages usually have."""
    marks = (points(20.0), points(), points(258.0), 1, (20.4, 246.0))
    assert fitted(*marks).pitch_mm == 250.0
    found = fit_lines(*marks[:3], points(), *marks[3:], lone=True)
    assert (found.x0_mm, found.pitch_mm) == pytest.approx((20.0, 238.0), abs=0.2)
