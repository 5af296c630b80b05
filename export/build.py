"""Nets to a bundle: exported, calibrated, up the ladder, and only then written."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto

from calibration.choose import calibrate
from calibration.ranges import fed, session
from ecg.bundle import DataSource, FileSpec, ModelBundle, NetSpec, file_spec, write_bundle
from export import ladder
from export.jobs import NetJob

OPSET = 18
EIGHT_BIT = ("ort", "trt")
LADDER_FEEDS = 8


@dataclass(frozen=True)
class BundleText:
    """What a bundle says of itself beside its nets; ``extras`` and ``files`` (paths by name) go in as they are."""

    version: str
    training_data: tuple[DataSource, ...]
    notes: str = ""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)


def build_bundle(
    jobs: Iterable[Callable[[], NetJob]],
    out: Path,
    text: BundleText,
    *,
    int8: bool,
    keep_fp32: bool = False,
    base: ModelBundle | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> ModelBundle:
    """Export every net and write the bundle; raises ``BundleError`` at the first rung that doesn't hold.

    ``int8``: the 8-bit files instead of the float one, ``keep_fp32``: beside it.  ``base``: nets that no job makes come
    from this bundle as they are.  Nothing in ``out`` changes before every net has passed.
    """
    with tempfile.TemporaryDirectory() as folder:
        specs = {}
        for make in jobs:
            job = make()
            say(f"{job.name}:")
            specs[job.name] = build_net(job, Path(folder), int8=int8, keep_fp32=keep_fp32, say=say)
        if base:
            specs = _completed(specs, base, Path(folder))
        extra = {name: Path(folder) / path.name for name, path in text.files.items()}
        for name, path in text.files.items():
            extra[name].write_bytes(path.read_bytes())
        out.mkdir(parents=True, exist_ok=True)
        for old in out.glob("*.onnx"):
            old.unlink()
        for made in sorted(Path(folder).iterdir()):
            (out / made.name).write_bytes(made.read_bytes())
    files = {name: file_spec(out / path.name) for name, path in extra.items()}
    return write_bundle(
        out, name="ecgscan", version=text.version, nets=specs, training_data=text.training_data, notes=text.notes,
        thresholds=text.thresholds, extras=text.extras, files=files,
    )  # fmt: skip


def _completed(specs: dict[str, NetSpec], base: ModelBundle, folder: Path) -> dict[str, NetSpec]:
    """The nets with those of ``base`` that they lack, whose files are copied into ``folder``."""
    for name, spec in base.nets.items():
        for file in spec.files.values() if name not in specs else ():
            (folder / file.file).write_bytes((base.info.path / file.file).read_bytes())
    return {**base.nets, **specs}


def build_net(
    job: NetJob, folder: Path, *, int8: bool, keep_fp32: bool = False, say: Callable[[str], None] = lambda line: None
) -> NetSpec:
    """One net's files in ``folder``, and their entry."""
    plain = to_onnx(job, folder / f"{job.name}.onnx")
    ladder.climb(job, "onnx", plain)
    files: dict[str, FileSpec] = {}
    chosen: dict[str, Any] = {}
    calibrated = int8 and job.calibration is not None and job.figures is not None
    if int8 and not calibrated:
        say("  stays in float: nothing to calibrate it with was named (--shards, --patches, --starts, --readings)")
    if calibrated and job.calibration and job.figures:
        feeds = list(job.calibration())
        made = calibrate(plain, feeds, lambda m: _measured(job, m), job.limits, say=say)
        for kind in EIGHT_BIT:
            ladder.climb(job, kind, made.models[kind], feeds[:: max(1, len(feeds) // LADDER_FEEDS)])
        ladder.task(job, made.figures)
        chosen = {"samples": sum(len(next(iter(f.values()))) for f in feeds), **made.as_json()}
        say("  " + "; ".join(_line(job, kind, made.figures) for kind in EIGHT_BIT))
        for kind in EIGHT_BIT:
            file = folder / f"{job.name}.{kind}.onnx"
            onnx.save(made.models[kind], str(file))
            files[kind] = file_spec(file, "int8")
    if not calibrated or keep_fp32:
        files["onnx"] = file_spec(folder / f"{job.name}.onnx", "fp32")
    else:
        (folder / f"{job.name}.onnx").unlink()
    count = sum(p.numel() for p in job.net.parameters())
    return NetSpec(files, tuple(job.inputs), tuple(job.outputs), count, dict(job.settings), dict(job.sizes), chosen)


def to_onnx(job: NetJob, file: Path) -> ModelProto:
    """Trace the net with its free sizes and write it."""
    example = tuple(torch.from_numpy(np.asarray(job.example[t.name])) for t in job.inputs)
    free = tuple(_dims(job, t.shape) for t in job.inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        torch.onnx.export(job.net, example, str(file), dynamo=True, opset_version=OPSET, external_data=False,
                          verbose=False, input_names=[t.name for t in job.inputs],
                          output_names=[t.name for t in job.outputs],
                          dynamic_shapes=free if any(free) else None)  # fmt: skip
    model = without_traces(onnx.load(str(file)))
    onnx.save(model, str(file))
    return model


def without_traces(model: ModelProto) -> ModelProto:
    """The model without what the exporter notes of its own run: stack traces, with paths of the machine."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return model


def _dims(job: NetJob, shape: Sequence[int | str]) -> dict[int, Any]:
    out: dict[int, Any] = {}
    for axis, size in enumerate(shape):
        if isinstance(size, str):
            step, (low, _, high) = job.multiple.get(size, 1), job.sizes[size]
            name = f"{size}_{step}" if step > 1 else size
            dim = torch.export.Dim(name, min=max(1, low // step), max=high // step)
            out[axis] = step * dim if step > 1 else dim
    return out


def _measured(job: NetJob, model: ModelProto) -> dict[str, float]:
    run = session(model)
    assert job.figures is not None
    return job.figures(lambda feed: run.run([t.name for t in job.outputs], fed(run, feed)))


def _line(job: NetJob, kind: str, figures: Mapping[str, Mapping[str, float]]) -> str:
    told = [f"{limit.figure} {figures[kind][limit.figure]:.4g} (float {figures['fp32'][limit.figure]:.4g})"
            for limit in job.limits]  # fmt: skip
    return f"{kind} " + ", ".join(told)
