"""The page path: students from timm that see the page's twelve rows of ink, distilled from the teacher.

A student learns from ``targets.npz`` (``ecgscan-teacher embed``): the teacher's embeddings of a record's pages, the
frozen signal and text embeddings, and the findings of the training folds.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ecg.errors import InputError
from ecg.findings import FINDINGS, finding_labels
from ecg.page_input import PAGE_WIDTH_PX, ROW_PX
from teacher.losses.gramian import gramian
from teacher.losses.infonce import infonce, positives
from teacher.losses.unit import Temperature

# Students by the name of --student; any other name is taken as timm's own.
STUDENTS: Final = {
    "mobilevit": "mobilevitv2_050",
    "mobilenetv4": "mobilenetv4_conv_small",
    "repvit": "repvit_m0_9",
}
ROWS: Final = 12


@dataclass(frozen=True)
class StudentConfig:
    """``name``: a key of ``STUDENTS`` or a timm model; ``folded``: the twelve rows are channels of a (64, 768) picture
    instead of one (768, 768) picture; ``embedding``: the width of the teacher's space."""

    name: str = "mobilevit"
    folded: bool = True
    embedding: int = 256
    findings: int = len(FINDINGS)
    dropout: float = 0.2


class PageStudent(nn.Module):
    """``ecg.page_input`` pages (B, 1, 768, 768), 0 to 255, to logits (B, findings) and an embedding (B, embedding)."""

    def __init__(self, config: StudentConfig = StudentConfig()) -> None:
        super().__init__()
        import timm

        self.config = config
        name = STUDENTS.get(config.name, config.name)
        if not timm.is_model(name):
            raise InputError(f"--student {config.name}: timm has no model {name!r}; give one of {', '.join(STUDENTS)}")
        self.body = timm.create_model(name, pretrained=False, in_chans=ROWS if config.folded else 1, num_classes=0)
        self.body.eval()
        with torch.no_grad():
            width = int(self.body(self.shaped(torch.zeros(1, 1, PAGE_WIDTH_PX, PAGE_WIDTH_PX))).shape[1])
        self.body.train()
        self.drop = nn.Dropout(config.dropout)
        self.findings = nn.Linear(width, config.findings)
        self.embed = nn.Linear(width, config.embedding)

    def shaped(self, pages: Tensor) -> Tensor:
        """Pages as the body takes them, 0 to 1."""
        x = pages / 255.0
        return x.reshape(x.shape[0], ROWS, ROW_PX, x.shape[-1]) if self.config.folded else x

    def forward(self, pages: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and embedding, not normalised."""
        f = self.drop(self.body(self.shaped(pages)))
        return self.findings(f), self.embed(f)


# --------------------------------------------------------------------------------------------------------------- losses


@dataclass(frozen=True)
class LossWeights:
    """The weight of each term; 0 switches it off."""

    cosine: float = 1.0
    relational: float = 1.0
    image_signal: float = 0.5
    image_text: float = 0.5
    gramian: float = 0.5
    findings: float = 2.0


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a batch of pages should say: the teacher's unit vectors image, signal, text (B, d); group (B,) int64, equal
    where the text is; target and known (B, findings)."""

    image: Tensor
    signal: Tensor
    text: Tensor
    group: Tensor
    target: Tensor
    known: Tensor


def relational(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean square difference of the two batches' tables of cosines (RKD, arXiv 1904.05068, with cosines)."""
    return F.mse_loss(student @ student.T, teacher @ teacher.T)


def student_loss(
    logits: Tensor, embedding: Tensor, lesson: Lesson, taus: Callable[[str], Tensor], weights: LossWeights
) -> dict[str, Tensor]:
    """Each term by name, weighted."""
    e = F.normalize(embedding.float(), dim=1)
    same = positives(lesson.group)
    each = F.binary_cross_entropy_with_logits(logits.float(), lesson.target, reduction="none") * lesson.known
    terms = {
        "cosine": lambda: (1 - (e * lesson.image).sum(dim=1)).mean(),
        "relational": lambda: relational(e, lesson.image),
        "image_signal": lambda: infonce(e, lesson.signal, taus("image_signal")),
        "image_text": lambda: infonce(e, lesson.text, taus("image_text"), same),
        "gramian": lambda: gramian(e, lesson.signal, lesson.text, taus("gramian")),
        "findings": lambda: each.sum() / lesson.known.sum().clamp(min=1) * 5,
    }
    wanted = asdict(weights)
    return {name: wanted[name] * term() for name, term in terms.items() if wanted[name]}


# ------------------------------------------------------------------------------------------------------------- training


@dataclass(frozen=True)
class StudentTrainConfig:
    """``pages``: a teacher's pool of pages; ``targets``: its embeddings; training ends after ``minutes``."""

    pages: Path
    targets: Path
    out: Path
    student: StudentConfig = StudentConfig()
    weights: LossWeights = LossWeights()
    minutes: float = 30.0
    steps: int = 0
    batch: int = 24
    lr: float = 1.5e-3
    weight_decay: float = 0.05
    ema: float = 0.995
    log_every: int = 20
    seed: int = 0


class Lessons:
    """Pages of the pool whose records have targets and may train, with what they should say."""

    def __init__(self, config: StudentTrainConfig) -> None:
        from teacher.embed import load_targets

        self.targets = t = load_targets(config.targets)
        self.rng = np.random.default_rng([config.seed, 3])
        self.row = {name: k for k, name in enumerate(t.record.tolist()) if t.fold[k] not in (8, 9, 10)}
        self.image = F.normalize(torch.from_numpy(t.image.mean(axis=1)), dim=1)
        self.signal = torch.from_numpy(t.signal)
        self.text = torch.from_numpy(text_of(t.codes, t.superclasses, t.concept.tolist(), t.concept_vector))
        labels = [finding_labels(c, s) for c, s in zip(t.codes, t.superclasses, strict=True)]
        self.target = torch.tensor([[float(bool(v)) for v in r] for r in labels])
        self.known = torch.tensor([[float(v is not None) for v in r] for r in labels])
        groups: dict[str, int] = {}
        self.group = torch.tensor([groups.setdefault(" ".join(sorted(c)), len(groups)) for c in t.codes])
        self.parts = sorted(config.pages.glob("part-*.npz"))
        if not self.parts or not self.row:
            raise InputError(f"{config.pages}: no pages of records that {config.targets} tells about")

    def batches(self, size: int) -> Iterator[tuple[Tensor, Lesson]]:
        """Random batches without end; parts are read one after another, in another order each time."""
        from teacher.pool import read_part

        pages: list[NDArray[np.uint8]] = []
        rows: list[int] = []
        found = False
        while True:
            for k in self.rng.permutation(len(self.parts)):
                for record, page in part_pages(read_part(self.parts[int(k)])):
                    if record in self.row:
                        found = True
                        pages.append(page)
                        rows.append(self.row[record])
                if len(rows) >= 4 * size:
                    order = self.rng.permutation(len(rows))[:size]
                    yield self._batch([pages[i] for i in order], [rows[i] for i in order])
                    kept = sorted(set(range(len(rows))) - set(order.tolist()))
                    pages, rows = [pages[i] for i in kept], [rows[i] for i in kept]
            if not found:
                raise InputError("none of the pool's pages shows a record that the targets tell about")

    def _batch(self, pages: list[NDArray[np.uint8]], rows: list[int]) -> tuple[Tensor, Lesson]:
        x = torch.from_numpy(np.stack([shifted(p, self.rng) for p in pages]))[:, None].float()
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


def train_student(config: StudentTrainConfig, tell: Callable[[str], None] = print) -> Path:
    """Train a page student; writes ``page.ckpt`` (its running average) and ``page.jsonl`` into ``config.out``."""
    torch.manual_seed(config.seed)
    config.out.mkdir(parents=True, exist_ok=True)
    lessons = Lessons(config)
    net = PageStudent(config.student).to(memory_format=torch.channels_last)
    taus = nn.ModuleDict({k: Temperature() for k in ("image_signal", "image_text", "gramian")})
    average = torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema)
    mean = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=average, use_buffers=True)
    optimiser = torch.optim.AdamW([*net.parameters(), *taus.parameters()], lr=config.lr,
                                  weight_decay=config.weight_decay)  # fmt: skip
    start, step = time.perf_counter(), 0
    with (config.out / "page.jsonl").open("a", encoding="utf-8") as log:
        for pages, lesson in lessons.batches(config.batch):
            spent = time.perf_counter() - start
            done = step / config.steps if config.steps else spent / (60 * config.minutes)
            if done >= 1:
                break
            for group in optimiser.param_groups:
                group["lr"] = config.lr * min(1, (step + 1) / 50) * (0.01 + 0.495 * (1 + math.cos(math.pi * done)))
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits, embedding = net(pages.contiguous(memory_format=torch.channels_last))
            terms = student_loss(logits, embedding, lesson, lambda name: taus[name](), config.weights)
            optimiser.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            nn.utils.clip_grad_norm_(net.parameters(), 2.0)
            optimiser.step()
            mean.update_parameters(net)
            step += 1
            if step % config.log_every == 0:
                said = {"step": step, "s": round(spent, 1)} | {k: round(float(v.detach()), 4) for k, v in terms.items()}
                log.write(json.dumps(said) + "\n")
                log.flush()
                tell(json.dumps(said))
    state = {"config": asdict(config.student), "net": mean.module.state_dict(), "step": step}
    torch.save(state, config.out / "page.ckpt")
    return config.out / "page.ckpt"


def load_student(path: Path) -> PageStudent:
    """A trained student in eval mode."""
    state = torch.load(path, weights_only=True)
    net = PageStudent(StudentConfig(**state["config"]))
    net.load_state_dict(state["net"])
    return net.eval()
