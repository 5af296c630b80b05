"""Held-out records as pages of rows under the conditions that tables name: rendered once and kept, or read by the edge.

What is printed follows from the seed and the record's name, never from its labels: lost gains are drawn without them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.errors import InputError, RecordError
from ecg.files import write_npz
from ecg.page import U8
from ecg.readings import load_readings
from ecg.records import EcgRecord, RecordRef, list_records, with_plausible_gain
from ecg.synth.camera import photograph
from ecg.synth.printer import random_page
from ecg.synth.shots import random_shot
from teacher.config import TeacherConfig
from teacher.lead_pages import clean_page, lead_page
from teacher.pages import fit_page
from teacher.samples import Clocks, on_clock, printed_on

USUAL: Final = "3x4+1"
PHOTO_PX: Final = 1600
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class EvalSet:
    """n records: their labels and, where they could be shown under the condition, pages (n, C, H, W) uint8.

    ``shown`` (n,) is False for refused photos: these count with the score of a record that nothing is known of.
    mv, known (n, 12, samples): the true signal on the signal encoder's clock; printed (n, 12, T), target_mv alike, what
    the page prints (empty for pages that the edge read).
    """

    names: tuple[str, ...]
    codes: tuple[tuple[str, ...], ...]
    superclasses: tuple[tuple[str, ...], ...]
    pages: U8
    shown: Bools
    mv: NDArray[np.float32]
    known: Bools
    target_mv: NDArray[np.float32]
    printed: Bools

    def __len__(self) -> int:
        return len(self.names)


def plausible(record: EcgRecord) -> EcgRecord:
    """In millivolts that don't tell the labels: the gain is drawn from the name alone."""
    blank = replace(record, codes=(), superclasses=(), report="")
    return with_plausible_gain(blank, np.random.default_rng([77, crc32(record.name.encode())]))


def held_out_refs(specs: Sequence[str], folds: Sequence[int]) -> list[RecordRef]:
    """The records of these folds, or all of a source that has no folds; InputError where there are none."""
    refs = [ref for spec in specs for ref in list_records(spec) if not folds or ref.fold in folds]
    if not refs:
        raise InputError(f"{', '.join(specs)}: no records of the folds {list(folds)}")
    return refs


def read_refs(refs: Iterable[RecordRef], tell: Callable[[str], None]) -> list[EcgRecord]:
    """The records that can be read; the others are named and counted."""
    out, skipped = [], 0
    for ref in refs:
        try:
            out.append(ref.read())
        except RecordError as error:
            tell(f"skipped: {ref.name}: {error}")
            skipped += 1
    if skipped:
        tell(f"{skipped} records skipped")
    return out


def eval_set(
    records: Sequence[EcgRecord],
    condition: str,
    config: TeacherConfig,
    clocks: Clocks,
    cache: Path,
    layout: str = USUAL,
    each: Callable[[int, int], None] | None = None,
) -> EvalSet:
    """``condition``: "clean" (the print itself) or "photo" (photographed, read along the true sheet, shaken).

    Pages stay in ``cache``, one file a record, and aren't made again.
    """
    folder = cache / f"{condition}-{layout}"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for k, record in enumerate(records):
        path = folder / f"{crc32(record.name.encode()):08x}.npz"
        if not path.exists():
            write_npz(path, _made(record, condition, layout, config, clocks), compressed=True)
        with np.load(path, allow_pickle=False) as file:
            rows.append({name: file[name] for name in file.files})
        if each:
            each(k + 1, len(records))
    pages = np.stack([_decoded(r["png"]) for r in rows])
    signals = [on_clock(plausible(r), clocks.signal_hz, clocks.signal_samples) for r in records]
    return EvalSet(
        tuple(r.name for r in records), tuple(r.codes for r in records), tuple(r.superclasses for r in records),
        pages, np.ones(len(records), bool), np.stack([s[0] for s in signals]), np.stack([s[1] for s in signals]),
        np.stack([r["target_mv"] for r in rows]).astype(np.float32), np.stack([r["printed"] for r in rows]),
    )  # fmt: skip


def read_by_edge(readings: Path, records: Sequence[EcgRecord], condition: str, clocks: Clocks) -> EvalSet:
    """Pages that the shipped reader made of photos or prints of these records (``ecgscan-distill readings``)."""
    found = load_readings(readings)
    at = {(str(n), str(c)): k for k, (n, c) in enumerate(zip(found.record, found.condition, strict=True))}
    there = [r for r in records if (r.name, condition) in at]
    if not there:
        raise InputError(f"{readings}: has no {condition} readings of these records")
    numbers = [at[r.name, condition] for r in there]
    pages = np.stack([found.page(k)[None] for k in numbers])
    signals = [on_clock(plausible(r), clocks.signal_hz, clocks.signal_samples) for r in there]
    empty = np.zeros((len(there), 12, 0))
    return EvalSet(
        tuple(r.name for r in there), tuple(r.codes for r in there), tuple(r.superclasses for r in there),
        pages, np.array([bool(found.read[k]) for k in numbers]), np.stack([s[0] for s in signals]),
        np.stack([s[1] for s in signals]), empty.astype(np.float32), empty.astype(bool),
    )  # fmt: skip


def _made(record: EcgRecord, condition: str, layout: str, config: TeacherConfig, clocks: Clocks) -> dict[str, Any]:
    rng = np.random.default_rng([5, crc32(record.name.encode())])
    page = random_page(rng, plausible(record), layout=layout, speed_mm_per_s=25.0, gain_mm_per_mv=10.0, partial=False)
    shot = None
    if condition == "photo":
        shot = photograph(page, random_shot(rng, long_side_px=PHOTO_PX, upright=True), rng)
    elif condition != "clean":
        raise InputError(f"condition {condition!r}: expected clean or photo")
    if config.image.page == "leads":
        picture = clean_page(page) if shot is None else lead_page(page, shot, rng)
    else:
        picture = fit_page(page.rgb if shot is None else shot.rgb, config.image.height_px, config.image.width_px)
    target_mv, printed = printed_on(page, clocks.target_hz, clocks.target_samples, shot)
    bgr = np.ascontiguousarray(picture[..., ::-1])
    png = np.asarray(cv2.imencode(".png", bgr)[1], np.uint8).reshape(-1)
    return {"png": png, "target_mv": target_mv.astype(np.float16), "printed": printed}


def _decoded(png: U8) -> U8:
    stored = np.asarray(cv2.imdecode(png, cv2.IMREAD_UNCHANGED), np.uint8)
    return stored[None] if stored.ndim == 2 else np.ascontiguousarray(stored[..., ::-1].transpose(2, 0, 1))
