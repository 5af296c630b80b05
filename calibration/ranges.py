"""Ranges of activations: histograms over calibration inputs, and what min-max, percentiles and entropy make of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

Feed = Mapping[str, NDArray[np.generic]]
BINS: Final = 2048
LEVELS: Final = 128
METHODS: Final = ("minmax", "percentile-99.99", "percentile-99.9", "entropy")
_ERRORS_ONLY: Final = 3


@dataclass(frozen=True, eq=False)
class Histogram:
    """How often values of a tensor fell between ``edges`` (n + 1,)."""

    counts: NDArray[np.int64]
    edges: NDArray[np.float64]


def session(model: ModelProto, threads: int = 0, extra: Iterable[str] = ()) -> Any:
    """An onnxruntime session; ``extra`` tensors become results after the net's own. ``threads`` 0: all cores."""
    if extra := [
        n for n in extra if n not in {o.name for o in model.graph.output} | {i.name for i in model.graph.input}
    ]:
        more = ModelProto()
        more.CopyFrom(model)
        more.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in extra)
        model = more
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def fed(run: Any, feed: Feed) -> dict[str, NDArray[Any]]:
    """Inputs in the types that the session wants."""
    kinds = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int64)": np.int64}
    return {i.name: np.ascontiguousarray(feed[i.name], dtype=kinds[i.type]) for i in run.get_inputs()}


def histograms(model: ModelProto, tensors: Iterable[str], feeds: Iterable[Feed]) -> dict[str, Histogram]:
    """Two passes over the inputs: limits, then counts."""
    tensors, feeds = list(tensors), list(feeds)
    given = {i.name for i in model.graph.input}
    inner = [t for t in tensors if t not in given]
    run = session(model, extra=inner)

    def values(feed: Feed) -> Iterable[tuple[str, NDArray[np.floating]]]:
        inputs = fed(run, feed)
        yield from zip(inner, run.run(inner, inputs), strict=True)
        yield from ((t, inputs[t]) for t in tensors if t in given)

    limits = {t: (np.inf, -np.inf) for t in tensors}
    for feed in feeds:
        for name, x in values(feed):
            limits[name] = (min(limits[name][0], float(x.min())), max(limits[name][1], float(x.max())))
    edges = {t: np.linspace(low, max(high, low + 1e-6), BINS + 1) for t, (low, high) in limits.items()}
    counts = {t: np.zeros(BINS, np.int64) for t in tensors}
    for feed in feeds:
        for name, x in values(feed):
            low, high = edges[name][0], edges[name][-1]
            x = x.ravel()[:: 3 if x.size > 10_000 else 1]
            place = ((x - np.float32(low)) * np.float32(BINS / (high - low))).astype(np.int32)
            counts[name] += np.bincount(np.clip(place, 0, BINS - 1), minlength=BINS)
    return {t: Histogram(counts[t], edges[t]) for t in tensors}


def limits(histogram: Histogram, method: str) -> tuple[float, float]:
    """Low and high of a tensor by one of ``METHODS``; a percentile is taken of both tails together."""
    low, high = float(histogram.edges[0]), float(histogram.edges[-1])
    if method == "minmax":
        return low, high
    if method == "entropy":
        return _least_divergence(histogram)
    share = 1 - float(method.removeprefix("percentile-")) / 100
    cumulative = np.cumsum(histogram.counts) / histogram.counts.sum()
    # A tail that has a pile at its very end (Relu's zeros) stays whole.
    left = int(np.searchsorted(cumulative, share / 2, side="right"))
    right = int(np.searchsorted(cumulative, 1 - share / 2, side="left"))
    return float(histogram.edges[left]), float(histogram.edges[min(right + 1, BINS)])


def _least_divergence(histogram: Histogram) -> tuple[float, float]:
    """The cut of the larger side at which values rounded to ``LEVELS`` tell most of the original (Migacz, 2017).

    Works on magnitudes, as the symmetric scheme does; a side that is empty stays so.
    """
    low, high = float(histogram.edges[0]), float(histogram.edges[-1])
    top = max(-low, high)
    centre = np.abs((histogram.edges[:-1] + histogram.edges[1:]) / 2)
    # Zeros of Relu would dominate: every method keeps them exactly.
    counts = np.where(centre < top / BINS, 0, histogram.counts)
    magnitude = np.bincount(np.minimum((centre / top * BINS).astype(int), BINS - 1), counts, BINS)
    best, cut = np.inf, BINS
    for end in range(LEVELS, BINS + 1, LEVELS // 4):
        p = magnitude[:end].copy()
        p[-1] += magnitude[end:].sum()
        level = np.arange(end) * LEVELS // end
        kept = magnitude[:end]
        filled = kept > 0
        mass = np.bincount(level, kept, LEVELS)
        n = np.bincount(level, filled, LEVELS)
        q = np.where(filled, (mass / np.maximum(n, 1))[level], 0.0)
        ok = (p > 0) & (q > 0)
        if not ok.any():
            continue
        p, q = p / p.sum(), q / q.sum()
        lost = p[~ok].sum()
        divergence = float((p[ok] * np.log(p[ok] / q[ok])).sum() + lost * 10)
        if divergence < best:
            best, cut = divergence, end
    reach = top * cut / BINS
    return max(low, -reach), min(high, reach)
