"""``python -m edge_runtime.bench_engines``: every net in float and on 8 bits, in each engine that is installed; a whole
photo; and what 8 bits cost on photos whose signals are known.

Takes two bundles of the same nets (``ecgscan-export --precision int8`` and ``fp32``).  Runs are interleaved, so that
whatever else the machine does falls on all alike; beside medians stand the least, which it disturbs least, and the
processor's own time.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import cv2
import numpy as np
import typer

from ecg.bundle import READER_NETS, ModelBundle, load_bundle
from ecg.errors import InputError
from ecg.page import F32, Reading
from edge_runtime.cli import one_line_errors
from edge_runtime.engines import open_engine
from edge_runtime.engines.base import Engine
from edge_runtime.evaluate import ResultsOption
from edge_runtime.evaluation import figures, paired_rows
from edge_runtime.findings import FINDINGS_NET
from edge_runtime.reader import MARK_READER, SHIPPED, Reader
from edge_runtime.results_log import append_result, conditions, tidy

FLOAT: Final = ("onnx",)
EIGHT_BIT: Final = ("ort",)
ENGINES: Final = ("ort", "openvino")
SEED: Final = 3
Ways = dict[str, tuple[str, tuple[str, ...]]]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__)


@app.command()
def main(
    bundle: Annotated[Path | None, typer.Option(help="The 8-bit bundle instead of the shipped one.")] = None,
    fp32: Annotated[
        Path | None, typer.Option("--float", help="The same nets in float; not needed where --bundle holds both.")
    ] = None,
    photos: Annotated[Path | None, typer.Option(help="Folder with photos.csv and WFDB records: accuracy.")] = None,
    runs: Annotated[int, typer.Option(help="Runs of each net in each way; 0: accuracy only.")] = 15,
    photo_runs: Annotated[int, typer.Option(help="Readings of the 12 MP photo in each way; 0 leaves it out.")] = 3,
    threads: Annotated[list[int] | None, typer.Option(help="Threads (repeatable); 1 and 2 if not given.")] = None,
    results: ResultsOption = None,
) -> None:
    """Latency of nets, of a whole photo, and decibels, fp32 against int8."""
    with one_line_errors():
        made = Pair(load_bundle(bundle or SHIPPED), load_bundle(fp32 or bundle or SHIPPED))
        both = made.nets()
        if not set(READER_NETS) <= set(both):
            todo = "name a bundle of ecgscan-export --precision fp32 with --float"
            raise InputError(f"{made.fp32.info.path}: has {', '.join(both) or 'no net'} in float; {todo}")
        line = conditions("random inputs of each net's usual size", seed=SEED, bundle=made.int8.info)
        out = {"task": "engines", **line, "engines": versions(), "figures": {}}
        for n in () if not runs else threads or (1, 2):
            out["figures"][f"threads_{n}"] = {net: net_latency(made, net, n, runs) for net in both}
            if photo_runs:
                out["figures"][f"threads_{n}"]["whole photo"] = photo_latency(made, n, photo_runs)
            typer.echo(table(out["figures"][f"threads_{n}"], f"{n} thread{'s' if n > 1 else ''}"))
        if photos is not None:
            out["accuracy"] = accuracy(made, photos)
            for way, found in out["accuracy"].items():
                told = "  ".join(f"{k} {v}" for k, v in tidy(found).items() if k.endswith("db") or k.startswith("n"))
                typer.echo(f"{way:14s} {told}")
        if results:
            append_result(results, out)


@dataclass(frozen=True)
class Pair:
    """The same nets on 8 bits and in float."""

    int8: ModelBundle
    fp32: ModelBundle

    def nets(self) -> list[str]:
        """Those that are there in both."""
        in_float = {name for name, spec in self.fp32.nets.items() if "onnx" in spec.files}
        return [name for name, spec in self.int8.nets.items() if {"ort", "trt"} <= set(spec.files) and name in in_float]

    def open(self, net: str, way: str, threads: int | None) -> Engine:
        """A net in one of the ``ways``."""
        engine, kinds = ways()[way]
        threads = 1 if net == FINDINGS_NET else threads  # as the reader runs it
        return open_engine(self.fp32 if kinds == FLOAT else self.int8, net, engine, threads=threads, kinds=kinds)


def ways() -> Ways:
    """Engine and kinds of files by the name of each way that can be run here."""
    engines = [e for e in ENGINES if e == "ort" or importlib.util.find_spec(e)]
    return {f"{e} {p}": (e, k) for e in engines for p, k in (("fp32", FLOAT), ("int8", EIGHT_BIT))}


def versions() -> dict[str, str]:
    """What ran the nets."""
    import onnxruntime

    out = {"onnxruntime": str(onnxruntime.__version__)}
    if importlib.util.find_spec("openvino"):
        out["openvino"] = str(importlib.import_module("openvino").__version__)
    return out


def net_latency(bundle: Pair, net: str, threads: int, runs: int) -> dict[str, dict[str, float]]:
    """Milliseconds of one net in each way: medians, least, processor time; and times faster than the same in float."""
    spec = bundle.int8.nets[net]
    rng = np.random.default_rng(SEED)
    feed: dict[str, F32] = {}
    for t in spec.inputs:
        shape = [spec.sizes[d][1] if isinstance(d, str) else d for d in t.shape]
        feed[t.name] = rng.integers(0, 256, shape).astype(np.float32) if t.layout == "NCHW" else _normal(rng, shape)
    loaded = {way: bundle.open(net, way, threads) for way in ways()}
    return interleaved({w: partial(engine, feed) for w, engine in loaded.items()}, runs)


def _normal(rng: np.random.Generator, shape: list[int]) -> F32:
    return rng.normal(0, 1, shape).astype(np.float32)


def photo_latency(bundle: Pair, threads: int, runs: int) -> dict[str, dict[str, float]]:
    """The same of reading one rendered 12 MP photo, which is loaded already."""
    from edge_runtime.bench import _in_a_process, render_photo
    from edge_runtime.images import load_photos

    cv2.setNumThreads(threads)
    with tempfile.TemporaryDirectory() as folder:
        photo = next(iter(load_photos(_in_a_process(render_photo, Path(folder) / "photo.jpg"))))
    readers = {way: _reader(bundle, way, threads) for way in ways()}
    for way, reader in readers.items():
        if not isinstance(reader.read(photo), Reading):
            raise InputError(f"{way}: the photo is refused; its time would mean nothing")
    return interleaved({w: partial(reader.read, photo) for w, reader in readers.items()}, runs)


def _reader(bundle: Pair, way: str, threads: int | None) -> Reader:
    """Without the findings, which are as fast in every way."""
    coarse, fine, decoder = (bundle.open(n, way, threads) for n in READER_NETS)
    names = bundle.open(MARK_READER, way, threads) if MARK_READER in bundle.nets() else None
    return Reader(bundle.int8.info, coarse, fine, decoder, names=names)


def interleaved(work: Mapping[str, Callable[[], Any]], runs: int) -> dict[str, dict[str, float]]:
    """Each way once a round, after one round to warm up."""
    took: dict[str, list[tuple[float, float]]] = {way: [] for way in work}
    for turn in range(runs + 1):
        for way, run in work.items():
            wall, own = time.perf_counter(), time.process_time()
            run()
            if turn:
                took[way].append((time.perf_counter() - wall, time.process_time() - own))
    out = {}
    for way, times in took.items():
        wall_s, own_s = np.array(times).T
        out[way] = {"ms": 1e3 * float(np.median(wall_s)), "least_ms": 1e3 * float(wall_s.min()),
                    "cpu_ms": 1e3 * float(np.median(own_s))}  # fmt: skip
    for way, found in out.items():
        base = out[way.replace("int8", "fp32")]
        found["faster"] = base["ms"] / found["ms"]
        found["cpu_faster"] = base["cpu_ms"] / found["cpu_ms"]
    best = min((w for w in out if w.endswith("fp32")), key=lambda w: out[w]["cpu_ms"])
    fastest = min((w for w in out if w.endswith("int8")), key=lambda w: out[w]["cpu_ms"])
    out["best int8 against best fp32"] = {
        "faster": out[best]["ms"] / out[fastest]["ms"],
        "cpu_faster": out[best]["cpu_ms"] / out[fastest]["cpu_ms"],
    }
    return out


def accuracy(bundle: Pair, photos: Path) -> dict[str, dict[str, Any]]:
    """The reader's figures on photos with known signals, in float and on 8 bits."""
    return {w: figures(list(paired_rows(_reader(bundle, w, None), photos, None))) for w in ("ort fp32", "ort int8")}


def table(found: Mapping[str, Mapping[str, Mapping[str, float]]], head: str) -> str:
    """A line a net and way."""
    lines = [f"{head:16s} {'':14s} {'ms':>8} {'least':>8} {'cpu ms':>8} {'faster':>7} {'cpu':>6}"]
    for net, by_way in found.items():
        for way, f in by_way.items():
            if "ms" in f:
                lines.append(f"{net:16s} {way:14s} {f['ms']:8.1f} {f['least_ms']:8.1f} {f['cpu_ms']:8.1f} "
                             f"{f['faster']:7.2f} {f['cpu_faster']:6.2f}")  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    app()
