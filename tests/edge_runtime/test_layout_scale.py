"""Paper speed and gain from pulses and texts as the finder sees them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ecg.layouts import LAYOUTS
from ecg.page import Mark
from edge_runtime.layout_evidence import gather
from edge_runtime.layout_fit import Columns
from edge_runtime.layout_scale import Scale, find_scale

COLUMNS = Columns(20.0, 62.5, 270.0, 0.1, True)


def scale(*marks: Mark, layout: str = "3x4+1", pitch: float = 30.0, columns: Columns = COLUMNS) -> Scale:
    spec = LAYOUTS[layout]
    return find_scale(gather(marks), columns, spec, tuple(40.0 + pitch * np.arange(spec.n_rows)))


def pulses(height: float, width: float = 5.1, rows: int = 4, pitch: float = 30.0) -> list[Mark]:
    return [Mark("pulse", 14.0, 40.0 + pitch * k - height / 2, 0.8, width, height) for k in range(rows)]


@pytest.mark.parametrize(("height", "gain"), [(5.3, 5.0), (9.8, 10.0), (19.3, 20.0)])
def test_pulses_tell_the_gain(height, gain):
    found = scale(*pulses(height))
    assert (found.gain_mm_per_mv, found.gain.how) == (gain, "pulse")
    assert found.gain.confidence > 0.9


def test_an_edge_taken_for_a_pulse_takes_nothing_from_the_pulses():
    """Four pulses of 5 mm in close rows, and what a wave's edge looks like: no fifth witness."""
    close = pulses(5.1, pitch=18.0)
    found = scale(*close, Mark("pulse", 13.0, 52.0, 0.32, 7.4, 10.0), pitch=18.0)
    assert (found.gain_mm_per_mv, found.gain.how) == (5.0, "pulse")
    assert found.gain.confidence == pytest.approx(scale(*close, pitch=18.0).gain.confidence, abs=0.1)


@pytest.mark.parametrize(("score", "gain"), [(0.62, 20.0), (0.95, 10.0)])
def test_a_lone_pulse_seen_badly_gives_way_to_the_text(score, gain):
    """Of pages whose best pulse is seen at .6 every second has none."""
    lone = Mark("pulse", 14.0, 35.0, score, 5.1, 9.9)
    assert scale(lone, Mark("gain:20", 100.0, 180.0, 0.97)).gain_mm_per_mv == gain


def test_pulses_right_of_the_chest_leads_are_every_leads_where_none_stand_left():
    right = [Mark("pulse", 276.0, 37.5 + 30.0 * k, 0.85, 5.0, 5.0) for k in range(4)]
    edge = Mark("pulse", 13.0, 35.0, 0.44, 5.7, 10.0)
    found = scale(*right, edge)
    assert (found.gain_mm_per_mv, found.chest_gain_mm_per_mv) == (5.0, None)
    both = scale(*pulses(10.0), *right[:3])
    assert (both.gain_mm_per_mv, both.chest_gain_mm_per_mv) == (10.0, 5.0)


def test_a_misread_part_of_a_text_does_not_count():
    text = [
        Mark("gain:20", 100.0, 180.0, 0.98),
        Mark("gain:10/5", 109.0, 180.5, 0.96),
        Mark("gain:10", 116.0, 180.0, 0.9),
    ]
    found = scale(*text)
    assert (found.gain_mm_per_mv, found.chest_gain_mm_per_mv) == (20.0, None)


def test_a_gain_beside_a_speed_outweighs_numbers_elsewhere():
    """A header's R wave in mV looks like a gain; where no speed stands beside any, all count."""
    speed = Mark("speed:50", 80.0, 180.0, 0.98)
    told, header = Mark("gain:20", 105.0, 180.2, 0.97), Mark("gain:10", 210.0, 18.0, 0.95)
    assert scale(speed, told, header).gain_mm_per_mv == 20.0
    assert scale(told, header).gain_mm_per_mv == 10.0
    alone, unsure = scale(replace(told, score=0.84)), scale(speed, replace(told, score=0.84))
    assert alone.gain_mm_per_mv == 10.0
    assert unsure.gain_mm_per_mv == 20.0


@pytest.mark.parametrize("middle", [(), (Mark("gain:10/5", 112.0, 180.0, 0.5),)])
def test_two_gains_on_one_line_are_the_limb_leads_and_the_chest_leads(middle):
    found = scale(Mark("gain:10", 100.0, 180.0, 0.99), Mark("gain:5", 130.0, 180.0, 0.98), *middle)
    assert (found.gain_mm_per_mv, found.chest_gain_mm_per_mv) == (10.0, 5.0)


@pytest.mark.parametrize(
    ("more", "chest"),
    [((), None), ((Mark("gain:5", 135.0, 180.0, 0.9),), 5.0), ((Mark("gain:10/5", 129.0, 180.0, 0.96),), 5.0)],
)
def test_a_frequency_band_behind_a_gain_is_no_second_one(more, chest):
    """ "10 mm/mV 0.05-150 Hz" has a "10/5" in it; one that is printed is read more than once, or a "5" behind it."""
    found = scale(Mark("gain:10", 108.0, 180.0, 0.87), Mark("gain:10/5", 122.0, 180.0, 0.98), *more)
    assert (found.gain_mm_per_mv, found.chest_gain_mm_per_mv) == (10.0, chest)


@pytest.mark.parametrize(("score", "chest"), [(0.85, 5.0), (0.75, None)])
def test_a_second_gain_must_be_read_well(score, chest):
    assert scale(*pulses(10.0), Mark("gain:10/5", 122.0, 180.0, score)).chest_gain_mm_per_mv == chest


def test_crowded_pulses_give_way_to_the_text():
    """Rows 12.6 mm apart cut pulses 20 mm high into pieces of half their height."""
    one_column = Columns(20.0, 250.0, 270.0, 0.1, True)
    marks = pulses(9.8, rows=12, pitch=12.6)
    found = scale(*marks, Mark("gain:20", 100.0, 200.0, 0.99), layout="12x1", pitch=12.6, columns=one_column)
    assert (found.gain_mm_per_mv, found.chest_gain_mm_per_mv) == (20.0, None)
    assert scale(*marks, layout="12x1", pitch=12.6, columns=one_column).gain_mm_per_mv == 10.0


def test_sure_speed_text_wins_over_pulses_five_wide():
    found = scale(*pulses(10.0), Mark("speed:50", 100.0, 180.0, 0.97))
    assert (found.speed_mm_per_s, found.speed.how) == (50.0, "text")
    assert scale(*pulses(10.0)).speed_mm_per_s == 25.0


@pytest.mark.parametrize(("score", "speed"), [(0.85, 50.0), (0.5, 25.0)])
def test_only_pulses_that_are_seen_well_tell_their_width(score, speed):
    """Every seventh pulse of 5 mm that is seen at .5 seems 10 mm wide, and its neighbours with it."""
    wide = [Mark("pulse", 14.0, 35.0 + 30.0 * k, score, 10.0, 10.0) for k in range(4)]
    half = Columns(20.0, 62.5, 270.0, 0.1, True)
    assert scale(*wide, columns=half).speed_mm_per_s == speed
