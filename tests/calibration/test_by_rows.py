"""Places laid out row by row: the same bytes; what is cut otherwise, or read twice, stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, checker, numpy_helper

from calibration.by_rows import by_rows
from calibration.phases import phased
from calibration.sqnr import results


@pytest.fixture
def apart(net, feeds, quantised):
    return quantised(phased(net, 9), feeds)


def test_the_same_results(apart, feeds) -> None:
    rows = by_rows(apart)
    checker.check_model(rows, full_check=True)
    assert "DepthToSpace" in {n.op_type for n in apart.graph.node}
    assert "DepthToSpace" not in {n.op_type for n in rows.graph.node}
    named = {i.name for i in rows.graph.initializer}
    assert named == {name for n in rows.graph.node for name in n.input} & named
    for want, got in zip(results(apart, feeds), results(rows, feeds), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(want, got, strict=True))


def test_without_places_nothing_changes(net, feeds, quantised) -> None:
    plain = quantised(net, feeds)
    assert by_rows(plain) is plain


@pytest.mark.parametrize("changed", ["other axes", "read twice", "other scale", "other order"])
def test_what_is_laid_out_otherwise_stays(apart, changed) -> None:
    other = ModelProto()
    other.CopyFrom(apart)
    if changed == "other axes":
        axes = next(i for i in other.graph.initializer if i.name == "f0_within_axes")
        axes.CopyFrom(numpy_helper.from_array(np.int64([3, 2]), axes.name))
    elif changed == "other scale":
        scale = next(i for i in other.graph.initializer if i.name == "f0_within_scale")
        scale.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(scale), scale.name))
    elif changed == "other order":
        node = next(n for n in other.graph.node if n.op_type == "DepthToSpace")
        next(a for a in node.attribute if a.name == "mode").s = b"CRD"
    else:
        laid_out = next(n for n in other.graph.node if n.op_type == "DepthToSpace").output[0]
        other.graph.output.append(other.graph.output[0])
        other.graph.output[-1].name = f"{laid_out}_q"
        again = next(n for n in other.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == f"{laid_out}_q")
        other.graph.node.append(again)
        other.graph.node[-1].output[0] = "again"
    assert by_rows(other) is other
