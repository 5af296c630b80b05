"""Archives: every file once whatever happens, rows that hold what was read, one table of what was not."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import batch_readers
import fake_reader
import numpy as np
import pytest
from PIL import Image

from ecg.errors import EcgscanError, InputError
from ecg.findings import Finding
from ecg.leads import LEADS
from ecg.measurements import Measurement
from ecg.page import GateFinding, Overrides, Photo

pq = pytest.importorskip("pyarrow.parquet", reason="pip install 'ecgscan[archive]'")

from edge_runtime.batch import BatchOptions, in_time, list_items, run_batch  # noqa: E402
from edge_runtime.batch_rows import packed, page_row, unpacked  # noqa: E402
from edge_runtime.batch_store import Dataset  # noqa: E402
from edge_runtime.batch_work import Item, Task, checked_formats, read_file, results  # noqa: E402

REPO = Path(__file__).parents[2]
FAKE = fake_reader.Reader


def grey(path: Path, level: int, size: tuple[int, int] = (400, 300)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level,) * 3).save(path)
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two good pages, a TIFF of two, one too dark, one that makes the reader fail, one that isn't an image."""
    folder = tmp_path / "scans"
    grey(folder / "a.png", 200)
    grey(folder / "ward" / "a.png", 190)
    first = Image.new("RGB", (400, 300), (180,) * 3)
    first.save(folder / "two.tif", save_all=True, append_images=[Image.new("RGB", (400, 300), (5,) * 3)])
    grey(folder / "dark.png", 5)
    grey(folder / "white.png", 255)
    (folder / "bad.JPG").write_text("no image")
    (folder / "notes.txt").write_text("not a picture")
    return folder


def batch(source: Path | str, out: Path, **options: object) -> Counter[str]:
    said: list[str] = options.pop("said", [])
    return run_batch(str(source), BatchOptions(out, workers=1, **options), FAKE.open, "0" * 64, said.append)


def rows(out: Path) -> list[dict]:
    return [row for part in sorted(out.glob("readings-*.parquet")) for row in pq.read_table(part).to_pylist()]


def test_an_archive_to_rows_and_errors(archive: Path, tmp_path: Path) -> None:
    out = archive / "dataset"  # inside what is read: left out
    counts = batch(archive, out, formats=("csv", "png", "wfdb"))
    assert counts == {"read": 2, "unreadable": 2, "unusable": 1, "fault": 1}
    got = {(r["file"], r["page"]): r for r in rows(out)}
    assert {k: r["status"] for k, r in got.items()} == {
        ("a.png", 1): "read", ("ward/a.png", 1): "read", ("two.tif", 1): "read", ("two.tif", 2): "unreadable",
        ("dark.png", 1): "unreadable", ("white.png", 1): "fault", ("bad.JPG", 0): "unusable",
    }  # fmt: skip
    row, want = got["ward/a.png", 1], fake_reader.signal_3x4()
    mv = np.array([row["mv"][lead] for lead in LEADS], np.float32)
    assert np.array_equal(mv, want.mv, equal_nan=True)
    assert np.array_equal([row["filled"][lead] for lead in LEADS], want.filled)
    assert np.allclose(np.array([row["confidence"][lead] for lead in LEADS]) / 255, want.confidence, atol=0.002)
    assert (row["fs_hz"], row["n_samples"], row["layout"], row["gain_mm_per_mv"]) == (500, 5000, "3x4+1", 10)
    assert len(row["strips"]) == 13
    assert dict(row["quality"]) == {"lattice_residual_mm": pytest.approx(0.1)}  # what isn't finite is left out
    assert row["file_bytes"] == (archive / "ward/a.png").stat().st_size
    assert len(row["sha256"]) == 64
    with (out / "errors.csv").open(newline="") as file:
        errors = {(e["file"], e["page"]): e for e in csv.DictReader(file)}
    assert set(errors) == {("two.tif", "2"), ("dark.png", "1"), ("white.png", "1"), ("bad.JPG", "0")}
    assert errors["dark.png", "1"]["reason"] == "no_grid"
    assert errors["bad.JPG", "0"]["message"].startswith("not an image but text")
    names = {p.relative_to(out / "files").as_posix() for p in (out / "files").rglob("*") if p.is_file()}
    assert {"a.png.csv", "a.png.png", "ward/a.png.csv", "two.tif.csv"} <= names
    assert not any(n.startswith("dark") for n in names)


def test_the_same_command_goes_on(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    batch(archive, out)
    parts = {p: p.read_bytes() for p in out.glob("readings-*")}
    grey(archive / "later.png", 170)
    (archive / "a.png").write_bytes((archive / "a.png").read_bytes() + b"longer")
    said: list[str] = []
    assert sum(batch(archive, out, said=said).values()) == 7
    assert said == [f"6 of 7 files are in {out} already", "1 of them have changed since; to read them again, "
                    "choose another --out"]  # fmt: skip
    assert all(p.read_bytes() == before for p, before in parts.items())
    assert [r["file"] for r in pq.read_table(out / "readings-000001.parquet").to_pylist()] == ["later.png"]


def test_killed_again_and_again_no_file_is_lost_or_twice_there(tmp_path: Path) -> None:
    n = 110
    for k in range(n):
        grey(tmp_path / "scans" / f"{k:03d}.png", 200, (200, 200))
    out, log = tmp_path / "dataset", tmp_path / "log"
    log.write_text("")
    command = [sys.executable, batch_readers.__file__, str(tmp_path / "scans"), str(out), str(log)]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(REPO), str(Path(__file__).parent)]))
    for after in (10, 90):  # in the middle of the first part and of the second
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        deadline = time.monotonic() + 300
        while process.poll() is None and len(log.read_text().splitlines()) < after and time.monotonic() < deadline:
            time.sleep(0.005)
        assert process.poll() is None, "ended before it was killed"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    wait_for_quiet(log)  # its worker ends by itself
    (out / ".readings-000009-dead").write_bytes(b"half a part")
    subprocess.run(command, env=environment, check=True, timeout=300)
    assert sorted(r["file"] for r in rows(out)) == [f"{k:03d}.png" for k in range(n)]
    assert not list(out.glob(".readings-*"))
    assert len(log.read_text().splitlines()) <= n + 2 * 70  # each kill costs a part and what was on its way


def wait_for_quiet(log: Path) -> None:
    before = None
    while before != (before := log.read_text()):
        time.sleep(0.5)


def test_a_file_that_kills_or_stops_its_reader_costs_itself_alone(tmp_path: Path) -> None:
    levels = {"a": 200, "deadly": batch_readers.DEADLY, "slow": batch_readers.SLOW, "z": 200}
    items = [Item(name, grey(tmp_path / f"{name}.png", level)) for name, level in levels.items()]
    out = {r.file: r.rows for r in results(items, Task(batch_readers.HardReader.open), 1, timeout_s=8.0)}
    assert set(out) == set(levels)
    got = {file: unpacked(found).to_pylist()[0] for file, found in out.items()}
    assert {file: row["reason"] for file, row in got.items() if row["status"] != "read"} == {
        "deadly": "process_died", "slow": "timeout",
    }  # fmt: skip


def test_a_reader_that_cannot_be_opened_is_one_line(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(EcgscanError, match="can't be opened"):
        run_batch(str(archive), BatchOptions(tmp_path / "o", workers=1), batch_readers.broken, "0" * 64)


def test_a_dataset_keeps_to_what_it_was_made_with(tmp_path: Path) -> None:
    made = {"bundle_sha256": "a", "overrides": {"layout": None}}
    with Dataset(tmp_path / "d", made), pytest.raises(EcgscanError, match="another batch is writing there"):
        Dataset(tmp_path / "d", made)
    with Dataset(tmp_path / "d", made) as again:
        assert again.done == {}
    with pytest.raises(EcgscanError, match="made with bundle_sha256 a, now b;"):
        Dataset(tmp_path / "d", made | {"bundle_sha256": "b"})
    with pytest.raises(EcgscanError, match="d: made with layout None, now 6x2; choose another --out"):
        Dataset(tmp_path / "d", made | {"overrides": {"layout": "6x2"}})
    for text in ("[]", "{}"):
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other" / "dataset.json").write_text(text)
        with pytest.raises(EcgscanError, match="is not of an ecgscan dataset"):
            Dataset(tmp_path / "other", made)
    (tmp_path / "d" / "readings-000000.parquet").write_bytes(b"PAR1 half")
    with pytest.raises(EcgscanError, match=r"damaged .*delete it"):
        Dataset(tmp_path / "d", made)
    (tmp_path / "file").write_text("")
    with pytest.raises(EcgscanError, match="choose another --out"):
        Dataset(tmp_path / "file", made)


def test_what_is_read_of_a_folder_or_a_pattern(archive: Path, tmp_path: Path) -> None:
    def names(source: Path) -> list[str]:
        return [i.file for i in list_items(str(source), tmp_path / "out")]

    assert names(archive) == ["a.png", "bad.JPG", "dark.png", "two.tif", "ward/a.png", "white.png"]
    assert names(archive / "**" / "a.png") == ["a.png", "ward/a.png"]
    assert names(archive / "*.t*") == ["notes.txt", "two.tif"]
    assert names(archive / "a.png") == ["a.png"]
    for nothing in (tmp_path / "none", tmp_path / "*.jpg"):
        with pytest.raises(InputError):
            names(nothing)


def test_an_export_that_fails_leaves_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise EcgscanError("too long for it")

    monkeypatch.setattr("edge_runtime.batch_work.export", refuse)
    item = Item("a.png", grey(tmp_path / "a.png", 200))
    (part,) = read_file(item, FAKE(), Task(FAKE.open, Overrides(), ("edf",)))
    row = unpacked(part.rows).to_pylist()[0]
    assert (row["status"], row["message"], part.outputs) == ("read", "too long for it", [])


def test_pictures_of_an_archive_blank_the_header_too(tmp_path: Path, page_rgb: np.ndarray) -> None:
    rgb = page_rgb.copy()
    rgb[:225] = (255, 0, 255)
    Image.fromarray(rgb).save(tmp_path / "page.png")

    def shown(keep_header: bool) -> bool:
        task = Task(FAKE.open, Overrides(), ("png",), keep_header)
        (part,) = read_file(Item("page.png", tmp_path / "page.png"), FAKE(), task)
        (tmp_path / "out.png").write_bytes(part.outputs[0][1])
        seen = np.asarray(Image.open(tmp_path / "out.png").convert("RGB")).astype(int)
        return bool((np.abs(seen - (255, 0, 255)).sum(axis=2) < 40).any())

    assert (shown(False), shown(True)) == (False, True)


def test_rows_hold_findings_embedding_and_measurements() -> None:
    reading = replace(
        fake_reader.reading_for((300, 400, 3), Overrides()),
        findings=(Finding("AFIB", "atrial fibrillation", 0.91, None, "present"),),
        embedding=np.arange(4, dtype=np.float32),
        measurements=(Measurement("pr", 160.0, "ms", 9.0, 5), Measurement("rhythm", "regular", "", None, 9)),
        gate=(GateFinding("glare", "glare on the right", 0.2, 0.1, "warn"),),
    )
    row = page_row(reading, Photo(np.zeros((300, 400, 3), np.uint8), "a.png"), "a.png", 10, "f" * 64)
    (got,) = unpacked([packed(row)]).to_pylist()
    assert got["embedding"] == [0, 1, 2, 3]
    assert got["findings"] == [{"code": "AFIB", "name": "atrial fibrillation", "probability": 0.91, "zero_shot": None,
                                "decision": "present", "why": ""}]  # fmt: skip
    assert [(m["name"], m["value"], m["text"], m["error"]) for m in got["measurements"]] == [
        ("pr", 160, None, 9), ("rhythm", None, "regular", None),
    ]  # fmt: skip
    assert got["gate"][0]["advice"] == "glare on the right"


def test_formats_and_times() -> None:
    assert checked_formats(["csv", "edf", "csv"]) == ("csv", "edf")
    with pytest.raises(InputError, match="give one of csv"):
        checked_formats(["xls"])
    assert [in_time(s) for s in (40, 700, 7500)] == ["40 s", "12 min", "2 h 05 min"]


def test_without_pyarrow_one_line(archive: Path, tmp_path: Path) -> None:
    code = "import sys; sys.modules['pyarrow'] = None; from edge_runtime.cli import app; app(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, "batch", str(archive), "--out", str(tmp_path / "o")],
                          capture_output=True, text=True, cwd=REPO, check=False)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "ecgscan-edge: archives need pyarrow: pip install 'ecgscan[archive]'\n"


def test_the_command_with_the_shipped_nets(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no image")
    command = [
        sys.executable,
        "-m",
        "edge_runtime",
        "batch",
        str(tmp_path),
        "--out",
        str(tmp_path / "o"),
        "--workers",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO, check=False, timeout=400)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout == f"1 file: 0 read, 1 unusable -> {tmp_path / 'o'} (why: {tmp_path / 'o' / 'errors.csv'})\n"
    assert json.loads((tmp_path / "o" / "dataset.json").read_text())["format"] == "ecgscan.readings"


@pytest.mark.slow
def test_the_same_on_a_ray_cluster(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="pip install ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPO), str(Path(__file__).parent)]))
    options = BatchOptions(tmp_path / "ray", workers=1, formats=("csv",), ray="local")
    with np.errstate(all="ignore"):
        counts = run_batch(str(archive), options, partial(FAKE.open), "0" * 64)
    batch(archive, tmp_path / "here", formats=("csv",))
    assert counts == {"read": 2, "unreadable": 2, "unusable": 1, "fault": 1}
    drop = ("timings_ms",)
    both = [sorted(({k: v for k, v in r.items() if k not in drop} for r in rows(tmp_path / d)), key=lambda r: r["file"])
            for d in ("ray", "here")]  # fmt: skip
    assert [r["file"] for r in both[0]] == [r["file"] for r in both[1]]
    assert str(both[0]) == str(both[1])
    assert (tmp_path / "ray" / "files" / "ward" / "a.png.csv").exists()


def test_without_ray_one_line(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    options = BatchOptions(tmp_path / "o", ray="auto")
    with pytest.raises(EcgscanError, match="--ray needs ray: pip install ray"):
        run_batch(str(archive), options, FAKE.open, "0" * 64)
