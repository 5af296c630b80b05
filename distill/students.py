"""The page path: students from timm that see the page's twelve rows of ink, and what they are distilled with.

A student learns from ``targets.npz`` (``ecgscan-teacher embed``): the teacher's embeddings of a record's pages, the
frozen signal and text embeddings, and the findings of the training folds; ``distill.page_train`` trains it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg.errors import InputError
from ecg.findings import FINDINGS
from ecg.page_input import PAGE_WIDTH_PX, ROW_PX
from teacher.losses.gramian import gramian
from teacher.losses.infonce import infonce, positives

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
