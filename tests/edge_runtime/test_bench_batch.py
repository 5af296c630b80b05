"""The archive benchmark's own arithmetic; the benchmark itself is a command."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path

import fake_reader
import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="pip install 'ecgscan[archive]'")

from ecg.page import Photo
from edge_runtime.bench_batch import TELL_EVERY, Sparing, _figures
from edge_runtime.process import trim


def test_growth_is_counted_after_the_first_tenth() -> None:
    warm = [[100 * k, 100.0, 50.0, 300.0, 200.0, 900.0] for k in range(1, 11)]
    samples = warm + [[100 * k, 200.0, 150.0, 300.0 + k, 250.0, 400.0] for k in range(11, 101)]
    figures = _figures(Counter(read=9800, unusable=200), 100.0, 10_000, samples)
    assert figures["pages_per_s"] == 100
    assert (figures["n_read"], figures["parent_rss_mb"], figures["workers_own_mb"]) == (9800, 200.0, 250.0)
    assert figures["parent_rss_growth_pct"] == 0.0
    assert figures["workers_rss_growth_pct"] == pytest.approx(100 * (385.5 / 325.5 - 1))
    assert figures["workers_peak_mb"] == 400.0


def test_each_photo_is_read_twice_then_every_nth_page() -> None:
    asked = []

    class Counting(fake_reader.Reader):
        def read(self, photo, overrides):
            asked.append(photo.source)
            return super().read(photo, overrides)

    reader = Sparing(Counting(), 4)
    photos = [np.full((300, 400, 3), grey, np.uint8) for grey in (150, 160)]
    answers = [reader.read(Photo(photos[k % 2], str(k))) for k in range(12)]
    assert asked == ["0", "1", "2", "3", "4", "8"]
    assert answers[5] is answers[3]
    assert answers[10] is answers[8]
    assert answers[4] is not answers[8]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_tell_what_they_hold(tmp_path: Path) -> None:
    reader = Sparing(fake_reader.Reader(), 4, tmp_path)
    grey = np.full((300, 400, 3), 150, np.uint8)
    for k in range(TELL_EVERY):
        assert not list(tmp_path.iterdir())
        reader.read(Photo(grey, str(k)))
    rss, own, peak = json.loads((tmp_path / str(os.getpid())).read_text())
    assert 10 < own < rss <= peak + 1


def test_freed_memory_is_given_back() -> None:
    trim()
