"""The doctor says what is here, ends with 0 where all is well and with 2 and what to do where it isn't."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ecg.errors import EcgscanError
from edge_runtime import doctor
from edge_runtime.cli import app
from edge_runtime.reader import SHIPPED

DONE = {"engine": "ort", "db": 21.0, "open_s": 0.3, "first_s": 2.0, "read_s": 1.5, "stages_ms": {"finder": 400.0}}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "self_test", lambda bundle, engine: DONE)
    monkeypatch.setattr(doctor, "cameras", lambda: [])


def test_all_is_well() -> None:
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0, done.output
    said = done.output.splitlines()
    assert said[-1] == "usable"
    assert any(line.startswith("OpenCV ") and "GStreamer" in line and "V4L2" in line for line in said)
    assert any(line.startswith("onnxruntime") and "CPUExecutionProvider" in line for line in said)
    assert any("all files whole" in line for line in said)
    assert "self-test: read in 1.5 s (2.0 s the first time) with ort, 21.0 dB against the truth" in said
    assert any(line.startswith("openvino: ") for line in said)


def test_as_json() -> None:
    done = CliRunner().invoke(app, ["doctor", "--json"])
    report = json.loads(done.output)
    assert (done.exit_code, report["usable"], report["problems"]) == (0, True, [])
    assert report["packages"]["numpy"]
    assert set(report["opencv"]["video"]) == {"GStreamer", "V4L2", "FFMPEG"}
    assert set(report["bundle"]["nets"]) >= {"finder_coarse", "finder_fine", "decoder"}
    assert report["self_test"] == DONE


def test_a_changed_bundle_is_found(tmp_path: Path) -> None:
    bundle = shutil.copytree(SHIPPED, tmp_path / "bundle")
    net = next(bundle.glob("*.onnx"))
    net.write_bytes(net.read_bytes()[:-1] + b"x")
    done = CliRunner().invoke(app, ["doctor", "--bundle", str(bundle)])
    assert done.exit_code == 2
    problems = [line for line in done.output.splitlines() if line.startswith("PROBLEM")]
    assert len(problems) == 1
    assert problems[0].startswith("PROBLEM model bundle: ")
    assert "differs from bundle.json" in problems[0]
    assert "--bundle" in problems[0]  # what to do


def test_what_breaks_is_a_problem_and_not_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(bundle: Path | None, engine: str) -> None:
        raise EcgscanError("the demo's page can't be read (no_grid); install ecgscan again")

    def fail() -> None:
        raise ImportError("libGL.so.1: cannot open\nshared object")

    monkeypatch.setattr(doctor, "self_test", refuse)
    report = doctor.examine()
    assert report["problems"] == ["self-test: the demo's page can't be read (no_grid); install ecgscan again"]
    monkeypatch.setattr(doctor, "_opencv", fail)
    report = doctor.examine()
    assert not report["usable"]
    assert report["self_test"] is None  # would fail for the same cause
    assert report["problems"][0].startswith("OpenCV: ImportError: libGL.so.1: cannot open shared object; pip install")
    assert list(doctor.lines(report))[-1].startswith("not usable")


@pytest.mark.skipif(sys.platform != "linux", reason="V4L2 is Linux's")
def test_cameras_are_asked_with_a_time_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    (tmp_path / "video10").write_bytes(b"no device")
    (tmp_path / "video-index").write_bytes(b"")
    os.mkfifo(tmp_path / "video2")
    found = doctor.cameras(tmp_path)
    assert [Path(c["device"]).name for c in found] == ["video2", "video10"]
    assert all("problem" in c and "captures" not in c for c in found)
    monkeypatch.setattr(doctor, "_ASK_CAMERA", "import time; time.sleep(60)")
    monkeypatch.setattr(doctor, "CAMERA_TIMEOUT_S", 0.2)
    assert "no answer within 0.2 s" in doctor.cameras(tmp_path)[0]["problem"]
    assert doctor.cameras(tmp_path / "none") == []


@pytest.mark.slow
def test_the_self_test_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    figures = doctor.self_test(None, "ort")
    assert figures["db"] > doctor.MIN_DB
    assert figures["read_s"] > 0
