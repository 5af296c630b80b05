"""The public databases in their own folder structures: MIMIC-IV-ECG, PTB-XL, CPSC2018, Chapman-Shaoxing-Ningbo, CODE.

Each lister reads the database's own index and gives ``RecordRef``s; a broken index raises ``RecordError``, a broken
record only when it is read.
"""

from __future__ import annotations

import ast
import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from ecg.errors import RecordError
from ecg.findings import SUPERCLASSES, superclasses_of
from ecg.leads import N_LEADS
from ecg.records import SCP_OF_CINC, EcgRecord, RecordRef, csv_rows

REPORT_COLUMNS: Final = tuple(f"report_{k}" for k in range(18))
MIN_REPORT_WORDS: Final = 4  # ECG-Scan leaves out shorter ones (arXiv 2604.01526)


# ----------------------------------------------------------------------------------------------------- MIMIC-IV-ECG 1.0


def list_mimic(folder: Path) -> list[RecordRef]:
    """record_list.csv joined by study with the machine's report lines of machine_measurements.csv.

    Records without a report of four words or more are left out.
    """
    reports = dict(_mimic_reports(folder / "machine_measurements.csv"))
    out = []
    for row in _cells(folder / "record_list.csv", ("study_id", "path")):
        report = reports.get(row["study_id"], "")
        if report:
            out.append(RecordRef(folder / row["path"], {"name": row["study_id"], "report": report}))
    return out


def _mimic_reports(path: Path) -> Iterator[tuple[str, str]]:
    for row in _cells(path, ("study_id", *REPORT_COLUMNS)):
        lines = [row[name].rstrip(".") for name in REPORT_COLUMNS if row[name]]
        report = ". ".join(lines)
        if len(report.split()) >= MIN_REPORT_WORDS:
            yield row["study_id"], report + "."


# --------------------------------------------------------------------------------------------------------- PTB-XL 1.0.3


@dataclass(frozen=True)
class PtbxlStatement:
    """A code of scp_statements.csv: its diagnostic class and subclass ("" for none), and whether it is form, rhythm."""

    code: str
    superclass: str
    subclass: str
    form: bool
    rhythm: bool


def ptbxl_statements(folder: Path) -> dict[str, PtbxlStatement]:
    """The codes of a PTB-XL folder's scp_statements.csv."""
    out = {}
    for row in csv_rows(folder / "scp_statements.csv"):
        if "diagnostic_class" not in row:
            raise RecordError(f"{folder / 'scp_statements.csv'}: has no column 'diagnostic_class'")
        code = next(iter(row.values()))  # the first column has no name
        if code:
            form, rhythm = (float(row.get(k) or 0) == 1 for k in ("form", "rhythm"))
            subclass = row.get("diagnostic_subclass", "")
            out[code] = PtbxlStatement(code, row["diagnostic_class"], subclass, form, rhythm)
    return out


def list_ptbxl_500(folder: Path) -> list[RecordRef]:
    """The whole of PTB-XL at 500 Hz."""
    return _list_ptbxl_full(folder, "filename_hr")


def list_ptbxl_100(folder: Path) -> list[RecordRef]:
    """The whole of PTB-XL at 100 Hz."""
    return _list_ptbxl_full(folder, "filename_lr")


def _list_ptbxl_full(folder: Path, column: str) -> list[RecordRef]:
    path = folder / "ptbxl_database.csv"
    statements = ptbxl_statements(folder)
    out = []
    for row in _cells(path, ("ecg_id", "scp_codes", "strat_fold", column)):
        codes = _likelihoods(row["scp_codes"], path, row["ecg_id"])
        classes = {statements[c].superclass for c in codes if c in statements}
        age = _number(row.get("age", ""))
        labels: dict[str, Any] = {
            "codes": tuple(codes),
            "superclasses": tuple(s for s in SUPERCLASSES if s in classes),
            "report": row.get("report", ""),
            "fold": int(_number(row["strat_fold"]) or 0),
            "age_years": min(age, 90.0) if age is not None else None,  # 300 stands for over 89
            "sex": {"0": "M", "1": "F"}.get(row.get("sex", ""), ""),
        }
        out.append(RecordRef(folder / row[column], labels))
    return out


def _likelihoods(text: str, path: Path, record: str) -> dict[str, float]:
    """{"NORM": 100.0, ...} as PTB-XL writes it; every code counts, whatever its likelihood, as in its own examples."""
    try:
        found = ast.literal_eval(text)
        return {str(k): float(v) for k, v in found.items()}
    except (ValueError, SyntaxError, AttributeError, TypeError) as error:
        raise RecordError(f"{path}: record {record}: scp_codes {text[:40]!r} can't be read") from error


# --------------------------------------------------------------------------------- challenge headers: CPSC2018 and CSN

# CPSC2018's REFERENCE.csv counts its nine labels from 1.
_CPSC_LABELS: Final = ("NORM", "AFIB", "1AVB", "CLBBB", "CRBBB", "PAC", "PVC", "STD_", "STE_")


def list_cpsc2018(folder: Path) -> list[RecordRef]:
    """WFDB records anywhere below, labelled by REFERENCE.csv where there is one, else by their headers' #Dx."""
    found = sorted(folder.rglob("REFERENCE.csv"))
    given: dict[str, tuple[str, ...]] = {}
    for row in _cells(found[0], ("Recording", "First_label")) if found else ():
        numbers = [row.get(f"{k}_label", "") for k in ("First", "Second", "Third")]
        try:
            given[row["Recording"]] = tuple(_CPSC_LABELS[int(n) - 1] for n in numbers if n)
        except (ValueError, IndexError) as error:
            raise RecordError(f"{found[0]}: {row['Recording']}: labels {numbers} aren't 1 to 9") from error
    out = []
    for stem in sorted(p.with_suffix("") for p in folder.rglob("*.hea")):
        labels = header_labels(Path(f"{stem}.hea"))
        if stem.name in given:
            codes = given[stem.name]
            labels |= {"codes": codes, "superclasses": superclasses_of(codes)}
        out.append(RecordRef(stem, labels))
    return out


def list_csn(folder: Path) -> list[RecordRef]:
    """Chapman-Shaoxing-Ningbo (PhysioNet's ecg-arrhythmia): WFDB records below WFDBRecords, #Dx in SNOMED CT codes."""
    root = folder / "WFDBRecords"
    stems = sorted(p.with_suffix("") for p in (root if root.is_dir() else folder).rglob("*.hea"))
    return [RecordRef(stem, header_labels(Path(f"{stem}.hea"))) for stem in stems]


def header_labels(path: Path) -> dict[str, Any]:
    """What a header's comments say: "#Dx: 426783006,...", "#Age: 59", "#Sex: Male"; nothing where it can't be read
    (the record then fails when it is read itself)."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    said = {}
    for line in text.splitlines():
        if line.startswith("#") and ":" in line:
            key, value = line.lstrip("# ").split(":", 1)
            said[key.strip().lower()] = value.strip()
    found = [d.strip() for d in said.get("dx", "").split(",")]
    codes = tuple(dict.fromkeys(SCP_OF_CINC[d] for d in found if d in SCP_OF_CINC))
    sex = {"m": "M", "f": "F"}.get(said.get("sex", "")[:1].lower(), "")
    return {"codes": codes, "superclasses": superclasses_of(codes), "age_years": _number(said.get("age", "")),
            "sex": sex}  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- CODE-test

_CODE_HZ: Final = 400.0
_CODE_MV: Final = 0.1  # its tracings are in 1e-4 V (Zenodo 3765780, README)
_CODE_LABELS: Final = {"1davb": "1AVB", "rbbb": "CRBBB", "lbbb": "CLBBB", "sb": "SBRAD", "af": "AFIB", "st": "STACH"}


@dataclass(frozen=True)
class Hdf5Ref(RecordRef):
    """A row of a HDF5 file's dataset "tracings" (records, samples, 12), leads in our order."""

    row: int = 0

    def read(self) -> EcgRecord:
        """The record itself; zeros that fill it up at both ends are left out."""
        h5py = _h5py()
        try:
            with h5py.File(self.path, "r") as file:
                values = np.asarray(file["tracings"][self.row], np.float32).T
        except (OSError, KeyError, IndexError, ValueError) as error:
            raise RecordError(f"{self.path}: row {self.row}: can't be read ({error})") from error
        if values.shape[0] != N_LEADS:
            raise RecordError(f"{self.path}: row {self.row}: {values.shape[0]} leads instead of {N_LEADS}")
        there = np.flatnonzero((values != 0).any(axis=0))
        if not len(there) or not np.isfinite(values).all():
            raise RecordError(f"{self.path}: row {self.row}: holds no signal")
        mv = np.ascontiguousarray(values[:, there[0] : there[-1] + 1]) * np.float32(_CODE_MV)
        return replace(EcgRecord(mv, _CODE_HZ), **self.labels)


def list_code_test(folder: Path) -> list[RecordRef]:
    """CODE-test: ecg_tracings.hdf5 with annotations/gold_standard.csv and attributes.csv, row by row."""
    path = folder / "ecg_tracings.hdf5"
    if not path.is_file():
        raise RecordError(f"{path}: no such file")
    try:
        with _h5py().File(path, "r") as file:
            n = int(file["tracings"].shape[0])
    except (OSError, KeyError) as error:
        raise RecordError(f"{path}: can't be read as CODE-test's tracings ({error})") from error
    gold = csv_rows(folder / "annotations" / "gold_standard.csv")
    about = csv_rows(folder / "attributes.csv") if (folder / "attributes.csv").exists() else [{}] * n
    if len(gold) != n or len(about) != n:
        raise RecordError(f"{folder}: {n} tracings, but {len(gold)} annotations and {len(about)} attributes")
    out: list[RecordRef] = []
    for k, (labels, person) in enumerate(zip(gold, about, strict=True)):
        codes = tuple(_CODE_LABELS[c.lower()] for c, v in labels.items() if c.lower() in _CODE_LABELS and v == "1")
        sex = person.get("sex", "")[:1].upper()
        out.append(Hdf5Ref(path, {
            "name": f"code-{k:04d}", "codes": codes, "superclasses": superclasses_of(codes),
            "age_years": _number(person.get("age", "")), "sex": sex,
        }, k))  # fmt: skip
    return out


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise RecordError("reading CODE-test needs h5py: pip install 'ecgscan[hdf5]'") from None
    return h5py


# --------------------------------------------------------------------------------------------------------------- shared


def _cells(path: Path, needed: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Rows of a large index, one at a time, that must have these columns."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if lacking := [c for c in needed if c not in (reader.fieldnames or ())]:
                raise RecordError(f"{path}: has no column {lacking[0]!r}")
            for row in reader:
                yield {k: (v or "").strip() for k, v in row.items() if k is not None}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecordError(f"{path}: can't be read as the folder's index ({error})") from error


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


LISTERS: Final[dict[str, Callable[[Path], list[RecordRef]]]] = {
    "mimic": list_mimic, "ptbxl-full": list_ptbxl_500, "ptbxl-100": list_ptbxl_100, "cpsc2018": list_cpsc2018,
    "csn": list_csn, "code-test": list_code_test,
}  # fmt: skip
