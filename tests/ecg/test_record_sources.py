"""The public databases' folder structures, made up small."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from ecg.errors import RecordError
from ecg.leads import LEADS
from ecg.record_sources import REPORT_COLUMNS, ptbxl_statements
from ecg.records import iter_records, list_records


def write_record(stem: Path, hz: int = 500, comments: str = "") -> None:
    pytest.importorskip("wfdb")
    stem.parent.mkdir(parents=True, exist_ok=True)
    n = hz
    values = np.round(np.random.default_rng(0).normal(0, 300, (n, 12))).astype("<i2")
    lines = [f"{stem.name} 12 {hz} {n}", *(f"{stem.name}.dat 16 1000(0)/mV 16 0 0 0 0 {lead}" for lead in LEADS)]
    Path(f"{stem}.hea").write_text("\n".join(lines) + "\n" + comments)
    Path(f"{stem}.dat").write_bytes(values.tobytes())


def mimic(folder: Path) -> None:
    for study in ("1", "2", "3"):
        write_record(folder / f"files/p1/s{study}/{study}")
    (folder / "record_list.csv").write_text(
        "subject_id,study_id,file_name,ecg_time,path\n"
        + "".join(f"9,{s},{s},2180-07-23,files/p1/s{s}/{s}\n" for s in ("1", "2", "3", "4"))
    )
    said = {
        "1": ["Sinus rhythm.", "Left axis deviation"],
        "2": ["Sinus rhythm"],
        "3": ["Atrial fibrillation, rapid ventricular response"],
        "4": ["Normal ECG of a lost record"],
    }
    rows = [f"9,{s}," + ",".join(f'"{x}"' for x in (said[s] + [""] * 18)[:18]) for s in said]
    (folder / "machine_measurements.csv").write_text(
        "subject_id,study_id," + ",".join(REPORT_COLUMNS) + "\n" + "\n".join(rows) + "\n"
    )


def test_mimic(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mimic(tmp_path)
    refs = list_records(f"mimic:{tmp_path}")
    assert [r.name for r in refs] == ["1", "3", "4"]  # two words aren't a report
    skipped: list[str] = []
    with caplog.at_level(logging.WARNING):
        records = list(iter_records(f"mimic:{tmp_path}", skipped=skipped))
    assert [r.name for r in records] == ["1", "3"]
    assert records[0].report == "Sinus rhythm. Left axis deviation."
    assert len(skipped) == 1
    assert skipped[0].startswith("4: ")
    assert "1 of 3 records skipped" in caplog.text
    (tmp_path / "machine_measurements.csv").write_text("subject_id,study_id\n9,1\n")
    with pytest.raises(RecordError, match="no column 'report_0'"):
        list_records(f"mimic:{tmp_path}")


def ptbxl(folder: Path) -> None:
    write_record(folder / "records500/00000/00001_hr", 500)
    write_record(folder / "records100/00000/00001_lr", 100)
    (folder / "ptbxl_database.csv").write_text(
        "ecg_id,patient_id,age,sex,report,scp_codes,strat_fold,filename_lr,filename_hr\n"
        "1,15709.0,300,1,sinus rhythm,\"{'IMI': 35.0, 'SR': 0.0}\",9,"
        "records100/00000/00001_lr,records500/00000/00001_hr\n"
    )
    (folder / "scp_statements.csv").write_text(
        ",description,diagnostic,form,rhythm,diagnostic_class,diagnostic_subclass\n"
        "IMI,inferior myocardial infarction,1.0,,,MI,IMI\nSR,sinus rhythm,,,1.0,,\nABQRS,abnormal QRS,,1.0,,,\n"
    )


def test_ptbxl_as_published(tmp_path: Path) -> None:
    ptbxl(tmp_path)
    for kind, hz in (("ptbxl", 500), ("ptbxl-full", 500), ("ptbxl-100", 100)):
        (ref,) = list_records(f"{kind}:{tmp_path}")
        record = ref.read()
        assert record.fs_hz == hz
        assert (record.codes, record.superclasses, record.fold) == (("IMI", "SR"), ("MI",), 9)
        assert (record.age_years, record.sex) == (90.0, "F")
    known = ptbxl_statements(tmp_path)
    assert (known["IMI"].superclass, known["IMI"].subclass) == ("MI", "IMI")
    assert known["ABQRS"].form
    assert known["SR"].rhythm
    text = (tmp_path / "ptbxl_database.csv").read_text().replace("{'IMI'", "['IMI'")
    (tmp_path / "ptbxl_database.csv").write_text(text)
    with pytest.raises(RecordError, match="record 1: scp_codes"):
        list_records(f"ptbxl:{tmp_path}")


def test_cpsc2018_by_reference_and_by_header(tmp_path: Path) -> None:
    write_record(tmp_path / "g1/A0001", comments="#Age: 74\n#Sex: Male\n#Dx: 59118001\n")
    write_record(tmp_path / "g1/A0002", comments="# Dx: 426783006, 427084000\n")
    refs = {r.path.name: r for r in list_records(f"cpsc2018:{tmp_path}")}
    assert refs["A0001"].labels["codes"] == ("CRBBB",)
    assert (refs["A0001"].labels["age_years"], refs["A0001"].labels["sex"]) == (74.0, "M")
    assert refs["A0002"].read().codes == ("SR", "STACH")
    reference = tmp_path / "REFERENCE.csv"
    reference.write_text("Recording,First_label,Second_label,Third_label\nA0001,5,8,\n")
    (one,) = [r for r in list_records(f"cpsc2018:{tmp_path}") if r.path.name == "A0001"]
    assert one.labels["codes"] == ("CRBBB", "STD_")
    assert one.labels["superclasses"] == ("CD",)
    reference.write_text("Recording,First_label,Second_label,Third_label\nA0001,12,,\n")
    with pytest.raises(RecordError, match="aren't 1 to 9"):
        list_records(f"cpsc2018:{tmp_path}")


def test_csn(tmp_path: Path) -> None:
    write_record(
        tmp_path / "WFDBRecords/01/010/JS00001", comments="#Age: NaN\n#Sex: Female\n#Dx: 164889003,164934002\n"
    )
    (ref,) = list_records(f"csn:{tmp_path}")
    record = ref.read()
    assert record.codes == ("AFIB", "TAB_")
    assert (record.age_years, record.sex) == (None, "F")


def test_code_test(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    values = np.zeros((2, 4096, 12), np.float32)
    values[0, 500:3500] = 10.0
    with h5py.File(tmp_path / "ecg_tracings.hdf5", "w") as file:
        file["tracings"] = values
    (tmp_path / "annotations").mkdir()
    gold = tmp_path / "annotations" / "gold_standard.csv"
    gold.write_text("1dAVb,RBBB,LBBB,SB,AF,ST\n0,1,0,1,0,0\n0,0,0,0,0,0\n")
    (tmp_path / "attributes.csv").write_text("age,sex\n50,M\n60,F\n")
    skipped: list[str] = []
    (record,) = iter_records(f"code-test:{tmp_path}", skipped=skipped)
    assert record.mv.shape == (12, 3000)
    assert record.mv.max() == pytest.approx(1.0)
    assert (record.fs_hz, record.codes, record.sex) == (400.0, ("CRBBB", "SBRAD"), "M")
    assert "holds no signal" in skipped[0]
    gold.write_text("1dAVb,RBBB,LBBB,SB,AF,ST\n0,1,0,1,0,0\n")
    with pytest.raises(RecordError, match="2 tracings, but 1 annotations"):
        list_records(f"code-test:{tmp_path}")


def test_missing_indexes_stop(tmp_path: Path) -> None:
    for kind, match in (("mimic", "machine_measurements.csv"), ("ptbxl-full", "scp_statements.csv"),
                        ("code-test", "ecg_tracings.hdf5"), ("csn", "holds no csn records")):  # fmt: skip
        with pytest.raises(RecordError, match=match):
            list_records(f"{kind}:{tmp_path}")
