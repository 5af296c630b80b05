"""``ecgscan-edge batch``: an archive of scans and photos to one dataset, resumable, side by side over the cores."""

from __future__ import annotations

import glob
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from ecg.bundle import load_bundle
from ecg.errors import EcgscanError, InputError
from ecg.page import Overrides
from edge_runtime.batch_rows import FAULT, READ, UNREADABLE, UNUSABLE
from edge_runtime.batch_store import FILES, Dataset
from edge_runtime.batch_work import FileResult, Item, Task, checked_formats, results
from edge_runtime.images import printable
from edge_runtime.outputs import write_atomic
from edge_runtime.scan import PhotoReader

SUFFIXES: Final = frozenset(
    [".jpg", ".jpeg", ".jpe", ".png", ".tif", ".tiff", ".bmp", ".webp", ".heic", ".heif", ".hif", ".pdf"]
)  # of a folder's files; a glob takes what it names
SAY_EVERY_S: Final = 30.0  # where progress can't be drawn


@dataclass(frozen=True)
class BatchOptions:
    """What is read how; ``workers`` None: a worker for each core."""

    out: Path
    workers: int | None = None
    formats: tuple[str, ...] = ()
    overrides: Overrides = Overrides()  # noqa: RUF009
    keep_header: bool = False
    ray: str | None = None


def list_items(source: str, out: Path) -> list[Item]:
    """The pictures of a folder and the folders in it, or what a glob names, in order of their names; nothing of
    ``out``.  Names in the dataset are relative to the folder, or to what stands before the glob's first wildcard.

    Raises ``InputError`` where there is nothing.
    """
    folder = Path(source)
    if folder.is_dir():
        base = folder
        found: Iterable[Path] = (p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    elif glob.has_magic(source):
        fixed = [part for part in Path(source).parts]
        first = next(k for k, part in enumerate(fixed) if glob.has_magic(part))
        base = Path(*fixed[:first]) if first else Path()
        found = (Path(p) for p in glob.iglob(source, recursive=True))
    elif folder.is_file():
        base, found = folder.parent, [folder]
    else:
        raise InputError(f"{printable(source)}: no such folder; give a folder or a pattern such as 'scans/**/*.jpg'")
    inside = out.resolve()
    files = (p for p in found if p.is_file() and inside not in p.resolve().parents)
    items = [Item(os.fsencode(p.relative_to(base)).decode("utf-8", "replace"), p) for p in files]
    if not items:
        raise InputError(f"{printable(source)}: no pictures there; give a folder or a quoted pattern")
    return sorted(items, key=lambda item: item.file)


def run_batch(
    source: str,
    options: BatchOptions,
    open_reader: Callable[[], PhotoReader],
    bundle_sha256: str,
    say: Callable[[str], None] = lambda _: None,
) -> Counter[str]:
    """Read what is not in the dataset yet and count how all of ``source``'s files ended.

    Raises ``EcgscanError`` in one line; ``KeyboardInterrupt`` after what is finished has been written.
    """
    task = Task(open_reader, options.overrides, checked_formats(options.formats), options.keep_header)
    items = list_items(source, options.out)
    made_with = {"bundle_sha256": bundle_sha256, "overrides": asdict(options.overrides), "formats": list(task.formats),
                  "source": os.path.normpath(source)}  # fmt: skip
    made_with = json.loads(json.dumps(made_with))  # as it will be read again
    with Dataset(options.out, made_with) as dataset:
        todo = [item for item in items if item.file not in dataset.done]
        if len(todo) < len(items):
            say(f"{len(items) - len(todo)} of {len(items)} files are in {options.out} already")
        changed = sum(_size(i.path) not in (dataset.done[i.file], -1) for i in items if i.file in dataset.done)
        if changed:
            say(f"{changed} of them have changed since; to read them again, choose another --out")
        with _progress(len(todo), say) as advance:
            for done in _results(todo, task, options):
                for name, data in done.outputs:
                    write_atomic(options.out / FILES / name, data)
                if done.whole:
                    dataset.add(done.rows)
                    advance()
        dataset.flush()
        return dataset.counts(item.file for item in items)


def _results(todo: list[Item], task: Task, options: BatchOptions) -> Iterator[FileResult]:
    if options.ray is not None:
        from edge_runtime.batch_ray import ray_results

        return ray_results(todo, task, options.ray, options.workers)
    from edge_runtime.engines.base import usable_cores

    workers = options.workers or usable_cores()
    return results(todo, task, max(1, min(workers, len(todo))))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


@contextmanager
def _progress(total: int, say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """A bar with the time left on a terminal, a line every half minute elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

        columns = (BarColumn(), MofNCompleteColumn(), "files", TimeElapsedColumn(), "left", TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), speed_estimate_period=300) as bar:
            whole = bar.add_task("", total=total)
            yield lambda: bar.advance(whole)
        return
    start = said = time.monotonic()
    n = 0

    def advance() -> None:
        nonlocal n, said
        n += 1
        now = time.monotonic()
        if now - said >= SAY_EVERY_S and n < total:
            said = now
            left_s = (now - start) / n * (total - n)
            say(f"{n} of {total} files, {n / (now - start):.2f} a second, {in_time(left_s)} left")

    yield advance


def in_time(seconds: float) -> str:
    """ "2 h 05 min", "12 min", "40 s"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def summary(counts: Counter[str], out: Path) -> str:
    """How it ended, in one line."""
    words = {READ: "read", UNREADABLE: "unreadable", UNUSABLE: "unusable", FAULT: "faults"}
    said = ", ".join(f"{counts[k]} {word}" for k, word in words.items() if counts[k] or k == READ)
    failed = sum(n for k, n in counts.items() if k != READ)
    files = "1 file" if counts.total() == 1 else f"{counts.total()} files"
    return f"{files}: {said} -> {out}" + (f" (why: {out / 'errors.csv'})" if failed else "")


def open_reader(bundle: Path | None, engine: str) -> PhotoReader:
    """A worker's reader: one thread, for there is a worker a core; embeddings are kept where the bundle gives them."""
    from edge_runtime.reader import Reader

    reader = Reader.open(bundle, threads=1, engine=engine)
    reader.keep_embedding = True
    return reader


def bundle_hash(bundle: Path | None) -> str:
    """The hash of the bundle that will read; raises ``BundleError``."""
    from edge_runtime.reader import SHIPPED

    return load_bundle(bundle or SHIPPED).info.sha256


def check_formats(formats: Iterable[str]) -> None:
    """Raises ``EcgscanError`` for unknown formats and missing libraries: before hours of reading, not after."""
    checked_formats(formats)
    if "dicom" in formats:
        try:
            import pydicom  # noqa: F401
        except ImportError as err:
            raise EcgscanError("DICOM needs pydicom: pip install 'ecgscan[formats]'") from err
