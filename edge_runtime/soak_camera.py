"""A long run of the camera on a looped synthetic video with bad stretches and a device that fails now and then."""

from __future__ import annotations

import ctypes
import gc
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from ecg.page import U8
from edge_runtime.camera import CameraOptions, CameraReader, CameraRun, run_camera
from edge_runtime.camera_sources import CameraError, Source, open_source
from edge_runtime.process import held

FPS: Final = 15.0
SIZE_PX: Final = (1280, 960)
FAIL_EVERY: Final = 400  # frames between two failures of the device
MAX_GROWTH: Final = 0.05
TELL_S: Final = 30.0
WARM_UP: Final = 0.25  # share of the run before memory counts, at most WARM_UP_S,
WARM_UP_S: Final = 240.0
WARM_UP_TAKEN: Final = 4  # and until so many pages were read: the first of each size takes its working memory
MIN_SAMPLES: Final = 9


@dataclass(frozen=True)
class Usage:
    """What the process holds at one moment."""

    at_s: float
    rss_mb: float
    threads: int
    files: int
    taken: int = 0


def usage(start_s: float, taken: int = 0) -> Usage:
    """Memory, threads and open files of this process, from /proc/self; what is freed but kept goes back first."""
    gc.collect()
    _trim()
    now = held()
    return Usage(time.monotonic() - start_s, now.rss_mb, now.threads, now.files, taken)


def _trim() -> None:
    """Let the C library give back what it keeps of freed memory, so that only what is held counts; glibc alone can."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return


def growth(samples: list[Usage], warm_up_s: float) -> dict[str, float]:
    """How memory, threads and files of the last third compare with the first third after the warm-up.

    Medians of thirds: a reading's working memory comes and goes.
    """
    enough = min(WARM_UP_TAKEN, max((u.taken for u in samples), default=0))
    warm = [u for u in samples if u.at_s >= warm_up_s and u.taken >= enough]
    if len(warm) < MIN_SAMPLES:
        return {"memory": 0.0, "threads": 0.0, "files": 0.0, "n": float(len(warm))}
    third = len(warm) // 3
    first, last = warm[:third], warm[-third:]

    def change(of: Callable[[Usage], float], part: bool) -> float:
        a, b = (float(np.median([of(u) for u in us])) for us in (first, last))
        return (b - a) / a if part else b - a

    return {
        "memory": change(lambda u: u.rss_mb, True),
        "threads": change(lambda u: u.threads, False),
        "files": change(lambda u: u.files, False),
        "n": float(len(warm)),
    }


def write_video(path: Path, seed: int = 1, *, n_pages: int = 2, hold_s: float = 3.0) -> Path:
    """A video to loop: pages held still and moved in, black, blurred, overexposed and empty stretches, and noise."""
    size = SIZE_PX
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, size)
    if not video.isOpened():
        raise CameraError(f"{path.name}: this OpenCV can't write a video", again=False)
    try:
        for frame in _frames(np.random.default_rng(seed), n_pages, round(hold_s * FPS)):
            video.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    finally:
        video.release()
    return path


def _frames(rng: np.random.Generator, n_pages: int, n_hold: int) -> Iterator[U8]:
    from ecg.synth.camera import photograph, random_shot
    from ecg.synth.nonecg import non_ecg
    from ecg.synth.printer import random_page
    from edge_runtime.rendered import random_record

    for _ in range(n_pages):
        page = random_page(rng, random_record(rng), layout="3x4+1", partial=False)
        shot = photograph(page, random_shot(rng, condition="flat", long_side_px=SIZE_PX[0], upright=True), rng)
        still = _fitted(np.array(shot.rgb))
        for k in range(n_hold // 3):  # moved in
            move = np.array([[1, 0, 12.0 * (n_hold // 3 - k)], [0, 1, 0]])
            yield np.asarray(cv2.warpAffine(still, move, SIZE_PX), np.uint8)
        yield from (still for _ in range(n_hold))
        blurred = np.asarray(cv2.GaussianBlur(still, (0, 0), 7.0), np.uint8)
        yield from (blurred for _ in range(n_hold // 3))
        bright = np.asarray(np.clip(still.astype(np.float32) * 2.5, 0, 255), np.uint8)
        yield from (bright for _ in range(n_hold // 3))
        yield from (np.zeros_like(still) for _ in range(n_hold // 3))
        other = _fitted(non_ecg(("receipt", "line chart", "x-ray", "letter")[int(rng.integers(4))], rng, SIZE_PX[0]))
        yield from (other for _ in range(n_hold // 2))
        for _ in range(n_hold // 6):
            yield rng.integers(0, 255, still.shape, dtype=np.uint8)


def _fitted(rgb: U8) -> U8:
    """A picture in the middle of a frame of ``SIZE_PX``."""
    f = min(SIZE_PX[0] / rgb.shape[1], SIZE_PX[1] / rgb.shape[0])
    small = cv2.resize(rgb, (round(rgb.shape[1] * f), round(rgb.shape[0] * f)), interpolation=cv2.INTER_AREA)
    out = np.full((SIZE_PX[1], SIZE_PX[0], 3), 90, np.uint8)
    y, x = (SIZE_PX[1] - small.shape[0]) // 2, (SIZE_PX[0] - small.shape[1]) // 2
    out[y : y + small.shape[0], x : x + small.shape[1]] = small
    return out


class Unsteady:
    """A source that fails after so many frames, as a camera does that is pulled out."""

    def __init__(self, inner: Source, fail_after: int) -> None:
        self._inner, self._left = inner, fail_after

    def read(self) -> U8:
        """A frame, or the failure."""
        self._left -= 1
        if self._left < 0:
            raise CameraError("soak: the device was pulled out")
        return self._inner.read()

    def close(self) -> None:
        """Close what is inside."""
        self._inner.close()


def unsteady_opener(video: Path, fail_every: int = FAIL_EVERY) -> Callable[[], Source]:
    """Opens the looped video; every third opening fails too."""
    count = 0

    def opener() -> Source:
        nonlocal count
        count += 1
        if count % 3 == 0:
            raise CameraError("soak: the device is still missing")
        return Unsteady(open_source(str(video), loop=True), fail_every)

    return opener


def soak_camera(
    reader: CameraReader, minutes: float, say: Callable[[str], None], *, every_s: float = 5.0, seed: int = 1
) -> dict[str, Any]:
    """Run the camera for so long and watch what the process holds; figures with ``ok``."""
    samples: list[Usage] = []
    lines: list[str] = []
    start_s = time.monotonic()

    def watch(run: CameraRun) -> None:
        if not samples or time.monotonic() - start_s - samples[-1].at_s >= every_s:
            samples.append(usage(start_s, len(run.taken)))
            u = samples[-1]
            if len(samples) == 1 or u.at_s // TELL_S > samples[-2].at_s // TELL_S:
                say(
                    f"{u.at_s:6.0f} s  {u.rss_mb:7.1f} MB  {u.threads} threads  {u.files} files  {run.frames} frames  "
                    f"{len(run.taken)} taken, {run.n_read} read"
                )

    with tempfile.TemporaryDirectory() as folder:
        video = write_video(Path(folder) / "loop.avi", seed)
        start_s = time.monotonic()
        options = CameraOptions(out=Path(folder) / "out", headless=True, retries=8, seconds=minutes * 60)
        run = run_camera(reader, options, lines.append, opener=unsteady_opener(video), on_frame=watch)
    grown = growth(samples, min(WARM_UP * minutes * 60, WARM_UP_S))
    lost = sum("soak:" in line for line in lines)
    outcomes = {o: sum(line.outcome.value == o for line in run.taken) for o in ("read", "unreadable", "fault")}
    long_enough = grown["n"] >= MIN_SAMPLES and len(run.taken) >= WARM_UP_TAKEN
    flat = grown["memory"] <= MAX_GROWTH and grown["threads"] <= 1 and grown["files"] <= 1
    return {
        "ok": bool(flat and long_enough and not outcomes["fault"]),
        "long_enough": long_enough,
        "minutes": minutes,
        "frames": run.frames,
        "looks_per_s": run.frames_per_s,
        "cpu_ms_per_look": 1e3 * run.looking_cpu_s / max(run.frames, 1),
        "taken": len(run.taken),
        **outcomes,
        "device_failures": lost,
        "growth": grown,
        "peak_rss_mb": max((u.rss_mb for u in samples), default=0.0),
        "rss_mb": [round(u.rss_mb, 1) for u in samples[:: max(1, len(samples) // 60)]],
        "threads": [min(u.threads for u in samples), max(u.threads for u in samples)] if samples else [],
        "files": [min(u.files for u in samples), max(u.files for u in samples)] if samples else [],
    }
