"""Readings against the truth: real photos with their signals, rendered pages, pictures that must be refused."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg.errors import InputError
from ecg.leads import LEAD_INDEX, N_LEADS, base_lead
from ecg.metrics import Score, score_reading, summarise
from ecg.page import Overrides, Photo, Reading, Unreadable
from ecg.records import EcgRecord
from ecg.synth.truth import PrintedPage
from edge_runtime.diagnose import Diagnosis, diagnose
from edge_runtime.images import load_photos
from edge_runtime.outputs import write_result
from edge_runtime.scan import PhotoReader


@dataclass(frozen=True)
class Row:
    """One photo of an evaluation; ``group`` is what its figures are gathered by (a layout, a condition)."""

    name: str
    status: str
    layout: str
    speed: float
    gain: float
    seconds: float
    quality: dict[str, float]
    reason: str = ""
    message: str = ""
    group: str = ""
    score: Score | None = None
    diagnosis: Diagnosis | None = None
    traces: str = ""  # of a rendered page: "apart", or "crossing" where one runs through another's

    @property
    def db(self) -> float:
        """Decibels, what wasn't read as 0; NaN where no truth is known."""
        return max(self.score.db, 0.0) if self.score else float("nan")

    def as_json(self) -> dict[str, Any]:
        """What a results line keeps of a photo."""
        out: dict[str, Any] = {"name": self.name, "status": self.status, "layout": self.layout}
        out |= {"speed": self.speed, "gain": self.gain, "seconds": self.seconds}
        if self.group:
            out["group"] = self.group
        if self.traces:
            out["traces"] = self.traces
        if self.score:
            out |= {"db": self.score.db, "clock_db": self.score.clock_db, "coverage": self.score.coverage}
        if self.diagnosis:
            out["cause"] = self.diagnosis.cause
        return out | ({"reason": self.reason} if self.reason else {})


def read_row(
    reader: PhotoReader, photo: Photo, name: str, truth: EcgRecord | None = None, out_dir: Path | None = None,
    group: str = "", overrides: Overrides | None = None,
) -> Row:  # fmt: skip
    """Read one photo, score it where the truth is known, write its results where a folder is given."""
    start = time.perf_counter()
    result = reader.read(photo, overrides or Overrides())
    seconds = time.perf_counter() - start
    if out_dir is not None:
        write_result(result, photo, reader.bundle, out_dir, name)
    score = diagnosis = None
    if truth is not None:
        read = isinstance(result, Reading)
        mv, fs_hz = (result.signal.mv, result.signal.fs_hz) if isinstance(result, Reading) else (None, 500.0)
        score = score_reading(truth, mv, fs_hz, status="read" if read else "refused")
        diagnosis = diagnose(truth, result, score)
    if isinstance(result, Unreadable):
        return Row(name, "unreadable", "", 0.0, 0.0, seconds, {}, f"{result.stage}/{result.reason}", result.message,
                   group, score, diagnosis)  # fmt: skip
    layout = result.layout
    return Row(name, "read", layout.name, layout.paper_speed_mm_per_s, layout.gain_mm_per_mv, seconds, result.quality,
               group=group, score=score, diagnosis=diagnosis)  # fmt: skip


def paired_rows(reader: PhotoReader, folder: Path, out_dir: Path | None) -> Iterator[Row]:
    """Each photo of a folder with ``photos.csv`` and WFDB truth."""
    import csv

    from ecg.records import read_wfdb

    with (folder / "photos.csv").open(newline="", encoding="utf-8") as file:
        entries = list(csv.DictReader(file))
    for entry in entries:
        path = folder / entry["image_filename"]
        photo = next(iter(load_photos(path)))
        yield read_row(reader, photo, path.stem, read_wfdb(folder / entry["record"]), out_dir)


def folder_rows(reader: PhotoReader, folder: Path, out_dir: Path | None) -> Iterator[Row]:
    """Each picture of a folder without truth."""
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        try:
            for photo in load_photos(path):
                name = path.stem + (f"_p{photo.page + 1}" if photo.page else "")
                yield read_row(reader, photo, name, out_dir=out_dir)
        except InputError as err:
            yield Row(path.stem, "unusable", "", 0.0, 0.0, 0.0, {}, "input", str(err))


def page_truth(page: PrintedPage) -> EcgRecord:
    """What a printed page shows, on its printed clock: (12, n) mV, NaN where a lead isn't printed."""
    fs_hz = page.traces[0].fs_hz
    ends = [round(t.strip.start_s * fs_hz) + len(t.mv) for t in page.traces]
    mv = np.full((N_LEADS, max(ends)), np.nan, dtype=np.float32)
    for trace, end in zip(page.traces, ends, strict=True):  # rhythm strips come last and win
        mv[LEAD_INDEX[base_lead(trace.strip.lead)[0]], end - len(trace.mv) : end] = trace.mv
    return EcgRecord(mv, fs_hz, page.record.name)


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """The metrics over rows with truth, and the times."""
    scores = [r.score for r in rows if r.score]
    out: dict[str, Any] = asdict(summarise(scores)) if scores else {"n": len(rows)}
    out["n_read"] = sum(r.status == "read" for r in rows)
    seconds = [r.seconds for r in rows if r.status == "read"] or [float("nan")]
    return out | {"seconds_median": float(np.median(seconds)), "seconds_max": float(np.max(seconds))}


def worst_first(rows: Iterable[Row]) -> list[Row]:
    """By decibels, refusals first."""
    return sorted(rows, key=lambda r: (r.score is None, r.db if r.score else 0.0, r.name))


def table(rows: Sequence[Row]) -> str:
    """A line a photo: decibels, clock decibels, coverage, layout, lattice residual, seconds, cause."""
    lines = [f"{'photo':24s} {'dB':>6} {'clock':>6} {'cover':>6} {'layout':14s} {'mm/s':>4} {'mm/mV':>5} {'resid':>6} "
             f"{'conf':>5} {'px/mm':>6} {'s':>5}  cause"]  # fmt: skip
    for r in rows:
        q = r.quality
        db, clock, cover = (r.score.db, r.score.clock_db, r.score.coverage) if r.score else (np.nan,) * 3
        cause = r.diagnosis.cause if r.diagnosis else r.reason
        lines.append(
            f"{r.name[:24]:24s} {db:6.2f} {clock:6.2f} {cover:6.3f} {r.layout[:14]:14s} {r.speed:4.0f} {r.gain:5.0f} "
            f"{q.get('lattice_residual_mm', np.nan):6.3f} {q.get('confidence', np.nan):5.2f} "
            f"{q.get('px_per_mm', np.nan):6.1f} {r.seconds:5.2f}  {cause}"
        )
    return "\n".join(lines)


def by_group(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Per group: how many, how many read, least and median decibels."""
    out: dict[str, dict[str, float]] = {}
    for group in sorted({r.group for r in rows}):
        part = [r for r in rows if r.group == group]
        out[group] = {"n": len(part), "n_read": sum(r.status == "read" for r in part)}
        db = [r.db for r in part if r.score]
        if db:
            out[group] |= {"min_db": float(np.min(db)), "median_db": float(np.median(db))}
    return out
