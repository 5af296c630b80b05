"""A net as small as it can be with everything that Q/DQ graphs have to handle: an image scaled by constants, residual
sums, coarser levels joined again, a context over the whole picture, and a linear head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="Q/DQ graphs are built with onnx")

from calibration import qdq  # noqa: E402
from calibration.ranges import histograms, limits  # noqa: E402


def small_net():
    helper, array = onnx.helper, onnx.numpy_helper.from_array
    rng = np.random.default_rng(0)

    def weights(name: str, *shape: int, spread: float = 0.3):
        return array(rng.normal(0, spread, shape).astype(np.float32), name)

    def conv(x: str, name: str, out: str, kernel: int = 3, stride: int = 1):
        pads = [kernel // 2] * 4
        return helper.make_node("Conv", [x, f"{name}.w", f"{name}.b"], [out], kernel_shape=[kernel] * 2,
                                strides=[stride] * 2, pads=pads)  # fmt: skip

    nodes = [
        helper.make_node("Mul", ["rgb", "c64"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "c2"], ["unit"]),
        conv("unit", "first", "a0", stride=2),
        helper.make_node("Relu", ["a0"], ["a"]),
        conv("a", "second", "b0"),
        helper.make_node("Add", ["a", "b0"], ["b1"]),
        helper.make_node("Relu", ["b1"], ["b"]),
        conv("b", "down", "c0", stride=2),
        helper.make_node("Relu", ["c0"], ["c"]),
        helper.make_node("Resize", ["c", "", "twice"], ["d"], mode="nearest", nearest_mode="floor",
                         coordinate_transformation_mode="asymmetric"),
        helper.make_node("Concat", ["d", "b"], ["e"], axis=1),
        conv("e", "join", "f0"),
        helper.make_node("Relu", ["f0"], ["f"]),
        conv("f", "head", "maps", kernel=1),
        helper.make_node("ReduceMean", ["f", "axes"], ["mean"], keepdims=0),
        helper.make_node("Gemm", ["mean", "linear.w", "linear.b"], ["score"], transB=1),
    ]  # fmt: skip
    values = {"c64": np.float32([1 / 64])[0], "c2": np.float32([2])[0], "twice": np.float32([1, 1, 2, 2]),
              "axes": np.int64([2, 3])}  # fmt: skip
    constants = [array(np.asarray(v), name) for name, v in values.items()]
    sizes = (("first", 8, 3, 3), ("second", 8, 8, 3), ("down", 12, 8, 3), ("join", 8, 20, 3), ("head", 2, 8, 1))
    for name, out, given, k in sizes:
        constants += [weights(f"{name}.w", out, given, k, k), weights(f"{name}.b", out)]
    constants += [weights("linear.w", 3, 8), weights("linear.b", 3)]
    kind = onnx.TensorProto.FLOAT
    shapes = {"rgb": ["n", 3, 16, 16], "maps": ["n", 2, 8, 8], "score": ["n", 3]}
    given, *made = (helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items())
    graph = helper.make_graph(nodes, "small", [given], made, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture(scope="session")
def net():
    model = small_net()
    onnx.checker.check_model(model)
    return model


@pytest.fixture(scope="session")
def feeds():
    rng = np.random.default_rng(1)
    return [{"rgb": rng.integers(0, 256, (2, 3, 16, 16), dtype=np.uint8)} for _ in range(6)]


@pytest.fixture(scope="session")
def quantised():
    """A net on 8 bits as onnxruntime has it, its channels as they are."""

    def made(net, feeds):
        tensors = qdq.quantised_tensors(net, qdq.ORT)
        ranges = {name: limits(h, "minmax") for name, h in histograms(net, dict.fromkeys(tensors), feeds).items()}
        return qdq.quantise(net, ranges, replace(qdq.ORT, weight_bits=7, block=1, by_rows=False))

    return made
