"""Training of the page path from a teacher's pool of pages; a run that was cut off goes on."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from distill.checkpoints import save_whole
from distill.precision import training_precision
from distill.students import ROWS, Lesson, LossWeights, PageStudent, StudentConfig, student_loss
from ecg.errors import InputError
from ecg.findings import finding_labels
from ecg.page_input import ROW_PX
from teacher.losses.unit import Temperature

CHECKPOINT: Final = "page.ckpt"
STATE: Final = "page.state"  # what a run that was cut off goes on from
HELD_OUT: Final = (8, 9, 10)  # of PTB-XL's folds: 8 validates, 9 and 10 test
CONTRASTS: Final = ("image_signal", "image_text", "gramian")


@dataclass(frozen=True)
class StudentTrainConfig:
    """``pages``: a teacher's pool of pages; ``targets``: its embeddings; training ends after ``minutes`` or ``steps``.

    A page's target is the teacher's embedding of the page with ``signal_share`` of that of its whole signal in it;
    ``save_s``: seconds between two states.
    """

    pages: Path
    targets: Path
    out: Path
    student: StudentConfig = field(default_factory=StudentConfig)
    weights: LossWeights = field(default_factory=LossWeights)
    signal_share: float = 0.5
    minutes: float = 30.0
    steps: int = 0
    batch: int = 24
    lr: float = 1.5e-3
    weight_decay: float = 0.05
    ema: float = 0.995
    log_every: int = 20
    save_s: float = 60.0
    seed: int = 0


# ---------------------------------------------------------------------------------------------------------------- pages


class Lessons:
    """Pages of the pool whose records have targets and may train, with what they should say."""

    def __init__(self, config: StudentTrainConfig) -> None:
        from teacher.embed import load_targets

        self.targets = t = load_targets(config.targets)
        self.row = {name: k for k, name in enumerate(t.record.tolist()) if t.fold[k] not in HELD_OUT}
        self.signal = torch.from_numpy(t.signal)
        image = F.normalize(torch.from_numpy(t.image.mean(axis=1)), dim=1)
        self.image = F.normalize((1 - config.signal_share) * image + config.signal_share * self.signal, dim=1)
        self.text = torch.from_numpy(text_of(t.codes, t.superclasses, t.concept.tolist(), t.concept_vector))
        labels = [finding_labels(c, s) for c, s in zip(t.codes, t.superclasses, strict=True)]
        self.target = torch.tensor([[float(bool(v)) for v in r] for r in labels])
        self.known = torch.tensor([[float(v is not None) for v in r] for r in labels])
        groups: dict[str, int] = {}
        self.group = torch.tensor([groups.setdefault(" ".join(sorted(c)), len(groups)) for c in t.codes])
        self.parts = sorted(config.pages.glob("part-*.npz"))
        if not self.parts or not self.row:
            raise InputError(f"{config.pages}: no pages of records that {config.targets} tells about")

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[tuple[Tensor, Lesson]]:
        """Random batches without end; parts are read one after another, in another order each time."""
        from teacher.pool import read_part

        pages: list[NDArray[np.uint8]] = []
        rows: list[int] = []
        found = False
        while True:
            for k in rng.permutation(len(self.parts)):
                for record, page in part_pages(read_part(self.parts[int(k)])):
                    if record in self.row:
                        found = True
                        pages.append(page)
                        rows.append(self.row[record])
                if len(rows) >= 4 * size:
                    order = rng.permutation(len(rows))[:size]
                    yield self._batch([pages[i] for i in order], [rows[i] for i in order], rng)
                    kept = sorted(set(range(len(rows))) - set(order.tolist()))
                    pages, rows = [pages[i] for i in kept], [rows[i] for i in kept]
            if not found:
                raise InputError("none of the pool's pages shows a record that the targets tell about")

    def _batch(
        self, pages: list[NDArray[np.uint8]], rows: list[int], rng: np.random.Generator
    ) -> tuple[Tensor, Lesson]:
        x = torch.from_numpy(np.stack([shifted(p, rng) for p in pages]))[:, None].float()
        k = torch.tensor(rows)
        lesson = Lesson(self.image[k], self.signal[k], self.text[k], self.group[k], self.target[k], self.known[k])
        return x, lesson


def text_of(
    codes: tuple[tuple[str, ...], ...], classes: tuple[tuple[str, ...], ...], concepts: list[str],
    vectors: NDArray[np.float32],
) -> NDArray[np.float32]:  # fmt: skip
    """Each record's text (n, d): the unit mean of what is said of it; superclasses where no code is known."""
    index = {c: k for k, c in enumerate(concepts)}
    out = np.zeros((len(codes), vectors.shape[1]), np.float32)
    for row, said, coarse in zip(out, codes, classes, strict=True):
        k = [index[c] for c in said if c in index] or [index[c] for c in coarse if c in index]
        if k:
            row[:] = vectors[k].mean(axis=0)
    return np.asarray(out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6), np.float32)


def part_pages(part: dict[str, NDArray[Any]]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Record and page (768, 768) of a part of the teacher's pool."""
    import cv2

    first = 0
    for record, last in zip(part["record"].tolist(), part["jpeg_end"].tolist(), strict=True):
        page = cv2.imdecode(part["jpeg"][first:last], cv2.IMREAD_GRAYSCALE)
        first = last
        yield str(record), np.asarray(page, np.uint8)


def shifted(page: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The page with its rows moved by a few pixels in time and height, and some rows left out."""
    rows = page.reshape(ROWS, ROW_PX, -1)
    rows = np.roll(rows, (int(rng.integers(-3, 4)), int(rng.integers(-24, 25))), axis=(1, 2))
    if rng.random() < 0.15:
        rows = rows.copy()
        rows[rng.integers(ROWS, size=int(rng.integers(1, 4)))] = 0
    return np.ascontiguousarray(rows.reshape(page.shape))


# ------------------------------------------------------------------------------------------------------------- training


class _Run:
    """One student's training between two states."""

    def __init__(self, config: StudentTrainConfig) -> None:
        self.config, self.step, self.spent_s = config, 0, 0.0
        torch.manual_seed(config.seed)
        self.net = PageStudent(config.student).to(memory_format=torch.channels_last)
        self.taus = nn.ModuleDict({k: Temperature() for k in CONTRASTS})
        average = torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema)
        self.mean = torch.optim.swa_utils.AveragedModel(self.net, multi_avg_fn=average, use_buffers=True)
        parameters = [*self.net.parameters(), *self.taus.parameters()]
        self.optimiser = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)

    def _parts(self) -> dict[str, Any]:
        return {"net": self.net, "taus": self.taus, "mean": self.mean, "optimiser": self.optimiser}

    def save(self) -> None:
        """Write the state, whole or not at all."""
        state = {k: v.state_dict() for k, v in self._parts().items()}
        state |= {"step": self.step, "spent_s": self.spent_s, "student": asdict(self.config.student)}
        save_whole(state, self.config.out / STATE)

    def go_on(self) -> bool:
        """Take up the state that is there; InputError where it is another student's."""
        path = self.config.out / STATE
        if not path.exists():
            return False
        state = torch.load(path, weights_only=True)
        if state["student"] != asdict(self.config.student):
            raise InputError(f"{path}: is of a student {state['student']['name']!r}; choose another folder for --out")
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.step, self.spent_s = state["step"], state["spent_s"]
        return True

    def done(self) -> float:
        """Share of the schedule."""
        c = self.config
        return self.step / c.steps if c.steps else self.spent_s / (60 * c.minutes)

    def learn(self, pages: Tensor, lesson: Lesson) -> dict[str, Tensor]:
        """One step; returns the loss's terms."""
        for group in self.optimiser.param_groups:
            rise = min(1.0, (self.step + 1) / 50)
            group["lr"] = self.config.lr * rise * (0.01 + 0.495 * (1 + math.cos(math.pi * min(1.0, self.done()))))
        with training_precision():
            logits, embedding = self.net(pages.contiguous(memory_format=torch.channels_last))
        terms = student_loss(logits, embedding, lesson, lambda name: self.taus[name](), self.config.weights)
        self.optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 2.0)
        self.optimiser.step()
        self.mean.update_parameters(self.net)
        self.step += 1
        return terms


def train_student(config: StudentTrainConfig, tell: Callable[[str], None] = print) -> Path:
    """Train a page student, or go on with the one in ``config.out``; writes ``page.ckpt`` (its running average) and
    ``page.jsonl`` there.  Batches after a cut are drawn anew, from the seed and the step."""
    config.out.mkdir(parents=True, exist_ok=True)
    lessons, run = Lessons(config), _Run(config)
    if run.go_on():
        tell(f"going on at step {run.step}")
    rng = np.random.default_rng([config.seed, 3, run.step])
    saved_s = run.spent_s
    with (config.out / "page.jsonl").open("a", encoding="utf-8") as log:
        batches = lessons.batches(config.batch, rng)
        while run.done() < 1:
            start = time.perf_counter()
            terms = run.learn(*next(batches))
            run.spent_s += time.perf_counter() - start
            if run.step % config.log_every == 0:
                said = {"step": run.step, "s": round(run.spent_s, 1)}
                said |= {k: round(float(v.detach()), 4) for k, v in terms.items()}
                log.write(json.dumps(said) + "\n")
                log.flush()
                tell(json.dumps(said))
            if run.spent_s - saved_s > config.save_s:
                run.save()
                saved_s = run.spent_s
    run.save()
    state = {"config": asdict(config.student), "net": run.mean.module.state_dict(), "step": run.step}
    save_whole(state, config.out / CHECKPOINT)
    return config.out / CHECKPOINT


def load_student(path: Path) -> PageStudent:
    """A trained student in eval mode."""
    state = torch.load(path, weights_only=True)
    net = PageStudent(StudentConfig(**state["config"]))
    net.load_state_dict(state["net"])
    return net.eval()
