"""Many files to results: one bad file never stops the others."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Protocol

import numpy as np

from ecg.errors import InputError
from ecg.page import BundleInfo, Overrides, Photo, Reading, Unreadable
from edge_runtime.exports import export, targets
from edge_runtime.images import load_photos, printable
from edge_runtime.outputs import StemNames, check_folder, printed_samples, write_result


class PhotoReader(Protocol):
    """What reads a photo (``edge_runtime.reader.Reader``)."""

    @property
    def bundle(self) -> BundleInfo:
        """Which nets it reads with."""
        ...

    def read(self, photo: Photo, overrides: Overrides = ...) -> Reading | Unreadable:
        """The page's signal, or why there is none."""
        ...


class Outcome(Enum):
    """What became of one photo."""

    READ = "read"
    UNREADABLE = "unreadable"
    UNUSABLE = "unusable"
    FAULT = "fault"


@dataclass(frozen=True)
class ScanLine:
    """One photo's outcome in one line, and the files that were written."""

    outcome: Outcome
    text: str
    files: tuple[Path, ...] = ()


def scan_files(
    reader: PhotoReader,
    files: Iterable[Path],
    out_dir: Path,
    overrides: Overrides = Overrides(),  # noqa: B008
    formats: Sequence[str] = (),
    *,
    keep_header: bool = False,
) -> Iterator[ScanLine]:
    """Read every page of every file and write its results, and those of the named ``FORMATS``; a line each.

    ``keep_header`` leaves the printed header, names and numbers, in the picture.

    Raises ``EcgscanError`` only where the results can't be written.
    """
    files = list(files)
    check_folder(out_dir)
    names = StemNames(out_dir, files)
    for file in files:
        try:
            yield from _scan_file(reader, file, out_dir, overrides, names, formats, keep_header)
        except InputError as err:
            yield ScanLine(Outcome.UNUSABLE, str(err))


def _scan_file(
    reader: PhotoReader, file: Path, out_dir: Path, overrides: Overrides, names: StemNames, formats: Sequence[str],
    keep_header: bool,
) -> Iterator[ScanLine]:  # fmt: skip
    start = time.perf_counter()
    for photo in load_photos(file):
        load_ms = 1000 * (time.perf_counter() - start)
        name = printable(file) + (f" page {photo.page + 1}" if photo.page else "")
        stem = out_dir / names.take(photo)
        yield scan_photo(reader, photo, stem, name, overrides, formats, load_ms=load_ms, keep_header=keep_header)
        start = time.perf_counter()


def scan_photo(
    reader: PhotoReader, photo: Photo, stem: Path, name: str, overrides: Overrides, formats: Sequence[str] = (),
    *, load_ms: float = 0.0, keep_header: bool = False,
) -> ScanLine:  # fmt: skip
    """Read one photo and write its results as files that start with ``stem``; ``name`` is what the line calls it."""
    try:
        result = reader.read(photo, overrides)
    except Exception as err:  # a fault of ours with one photo must not cost the user the other photos
        what = printable(f"{type(err).__name__}: {err}")
        return ScanLine(Outcome.FAULT, f"{name}: internal fault ({what}); please report this photo")
    result = replace(result, timings_ms={"load": load_ms, **result.timings_ms})
    line = _written(result, photo, reader.bundle, stem, name, keep_header)
    return replace(line, files=line.files + _exported(result, photo, stem, formats))


def _written(
    result: Reading | Unreadable, photo: Photo, bundle: BundleInfo, stem: Path, name: str, keep_header: bool
) -> ScanLine:
    files = write_result(result, photo, bundle, stem.parent, stem.name, keep_header=keep_header)
    where = printable(files[0])
    if isinstance(result, Unreadable):
        return ScanLine(Outcome.UNREADABLE, f"{name}: unreadable ({result.reason}): {result.message} -> {where}", files)
    return ScanLine(Outcome.READ, f"{name}: {describe(result)} -> {where}", files)


def _exported(result: Reading | Unreadable, photo: Photo, stem: Path, formats: Sequence[str]) -> tuple[Path, ...]:
    """The reading in other formats; what an earlier reading of an unreadable photo left there goes."""
    if isinstance(result, Reading):
        return tuple(path for fmt in formats for path in export(result, photo.source, fmt, stem))
    for path in (p for fmt in formats for p in targets(fmt, stem)):
        path.unlink(missing_ok=True)
    return ()


def describe(reading: Reading) -> str:
    """What was read, in a few words."""
    layout, signal = reading.layout, reading.signal
    printed = printed_samples(layout, signal.fs_hz, signal.mv.shape[1])
    coverage = float(np.isfinite(signal.mv)[printed].mean()) if printed.any() else 0.0
    gain = f"{layout.gain_mm_per_mv:g}"
    if layout.chest_gain_mm_per_mv is not None:
        gain += f" (chest {layout.chest_gain_mm_per_mv:g})"
    return (
        f"read, layout {layout.name}, {layout.paper_speed_mm_per_s:g} mm/s, {gain} mm/mV, "
        f"{100 * coverage:.0f} % of the printed traces"
    )
