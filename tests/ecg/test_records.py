from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecg.errors import RecordError
from ecg.findings import STATEMENTS, SUPERCLASSES, report_of, superclasses_of
from ecg.leads import LEADS
from ecg.records import (
    EcgRecord,
    iter_records,
    lead_of_name,
    list_records,
    read_wfdb,
    resample,
    with_plausible_gain,
)

DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data isn't there")


def sines(fs: float, seconds: float = 10.0) -> EcgRecord:
    t = np.arange(round(seconds * fs)) / fs
    return EcgRecord(np.stack([np.sin(2 * np.pi * (1 + 3 * k) * t + k) for k in range(12)]).astype(np.float32), fs)


def write_wfdb(folder: Path, name: str, leads: list[str], units: str = "mV", n: int = 500) -> np.ndarray:
    """A WFDB record of format 16 (interleaved little-endian int16), 1000 steps a unit."""
    pytest.importorskip("wfdb")
    values = np.round(np.random.default_rng(0).normal(0, 500, (n, len(leads)))).clip(-9000, 9000).astype("<i2")
    lines = [f"{name} {len(leads)} 250 {n}", *(f"{name}.dat 16 1000(0)/{units} 16 0 0 0 0 {lead}" for lead in leads)]
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")
    (folder / f"{name}.dat").write_bytes(values.tobytes())
    return values / 1000.0


@pytest.mark.parametrize("fs_out", [125.0, 250.0, 360.0, 500.0, 1000.0, 257.3])
@pytest.mark.parametrize("fs_in", [125.0, 500.0])
def test_resampling_keeps_sines(fs_in, fs_out):
    got = resample(sines(fs_in), fs_out)
    want = sines(fs_out)
    m = min(got.mv.shape[1], want.mv.shape[1])
    assert abs(got.mv.shape[1] - want.mv.shape[1]) <= 1
    inner = slice(int(0.2 * fs_out), m - int(0.2 * fs_out))
    assert np.abs(got.mv[:, inner] - want.mv[:, inner]).max() < 1e-3


def test_resampling_removes_what_the_new_rate_cannot_carry():
    t = np.arange(5000) / 500
    high = EcgRecord(np.tile(np.sin(2 * np.pi * 90 * t), (12, 1)).astype(np.float32), 500.0)
    assert np.abs(resample(high, 125.0).mv[:, 50:-50]).max() < 1e-3


def test_resampling_keeps_gaps():
    record = sines(500.0)
    mv = np.array(record.mv)
    mv[3] = np.nan
    mv[5, 1000:2000] = np.nan
    out = resample(EcgRecord(mv, 500.0), 250.0).mv
    assert np.isnan(out[3]).all()
    assert np.isnan(out[5, 500:1000]).all()
    assert np.isfinite(out[5, :499]).all()
    assert np.isfinite(out[4]).all()


def test_plausible_gain_keeps_limb_relations_and_scales_chest():
    rng = np.random.default_rng(0)
    mv = rng.standard_normal((12, 1250)).astype(np.float32)
    mv[2] = mv[1] - mv[0]
    lost = EcgRecord(mv, 125.0, true_mv=False)
    stds = []
    for _ in range(200):
        out = with_plausible_gain(lost, rng)
        assert np.allclose(out.mv[0] + out.mv[2], out.mv[1], atol=1e-5)
        assert np.allclose(out.mv[7] / out.mv[7, 0], mv[7] / mv[7, 0], rtol=1e-3, atol=1e-3)
        stds.append(out.mv.std(axis=1))
    assert 0.15 < np.median(stds, axis=0)[7] < 0.4  # V2
    assert not out.true_mv
    known = EcgRecord(mv, 125.0)
    assert with_plausible_gain(known, rng) is known


@pytest.mark.parametrize(
    ("name", "want"),
    [("avr", ("aVR", 1)), ("-aVR", ("aVR", -1)), ("MDC_ECG_LEAD_V1", ("V1", 1)), ("Lead II", ("II", 1)), ("vx", None)],
)
def test_lead_names(name, want):
    assert lead_of_name(name) == want


def test_wfdb_leads_are_reordered_and_missing_ones_are_nan(tmp_path):
    values = write_wfdb(tmp_path, "r1", ["V6", "ii", "vx", "AVR"])
    record = read_wfdb(tmp_path / "r1.hea")
    assert (record.name, record.fs_hz) == ("r1", 250.0)
    assert np.allclose(record.mv[LEADS.index("V6")], values[:, 0], atol=1e-3)
    assert np.allclose(record.mv[LEADS.index("aVR")], values[:, 3], atol=1e-3)
    assert np.isnan(record.mv[0]).all()


def test_wfdb_units_become_mv(tmp_path):
    values = write_wfdb(tmp_path, "r1", ["I"], units="uV")
    assert np.allclose(read_wfdb(tmp_path / "r1").mv[0], values[:, 0] / 1000, atol=1e-6)
    write_wfdb(tmp_path, "r2", ["I"], units="mmHg")
    with pytest.raises(RecordError, match=r"r2.*mmHg"):
        read_wfdb(tmp_path / "r2")
    write_wfdb(tmp_path, "r3", ["RESP"])
    with pytest.raises(RecordError, match=r"r3.*none of the twelve"):
        read_wfdb(tmp_path / "r3")


def test_broken_records_are_named_counted_and_skipped(tmp_path, caplog):
    write_wfdb(tmp_path, "good", ["I", "II"])
    write_wfdb(tmp_path, "short", ["I", "II"])
    (tmp_path / "short.dat").write_bytes(b"\x00" * 10)
    (tmp_path / "junk.hea").write_text("not a header\n")
    skipped: list[str] = []
    records = list(iter_records(f"wfdb:{tmp_path}", skipped=skipped))
    assert [r.name for r in records] == ["good"]
    assert sorted(s.split(":")[0] for s in skipped) == ["junk", "short"]
    assert "2 of 3 records skipped" in caplog.text


def test_a_wrong_spec_says_what_is_expected(tmp_path):
    with pytest.raises(RecordError, match="KIND:DIR"):
        list_records("nowhere:somewhere")
    with pytest.raises(RecordError, match="no such folder"):
        list_records(f"wfdb:{tmp_path / 'none'}")
    with pytest.raises(RecordError, match="holds no wfdb records"):
        list_records(f"wfdb:{tmp_path}")
    with pytest.raises(RecordError, match=r"records\.csv"):
        list_records(f"ptbxl:{tmp_path}")
    with pytest.raises(RecordError, match="no such record"):
        read_wfdb(tmp_path / "nothing")


@needs_data
@pytest.mark.parametrize(
    ("spec", "n", "fs"),
    [("ptbxl:ptbxl", 2025, 500.0), ("cinc:cinc", 191, 500.0), ("ludb:ludb", 100, 500.0),
     ("paired:photos/paired", 25, 500.0)],
)  # fmt: skip
def test_real_folders(spec, n, fs):
    pytest.importorskip("wfdb")
    kind, _, folder = spec.partition(":")
    refs = list_records(f"{kind}:{DATA / folder}")
    assert len(refs) == n
    record = refs[1].read()
    assert record.fs_hz == fs
    assert record.mv.shape[1] >= 10 * fs
    assert set(record.superclasses) <= set(SUPERCLASSES)
    if kind != "paired":
        assert record.codes
        assert np.isfinite(record.mv).all()
    else:
        assert 0.2 < np.isfinite(record.mv).mean() < 0.5


@needs_data
def test_normalised_records_say_that_their_gain_is_lost():
    pytest.importorskip("wfdb")
    refs = [r for r in list_records(f"ptbxl:{DATA / 'ptbxl'}") if not r.labels["true_mv"]]
    record = refs[0].read()
    assert not record.true_mv
    assert record.fs_hz == 125.0
    assert len({r.fold for r in refs}) == 9


def test_statements():
    assert len(STATEMENTS) == 71
    assert superclasses_of(["SR", "IMI", "CLBBB", "nonsense"]) == ("MI", "CD")
    assert superclasses_of(["NORM", "SR"]) == ("NORM",)
    assert {s.superclass for s in STATEMENTS.values()} == {*SUPERCLASSES, ""}
    assert report_of(["NORM", "SR"]) == "sinus rhythm. normal ecg."
    assert report_of(["PVC", "CLBBB", "AFIB"]) == (
        "atrial fibrillation. left bundle branch block. premature ventricular complex(es)."
    )
