"""The ladder that a net climbs before it is written: names, shapes, values against torch, then its task on 8 bits.

A rung that doesn't hold raises ``BundleError`` in one line: net, rung, figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper

from calibration.ranges import fed, session
from calibration.sqnr import sqnr_db
from ecg.bundle import TensorSpec
from ecg.errors import BundleError
from export.jobs import Feed, NetJob

FLOAT_TOLERANCE: Final = 2e-3  # largest difference from torch, relative to a result's spread
MIN_SQNR_DB: Final = 10.0  # of every result on 8 bits; the task's limits are what decides, this catches broken graphs
OPSET_LIMIT, IR_LIMIT = 20, 10  # what TensorRT on JetPack 6 reads


def climb(job: NetJob, kind: str, model: ModelProto, pictures: Sequence[Feed] = ()) -> None:
    """Names, shapes and values of a net's graph.

    ``kind`` "onnx" is held to torch closely on made-up inputs; the 8-bit ones loosely, on ``pictures``, since noise
    lies outside the ranges that they were calibrated for.
    """
    names(job, kind, model)
    if kind == "trt":
        signed_graph(job, model)
    run = session(model)
    made_up = (job.example, other_sizes(job))
    pairs = [(torch_results(job, feed), run.run(None, fed(run, feed))) for feed in (*made_up, *pictures)]
    for want, got in pairs:
        shapes(job, kind, want, got)
        if kind == "onnx":
            close_values(job, want, got)
    if kind != "onnx" and pictures:
        loud_values(job, kind, *zip(*pairs[len(made_up) :], strict=True))


def names(job: NetJob, kind: str, model: ModelProto) -> None:
    """The graph's inputs and outputs are those that bundle.json will name; opset and IR are old enough for a Jetson."""
    graph = model.graph
    for what, told, found in (("inputs", job.inputs, graph.input), ("outputs", job.outputs, graph.output)):
        want = {t.name: len(t.shape) for t in told}
        got = {t.name: len(t.type.tensor_type.shape.dim) for t in found}
        if want != got:
            raise _fails(job, kind, "names", f"{what} are {got}, the bundle wants {want}")
    opset = max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if opset > OPSET_LIMIT or model.ir_version > IR_LIMIT:
        raise _fails(job, kind, "names", f"opset {opset} and IR {model.ir_version}, at most {OPSET_LIMIT}, {IR_LIMIT}")


def shapes(job: NetJob, kind: str, want: Sequence[NDArray[Any]], got: Sequence[NDArray[Any]]) -> None:
    """Every result has torch's shape, and the rank and fixed sizes that the bundle says."""
    for spec, a, b in zip(job.outputs, want, got, strict=True):
        if a.shape != b.shape or not _fits(spec, b.shape):
            raise _fails(job, kind, "shapes", f"{spec.name} is {b.shape}, torch gives {a.shape}, the bundle says "
                         f"{spec.shape}")  # fmt: skip


def close_values(job: NetJob, want: Sequence[NDArray[Any]], got: Sequence[NDArray[Any]]) -> None:
    """In float: the largest difference from torch."""
    for spec, a, b in zip(job.outputs, want, got, strict=True):
        off = float(np.abs(a - b).max() / (a.std() + 1e-6))
        if not off <= FLOAT_TOLERANCE:
            raise _fails(job, "onnx", "values", f"{spec.name} differs from torch by {off:.2g} of its spread, at most "
                         f"{FLOAT_TOLERANCE}")  # fmt: skip


def loud_values(
    job: NetJob, kind: str, want: Sequence[Sequence[NDArray[Any]]], got: Sequence[Sequence[NDArray[Any]]]
) -> None:
    """On 8 bits: the power of signal over noise, of all pictures together (one without a grid has no phases)."""
    for spec, db in zip(job.outputs, sqnr_db(want, got), strict=True):
        if not db >= MIN_SQNR_DB:
            raise _fails(job, kind, "values", f"{spec.name} has {db:.1f} dB over its noise, at least {MIN_SQNR_DB:g}")


def task(job: NetJob, figures: Mapping[str, Mapping[str, float]]) -> None:
    """On held-out samples each 8-bit graph stays within the net's limits of its figures in float."""
    for kind in ("ort", "trt"):
        for limit in job.limits:
            if not limit.excess(figures["fp32"], figures[kind]) <= 0:
                a, b = figures["fp32"][limit.figure], figures[kind][limit.figure]
                raise _fails(job, kind, "task", f"{limit.figure} is {b:.4g}, in float {a:.4g}, at most "
                             f"{limit.worse_by:g} worse is allowed")  # fmt: skip


def signed_graph(job: NetJob, model: ModelProto) -> None:
    """The rules of the graph for TensorRT, which ``problems`` finds."""
    found = problems(model)
    if found:
        raise _fails(job, "trt", "rules", found[0])


def problems(model: ModelProto) -> list[str]:
    """What TensorRT would refuse: unsigned or shifted Q/DQ, int32 biases, weights without a scale a channel."""
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    kinds = {i.name: i.data_type for i in model.graph.initializer}
    out = [f"input {i.name} is not float" for i in model.graph.input
           if i.type.tensor_type.elem_type != TensorProto.FLOAT]  # fmt: skip
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero is None or kinds[node.input[2]] != TensorProto.INT8:
            out.append(f"{node.name} is not int8")
        elif np.any(zero):
            out.append(f"{node.name} has a zero point other than 0")
        weights = constants.get(node.input[0])
        if weights is None:
            continue
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        if weights.dtype != np.int8:
            out.append(f"{node.name} holds {weights.dtype} constants")
        elif constants[node.input[1]].shape != (weights.shape[axis],):
            out.append(f"{node.name} has not one scale a channel")
    return out


def torch_results(job: NetJob, feed: Feed) -> list[NDArray[Any]]:
    """What torch makes of the inputs."""
    with torch.no_grad():
        out = job.net(*(torch.from_numpy(np.array(feed[t.name], dtype=np.float32)) for t in job.inputs))
    return [x.numpy() for x in (out if isinstance(out, tuple | list) else (out,))]


def other_sizes(job: NetJob) -> Feed:
    """Inputs at each free size's next step up: a graph that fixed a size shows it."""
    rng = np.random.default_rng(1)
    out = {}
    for spec in job.inputs:
        had = job.example[spec.name]
        sizes = zip(spec.shape, had.shape, strict=True)
        shape = [n + job.multiple.get(d, 1) if isinstance(d, str) else n for d, n in sizes]
        low, high = float(np.min(had)), float(np.max(had))
        out[spec.name] = rng.uniform(low, high, shape).round(3).astype(had.dtype)
    return out


def _fits(spec: TensorSpec, shape: tuple[int, ...]) -> bool:
    told = spec.shape
    return len(told) == len(shape) and all(isinstance(d, str) or d == n for d, n in zip(told, shape, strict=True))


def _fails(job: NetJob, kind: str, rung: str, figures: str) -> BundleError:
    name = f"{job.name}.onnx" if kind == "onnx" else f"{job.name}.{kind}.onnx"
    return BundleError(f"{name}: rung {rung} does not hold: {figures}; the bundle is not written")
