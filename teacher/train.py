"""``ecgscan-teacher train``: pages are rendered, reports embedded, the signal encoder trained, then the teacher.

Everything lies in the run's folder and is made once: what a crash left is gone on from, to the same losses.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from numpy.typing import NDArray
from torch import Tensor

from ecg.errors import InputError
from ecg.files import write_npz
from teacher.checkpoint import CHECKPOINT, load_checkpoint, read_tensors, save_checkpoint, write_tensors
from teacher.config import TeacherConfig, load_config, save_config
from teacher.encoders.image import check_weights
from teacher.encoders.kernels import KernelSignalEncoder
from teacher.encoders.protocols import SignalEncoder, TextEncoder
from teacher.model import Batch, Teacher, build_signal_encoder, build_text_encoder
from teacher.objective import terms, total
from teacher.pool import Pool, render_parts
from teacher.pretrain import TrainingError, pretrain_signal, warm_cosine
from teacher.report import Report, forget_after
from teacher.samples import Clocks, Source
from teacher.tars import ShardPool, holds_shards

Numbers = NDArray[np.int64]
CONFIG, PAGES, TEXT, SIGNAL, TEACHER = "config.json", "pages", "text.npz", "signal.safetensors", "teacher.safetensors"
HEADS = "heads.safetensors"


@dataclass(frozen=True)
class Task:
    """One call: which run, from where, how far (``max_steps`` stops early; the schedule stays)."""

    config: TeacherConfig
    out: Path
    resume: bool = False
    max_steps: int | None = None
    pages_from: Path | None = None  # rendered pages that other runs share; the run's own otherwise
    start_from: Path | None = None  # a folder with another run's signal encoder and sentences, to be copied


def train(task: Task) -> Path:
    """Train, or go on; returns the finished teacher's file, or the checkpoint's where ``max_steps`` stopped it."""
    config = task.config
    kwargs = [DistributedDataParallelKwargs(find_unused_parameters=_some_idle(config))]
    # What is missing ends the command here, before a folder is made.
    check_weights(config.image)
    signal = build_signal_encoder(config.signal)
    text = build_text_encoder(config.text)
    Source(config)
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),  # accelerate joins CPU processes only if it is told
        mixed_precision=resolved(config.optim.precision),
        kwargs_handlers=kwargs,
    )
    main = accelerator.is_main_process
    if main:
        _open_run(task)
    accelerator.wait_for_everyone()
    with Report(task.out, speaks=main) as report:
        signal, pool = _prepared(task, accelerator, report, signal, text)
        torch.manual_seed(config.optim.draw_seed)
        net = Teacher(config, signal, text.width)
        if _own_signal(config):
            net.start_from(read_tensors(task.out / HEADS)[0], signal)
        loop = _Loop(task, accelerator, net, pool, report)
        return loop.run()


def resolved(precision: str) -> str:
    """ "auto" to bf16 where the processor has instructions for it, else to no; others as they are."""
    if precision != "auto":
        return precision
    quick = torch.accelerator.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bf16" if quick else "no"


def _some_idle(config: TeacherConfig) -> bool:
    """Whether some weights get no gradient: those of embeddings without a contrast, or a reader that nothing asks."""
    losses = config.losses
    contrasts = losses.image_text or losses.image_signal or losses.gramian
    return not contrasts or (config.image.kind == "rows" and not (losses.reconstruction or losses.soft_lead))


def _open_run(task: Task) -> None:
    """The run's folder with its configuration; InputError where it holds another run."""
    saved = task.out / CONFIG
    if task.resume:
        if _essence(load_config(saved)) != _essence(task.config):
            raise InputError(f"{saved}: says otherwise than this call; leave the options out to go on with the run")
    elif saved.exists():
        raise InputError(f"{task.out}: holds a run; add --resume to go on, or choose another --out")
    else:
        task.out.mkdir(parents=True, exist_ok=True)
        for name in (SIGNAL, HEADS, TEXT):
            if task.start_from is not None and (task.start_from / name).exists():
                shutil.copy(task.start_from / name, task.out / name)
        save_config(task.config, saved)


def _essence(config: TeacherConfig) -> TeacherConfig:
    """What a resumed run may not change: all but the number of rendering processes."""
    return replace(config, data=replace(config.data, workers=1))


# ---------------------------------------------------------------------------------------------------- before the loop


def _prepared(
    task: Task, accelerator: Accelerator, report: Report, signal: SignalEncoder, text: TextEncoder
) -> tuple[SignalEncoder, Pool]:
    """The trained signal encoder and the pages with their sentences: made by the main process, read by all."""
    config, main = task.config, accelerator.is_main_process
    folder = task.out / PAGES
    if main and task.pages_from is not None and not folder.exists():
        folder.symlink_to(task.pages_from.resolve(), target_is_directory=True)
    accelerator.wait_for_everyone()
    shards = holds_shards(folder)
    pool = ShardPool(folder, config) if shards else Pool(folder, config.data.pages, config.optim.draw_seed)
    if main:
        clocks = Clocks(signal.fs_hz, signal.n_samples, config.decoder.fs_hz, config.decoder.n_samples)
        if not shards:
            render_parts(folder, config, clocks, lambda done, of: report.progress("pages", done, of))
        if not (task.out / TEXT).exists():
            sentences = pool.sentences()
            report.note(f"embedding {len(sentences)} sentences")
            write_npz(task.out / TEXT, {"sentence": np.array(sentences), "row": text.embed(sentences).numpy()})
    accelerator.wait_for_everyone()
    table = _read_text(task.out / TEXT)
    pool.text = lambda said: torch.stack([table[s] for s in said])
    if _own_signal(config):
        if main and not ((task.out / SIGNAL).exists() and (task.out / HEADS).exists()):
            pretrain_signal(config, text, task.out / SIGNAL, task.out / HEADS, report)
        accelerator.wait_for_everyone()
        signal = KernelSignalEncoder.load(str(task.out / SIGNAL), config.signal.width, config.signal.kernels)
    return signal, pool


def _own_signal(config: TeacherConfig) -> bool:
    """Whether the run trains its signal encoder itself."""
    return config.signal.kind == "kernels" and not config.signal.weights


def _read_text(path: Path) -> dict[str, Tensor]:
    """Each sentence's embedding."""
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        return dict(zip(file["sentence"].tolist(), torch.from_numpy(file["row"]), strict=True))


# ------------------------------------------------------------------------------------------------------------ the loop


def _groups(net: Teacher, config: TeacherConfig) -> list[dict[str, Any]]:
    """Trainable parameters, by weight decay and by their share of the learning rate."""
    started = ("image.layer.", "image_projection.") if config.image.kind == "rows" and _own_signal(config) else ()
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, p in net.named_parameters():
        if p.requires_grad:
            groups.setdefault((p.ndim > 1, bool(started) and name.startswith(started)), []).append(p)
    optim = config.optim
    return [
        {"params": params, "weight_decay": optim.weight_decay if decays else 0.0,
         "share": optim.started_share if late else 1.0}
        for (decays, late), params in groups.items()
    ]  # fmt: skip


class _Loop:
    """The teacher's steps."""

    def __init__(self, task: Task, accelerator: Accelerator, net: Teacher, pool: Pool, report: Report) -> None:
        self.task, self.config, self.accelerator, self.pool, self.report = task, task.config, accelerator, pool, report
        optim = self.config.optim
        optimiser = torch.optim.AdamW(_groups(net, self.config), lr=optim.lr)
        self.net: Teacher = net.to(accelerator.device)
        self.step = 0
        self.path = task.out / CHECKPOINT
        if task.resume and self.path.exists():
            self.step = load_checkpoint(self.path, self.net, optimiser)
        self.optimiser = optimiser
        self.wrapped, self.stepper = accelerator.prepare(self.net, optimiser)
        if accelerator.is_main_process:
            forget_after(task.out / "train.jsonl", self.step)

    def run(self) -> Path:
        """All steps that are left."""
        optim, world = self.config.optim, self.accelerator.num_processes
        last = min(optim.steps, self.task.max_steps if self.task.max_steps is not None else optim.steps)
        micro = optim.accumulate
        batches = self.pool.numbers((last - self.step) * micro, optim.batch * world, self.step * micro)
        self.wrapped.train()
        while self.step < last:
            start = time.perf_counter()
            values = self._one(batches)
            self.step += 1
            values["images_per_s"] = optim.batch * world * micro / (time.perf_counter() - start)
            if self.step % optim.log_every == 0 or self.step == last:
                self.report.log("train.jsonl", {k: round(v, 6) for k, v in values.items()}, self.step)
            self.report.progress("teacher", self.step, optim.steps, f"loss {values['loss']:.3f}")
            if self.step % optim.save_every == 0 or self.step == last:
                self._save()
        return self._finish()

    def _one(self, batches: Iterator[Numbers]) -> dict[str, float]:
        """One optimiser step; its terms, averaged over processes and micro-batches."""
        optim, accelerator = self.config.optim, self.accelerator
        rate = optim.lr * warm_cosine(self.step, optim.steps, optim.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        sums: dict[str, float] = {}
        for micro in range(optim.accumulate):
            numbers = next(batches)
            mine = numbers[accelerator.process_index * optim.batch :][: optim.batch]
            # Dropout's draws follow from the step alone, so that a resumed run makes the same ones.
            torch.manual_seed((optim.draw_seed * 1_000_003 + self.step * optim.accumulate + micro) * 1009
                              + accelerator.process_index)  # fmt: skip
            batch = self.pool.batch(mine).to(accelerator.device)
            if micro < optim.accumulate - 1:
                with accelerator.no_sync(self.wrapped):
                    found = self._backward(batch, mine)
            else:
                found = self._backward(batch, mine)
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + value / optim.accumulate
        accelerator.clip_grad_norm_([p for p in self.net.parameters() if p.requires_grad], optim.clip_norm)
        self.stepper.step()
        self.stepper.zero_grad()
        return {"lr": rate, **sums}

    def _backward(self, batch: Batch, numbers: Numbers) -> dict[str, float]:
        out = self.wrapped(batch)
        found = terms(out, batch, self.config.losses)
        loss = total(found, self.config.losses)
        stacked = torch.stack([loss.detach(), *(t.detach() for t in found.values())])
        values = self.accelerator.reduce(stacked, reduction="mean").tolist()
        said = dict(zip(("loss", *found), values, strict=True))
        if not np.isfinite(values).all():
            raise TrainingError(f"step {self.step}: not finite: {said}; this process's pages {numbers.tolist()}; "
                                "the last checkpoint is whole, --resume goes on from it")  # fmt: skip
        self.accelerator.backward(loss / self.config.optim.accumulate)
        return said | {k: v.item() for k, v in out.items() if k.startswith("tau:")}

    def _save(self) -> None:
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            save_checkpoint(self.path, self.net, self.optimiser, self.step)

    def _finish(self) -> Path:
        if self.step < self.config.optim.steps:
            self.report.note(f"stopped after step {self.step} of {self.config.optim.steps}; --resume goes on")
            return self.path
        done = self.task.out / TEACHER
        if self.accelerator.is_main_process:
            write_tensors(done, self.net.saved_state(), step=str(self.step))
        self.accelerator.wait_for_everyone()
        return done


def load_teacher(run: Path) -> Teacher:
    """A finished run's teacher, in eval mode; InputError where the run isn't finished."""
    config = load_config(run / CONFIG)
    if not (run / TEACHER).exists():
        raise InputError(f"{run}: has no finished teacher; run ecgscan-teacher train --out {run} --resume")
    if config.signal.kind == "kernels":
        signal: SignalEncoder = KernelSignalEncoder(config.signal.width, config.signal.kernels)
    else:
        signal = build_signal_encoder(config.signal)
    width = len(next(iter(_read_text(run / TEXT).values())))
    net = Teacher(config, signal, width)
    net.load_saved(read_tensors(run / TEACHER)[0])
    return net.eval()
