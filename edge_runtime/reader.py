"""Photo to reading: finder, layout, decoder, signals; each stage timed, every refusal with its reason."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from ecg.bundle import ModelBundle, load_bundle
from ecg.leads import einthoven_residual_mv
from ecg.measurements import measure
from ecg.page import BundleInfo, Decided, EcgSignal, Mark, Overrides, PageLayout, Photo, Reading, Sheet, Unreadable
from edge_runtime.consistency import reconciled
from edge_runtime.decoder import RowTrace, decode_rows, open_decoder
from edge_runtime.engines import open_engine
from edge_runtime.engines.base import Engine, calls_at_once
from edge_runtime.far_texts import SURELY_READ, reads_speed, speed_told, texts_beyond
from edge_runtime.finder import Found, Pose, find
from edge_runtime.findings import FindingsHead, open_findings
from edge_runtime.gate import gated, seen_of
from edge_runtime.gate_leads import contradictions
from edge_runtime.gate_measures import PhotoMeasures
from edge_runtime.layout import find_layout
from edge_runtime.layout_ends import with_seen_ends
from edge_runtime.layout_evidence import find_ink
from edge_runtime.layout_gaps import with_seen_gaps
from edge_runtime.mark_reader import Places
from edge_runtime.pulses import looked_at
from edge_runtime.refine import refined
from edge_runtime.relabel import relabelled
from edge_runtime.signals import assemble, levelled
from edge_runtime.start_reader import with_read_starts
from edge_runtime.tempo import other_speed

T = TypeVar("T")
Texts = Callable[[], tuple[Mark, ...]]
Seen = Callable[[], PhotoMeasures]
SHIPPED = Path(__file__).parent / "models"
MARK_READER, START_READER = "mark_reader", "start_reader"
MIN_COVERAGE = 0.35  # of the printed samples; below, the trace was not followed
MIN_CONFIDENCE = 0.30
CONFIRMED = 0.95  # of both: texts that say the same change nothing
UNSURE = 0.99  # of paper speed or gain: look for texts beyond the traces; a 5 mm pulse alone leaves more doubt


class Reader:
    """The nets of one bundle, loaded once, reading photo after photo."""

    def __init__(
        self, bundle: BundleInfo, coarse: Engine, fine: Engine, decoder: Engine, findings: FindingsHead | None = None,
        names: Engine | None = None, starts: Engine | None = None,
    ) -> None:  # fmt: skip
        self.bundle = bundle
        self.coarse, self._fine, self._decoder, self._names, self._starts = coarse, fine, decoder, names, starts
        self._findings = findings
        self._pools = ThreadpoolController()
        self._beside = ThreadPoolExecutor(1) if calls_at_once(decoder) > 1 else None
        self.keep_embedding = False

    @classmethod
    def open(cls, bundle_dir: Path | None = None, *, threads: int | None = None, engine: str = "auto") -> Reader:
        """Load and verify a bundle (the shipped one if None); raises ``BundleError``, or ``EcgscanError`` where the
        engine (``edge_runtime.engines.ENGINES``) is not installed."""
        bundle: ModelBundle = load_bundle(bundle_dir or SHIPPED)
        coarse, fine = (open_engine(bundle, name, engine, threads=threads) for name in ("finder_coarse", "finder_fine"))
        decoder = open_decoder(bundle, engine, threads=threads)
        names, starts = (
            open_engine(bundle, name, engine, threads=threads) if name in bundle.nets else None
            for name in (MARK_READER, START_READER)
        )
        return cls(bundle.info, coarse, fine, decoder, open_findings(bundle, engine), names, starts)

    def read(self, photo: Photo, overrides: Overrides | None = None) -> Reading | Unreadable:
        """One photo to a reading, or the reason why it can't be read."""
        timings: dict[str, float] = {}
        # BLAS' threads gain nothing at our sizes and go on waiting in busy loops, on the cores that the nets want.
        with self._pools.limit(limits=1, user_api="blas"):
            outcome, seen = self._read(photo, overrides or Overrides(), timings)
            outcome = _timed(timings, "gate", lambda: gated(photo, outcome, self.coarse, seen and seen()))
        return replace(outcome, timings_ms=timings)

    def _read(
        self, photo: Photo, overrides: Overrides, timings: dict[str, float]
    ) -> tuple[Reading | Unreadable, Seen | None]:
        """What comes of a photo, not yet judged by the gate, and what the gate sees of the photo, if that is known."""
        ahead: list[tuple[Pose, Texts]] = []

        def look_ahead(pose: Pose, places: Places | None) -> None:
            # Following the lattice leaves a core free, and what was read tells whether texts will be asked for.
            if places is not None and not reads_speed(places):
                ahead.append((pose, self._begun(partial(self._beyond, photo, pose))))

        found = _timed(timings, "finder", lambda: find(photo, self.coarse, self._fine, self._names, look_ahead))
        if isinstance(found, Unreadable):
            return found, None
        texts = next((t for pose, t in ahead if pose is found.pose), None) or self._texts(photo, found)
        sheet = _timed(timings, "lattice", lambda: refined(photo, found.sheet))
        reading = self._traced(photo, found, sheet, texts, overrides, timings)
        if isinstance(reading, Unreadable):
            return reading, None
        seen = self._begun(partial(seen_of, photo, reading))
        reading = _measured(reading, found, timings)
        heard = self._at_the_hearts_speed(photo, found, reading, texts, overrides, timings)
        if heard is not reading:
            seen = partial(seen_of, photo, heard)
        head = self._findings
        if head is None:
            return heard, seen
        told = _timed(timings, "findings", lambda: head(heard.signal, heard.quality))
        embedding = told.embedding if self.keep_embedding else None
        return replace(heard, findings=told.findings, embedding=embedding), seen

    def _begun(self, work: Callable[[], T]) -> Callable[[], T]:
        """What gives a work's result: a core that is free begins it now, else it waits until it is asked for."""
        return work if self._beside is None else self._beside.submit(work).result

    def _texts(self, photo: Photo, found: Found) -> Texts:
        """Texts far from the traces, when they are asked for; where the view shows no paper speed they will be, and a
        core that is free begins to look for them."""
        look = partial(self._beyond, photo, found.pose)
        return look if self._names is None or speed_told(found.marks) else self._begun(look)

    def _beyond(self, photo: Photo, pose: Pose) -> tuple[Mark, ...]:
        return () if self._names is None else texts_beyond(photo, pose, self._fine, self._names)

    def _traced(
        self, photo: Photo, found: Found, sheet: Sheet, texts: Texts, overrides: Overrides, timings: dict[str, float]
    ) -> Reading | Unreadable:
        matched = _timed(timings, "layout", lambda: self._layout(photo, found, sheet, texts, overrides))
        if isinstance(matched, Unreadable):
            return matched
        placed = relabelled(_turned(matched, found), overrides.lead_names)
        ink = find_ink(found.trace_map)
        rows = _timed(timings, "decoder", lambda: decode_rows(photo, sheet, placed, self._decoder, ink))
        rows, layout = with_seen_ends(*with_seen_gaps(rows, placed))
        if (starts := self._starts) is not None:
            rows, layout = _timed(timings, "starts", lambda: with_read_starts(photo, sheet, rows, layout, starts))
        assembled = assemble(rows, layout)
        signal = _timed(timings, "signals", lambda: reconciled(assembled))
        quality = {**_quality(found, rows, layout, signal), **contradictions(rows, layout, assembled)}
        if quality["coverage"] < MIN_COVERAGE or quality["confidence"] < MIN_CONFIDENCE:
            return Unreadable("decoder", "traces_not_followed",
                              "the traces can't be followed: come closer, hold still, use even light")  # fmt: skip
        return Reading(sheet, levelled(rows, layout, signal), signal, quality)

    def _layout(
        self, photo: Photo, found: Found, sheet: Sheet, texts: Texts, overrides: Overrides
    ) -> PageLayout | Unreadable:
        """The layout; where speed or gain stay open, texts far from the traces are looked for too."""
        marks = looked_at(photo, sheet, found.marks)
        layout = find_layout(marks, found.trace_map, overrides)
        if isinstance(layout, Unreadable) or not _open_scale(layout):
            return layout
        more = texts()
        if not more or _confirm(more, layout):
            return layout
        return find_layout((*marks, *more), found.trace_map, overrides)

    def _at_the_hearts_speed(
        self, photo: Photo, found: Found, reading: Reading, texts: Texts, overrides: Overrides,
        timings: dict[str, float],
    ) -> Reading:  # fmt: skip
        """The reading, or one at the other paper speed where the heart speaks for that louder than the page did."""
        tempo = other_speed(reading.signal, reading.layout, reading.measurements)
        if tempo is None:
            return reading
        speed, decided = tempo
        said = replace(overrides, paper_speed_mm_per_s=speed)
        again = self._traced(photo, found, reading.sheet, texts, said, timings)
        if isinstance(again, Unreadable):
            return reading
        again = _measured(again, found, timings)
        return replace(again, layout=replace(again.layout, decided={**again.layout.decided, "paper_speed": decided}))


def _measured(reading: Reading, found: Found, timings: dict[str, float]) -> Reading:
    """A reading with its measurements, as exact as the photo's px are long."""
    step_s = 1.0 / (found.pose.px_per_mm * reading.layout.paper_speed_mm_per_s)
    return replace(reading, measurements=_timed(timings, "measurements", lambda: measure(reading.signal, step_s)))


def _open_scale(layout: PageLayout) -> bool:
    """Whether the page said too little of its speed or gain."""
    return any(
        layout.decided[k].how == "default" or layout.decided[k].confidence < UNSURE for k in ("paper_speed", "gain")
    )


def _confirm(texts: tuple[Mark, ...], layout: PageLayout) -> bool:
    """Whether texts say just what the page was nearly sure of: no other layout would come of them."""
    same = f"speed:{layout.paper_speed_mm_per_s:g}", f"gain:{layout.gain_mm_per_mv:g}"
    sure = [m.kind for m in texts if m.score > SURELY_READ]
    nearly = all(layout.decided[k].confidence > CONFIRMED for k in ("paper_speed", "gain"))
    return nearly and layout.chest_gain_mm_per_mv is None and bool(sure) and all(kind in same for kind in sure)


def _turned(layout: PageLayout, found: Found) -> PageLayout:
    """The layout with how far the photo shows the page turned, clockwise, -180 to 180 degrees."""
    turn = (float(np.degrees(found.pose.angle_rad)) + 180.0) % 360.0 - 180.0
    how = Decided(found.pose.decided, round(found.pose.coherence, 3))
    return replace(layout, orientation_deg=round(turn, 1), decided={**layout.decided, "orientation": how})


def _timed(timings: dict[str, float], stage: str, work: Callable[[], T]) -> T:
    start = time.perf_counter()
    out = work()
    timings[stage] = round(timings.get(stage, 0.0) + (time.perf_counter() - start) * 1e3, 1)
    return out


def _quality(found: Found, rows: tuple[RowTrace, ...], layout: PageLayout, signal: EcgSignal) -> dict[str, float]:
    """Figures that tell how far to trust the reading."""
    printed = sum(s.x1_mm - s.x0_mm for s in layout.strips) / layout.paper_speed_mm_per_s * signal.fs_hz
    read = np.isfinite(signal.mv)
    twice = _printed_twice(layout, signal.fs_hz)
    einthoven = np.abs(einthoven_residual_mv(signal.mv))
    together = np.isfinite(einthoven).sum() > signal.fs_hz / 4
    return {
        "coverage": round(float(min(1.0, read.sum() / max(1.0, printed - twice))), 4),
        "confidence": round(float(signal.confidence[read].mean()) if read.any() else 0.0, 4),
        "filled": round(float(signal.filled[read].mean()) if read.any() else 0.0, 4),
        "grid": round(found.grid_seen, 4),
        "lattice_residual_mm": round(found.sheet.residual_mm, 4),
        "px_per_mm": round(found.pose.px_per_mm, 2),
        "ecg_probability": round(found.pose.ecg_probability, 4),
        "einthoven_mv": round(float(np.nanmedian(einthoven)), 4) if together else -1.0,
    }


def _printed_twice(layout: PageLayout, fs_hz: float) -> float:
    """Samples of leads that a rhythm strip prints again."""
    total = 0.0
    for k, s in enumerate(layout.strips):
        for other in layout.strips[k + 1 :]:
            if s.lead == other.lead:
                total += min(s.x1_mm - s.x0_mm, other.x1_mm - other.x0_mm)
    return total / layout.paper_speed_mm_per_s * fs_hz
