"""What every exporter starts from: the signal as 16-bit counts of whole microvolts, its gaps, and stable names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

import numpy as np
from numpy.typing import NDArray

import ecg
from ecg.errors import InputError
from ecg.leads import LEADS
from ecg.measurements import LABELS, NOT_MEASURED, Measurement, in_words
from ecg.page import Reading
from edge_runtime.outputs import printed_samples

I16 = NDArray[np.int16]
MISSING: Final = -32768  # the count of a sample that is not there: WFDB's own, and free in the other formats
_LSB_UV: Final = (1, 2, 5, 10, 20, 50, 100)
# Codes of global measurements in ISO/IEEE 11073-10101, partition 2, with DICOM's meanings (CID 3227, 3228, 3229).
MDC_MEASUREMENTS: Final = {
    "p_duration": (16184, "P duration global"),
    "pr": (15872, "PR interval global"),
    "qrs": (16156, "QRS duration global"),
    "qt": (16160, "QT interval global"),
    "qtc_bazett": (15880, "QTc global using Bazett formula"),
    "qtc_fridericia": (15892, "QTc global using Fredericia formula"),
    "axis": (16132, "QRS axis"),
}
UCUM: Final = {"ms": "ms", "bpm": "/min", "%": "%", "deg": "deg"}
SOFTWARE: Final = f"ecgscan {ecg.__version__}"
ORIGIN: Final = "Read from a photo of a paper ECG; decision support, not a medical device."


@dataclass(frozen=True)
class Span:
    """Samples start..stop-1 of one lead that are "not printed", "not read" (printed, but empty) or "filled in"."""

    lead: str
    start: int
    stop: int
    what: str


@dataclass(frozen=True, eq=False)
class Document:
    """A reading ready to be written: counts (12, n) int16 of ``lsb_uv`` microvolts, ``MISSING`` where mv is NaN."""

    reading: Reading
    photo_name: str
    when: datetime
    counts: I16
    lsb_uv: int
    uid: UUID
    notes: tuple[str, ...] = ()

    @property
    def fs_hz(self) -> float:
        """Samples a second."""
        return self.reading.signal.fs_hz

    @property
    def n(self) -> int:
        """Samples of each lead."""
        return int(self.counts.shape[1])

    def uuid(self, part: str) -> UUID:
        """A name for a part of this document: the same for the same reading."""
        return uuid5(self.uid, part)

    def gaps(self) -> list[Span]:
        """Samples that are not there, lead by lead."""
        printed = printed_samples(self.reading.layout, self.fs_hz, self.n)
        missing = self.counts == MISSING
        out = []
        for i, lead in enumerate(LEADS):
            for what, mask in (("not printed", missing[i] & ~printed[i]), ("not read", missing[i] & printed[i])):
                out += [Span(lead, a, b, what) for a, b in runs(mask)]
        return out

    def fills(self) -> list[Span]:
        """Samples that bridge a gap of the trace."""
        filled = self.reading.signal.filled & (self.counts != MISSING)
        return [Span(lead, a, b, "filled in") for i, lead in enumerate(LEADS) for a, b in runs(filled[i])]


def figure_lines(measurements: Sequence[Measurement]) -> list[str]:
    """The measurements for people: rates and intervals, the corrected QT and the axis, what isn't measured and why."""
    late = [m for m in measurements if m.name.startswith("qtc_") or m.name == "axis"]
    parts = ([m for m in measurements if m not in late], late)
    lines = [", ".join(in_words(m) for m in part if m.value is not None) for part in parts]
    lacking: dict[str, list[str]] = {}
    for m in measurements:
        if m.value is None:
            lacking.setdefault(m.reason.removeprefix(NOT_MEASURED), []).append(LABELS.get(m.name, m.name))
    if lacking:
        lines.append("not measured: " + "; ".join(f"{', '.join(names)} ({why})" for why, names in lacking.items()))
    return [line[:1].upper() + line[1:] if line.startswith(("heart", "not")) else line for line in lines if line]


def runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(start, stop) of every stretch of True in a mask (n,)."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(np.int8), [0]))))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def make_document(
    reading: Reading, photo_name: str, when: datetime | None = None, notes: Sequence[str] = ()
) -> Document:
    """A reading with its counts; ``when`` without a zone is local time. Raises ``InputError`` if nothing was read."""
    mv = reading.signal.mv
    finite = np.isfinite(mv)
    if not finite.any() or not reading.signal.fs_hz > 0:
        raise InputError("nothing to export: no lead holds a sample")
    counts, lsb_uv = _quantise(np.where(finite, mv, 0.0))
    counts[~finite] = MISSING
    counts.setflags(write=False)
    name = Path(photo_name).name
    seen = hashlib.sha256(np.ascontiguousarray(mv).tobytes())
    seen.update(f"{mv.shape[1]} {reading.signal.fs_hz:g} {reading.layout.name} {name}".encode())
    uid = uuid5(NAMESPACE_URL, f"ecgscan:{seen.hexdigest()}")
    when = when or datetime.now(timezone.utc).astimezone()
    when = (when if when.tzinfo else when.astimezone()).replace(microsecond=0)
    return Document(reading, name, when, counts, lsb_uv, uid, tuple(notes))


def _quantise(mv: NDArray[np.floating]) -> tuple[I16, int]:
    """Counts and the smallest round step in microvolts at which no sample is clipped."""
    uv = mv.astype(np.float64) * 1e3
    peak = float(np.abs(uv).max())
    for lsb_uv in _LSB_UV:
        if round(peak / lsb_uv) < -MISSING:
            return np.rint(uv / lsb_uv).astype(np.int16), lsb_uv
    raise InputError(f"the signal reaches {peak / 1e3:.0f} mV: that is no ECG; check the gain")
