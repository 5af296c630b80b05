"""Q/DQ graphs: the rules of each engine hold, values stay near the float net's, bytes enter without loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from calibration import qdq
from calibration.ranges import fed, histograms, limits, session
from calibration.sqnr import results, sqnr_db
from ecg.errors import BundleError

RULES = pytest.importorskip("export.ladder", reason="torch is needed for the ladder's rules")


@pytest.fixture(scope="module")
def ranges(net, feeds):
    tensors = [t for s in (qdq.TRT, qdq.ORT) for t in qdq.quantised_tensors(net, s)]
    return {name: limits(h, "minmax") for name, h in histograms(net, dict.fromkeys(tensors), feeds).items()}


@pytest.mark.parametrize("scheme", [qdq.TRT, qdq.ORT, replace(qdq.ORT, weight_bits=7)])
def test_values_stay_near(net, feeds, ranges, scheme) -> None:
    made = qdq.quantise(net, ranges, scheme)
    onnx.checker.check_model(made, full_check=True)
    assert min(sqnr_db(results(net, feeds), as_written(made, feeds))) > 25


def as_written(model, feeds):
    """A graph's results in float, node by node: on processors without VNNI onnxruntime's kernels for 8-bit weights
    overflow, for which ``weight_bits`` is there (the test below), and which says nothing of the graph."""
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    run = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [run.run(None, fed(run, feed)) for feed in feeds]


def test_seven_bits_stay_near_on_any_processor(net, feeds, ranges) -> None:
    """What is shipped, through the kernels of the processor at hand."""
    made = qdq.quantise(net, ranges, replace(qdq.ORT, weight_bits=7))
    assert min(sqnr_db(results(net, feeds), results(made, feeds))) > 25


def test_the_signed_graph_keeps_to_tensorrts_rules(net, ranges) -> None:
    made = qdq.quantise(net, ranges, qdq.TRT)
    assert RULES.problems(made) == []
    assert RULES.problems(qdq.quantise(net, ranges, qdq.ORT))
    on_eight = [n for n in made.graph.node if n.op_type == "DequantizeLinear"]
    assert sum("_q8" in n.input[0] for n in on_eight) == 6  # five convolutions and the linear head


def test_pictures_enter_as_they_are(net, feeds, ranges) -> None:
    """x / 64 - 2 of a byte is (x - 128) / 64: eight bits hold it exactly, in both graphs."""
    assert qdq.exact_input(net) == {"unit": ("rgb", qdq.Affine(1 / 64, 128))}
    unsigned = qdq.quantise(net, ranges, qdq.ORT)
    assert unsigned.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    signed = qdq.quantise(net, ranges, qdq.TRT)
    assert signed.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    run = session(net, extra=["unit"])
    want = run.run(["unit"], fed(run, feeds[0]))[0]
    for made in (unsigned, signed):
        name = next(n.input[0] for n in made.graph.node if n.op_type == "Conv")
        run = session(made, extra=[name])
        assert np.array_equal(run.run([name], fed(run, feeds[0]))[0], want)


def test_unsigned_graph_has_integer_biases_and_no_relu(net, ranges) -> None:
    made = qdq.quantise(net, ranges, replace(qdq.ORT, weight_bits=7))
    kinds = [n.op_type for n in made.graph.node]
    assert "Relu" not in kinds
    assert "Mul" not in kinds
    stored = {i.name: onnx.numpy_helper.to_array(i) for i in made.graph.initializer}
    weights = [v for k, v in stored.items() if k.endswith(".w_q8")]
    assert len(weights) == 6
    assert max(np.abs(w).max() for w in weights) == 63
    assert all(v.dtype == np.int32 for k, v in stored.items() if k.endswith("_bias_q"))


def test_nodes_kept_in_float(net, feeds, ranges) -> None:
    nodes = qdq.compute_nodes(net)
    assert nodes == ["a0", "b0", "c0", "f0", "maps", "score"]
    for scheme in (qdq.TRT, qdq.ORT):
        made = qdq.quantise(net, ranges, scheme, ["f0"])
        assert "join.w" in {i for n in made.graph.node if n.op_type == "Conv" for i in n.input}
        none = qdq.quantise(net, ranges, scheme, nodes)
        assert not any("Quantize" in n.op_type for n in none.graph.node)
        assert min(sqnr_db(results(net, feeds), results(none, feeds))) > 90


def test_a_tensor_without_a_range(net, ranges) -> None:
    with pytest.raises(BundleError, match="no range for tensor b; calibrate") as caught:
        qdq.quantise(net, {k: v for k, v in ranges.items() if k != "b"}, qdq.TRT)
    assert "\n" not in str(caught.value)


def test_affine_always_holds_zero() -> None:
    assert qdq.affine_of(0.5, 255.0, True) == qdq.Affine(1.0, 0)
    assert qdq.affine_of(-127.0, 0.2, False) == qdq.Affine(1.0, 0)
    assert qdq.affine_of(-2.0, 3.1, True).zero == 100


def test_tensorrt_rtx_builds_it(net, ranges, tmp_path) -> None:
    """The checker of what TensorRT accepts; it needs no GPU to parse and to build."""
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    onnx.save(qdq.quantise(net, ranges, qdq.TRT), str(tmp_path / "net.trt.onnx"))
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    told = parser.parse_from_file(str(tmp_path / "net.trt.onnx"))
    assert told, [str(parser.get_error(k)) for k in range(parser.num_errors)]
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("rgb", (1, 3, 16, 16), (2, 3, 16, 16), (4, 3, 16, 16))
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config) is not None


def test_pools_keep_to_eight_bits_where_floats_follow() -> None:
    """What leaves a bank of filters by its maxima alone is small: floats may read that."""
    rng = np.random.default_rng(0)
    w = onnx.numpy_helper.from_array(rng.normal(size=(8, 4, 1, 3)).astype(np.float32), "w")
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"], pads=[0, 1, 0, 1]),
        onnx.helper.make_node("Relu", ["c"], ["r"]),
        onnx.helper.make_node("MaxPool", ["r"], ["top"], kernel_shape=[1, 4], strides=[1, 4]),
        onnx.helper.make_node("Sqrt", ["top"], ["y"]),
    ]
    given, out = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s)
                  for n, s in (("x", [1, 4, 3, 16]), ("y", [1, 8, 3, 4])))  # fmt: skip
    graph = onnx.helper.make_graph(nodes, "bank", [given], [out], [w])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    feeds = [{"x": rng.normal(size=(1, 4, 3, 16)).astype(np.float32)}]
    tensors = qdq.quantised_tensors(model, qdq.ORT)
    assert "top" in tensors
    found = histograms(model, dict.fromkeys(tensors), feeds)
    made = qdq.quantise(model, {n: limits(h, "minmax") for n, h in found.items()}, qdq.ORT)
    makers = {o: n for n in made.graph.node for o in n.output}
    pool = next(n for n in made.graph.node if n.op_type == "MaxPool")
    root = next(n for n in made.graph.node if n.op_type == "Sqrt")
    assert makers[pool.input[0]].op_type == "DequantizeLinear"
    assert makers[root.input[0]].input[0] == "top_q"
    assert min(sqnr_db(results(model, feeds), results(made, feeds))) > 20
