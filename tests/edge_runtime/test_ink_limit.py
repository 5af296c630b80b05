"""What ink leaves of a signal: nothing is lost to a thin pen, narrow waves and fine tremor are to a wide one."""

from __future__ import annotations

import numpy as np

from edge_runtime.ink_limit import ink_score, middle_of_ink
from edge_runtime.rendered import round_trip_page

X = np.arange(0.0, 20.0, 0.05)


def test_slow_waves_are_the_middle_of_their_ink() -> None:
    y = 2.0 * np.sin(2 * np.pi * X / 10.0)
    assert np.abs(middle_of_ink(X, y, 0.4) - y)[20:-20].max() < 0.02  # at the ends the pen is cut off


def test_waves_finer_than_the_pen_become_a_band() -> None:
    tremor = 0.5 * np.sin(2 * np.pi * X / 0.2)
    assert np.abs(middle_of_ink(X, tremor, 0.5)[20:-20]).max() < 0.1
    # A hair's width leaves them.
    assert np.abs(middle_of_ink(X, tremor, 0.03) - tremor).max() < 0.05


def test_a_narrow_spike_is_printed_whole_but_its_middle_lies_lower() -> None:
    spike = np.where(np.abs(X - 10.0) < 0.051, 5.0, 0.0)
    at = middle_of_ink(X, spike, 0.5)[np.argmin(np.abs(X - 10.0))]
    assert 2.0 < at < 4.0


def test_a_pages_ink_scores_below_the_signal_itself() -> None:
    score = ink_score(round_trip_page("3x4+1", 25.0, 10.0, seed=3, plain=True))
    assert 8.0 < score.db < 25.9
    assert score.coverage > 0.99
