"""A page of an archive as one row of a Parquet table: what was read, how surely, or why not.

Signals keep their full resolution: ``mv``, ``confidence`` and ``filled`` hold a list for each lead (500 Hz, NaN where
nothing was read; confidence in 255ths).  pyarrow comes with ``pip install 'ecgscan[archive]'``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from ecg.errors import EcgscanError
from ecg.leads import LEADS
from ecg.page import EcgSignal, Photo, Reading, Unreadable

try:
    import pyarrow as pa
    from pyarrow import ipc
except ImportError as missing:  # the command line shows this as its one line
    raise EcgscanError("archives need pyarrow: pip install 'ecgscan[archive]'") from missing

FORMAT_VERSION: Final = 1
READ: Final = "read"
UNREADABLE: Final = "unreadable"
UNUSABLE: Final = "unusable"
FAULT: Final = "fault"
STATUSES: Final = (READ, UNREADABLE, UNUSABLE, FAULT)


def schema() -> Any:
    """Columns of the table."""
    text, real, small = pa.string(), pa.float64(), pa.int32()

    def each_lead(kind: Any) -> Any:
        return pa.struct([(lead, pa.list_(kind)) for lead in LEADS])

    strip = [("lead", text), ("row", small), ("x0_mm", real), ("x1_mm", real), ("baseline_mm", real),
             ("start_s", real), ("gain_mm_per_mv", real), ("confidence", real)]  # fmt: skip
    figure = [("name", text), ("value", real), ("text", text), ("unit", text), ("error", real), ("n_beats", small),
              ("reason", text)]  # fmt: skip
    finding = [("code", text), ("name", text), ("probability", real), ("zero_shot", real), ("decision", text),
               ("why", text)]  # fmt: skip
    doubt = [("code", text), ("advice", text), ("value", real), ("threshold", real), ("severity", text)]
    return pa.schema([
        ("file", text), ("page", small), ("status", text), ("stage", text), ("reason", text), ("message", text),
        ("file_bytes", pa.int64()), ("sha256", text), ("width_px", small), ("height_px", small),
        ("layout", text), ("paper_speed_mm_per_s", real), ("gain_mm_per_mv", real), ("chest_gain_mm_per_mv", real),
        ("orientation_deg", real), ("decided", text), ("strips", pa.list_(pa.struct(strip))),
        ("fs_hz", real), ("n_samples", small), ("mv", each_lead(pa.float32())),
        ("confidence", each_lead(pa.uint8())), ("filled", each_lead(pa.bool_())),
        ("quality", pa.map_(text, real)), ("gate", pa.list_(pa.struct(doubt))),
        ("measurements", pa.list_(pa.struct(figure))), ("findings", pa.list_(pa.struct(finding))),
        ("embedding", pa.list_(pa.float32())), ("timings_ms", pa.map_(text, real)),
    ])  # fmt: skip


def page_row(result: Reading | Unreadable, photo: Photo, file: str, file_bytes: int, sha256: str) -> dict[str, Any]:
    """A page that was tried."""
    row: dict[str, Any] = {
        "file": file, "page": photo.page + 1, "file_bytes": file_bytes, "sha256": sha256,
        "height_px": photo.rgb.shape[0], "width_px": photo.rgb.shape[1], "timings_ms": _numbers(result.timings_ms),
        "gate": [_fields(g, ("code", "advice", "value", "threshold", "severity")) for g in result.gate],
    }  # fmt: skip
    if isinstance(result, Unreadable):
        return row | {"status": UNREADABLE, "stage": result.stage, "reason": result.reason, "message": result.message}
    return row | {"status": READ} | _layout(result) | _signal(result.signal) | _figures(result)


def failed_row(
    file: str, status: str, reason: str, message: str, *, page: int = 0, file_bytes: int = 0
) -> dict[str, Any]:
    """A file, or a page of it, that could not be tried ("unusable") or that we failed on ("fault")."""
    return {"file": file, "page": page, "status": status, "reason": reason, "message": message,
            "file_bytes": file_bytes}  # fmt: skip


def _layout(reading: Reading) -> dict[str, Any]:
    layout = reading.layout
    names = ("lead", "row", "x0_mm", "x1_mm", "baseline_mm", "start_s", "gain_mm_per_mv", "confidence")
    return {
        "layout": layout.name,
        "paper_speed_mm_per_s": layout.paper_speed_mm_per_s,
        "gain_mm_per_mv": layout.gain_mm_per_mv,
        "chest_gain_mm_per_mv": layout.chest_gain_mm_per_mv,
        "orientation_deg": layout.orientation_deg,
        "decided": json.dumps({k: [v.how, round(v.confidence, 4)] for k, v in layout.decided.items()}),
        "strips": [_fields(s, names) for s in layout.strips],
    }


def _signal(signal: EcgSignal) -> dict[str, Any]:
    surely = np.rint(255 * np.clip(np.nan_to_num(signal.confidence), 0, 1)).astype(np.uint8)
    return {
        "fs_hz": signal.fs_hz,
        "n_samples": signal.mv.shape[1],
        "mv": dict(zip(LEADS, signal.mv.astype(np.float32), strict=True)),
        "confidence": dict(zip(LEADS, surely, strict=True)),
        "filled": dict(zip(LEADS, signal.filled, strict=True)),
    }


def _figures(reading: Reading) -> dict[str, Any]:
    """Measurements, and findings and the embedding where the bundle has nets for them."""
    figures = []
    for m in reading.measurements:
        figure = _fields(m, ("name", "unit", "error", "n_beats", "reason"))
        figure["value"] = float(m.value) if isinstance(m.value, int | float) else None
        figures.append(figure | {"text": m.value if isinstance(m.value, str) else None})
    said = ("code", "name", "probability", "zero_shot", "decision", "why")
    return {
        "quality": _numbers(reading.quality),
        "measurements": figures,
        "findings": [_fields(f, said) for f in reading.findings],
        "embedding": None if reading.embedding is None else np.asarray(reading.embedding, np.float32).ravel(),
    }


def _fields(value: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names}


def _numbers(values: Mapping[str, float]) -> list[tuple[str, float]]:
    return [(k, float(v)) for k, v in values.items() if math.isfinite(v)]


def packed(row: Mapping[str, Any]) -> bytes:
    """A row as compressed bytes, a tenth of its arrays: what waits for its row group waits so."""
    columns = schema()
    batch = pa.RecordBatch.from_arrays([_array(row.get(f.name), f.type) for f in columns], schema=columns)
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, columns, options=ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def _array(value: Any, kind: Any) -> Any:
    """One cell; arrays go in whole, Python lists of floats would be slow."""
    if isinstance(value, dict) and pa.types.is_struct(kind):
        leads = [(value[f.name], f.type.value_type) for f in kind]
        cells = [pa.ListArray.from_arrays([0, len(cell)], pa.array(cell, of)) for cell, of in leads]
        return pa.StructArray.from_arrays(cells, fields=list(kind))
    return pa.array([value], kind)


def unpacked(rows: Sequence[bytes]) -> Any:
    """A table of packed rows, in as many chunks: a part's 20 MB are not copied into one."""
    return pa.concat_tables([ipc.open_stream(row).read_all() for row in rows])


def give_back_memory() -> None:
    """Let Arrow hand what it has freed to the system: a part takes tens of MB for a moment."""
    pa.default_memory_pool().release_unused()
