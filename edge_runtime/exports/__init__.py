"""A reading in the formats of other systems: ``export(reading, photo.source, "edf", out_dir / stem)``.

Every file is written whole or not at all.  No patient data are written: nothing of the printed header is read, and
what these formats ask of the patient stays empty.  The photo's name appears in the PDF alone, which a person reads.
Times count from the printed start; when the ECG was recorded is not known, only when it was read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ecg.errors import EcgscanError, InputError

if TYPE_CHECKING:
    from ecg.page import Reading


@dataclass(frozen=True)
class Format:
    """One format: ``suffixes`` of its files, written in this order; ``plain``: letters, digits, - and _ in names only.

    The module of the format's name offers ``contents(document, names) -> tuple of bytes``, one for each suffix.
    """

    name: str
    title: str
    suffixes: tuple[str, ...]
    plain: bool = False


# The file that makes the others found (WFDB's header) comes last.
FORMATS: Final[dict[str, Format]] = {
    f.name: f
    for f in (
        Format("wfdb", "WFDB record, format 16", (".dat", ".hea"), plain=True),
        Format("edf", "EDF+, continuous, with annotations", (".edf",)),
        Format("dicom", "DICOM 12-lead ECG waveform", (".dcm",)),
        Format("aecg", "HL7 annotated ECG, XML", (".aecg.xml",)),
        Format("fhir", "FHIR R4 bundle: DiagnosticReport and Observation, JSON", (".fhir.json",)),
        Format("pdf", "one-page report, 25 mm/s and 10 mm/mV on A4", (".report.pdf",)),
    )
}


def targets(fmt: str, path: Path) -> tuple[Path, ...]:
    """The files that ``export`` writes for the same ``fmt`` and ``path``; raises ``InputError`` for unknown formats."""
    known = FORMATS.get(fmt)
    if known is None:
        raise InputError(f"no format {fmt!r}; give one of {', '.join(FORMATS)}")
    name = _plain_name(path.name) if known.plain else path.name
    return tuple(path.with_name(name + suffix) for suffix in known.suffixes)


def _plain_name(name: str) -> str:
    """Letters, digits, - and _ of ASCII only, still another name for another name."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def export(
    reading: Reading,
    photo_name: str,
    fmt: str,
    path: Path,
    *,
    when: datetime | None = None,
    notes: Sequence[str] = (),
) -> tuple[Path, ...]:
    """Write a reading in one format beside ``path`` (folder and stem: the suffixes are added) and name the files.

    ``when`` is the time of reading (now if None), ``notes`` are lines such as findings and measurements for the formats
    that carry text (PDF, FHIR).  Raises ``EcgscanError`` in one line: unknown format, a library that is not installed,
    a signal that the format can't hold, a file that can't be written.
    """
    files = targets(fmt, path)
    from edge_runtime.exports.document import make_document
    from edge_runtime.outputs import write_atomic

    document = make_document(reading, photo_name, when, notes)
    module = import_module(f"edge_runtime.exports.{fmt}")
    contents: tuple[bytes, ...] = module.contents(document, tuple(f.name for f in files))
    if len(files) > 1:  # an older header must not stand beside new data, should the writing end here
        try:
            files[-1].unlink(missing_ok=True)
        except OSError as err:
            raise EcgscanError(f"{files[-1]}: can't be replaced ({err.strerror or err})") from err
    for file, data in zip(files, contents, strict=True):
        write_atomic(file, data)
    return files
