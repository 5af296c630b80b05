"""Pages on which a beat is cut in two where columns meet."""

import numpy as np
import pytest

from distill.render import beats_s, cut_beat
from ecg.records import EcgRecord
from ecg.synth.heart import beat, random_heart
from ecg.synth.printer import print_page
from ecg.synth.style_random import random_style


def _spikes(at_s: list[float], fs_hz: float = 500.0, duration_s: float = 12.0) -> EcgRecord:
    mv = np.random.default_rng(0).normal(0, 0.01, (12, round(duration_s * fs_hz))).astype(np.float32)
    for t in at_s:
        mv[:, round(t * fs_hz) - 5 : round(t * fs_hz) + 5] += np.hanning(10).astype(np.float32)
    return EcgRecord(mv, fs_hz, "spikes")


def test_beats_are_the_steep_moments():
    at = [0.5, 1.4, 2.2, 3.6, 9.1]
    assert beats_s(_spikes(at)) == pytest.approx(at, abs=0.02)


def test_one_of_the_beats_lies_where_a_column_starts():
    for seed in range(12):
        rng = np.random.default_rng(seed)
        record = _spikes(list(np.arange(0.4, 12.0, 0.85)))
        style = random_style(rng, record, layout="3x4+1", partial=False)
        later = cut_beat(style, record, rng)
        assert later.preparation.start_s > style.preparation.start_s
        columns = style.geometry.column_s * np.arange(4)
        off = beats_s(record)[:, None] - later.preparation.start_s - columns
        assert np.abs(off).min() < 0.15
        assert print_page(record, later, rng).traces[0].strip.start_s == 0.0


def test_a_record_without_beats_is_printed_as_it_is():
    rng = np.random.default_rng(3)
    heart = beat(random_heart(rng), 10.0, rng=rng)
    style = random_style(rng, heart, layout="3x4", partial=False)
    flat = EcgRecord(np.zeros_like(heart.mv), heart.fs_hz, "flat")
    assert cut_beat(style, flat, rng) == style
