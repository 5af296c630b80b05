"""A reading as files: STEM.csv, STEM.json and STEM.png, each whole or not at all.

CSV: ``time_s`` and the twelve leads in mV, 500 Hz, t = 0 at the printed start, empty where a lead is not printed.
JSON: ``FORMAT``; what was decided and how, coverage and confidence per lead, quality, measurements with their error
bars, milliseconds, the bundle.
PNG: the flattened sheet with the traces over it, header blanked (``edge_runtime.overlay``).
"""

from __future__ import annotations

import json
import math
import os
import secrets
import struct
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

import ecg
from ecg.errors import EcgscanError
from ecg.findings import Finding
from ecg.leads import LEADS, base_lead
from ecg.measurements import Measurement
from ecg.page import U8, BundleInfo, EcgSignal, PageLayout, Photo, Reading, Unreadable

FORMAT: Final = "ecgscan.reading"
FORMAT_VERSION: Final = 1
# What PageLayout.decided calls a property, and the JSON's name of it.
DECIDED_KEYS: Final = {
    "layout": "name",
    "paper_speed": "paper_speed_mm_per_s",
    "gain": "gain_mm_per_mv",
    "orientation": "orientation_deg",
}
SUFFIXES: Final = (".csv", ".json", ".png")
_PNG_MARK: Final = b"Software\0ecgscan"
# Photos hold noise, in which looking long for repeats costs time and saves little; the row above foretells best.
_PNG_HOW: Final = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_FILTERED)
_PNG_FILTER: Final[int | None] = getattr(cv2, "IMWRITE_PNG_FILTER", None)  # OpenCV before 4.12 tries all of them
_PNG_UP: Final = 0x20  # libpng's PNG_FILTER_UP


def csv_text(signal: EcgSignal) -> str:
    """The CSV of a signal: mV with 4 decimals, seconds with 4, an empty cell for NaN."""
    times_s = np.arange(signal.mv.shape[1]) / signal.fs_hz
    table = np.column_stack([times_s, signal.mv.T.astype(np.float64)])
    known = ~np.isnan(table)
    ends = np.flatnonzero(np.any(known[1:] != known[:-1], axis=1)) + 1  # of stretches that have the same leads
    text = ["time_s," + ",".join(LEADS) + "\n"]
    for start, end in zip([0, *ends.tolist()], [*ends.tolist(), len(table)], strict=True):
        there = known[start : start + 1].ravel()
        # One format a row: a call a number takes twice the time.
        row = ",".join(["%.4f" if cell else "" for cell in there.tolist()]) + "\n"
        text += [row % tuple(cells) for cells in table[start:end, there].tolist()]
    return "".join(text)


def reading_json(result: Reading | Unreadable, photo: Photo, bundle: BundleInfo, stem: str) -> dict[str, Any]:
    """The JSON document of a reading, or of a refusal (then ``layout`` is null and ``leads`` empty)."""
    read = isinstance(result, Reading)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "ecgscan_version": ecg.__version__,
        "status": "read" if read else "unreadable",
        "stage": None if isinstance(result, Reading) else result.stage,
        "reason": None if isinstance(result, Reading) else result.reason,
        "message": None if isinstance(result, Reading) else result.message,
        "photo": {
            "file": Path(photo.source).name,
            "page": photo.page + 1,
            "width_px": photo.rgb.shape[1],
            "height_px": photo.rgb.shape[0],
        },
        "layout": _layout_json(result.layout) if isinstance(result, Reading) else None,
        "leads": _leads_json(result) if isinstance(result, Reading) else {},
        "signal": _signal_json(result.signal, stem) if isinstance(result, Reading) else None,
        "quality": _plain(result.quality) if isinstance(result, Reading) else {},
        "gate": [_plain(asdict(finding)) for finding in result.gate],
        "measurements": measurements_json(result.measurements) if isinstance(result, Reading) else {},
        "findings": findings_json(result.findings) if isinstance(result, Reading) else [],
        **_embedding_json(result),
        "timings_ms": {k: round(v, 1) for k, v in result.timings_ms.items()},
        "bundle": {"version": bundle.version, "sha256": bundle.sha256},
    }


def _layout_json(layout: PageLayout) -> dict[str, Any]:
    decided = {DECIDED_KEYS.get(k, k): asdict(v) for k, v in layout.decided.items()}
    return {
        "name": layout.name,
        "paper_speed_mm_per_s": layout.paper_speed_mm_per_s,
        "gain_mm_per_mv": layout.gain_mm_per_mv,
        "chest_gain_mm_per_mv": layout.chest_gain_mm_per_mv,
        "orientation_deg": round(layout.orientation_deg, 2),
        "duration_s": round(layout.duration_s, 3),
        "decided": {key: _plain(decided.get(key)) for key in dict.fromkeys((*DECIDED_KEYS.values(), *decided))},
    }


def _signal_json(signal: EcgSignal, stem: str) -> dict[str, Any]:
    return {
        "fs_hz": signal.fs_hz,
        "n_samples": signal.mv.shape[1],
        "unit": "mV",
        "csv": f"{stem}.csv",
        "overlay": f"{stem}.png",
    }


def printed_samples(layout: PageLayout, fs_hz: float, n: int) -> NDArray[np.bool_]:
    """Which of n samples the page shows of each lead: (12, n)."""
    printed = np.zeros((len(LEADS), n), dtype=bool)
    for strip in layout.strips:
        lead = LEADS.index(base_lead(strip.lead)[0])
        first = round(strip.start_s * fs_hz)
        stop = first + round((strip.x1_mm - strip.x0_mm) / layout.paper_speed_mm_per_s * fs_hz)
        printed[lead, max(first, 0) : max(stop, 0)] = True
    return printed


def _leads_json(reading: Reading) -> dict[str, Any]:
    signal = reading.signal
    printed = printed_samples(reading.layout, signal.fs_hz, signal.mv.shape[1])
    out: dict[str, Any] = {}
    for i, lead in enumerate(LEADS):
        at = np.flatnonzero(printed[i])
        if not len(at):
            out[lead] = {"printed": False}
            continue
        finite = np.isfinite(signal.mv[i])
        got = finite & printed[i]
        out[lead] = {
            "printed": True,
            "start_s": round(float(at[0]) / signal.fs_hz, 4),
            "end_s": round(float(at[-1] + 1) / signal.fs_hz, 4),
            "coverage": round(float(got.sum() / len(at)), 4),
            "confidence": round(float(signal.confidence[i][got].mean()), 4) if got.any() else 0.0,
            "filled": round(float((signal.filled[i] & got).sum() / len(at)), 4),
        }
    return out


def measurements_json(measurements: Iterable[Measurement]) -> dict[str, Any]:
    """By name: value (null where not measured, with the reason), unit, error (one standard deviation), beats."""
    return {
        m.name: _plain({"value": m.value, "unit": m.unit, "error": m.error, "n_beats": m.n_beats, "reason": m.reason})
        for m in measurements
    }


def findings_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Each finding: code, name, probability (null where nothing is calibrated for it), zero_shot, decision, why."""
    return [_plain(asdict(f)) for f in findings]


def _embedding_json(result: Reading | Unreadable) -> dict[str, Any]:
    if isinstance(result, Unreadable) or result.embedding is None:
        return {}
    return {"embedding": [round(float(v), 5) for v in result.embedding]}


def _plain(value: Any) -> Any:
    """NumPy scalars to Python's, NaN and infinity to null: JSON knows neither."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def write_result(
    result: Reading | Unreadable,
    photo: Photo,
    bundle: BundleInfo,
    out_dir: Path,
    stem: str,
    *,
    keep_header: bool = False,
) -> tuple[Path, ...]:
    """Write the files of one photo and name them; the picture shows the printed header only if ``keep_header``.

    A refusal is JSON alone; a CSV or PNG that an earlier run left under this name is taken away, so that nobody reads
    it as this photo's.
    """
    csv, sidecar, png = (out_dir / f"{stem}{suffix}" for suffix in SUFFIXES)
    if isinstance(result, Unreadable):
        for stale in (csv, png):
            stale.unlink(missing_ok=True)
        write_atomic(sidecar, _json_bytes(result, photo, bundle, stem))
        return (sidecar,)
    from edge_runtime.overlay import draw_overlay

    picture = draw_overlay(photo, result, keep_header)
    with ThreadPoolExecutor(1) as pool:  # the picture is packed while the numbers are written out
        packed = pool.submit(png_bytes, picture)
        text = _json_bytes(result, photo, bundle, stem)
        write_atomic(csv, csv_text(result.signal).encode())
        write_atomic(png, packed.result())
    write_atomic(sidecar, text)  # last: where it stands, the others do
    return csv, sidecar, png


def _json_bytes(result: Reading | Unreadable, photo: Photo, bundle: BundleInfo, stem: str) -> bytes:
    return (json.dumps(reading_json(result, photo, bundle, stem), indent=2, allow_nan=False) + "\n").encode()


def png_bytes(rgb: U8) -> bytes:
    """PNG with no metadata but the software's name, by which a later run knows its own files."""
    how = _PNG_HOW if _PNG_FILTER is None else (*_PNG_HOW, _PNG_FILTER, _PNG_UP)
    done, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), how)
    if not done:
        raise EcgscanError("the overlay can't be encoded as PNG; report this photo")
    raw = data.tobytes()
    chunk = b"tEXt" + _PNG_MARK
    head_end = 8 + 25  # signature and IHDR
    mark = struct.pack(">I", len(_PNG_MARK)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return raw[:head_end] + mark + raw[head_end:]


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; raises ``EcgscanError`` in one line."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".ecgscan-{secrets.token_hex(8)}"
        try:
            with temporary.open("xb") as file:
                file.write(data)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as err:
        raise EcgscanError(f"{path}: can't be written ({err.strerror or err}); choose another --out") from err


def check_folder(folder: Path, option: str = "--out") -> None:
    """Raise ``EcgscanError`` in one line where nothing can be written into a folder, there or not yet: before a photo
    is taken or an hour of reading.  Makes nothing."""
    there = next((p for p in (folder, *folder.absolute().parents) if os.path.lexists(p)), folder)
    if not there.is_dir():
        raise EcgscanError(f"{option} {folder}: {there} is no folder; choose another {option}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise EcgscanError(f"{option} {folder}: can't be written (no permission); choose another {option}")


class StemNames:
    """Names for the results: STEM, STEM_p2 for a second page, STEM-2 where the name is taken.

    In the order of the photos given, so that the same command gives the same names.  Upper and lower case count as
    equal (other file systems do too), and a picture in the folder that ecgscan did not write is never overwritten.
    """

    def __init__(self, out_dir: Path, inputs: Iterable[Path] = ()) -> None:
        self._out_dir = out_dir
        self._taken: set[str] = set()
        self._inputs = {_key(p) for p in inputs}

    def take(self, photo: Photo) -> str:
        """The name for one photo's results, given out once."""
        base = Path(photo.source).stem or "photo"
        if photo.page:
            base += f"_p{photo.page + 1}"
        stem, k = base, 1
        while stem.casefold() in self._taken or self._foreign(stem):
            k += 1
            stem = f"{base}-{k}"
        self._taken.add(stem.casefold())
        return stem

    def _foreign(self, stem: str) -> bool:
        png = self._out_dir / f"{stem}.png"
        if _key(png) in self._inputs:
            return True
        try:
            with png.open("rb") as file:
                return _PNG_MARK not in file.read(128)
        except OSError:
            return False


def _key(path: Path) -> str:
    return os.path.normcase(os.path.realpath(path))
