"""What the shipped reader makes of printed and photographed records: on this, findings are chosen, calibrated, tested.

Each record is printed (most on a usual 3x4+1 page, the rest on pages of any kind), photographed whole, and read.  What
is printed follows from the seed and the record's name, never from its labels: lost gains are drawn without them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.errors import InputError, RecordError
from ecg.files import write_npz
from ecg.leads import LEAD_INDEX, N_LEADS, base_lead
from ecg.page import EcgSignal, PageLayout, Photo, Reading, Unreadable
from ecg.page_input import page_input
from ecg.readings import QUALITY
from ecg.records import EcgRecord, RecordRef, list_records, with_plausible_gain
from ecg.signal_input import SIGNAL_HZ, SIGNAL_SAMPLES, on_signal_clock
from ecg.synth.camera import photograph, random_shot
from ecg.synth.printer import random_page
from ecg.synth.shots import Shot
from ecg.synth.truth import PrintedPage

CONDITIONS: Final = ("photo", "clean")
LONG_SIDE_PX: Final = 2400
USUAL_SHARE: Final = 0.7  # of pages in 3x4+1 at 25 mm/s and 10 mm/mV; the rest vary as ``random_page`` does
Rng = np.random.Generator
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class ReadingsConfig:
    """Which records are read and under which conditions; ``bundle`` None is the shipped one."""

    out: Path
    data: tuple[str, ...]
    folds: tuple[int, ...] = ()
    conditions: tuple[str, ...] = CONDITIONS
    bundle: Path | None = None
    seed: int = 0
    long_side_px: int = LONG_SIDE_PX


# ------------------------------------------------------------------------------------------------------ print and shoot


def printed(record: EcgRecord, rng: Rng) -> PrintedPage:
    """A whole page of the record; its labels and report take no part."""
    blank = with_plausible_gain(replace(record, codes=(), superclasses=(), report=""), rng)
    if rng.random() < USUAL_SHARE:
        return random_page(rng, blank, layout="3x4+1", speed_mm_per_s=25.0, gain_mm_per_mv=10.0, partial=False)
    return random_page(rng, blank, partial=False)


def whole_page_shot(rng: Rng, long_side_px: int) -> Shot:
    """A shot as ``random_shot`` draws them, but for close-ups of a part of the page."""
    while True:
        shot = random_shot(rng, long_side_px=long_side_px)
        x0, y0, x1, y1 = shot.view.window
        if x1 - x0 > 0.86 and y1 - y0 > 0.55:
            return shot


def picture(record: EcgRecord, condition: str, seed: int, long_side_px: int = LONG_SIDE_PX) -> NDArray[np.uint8]:
    """The page of a record (H, W, 3) as printed ("clean") or as photographed ("photo"): the same page in both."""
    name = crc32(record.name.encode())
    page = printed(record, np.random.default_rng([seed, name, 0]))
    if condition == "clean":
        return np.array(page.rgb)
    rng = np.random.default_rng([seed, name, 1])
    return np.array(photograph(page, whole_page_shot(rng, long_side_px), rng).rgb)


# ----------------------------------------------------------------------------------------------------------- read, keep


def _sure(signal: EcgSignal) -> NDArray[np.float32]:
    """The confidence on the same clock, (12, 1000); 0 where nothing was read."""
    return np.nan_to_num(on_signal_clock(signal.confidence, signal.fs_hz))


def printed_mask(layout: PageLayout) -> NDArray[np.bool_]:
    """Where the layout says that something is printed, (12, 1000) at 100 Hz."""
    out = np.zeros((N_LEADS, SIGNAL_SAMPLES), bool)
    for s in layout.strips:
        first = round(s.start_s * SIGNAL_HZ)
        last = round((s.start_s + (s.x1_mm - s.x0_mm) / layout.paper_speed_mm_per_s) * SIGNAL_HZ)
        out[LEAD_INDEX[base_lead(s.lead)[0]], max(first, 0) : max(last, 0)] = True
    return out


def reading_arrays(result: Reading | Unreadable, rgb: NDArray[np.uint8]) -> Arrays:
    """What is kept of a reading; of a refusal, zeros and its reason."""
    if isinstance(result, Unreadable):
        page = np.zeros((0,), np.uint8)
        mv, sure = (
            np.full((N_LEADS, SIGNAL_SAMPLES), np.nan, np.float32),
            np.zeros((N_LEADS, SIGNAL_SAMPLES), np.float32),
        )
        shown, quality = np.zeros((N_LEADS, SIGNAL_SAMPLES), bool), np.zeros(len(QUALITY))
        status, name = f"{result.stage}/{result.reason}", ""
    else:
        ink = page_input(rgb, result.sheet, result.layout)
        page = np.asarray(cv2.imencode(".png", ink)[1], np.uint8).reshape(-1)
        mv, sure = on_signal_clock(result.signal.mv, result.signal.fs_hz), _sure(result.signal)
        shown = printed_mask(result.layout)
        quality = np.array([result.quality.get(k, np.nan) for k in QUALITY])
        status, name = "read", result.layout.name
    return {
        "page": page, "mv": mv.astype(np.float16), "confidence": (sure * 255).astype(np.uint8),
        "printed": np.packbits(shown, axis=-1), "quality": quality.astype(np.float32),
        "status": np.array(status), "layout": np.array(name),
    }  # fmt: skip


def _jobs(config: ReadingsConfig) -> Iterator[tuple[str, str, RecordRef]]:
    """Condition, source and record; all photos come before the clean prints."""
    for condition in config.conditions:
        for spec in config.data:
            for ref in list_records(spec):
                if not config.folds or ref.fold in config.folds or ref.fold == 0:
                    yield condition, spec.partition(":")[0], ref


def read_all(config: ReadingsConfig, tell: Callable[[str], None] = print) -> Path:
    """Read every record and gather ``config.out``; what an earlier run read is kept beside it and not read again.

    Raises ``InputError`` for a condition that isn't there.
    """
    from edge_runtime.reader import Reader

    if unknown := set(config.conditions) - set(CONDITIONS):
        raise InputError(f"condition {sorted(unknown)[0]!r}: there are {', '.join(CONDITIONS)}")
    folder = config.out.with_suffix(".parts")
    folder.mkdir(parents=True, exist_ok=True)
    reader = Reader.open(config.bundle, threads=1)
    cv2.setNumThreads(1)
    jobs = list(_jobs(config))
    start, read = time.perf_counter(), 0
    for k, (condition, kind, ref) in enumerate(jobs):
        path = folder / f"{condition}-{kind}-{ref.path.name}.npz"
        if path.exists():
            continue
        try:
            record = ref.read()
        except RecordError as error:
            tell(f"skipped: {error}")
            continue
        write_npz(path, _one(reader, record, condition, kind, config))
        read += 1
        if read % 25 == 0:
            tell(f"{k + 1} of {len(jobs)}, {(time.perf_counter() - start) / read:.1f} s each")
    paths = [folder / f"{condition}-{kind}-{ref.path.name}.npz" for condition, kind, ref in jobs]
    return gather([p for p in paths if p.exists()], config.out, tell)


def _one(reader: Any, record: EcgRecord, condition: str, kind: str, config: ReadingsConfig) -> Arrays:
    rgb = picture(record, condition, config.seed, config.long_side_px)
    result = reader.read(Photo(rgb))
    return reading_arrays(result, rgb) | {
        "codes": np.array(" ".join(record.codes)), "superclasses": np.array(" ".join(record.superclasses)),
        "record": np.array(record.name), "source": np.array(kind), "fold": np.array(record.fold),
        "condition": np.array(condition), "true_mv": np.array(record.true_mv),
    }  # fmt: skip


def gather(paths: Sequence[Path], out: Path, tell: Callable[[str], None] = print) -> Path:
    """One file of many readings; says how many were refused."""
    rows = [dict(np.load(p, allow_pickle=False)) for p in paths]
    if not rows:
        raise InputError(f"{out}: no records to read; name some with --data")
    joined: Arrays = {k: np.stack([r[k] for r in rows]) for k in rows[0] if k != "page"}
    joined["page"] = np.concatenate([r["page"] for r in rows])
    joined["page_end"] = np.cumsum([len(r["page"]) for r in rows])
    write_npz(out, joined)
    for condition in sorted(set(joined["condition"].tolist())):
        here = joined["status"][joined["condition"] == condition]
        tell(f"{condition}: {len(here)} records, {int((here != 'read').sum())} refused")
    return out
