"""``ecgscan-edge`` as a user calls it: exit codes, one-line errors, names of files."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ecg
from ecg.errors import EcgscanError
from edge_runtime.outputs import check_folder

Edge = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def dark(tmp_path: Path) -> Path:
    path = tmp_path / "dark.png"
    Image.new("RGB", (400, 300), (5, 5, 5)).save(path)
    return path


def test_all_read_exits_0(edge: Edge, page_jpg: Path, tmp_path: Path) -> None:
    done = edge("scan", page_jpg, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert "layout 3x4+1, 25 mm/s, 10 mm/mV, 100 %" in done.stdout
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["page.csv", "page.json", "page.png"]
    with (tmp_path / "out" / "page.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 5001
    document = json.loads((tmp_path / "out" / "page.json").read_text())
    assert document["status"] == "read"
    assert next(iter(document["timings_ms"])) == "load"


def test_unreadable_exits_3(edge: Edge, page_jpg: Path, dark: Path, tmp_path: Path) -> None:
    done = edge("scan", dark, page_jpg, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (3, "")
    assert "dark.png: unreadable (no_grid): no paper grid found: move closer" in done.stdout
    assert (tmp_path / "out" / "page.csv").exists()
    assert not (tmp_path / "out" / "dark.csv").exists()
    assert json.loads((tmp_path / "out" / "dark.json").read_text())["status"] == "unreadable"


def test_a_bad_file_exits_2_and_does_not_stop_the_others(
    edge: Edge, page_jpg: Path, dark: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_text("not a photo")
    done = edge("scan", bad, tmp_path / "missing.png", dark, page_jpg, "--out", tmp_path / "out")
    assert done.returncode == 2
    errors = done.stderr.splitlines()
    assert len(errors) == 2
    assert "not an image but text" in errors[0]
    assert "no such file" in errors[1]
    assert (tmp_path / "out" / "page.csv").exists()
    assert not (tmp_path / "out" / "bad.json").exists()


def test_a_fault_with_one_photo_is_one_line(edge: Edge, page_jpg: Path, tmp_path: Path) -> None:
    white = tmp_path / "white.png"
    Image.new("RGB", (400, 300), (255, 255, 255)).save(white)
    done = edge("scan", white, page_jpg, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"{white}: internal fault (ValueError: a fault?of two lines); please report this photo"
    ]
    assert (tmp_path / "out" / "page.csv").exists()


def test_overrides_reach_the_reader(edge: Edge, page_jpg: Path, tmp_path: Path) -> None:
    done = edge("scan", page_jpg, "--out", tmp_path / "out", "--speed", "50", "--gain", "5", "--layout", "3x4+1")
    assert done.returncode == 0, done.stderr
    layout = json.loads((tmp_path / "out" / "page.json").read_text())["layout"]
    assert (layout["paper_speed_mm_per_s"], layout["gain_mm_per_mv"]) == (50, 5)


@pytest.mark.parametrize(
    "arguments",
    [
        ["scan"],
        ["scan", "a.jpg", "--speed", "33"],
        ["scan", "a.jpg", "--gain", "7"],
        ["scan", "a.jpg", "--layout", "7x7"],
        ["scan", "a.jpg", "--nonsense"],
        ["nonsense"],
    ],
)
def test_wrong_usage_exits_2(edge: Edge, arguments: list[str]) -> None:
    done = edge(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_pages_and_same_names(edge: Edge, page_jpg: Path, tmp_path: Path, page_rgb: np.ndarray) -> None:
    pages = [Image.fromarray(page_rgb)] * 2
    pages[0].save(tmp_path / "page.tif", save_all=True, append_images=pages[1:])
    done = edge("scan", page_jpg, tmp_path / "page.tif", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert sorted(p.stem for p in (tmp_path / "out").glob("*.csv")) == ["page", "page-2", "page_p2"]
    assert "page.tif page 2: read" in done.stdout


def test_an_input_in_the_output_folder_survives(edge: Edge, tmp_path: Path, page_rgb: np.ndarray) -> None:
    photo = tmp_path / "page.png"
    Image.fromarray(page_rgb).save(photo)
    before = photo.read_bytes()
    assert edge("scan", photo, "--out", tmp_path).returncode == 0
    assert photo.read_bytes() == before
    assert (tmp_path / "page-2.csv").exists()


def test_out_that_cannot_be_written(edge: Edge, page_jpg: Path) -> None:
    done = edge("scan", page_jpg, "--out", page_jpg)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "page.jpg is no folder; choose another --out" in done.stderr


def test_a_folder_that_nothing_may_be_written_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_folder(tmp_path / "new" / "deeper")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(EcgscanError, match=r"new: can't be written \(no permission\); choose another --store"):
        check_folder(tmp_path / "new", "--store")


def test_version_and_help(edge: Edge) -> None:
    assert edge("--version").stdout == f"ecgscan {ecg.__version__}\n"
    assert "..." not in edge("--help").stdout.split("Commands:")[1]  # each command's line fits
    text = edge("scan", "--help").stdout
    for option in ("--out", "--speed", "--gain", "--layout", "--bundle"):
        assert option in text


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from edge_runtime.cli import app;"
        "assert CliRunner().invoke(app, ['scan', '--help']).exit_code == 0;"
        "heavy = {'cv2', 'onnxruntime', 'PIL', 'torch', 'pypdfium2'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_bundle_is_one_line(page_jpg: Path, tmp_path: Path) -> None:
    pytest.importorskip("edge_runtime.reader", reason="the reader is not there yet")
    command = [
        sys.executable,
        "-m",
        "edge_runtime",
        "scan",
        str(page_jpg),
        "--bundle",
        str(tmp_path),
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("ecgscan-edge: ")
    assert len(done.stderr.splitlines()) == 1


def test_other_formats_are_written_beside(edge: Edge, page_jpg: Path, tmp_path: Path) -> None:
    done = edge("scan", page_jpg, "--out", tmp_path / "out", "--format", "wfdb", "--format", "edf", "--format", "pdf")
    assert (done.returncode, done.stderr) == (0, "")
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["page.csv", "page.dat", "page.edf", "page.hea", "page.json", "page.png", "page.report.pdf"]


def test_an_unknown_format_is_wrong_usage(edge: Edge, page_jpg: Path, tmp_path: Path) -> None:
    done = edge("scan", page_jpg, "--out", tmp_path / "out", "--format", "xls")
    assert done.returncode == 2
    assert "xls" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_header_stays_only_where_asked(edge: Edge, page_rgb: np.ndarray, tmp_path: Path) -> None:
    rgb = page_rgb.copy()
    rgb[:225] = (255, 0, 255)  # where names are printed
    Image.fromarray(rgb).save(tmp_path / "page.png")

    def shown(*options: str) -> bool:
        out = tmp_path / ("kept" if options else "blanked")
        assert edge("scan", tmp_path / "page.png", "--out", out, *options).returncode == 0
        seen = np.asarray(Image.open(out / "page.png").convert("RGB")).astype(int)
        return bool((np.abs(seen - (255, 0, 255)).sum(axis=2) < 40).any())

    assert not shown()
    assert shown("--keep-header")
