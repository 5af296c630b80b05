"""EDF+ (continuous): twelve leads in mV and one signal of annotations.

https://www.edfplus.info/specs/edf.html and edfplus.html.  EDF knows no missing sample.  A sample that is not there
holds the digital minimum, -32768, which no read sample takes, and its span is annotated "not printed@@ECG aVR" or
"not read@@ECG aVR" (the specification's way to name one signal) with onset and duration; samples that bridge a gap of
the trace are annotated "filled in@@ECG aVR".  The last data record is filled up in the same way ("after the end").
Patient and recording are anonymous as the specification asks: X, and the date 01.01.85.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from ecg.errors import InputError
from ecg.leads import LEADS
from edge_runtime.exports.document import MISSING, SOFTWARE, Document

_RECORD_S: Final = (1.0, 0.5, 0.4, 0.25, 0.2, 0.1)  # data records stay far below EDF's 61440 bytes
_WIDTHS: Final = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)  # of the ten fields of a signal


def contents(document: Document, names: tuple[str, ...]) -> tuple[bytes]:
    """The file's bytes."""
    record_s = _record_s(document.n, document.fs_hz)
    per_record = round(record_s * document.fs_hz)
    n_records = -(-document.n // per_record)
    padded = np.full((len(LEADS), n_records * per_record), MISSING, np.int16)
    padded[:, : document.n] = document.counts
    notes = _annotation_records(document, n_records, record_s, padded.shape[1])
    samples = padded.reshape(len(LEADS), n_records, per_record).transpose(1, 0, 2)
    body = np.concatenate([samples.reshape(n_records, -1).astype("<i2"), notes], axis=1).tobytes()
    return (_header(document, n_records, record_s, per_record, notes.shape[1]) + body,)


def _record_s(n: int, fs_hz: float) -> float:
    """The length of a data record that holds whole samples and leaves the least to fill up; raises ``InputError``."""
    whole = [s for s in _RECORD_S if abs(s * fs_hz - round(s * fs_hz)) < 1e-9 and round(s * fs_hz) <= 2000]
    if not whole:
        raise InputError(f"EDF+ needs whole samples in 0.1 s to 1 s, not {fs_hz:g} Hz; export another format")
    return min(whole, key=lambda s: (-n % round(s * fs_hz), -s))


def _annotation_records(document: Document, n_records: int, record_s: float, n_padded: int) -> np.ndarray:
    """The annotation signal (n_records, words) as little-endian 16-bit words: each record's time, then its texts."""
    fs = document.fs_hz
    spans = [(s.start, s.stop, f"{s.what}@@ECG {s.lead}") for s in document.gaps() + document.fills()]
    if n_padded > document.n:
        spans.append((document.n, n_padded, "after the end"))
    spans.sort()
    records = [f"+{_short(k * record_s)}\x14\x14\0".encode() for k in range(n_records)]
    for k, (start, stop, text) in enumerate(spans):  # shared out evenly: any record may hold any annotation
        tal = f"+{_short(start / fs)}\x15{_short((stop - start) / fs)}\x14{text}\x14\0"
        records[k * n_records // len(spans)] += tal.encode()
    size = max(32, max(map(len, records)))
    size += size % 2
    raw = b"".join(r.ljust(size, b"\0") for r in records)
    return np.frombuffer(raw, "<i2").reshape(n_records, size // 2)


def _short(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _header(document: Document, n_records: int, record_s: float, per_record: int, note_words: int) -> bytes:
    lsb_mv = document.lsb_uv / 1000
    n_signals = len(LEADS) + 1
    main = [
        ("0", 8), ("X X X X", 80), (f"Startdate X X X {SOFTWARE.replace(' ', '_')}", 80), ("01.01.85", 8),
        ("00.00.00", 8), (str(256 * (n_signals + 1)), 8), ("EDF+C", 44), (str(n_records), 8), (_short(record_s), 8),
        (str(n_signals), 4),
    ]  # fmt: skip
    low, high = f"{MISSING * lsb_mv:.8g}", f"{(-MISSING - 1) * lsb_mv:.8g}"
    rows = [
        (f"ECG {lead}", "photo of a printed page", "mV", low, high, str(MISSING), str(-MISSING - 1), "unknown",
         str(per_record), "")
        for lead in LEADS
    ]  # fmt: skip
    rows.append(("EDF Annotations", "", "", "-1", "1", str(MISSING), str(-MISSING - 1), "", str(note_words), ""))
    fields = main + [(row[k], width) for k, width in enumerate(_WIDTHS) for row in rows]
    return b"".join(_field(text, width) for text, width in fields)


def _field(text: str, width: int) -> bytes:
    """ASCII, left-justified with spaces; a field that does not fit is a fault of ours."""
    data = text.encode("ascii")
    if len(data) > width or not text.isprintable():
        raise ValueError(f"EDF field {text!r} does not fit into {width} printable ASCII characters")
    return data.ljust(width)
