"""The same work on a Ray cluster (``pip install ray``): an actor for each core holds a reader, files travel as bytes.

The nodes need ecgscan installed and no common folder; the dataset is written where the command runs.
"""

from __future__ import annotations

import importlib
import logging
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import cv2

from ecg.errors import EcgscanError
from edge_runtime.batch_rows import FAULT, UNUSABLE, failed_row, packed
from edge_runtime.batch_work import FileResult, Item, Task, read_file

FILE_TIMEOUT_S: Final = 3600.0  # of a whole file: an actor does not tell its pages one by one


class Desk:
    """What an actor runs: one reader."""

    def __init__(self, task: Task) -> None:
        cv2.setNumThreads(1)
        self._task = task
        self._reader = task.open_reader()

    def read(self, file: str, data: bytes) -> FileResult:
        """A file's rows and outputs."""
        whole = FileResult(file)
        with tempfile.TemporaryDirectory(prefix="ecgscan-") as folder:
            path = Path(folder) / Path(file).name
            path.write_bytes(data)
            for part in read_file(Item(file, path), self._reader, self._task):
                whole.rows += part.rows
                whole.outputs += part.outputs
        return whole


def ray_results(items: Iterable[Item], task: Task, address: str, workers: int | None) -> Iterator[FileResult]:
    """Every file's result as it gets ready; ``address`` is "auto", "local" or ray://HOST:PORT.

    Raises ``EcgscanError`` where ray is missing or the cluster can't be reached. An actor that dies costs its file.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else a dozen lines about a cluster that isn't there
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as err:
        raise EcgscanError("--ray needs ray: pip install ray, or leave --ray away") from err
    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, include_dashboard=False,
                 logging_level=logging.ERROR)  # fmt: skip
    except Exception as err:
        raise EcgscanError(
            f"--ray {address}: no cluster there ({type(err).__name__}: {err}); check the address"
        ) from err
    try:
        yield from _gathered(ray, items, task, workers or max(1, int(ray.cluster_resources().get("CPU", 1))))
    finally:
        ray.shutdown()


def _gathered(ray: Any, items: Iterable[Item], task: Task, workers: int) -> Iterator[FileResult]:
    actor = ray.remote(num_cpus=1)(Desk)
    idle = [actor.remote(task) for _ in range(workers)]
    waiting = iter(items)
    busy: dict[Any, tuple[Any, str, float]] = {}
    failures = 0
    while True:
        while idle and (item := next(waiting, None)) is not None:
            try:
                data = item.path.read_bytes()
            except OSError as err:
                row = failed_row(item.file, UNUSABLE, "unusable", f"can't be read ({err.strerror or err})")
                yield FileResult(item.file, [packed(row)])
                continue
            desk = idle.pop()
            busy[desk.read.remote(item.file, data)] = (desk, item.file, time.monotonic())
        if not busy:
            return
        ready, _ = ray.wait(list(busy), num_returns=1, timeout=10.0)
        late = [r for r, (_, _, since) in busy.items() if time.monotonic() - since > FILE_TIMEOUT_S]
        for reference in dict.fromkeys([*ready, *late]):
            desk, file, _ = busy.pop(reference)
            try:
                yield ray.get(reference, timeout=0)
                failures = 0
            except Exception as err:  # the actor died, its reader can't be opened, or it takes too long
                failures += 1
                if failures > workers + 2:
                    raise EcgscanError(f"the cluster's readers keep failing ({type(err).__name__}: {err})") from err
                ray.kill(desk)
                desk = actor.remote(task)
                row = failed_row(file, FAULT, "process_died", f"{type(err).__name__} on the cluster; read it alone")
                yield FileResult(file, [packed(row)])
            idle.append(desk)
