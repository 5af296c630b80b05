"""A thread that keeps a camera's latest frame, and starts over with back-off when the camera goes away or falls silent.

The reading side decides all (when to try again, when to give up); the thread only reads, so that a call into a driver
that never comes back can be left behind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ecg.errors import EcgscanError
from ecg.page import U8
from edge_runtime.camera_sources import CameraEnded, CameraError, Source

SILENT_S: Final = 12.0  # a camera that gives no frame for so long is started over
FIRST_DELAY_S: Final = 0.5
MAX_DELAY_S: Final = 8.0


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame, when it came (``time.monotonic``) and its number, from 1."""

    rgb: U8
    at_s: float
    number: int


class _Worker:
    """One opening of the camera, read in a thread of its own until it fails or is told to stop."""

    def __init__(self, opener: Callable[[], Source], wake: threading.Condition) -> None:
        self.latest: Frame | None = None
        self.error: EcgscanError | None = None
        self.heard_s = time.monotonic()
        self._opener, self._wake = opener, wake
        self._stop = threading.Event()
        self.thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self.thread.start()

    def stop(self, wait_s: float) -> None:
        self._stop.set()
        self.thread.join(wait_s)

    def _run(self) -> None:
        source: Source | None = None
        try:
            source = self._opener()
            number = 0
            while not self._stop.is_set():
                rgb = source.read()
                number += 1
                with self._wake:
                    self.latest = Frame(rgb, time.monotonic(), number)
                    self.heard_s = self.latest.at_s
                    self._wake.notify_all()
        except EcgscanError as err:
            self._fail(err)
        except Exception as err:  # a driver's own fault must not end the thread without a word
            self._fail(CameraError(f"camera: {type(err).__name__}: {' '.join(str(err).split())[:120]}"))
        finally:
            if source is not None:
                source.close()

    def _fail(self, error: EcgscanError) -> None:
        with self._wake:
            self.error = error
            self._wake.notify_all()


class Grabber:
    """The latest frame of a camera, whatever happens to it; close it when done (or use ``with``)."""

    def __init__(
        self, opener: Callable[[], Source], *, retries: int = 6, say: Callable[[str], None] = lambda line: None,
        first_delay_s: float = FIRST_DELAY_S, silent_s: float = SILENT_S,
    ) -> None:  # fmt: skip
        self._opener, self._retries, self._say = opener, retries, say
        self._first_delay_s, self._silent_s = first_delay_s, silent_s
        self._wake = threading.Condition()
        self._taken: Frame | None = None
        self._failures = 0
        self._due_s = 0.0
        self._worker: _Worker | None = _Worker(opener, self._wake)

    def __enter__(self) -> Grabber:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def next(self, timeout_s: float) -> Frame | None:
        """The latest frame that was not given out yet; None if none comes in time.

        Raises ``CameraError`` once the camera failed ``retries`` times in a row, and ``CameraEnded`` at a video's end.
        """
        end_s = time.monotonic() + timeout_s
        while True:
            with self._wake:
                frame, error = self._look()
                if frame is None and error is None:
                    left = min(end_s, self._due_s or end_s) - time.monotonic()
                    if left > 0:
                        self._wake.wait(min(left, 0.25))
            if frame is not None:
                return frame
            if error is not None:
                self._failed(error)
            self._revive()
            if time.monotonic() >= end_s:
                return None

    def close(self) -> None:
        """Stop the thread; one that hangs in a driver is left behind, and closes its device if it ever comes back."""
        worker, self._worker, self._taken = self._worker, None, None
        if worker is not None:
            worker.stop(2.0)

    def _look(self) -> tuple[Frame | None, EcgscanError | None]:
        worker = self._worker
        if worker is None:
            return None, None
        if worker.latest is not None and worker.latest is not self._taken:
            self._taken, self._failures = worker.latest, 0
            return worker.latest, None
        if worker.error is not None:
            return None, worker.error
        if time.monotonic() - worker.heard_s > self._silent_s:
            return None, CameraError(f"the camera gave no picture for {self._silent_s:.0f} s: check its cable")
        return None, None

    def _failed(self, error: EcgscanError) -> None:
        """Plan the next try, or give up."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.stop(0.2)
        if isinstance(error, CameraEnded) or not getattr(error, "again", False):
            raise error
        self._failures += 1
        if self._failures > self._retries:
            tries = f"; gave up after {self._retries} more tries" if self._retries else ""
            raise CameraError(f"{error}{tries}", again=False)
        delay = min(self._first_delay_s * 2.0 ** (self._failures - 1), MAX_DELAY_S)
        self._say(f"{error}; trying again in {delay:g} s ({self._failures} of {self._retries})")
        self._due_s = time.monotonic() + delay

    def _revive(self) -> None:
        if self._worker is None and self._due_s and time.monotonic() >= self._due_s:
            self._due_s = 0.0
            self._worker = _Worker(self._opener, self._wake)
