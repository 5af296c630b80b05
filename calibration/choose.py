"""One calibration for a net: the method and the nodes kept in float that cost its own task least."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from onnx import ModelProto

from calibration.phases import phased, whole_of
from calibration.qdq import COMPUTE, ORT, TRT, Scheme, quantise, quantised_tensors
from calibration.ranges import METHODS, Feed, Histogram, histograms, limits
from calibration.sqnr import below, node_sqnr_db

# 7 bits: processors without VNNI add pairs of products in 16 bits, which 8-bit weights overflow.
SCHEMES: Final[Mapping[str, Scheme]] = {"ort": replace(ORT, weight_bits=7), "trt": TRT}
# Where the signed graph with everything on 8 bits costs too much: convolutions and products alone.
NARROW: Final = replace(TRT, ops=COMPUTE)
MIN_NODE_SQNR_DB: Final = 15.0  # a node that alone leaves less stays in float
MOST_FLOAT: Final = 6
SENSITIVITY_FEEDS: Final = 2


@dataclass(frozen=True)
class Limit:
    """How much worse than in float a figure may be: ``worse_by`` in the figure's own unit."""

    figure: str
    worse_by: float
    higher_is_better: bool = True

    def excess(self, float_figures: Mapping[str, float], figures: Mapping[str, float]) -> float:
        """By how much the limit is overstepped (negative: within)."""
        loss = float_figures[self.figure] - figures[self.figure]
        return (loss if self.higher_is_better else -loss) - self.worse_by


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was chosen, what it cost, and the graphs."""

    method: dict[str, str]
    keep_float: tuple[str, ...]
    models: dict[str, ModelProto]
    figures: dict[str, dict[str, float]]
    node_sqnr_db: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """What bundle.json keeps."""
        rounded = {k: {n: round(v, 5) for n, v in f.items()} for k, f in self.figures.items()}
        return {"method": self.method, "float_nodes": list(self.keep_float), "figures": rounded,
                "node_sqnr_db": self.node_sqnr_db}  # fmt: skip


def calibrate(
    model: ModelProto,
    feeds: Sequence[Feed],
    measure: Callable[[ModelProto], dict[str, float]],
    allowed: Sequence[Limit] = (),
    *,
    methods: Sequence[str] = METHODS,
    say: Callable[[str], None] = lambda line: None,
) -> Calibration:
    """Ranges from ``feeds``; for each graph, of the methods that overstep fewest limits, the one whose ``loss`` on
    held-out samples is least; float nodes by their noise.

    ``measure`` gives a graph's figures, ``loss`` among them.  More nodes go back to float, noisiest first, while the
    unsigned graph oversteps a limit, up to ``MOST_FLOAT``; where the signed one does, all but convolutions and products
    do.  Whether that was enough is for the export's ladder to say.
    """
    graphs = {kind: phased(model, scheme.apart_below) for kind, scheme in SCHEMES.items()}
    seen = _histograms(graphs, feeds)
    figures = {"fp32": measure(model)}
    reached = {m: _ranges(seen, m) for m in methods}
    method: dict[str, str] = {}
    for kind, scheme in SCHEMES.items():
        tried = {m: measure(quantise(graphs[kind], reached[m], scheme)) for m in methods}
        method[kind] = _least_costly(tried, figures["fp32"], allowed)
        figures[kind] = tried[method[kind]]
        losses = ", ".join(f"{m} {f['loss']:.4f}" for m, f in tried.items())
        say(f"  {kind}: loss {losses} (float {figures['fp32']['loss']:.4f}): {method[kind]}")
    ranges = {kind: reached[m] for kind, m in method.items()}
    nodes = node_sqnr_db(
        graphs["ort"], ranges["ort"], feeds[:: max(1, len(feeds) // SENSITIVITY_FEEDS)][:SENSITIVITY_FEEDS]
    )
    keep = below(nodes, MIN_NODE_SQNR_DB)[:MOST_FLOAT]
    while True:
        kept = {"ort": keep, "trt": [whole_of(name) for name in keep]}
        models = {kind: quantise(graphs[kind], ranges[kind], scheme, kept[kind]) for kind, scheme in SCHEMES.items()}
        if keep:
            figures["ort"] = measure(models["ort"])
        over = [limit for limit in allowed if limit.excess(figures["fp32"], figures["ort"]) > 0]
        following = [n for n in nodes if n not in keep][:1]
        if not over or len(keep) >= MOST_FLOAT or not following:
            break
        keep += following
        say(f"  {over[0].figure} is over its limit: {following[0]} stays in float")
    if keep:
        figures["trt"] = measure(models["trt"])
    if any(limit.excess(figures["fp32"], figures["trt"]) > 0 for limit in allowed):
        say("  trt: sums, joins and enlarged maps stay in float")
        models["trt"] = quantise(graphs["trt"], ranges["trt"], NARROW, kept["trt"])
        figures["trt"] = measure(models["trt"])
    return Calibration(method, tuple(keep), models, figures, nodes)


def _least_costly(tried: Mapping[str, Mapping[str, float]], fp32: Mapping[str, float], allowed: Sequence[Limit]) -> str:
    """What is rare weighs little in a loss and yet has its limit: a cut-off range reads every 5 mm pulse as 6 mm."""
    return min(tried, key=lambda m: (sum(a.excess(fp32, tried[m]) > 0 for a in allowed), tried[m]["loss"]))


def _histograms(graphs: Mapping[str, ModelProto], feeds: Sequence[Feed]) -> dict[str, Histogram]:
    """Of every tensor that any of the graphs needs a range of, each once: what graphs share has the same values."""
    seen: dict[str, Histogram] = {}
    for kind, graph in graphs.items():
        if new := [t for t in quantised_tensors(graph, SCHEMES[kind]) if t not in seen]:
            seen |= histograms(graph, new, feeds)
    return seen


def _ranges(seen: Mapping[str, Histogram], method: str) -> dict[str, tuple[float, float]]:
    return {name: limits(histogram, method) for name, histogram in seen.items()}
