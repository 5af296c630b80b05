"""OpenVINO gives what onnxruntime gives, and its absence or failure is one line."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ecg.bundle import DataSource, ModelBundle, TensorSpec, net_spec, write_bundle
from ecg.errors import BundleError, EcgscanError
from edge_runtime.engines import open_engine
from edge_runtime.engines import openvino as engine_module
from edge_runtime.engines.base import calls_at_once, extra_module

onnx = pytest.importorskip("onnx", reason="onnx builds the test's net")

RGB = TensorSpec("rgb", (1, 3, "height", "width"), "NCHW")
OUT = TensorSpec("maps", (1, 4, "height", "width"), "NCHW")


@pytest.fixture
def bundle(tmp_path: Path) -> ModelBundle:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    weights = onnx.numpy_helper.from_array(np.random.default_rng(0).normal(0, 1, (4, 3, 3, 3)).astype(np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["rgb", "w"], ["maps"], pads=[1] * 4)], "net",
        [helper.make_tensor_value_info("rgb", kind, [1, 3, "height", "width"])],
        [helper.make_tensor_value_info("maps", kind, [1, 4, "height", "width"])], [weights],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    nets = {"net": net_spec(tmp_path / "net.onnx", [RGB], [OUT])}
    return write_bundle(tmp_path, name="t", version="1", nets=nets, training_data=[DataSource("none", "none")])


def test_same_results_as_onnxruntime(bundle: ModelBundle) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    one, other = (open_engine(bundle, "net", engine, threads=1) for engine in ("ort", "openvino"))
    for size in (8, 16):
        x = np.random.default_rng(size).integers(0, 256, (1, 3, size, size + 8), dtype=np.uint8)
        want, got = one(x)["maps"], other({"rgb": x})["maps"]
        assert got.dtype == np.float32
        assert np.abs(want - got).max() < 1e-4 * np.abs(want).max()
    kept = got.copy()
    other(x // 2)
    assert np.array_equal(got, kept)  # results are the caller's own
    other.close()


def test_calls_side_by_side(bundle: ModelBundle) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    net = open_engine(bundle, "net", "openvino", threads=2, side_by_side=True)
    assert calls_at_once(net) == 2
    given = [np.full((1, 3, 8, 8), k, np.float32) for k in range(40)]
    with ThreadPoolExecutor(2) as pool:
        at_once = [out["maps"] for out in pool.map(net, given)]
    assert all(np.array_equal(got, net(x)["maps"]) for got, x in zip(at_once, given, strict=True))
    net.close()


def test_a_file_that_is_no_net(bundle: ModelBundle) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    bundle.net_path("net").write_bytes(b"nothing")
    with pytest.raises(BundleError, match=r"can't load it .*use --engine ort") as caught:
        open_engine(bundle, "net", "openvino")
    assert "\n" not in str(caught.value)


def test_without_the_package(bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "extra_module", lambda name, extra: extra_module("no_such_package", extra))
    with pytest.raises(EcgscanError, match=r"pip install 'ecgscan\[openvino\]', or use --engine ort"):
        open_engine(bundle, "net", "openvino")
