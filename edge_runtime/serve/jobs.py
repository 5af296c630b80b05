"""One reading at a time, a few waiting: the work of all uploads done by a single thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

T = TypeVar("T")


class BusyError(Exception):
    """As many wait as may; come back later."""


class LateError(Exception):
    """The work was not done in time."""


class WorkQueue:
    """A daemon thread that does one piece of work after the other; at most ``waiting`` more wait."""

    def __init__(self, waiting: int) -> None:
        self._waiting: queue.Queue[tuple[Future[Any], Callable[[], Any]] | None] = queue.Queue()
        self._places = threading.BoundedSemaphore(waiting + 1)
        self._thread = threading.Thread(target=self._work, name="ecgscan-reader", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[], T], timeout_s: float) -> T:
        """The result of ``work`` once its turn has come; raises ``BusyError``, ``LateError`` or what it raised."""
        if not self._places.acquire(blocking=False):
            raise BusyError
        future: Future[T] = Future()
        future.add_done_callback(lambda _: self._places.release())
        self._waiting.put((future, work))
        try:
            return future.result(timeout_s)
        except FutureTimeout as err:
            if future.done():  # just now, or with a TimeoutError of its own
                return future.result()
            future.cancel()  # without effect on work that has begun, which keeps its place until it ends
            raise LateError from err

    def close(self) -> None:
        """No more work; what runs is finished."""
        self._waiting.put(None)
        self._thread.join(timeout=30.0)

    def _work(self) -> None:
        while (item := self._waiting.get()) is not None:
            future, work = item
            if future.set_running_or_notify_cancel():
                try:
                    result = work()
                except BaseException as err:
                    future.set_exception(err)
                else:
                    future.set_result(result)
                    del result
            del item, future, work  # a photo must not live on here until the next one comes
