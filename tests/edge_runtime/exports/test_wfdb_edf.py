"""WFDB and EDF+ read back by wfdb, by our own record reader and by pyEDFlib, which checks the standard strictly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from export_readings import assert_same_signal, lsb_mv

import ecg
from ecg.errors import InputError
from ecg.leads import LEADS
from ecg.page import EcgSignal, Reading
from edge_runtime.exports.document import make_document


def test_wfdb_reads_the_record(reading: Reading, write: Callable[..., Path]) -> None:
    wfdb = pytest.importorskip("wfdb")
    record = wfdb.rdrecord(str(write(reading, "wfdb").with_suffix("")))
    assert (record.fs, record.n_sig, record.sig_len) == (500, 12, reading.signal.mv.shape[1])
    assert record.sig_name == list(LEADS)
    assert set(record.units) == {"mV"}
    assert set(record.fmt) == {"16"}
    assert set(record.adc_gain) == {1 / lsb_mv(reading)}
    assert_same_signal(record.p_signal.T, reading)
    digital = make_document(reading, "a").counts
    assert record.init_value == digital[:, 0].tolist()
    assert [c % 65536 for c in record.checksum] == [int(d.sum(dtype=np.int64)) % 65536 for d in digital]
    assert any(c.startswith("filled in I 0.200 0.300") for c in record.comments)


def test_wfdb_reads_by_our_own_reader(reading: Reading, write: Callable[..., Path]) -> None:
    pytest.importorskip("wfdb")
    from ecg.records import read_wfdb

    record = read_wfdb(write(reading, "wfdb"))
    assert record.fs_hz == 500
    assert_same_signal(record.mv, reading)


def read_edf(path: Path) -> tuple[np.ndarray, list[tuple[float, float, str]]]:
    """Signals in mV with the digital minimum as NaN, and annotations (onset s, duration s, text)."""
    pyedflib = pytest.importorskip("pyedflib")
    with pyedflib.EdfReader(str(path)) as file:
        assert file.filetype == pyedflib.FILETYPE_EDFPLUS
        assert file.getSignalLabels() == [f"ECG {lead}" for lead in LEADS]
        assert {file.getPhysicalDimension(i) for i in range(12)} == {"mV"}
        assert set(file.getSampleFrequencies()) == {500}
        who = file.getPatientCode(), file.getPatientName(), file.getSex(), file.getBirthdate()
        assert set(who) <= {"", "X"}
        assert file.getStartdatetime() == datetime(1985, 1, 1)  # what the standard writes for "not known"
        digital = np.stack([file.readSignal(i, digital=True) for i in range(12)])
        mv = np.stack([file.readSignal(i) for i in range(12)])
        notes = list(zip(*file.readAnnotations(), strict=True))
    return np.where(digital == -32768, np.nan, mv), [(float(a), float(b), str(t)) for a, b, t in notes]


def test_edf_reads_strictly(reading: Reading, write: Callable[..., Path]) -> None:
    mv, notes = read_edf(write(reading, "edf"))
    n = reading.signal.mv.shape[1]
    assert n <= mv.shape[1] < n + 50
    assert np.isnan(mv[:, n:]).all()
    assert_same_signal(mv[:, :n], reading)
    said = {what: np.zeros((12, n), bool) for what in ("not printed", "not read", "filled in")}
    for onset, duration, text in notes:
        if text == "after the end":
            assert (round(onset * 500), round((onset + duration) * 500)) == (n, mv.shape[1])
            continue
        what, label = text.split("@@ECG ")
        first = round(onset * 500)
        said[what][LEADS.index(label), first : first + round(duration * 500)] = True
    assert np.array_equal(said["not printed"] | said["not read"], ~np.isfinite(reading.signal.mv))
    assert not (said["not printed"] & said["not read"]).any()
    assert np.array_equal(said["filled in"], reading.signal.filled & np.isfinite(reading.signal.mv))


def test_edf_header_is_plain_ascii_of_the_right_size(reading: Reading, write: Callable[..., Path]) -> None:
    data = write(reading, "edf").read_bytes()
    header = data[: int(data[184:192])]
    assert len(header) == 256 * 14
    assert all(32 <= byte < 127 for byte in header)
    assert header[8:168].split() == [b"X"] * 4 + [b"Startdate", b"X", b"X", b"X", f"ecgscan_{ecg.__version__}".encode()]
    assert header[168:184] == b"01.01.8500.00.00"
    assert header[192:236].strip() == b"EDF+C"
    n_records, samples = int(header[236:244]), [int(header[256 + 13 * 216 + 8 * k :][:8]) for k in range(13)]
    assert len(data) == len(header) + 2 * n_records * sum(samples)
    assert 2 * sum(samples) <= 61440


@pytest.mark.parametrize(("fs_hz", "ok"), [(250.0, True), (360.0, True), (1000.0, True), (333.3, False)])
def test_edf_at_other_rates(reading: Reading, write: Callable[..., Path], fs_hz: float, ok: bool) -> None:
    signal = reading.signal
    other = EcgSignal(signal.mv, fs_hz, signal.confidence, signal.filled)
    if not ok:
        with pytest.raises(InputError, match="whole samples"):
            write(replace(reading, signal=other), "edf")
        return
    pyedflib = pytest.importorskip("pyedflib")
    with pyedflib.EdfReader(str(write(replace(reading, signal=other), "edf"))) as file:
        assert set(file.getSampleFrequencies()) == {fs_hz}
