from dataclasses import replace

import numpy as np
import pytest

from ecg.page import LeadStrip, PageLayout
from edge_runtime.decoder import RowTrace, Tile, _joined, expected_bins
from edge_runtime.decoder_windows import rows_of, tile_windows
from edge_runtime.signals import (
    assemble,
    continued,
    cubic,
    levelled,
    own_columns,
    without_islands,
    without_strokes,
)


def wave(t):
    return 0.8 * np.sin(2 * np.pi * 1.3 * t) + 0.3 * np.sin(2 * np.pi * 7 * t)


def one_row(leads=("I", "aVR", "V1", "V4"), gain=10.0, speed=25.0, gap=None):
    strips = tuple(
        LeadStrip(name, 0, 20 + 62.5 * k, 82.5 + 62.5 * k, 50.0, 62.5 * k / speed, gain) for k, name in enumerate(leads)
    )
    x = np.arange(14, 20 + 62.5 * len(leads) + 6, 1 / 8)
    y = 50.0 - gain * wave((x - 20) / speed)
    presence = ((x >= 20) & (x <= 20 + 62.5 * len(leads))).astype(np.float32)
    if gap:
        presence[(x > gap[0]) & (x < gap[1])] = 0
    layout = PageLayout("3x4", speed, gain, strips)
    return (RowTrace(strips, x, y, presence, np.ones(len(x), np.float32)),), layout


@pytest.mark.parametrize(("speed", "gain"), [(25.0, 10.0), (50.0, 20.0), (25.0, 5.0)])
def test_heights_become_millivolts_on_the_printed_clock(speed, gain):
    rows, layout = one_row(speed=speed, gain=gain)
    signal = assemble(rows, layout)
    n = round(4 * 62.5 / speed * 500)
    assert signal.mv.shape == (12, n)
    quarter = n // 4
    for k, i in enumerate((0, 3, 6, 9)):
        part = slice(k * quarter, (k + 1) * quarter)
        t = np.arange(k * quarter, (k + 1) * quarter) / 500
        assert np.abs(signal.mv[i, part] - wave(t)).max() < 0.01
        assert np.isnan(np.delete(signal.mv[i], np.arange(part.start, part.stop))).all()
    assert np.isnan(signal.mv[1]).all()


@pytest.mark.parametrize("off_mm", [0.0, 1.7, -2.2])
def test_a_lead_printed_again_has_its_zero_where_the_longer_print_has_it(off_mm):
    """A wandering trace has another middle in 2.5 s than in ten; what was taken for it is moved, nothing else."""
    (short,), layout = one_row(leads=("I", "II"))
    x = np.arange(14, 151, 1 / 8)
    strip = LeadStrip("I", 3, 20, 145, 140.0, 0.0, 10.0)
    long = RowTrace((strip,), x, 140.0 - 10 * wave((x - 20) / 25), np.ones(len(x), np.float32),
                    np.ones(len(x), np.float32))  # fmt: skip
    wrong = tuple(replace(s, baseline_mm=s.baseline_mm + off_mm) for s in short.strips)
    rows, layout = (replace(short, strips=wrong), long), replace(layout, strips=(*wrong, strip))
    found = levelled(rows, layout, assemble(rows, layout))
    assert found.strips[0].baseline_mm == pytest.approx(50.0, abs=0.05)
    assert found.strips[1:] == layout.strips[1:]


def test_a_lead_cut_within_a_beat_ends_where_its_own_trace_ran():
    """What a column that both leads share shows, and the next lead beyond, are no part of it."""
    (row,), layout = one_row(leads=("I", "aVR"))
    slope, step = 4.0, 30.0  # of the trace, mm per mm; of the next lead against it, mm
    y = 50.0 - slope * np.clip(row.x_mm - 80.0, 0, None) + step * (row.x_mm > 82.5)
    y[np.abs(row.x_mm - 82.5) < 0.1] -= 0.5 * step * np.sign(row.x_mm[np.abs(row.x_mm - 82.5) < 0.1] - 82.5)
    mixed = replace(row, x_mm=row.x_mm + 0.05, y_mm=y)
    mv = assemble((mixed,), layout).mv
    t = np.arange(1200, 1250) / 500
    assert np.abs(mv[0, 1200:1250] - slope * np.clip(25 * t + 20 - 80, 0, None) / 10).max() < 0.05
    own = own_columns(mixed.strips[0], mixed)
    assert mixed.x_mm[own].max() <= 82.5 - 0.06
    assert mixed.x_mm[own].min() < 20.0


def test_a_trace_goes_on_as_steeply_as_it_ends_but_no_further_than_columns_reach():
    x = np.arange(10.0)
    at = np.array([-0.5, 9.5, 30.0])
    assert continued(x, 3.0 * x, at) == pytest.approx([-1.5, 28.5, 31.5])
    assert continued(x, np.abs(x - 1.0), at[:1]) == pytest.approx([1.0])  # a peak at the end: level


def test_inverted_avr_is_turned_back():
    rows, layout = one_row(leads=("-aVR",))
    t = np.arange(1250) / 500
    assert np.abs(assemble(rows, layout).mv[3] + wave(t)).max() < 0.01


def test_short_gaps_are_filled_and_flagged_long_ones_stay_empty():
    rows, layout = one_row(gap=(40.0, 42.0))
    signal = assemble(rows, layout)
    inside = slice(410, 435)  # 40.5 to 41.7 mm
    assert signal.filled[0, inside].all()
    assert np.abs(signal.mv[0, inside] - wave(np.arange(410, 435) / 500)).max() < 0.2
    rows, layout = one_row(gap=(40.0, 48.0))
    signal = assemble(rows, layout)
    assert np.isnan(signal.mv[0, 420:540]).all()
    assert np.isfinite(signal.mv[0, 600:1250]).all()


def test_the_long_strip_wins_and_the_short_one_fills_in():
    short = LeadStrip("II", 0, 20, 82.5, 50.0, 0.0, 10.0)
    long = LeadStrip("II", 1, 20, 270, 90.0, 0.0, 10.0)
    x = np.arange(14, 276, 1 / 8)
    here = ((x >= 20) & (x <= 270)).astype(np.float32)
    ones = np.ones(len(x), np.float32)
    rows = (RowTrace((short,), x, np.full(len(x), 45.0), here, ones),
            RowTrace((long,), x, np.full(len(x), 80.0), here * (x > 60), ones))  # fmt: skip
    signal = assemble(rows, PageLayout("3x4+1", 25.0, 10.0, (short, long)))
    assert signal.mv.shape[1] == 5000
    assert signal.mv[1, 100] == pytest.approx(0.5)
    assert signal.mv[1, 1000] == pytest.approx(1.0)


def test_cubic_is_exact_on_lines_and_never_overshoots_a_gap():
    x = np.concatenate([np.arange(0, 5, 0.1), np.arange(8, 12, 0.1)])
    assert np.allclose(cubic(x, 2 * x + 1, np.linspace(0, 11.9, 77)), 2 * np.linspace(0, 11.9, 77) + 1)
    y = np.where(x < 6, 0.0, 1.0)
    between = cubic(x, y, np.linspace(5, 8, 50))
    assert between.min() >= -1e-9
    assert between.max() <= 1 + 1e-9


def test_expected_bins_are_sub_bin_exact_and_ignore_a_far_second_peak():
    bins = np.arange(112)[:, None]
    centre = np.linspace(40, 90, 64)[None]
    height = (-((bins - centre) ** 2) / (2 * 1.5**2)).astype(np.float32)
    got, sharp = expected_bins(height)
    assert np.abs(got - centre[0]).max() < 0.01
    assert sharp.min() > 0.99
    far = np.logaddexp(height, -((bins - 5) ** 2) / 2 - 1.0).astype(np.float32)
    got, sharp = expected_bins(far)
    assert np.abs(got - centre[0]).max() < 0.02
    assert sharp.max() < 0.95


def test_tiles_cover_a_row_and_join_without_seams():
    _, layout = one_row()
    (windows,) = tile_windows(rows_of(layout), layout, None)
    ones = np.ones(512, np.float32)
    row = _joined(layout.strips, [Tile(w, 3 * w.columns_mm(), ones, ones) for w in windows])
    assert np.allclose(np.diff(row.x_mm), 0.125)
    assert np.allclose(row.y_mm, 3 * row.x_mm)
    assert row.x_mm[0] < 20 - 5
    assert row.x_mm[-1] > 270 + 5


def test_strokes_at_a_leads_ends_go_and_a_steep_wave_there_stays():
    x = np.arange(100.0, 130.0, 0.125)
    level = np.zeros_like(x)
    pulse = level.copy()
    pulse[:2] = -9.0  # the falling edge of a calibration pulse
    pulse[-1] = 4.0  # half a separator
    assert np.array_equal(without_strokes(x, pulse, 100.0, 130.0), level)
    wave = -12.0 * np.exp(-(((x - 100.3) / 0.4) ** 2))  # an R wave that the lead begins with
    assert np.array_equal(without_strokes(x, wave, 100.0, 130.0), wave)


def test_lone_short_stretches_are_no_trace():
    x = np.arange(0.0, 60.0, 0.125)
    present = (x < 30) | ((x > 40) & (x < 41.5)) | (x > 50)
    present[100:112] = False  # a short gap parts nothing
    assert np.array_equal(without_islands(x, present, 25.0), present & ((x < 35) | (x > 45)))
    assert not without_islands(x, np.zeros(len(x), bool), 25.0).any()
