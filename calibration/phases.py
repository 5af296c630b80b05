"""Convolutions over enlarged maps taken apart: what comes of the enlarged map is computed before it is enlarged.

A 3x3 convolution over a map enlarged twice (nearest) sees each value up to four times: at each of the four places that
surround a corner of the small map, its taps add up to 2x2 over the four values that meet there (sub-pixel convolution:
Shi et al., CVPR 2016).  So one 2x2 convolution of the small map, 4 products for 9, gives all four places as channels,
which are then laid out, and the outermost row and column, beyond the map, cut off.  What the enlarged map was joined
with is convolved for itself, and both are added.  The same function, zeros beyond the edges included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from calibration.graphs import attributes, channels_of, constants_of, dims_of, makers_of, rebuilt

# Where two of the small map's values meet, which of three taps fall on the first and which on the second: at the place
# before the corner (the first value's second copy) and at the one behind it (the second value's first copy).
TAPS = np.array([[[1, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 1]]], np.float32)
TWICE = [1.0, 1.0, 2.0, 2.0]
PLACES, BESIDE = "_places", "_beside"  # of the convolution's name: its two parts


@dataclass(frozen=True)
class _Join:
    """A convolution over an enlarged map joined with another: the map before it is enlarged, and the other."""

    small: str
    beside: str


def phased(model: ModelProto, fewer_than: int) -> ModelProto:
    """A copy in which such convolutions with fewer results than this are taken apart; of a graph without, itself."""
    values, makers, counts = constants_of(model), makers_of(model), channels_of(dims_of(model))
    joins = {n.output[0]: join for n in model.graph.node if (join := _join(n, makers, values))
             and values[n.input[1]].shape[0] < fewer_than and join.beside in counts}  # fmt: skip
    if not joins:
        return model
    nodes: list[NodeProto] = []
    made: list[TensorProto] = []
    for node in model.graph.node:
        join = joins.get(node.output[0])
        apart, weights = ([node], []) if join is None else _apart(node, join, values[node.input[1]], counts)
        nodes += apart
        made += weights
    return rebuilt(model, nodes, (*model.graph.initializer, *made))


def whole_of(name: str) -> str:
    """The convolution that a part's name belongs to; any other name itself."""
    return name.removesuffix(PLACES).removesuffix(BESIDE)


def _join(conv: NodeProto, makers: Mapping[str, NodeProto], values: Mapping[str, NDArray[Any]]) -> _Join | None:
    """What a convolution reads, if it is one over a map enlarged twice and joined with another one."""
    if conv.op_type != "Conv" or conv.input[1] not in values or values[conv.input[1]].shape[2:] != (3, 3):
        return None
    told = attributes(conv)
    steps = {*told.get("strides", []), *told.get("dilations", []), told.get("group", 1)}
    if told.get("pads") != [1] * 4 or steps - {1}:
        return None
    concat = makers.get(conv.input[0])
    if concat is None or concat.op_type != "Concat" or len(concat.input) != 2:
        return None
    larger = makers.get(concat.input[0])
    if larger is None or larger.op_type != "Resize" or values.get(larger.input[2], np.empty(0)).tolist() != TWICE:
        return None
    how = attributes(larger)
    nearest = how.get("mode") == b"nearest" and how.get("nearest_mode") == b"floor"
    aligned = how.get("coordinate_transformation_mode") == b"asymmetric"
    return _Join(larger.input[0], concat.input[1]) if nearest and aligned else None


def _apart(
    conv: NodeProto, join: _Join, w: NDArray[np.float32], counts: Mapping[str, int]
) -> tuple[list[NodeProto], list[TensorProto]]:
    """The nodes in a convolution's stead, and their weights."""
    result, beside = conv.output[0], conv.output[0] + BESIDE
    n_small = w.shape[1] - counts[join.beside]
    # Results by place (row, then column) and then by channel, as DepthToSpace wants them.
    places = np.einsum("ayk,bxl,oikl->aboiyx", TAPS, TAPS, w[:, :n_small]).reshape(-1, n_small, 2, 2)
    weights = [numpy_helper.from_array(np.ascontiguousarray(v, dtype=np.float32), f"{conv.input[1]}.{part}")
               for part, v in (("small", places), ("beside", w[:, n_small:]))]  # fmt: skip
    nodes = []
    for source, made, weight in zip((join.small, join.beside), (result + PLACES, beside), weights, strict=True):
        part = NodeProto()
        part.CopyFrom(conv)
        part.name = f"{made}_Conv"
        part.input[:2] = [source, weight.name]
        if made != beside:
            del part.input[2:]  # the bias is added once
            for told in part.attribute:
                if told.name == "kernel_shape":
                    told.ints[:] = [2, 2]
        part.output[0] = made
        nodes.append(part)
    laid_out, within = f"{result}_laid_out", f"{result}_within"
    nodes.append(helper.make_node("DepthToSpace", [result + PLACES], [laid_out], laid_out, blocksize=2, mode="DCR"))
    bounds = {"starts": [1, 1], "ends": [-1, -1], "axes": [2, 3]}
    weights += [numpy_helper.from_array(np.array(v, np.int64), f"{within}_{k}") for k, v in bounds.items()]
    nodes.append(helper.make_node("Slice", [laid_out, *(f"{within}_{k}" for k in bounds)], [within], within))
    nodes.append(helper.make_node("Add", [within, beside], [result], name=f"{result}_Add"))
    return nodes, weights
