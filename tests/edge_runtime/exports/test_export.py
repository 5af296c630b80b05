"""What all formats share: names, whole files, no patient data, clear faults, the same bytes for the same reading."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from ecg.errors import EcgscanError, InputError
from ecg.page import EcgSignal, Reading
from edge_runtime import outputs
from edge_runtime.exports import FORMATS, export, targets
from edge_runtime.exports.document import make_document, runs


def needs(fmt: str) -> None:
    if fmt == "dicom":
        pytest.importorskip("pydicom")


@pytest.mark.parametrize("fmt", FORMATS)
def test_files_are_named_and_repeatable(reading: Reading, fmt: str, tmp_path: Path) -> None:
    needs(fmt)
    when = datetime(2024, 1, 2, 3, 4, 5)  # local time
    files = export(reading, "a.jpg", fmt, tmp_path / "new" / "a.b", when=when)
    assert files == targets(fmt, tmp_path / "new" / "a.b")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == sorted(f.name for f in files)
    first = [f.read_bytes() for f in files]
    export(reading, "a.jpg", fmt, tmp_path / "new" / "a.b", when=when)
    assert [f.read_bytes() for f in files] == first


@pytest.mark.parametrize("fmt", FORMATS)
def test_neither_folder_nor_name_of_the_photo_is_written(
    reading: Reading, fmt: str, write: Callable[..., Path], tmp_path: Path
) -> None:
    """Both may name a patient; the PDF, whose text is compressed, has a test of its own."""
    needs(fmt)
    write(reading, fmt)
    for path in tmp_path.iterdir():
        data = path.read_bytes()
        assert not re.search(rb"ward|Mustermann|Erika|1970", data), path
        assert str(tmp_path).encode() not in data


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_file_that_cannot_be_written_leaves_the_old_one(
    reading: Reading, fmt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(fmt)
    files = export(reading, "a.jpg", fmt, tmp_path / "a")
    before = files[0].read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs.os, "replace", fail)
    with pytest.raises(EcgscanError, match="No space left"):
        export(reading, "b.jpg", fmt, tmp_path / "a")
    assert files[0].read_bytes() == before
    # Of several files the one that leads to the others is gone, so that no header describes other data.
    assert [p.name for p in tmp_path.iterdir()] == [files[0].name]


def test_unknown_formats_are_named() -> None:
    with pytest.raises(InputError, match=r"no format 'gdf'; give one of wfdb, edf, dicom, aecg, fhir, pdf"):
        targets("gdf", Path("a"))


def test_wfdb_names_are_plain_and_distinct() -> None:
    names = [targets("wfdb", Path("o") / n)[-1].name for n in ("IMG_1-2", "a b", "a_b", "a.b", "é")]
    assert names[0] == "IMG_1-2.hea"
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+\.hea", n) for n in names)
    assert targets("edf", Path("o") / "a.b é") == (Path("o") / "a.b é.edf",)


def test_a_signal_without_samples(reading: Reading, tmp_path: Path) -> None:
    nothing = np.full((12, 50), np.nan, np.float32)
    empty = EcgSignal(nothing, 500.0, np.zeros_like(nothing), np.zeros(nothing.shape, bool))
    for signal in (empty, EcgSignal(*(a[:, :0] for a in (nothing,)), 500.0, nothing[:, :0], nothing[:, :0] > 0)):
        with pytest.raises(InputError, match="no lead holds a sample"):
            export(replace(reading, signal=signal), "a.jpg", "edf", tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_volts_are_refused(reading: Reading) -> None:
    mv = np.array(reading.signal.mv)
    mv[0, 10] = 5000.0
    with pytest.raises(InputError, match="5000 mV"):
        make_document(replace(reading, signal=replace(reading.signal, mv=mv)), "a.jpg")


def test_without_pydicom_the_fault_says_what_to_install(
    reading: Reading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(EcgscanError, match=r"pip install 'ecgscan\[formats\]'"):
        export(reading, "a.jpg", "dicom", tmp_path / "a")


def test_gaps_tell_not_printed_from_not_read(reading: Reading) -> None:
    document = make_document(reading, "a.jpg")
    missing = np.zeros(document.counts.shape, bool)
    for span in document.gaps():
        i = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6").index(span.lead)
        assert not missing[i, span.start : span.stop].any()
        missing[i, span.start : span.stop] = True
        assert (span.what == "not read") == (span.lead == "II" or (span.lead == "V3" and span.start == 2500))
    assert np.array_equal(missing, ~np.isfinite(reading.signal.mv))


def test_runs() -> None:
    assert runs(np.array([1, 1, 0, 1, 0, 0, 1], bool)) == [(0, 2), (3, 4), (6, 7)]
    assert runs(np.zeros(3, bool)) == runs(np.zeros(0, bool)) == []
