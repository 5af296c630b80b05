"""The archive benchmark's own arithmetic; the benchmark itself is a command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import fake_reader
import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="pip install 'ecgscan[archive]'")

from ecg.page import Photo
from edge_runtime.bench_batch import Sparing, _figures, children, rss_mb


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_processes() -> None:
    assert rss_mb(os.getpid()) > 10
    assert rss_mb(2**22 + 1) == 0
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert child.pid in children(os.getpid())


def test_growth_is_counted_from_where_it_has_settled() -> None:
    samples = [[500 * k, 100.0, 50.0] for k in range(1, 5)] + [[500 * k, 200.0, 300.0 + 10 * k] for k in range(5, 21)]
    figures = _figures(Counter(read=9800, unusable=200), 100.0, 10_000, SimpleNamespace(samples=samples))
    assert figures["pages_per_s"] == 100
    assert (figures["n_read"], figures["parent_rss_mb"], figures["workers_rss_mb"]) == (9800, 200.0, 500.0)
    assert figures["parent_growth_pct"] == 0.0
    assert figures["workers_growth_pct"] == pytest.approx(100 * (500 / 360 - 1))


def test_every_nth_photo_is_read() -> None:
    asked = []

    class Counting(fake_reader.Reader):
        def read(self, photo, overrides):
            asked.append(photo.source)
            return super().read(photo, overrides)

    reader = Sparing(Counting(), 3)
    grey = np.full((300, 400, 3), 150, np.uint8)
    answers = [reader.read(Photo(grey, str(k))) for k in range(7)]
    assert asked == ["0", "3", "6"]
    assert answers[0] is answers[2]
    assert answers[2] is not answers[3]
