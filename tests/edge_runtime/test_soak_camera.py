import time
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.camera_sources import CameraError, open_source
from edge_runtime.soak_camera import SIZE_PX, Usage, growth, soak_camera, unsteady_opener, usage, write_video


def samples(memory: list[float], threads: int = 5, files: int = 20) -> list[Usage]:
    return [Usage(10.0 * k, mb, threads, files) for k, mb in enumerate(memory)]


def test_growth_after_the_warm_up() -> None:
    steady = growth(samples([100, 300, 400] + [500.0] * 30), 30.0)
    assert steady["memory"] == pytest.approx(0.0)
    leaking = growth(samples([500.0 + 5 * k for k in range(33)]), 30.0)
    assert leaking["memory"] > 0.1


def test_growth_of_threads_and_files() -> None:
    rows = [Usage(10.0 * k, 500.0, 5 + (k > 20), 20 + k) for k in range(33)]
    grown = growth(rows, 0.0)
    assert grown["threads"] == 1
    assert grown["files"] > 10


def test_too_few_samples_say_nothing() -> None:
    assert growth(samples([1.0, 2.0]), 0.0) == {"memory": 0.0, "threads": 0.0, "files": 0.0, "n": 2.0}


def test_memory_counts_once_a_few_pages_were_read() -> None:
    rows = [Usage(10.0 * k, 300.0 + 100 * min(k, 4), 5, 20, taken=k) for k in range(33)]
    assert growth(rows, 0.0)["memory"] == pytest.approx(0.0)


def test_usage_of_this_process() -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    u = usage(time.monotonic())
    assert u.rss_mb > 10
    assert u.threads >= 1
    assert u.files >= 3


def test_video_has_good_and_bad_stretches_and_its_device_fails(tmp_path: Path) -> None:
    try:
        path = write_video(tmp_path / "loop.avi", n_pages=1, hold_s=0.4)
    except CameraError:
        pytest.skip("this OpenCV can't write MJPG videos")
    source = open_source(str(path))
    frame = source.read()
    source.close()
    assert frame.shape == (SIZE_PX[1], SIZE_PX[0], 3)
    assert np.ptp(frame) > 50
    opener = unsteady_opener(path, fail_every=2)
    first = opener()
    first.read()
    first.read()
    with pytest.raises(CameraError, match="pulled out"):
        first.read()
    first.close()
    opener().close()
    with pytest.raises(CameraError, match="missing"):
        opener()


@pytest.mark.slow
def test_three_minutes_of_camera_hold_memory_threads_and_files() -> None:
    from edge_runtime.reader import Reader

    figures = soak_camera(Reader.open(), 3.0, print)
    assert figures["frames"] > 0
    assert figures["device_failures"] > 0
    assert figures["ok"], figures
