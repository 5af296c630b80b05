"""``python -m edge_runtime.bench_batch``: an archive of thousands of pages through ``batch``: how fast, what memory.

The archive is links to a few small rendered photos, broken files among them.  The nets read every ``--every``-th page
of a worker; the others get the last reading again, so that ten thousand pages pass through everything around the nets
(decoding, packing, pipes, row groups, Parquet) in minutes, and what would leak with the number of pages shows.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import cv2
import numpy as np
import typer

from ecg.page import BundleInfo, Overrides, Photo, Reading, Unreadable
from edge_runtime.batch import BatchOptions, bundle_hash, run_batch
from edge_runtime.batch_store import Dataset
from edge_runtime.cli import one_line_errors
from edge_runtime.evaluate import ResultsOption
from edge_runtime.process import held
from edge_runtime.reader import Reader
from edge_runtime.results_log import append_result, conditions

SEED: Final = 7
PHOTO_PX: Final = 1000
KINDS: Final = 4  # different photos
BROKEN_EVERY: Final = 50
SAMPLE_EVERY: Final = 500

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__)


class Sparing:
    """Reads every n-th photo, and answers the others with the last one that could be read."""

    def __init__(self, reader: Reader, every: int) -> None:
        self._reader, self._every, self._n = reader, every, 0
        self._last: Reading | Unreadable | None = None

    @property
    def bundle(self) -> BundleInfo:
        """Which nets it reads with."""
        return self._reader.bundle

    def read(self, photo: Photo, overrides: Overrides = Overrides()) -> Reading | Unreadable:  # noqa: B008
        """A reading, of this photo or of one before it."""
        self._n += 1
        if self._last is not None and (self._n - 1) % self._every:
            return self._last
        result = self._reader.read(photo, overrides)
        if isinstance(result, Reading) or self._last is None:
            self._last = result  # pages with signals weigh most
        return result


def open_sparing(every: int) -> Sparing:
    """The shipped bundle, one thread."""
    return Sparing(Reader.open(threads=1), every)


@app.command()
def main(
    pages: Annotated[int, typer.Option(help="Files of the archive.")] = 10_000,
    every: Annotated[int, typer.Option(help="The nets read every n-th page of a worker; 1: all.")] = 200,
    workers: Annotated[int, typer.Option(help="Processes.")] = 2,
    results: ResultsOption = None,
) -> None:
    """Throughput, and memory of parent and workers every 500 files."""
    with one_line_errors(), tempfile.TemporaryDirectory() as folder:
        archive = make_archive(Path(folder) / "scans", pages)
        watch = _Watch()
        start = time.perf_counter()
        Dataset.add = watch.counted(Dataset.add)  # type: ignore[method-assign]
        counts = run_batch(str(archive), BatchOptions(Path(folder) / "out", workers), partial(open_sparing, every),
                           bundle_hash(None))  # fmt: skip
        seconds = time.perf_counter() - start
        figures = {**_figures(counts, seconds, pages, watch), "dataset_mb": _size_mb(Path(folder) / "out")}
        for name, value in figures.items():
            typer.echo(f"{name:24s} {value}")
        if results:
            data = f"{pages} links to {KINDS} rendered photos of {PHOTO_PX} px, one in {BROKEN_EVERY} broken; the nets "
            data += f"read every {every}th page of a worker, the others get its last reading"
            line = {"task": "bench/batch", **conditions(data, seed=SEED), "workers": workers}
            append_result(results, {**line, "figures": figures, "rss_mb": watch.samples})


def make_archive(folder: Path, pages: int) -> Path:
    """Folders of a thousand links each."""
    from ecg.synth.camera import photograph, random_shot
    from ecg.synth.printer import random_page
    from edge_runtime.rendered import random_record

    rng = np.random.default_rng(SEED)
    folder.mkdir(parents=True)
    photos = []
    for k in range(KINDS):
        page = random_page(rng, random_record(rng), layout="3x4+1", speed_mm_per_s=25.0, gain_mm_per_mv=10.0,
                           chest_gain_mm_per_mv=None, partial=False)  # fmt: skip
        shot = photograph(page, random_shot(rng, condition="flat", long_side_px=PHOTO_PX, upright=True), rng)
        photos.append(folder.parent / f"photo{k}.jpg")
        cv2.imwrite(str(photos[-1]), cv2.cvtColor(shot.rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    broken = folder.parent / "broken.jpg"
    broken.write_bytes(photos[0].read_bytes()[:20_000])
    for k in range(pages):
        link = folder / f"{k // 1000:03d}" / f"{k:06d}.jpg"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(broken if k % BROKEN_EVERY == BROKEN_EVERY - 1 else photos[k % KINDS])
    return folder


class _Watch:
    """Memory of this process and its children, MB, every ``SAMPLE_EVERY`` files."""

    def __init__(self) -> None:
        self.samples: list[list[float]] = []  # files, parent, workers together
        self._n = 0

    def counted(self, add: Any) -> Any:
        """``Dataset.add``, counting."""

        def counting(dataset: Dataset, rows: Any) -> None:
            add(dataset, rows)
            self._n += 1
            if self._n % SAMPLE_EVERY == 0:
                workers = sum(rss_mb(pid) for pid in children(os.getpid()))
                self.samples.append([self._n, round(rss_mb(os.getpid()), 1), round(workers, 1)])

        return counting


def rss_mb(pid: int) -> float:
    """Memory that a process holds now, MB; 0 where it is gone or the system doesn't tell."""
    try:
        return held(pid).rss_mb
    except (OSError, KeyError):  # a process that has just ended has no VmRSS
        return 0.0


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text(encoding="utf-8").split()]
    except OSError:
        return []


def _figures(counts: Counter[str], seconds: float, pages: int, watch: _Watch) -> dict[str, Any]:
    settled = watch.samples[len(watch.samples) // 4 :]  # allocators and caches are warm
    out: dict[str, Any] = {"pages": pages, "pages_per_s": pages / seconds, **{f"n_{k}": n for k, n in counts.items()}}
    for column, name in ((1, "parent"), (2, "workers")):
        values = [s[column] for s in settled] or [float("nan")]
        out |= {f"{name}_rss_mb": values[-1], f"{name}_growth_pct": 100 * (values[-1] / values[0] - 1)}
    return out


def _size_mb(folder: Path) -> float:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6


if __name__ == "__main__":
    app()
