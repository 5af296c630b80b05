"""``ecgscan-export`` through its command line: what is missing is one line, targets without their engine say so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ecg.bundle import DataSource, NetSpec, TensorSpec, file_spec, net_spec, write_bundle
from edge_runtime.engines.cuda import driver_is_here
from export.cli import app

onnx = pytest.importorskip("onnx", reason="onnx builds the test's net")
REPO = Path(__file__).parents[2]
RGB = TensorSpec("rgb", ("batch", 3, 8, "width"), "NCHW")
OUT = TensorSpec("doubled", ("batch", 3, 8, "width"), "NCHW")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "export.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPO, timeout=200, check=False)


def in_this_process(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(map(str, arguments)))
    return done.exit_code, done.stderr


def bundle(path: Path, kind: str) -> Path:
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    shape = ["batch", 3, 8, "width"]
    given, made = (helper.make_tensor_value_info(n, real, shape) for n in ("rgb", "doubled"))
    graph = helper.make_graph([helper.make_node("Add", ["rgb", "rgb"], ["doubled"])], "double", [given], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.mkdir()
    file = path / ("net.onnx" if kind == "onnx" else f"net.{kind}.onnx")
    file.write_bytes(model.SerializeToString())
    spec = net_spec(file, [RGB], [OUT])
    if kind != "onnx":
        sizes = {"batch": (1, 6, 64), "width": (8, 16, 32)}
        spec = NetSpec({kind: file_spec(file, "int8")}, (RGB,), (OUT,), sizes=sizes)
    write_bundle(path, name="t", version="1", nets={"net": spec}, training_data=[DataSource("none", "none")])
    return path


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    done = run("--out", tmp_path / "out", "--run", tmp_path, "--precision", "fp32")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("ecgscan-export: ")
    assert "no coarse.ckpt, fine.ckpt, strip.ckpt; train with" in done.stderr
    assert done.stdout == ""


def test_what_is_missing_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[1]")
    for arguments, match in (
        (("--run", tmp_path, "--shards", tmp_path / "none"), "name rendered shards with --shards, or use --precision"),
        (("--run", tmp_path, "--precision", "fp32"), "no coarse.ckpt, fine.ckpt, strip.ckpt; train with"),
        (
            ("--run", tmp_path, "--precision", "fp32", "--base", REPO / "edge_runtime" / "models"),
            "has none of coarse, fine, marks, strip, starts, findings as .ckpt",
        ),
        (("--run", tmp_path, "--extras", tmp_path / "list.json"), "holds no JSON object"),
        (
            ("--target", "trt", "--bundle", bundle(tmp_path / "fp32", "onnx")),
            "has no 8-bit nets; export the bundle again",
        ),
    ):
        code, said = in_this_process("--out", tmp_path / "out", *arguments)
        assert code == 2, said
        assert len(said.splitlines()) == 1, said
        assert said.startswith("ecgscan-export: ")
        assert match in said
        assert not (tmp_path / "out" / "bundle.json").exists()


@pytest.mark.skipif(driver_is_here(), reason="this machine has an NVIDIA driver: engines would be built")
def test_trt_without_a_gpu_says_so_and_writes_what_to_run(tmp_path: Path) -> None:
    done = run("--target", "trt", "--bundle", bundle(tmp_path / "b", "trt"), "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "no engine was built" in done.stdout
    line = (
        "trtexec --onnx=net.trt.onnx --saveEngine=net.engine --int8 --fp16 --memPoolSize=workspace:1024 "
        "--timingCacheFile=timing.cache --minShapes=rgb:1x3x8x8 --optShapes=rgb:6x3x8x16 --maxShapes=rgb:64x3x8x32"
    )
    assert line in done.stdout
    assert line in (tmp_path / "out" / "trtexec.txt").read_text()
    assert (tmp_path / "out" / "net.trt.onnx").read_bytes() == (tmp_path / "b" / "net.trt.onnx").read_bytes()


def test_openvino_writes_its_own_files(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    done = run("--target", "openvino", "--bundle", bundle(tmp_path / "b", "trt"), "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["net.bin", "net.xml"]
    assert "wrote net.xml and .bin" in done.stdout


def test_a_bundle_that_was_changed_is_refused(tmp_path: Path) -> None:
    made = bundle(tmp_path / "b", "trt")
    document = json.loads((made / "bundle.json").read_text())
    document["format_version"] = 99
    (made / "bundle.json").write_text(json.dumps(document))
    done = run("--target", "trt", "--bundle", made, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "update ecgscan" in done.stderr
