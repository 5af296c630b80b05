"""Files to packed rows: what one worker does with one file, and the processes that do it side by side."""

from __future__ import annotations

import hashlib
import multiprocessing as mp
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

import cv2

from ecg.errors import EcgscanError, InputError
from ecg.page import Overrides, Photo, Reading, Unreadable
from edge_runtime.batch_rows import FAULT, UNUSABLE, failed_row, packed, page_row
from edge_runtime.exports import FORMATS, export
from edge_runtime.images import load_photos, printable
from edge_runtime.outputs import csv_text, png_bytes, reading_json
from edge_runtime.process import trim
from edge_runtime.scan import PhotoReader

OWN_FORMATS: Final = ("csv", "json", "png")
PAGE_TIMEOUT_S: Final = 300.0  # of one page; a worker that takes longer is ended
OPEN_TIMEOUT_S: Final = 900.0  # to start a worker and load the nets, engines may have to be built
_READY: Final = "ready"
_GRACE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Item:
    """One file: its name in the dataset and where it lies."""

    file: str
    path: Path


@dataclass(frozen=True)
class Task:
    """How files are read; ``open_reader`` is called once a worker and must be picklable."""

    open_reader: Callable[[], PhotoReader]
    overrides: Overrides = Overrides()  # noqa: RUF009
    formats: tuple[str, ...] = ()
    keep_header: bool = False


@dataclass
class FileResult:
    """What one file gave: its rows, packed, and other formats as (name, bytes).

    A file that isn't ``whole`` yet brings outputs only: they are written as they come, its rows together.
    """

    file: str
    rows: list[bytes] = field(default_factory=list)
    outputs: list[tuple[str, bytes]] = field(default_factory=list)
    whole: bool = True


def read_file(item: Item, reader: PhotoReader, task: Task) -> Iterator[FileResult]:
    """A file page by page: each page's rows and outputs as they come."""
    name = printable(item.path)
    size = 0
    try:
        size = item.path.stat().st_size
        sha256 = hashlib.sha256(item.path.read_bytes()).hexdigest() if item.path.is_file() else ""
        for photo in load_photos(item.path):
            yield _read_page(photo, item, reader, task, (size, sha256))
    except (InputError, OSError) as err:
        why = str(err).removeprefix(f"{name}: ")
        yield FileResult(item.file, [packed(failed_row(item.file, UNUSABLE, "unusable", why, file_bytes=size))])


def _read_page(photo: Photo, item: Item, reader: PhotoReader, task: Task, known: tuple[int, str]) -> FileResult:
    try:
        result = reader.read(photo, task.overrides)
        row = page_row(result, photo, item.file, *known)
        try:
            outputs = list(_outputs(result, photo, item.file, reader, task))
        except EcgscanError as err:  # the reading stands, and the error table says what it lacks
            row, outputs = row | {"message": str(err)}, []
    except Exception as err:  # a fault of ours with one page must not cost the archive
        why = printable(f"{type(err).__name__}: {err}")
        outputs = []
        row = failed_row(item.file, FAULT, "internal_fault", why, page=photo.page + 1, file_bytes=known[0])
    return FileResult(item.file, [packed(row)], outputs)


def _outputs(
    result: Reading | Unreadable, photo: Photo, file: str, reader: PhotoReader, task: Task
) -> Iterator[tuple[str, bytes]]:
    """Other formats, named after the file with its suffix, so that page.jpg and page.png do not meet."""
    stem = file + (f"_p{photo.page + 1}" if photo.page else "")
    if not isinstance(result, Reading):
        return
    for fmt in task.formats:
        if fmt == "csv":
            yield f"{stem}.csv", csv_text(result.signal).encode()
        elif fmt == "json":
            import json

            document = reading_json(result, photo, reader.bundle, Path(stem).name)
            yield f"{stem}.json", (json.dumps(document, indent=2, allow_nan=False) + "\n").encode()
        elif fmt == "png":
            from edge_runtime.overlay import draw_overlay

            yield f"{stem}.png", png_bytes(draw_overlay(photo, result, task.keep_header))
        else:
            with tempfile.TemporaryDirectory(prefix="ecgscan-") as folder:
                for path in export(result, photo.source, fmt, Path(folder) / Path(stem).name):
                    yield (Path(stem).parent / path.name).as_posix(), path.read_bytes()


# ------------------------------------------------------------------------------------------------------- processes


def results(items: Iterable[Item], task: Task, workers: int, timeout_s: float = PAGE_TIMEOUT_S) -> Iterator[FileResult]:
    """Every file's result, in the order in which they get ready.

    Each worker holds one reader and one file. Where one dies, its file is tried once more; where that happens again,
    or a page takes longer than ``timeout_s``, the file's row says so and another worker takes its place.
    Raises ``EcgscanError`` where no reader can be opened, or workers do nothing but die.
    """
    waiting = iter(items)
    crew = [_Worker(task) for _ in range(workers)]
    deaths = 0
    try:
        busy = [w for w in crew if w.take(next(waiting, None))]
        while busy:
            ready = wait([w.pipe for w in busy], timeout=1.0)
            for worker in [w for w in busy if w.pipe in ready or w.overdue(timeout_s)]:
                done, died = worker.receive(timeout_s)
                deaths = deaths + 1 if died else 0 if done and done.whole else deaths
                if deaths > 2 * workers + 8:
                    raise EcgscanError("the processes that read keep ending; use fewer --workers, they lack memory")
                if done is not None:
                    yield done
                    if done.whole and not worker.take(next(waiting, None)):
                        busy.remove(worker)
    finally:
        for worker in crew:
            worker.end()


class _Worker:
    """A process and the file that it reads."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._start()

    def _start(self) -> None:
        context = mp.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._task), daemon=True)
        self._process.start()
        theirs.close()  # so that its death shows as the end of the pipe
        self._since = time.monotonic()
        self._ready = False
        self._item = Item("", Path())
        self._tries = 0
        self._got = FileResult("")

    def take(self, item: Item | None) -> bool:
        """Give it a file; False where there is none left."""
        if item is None:
            return False
        self._tries = self._tries + 1 if item is self._item else 1
        self._item = item
        self._got = FileResult(item.file)
        self._since = time.monotonic()
        with suppress(OSError):  # it died: the pipe's end tells it next
            self.pipe.send(item)
        return True

    def overdue(self, timeout_s: float) -> bool:
        """Whether it has been silent for too long."""
        return time.monotonic() - self._since > (timeout_s if self._ready else OPEN_TIMEOUT_S)

    def receive(self, timeout_s: float) -> tuple[FileResult | None, bool]:
        """What is there to hand on, and whether the process died."""
        try:
            if not self.pipe.poll():
                return self._failed("timeout", f"no answer within {timeout_s:.0f} s"), False
            message = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join(_GRACE_S)
            return self._failed("process_died", f"the process that read it ended, code {self._process.exitcode}"), True
        self._since = time.monotonic()
        if message is None:
            return self._got, False
        if message == _READY:
            self._ready = True
            return None, False
        if isinstance(message, EcgscanError):
            raise message  # the reader can't be opened: it would not in any other worker
        self._got.rows += message.rows
        return (FileResult(message.file, [], message.outputs, whole=False) if message.outputs else None), False

    def _failed(self, reason: str, why: str) -> FileResult | None:
        """The file's result without what is missing; None where it is tried again."""
        got, item, tries = self._got, self._item, self._tries
        self.end()
        self._start()
        if reason == "process_died" and tries < 2:
            self._item, self._tries = item, tries
            self.take(item)
            return None
        got.rows.append(packed(failed_row(got.file, FAULT, reason, f"{why}; please report this photo")))
        return got

    def end(self) -> None:
        """Stop it, whatever it does."""
        self.pipe.close()
        self._process.terminate()
        self._process.join(_GRACE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(pipe: Connection, task: Task) -> None:
    """What a worker process runs: one file after the other until the pipe closes, be it that its parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    cv2.setNumThreads(1)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            reader = task.open_reader()
            pipe.send(_READY)
        except Exception as err:
            known = isinstance(err, EcgscanError)
            pipe.send(err if known else EcgscanError(f"the reader can't be opened ({type(err).__name__}: {err})"))
            return
        while True:
            item: Any = pipe.recv()
            for part in read_file(item, reader, task):
                pipe.send(part)
            pipe.send(None)
            trim()  # costs 8 % of the reading of a small photo; between files a third of the memory is held


def checked_formats(names: Iterable[str]) -> tuple[str, ...]:
    """The names, each known; raises ``InputError``."""
    known = (*OWN_FORMATS, *FORMATS)
    for name in names:
        if name not in known:
            raise InputError(f"no format {name!r}; give one of {', '.join(known)}")
    return tuple(dict.fromkeys(names))
