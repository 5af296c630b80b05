"""A net of a bundle runs by name, and one whose tensors differ from the bundle's is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecg.bundle import DataSource, ModelBundle, TensorSpec, net_spec, write_bundle
from ecg.errors import BundleError
from edge_runtime.engines.ort import OrtEngine

onnx = pytest.importorskip("onnx", reason="onnx builds the test's net")

INPUT = TensorSpec("rgb", (1, 3, "height", "width"), "NCHW")
OUTPUT = TensorSpec("doubled", (1, 3, "height", "width"), "NCHW")


def doubling_net(path: Path) -> None:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shape = [1, 3, "height", "width"]
    graph = helper.make_graph(
        [helper.make_node("Add", ["rgb", "rgb"], ["doubled"])],
        "double",
        [helper.make_tensor_value_info("rgb", kind, shape)],
        [helper.make_tensor_value_info("doubled", kind, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


@pytest.fixture
def bundle(tmp_path: Path) -> ModelBundle:
    doubling_net(tmp_path / "net.onnx")
    nets = {"net": net_spec(tmp_path / "net.onnx", [INPUT], [OUTPUT])}
    return write_bundle(tmp_path, name="t", version="1", nets=nets, training_data=[DataSource("none", "none")])


def test_runs_by_array_and_by_name(bundle: ModelBundle) -> None:
    engine = OrtEngine(bundle, "net", threads=1)
    for size in (4, 9):
        x = np.random.default_rng(size).random((1, 3, size, size + 1), dtype=np.float32)
        assert np.array_equal(engine(x)["doubled"], 2 * x)
        assert np.array_equal(engine({"rgb": x})["doubled"], 2 * x)
    with pytest.raises(ValueError, match="has inputs"):
        engine({"bgr": np.zeros((1, 3, 4, 4), np.float32)})
    engine.close()


def test_other_tensors_are_refused(bundle: ModelBundle) -> None:
    spec = bundle.spec("net")
    for changed in (
        replace(spec, inputs=(replace(INPUT, name="bgr"),)),
        replace(spec, outputs=(replace(OUTPUT, shape=(1, 3)),)),
    ):
        with pytest.raises(BundleError, match="export the bundle again"):
            OrtEngine(replace(bundle, nets={"net": changed}), "net", threads=1)


def test_a_file_that_is_no_net(bundle: ModelBundle, capfd: pytest.CaptureFixture[str]) -> None:
    bundle.net_path("net").write_bytes(b"nothing")
    with pytest.raises(BundleError, match="can't load it") as caught:
        OrtEngine(bundle, "net", threads=1)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
