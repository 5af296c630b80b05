"""Channels filled up to whole blocks change shapes inside the graph and nothing that comes out of it."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import checker, helper, numpy_helper

from calibration.padding import padded
from calibration.sqnr import results


def channels(model):
    shapes = {i.name: list(i.dims) for i in model.graph.initializer}
    return {name.removesuffix(".w_q8"): shape[:2] for name, shape in shapes.items() if name.endswith(".w_q8")}


def test_the_results_stay(net, feeds, quantised) -> None:
    plain = quantised(net, feeds)
    whole = padded(plain, 8)
    checker.check_model(whole, full_check=True)
    assert channels(plain) == {"first": [8, 3], "second": [8, 8], "down": [12, 8], "join": [8, 20], "head": [2, 8],
                               "linear": [3, 8]}  # fmt: skip
    assert channels(whole) == {**channels(plain), "down": [16, 8], "join": [8, 24]}
    for want, got in zip(results(plain, feeds), results(whole, feeds), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(want, got, strict=True))


def test_what_leads_out_of_the_convolutions_stays(net, feeds, quantised) -> None:
    """Blocks of 5: the context's mean goes on into a linear head, so that what gives it is left as it is."""
    plain = quantised(net, feeds)
    made = channels(padded(plain, 5))
    assert made["join"][0] == 8  # read by the mean
    assert made["first"][0] == made["second"][0] == 10  # added to each other, and read by convolutions alone
    assert made["down"] == [15, 10]
    assert made["join"][1] == 25
    for want, got in zip(results(plain, feeds), results(padded(plain, 5), feeds), strict=True):
        assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(want, got, strict=True))


@pytest.mark.parametrize("axis", [1, 2])
def test_a_reduction_along_the_channels_is_left_alone(net, feeds, quantised, axis) -> None:
    plain = quantised(net, feeds)
    node = helper.make_node("ReduceMax", ["rest", "along"], ["top"], keepdims=1)
    plain.graph.initializer.append(numpy_helper.from_array(np.array([axis]), "along"))
    reader = next(n for n in plain.graph.node if n.op_type == "Conv" and n.output[0] == "f0")
    node.input[0], reader.input[0] = reader.input[0], ("top" if axis == 2 else reader.input[0])
    plain.graph.node.insert(list(plain.graph.node).index(reader), node)
    if axis == 1:
        plain.graph.output.append(helper.make_tensor_value_info("top", 1, ["n", 1, 8, 8]))
    assert channels(padded(plain, 8))["down"][0] == (12 if axis == 1 else 16)
