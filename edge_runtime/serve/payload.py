"""What the page gets to see and to download of a reading: JSON with the traces, and files made in memory."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from ecg.errors import InputError
from ecg.layouts import GAINS_MM_PER_MV, LAYOUTS, PAPER_SPEEDS_MM_PER_S
from ecg.leads import LEAD_INDEX, LEADS, base_lead
from ecg.page import LeadStrip, Overrides, Photo, Reading
from edge_runtime.exports import FORMATS, targets
from edge_runtime.exports.document import make_document, runs
from edge_runtime.outputs import csv_text, png_bytes, reading_json
from edge_runtime.overlay import draw_overlay
from edge_runtime.scan import PhotoReader
from edge_runtime.serve.sessions import Session

PRINTED_LEADS: Final = (*LEADS, "-aVR")
MAX_STRIPS: Final = 64
PLAIN_FILES: Final = {
    "csv": ("CSV: seconds and the twelve leads in mV", ".csv", "text/csv; charset=utf-8"),
    "json": ("JSON: everything that was decided and measured", ".json", "application/json"),
    "png": ("PNG: the flattened sheet with the traces", ".png", "image/png"),
}
_TYPES: Final = {".xml": "application/xml", ".json": "application/json", ".pdf": "application/pdf"}


@dataclass(frozen=True)
class Download:
    """A file for the browser to save."""

    name: str
    content_type: str
    data: bytes


def read_photo(
    reader: PhotoReader, photo: Photo, upload: bytes, stem: str, overrides: Overrides, *, keep_header: bool = False
) -> Session:
    """Read and draw the photo that ``upload`` holds; the printed header is drawn only if ``keep_header``."""
    result = reader.read(photo, overrides)
    overlay = png_bytes(draw_overlay(photo, result, keep_header)) if isinstance(result, Reading) else b""
    document = json.dumps(reading_json(result, photo, reader.bundle, stem), allow_nan=False).encode()
    return Session(upload, photo.source, stem, result, document, overlay, overrides)


def page_json(name: str, session: Session) -> bytes:
    """The reading's JSON with what the page draws: ``id``, ``strips`` and the corrections in force."""
    result = session.result
    strips = [_strip(result, s) for s in result.layout.strips] if isinstance(result, Reading) else []
    said = session.overrides
    extra = {
        "id": name,
        "strips": strips,
        "corrections": {
            "layout": said.layout,
            "speed": said.paper_speed_mm_per_s,
            "gain": said.gain_mm_per_mv,
            "leads": list(said.lead_names) if said.lead_names else None,
        },
    }
    return session.document[:-1] + b", " + json.dumps(extra, allow_nan=False).encode()[1:]


def _strip(reading: Reading, strip: LeadStrip) -> dict[str, Any]:
    """One printed trace as drawn: whole microvolts, null where nothing was read, t = 0 at the printed start."""
    signal, layout = reading.signal, reading.layout
    lead, sign = base_lead(strip.lead)
    i, fs = LEAD_INDEX[lead], signal.fs_hz
    first = max(0, round(strip.start_s * fs))
    stop = first + round((strip.x1_mm - strip.x0_mm) / layout.paper_speed_mm_per_s * fs)
    mv = sign * signal.mv[i, first:stop].astype(np.float64)
    uv = np.rint(np.nan_to_num(mv) * 1e3).astype(int).tolist()
    return {
        "lead": strip.lead,
        "row": strip.row,
        "start_s": round(first / fs, 4),
        "fs_hz": fs,
        "confidence": round(float(strip.confidence), 3),
        "uv": [v if ok else None for v, ok in zip(uv, np.isfinite(mv).tolist(), strict=True)],
        "filled": runs(signal.filled[i, first:stop] & np.isfinite(mv)),
    }


def download(session: Session, kind: str) -> Download | None:
    """The reading as a file of one kind, None for an unknown kind; several files come as one ZIP.

    Raises ``EcgscanError`` in one line where the kind needs a library that is not there or can't hold the signal.
    """
    result, stem = session.result, session.stem
    if kind in PLAIN_FILES:
        _, suffix, content_type = PLAIN_FILES[kind]
        data = {"json": lambda: _indented(session.document), "png": lambda: session.overlay}.get(
            kind, lambda: csv_text(result.signal).encode() if isinstance(result, Reading) else b""
        )()
        if not data:
            raise InputError("nothing was read: there is only JSON to download")
        return Download(stem + suffix, content_type, data)
    if kind not in FORMATS:
        return None
    if not isinstance(result, Reading):
        raise InputError("nothing was read: there is only JSON to download")
    names = tuple(p.name for p in targets(kind, Path(stem)))
    module = import_module(f"edge_runtime.exports.{kind}")
    contents: tuple[bytes, ...] = module.contents(make_document(result, session.source), names)
    if len(names) == 1:
        return Download(names[0], _TYPES.get(Path(names[0]).suffix, "application/octet-stream"), contents[0])
    return Download(f"{stem}.{kind}.zip", "application/zip", _zipped(dict(zip(names, contents, strict=True))))


def _indented(document: bytes) -> bytes:
    return json.dumps(json.loads(document), indent=2, allow_nan=False).encode() + b"\n"


def _zipped(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def choices() -> dict[str, Any]:
    """What the page's forms offer."""
    plain = [{"kind": k, "title": title} for k, (title, *_) in PLAIN_FILES.items()]
    return {
        "layouts": list(LAYOUTS),
        "speeds": list(PAPER_SPEEDS_MM_PER_S),
        "gains": list(GAINS_MM_PER_MV),
        "leads": list(PRINTED_LEADS),
        "downloads": plain + [{"kind": f.name, "title": f"{f.name.upper()}: {f.title}"} for f in FORMATS.values()],
    }


def overrides_of(body: bytes) -> Overrides:
    """Corrections from JSON; raises ``InputError`` for anything but known values."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as err:
        raise InputError("the corrections are not JSON") from err
    if not isinstance(said, dict) or not set(said) <= {"layout", "speed", "gain", "leads"}:
        raise InputError("corrections are an object with layout, speed, gain and leads")
    return Overrides(
        paper_speed_mm_per_s=_number(said, "speed", PAPER_SPEEDS_MM_PER_S),
        gain_mm_per_mv=_number(said, "gain", GAINS_MM_PER_MV),
        layout=_layout(said.get("layout")),
        lead_names=_lead_names(said.get("leads")),
    )


def _number(said: Mapping[str, Any], key: str, known: tuple[float, ...]) -> float | None:
    value = said.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value not in known:
        raise InputError(f"{key}: give one of {', '.join(f'{v:g}' for v in known)}")
    return float(value)


def _layout(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or value not in LAYOUTS:
        raise InputError(f"layout: give one of {', '.join(LAYOUTS)}")
    return value


def _lead_names(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > MAX_STRIPS or not all(v in PRINTED_LEADS for v in value):
        raise InputError(f"leads: a list of {', '.join(PRINTED_LEADS)}, one for each trace")
    return tuple(value)
