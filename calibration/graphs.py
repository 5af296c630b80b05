"""What the rewriting of a graph asks of it: constants, who reads what, channels, and which nodes still count."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, shape_inference


def constants_of(model: ModelProto) -> dict[str, NDArray[Any]]:
    """A graph's constants by name."""
    return {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}


def readers_of(model: ModelProto) -> dict[str, list[NodeProto]]:
    """The nodes that read each tensor."""
    out: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            out.setdefault(name, []).append(node)
    return out


def makers_of(model: ModelProto) -> dict[str, NodeProto]:
    """The node that makes each tensor."""
    return {out: n for n in model.graph.node for out in n.output}


def attributes(node: NodeProto) -> dict[str, Any]:
    """A node's attributes by name; strings are bytes."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def dims_of(model: ModelProto) -> dict[str, Any]:
    """The dimensions of each tensor whose shape is known or can be told."""
    graph = shape_inference.infer_shapes(model).graph
    return {v.name: v.type.tensor_type.shape.dim for v in (*graph.value_info, *graph.input, *graph.output)}


def channels_of(dims: Mapping[str, Any]) -> dict[str, int]:
    """How many channels (axis 1) each tensor has of which ``dims_of`` knows that."""
    return {name: d[1].dim_value for name, d in dims.items() if len(d) > 1 and d[1].dim_value}


def alive(nodes: list[NodeProto], results: Collection[str]) -> list[NodeProto]:
    """The nodes, in order, without those that nothing reads any more."""
    wanted, kept = set(results), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    return kept[::-1]


def rebuilt(model: ModelProto, nodes: list[NodeProto], constants: Iterable[TensorProto]) -> ModelProto:
    """A copy of the model with these nodes and constants, as far as they still count, and no inferred shapes."""
    nodes = alive(nodes, {o.name for o in model.graph.output})
    used = {i for n in nodes for i in n.input}
    kept = [t for t in constants if t.name in used]
    out = ModelProto()
    out.CopyFrom(model)
    for part, new in ((out.graph.node, nodes), (out.graph.initializer, kept), (out.graph.value_info, [])):
        del part[:]
        part.extend(new)
    return out
