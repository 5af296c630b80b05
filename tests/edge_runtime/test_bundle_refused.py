"""A bundle that isn't what was exported is refused by the real command line, in one line that says what to do."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ecg.bundle import BUNDLE_FILE

REPO = Path(__file__).parents[2]
SHIPPED = REPO / "edge_runtime" / "models"

pytestmark = pytest.mark.skipif(not (SHIPPED / BUNDLE_FILE).exists(), reason="no bundle is shipped")


def first_file(document: dict[str, Any], net: str) -> dict[str, Any]:
    files = document["nets"][net]["files"]
    return files.get("ort") or files["onnx"]


def changed_byte(path: Path, document: dict[str, Any]) -> None:
    file = path / first_file(document, "decoder")["file"]
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)


def missing_file(path: Path, document: dict[str, Any]) -> None:
    (path / first_file(document, "finder_fine")["file"]).unlink()


def newer_format(path: Path, document: dict[str, Any]) -> None:
    document["format_version"] = 99


def other_inputs(path: Path, document: dict[str, Any]) -> None:
    document["nets"]["decoder"]["inputs"][0]["name"] = "grey"


def other_outputs(path: Path, document: dict[str, Any]) -> None:
    document["nets"]["finder_coarse"]["outputs"][0]["shape"] = [1, 7]


def swapped_nets(path: Path, document: dict[str, Any]) -> None:
    nets = document["nets"]
    nets["decoder"]["files"], nets["finder_coarse"]["files"] = (
        nets["finder_coarse"]["files"], nets["decoder"]["files"])  # fmt: skip


def missing_net(path: Path, document: dict[str, Any]) -> None:
    del document["nets"]["decoder"]


def no_hashes(path: Path, document: dict[str, Any]) -> None:
    del first_file(document, "decoder")["sha256"]


def earlier_decoder(path: Path, document: dict[str, Any]) -> None:
    document["nets"]["decoder"]["inputs"][0]["shape"][1] = 3


def decoder_told_otherwise(path: Path, document: dict[str, Any]) -> None:
    document["nets"]["decoder"]["inputs"][0]["channels"][3] = "other_rows"


CASES: list[tuple[Callable[[Path, dict[str, Any]], None], str]] = [
    (changed_byte, "install ecgscan again or name another folder with --bundle"),
    (missing_file, "install ecgscan again or name another folder with --bundle"),
    (newer_format, "bundle format 99, this ecgscan reads 2; update ecgscan"),
    (other_inputs, "bundle.json says grey of rank 4; export the bundle again"),
    (other_outputs, "bundle.json says maps of rank 2; export the bundle again"),
    (swapped_nets, "export the bundle again"),
    (missing_net, "has no net 'decoder'"),
    (decoder_told_otherwise, "use the shipped bundle, or train and export the decoder again"),
    (earlier_decoder, "use the shipped bundle, or train and export the decoder again"),
    (no_hashes, "incomplete (no entry 'sha256')"),
]


@pytest.mark.parametrize(("change", "match"), CASES, ids=[c.__name__ for c, _ in CASES])
def test_refused_in_one_line(change: Callable[[Path, dict[str, Any]], None], match: str, tmp_path: Path) -> None:
    made = tmp_path / "bundle"
    shutil.copytree(SHIPPED, made, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    document = json.loads((made / BUNDLE_FILE).read_text())
    change(made, document)
    (made / BUNDLE_FILE).write_text(json.dumps(document))
    Image.new("RGB", (300, 200), "white").save(tmp_path / "photo.png")
    command = [sys.executable, "-m", "edge_runtime", "scan", tmp_path / "photo.png", "--bundle", made, "--out",
               tmp_path / "out", "--engine", "ort"]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=REPO, timeout=120, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("ecgscan-edge: ")
    assert match in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()
