"""Trained students as jobs for the bundle: each net with its tensors, calibration inputs and held-out task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from calibration.choose import Limit
from distill import heldout
from distill.mark_train import load_marks
from distill.signal_path import EXAMPLE_SHAPE, load_signal_net
from distill.start_samples import load_starts, start_files
from distill.start_train import load_starts_net, start_figures
from distill.train import load_net
from ecg.bundle import DataSource, TensorSpec
from ecg.errors import BundleError, InputError
from ecg.findings import FINDINGS, SUPERCLASSES, finding_labels
from ecg.geometry import VIEW_PX_PER_MM
from ecg.marks import (
    AREA_CHANNELS,
    COARSE_CHANNELS,
    COARSE_PX,
    END_KINDS,
    FINE_STRIDE,
    GRID_CHANNELS,
    MARK_KINDS,
    PATCH_HEIGHT,
    PATCH_PX_PER_MM,
    PATCH_WIDTH,
    PLACE_CHANNELS,
    READ_KINDS,
    START_BINS,
    START_PX_PER_MM,
    START_SIDE,
    STRIP_CHANNELS,
    STRIP_COLUMNS,
    STRIP_ROWS,
)
from ecg.metrics import auroc
from ecg.readings import Readings, load_readings
from ecg.signal_input import signal_input
from edge_runtime.decoder_windows import LEAST_COLUMNS, MOST_TILES, tiles_columns
from export.jobs import Feed, JobSource, NetJob

TRAINING_DATA: Final = (
    DataSource("ecg.synth: synthetic hearts, pages and photographs", "Apache-2.0", "pages with exact truth"),
    DataSource("PTB-XL 1.0.3, folds 1 to 8, a sample", "CC BY 4.0", "signals printed on synthetic pages"),
    DataSource("PhysioNet/CinC Challenges 2020 and 2021, a sample", "CC BY 4.0", "signals printed on synthetic pages"),
    DataSource("Lobachevsky University Database 1.0.1, a sample", "ODC-By 1.0", "signals printed on synthetic pages"),
)
Patches = tuple[NDArray[np.uint8], NDArray[np.int64]]
COARSEST_STRIDE: Final = 32
HELD_OUT_FOLD: Final = 8  # of readings: the fold that validates the findings' net; 9 tests it


def _rgb(shape: tuple[int | str, ...]) -> TensorSpec:
    return TensorSpec("rgb", shape, "NCHW", channels=("red", "green", "blue"))


def _out(name: str, shape: tuple[int | str, ...], layout: str, channels: tuple[str, ...] = ()) -> TensorSpec:
    return TensorSpec(name, shape, layout, channels=channels)


def _noise(shape: tuple[int, ...]) -> Feed:
    return {"rgb": np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)}


def _samples(what: str, source: JobSource) -> Callable[[], Sequence[Feed]] | None:
    """Inputs out of shards that the training drew from; those that validate are held out."""
    if source.shards is None:
        return None
    drawn_from = heldout.shard_paths(source.shards)[1]
    return lambda: heldout.spread_inputs(what, drawn_from, source.samples)


def _figures(what: str, source: JobSource, batch: int) -> Callable[..., dict[str, float]] | None:
    if source.shards is None:
        return None
    data = list(heldout.batches(what, heldout.shard_paths(source.shards)[0], source.held_out, batch))
    return lambda run: heldout.score(what, run, data)


def coarse_job(source: JobSource) -> NetJob:
    """The finder that sees the thumbnail."""
    shape = (1, 3, COARSE_PX, COARSE_PX)
    return NetJob(
        "finder_coarse", load_net("coarse", _checkpoint(source, "coarse")), _noise(shape), (_rgb(shape),),
        (_out("maps", (1, len(COARSE_CHANNELS), 32, 32), "NCHW", COARSE_CHANNELS),),
        calibration=_samples("coarse", source), figures=_figures("coarse", source, 1),
        limits=(Limit("loss", 0.03, False), Limit("flipped", 0.02, False)),
    )  # fmt: skip


def fine_job(source: JobSource) -> NetJob:
    """The finder that sees the upright view."""
    return NetJob(
        "finder_fine", load_net("fine", _checkpoint(source, "fine")), _noise((1, 3, 416, 512)),
        (_rgb((1, 3, "height", "width")),),
        (_out("grid", (1, 4, "h", "w"), "NCHW", GRID_CHANNELS), _out("area", (1, 2, "h", "w"), "NCHW", AREA_CHANNELS),
         _out("marks", (1, len(MARK_KINDS), "h", "w"), "NCHW", MARK_KINDS),
         _out("place", (1, 6, "h", "w"), "NCHW", PLACE_CHANNELS)),
        settings={"px_per_mm": VIEW_PX_PER_MM, "stride": FINE_STRIDE},
        sizes={"height": (64, 928, 2880), "width": (64, 1216, 2880)},
        multiple={"height": COARSEST_STRIDE, "width": COARSEST_STRIDE},
        calibration=_samples("fine", source), figures=_figures("fine", source, 1),
        limits=(Limit("loss", 0.04, False), Limit("phase_mm_median", 0.01, False),
                # Pulses' sizes, log2: a gain of 5 mm/mV is told by them.
                Limit("size", 0.002, False),
                # At 0.3: the mark reader looks at places from 0.06 on.
                Limit("recall", 0.02)),
    )  # fmt: skip


def strip_job(source: JobSource) -> NetJob:
    """The decoder of strips."""
    return NetJob(
        "decoder", load_net("strip", _checkpoint(source, "strip")),
        _noise((2, len(STRIP_CHANNELS), STRIP_ROWS, STRIP_COLUMNS)),
        (TensorSpec("rgb", ("batch", len(STRIP_CHANNELS), STRIP_ROWS, "columns"), "NCHW", channels=STRIP_CHANNELS),),
        (_out("height", ("batch", STRIP_ROWS // 2, "columns"), "NHW"), _out("presence", ("batch", "columns"), "NW")),
        sizes={"batch": (1, 1, 8), "columns": (LEAST_COLUMNS, tiles_columns(MOST_TILES), tiles_columns(MOST_TILES))},
        multiple={"columns": COARSEST_STRIDE},
        calibration=_samples("strip", source), figures=_figures("strip", source, 6),
        limits=(Limit("db_mean", 0.2), Limit("presence_wrong", 0.005, False)),
    )  # fmt: skip


def findings_job(source: JobSource) -> NetJob:
    """The signal path: twelve decoded leads to findings and an embedding."""
    net = load_signal_net(_checkpoint(source, "findings"))
    example = {"signal": np.random.default_rng(0).normal(0, 1, EXAMPLE_SHAPE).astype(np.float32)}
    with torch.no_grad():
        logits, embedding = net(torch.from_numpy(example["signal"]))
    calibration = figures = None
    if source.readings is not None:
        readings = load_readings(source.readings)
        mv, target = readings.mv[readings.read], _labels(readings)
        held = readings.fold[readings.read] == HELD_OUT_FOLD
        if not held.any():  # sources without folds
            held = np.arange(len(mv)) % 4 == 0
        drawn = signal_input(mv[~held][:: max(1, int((~held).sum()) // (4 * source.samples))])
        calibration = partial(_singly, "signal", drawn)
        few = np.flatnonzero(held)[:: max(1, int(held.sum()) // 200)]
        figures = _findings_figures(net, signal_input(mv[few]), target[few])
    return NetJob(
        "findings", net, example, (TensorSpec("signal", EXAMPLE_SHAPE, "NCW"),),
        (TensorSpec("logits", tuple(logits.shape), "NC", channels=FINDINGS),
         TensorSpec("embedding", tuple(embedding.shape), "NC")),
        calibration=calibration, figures=figures,
        limits=(Limit("macro_auroc", 0.005), Limit("cosine", 0.02)),
    )  # fmt: skip


def marks_job(source: JobSource) -> NetJob:
    """The reader of names and texts."""
    net = load_marks(_checkpoint(source, "marks"))
    size = (PATCH_HEIGHT, PATCH_WIDTH)
    calibration = figures = None
    if source.patches is not None:
        drawn, held = mark_patches(source.patches, 8 * source.samples)
        calibration = partial(_singly, "patch", drawn[0][::8])
        figures = partial(_marks_figures, held)
    return NetJob(
        "mark_reader", net, _patches((4, 1, *size)),
        (TensorSpec("patch", ("batch", 1, *size), "NCHW", channels=("brightest",)),),
        (TensorSpec("kind", ("batch", len(READ_KINDS)), "NC", channels=READ_KINDS),),
        settings={"px_per_mm": PATCH_PX_PER_MM}, sizes={"batch": (1, 32, 96)},
        calibration=calibration, figures=figures, limits=(Limit("right", 0.01), Limit("loss", 0.03, False)),
    )  # fmt: skip


def _marks_figures(held: Patches, run: Callable[[Feed], Sequence[NDArray[np.floating]]]) -> dict[str, float]:
    """Cross-entropy and the share read right."""
    logits = np.concatenate([run({"patch": held[0][k : k + 32]})[0] for k in range(0, len(held[0]), 32)])
    logits = np.asarray(logits, np.float64) - logits.max(axis=1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return {"loss": -float(log_p[np.arange(len(log_p)), held[1]].mean()),
            "right": float((logits.argmax(axis=1) == held[1]).mean())}  # fmt: skip


def mark_patches(folder: Path, count: int) -> tuple[Patches, Patches]:
    """``count`` patches (n, 1, 40, 224) with their kinds that training drew, and as many that were held out from it:
    it holds out the first files' ones."""
    paths = sorted(folder.glob("patches-*.npz"))
    if len(paths) < 2:
        raise InputError(f"{folder}: has {len(paths)} files of patches; run ecgscan-distill render-marks first")
    out = []
    for path in (paths[-1], paths[0]):
        with np.load(path) as file:
            step = max(1, len(file["kind"]) // count)
            out.append((file["patch"][::step, None][:count], file["kind"][::step][:count].astype(np.int64)))
    return out[0], out[1]


def starts_job(source: JobSource) -> NetJob:
    """The reader of where traces start and end."""
    net = load_starts_net(_checkpoint(source, "starts"))
    calibration = figures = None
    if source.starts is not None:
        files = start_files(source.starts)
        drawn, held = load_starts(files[-1:]), load_starts(files[:1])
        inputs = np.ascontiguousarray(held[0].transpose(0, 3, 1, 2))
        calibration = partial(_singly, "patch", drawn[0].transpose(0, 3, 1, 2)[:: max(1, len(drawn[1]) // 64)])

        def figures(run: Callable[[Feed], Sequence[NDArray[np.floating]]]) -> dict[str, float]:
            parts = [run({"patch": inputs[k : k + 32]})[0] for k in range(0, len(inputs), 32)]
            return start_figures(np.concatenate(parts), *held[1:])

    return NetJob(
        "start_reader", net, _patches((4, 3, START_SIDE, START_SIDE)),
        (TensorSpec("patch", ("batch", 3, START_SIDE, START_SIDE), "NCHW", channels=("red", "green", "blue")),),
        (TensorSpec("place", ("batch", len(END_KINDS), START_BINS + 1), "NCW", channels=END_KINDS),),
        settings={"px_per_mm_x": START_PX_PER_MM[0], "px_per_mm_y": START_PX_PER_MM[1]}, sizes={"batch": (1, 16, 64)},
        calibration=calibration, figures=figures,
        limits=(Limit("loss", 0.05, False), Limit("start_off_mm", 0.001, False)),
    )  # fmt: skip


def _patches(shape: tuple[int, ...]) -> Feed:
    return {"patch": np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)}


def _labels(readings: Readings) -> NDArray[np.floating]:
    """Findings of the readings that weren't refused (n, findings): 0, 1, NaN where the source doesn't say."""
    rows = [finding_labels(readings.codes[k], readings.superclasses[k]) for k in readings.where(readings.read)]
    return np.array([[np.nan if v is None else float(v) for v in row] for row in rows])


def _singly(name: str, x: NDArray[np.generic]) -> list[Feed]:
    """One input a feed: the net's batch is one."""
    return [{name: x[k : k + 1]} for k in range(len(x))]


def _findings_figures(
    net: nn.Module, x: NDArray[np.floating], target: NDArray[np.floating]
) -> Callable[..., dict[str, float]]:
    """Cross-entropy and macro AUROC of the superclasses, and the embeddings' mean cosine with the net's in float."""
    with torch.no_grad():
        reference = np.concatenate([net(torch.from_numpy(v[None]))[1].numpy() for v in x])
    true = target[:, : len(SUPERCLASSES)]

    def figures(run: Callable[[Feed], Sequence[NDArray[np.floating]]]) -> dict[str, float]:
        outs = [run({"signal": v[None]}) for v in x]
        logits, embedding = (np.concatenate([np.asarray(o[k], np.float64) for o in outs]) for k in (0, 1))
        some = logits[:, : true.shape[1]]
        entropy = np.logaddexp(0, some) - np.where(np.isnan(true), 0, true) * some
        each = [auroc(some[~np.isnan(t), k], t[~np.isnan(t)] > 0.5) for k, t in enumerate(true.T)]
        lengths = np.linalg.norm(embedding, axis=1) * np.linalg.norm(reference, axis=1)
        return {"loss": float(entropy[~np.isnan(true)].mean()), "macro_auroc": float(np.nanmean(each)),
                "cosine": float(((embedding * reference).sum(axis=1) / np.maximum(lengths, 1e-9)).mean())}  # fmt: skip

    return figures


# Every net of a bundle, in the order of reading; a new net is one more function here.
JOBS: Final = {
    "coarse": coarse_job, "fine": fine_job, "marks": marks_job, "strip": strip_job, "starts": starts_job,
    "findings": findings_job,
}  # fmt: skip
OPTIONAL: Final = ("marks", "starts", "findings")


def jobs(source: JobSource, *, based: bool = False) -> list[Callable[[], NetJob]]:
    """The run's nets, each loaded when it is called for; raises ``BundleError`` where a checkpoint is missing.

    ``OPTIONAL`` ones are left out where the run has none, with ``based`` any, but not all.
    """
    there = [name for name in JOBS if _checkpoint(source, name).exists()]
    missing = [f"{name}.ckpt" for name in JOBS if name not in (*OPTIONAL, *there)]
    if based and not there:
        raise BundleError(f"{source.run}: has none of {', '.join(JOBS)} as .ckpt; name another run with --run")
    if missing and not based:
        raise BundleError(f"{source.run}: no {', '.join(missing)}; train with ecgscan-distill --part finder and "
                          "--part decoder")  # fmt: skip
    return [partial(JOBS[name], source) for name in there]


def _checkpoint(source: JobSource, name: str) -> Path:
    return source.run / f"{name}.ckpt"
