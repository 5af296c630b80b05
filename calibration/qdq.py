"""Q/DQ graphs out of fp32 ones: S8 symmetric for TensorRT and OpenVINO, U8 activations for onnxruntime on x86.

Both come from the same ranges.  What is common: weights are int8, symmetric, a scale a channel; a node that is kept in
float has no Q/DQ on its inputs; results of the net are never quantised.  What differs is in ``Scheme``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from calibration.by_rows import by_rows
from calibration.graphs import alive, constants_of, makers_of, readers_of
from calibration.padding import padded
from ecg.errors import BundleError

Ranges = Mapping[str, tuple[float, float]]
COMPUTE = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# These give back values that they were given: a result has its input's scale.
PASSING = (
    "Resize", "MaxPool", "ReduceMax", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice",
    "DepthToSpace",
)  # fmt: skip
MIXING = ("Add", "Concat")
# These leave little of what they read: on 8 bits even where floats follow.
POOLING = ("AveragePool", "MaxPool")


@dataclass(frozen=True)
class Scheme:
    """How one engine wants its graph.

    ``ops``: nodes that compute on 8 bits.  ``weight_bits`` 7 keeps a pair of products within 16 bits, which
    processors without VNNI add them in.  ``integer_bias``: int32 biases (onnxruntime folds them into its integer
    convolution; TensorRT refuses them).  ``bytes_in``: images enter as uint8 where their scaling is exact in 8 bits.
    ``block``: convolutions give whole blocks of so many channels (``calibration.padding``).  ``apart_below``: those of
    fewer results over enlarged maps are taken apart before they are calibrated (``calibration.phases``).  ``by_rows``:
    and what they give is laid out row by row (``calibration.by_rows``).
    """

    name: str
    unsigned: bool
    ops: tuple[str, ...]
    weight_bits: int = 8
    integer_bias: bool = False
    bytes_in: bool = False
    block: int = 1
    apart_below: int = 0
    by_rows: bool = False


# Sums, joins and enlarged maps on 8 bits too: a third less time in OpenVINO than with convolutions alone.
TRT = Scheme("trt", unsigned=False, ops=(*COMPUTE, *MIXING, *PASSING, *POOLING))
ORT = Scheme(
    "ort", unsigned=True, ops=(*COMPUTE, *MIXING, *PASSING, *POOLING), integer_bias=True, bytes_in=True, block=8,
    apart_below=128, by_rows=True,
)  # fmt: skip


@dataclass(frozen=True)
class Affine:
    """``real = scale * (quantised - zero)`` of one tensor."""

    scale: float
    zero: int


def affine_of(low: float, high: float, unsigned: bool) -> Affine:
    """The 8-bit scale of a range, which always holds zero (padding is exact)."""
    low, high = min(low, 0.0), max(high, 0.0)
    if not unsigned:
        return Affine(max(-low, high, 1e-8) / 127.0, 0)
    scale = max(high - low, 1e-8) / 255.0
    return Affine(scale, int(np.clip(round(-low / scale), 0, 255)))


def quantised_tensors(model: ModelProto, scheme: Scheme, keep_float: Collection[str] = ()) -> list[str]:
    """Activations that a node computing on 8 bits reads, in the graph's order: those that need a range."""
    constants = constants_of(model)
    wanted: dict[str, None] = {}
    for node in _eight_bit_nodes(model, scheme, keep_float):
        for name in _activations(node, constants):
            wanted.setdefault(name)
        if node.op_type in POOLING:
            wanted.setdefault(node.output[0])
    return list(wanted)


def compute_nodes(model: ModelProto) -> list[str]:
    """Nodes that can compute on 8 bits at all, named by their first output, in the graph's order."""
    constants = constants_of(model)
    return [n.output[0] for n in model.graph.node if n.op_type in COMPUTE and _has_weights(n, constants)]


def exact_input(model: ModelProto) -> dict[str, tuple[str, Affine]]:
    """Images scaled by constants as the graph's first act: scaled tensor to (input, its exact scale for bytes).

    ``(v * a) - b`` of a byte v is ``a * (v - b / a)``: nothing is lost where ``b / a`` is a whole number.
    """
    constants, readers = constants_of(model), readers_of(model)
    out = {}
    for given in model.graph.input:
        name, scale, shift = given.name, 1.0, 0.0
        while len(near := _reading_values(name, readers)) == 1 and near[0].op_type in ("Mul", "Div", "Sub", "Add"):
            node = near[0]
            if node.input[0] != name or node.input[1] not in constants or constants[node.input[1]].size != 1:
                break
            c = float(constants[node.input[1]].reshape(()))
            if node.op_type in ("Mul", "Div"):
                factor = c if node.op_type == "Mul" else 1 / c
                scale, shift = scale * factor, shift * factor
            else:
                shift += c if node.op_type == "Add" else -c
            name = node.output[0]
        zero = -shift / scale
        if name != given.name and abs(zero - round(zero)) < 1e-6 and 0 <= round(zero) <= 255:
            out[name] = (given.name, Affine(scale, round(zero)))
    return out


def quantise(model: ModelProto, ranges: Ranges, scheme: Scheme, keep_float: Collection[str] = ()) -> ModelProto:
    """A Q/DQ copy of ``model``; ``ranges`` holds low and high of every tensor of ``quantised_tensors``.

    Nodes named in ``keep_float`` (by their first output: exporters name nodes at will) compute in float.
    Raises ``BundleError`` where a range is missing.
    """
    made = padded(_Rewriter(model, ranges, scheme, keep_float).done(), scheme.block)
    return by_rows(made) if scheme.by_rows else made


class _Rewriter:
    """One graph being rewritten."""

    def __init__(self, model: ModelProto, ranges: Ranges, scheme: Scheme, keep_float: Collection[str]) -> None:
        self.model = ModelProto()
        self.model.CopyFrom(model)
        self.graph, self.scheme, self.ranges = self.model.graph, scheme, ranges
        self.constants = constants_of(model)
        self.readers = readers_of(model)
        self.results = {o.name for o in self.graph.output}
        self.eight_bit = {n.output[0] for n in _eight_bit_nodes(model, scheme, keep_float)}
        self.tensors = quantised_tensors(model, scheme, keep_float)
        self.exact = exact_input(model)
        self.nodes: list[NodeProto] = []
        self.added: dict[str, onnx.TensorProto] = {}
        self.affine = self._affines()

    def done(self) -> ModelProto:
        """Write every node anew, in order."""
        entering = {self.exact[t][0]: t for t in self.tensors if t in self.exact}
        for given in self.graph.input:
            if given.name in self.affine:
                self._quantise(given.name, given.name)
        for node in self.graph.node:
            self._node(node)
        if self.scheme.bytes_in:
            self._bytes_in(entering)
        del self.graph.node[:]
        self.graph.node.extend(alive(self.nodes, self.results))
        used = {i for n in self.graph.node for i in n.input}
        kept = [t for t in [*self.graph.initializer, *self.added.values()] if t.name in used]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)
        del self.graph.value_info[:]
        return self.model

    def _affines(self) -> dict[str, Affine]:
        out: dict[str, Affine] = {}
        passing = {n.output[0]: n.input[0] for n in self.graph.node
                   if n.op_type in PASSING and n.output[0] in self.eight_bit}  # fmt: skip
        for name in self.tensors:
            source = name
            while source in passing:
                source = passing[source]
            if source in self.exact:
                scale, zero = self.exact[source][1].scale, self.exact[source][1].zero
                if self.scheme.unsigned:
                    out[name] = Affine(scale, zero)
                    continue
                if zero == 128:
                    out[name] = Affine(scale, 0)
                    continue
            if source not in self.ranges:
                raise BundleError(f"no range for tensor {source}; calibrate with inputs that reach it")
            out[name] = affine_of(*self.ranges[source], self.scheme.unsigned)
        return out

    def _node(self, node: NodeProto) -> None:
        new = NodeProto()
        new.CopyFrom(node)
        if node.output[0] in self.eight_bit:
            self._eight_bit_inputs(new)
        elif self.scheme.unsigned:  # reading the quantised value leaves one copy of a tensor, not two
            for k, name in enumerate(new.input):
                if name in self.affine:
                    new.input[k] = self._dequantised(name, f"{node.output[0]}_{k}")
        if self._absorbed(node):
            # Q's lower end is zero: it cuts off as Relu does.
            self._quantise(node.output[0], new.input[0])
            return
        self.nodes.append(new)
        for out in node.output:
            if out in self.affine:
                self._quantise(out, out)

    def _absorbed(self, node: NodeProto) -> bool:
        """A Relu whose result is quantised from zero up and read in 8 bits only."""
        out = node.output[0]
        return (node.op_type == "Relu" and self.scheme.unsigned and out in self.affine and out not in self.results
                and self.affine[out].zero == 0)  # fmt: skip

    def _eight_bit_inputs(self, node: NodeProto) -> None:
        result, given = node.output[0], list(node.input)
        for k, name in enumerate(given):
            if name in self.affine:
                node.input[k] = self._dequantised(name, f"{result}_{k}")
            elif node.op_type in COMPUTE and k == 1 and name in self.constants:
                node.input[k] = self._weights(node, name)
            elif node.op_type in COMPUTE and k == 2 and self.scheme.integer_bias and name in self.constants:
                node.input[k] = self._bias(node, given, result)

    def _quantise(self, name: str, source: str) -> None:
        scale, zero = self._parameters(name)
        self.nodes.append(helper.make_node("QuantizeLinear", [source, scale, zero], [f"{name}_q"], name=f"{name}_Q"))

    def _dequantised(self, name: str, reader: str) -> str:
        """A DQ of its own for each reader: onnxruntime fuses only those."""
        scale, zero = self._parameters(name)
        out = f"{name}_dq_{reader}"
        self.nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", scale, zero], [out], name=f"{out}_DQ"))
        return out

    def _parameters(self, name: str) -> tuple[str, str]:
        affine = self.affine[name]
        kind = np.uint8 if self.scheme.unsigned else np.int8
        self._constant(f"{name}_scale", np.array(affine.scale, np.float32))
        self._constant(f"{name}_zero", np.array(affine.zero, kind))
        return f"{name}_scale", f"{name}_zero"

    def _weights(self, node: NodeProto, name: str) -> str:
        axis = _channel_axis(node, self.constants[name].ndim)
        q, scale = self._weight_values(node, name)
        out = f"{name}_dq"
        if f"{name}_q8" not in self.added:
            self._constant(f"{name}_q8", q)
            self._constant(f"{name}_scale", scale)
            self._constant(f"{name}_zero", np.zeros(scale.shape, np.int8))
            inputs = [f"{name}_q8", f"{name}_scale", f"{name}_zero"]
            self.nodes.append(helper.make_node("DequantizeLinear", inputs, [out], name=f"{name}_DQ", axis=axis))
        return out

    def _weight_values(self, node: NodeProto, name: str) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        w = self.constants[name].astype(np.float32)
        axis = _channel_axis(node, w.ndim)
        top = 2 ** (self.scheme.weight_bits - 1) - 1
        others = tuple(a for a in range(w.ndim) if a != axis)
        scale = np.maximum(np.abs(w).max(axis=others), 1e-8).astype(np.float32) / np.float32(top)
        shape = [-1 if a == axis else 1 for a in range(w.ndim)]
        return np.clip(np.rint(w / scale.reshape(shape)), -top, top).astype(np.int8), scale

    def _bias(self, node: NodeProto, given: list[str], result: str) -> str:
        """int32 at the scale of the products: exact to a part in two to the thirty-first."""
        source, weight, name = given
        if source not in self.affine or weight not in self.constants:
            return name
        _, scale = self._weight_values(node, weight)
        product = (scale * np.float32(self.affine[source].scale)).astype(np.float32)
        q = np.clip(np.rint(self.constants[name].astype(np.float64) / product), -(2**31) + 1, 2**31 - 1)
        made = f"{result}_bias"
        self._constant(f"{made}_q", q.astype(np.int32))
        self._constant(f"{made}_scale", product)
        self._constant(f"{made}_zero", np.zeros(product.shape, np.int32))
        inputs = [f"{made}_q", f"{made}_scale", f"{made}_zero"]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{made}_dq"], name=f"{made}_DQ", axis=0))
        return f"{made}_dq"

    def _bytes_in(self, entering: Mapping[str, str]) -> None:
        """Images enter as bytes: the scaling and the Q go, its DQ reads the input itself."""
        for given in self.graph.input:
            scaled = entering.get(given.name)
            if scaled is None:
                continue
            given.type.tensor_type.elem_type = onnx.TensorProto.UINT8
            for node in self.nodes:
                for k, name in enumerate(node.input):
                    if name == f"{scaled}_q" and node.op_type == "DequantizeLinear":
                        node.input[k] = given.name

    def _constant(self, name: str, value: NDArray[np.generic]) -> None:
        self.added.setdefault(name, numpy_helper.from_array(np.asarray(value), name))


def _reading_values(name: str, readers: Mapping[str, list[NodeProto]]) -> list[NodeProto]:
    """A tensor's readers but those that look at its shape alone."""
    return [n for n in readers.get(name, []) if n.op_type != "Shape"]


def _activations(node: NodeProto, constants: Collection[str]) -> list[str]:
    """Inputs of a node that hold activations: not its weights, shapes, sizes."""
    names = node.input[:1] if node.op_type in PASSING else node.input
    if node.op_type in ("Conv", "ConvTranspose", "Gemm"):
        names = node.input[:1]
    return [n for n in names if n and n not in constants]


def _eight_bit_nodes(model: ModelProto, scheme: Scheme, keep_float: Collection[str]) -> list[NodeProto]:
    """Nodes that compute on 8 bits: of the scheme's ops, not kept in float, and inside the 8-bit part.

    Ops that compute nothing are worth 8 bits only where what they read comes from 8 bits and what reads them is.
    """
    constants, readers = constants_of(model), readers_of(model)
    chosen = set(compute_nodes(model)) - set(keep_float)
    makers = makers_of(model)

    def through(name: str) -> bool:
        """Does this tensor come from something computed on 8 bits (a Relu on the way counts as none)?"""
        maker = makers.get(name)
        if maker is not None and maker.op_type == "Relu":
            maker = makers.get(maker.input[0])
        return maker is not None and maker.output[0] in chosen

    def read(name: str) -> bool:
        near = readers.get(name, [])
        near = [m for n in near for m in (readers.get(n.output[0], []) if n.op_type == "Relu" else [n])]
        return any(m.output[0] in chosen for m in near)

    changed = True
    while changed:
        changed = False
        for node in model.graph.node:
            name = node.output[0]
            if name in chosen or name in keep_float or node.op_type not in scheme.ops or node.op_type in COMPUTE:
                continue
            sources = _activations(node, constants)
            if len(sources) == (len(node.input) if node.op_type in MIXING else 1) and all(map(through, sources)):
                chosen.add(name)
                changed = True
    while True:  # what only leads out of the 8-bit part goes back to float
        useful = (*COMPUTE, *POOLING)
        idle = [n for n in model.graph.node
                if n.output[0] in chosen and n.op_type not in useful and not read(n.output[0])]  # fmt: skip
        if not idle:
            break
        chosen -= {n.output[0] for n in idle}
    return [n for n in model.graph.node if n.output[0] in chosen]


def _has_weights(node: NodeProto, constants: Mapping[str, NDArray[np.generic]]) -> bool:
    """Weights that are constants; a MatMul may also multiply two activations."""
    if node.op_type == "MatMul":
        return True
    return node.input[1] in constants and constants[node.input[1]].ndim >= 2


def _channel_axis(node: NodeProto, ndim: int) -> int:
    """The weights' axis of results: first for Conv, second for ConvTranspose, last for a plain MatMul."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if transposed else ndim - 1
