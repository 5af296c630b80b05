"""Signals of twelve leads with what is known of them, and where they come from: WFDB records and folders of them."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecg.errors import RecordError
from ecg.findings import SUPERCLASSES, superclasses_of
from ecg.leads import LEAD_INDEX, LEADS, N_LEADS
from ecg.page import F32

_log = logging.getLogger(__name__)
PTBXL_INDEX: Final = "ptbxl_database.csv"


@dataclass(frozen=True, eq=False)
class EcgRecord:
    """mv (12, n) float32 in the order of ``ecg.leads.LEADS``, NaN where unknown; SCP codes; a report sentence.

    ``true_mv`` is False where the source lost the absolute gain (PTB-XL's normalised records).
    """

    mv: F32
    fs_hz: float
    name: str = ""
    codes: tuple[str, ...] = ()
    superclasses: tuple[str, ...] = ()
    report: str = ""
    fold: int = 0
    age_years: float | None = None
    sex: str = ""
    true_mv: bool = True

    def __post_init__(self) -> None:
        if self.mv.ndim != 2 or self.mv.shape[0] != N_LEADS or self.mv.dtype != np.float32:
            raise ValueError(f"mv must be ({N_LEADS}, n) float32, got {self.mv.shape} {self.mv.dtype}")
        self.mv.setflags(write=False)

    @property
    def duration_s(self) -> float:
        """Length of the recording."""
        return float(self.mv.shape[1] / self.fs_hz)


@dataclass(frozen=True)
class RecordRef:
    """A record that can be read: its path without extension, and what its folder's index says of it."""

    path: Path
    labels: dict[str, Any] = field(default_factory=dict)  # keyword arguments of EcgRecord beside mv and fs_hz

    @property
    def name(self) -> str:
        """The record's name."""
        return str(self.labels.get("name", self.path.name))

    @property
    def fold(self) -> int:
        """The fold that the index gives it; 0 where it gives none."""
        return int(self.labels.get("fold", 0))

    def read(self) -> EcgRecord:
        """The record itself; RecordError where it can't be read."""
        return replace(read_wfdb(self.path), **self.labels)


# ---------------------------------------------------------------------------------------------------------- one record

_MV_PER_UNIT: Final = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3, "nv": 1e-6}
_LEAD_BY_LOWER: Final = {lead.lower(): lead for lead in LEADS}


def lead_of_name(name: str) -> tuple[str, int] | None:
    """The lead and its sign behind a channel's name ("avr", "MDC_ECG_LEAD_V1", "-aVR"); None for other channels."""
    plain = re.sub(r"^(mdc_ecg_lead_|ecg[ _]?|lead[ _]?)", "", name.strip().lower())
    sign = -1 if plain.startswith("-") else 1
    lead = _LEAD_BY_LOWER.get(plain.lstrip("+-").replace(" ", ""))
    return (lead, sign) if lead else None


def read_wfdb(path: str | Path) -> EcgRecord:
    """One WFDB record (path with or without .hea) in mV; leads it lacks are NaN, other channels are left out.

    Raises RecordError, naming the file, where it is missing, broken or has none of the twelve leads.
    """
    stem = Path(path).with_suffix("") if Path(path).suffix in (".hea", ".dat", ".mat") else Path(path)
    try:
        import wfdb
    except ImportError:
        raise RecordError(f"{stem}: reading WFDB records needs wfdb: pip install 'ecgscan[formats]'") from None
    if not Path(f"{stem}.hea").is_file():
        raise RecordError(f"{stem}.hea: no such record")
    try:
        raw = wfdb.rdrecord(str(stem))
        channels = np.asarray(raw.p_signal, dtype=np.float64).T
    except Exception as error:  # wfdb raises bare exceptions of many kinds for broken files
        raise RecordError(f"{stem}: can't be read as a WFDB record ({type(error).__name__}: {error})") from error
    mv = np.full((N_LEADS, channels.shape[1]), np.nan, dtype=np.float32)
    for name, unit, values in zip(raw.sig_name, raw.units, channels, strict=True):
        found = lead_of_name(name or "")
        if found is None:
            continue
        if (unit or "mV").strip().lower() not in _MV_PER_UNIT:
            raise RecordError(f"{stem}: channel {name} is in {unit!r}, not in volts")
        mv[LEAD_INDEX[found[0]]] = values * (found[1] * _MV_PER_UNIT[(unit or "mV").strip().lower()])
    if not np.isfinite(mv).any():
        raise RecordError(f"{stem}: none of the twelve leads among its channels {raw.sig_name}")
    return EcgRecord(mv, float(raw.fs), name=stem.name)


# ------------------------------------------------------------------------------------------------------ whole folders


def list_records(spec: str) -> list[RecordRef]:
    """The records of "KIND:DIR": "ptbxl", "cinc", "ludb", "paired" (photos' truth), "wfdb" (any folder, recursively) or
    a database as it is published ("mimic", "ptbxl-full", "ptbxl-100", "cpsc2018", "csn", "code-test").

    ptbxl, cinc, ludb and paired expect the index file beside the records (records.csv, ludb.csv, photos.csv); a "ptbxl"
    folder as published is told by its own index.
    """
    from ecg.record_sources import LISTERS

    listers = _LISTERS | LISTERS
    kind, _, folder = spec.partition(":")
    if kind not in listers or not folder:
        raise RecordError(f"{spec!r}: expected KIND:DIR with KIND one of {', '.join(listers)}")
    if not Path(folder).is_dir():
        raise RecordError(f"{folder}: no such folder")
    if kind == "ptbxl" and not (Path(folder) / "records.csv").exists() and (Path(folder) / PTBXL_INDEX).exists():
        kind = "ptbxl-full"
    found = listers[kind](Path(folder))
    if not found:
        raise RecordError(f"{folder}: holds no {kind} records")
    return found


def iter_records(spec: str, folds: tuple[int, ...] = (), skipped: list[str] | None = None) -> Iterator[EcgRecord]:
    """The records of a spec (see ``list_records``) in order, only those of ``folds`` if given.

    Records that can't be read are left out: each is logged, counted at the end, and appended to ``skipped`` as
    "name: reason".
    """
    refs = [ref for ref in list_records(spec) if not folds or ref.fold in folds]
    broken: list[str] = [] if skipped is None else skipped
    before = len(broken)
    for ref in refs:
        try:
            record = ref.read()
        except RecordError as error:
            broken.append(f"{ref.name}: {error}")
            _log.warning("skipped: %s", error)
            continue
        yield record
    if len(broken) > before:
        _log.warning("%s: %d of %d records skipped", spec, len(broken) - before, len(refs))


def csv_rows(path: Path) -> list[dict[str, str]]:
    """The rows of an index file; cells without surrounding white space."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [{k: (v or "").strip() for k, v in row.items() if k is not None} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecordError(f"{path}: can't be read as the folder's index ({error})") from error


def _cell(row: dict[str, str], path: Path, name: str) -> str:
    """A cell that must be there."""
    if name not in row:
        raise RecordError(f"{path}: has no column {name!r}")
    return row[name]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


# The coarser labels of the normalised records leave out the underscore that the codes have.
_CODE_ALIASES: Final = {"STD": "STD_", "STE": "STE_", "NST": "NST_", "NT": "NT_", "TAB": "TAB_", "ISC": "ISC_",
                        "AVB": "_AVB", "PRC": "PRC(S)"}  # fmt: skip


def _list_ptbxl(folder: Path) -> list[RecordRef]:
    path, out = folder / "records.csv", []
    for row in csv_rows(path):
        codes = tuple(_CODE_ALIASES.get(c, c) for c in _cell(row, path, "scp_codes").split(";") if c)
        number, kind = _cell(row, path, "ecg_id"), _cell(row, path, "kind")
        age = _number(row.get("age", ""))
        classes = set(row.get("superclasses", "").split(";"))
        labels = {
            "codes": codes,
            "superclasses": tuple(s for s in SUPERCLASSES if s in classes),
            "report": row.get("report", ""),
            "fold": int(_number(row.get("fold", "")) or 0),
            "age_years": min(age, 90.0) if age is not None else None,  # PTB-XL writes 300 for over 89
            "sex": {"0": "M", "1": "F"}.get(row.get("sex", ""), ""),
            "true_mv": kind == "raw",
        }
        out.append(RecordRef(folder / kind / f"{int(number):05d}", labels))
    return out


# What the challenges' names and SNOMED CT codes say in SCP codes, where the two mean the same.
SCP_OF_CINC: Final = {
    "Normal": "NORM", "AF": "AFIB", "I-AVB": "1AVB", "LBBB": "CLBBB", "RBBB": "CRBBB", "PAC": "PAC", "PVC": "PVC",
    "STD": "STD_", "STE": "STE_",
    "426783006": "SR", "427084000": "STACH", "426177001": "SBRAD", "427393009": "SARRH", "164889003": "AFIB",
    "164890007": "AFLT", "270492004": "1AVB", "195042002": "2AVB", "27885002": "3AVB", "164909002": "CLBBB",
    "733534002": "CLBBB", "59118001": "CRBBB", "713427006": "CRBBB", "713426002": "IRBBB", "251120003": "ILBBB",
    "445118002": "LAFB", "445211001": "LPFB", "698252002": "IVCD", "74390002": "WPW", "284470004": "PAC",
    "427172004": "PVC", "17338001": "PVC", "10370003": "PACE", "164873001": "LVH", "89792004": "RVH",
    "67741000119109": "LAO/LAE", "446358003": "RAO/RAE", "164931005": "STE_", "429622005": "STD_",
    "59931005": "INVT", "164934002": "TAB_", "428750005": "NST_", "55930002": "NST_", "164861001": "ISC_",
    "425419005": "ISCIN", "425623009": "ISCLA", "164917005": "QWAVE", "111975006": "LNGQT", "251146004": "LVOLT",
    "164947007": "LPR", "164867002": "IMI", "426434006": "ISCAN", "426761007": "SVTAC", "67198005": "PSVT",
}  # fmt: skip


def _list_cinc(folder: Path) -> list[RecordRef]:
    path, out = folder / "records.csv", []
    for row in csv_rows(path):
        codes = tuple(dict.fromkeys(SCP_OF_CINC[d] for d in row.get("dx", "").split(",") if d in SCP_OF_CINC))
        labels = {"codes": codes, "superclasses": superclasses_of(codes)}
        out.append(RecordRef(folder / _cell(row, path, "record"), labels))
    return out


# Phrases of LUDB's table that say what an SCP code says.
_SCP_OF_LUDB: Final = {
    "sinus rhythm": "SR", "sinus bradycardia": "SBRAD", "sinus tachycardia": "STACH", "sinus arrhythmia": "SARRH",
    "atrial fibrillation": "AFIB", "atrial flutter": "AFLT", "i degree av block": "1AVB", "iii degree av-block": "3AVB",
    "incomplete right bundle branch block": "IRBBB", "complete right bundle branch block": "CRBBB",
    "incomplete left bundle branch block": "ILBBB", "complete left bundle branch block": "CLBBB",
    "left anterior hemiblock": "LAFB", "left ventricular hypertrophy": "LVH", "right ventricular hypertrophy": "RVH",
    "left atrial hypertrophy": "LAO/LAE", "right atrial hypertrophy": "RAO/RAE", "atrial extrasystole": "PAC",
    "ventricular extrasystole": "PVC",
}  # fmt: skip


def _list_ludb(folder: Path) -> list[RecordRef]:
    """The records that are there: the table names all 200, a folder may hold half of them."""
    path, out = folder / "ludb.csv", []
    for row in csv_rows(path):
        stem = folder / _cell(row, path, "ID")
        if not Path(f"{stem}.hea").is_file():
            continue
        cells = [v for k, v in row.items() if k not in ("ID", "Sex", "Age")]
        said = [line.strip().rstrip(".") for line in "\n".join(cells).split("\n") if line.strip()]
        codes = tuple(dict.fromkeys(c for line in said for p, c in _SCP_OF_LUDB.items() if line.lower().startswith(p)))
        labels = {
            "codes": codes,
            "superclasses": superclasses_of(codes),
            "report": ". ".join(said),
            "age_years": _number(row.get("Age", "")),
            "sex": row.get("Sex", "")[:1],
        }
        out.append(RecordRef(stem, labels))
    return out


def _list_paired(folder: Path) -> list[RecordRef]:
    """The truth of the paired photos, named like the photo's file without its extension."""
    path, out = folder / "photos.csv", []
    for row in csv_rows(path):
        classes = {c.strip() for c in row.get("labels", "").split(",")}
        labels = {
            "name": Path(_cell(row, path, "image_filename")).stem,
            "superclasses": tuple(s for s in SUPERCLASSES if s in classes),
        }
        out.append(RecordRef(folder / _cell(row, path, "record"), labels))
    return out


def _list_wfdb(folder: Path) -> list[RecordRef]:
    stems = sorted(p.with_suffix("") for p in folder.rglob("*.hea"))
    return [RecordRef(stem, {"name": stem.relative_to(folder).as_posix()}) for stem in stems]


_LISTERS: Final[dict[str, Callable[[Path], list[RecordRef]]]] = {
    "ptbxl": _list_ptbxl, "cinc": _list_cinc, "ludb": _list_ludb, "paired": _list_paired, "wfdb": _list_wfdb,
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- signals

_LOBES: Final = 16  # zero crossings of the sinc on either side
_KAISER_BETA: Final = 8.0  # about 80 dB of stop band


def resample(record: EcgRecord, fs_hz: float) -> EcgRecord:
    """The record at another rate, by a Kaiser-windowed sinc (polyphase where the rates' ratio is simple).

    The first sample stays at t = 0; ends are held; NaN stays NaN, to the nearest sample.
    """
    if not fs_hz > 0:
        raise ValueError(f"fs_hz must be positive, got {fs_hz}")
    n = record.mv.shape[1]
    n_out = int(np.floor((n - 1) * fs_hz / record.fs_hz + 1e-9)) + 1 if n else 0
    n_out = max(n_out, round(n * fs_hz / record.fs_hz))  # 1250 at 125 Hz are 5000 at 500 Hz, not 4997
    if fs_hz == record.fs_hz or n < 2:
        return record if fs_hz == record.fs_hz else replace(record, fs_hz=fs_hz)
    known = np.isfinite(record.mv)
    filled = record.mv if known.all() else _held(record.mv, known)
    out = _sinc_resample(filled, record.fs_hz / fs_hz, n_out)
    if not known.all():
        nearest = np.minimum(np.round(np.arange(n_out) * (record.fs_hz / fs_hz)).astype(int), n - 1)
        out[~known[:, nearest]] = np.nan
    return replace(record, mv=out, fs_hz=float(fs_hz))


def _sinc_resample(values: F32, step: float, n_out: int) -> F32:
    """Values (L, n) read at 0, step, 2 step, ... samples, band-limited to what both rates carry."""
    cutoff = min(1.0, 1.0 / step)
    half = int(np.ceil(_LOBES / cutoff))
    ratio = Fraction(step).limit_denominator(1000)  # step = q / p: p phases
    simple = abs(float(ratio) - step) < 1e-12 * max(step, 1.0)
    at = np.arange(n_out) * step
    base = np.floor(at + 1e-9).astype(np.int64)
    n_phases = min(ratio.denominator, n_out) if simple else n_out
    taps = np.arange(1 - half, half + 1)
    x = taps[None, :] - (at - base)[:n_phases, None]
    window = np.i0(_KAISER_BETA * np.sqrt(np.maximum(0.0, 1.0 - (x / half) ** 2)))
    kernel = np.sinc(cutoff * x) * window
    kernel = (kernel / kernel.sum(axis=1, keepdims=True)).astype(np.float32)
    padded = np.pad(values, ((0, 0), (half, half + int(np.ceil(step)) + 1)), mode="edge")
    out = np.empty((values.shape[0], n_out), dtype=np.float32)
    for phase in range(n_phases):
        start = np.minimum(base[phase::n_phases], values.shape[1] - 1) + half + taps[0]
        out[:, phase::n_phases] = padded[:, start[:, None] + np.arange(len(taps))] @ kernel[phase]
    return out


def _held(mv: F32, known: NDArray[np.bool_]) -> F32:
    """Unknown samples filled along each lead by straight lines and held ends; 0 where a lead is wholly unknown."""
    at = np.arange(mv.shape[1])
    rows = [np.interp(at, at[k], row[k]) if k.any() else np.zeros(len(at)) for row, k in zip(mv, known, strict=True)]
    return np.stack(rows).astype(np.float32)


# Natural log of (root mean square of the six limb leads' standard deviations, then the standard deviations of V1..V6)
# in mV after 0.5 to 40 Hz: mean and lower Cholesky factor over the 373 records of PTB-XL 1.0.3 (CC BY 4.0) in true mV
# that carry none of the codes in _LOG_STD_SHIFT; below, by how much records with such a code differ on average.
_LOG_STD_MEAN: Final = np.array([-2.172, -1.952, -1.384, -1.481, -1.515, -1.633, -1.828])
_LOG_STD_FACTOR: Final = np.array([
    [0.279, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    [0.128, 0.403, 0.0, 0.0, 0.0, 0.0, 0.0],
    [0.097, 0.160, 0.366, 0.0, 0.0, 0.0, 0.0],
    [0.091, 0.080, 0.210, 0.287, 0.0, 0.0, 0.0],
    [0.119, 0.042, 0.111, 0.180, 0.239, 0.0, 0.0],
    [0.164, -0.003, 0.036, 0.091, 0.150, 0.238, 0.0],
    [0.160, 0.003, 0.023, 0.054, 0.090, 0.219, 0.209],
])  # fmt: skip
_LOG_STD_SHIFT: Final = {
    "PACE": (1.04, 0.69, 0.58, 0.78, 0.80, -0.14, -0.02),
    "CLBBB": (0.59, 0.93, 0.91, 0.97, 0.40, -0.27, 0.20),
    "LVH": (0.29, 0.49, 0.35, 0.39, 0.41, 0.60, 0.57),
    "VCLVH": (0.29, 0.49, 0.35, 0.39, 0.41, 0.60, 0.57),
    "HVOLT": (0.29, 0.49, 0.35, 0.39, 0.41, 0.60, 0.57),
    "LVOLT": (-0.68, -0.37, -0.13, -0.18, -0.34, -0.35, -0.39),
    "PVC": (0.41, 0.49, 0.26, 0.31, 0.27, 0.27, 0.35),
}


def with_plausible_gain(record: EcgRecord, rng: np.random.Generator) -> EcgRecord:
    """A record that lost its gain, scaled to voltages that an adult with its codes could have; true mV pass unchanged.

    The six limb leads share one factor (their relations are kept), each chest lead has its own. ``true_mv`` stays
    False.
    """
    if record.true_mv:
        return record
    shift = next((s for code, s in _LOG_STD_SHIFT.items() if code in record.codes), (0.0,) * 7)
    wanted = np.exp(_LOG_STD_MEAN + np.array(shift) + _LOG_STD_FACTOR @ np.clip(rng.standard_normal(7), -2.2, 2.2))
    known = np.isfinite(record.mv)
    count = np.maximum(known.sum(axis=1), 1)
    centred = np.where(known, record.mv, 0.0)
    variance = (centred**2).sum(axis=1) / count - (centred.sum(axis=1) / count) ** 2
    limb = variance[:6][known[:6].any(axis=1)]
    now = np.sqrt(np.concatenate([[limb.mean() if len(limb) else 0.0], variance[6:]]))
    factor = np.where(now > 1e-6, wanted / np.maximum(now, 1e-6), 1.0)
    per_lead = np.concatenate([np.repeat(factor[0], 6), factor[1:]]).astype(np.float32)
    return replace(record, mv=record.mv * per_lead[:, None])
