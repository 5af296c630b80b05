"""Convolutions over enlarged maps, taken apart, give what they gave; on 8 bits nearly so, whole blocks included."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, checker, helper

from calibration.padding import padded
from calibration.phases import phased, whole_of
from calibration.sqnr import results, sqnr_db


def ops(model: ModelProto) -> list[str]:
    return [n.op_type for n in model.graph.node]


def test_the_same_function(net, feeds) -> None:
    apart = phased(net, 9)
    checker.check_model(apart, full_check=True)
    assert {"Resize", "Concat"} < set(ops(net))
    assert not {"Resize", "Concat"} & set(ops(apart))
    assert ops(apart).count("DepthToSpace") == 1
    # Not even at the edges, where there are zeros beside the picture, is there a difference.
    for want, got in zip(results(net, feeds), results(apart, feeds), strict=True):
        assert all(np.allclose(a, b, atol=1e-4) for a, b in zip(want, got, strict=True))


def test_many_results_stay_whole(net) -> None:
    assert phased(net, 8) is net


@pytest.mark.parametrize("changed", ["linear", "half_pixel"])
def test_maps_enlarged_otherwise_stay_whole(net, changed) -> None:
    other = ModelProto()
    other.CopyFrom(net)
    resize = next(n for n in other.graph.node if n.op_type == "Resize")
    name = "mode" if changed == "linear" else "coordinate_transformation_mode"
    kept = [a for a in resize.attribute if a.name != name]
    del resize.attribute[:]
    resize.attribute.extend([*kept, helper.make_attribute(name, changed)])
    assert phased(other, 9) is other


def test_eight_bits_stay_near(net, feeds, quantised) -> None:
    apart = quantised(phased(net, 9), feeds)
    eight_bit = [n.input[0] for n in apart.graph.node if n.op_type == "DequantizeLinear"]
    assert {"f0_places_q", "f0_beside_q", "f0_laid_out_q", "f0_within_q"} <= set(eight_bit)
    assert min(sqnr_db(results(net, feeds), results(apart, feeds))) > 25


def test_blocks_are_filled_place_by_place(net, feeds, quantised) -> None:
    """Blocks of 7: eight results of each of the four places take two."""
    led_on = ModelProto()
    led_on.CopyFrom(net)
    del led_on.graph.node[-2:], led_on.graph.output[:]  # a linear head takes no filled up channels, nor does a result
    led_on.graph.node.append(helper.make_node("Neg", ["maps"], ["minus"]))
    led_on.graph.output.append(helper.make_tensor_value_info("minus", TensorProto.FLOAT, ["n", 2, 8, 8]))
    plain = quantised(phased(led_on, 9), feeds)
    whole = padded(plain, 7)
    shapes = {i.name: tuple(i.dims) for i in whole.graph.initializer}
    assert (shapes["join.w.small_q8"][0], shapes["join.w.beside_q8"][0]) == (4 * 14, 14)
    for want, got in zip(results(plain, feeds), results(whole, feeds), strict=True):
        assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(want, got, strict=True))


def test_parts_belong_to_their_convolution() -> None:
    assert [whole_of(n) for n in ("f0_places", "f0_beside", "maps")] == ["f0", "f0", "maps"]
