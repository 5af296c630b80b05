"""One training sample: a record, its page or photo, its sentence, and what the page prints of it.

A sample follows from the seed and its number alone, so any process can make it, again if need be.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ecg.errors import InputError, RecordError
from ecg.findings import STATEMENTS, SUBCLASSES
from ecg.leads import LEAD_INDEX, N_LEADS, base_lead
from ecg.page import F32, U8
from ecg.records import EcgRecord, RecordRef, list_records, resample, with_plausible_gain
from ecg.synth.camera import photograph, random_shot
from ecg.synth.heart import beat, random_heart
from ecg.synth.printer import random_page
from ecg.synth.truth import Photograph, PrintedPage, TraceTruth
from teacher.config import TeacherConfig
from teacher.lead_pages import lead_page, print_page, shoot
from teacher.pages import fit_page
from teacher.prompts import PROMPTS, SUPERCLASS_PROMPTS

_log = logging.getLogger(__name__)

SYNTHETIC = "synthetic"
RECORD_S = 10.0
LIMIT_MV = 5.0  # signals are clipped there: beyond it, it isn't a heart


@dataclass(frozen=True, eq=False)
class Sample:
    """One page (H, W, 3 or 1) uint8; mv, known (12, n) on the signal encoder's clock; target_mv, printed (12, T) on the
    decoder's; the sentence, and what it says as a group (equal findings, equal group); the record's name."""

    page: U8
    mv: F32
    known: NDArray[np.bool_]
    target_mv: F32
    printed: NDArray[np.bool_]
    sentence: str
    group: str
    record: str


@dataclass(frozen=True)
class Clocks:
    """Rates and lengths of the two signals of a sample."""

    signal_hz: float
    signal_samples: int
    target_hz: float
    target_samples: int


# -------------------------------------------------------------------------------------------------------------- records


def training_refs(sources: tuple[str, ...], held_out: tuple[int, ...] = (9, 10)) -> list[RecordRef]:
    """The records of the named sources that may train: not the folds ``held_out``, not the photos' truth."""
    if not sources:
        raise InputError("no data: name records with --data, such as ptbxl:DIR, or synthetic")
    refs: list[RecordRef] = []
    for source in sources:
        if source == SYNTHETIC:
            continue
        if source.startswith("paired:"):
            raise InputError(f"{source}: the photos' records only measure; name others to train on")
        found = [ref for ref in list_records(source) if ref.fold not in held_out]
        if not found:
            raise RecordError(f"{source}: all its records are in the folds {held_out}, which don't train")
        refs += found
    return refs


def describe(record: EcgRecord, rng: np.random.Generator) -> tuple[str, str]:
    """A sentence for the record and the group of its findings: from its codes, or else its report; "" for neither."""
    said = [c for c in record.codes if c in PROMPTS or c in SUBCLASSES]
    if said:
        said.sort(key=lambda c: (_is_other(c), rng.random()))  # rhythm first, as carts print it
        sets = [PROMPTS.get(c) or SUPERCLASS_PROMPTS[SUBCLASSES[c]] for c in said]
        return ". ".join(str(rng.choice(s)) for s in sets) + ".", " ".join(sorted(set(said)))
    report = " ".join(record.report.split())
    return report, report.lower()


def _is_other(code: str) -> bool:
    return code not in STATEMENTS or STATEMENTS[code].kind != "rhythm"


class Source:
    """Draws records: real ones, in plausible millivolts, and synthetic ones."""

    def __init__(self, config: TeacherConfig) -> None:
        self.refs = training_refs(config.data.sources, config.data.held_out)
        self.synthetic_share = 1.0 if not self.refs else config.data.synthetic_share
        if self.refs and SYNTHETIC not in config.data.sources:
            self.synthetic_share = 0.0
        self.skipped: dict[str, str] = {}  # name: why
        self.last: tuple[tuple[int, ...], _Drawn] | None = None  # the print that the samples after it may share

    def draw(self, rng: np.random.Generator) -> EcgRecord:
        """A record with something said of it; those that can't be used are named, and others drawn instead."""
        if rng.random() < self.synthetic_share:
            return beat(random_heart(rng), RECORD_S, rng=rng)
        for _ in range(50):
            ref = self.refs[int(rng.integers(len(self.refs)))]
            if ref.name in self.skipped:
                continue
            record = self.read(ref)
            if record is not None:
                return with_plausible_gain(record, rng)
        raise RecordError(f"50 records in a row can't be used; the last said: {list(self.skipped.values())[-1]}")

    def read(self, ref: RecordRef) -> EcgRecord | None:
        """The record, or None for one that can't be used: it is named and counted."""
        try:
            record = ref.read()
        except RecordError as error:
            self._skip(ref.name, str(error))
            return None
        if not np.isfinite(record.mv).any() or not describe(record, np.random.default_rng(0))[0]:
            self._skip(ref.name, "has no signal, or neither codes nor a report")
            return None
        return record

    def _skip(self, name: str, why: str) -> None:
        self.skipped[name] = why
        _log.warning("skipped: %s: %s", name, why)


# -------------------------------------------------------------------------------------------------------------- samples


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A record, what is said of it, its print, and the photo where there is one."""

    record: EcgRecord
    sentence: str
    group: str
    page: PrintedPage
    shot: Photograph | None


def make_sample(number: int, source: Source, config: TeacherConfig, clocks: Clocks) -> Sample:
    """Sample ``number`` of a run."""
    drawn = _drawn(number, source, config)
    if config.image.page == "leads":
        page = lead_page(drawn.page, drawn.shot, np.random.default_rng([config.optim.seed, number, 1]))
    else:
        rgb = drawn.page.rgb if drawn.shot is None else drawn.shot.rgb
        page = fit_page(rgb, config.image.height_px, config.image.width_px)
    target_mv, printed = printed_on(drawn.page, clocks.target_hz, clocks.target_samples, drawn.shot)
    mv, known = on_clock(drawn.record, clocks.signal_hz, clocks.signal_samples)
    return Sample(page, mv, known, target_mv, printed, drawn.sentence, drawn.group, drawn.record.name)


def _drawn(number: int, source: Source, config: TeacherConfig) -> _Drawn:
    """What sample ``number`` shows; with pages of leads, ``variants`` samples in a row share it."""
    data, leads = config.data, config.image.page == "leads"
    key = (config.optim.seed, number // data.variants if leads else number)
    if source.last is not None and source.last[0] == key:
        return source.last[1]
    rng = np.random.default_rng(list(key))
    record = source.draw(rng)
    sentence, group = describe(record, rng)
    # The report stays off the page: else the page could be matched with its text by reading.
    page = print_page(record, rng) if leads else random_page(rng, replace(record, report=""))
    shot = None
    if rng.random() < data.photo_share:
        if leads:
            shot = shoot(page, data.long_side_px, rng)
        else:
            shot = photograph(page, random_shot(rng, long_side_px=data.long_side_px, upright=True), rng)
    source.last = (key, _Drawn(record, sentence, group, page, shot))
    return source.last[1]


def on_clock(record: EcgRecord, fs_hz: float, n: int) -> tuple[F32, NDArray[np.bool_]]:
    """The record's first ``n`` samples at ``fs_hz``: mV (12, n), 0 where not known, and where it is known (12, n)."""
    got = resample(record, fs_hz).mv[:, :n]
    mv = np.zeros((N_LEADS, n), np.float32)
    known = np.zeros((N_LEADS, n), bool)
    known[:, : got.shape[1]] = np.isfinite(got)
    mv[:, : got.shape[1]] = np.clip(np.nan_to_num(got), -LIMIT_MV, LIMIT_MV)
    return mv, known


def printed_on(
    page: PrintedPage, fs_hz: float, n: int, shot: Photograph | None = None
) -> tuple[F32, NDArray[np.bool_]]:
    """What the page prints, in mV on the printed clock: (12, n), 0 where nothing is printed, and where it is (12, n).

    With a photo, only what lies inside it.  A lead in a column and in a rhythm strip is taken from the column where
    there is one.
    """
    mv = np.zeros((N_LEADS, n), np.float32)
    printed = np.zeros((N_LEADS, n), bool)
    t = np.arange(n) / fs_hz
    for trace in sorted(page.traces, key=lambda one: len(one.mv)):
        lead = LEAD_INDEX[base_lead(trace.strip.lead)[0]]
        at = (t - trace.strip.start_s) * trace.fs_hz
        here = np.flatnonzero((at >= -1e-6) & (at <= len(trace.mv) - 1) & ~printed[lead])
        smooth = _boxed(trace.mv, max(1, round(trace.fs_hz / fs_hz)))
        values = np.interp(at[here], np.arange(len(trace.mv)), smooth)
        good = np.isfinite(values) & _inside(trace, shot)[np.round(at[here]).astype(int)]
        mv[lead, here[good]] = np.clip(values[good], -LIMIT_MV, LIMIT_MV)
        printed[lead, here[good]] = True
    return mv, printed


def _inside(trace: TraceTruth, shot: Photograph | None) -> NDArray[np.bool_]:
    """Which of the trace's samples (n,) the photo shows; all of them without one."""
    if shot is None:
        return np.ones(len(trace.mv), bool)
    x, y = shot.page_to_photo(np.stack([trace.x_mm, trace.y_mm], axis=-1)).T
    with np.errstate(invalid="ignore"):
        inside = (x >= 0) & (y >= 0) & (x < shot.rgb.shape[1]) & (y < shot.rgb.shape[0])
    return np.asarray(inside, dtype=bool)


def _boxed(x: F32, width: int) -> NDArray[np.floating]:
    """Running mean over ``width`` samples, so that taking fewer of them folds little back; ends are held."""
    if width < 2:
        return x
    before, after = width // 2, width - 1 - width // 2
    return np.convolve(np.pad(x, (before, after), mode="edge"), np.full(width, 1 / width), "valid")
