"""Channels of a Q/DQ graph filled up to whole blocks with nothing: the same results, sooner.

onnxruntime's 8-bit convolutions compute channels in blocks; what is left over costs more than a whole block would
(3x3 over 60 channels on an AVX2 CPU: 11 ms for 20 results, 8 ms for 24).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper

from calibration.graphs import attributes, channels_of, constants_of, dims_of, makers_of, readers_of

# These leave each channel for itself; those that reduce or cut only where they do it along other axes, which are named
# by an input of theirs.
CHANNELWISE = ("QuantizeLinear", "DequantizeLinear", "Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "Resize")
ALONG = {"ReduceMax": 1, "ReduceMean": 1, "Slice": 3}


@dataclass(frozen=True, eq=False)
class Channels:
    """A tensor's channels: where the real ones lie among ``width``, and which convolutions filled up the rest."""

    places: NDArray[np.intp]
    width: int
    filled_by: frozenset[str] = frozenset()


def padded(model: ModelProto, block: int) -> ModelProto:
    """A copy in which 8-bit convolutions give whole blocks of channels, those added 0 everywhere.

    Only convolutions are filled up whose channels end in other convolutions: the graph's inputs and results stay.
    """
    graph = _Graph(model, block)
    chosen = frozenset(graph.uneven())
    flow, wrong = graph.flow(chosen)
    while wrong:
        chosen -= wrong
        flow, wrong = graph.flow(chosen)
    return graph.filled(flow)


class _Graph:
    """The graph that is read, and what is known of its tensors."""

    def __init__(self, model: ModelProto, block: int) -> None:
        self.model, self.block = model, block
        self.values, self.makers, self.readers = constants_of(model), makers_of(model), readers_of(model)
        told = dims_of(model)
        self.ranks = {name: len(dims) for name, dims in told.items()}
        self.counts = channels_of(told)

    def uneven(self) -> list[str]:
        """Results of 8-bit convolutions that leave a block partly empty; a head of few channels is no block at all."""
        found = [n.output[0] for n in self.model.graph.node if n.op_type == "Conv" and self._eight_bit(n)]
        each = {r: self.counts.get(r, 0) // self.parts(r) for r in found}
        return [r for r in found if each[r] > self.block and each[r] % self.block]

    def parts(self, name: str) -> int:
        """How many places' channels a tensor holds one after the other: more than one on the way to DepthToSpace."""
        readers = self.readers.get(name, [])
        if len(readers) == 1 and readers[0].op_type in ("QuantizeLinear", "DequantizeLinear"):
            return self.parts(readers[0].output[0])
        laid_out = len(readers) == 1 and readers[0].op_type == "DepthToSpace"
        return attributes(readers[0])["blocksize"] ** 2 if laid_out else 1

    def flow(self, chosen: frozenset[str]) -> tuple[dict[str, Channels], frozenset[str]]:
        """All tensors whose channels differ once the chosen convolutions are filled up, and those of the chosen whose
        channels would reach what can't take them."""
        seen: dict[str, Channels] = {}
        wrong: set[str] = set()
        for node in self.model.graph.node:
            given = [seen[name] for name in node.input if name in seen]
            out = self._result(node, seen, chosen) if given or node.output[0] in chosen else None
            if given and (out is None or {o.name for o in self.model.graph.output} & set(node.output)):
                wrong |= {by for c in given for by in c.filled_by}
            elif out is not None and out.filled_by:
                seen[node.output[0]] = out
        return seen, frozenset(wrong)

    def _result(self, node: NodeProto, seen: Mapping[str, Channels], chosen: frozenset[str]) -> Channels | None:
        """The channels of a node's result; None where it can't take filled up ones."""
        name = node.output[0]
        if node.op_type == "Conv":
            n, parts = self.counts[name], self.parts(name)
            width = -(-n // parts // self.block) * self.block
            places = (width * np.arange(parts)[:, None] + np.arange(n // parts)).ravel()
            full = Channels(places, width * parts, frozenset({name}))
            return None if not self._eight_bit(node) else full if name in chosen else Channels(np.arange(n), n)
        data = [i for i in node.input if i in self.counts]
        given = [seen.get(i, Channels(np.arange(self.counts[i]), self.counts[i])) for i in data]
        by = frozenset().union(*(c.filled_by for c in given))
        if node.op_type == "Concat" and len(given) == len(node.input) and attributes(node).get("axis") == 1:
            starts = np.cumsum([0, *(c.width for c in given)])
            places = np.concatenate([c.places + s for c, s in zip(given, starts[:-1], strict=True)])
            return Channels(places, int(starts[-1]), by)
        if node.op_type == "DepthToSpace":
            parts = attributes(node)["blocksize"] ** 2
            first, width = given[0].places[: len(given[0].places) // parts], given[0].width // parts
            whole = np.array_equal(given[0].places, (width * np.arange(parts)[:, None] + first).ravel())
            return Channels(first, width, by) if whole else None
        alike = all(np.array_equal(c.places, given[0].places) for c in given)
        each = node.op_type in CHANNELWISE or (node.op_type == "Add" and len(given) == 2 and alike)
        if each or self._beside_channels(node):
            return Channels(given[0].places, given[0].width, by)
        return None

    def _beside_channels(self, node: NodeProto) -> bool:
        """Whether a node reduces or cuts along named axes, none of them the channels'."""
        at = ALONG.get(node.op_type, len(node.input))
        axes = self.values.get(node.input[at]) if len(node.input) > at else None
        return axes is not None and not {1, 1 - self.ranks[node.input[0]]} & set(np.ravel(axes).tolist())

    def _eight_bit(self, conv: NodeProto) -> bool:
        """Whether a convolution has 8-bit weights and takes all channels at once."""
        maker = self.makers.get(conv.input[1])
        return maker is not None and maker.input[0] in self.values and attributes(conv).get("group", 1) == 1

    def filled(self, flow: Mapping[str, Channels]) -> ModelProto:
        """A copy of the model with the weights, scales and biases that these channels ask for."""
        out = ModelProto()
        out.CopyFrom(self.model)
        values = dict(self.values)
        for node in self.model.graph.node:
            if node.op_type != "Conv":
                continue
            given = [self.makers[n].input if n in self.makers else [n] for n in node.input[1:]]
            weights, *parameters = (name for names in given for name in names)
            read, made = flow.get(node.input[0]), flow.get(node.output[0])
            if read is not None:
                values[weights] = _spread(values[weights], read, 1)
            if made is not None:
                for name in (weights, *parameters):
                    # Any scale does for 0; one channel's make a bias' that of its product, as engines want it.
                    values[name] = _spread(values[name], made, 0, values[name][0] if name.endswith("_scale") else 0)
        for constant in out.graph.initializer:
            if values[constant.name] is not self.values[constant.name]:
                constant.CopyFrom(numpy_helper.from_array(values[constant.name], constant.name))
        return out


def _spread(values: NDArray[np.generic], channels: Channels, axis: int, rest: float = 0) -> NDArray[np.generic]:
    """The values of the real channels at their places among all, ``rest`` for the others."""
    shape = list(values.shape)
    shape[axis] = channels.width
    out = np.full(shape, rest, values.dtype)
    out[(slice(None),) * axis + (channels.places,)] = values
    return out
