"""Every signed net of the shipped bundle keeps to TensorRT's rules, and tensorrt-rtx builds it ahead of time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecg.bundle import BUNDLE_FILE, load_bundle
from edge_runtime.engines import open_engine
from edge_runtime.engines.trt import shapes

onnx = pytest.importorskip("onnx", reason="onnx reads the graphs")

SHIPPED = Path(__file__).parents[3] / "edge_runtime" / "models"
BUNDLE = load_bundle(SHIPPED, ()) if (SHIPPED / BUNDLE_FILE).exists() else None
SIGNED = [name for name, spec in BUNDLE.nets.items() if "trt" in spec.files] if BUNDLE else []
EIGHT_BIT = [name for name in SIGNED if BUNDLE and "ort" in BUNDLE.nets[name].files]

pytestmark = pytest.mark.skipif(not SIGNED, reason="the shipped bundle has no 8-bit nets")


@pytest.mark.parametrize("net", SIGNED)
def test_rules_of_the_graph(net: str) -> None:
    model = onnx.load(str(BUNDLE.net_path(net, "trt")))
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    pairs = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert pairs
    for node in pairs:
        zero = stored[node.input[2]]
        assert zero.dtype == np.int8, node.name
        assert not zero.any(), node.name
        weights = stored.get(node.input[0])
        if weights is not None:
            axis = next(a.i for a in node.attribute if a.name == "axis")
            assert weights.dtype == np.int8, node.name
            assert stored[node.input[1]].shape == (weights.shape[axis],), node.name
    assert max(o.version for o in model.opset_import) <= 20
    assert model.ir_version <= 10
    assert len(model.SerializeToString()) < 8e6


@pytest.mark.parametrize("net", SIGNED)
def test_tensorrt_rtx_builds_it(net: str) -> None:
    """It refuses what TensorRT refuses (int32 biases, zero points, uint8); it needs no GPU to build."""
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    told = parser.parse_from_file(str(BUNDLE.net_path(net, "trt")))
    assert told, [str(parser.get_error(k)) for k in range(parser.num_errors)]
    config, spec = builder.create_builder_config(), BUNDLE.nets[net]
    free = [t for t in spec.inputs if any(isinstance(d, str) for d in t.shape)]
    if free:
        profile = builder.create_optimization_profile()
        for tensor in free:
            profile.set_shape(tensor.name, *shapes(tensor, spec.sizes))
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    names = {network.get_output(k).name for k in range(network.num_outputs)}
    assert names == {t.name for t in spec.outputs}


@pytest.mark.parametrize("net", EIGHT_BIT)
def test_engines_agree(net: str) -> None:
    """OpenVINO and onnxruntime: more power in common than in their difference by 20 dB on a picture of ECG paper with a
    trace."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    spec = BUNDLE.nets[net].inputs[0]
    sizes = [{"batch": 1}.get(d, 96) if isinstance(d, str) else d for d in spec.shape]
    if len(sizes) == 4:
        x = np.full(sizes, 230, np.uint8)
        for step, grey in ((4, 205), (20, 140)):  # 1 mm and 5 mm at the fine finder's 4 px/mm
            x[..., ::step, :] = grey
            x[..., :, ::step] = grey
        columns = np.arange(sizes[-1])
        middle = np.rint(sizes[-2] * (0.5 + 0.2 * np.sin(columns / 20))).astype(int)
        for thick in range(3):
            x[..., middle + thick, columns] = 30
    else:
        x = np.sin(np.arange(np.prod(sizes), dtype=np.float32) / 9).reshape(sizes)
    one = open_engine(BUNDLE, net, "ort", threads=1)({spec.name: x})
    other = open_engine(BUNDLE, net, "openvino", threads=1)({spec.name: x})
    for name, values in one.items():
        noise = float(np.square(values - other[name]).mean())
        assert 10 * np.log10(float(np.square(values).mean()) / max(noise, 1e-12)) > 20, name
