"""The camera: look at each frame, say what to do, take the sharpest once all is well, read it and write the results."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from ecg.page import U8, BundleInfo, Overrides, Photo, Reading, Unreadable
from edge_runtime.camera_glance import Chooser, Glance, glance
from edge_runtime.camera_grab import Grabber
from edge_runtime.camera_sources import CameraEnded, Source, open_source
from edge_runtime.camera_window import Window, check_window
from edge_runtime.engines.base import Engine
from edge_runtime.guidance import Guide
from edge_runtime.outputs import SUFFIXES, check_folder
from edge_runtime.scan import Outcome, ScanLine, scan_photo

WAIT_S: Final = 0.5
AGAIN_S: Final = 3.0  # a page that could not be read may be taken once more after this


class CameraReader(Protocol):
    """What reads a page and looks at frames (``edge_runtime.reader.Reader``)."""

    @property
    def bundle(self) -> BundleInfo:
        """Which nets it reads with."""
        ...

    @property
    def coarse(self) -> Engine:
        """The coarse finder."""
        ...

    def read(self, photo: Photo, overrides: Overrides = ...) -> Reading | Unreadable:
        """The page's signal, or why there is none."""
        ...


@dataclass(frozen=True)
class CameraOptions:
    """How to run: ``once`` ends after the first page that was read, ``seconds`` after a time (0: never)."""

    device: str = "0"
    out: Path = Path("ecgscan-out")
    headless: bool = False
    once: bool = False
    loop: bool = False
    retries: int = 6
    seconds: float = 0.0
    formats: Sequence[str] = ()
    overrides: Overrides = field(default_factory=Overrides)


@dataclass
class CameraRun:
    """What came of a run: frames looked at, seconds spent looking (by the clock, and of all cores together, decoding of
    the video beside it included), lines of the pages taken, the last guidance."""

    frames: int = 0
    looking_s: float = 0.0
    looking_cpu_s: float = 0.0
    taken: list[ScanLine] = field(default_factory=list)
    guidance: str = ""
    ended: str = ""

    @property
    def n_read(self) -> int:
        """Pages that were read."""
        return sum(line.outcome is Outcome.READ for line in self.taken)

    @property
    def frames_per_s(self) -> float:
        """Frames a second that one could look at, without waiting for the camera."""
        return self.frames / self.looking_s if self.looking_s else 0.0

    def summary(self) -> str:
        """How it ended, in a line."""
        took = f"{len(self.taken)} taken, {self.n_read} read, {self.frames} frames ({self.frames_per_s:.0f} a second)"
        if self.n_read:
            return took
        why = "; ".join(x for x in (self.ended, f"last advice: {self.guidance}" if self.guidance else "") if x)
        return f"no page was read: {why or 'no frame came'}; {took}"


def run_camera(
    reader: CameraReader,
    options: CameraOptions,
    say: Callable[[str], None],
    *,
    opener: Callable[[], Source] | None = None,
    on_frame: Callable[[CameraRun], None] | None = None,
) -> CameraRun:
    """Run until ``once`` is met, the time is up, the video ends, the window is closed, or Ctrl-C.

    ``say`` gets each line for the terminal; ``opener`` stands in for ``--device`` in tests; ``on_frame`` is called
    after each frame.  Raises ``CameraError`` where the camera can't be used.
    """
    check_folder(options.out)
    if not options.headless:
        check_window()
    start = opener or (lambda: open_source(options.device, loop=options.loop))
    loop = _Loop(reader, options, say)
    with ExitStack() as stack:
        window = None if options.headless else stack.enter_context(Window())
        grabber = stack.enter_context(Grabber(start, retries=options.retries, say=say))
        try:
            while not loop.over():
                frame = grabber.next(WAIT_S)
                if frame is None:
                    continue
                key = loop.frame(frame.rgb, window)
                if on_frame is not None:
                    on_frame(loop.run)
                if key == "quit":
                    break
        except CameraEnded as end:
            loop.run.ended = str(end)
        except KeyboardInterrupt:
            loop.run.ended = "stopped"
    return loop.run


class _Loop:
    """One run's state."""

    def __init__(self, reader: CameraReader, options: CameraOptions, say: Callable[[str], None]) -> None:
        self.run = CameraRun()
        self._reader, self._options, self._say = reader, options, say
        self._guide, self._chooser = Guide(), Chooser()
        self._before: Glance | None = None
        self._start_s = time.monotonic()
        self._again_s = 0.0
        self._note = ""

    def over(self) -> bool:
        """Whether the run has what it wanted, or no time left."""
        if self._options.once and self.run.n_read:
            return True
        if self._options.seconds and time.monotonic() - self._start_s > self._options.seconds:
            self.run.ended = f"no more time after {self._options.seconds:g} s"
            return True
        return False

    def frame(self, rgb: U8, window: Window | None) -> str:
        """Look at a frame, guide, and read it if it is the one; the key that was pressed."""
        start, start_cpu = time.perf_counter(), time.process_time()
        photo = Photo(rgb, "camera")
        look = glance(photo, self._reader.coarse, self._before)
        self._before = look
        self.run.frames += 1
        self.run.looking_s += time.perf_counter() - start
        self.run.looking_cpu_s += time.process_time() - start_cpu
        now = time.monotonic()
        if self._again_s and now > self._again_s:
            self._chooser.again()
            self._again_s = 0.0
        chosen = self._chooser.add(photo, look)
        self._guidance(look, now)
        key = window.show(rgb, look, self.run.guidance) if window else ""
        if key == "take":
            chosen = photo
        if chosen is not None:
            self._read(chosen)
        return key

    def _guidance(self, look: Glance, now: float) -> None:
        line = self._note if self._chooser.waiting else self._guide.line(look.findings, now)
        if line and line != self.run.guidance:
            self.run.guidance = line
            self._say(line)

    def _read(self, photo: Photo) -> None:
        stem = _free_stem(self._options.out, f"camera-{datetime.now():%Y%m%d-%H%M%S}")
        photo = Photo(photo.rgb, stem.name)
        line = scan_photo(self._reader, photo, stem, stem.name, self._options.overrides, self._options.formats)
        self.run.taken.append(line)
        self._say(line.text)
        read = line.outcome is Outcome.READ
        self._note = "done: show the next page" if read else "not read: change light or position"
        self._again_s = 0.0 if read else time.monotonic() + AGAIN_S


def _free_stem(out: Path, name: str) -> Path:
    """A stem under which nothing was written yet."""
    k, stem = 1, out / name
    while any(stem.with_name(stem.name + suffix).exists() for suffix in SUFFIXES):
        k += 1
        stem = out / f"{name}-{k}"
    return stem
