"""``python -m edge_runtime.bench_batch``: an archive of thousands of pages through ``batch``: how fast, what memory.

The archive is links to a few small rendered photos of different sizes, of which some are read and some refused, and to
a broken file.  Each worker first reads every photo with the nets, then every ``--every``-th page; the others get the
last reading of the same photo, so that ten thousand pages pass through everything around the nets (decoding, packing,
pipes, row groups, Parquet) in minutes, and what would leak with the number of pages shows.  ``--every 1``: the nets
read every page.

Workers tell what they hold between two pages, when nothing of a page is left, and their peak.  Memory is flat where
it does not grow after the first tenth of the files (and the first part written).  ``own`` is memory that belongs to the
process alone; the rest are libraries' pages, which the system takes and brings back as it likes.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Final

import cv2
import numpy as np
import typer

from ecg.page import U8, BundleInfo, Overrides, Photo, Reading, Unreadable
from edge_runtime.batch import BatchOptions, bundle_hash, run_batch
from edge_runtime.batch_store import ROWS_A_PART, Dataset
from edge_runtime.cli import one_line_errors
from edge_runtime.evaluate import ResultsOption
from edge_runtime.outputs import write_atomic
from edge_runtime.process import forget_peak, held
from edge_runtime.reader import Reader
from edge_runtime.results_log import append_result, conditions
from edge_runtime.scan import PhotoReader

SEED: Final = 7
PHOTOS: Final = (("flat", 1200), ("scan", 1000), ("folded", 1400), ("copy", 1600), ("receipt", 900), ("flat", 420))
BROKEN_EVERY: Final = 50
WARM: Final = 2  # times that each worker reads each photo before it may repeat
WARM_SHARE: Final = 0.1  # of the files: what memory is compared with comes after
SAMPLES: Final = 100
TELL_EVERY: Final = 12  # pages of a worker, each photo twice

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__)


class Sparing:
    """Reads each photo ``WARM`` times, then every n-th page, and answers the others with their photo's last reading.

    What the process holds as pages come in, the mean of a few, and its peak meanwhile go to a file in ``notes``.
    """

    def __init__(self, reader: PhotoReader, every: int, notes: Path | None = None) -> None:
        self._reader, self._every, self._notes, self._n = reader, every, notes, 0
        self._held: list[tuple[float, float, float]] = []
        self._last: dict[int, tuple[Reading | Unreadable, int]] = {}  # photo -> its last reading, how many there were

    @property
    def bundle(self) -> BundleInfo:
        """Which nets it reads with."""
        return self._reader.bundle

    def read(self, photo: Photo, overrides: Overrides = Overrides()) -> Reading | Unreadable:  # noqa: B008
        """A reading, of this photo or of one before it that was the same."""
        if self._notes:
            self._note(self._notes / str(os.getpid()))
        self._n += 1
        which = zlib.crc32(photo.rgb.tobytes())
        last, times = self._last.get(which, (None, 0))
        if last is not None and times >= WARM and (self._n - 1) % self._every:
            return last
        result = self._reader.read(photo, overrides)
        self._last[which] = result, times + 1
        return result

    def _note(self, path: Path) -> None:
        now = held()
        self._held.append((now.rss_mb, now.own_mb, now.peak_mb))
        if len(self._held) == TELL_EVERY:
            told = np.array(self._held)
            write_atomic(path, json.dumps([*told[:, :2].mean(0), told[:, 2].max()]).encode())
            self._held.clear()
            forget_peak()


def open_sparing(every: int, notes: Path) -> Sparing:
    """The shipped bundle, one thread."""
    return Sparing(Reader.open(threads=1), every, notes)


@app.command()
def main(
    pages: Annotated[int, typer.Option(help="Files of the archive.")] = 10_000,
    every: Annotated[int, typer.Option(help="The nets read every n-th page of a worker; 1: all.")] = 200,
    workers: Annotated[int, typer.Option(help="Processes.")] = 2,
    results: ResultsOption = None,
) -> None:
    """Throughput, and memory of parent and workers over the files."""
    with one_line_errors(), tempfile.TemporaryDirectory() as folder:
        archive, notes = Path(folder) / "scans", Path(folder) / "notes"
        notes.mkdir()
        render = get_context("spawn").Process(target=make_archive, args=(archive, pages))
        render.start()  # in a process of its own: none of its memory stays here
        render.join()
        watch = _Watch(notes, max(1, pages // SAMPLES))
        start = time.perf_counter()
        Dataset.add = watch.counted(Dataset.add)  # type: ignore[method-assign]
        counts = run_batch(str(archive), BatchOptions(Path(folder) / "out", workers),
                           partial(open_sparing, every, notes), bundle_hash(None))  # fmt: skip
        seconds = time.perf_counter() - start
        figures = {**_figures(counts, seconds, pages, watch.samples), "dataset_mb": _size_mb(Path(folder) / "out")}
        for name, value in figures.items():
            typer.echo(f"{name:24s} {value}")
        if results:
            task = "bench/batch" if every > 1 else "bench/batch-all"
            line = {"task": task, **conditions(_data(pages, every), seed=SEED), "workers": workers}
            columns = "files, parent MB, own, workers MB, own, peak"
            append_result(results, {**line, "figures": figures, "columns": columns, "samples": watch.samples})


def _data(pages: int, every: int) -> str:
    sizes = sorted(px for _, px in PHOTOS)
    data = f"{pages} links to {len(PHOTOS)} rendered photos of {sizes[0]} to {sizes[-1]} px, one in {BROKEN_EVERY} "
    others = "page of a worker, the others get their photo's last reading"
    return data + "broken; the nets read every " + ("page" if every == 1 else f"{every}th {others}")


def make_archive(folder: Path, pages: int) -> None:
    """Folders of a thousand links each."""
    photos = []
    folder.mkdir(parents=True)
    for k, (condition, px) in enumerate(PHOTOS):
        photos.append(folder.parent / f"photo{k}.jpg")
        rgb = _picture(condition, px, np.random.default_rng([SEED, k]))
        cv2.imwrite(str(photos[-1]), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    broken = folder.parent / "broken.jpg"
    broken.write_bytes(photos[0].read_bytes()[:20_000])
    for k in range(pages):
        link = folder / f"{k // 1000:03d}" / f"{k:06d}.jpg"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(broken if k % BROKEN_EVERY == BROKEN_EVERY - 1 else photos[k % len(photos)])


def _picture(condition: str, px: int, rng: np.random.Generator) -> U8:
    from ecg.synth.camera import photograph, random_shot
    from ecg.synth.nonecg import NON_ECG_KINDS, non_ecg
    from ecg.synth.printer import random_page
    from edge_runtime.rendered import random_record

    if condition in NON_ECG_KINDS:
        return np.array(cv2.resize(non_ecg(condition, rng), (px * 3 // 4, px), interpolation=cv2.INTER_AREA))
    page = random_page(rng, random_record(rng), layout="3x4+1", speed_mm_per_s=25.0, gain_mm_per_mv=10.0,
                       chest_gain_mm_per_mv=None, partial=False)  # fmt: skip
    return np.array(photograph(page, random_shot(rng, condition=condition, long_side_px=px, upright=True), rng).rgb)


class _Watch:
    """Memory of this process and of the workers together, MB, every so many files."""

    def __init__(self, notes: Path, every: int) -> None:
        self.samples: list[list[float]] = []  # files, parent, its own; workers, their own, their peaks
        self._notes, self._every, self._n = notes, every, 0

    def counted(self, add: Any) -> Any:
        """``Dataset.add``, counting."""

        def counting(dataset: Dataset, rows: Any) -> None:
            add(dataset, rows)
            self._n += 1
            if self._n % self._every == 0:
                now = held()
                told = [json.loads(note.read_text(encoding="utf-8")) for note in self._notes.iterdir()
                        if not note.name.startswith(".")]  # fmt: skip
                workers = np.sum(told, axis=0) if told else np.zeros(3)
                self.samples.append([self._n, *(round(float(v), 1) for v in (now.rss_mb, now.own_mb, *workers))])

        return counting


def _figures(counts: Counter[str], seconds: float, pages: int, samples: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Growth is that of the median from the first third after the warm-up to the last third."""
    out: dict[str, Any] = {"pages": pages, "pages_per_s": pages / seconds, **{f"n_{k}": n for k, n in counts.items()}}
    warm = max(WARM_SHARE * pages, 1.25 * ROWS_A_PART)  # the first part brings in what writes Parquet
    settled = np.asarray([s for s in samples if s[0] > warm], dtype=np.float64).reshape(-1, 6)
    third = max(1, len(settled) // 3)
    if not len(settled):
        return out
    for column, name in ((1, "parent_rss"), (2, "parent_own"), (3, "workers_rss"), (4, "workers_own")):
        first, last = np.median(settled[:third, column]), np.median(settled[-third:, column])
        out |= {f"{name}_mb": float(last), f"{name}_growth_pct": float(100 * (last / max(first, 1e-9) - 1))}
    return out | {"workers_peak_mb": float(settled[:, 5].max())}


def _size_mb(folder: Path) -> float:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6


if __name__ == "__main__":
    app()
