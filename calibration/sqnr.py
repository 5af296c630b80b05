"""Signal to quantisation noise: of a net's results, and how much of it each node costs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from calibration.qdq import COMPUTE, TRT, Ranges, Scheme, compute_nodes, quantise
from calibration.ranges import Feed, fed, session

Results = Sequence[Sequence[NDArray[Any]]]


def results(model: ModelProto, feeds: Sequence[Feed], threads: int = 0) -> Results:
    """A net's results for each of the inputs."""
    run = session(model, threads)
    return [run.run(None, fed(run, feed)) for feed in feeds]


def sqnr_db(reference: Results, other: Results) -> list[float]:
    """10 log10 of power over squared difference, a figure a result of the net (99 where there is no difference)."""
    out = []
    for k in range(len(reference[0])):
        signal = sum(float(np.square(r[k], dtype=np.float64).sum()) for r in reference)
        pairs = zip(reference, other, strict=True)
        noise = sum(float(np.square(a[k].astype(np.float64) - b[k]).sum()) for a, b in pairs)
        out.append(99.0 if noise <= signal * 1e-9 else float(10 * np.log10(max(signal, 1e-30) / noise)))
    return out


def node_sqnr_db(
    model: ModelProto, ranges: Ranges, feeds: Sequence[Feed], scheme: Scheme = TRT, threads: int = 0
) -> dict[str, float]:
    """For each node that computes: the worst result's figure where this node alone is on 8 bits, worst node first.

    Nodes are named by their first output, as ``qdq.quantise`` takes them for ``keep_float``.
    """
    nodes = compute_nodes(model)
    reference = results(model, feeds, threads)
    alone = Scheme(scheme.name, scheme.unsigned, COMPUTE, scheme.weight_bits)
    out: dict[str, float] = {}
    for name in nodes:
        one = quantise(model, ranges, alone, [n for n in nodes if n != name])
        out[name] = round(min(sqnr_db(reference, results(one, feeds, threads))), 2)
    return dict(sorted(out.items(), key=lambda item: item[1]))


def below(figures: Mapping[str, float], limit_db: float) -> list[str]:
    """Nodes under a limit, worst first."""
    return [name for name, db in sorted(figures.items(), key=lambda item: item[1]) if db < limit_db]
