"""What is laid out place by place (DepthToSpace, then cut) laid out row by row instead: the same values, moved sooner.

onnxruntime's 8-bit convolutions have a place's channels side by side, its DepthToSpace each channel for itself: that
takes two transpositions of the whole map, and moves byte after byte.  With the channels last a row of places becomes
two rows of as many bytes each, moved in blocks, and the transpositions fall out against those of the convolutions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from calibration.graphs import attributes, constants_of, makers_of, readers_of, rebuilt

CHANNELS_LAST, CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
PATH = ("QuantizeLinear", "DequantizeLinear", "Slice", "QuantizeLinear")  # what follows on DepthToSpace, each alone


def by_rows(model: ModelProto) -> ModelProto:
    """A copy of a Q/DQ graph in which every DepthToSpace of blocks of two that is cut afterwards, along both of its
    sides and by constants, works row by row; of a graph without such, itself."""
    values, makers, readers = constants_of(model), makers_of(model), readers_of(model)
    paths = {n.output[0]: path for n in model.graph.node if n.op_type == "DepthToSpace"
             and (path := _path(n, readers)) and _of_both_sides(path[2], values)
             and _by_two(n) and _one_scale((makers[n.input[0]], *path), values)}  # fmt: skip
    if not paths:
        return model
    nodes: list[NodeProto] = []
    constants: dict[str, TensorProto] = {i.name: i for i in model.graph.initializer}
    for node in model.graph.node:
        if node.output[0] in paths:
            path = paths[node.output[0]]
            cut = [values[name] for name in path[2].input[1:3]]
            made, told = _moved(makers[node.input[0]].input[0], path[-1].output[0], node.name, cut)
            nodes += made
            constants |= told
        elif not any(node.output[0] == part.output[0] for path in paths.values() for part in path):
            nodes.append(node)
    return rebuilt(model, nodes, constants.values())


def _path(node: NodeProto, readers: dict[str, list[NodeProto]]) -> list[NodeProto] | None:
    """The nodes from one that is read as ``PATH`` has it, up to the last Q."""
    out: list[NodeProto] = []
    for kind in PATH:
        near = readers.get(node.output[0], [])
        if len(near) != 1 or near[0].op_type != kind:
            return None
        node = near[0]
        out.append(node)
    return out


def _by_two(node: NodeProto) -> bool:
    """Whether places lie in blocks of two, row, column, channel."""
    told = attributes(node)
    return told["blocksize"] == 2 and told.get("mode", b"DCR") == b"DCR"


def _one_scale(path: tuple[NodeProto, ...], values: dict[str, Any]) -> bool:
    """Whether a DQ begins the path, and all its Q and DQ have one scale and zero: the bytes stay as they are."""
    scaled = [n for n in path if n.op_type in PATH[:2]]
    told = {tuple(values[name].item() for name in n.input[1:3]) for n in scaled}
    return path[0].op_type == "DequantizeLinear" and len(told) == 1


def _of_both_sides(cut: NodeProto, values: dict[str, Any]) -> bool:
    """Whether a Slice goes along height and width by constants, in steps of one."""
    known = all(name in values for name in cut.input[1:])
    return known and len(cut.input) == 4 and values[cut.input[3]].tolist() == [2, 3]


def _moved(source: str, result: str, name: str, cut: list[Any]) -> tuple[list[NodeProto], dict[str, TensorProto]]:
    """The nodes from one 8-bit tensor to the other, and their constants; ``cut``: where rows and columns start and end.

    Places lie in a cell's channels row, column, channel (DCR): cells (h, w, 2, 2 c) become rows (h, 2, w, 2 c).
    """
    told = {"twice": [1, 2, 2, 1], "quarter": [1, 1, 1, 4], "halves": [0, 0, 0, 2, -1], "starts": cut[0],
            "ends": cut[1], "sides": [1, 2]}  # fmt: skip
    constants = {f"{name}_{k}": numpy_helper.from_array(np.array(v, np.int64), f"{name}_{k}") for k, v in told.items()}

    def node(kind: str, given: list[str], made: str, **how: Any) -> NodeProto:
        return helper.make_node(kind, given, [made], name=f"{name}_{kind}_{made}", **how)

    last, shape, twice, size, cells, rows, whole, inner = (
        f"{name}_{k}" for k in ("last", "shape", "twice_as_large", "size", "cells", "rows", "whole", "inner")
    )
    by = {k: f"{name}_{k}" for k in told}
    nodes = [
        node("Transpose", [source], last, perm=CHANNELS_LAST),
        node("Shape", [last], shape),
        node("Mul", [shape, by["twice"]], twice),
        node("Div", [twice, by["quarter"]], size),
        node("Reshape", [last, by["halves"]], cells),
        node("Transpose", [cells], rows, perm=(0, 1, 3, 2, 4)),
        node("Reshape", [rows, size], whole),
        node("Slice", [whole, by["starts"], by["ends"], by["sides"]], inner),
        node("Transpose", [inner], result, perm=CHANNELS_FIRST),
    ]
    return nodes, constants
