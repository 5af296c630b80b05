"""``ecgscan-teacher evaluate``: what a run's embeddings are worth on records that didn't train it.

Everything that is chosen (a probe's strength, which of the encoder's vectors it stands on) is chosen on the validation
fold; the test fold is reported once.  Each table has a row of a randomly initialised encoder and one of the signal
encoder, which sees the true signal.  The column "merl" is labelled apart: plain statement names as prompts and, for
probes, the strength that does best on the test fold, as MERL's published protocol does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from ecg.errors import InputError
from ecg.findings import STATEMENTS, SUPERCLASSES
from ecg.records import EcgRecord
from teacher.config import TeacherConfig, load_config
from teacher.encoders.protocols import TextEncoder
from teacher.eval_pages import USUAL, EvalSet, eval_set, held_out_refs, read_by_edge, read_refs
from teacher.metrics import MIN_POSITIVES, auroc_table
from teacher.model import Teacher, build_text_encoder
from teacher.prompts import MERL_NAMES, MERL_SUPERCLASSES, PROMPTS, SUPERCLASS_PROMPTS, class_vectors
from teacher.samples import Clocks
from teacher.train import CONFIG, load_teacher

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]
Features = dict[str, Floats]  # each vector of an encoder that a probe may stand on
PROTOCOLS: Final = ("zero-shot", "linear-probe", "shift", "durations", "ablation")
LABEL_SETS: Final = ("super", "codes", "form", "rhythm")
AT_ONCE: Final = 16


@dataclass(frozen=True)
class EvalTask:
    """One evaluation: the run, the data, which folds choose and test; ``readings``: what the edge read of photos."""

    run: Path
    data: tuple[str, ...]
    valid_folds: tuple[int, ...] = (8,)
    test_folds: tuple[int, ...] = (9,)
    conditions: tuple[str, ...] = ("clean", "photo")
    labels: str = "super"
    readings: Path | None = None
    to: tuple[str, ...] = ()  # of "shift": other sources
    seeds: int = 3
    draws: int = 1000
    tell: Callable[[str], None] = print
    each: Callable[[int, int], None] | None = field(default=None)


class Evaluation:
    """A run's teacher beside a random one, and the held-out pages, made once for all protocols."""

    def __init__(self, task: EvalTask) -> None:
        self.task = task
        self.config = load_config(task.run / CONFIG)
        self.net = load_teacher(task.run)
        self.random = random_teacher(self.config, self.net)
        self.text: TextEncoder = build_text_encoder(self.config.text)
        decoder, signal = self.config.decoder, getattr(self.net, "signal", None)
        encoder = signal.encoder if signal is not None else None
        self.clocks = Clocks(getattr(encoder, "fs_hz", 100.0), getattr(encoder, "n_samples", 1000),
                             decoder.fs_hz, decoder.n_samples)  # fmt: skip
        self._records: dict[str, list[EcgRecord]] = {}
        self._sets: dict[tuple[str, str, str], EvalSet] = {}

    def records(self, part: str) -> list[EcgRecord]:
        """The records of "valid" or "test"."""
        if part not in self._records:
            folds = self.task.valid_folds if part == "valid" else self.task.test_folds
            self._records[part] = read_refs(held_out_refs(self.task.data, folds), self.task.tell)
        return self._records[part]

    def pages(self, part: str, condition: str, layout: str = USUAL) -> EvalSet:
        """The pages of "valid" or "test" under a condition."""
        key = (part, condition, layout)
        if key not in self._sets:
            if condition == "photo" and self.task.readings is not None:
                self._sets[key] = read_by_edge(self.task.readings, self.records(part), condition, self.clocks)
            else:
                cache = self.task.run / "eval"
                self._sets[key] = eval_set(
                    self.records(part), condition, self.config, self.clocks, cache, layout, self.task.each
                )
        return self._sets[key]

    def labels(self, data: EvalSet) -> Bools:
        """(n, classes) of the task's label set."""
        if self.task.labels == "super":
            return np.array([[c in one for c in SUPERCLASSES] for one in data.superclasses])
        return np.array([[c in one for c in self.classes()] for one in data.codes])

    def classes(self) -> tuple[str, ...]:
        """The classes of the task's label set."""
        if self.task.labels not in LABEL_SETS:
            raise InputError(f"labels {self.task.labels!r}: expected one of {', '.join(LABEL_SETS)}")
        if self.task.labels == "super":
            return SUPERCLASSES
        kind = {"codes": "diagnostic"}.get(self.task.labels, self.task.labels)
        return tuple(c for c, s in STATEMENTS.items() if s.kind == kind and c in PROMPTS)

    def class_vectors(self, net: Teacher, merl: bool = False) -> Floats:
        """(classes, d): the prompts in the shared space."""
        own = SUPERCLASS_PROMPTS if self.task.labels == "super" else PROMPTS
        plain = MERL_SUPERCLASSES if self.task.labels == "super" else MERL_NAMES
        sets = [(plain if merl else own)[c] for c in self.classes()]
        return class_vectors(sets, lambda said: net.embed_text(self.text.embed(said))).numpy()


def random_teacher(config: TeacherConfig, trained: Teacher) -> Teacher:
    """The same architecture with fresh weights (and the same frozen signal encoder)."""
    torch.manual_seed(config.optim.seed + 1)
    head: Any = getattr(trained, "text_projection", None)
    text_width = 1 if head is None else head[0].normalized_shape[0]
    signal: Any = trained.signal.encoder if hasattr(trained, "signal") else None
    return Teacher(config, signal, text_width).eval()


# ---------------------------------------------------------------------------------------------------------- embeddings


@torch.no_grad()
def page_features(net: Teacher, pages: NDArray[np.uint8]) -> Features:
    """ "encoder": the image encoder's own vectors; "shared": in the shared space."""
    own, shared = [], []
    for k in range(0, len(pages), AT_ONCE):
        pooled = net.image(torch.from_numpy(pages[k : k + AT_ONCE]).float() / 255)[0]
        own.append(pooled.float())
        shared.append(F.normalize(net.image_projection(pooled).float(), dim=-1))
    return {"encoder": torch.cat(own).numpy(), "shared": torch.cat(shared).numpy()}


@torch.no_grad()
def signal_features(net: Teacher, mv: Floats, known: Bools) -> Features:
    """The same of true signals."""
    if not hasattr(net, "signal"):
        raise InputError("this teacher was trained without signals (image_signal and gramian are 0)")
    own, shared = [], []
    for k in range(0, len(mv), AT_ONCE):
        at = slice(k, k + AT_ONCE)
        one = net.signal(torch.from_numpy(np.asarray(mv[at], np.float32)), torch.from_numpy(known[at]))
        own.append(one)
        shared.append(F.normalize(net.signal_projection(one).float(), dim=-1))
    return {"encoder": torch.cat(own).numpy(), "shared": torch.cat(shared).numpy()}


def with_prior(scores: Floats, shown: Bools, prior: Floats) -> Floats:
    """Scores of records that weren't shown become the prior's."""
    return np.where(shown[:, None], scores, prior[None])


# ------------------------------------------------------------------------------------------------------------ zero-shot


def zero_shot(one: Evaluation) -> list[dict[str, Any]]:
    """A row for each encoder and condition."""
    rows = []
    for name, net, condition, features, data in _encoders(one, "test"):
        labels = one.labels(data)
        for column, merl in (("own prompts", False), ("merl: plain names as prompts", True)):
            scores: Floats = features["shared"] @ one.class_vectors(net, merl).T
            scores = with_prior(scores, data.shown, np.median(scores[data.shown], axis=0))
            rows.append(row(one, "zero-shot", name, condition, column, scores, labels, data))
    return rows


def _encoders(one: Evaluation, part: str) -> list[tuple[str, Teacher, str, Features, EvalSet]]:
    """Each row of a table: its name, its teacher, the condition, features and records."""
    out: list[tuple[str, Teacher, str, Features, EvalSet]] = []
    for condition in one.task.conditions:
        data = one.pages(part, condition)
        for name, net in (("image", one.net), ("random image encoder", one.random)):
            out.append((name, net, condition, page_features(net, data.pages), data))
    if hasattr(one.net, "signal"):
        data = replace(data, shown=np.ones(len(data), bool))
        features = signal_features(one.net, data.mv, data.known)
        out.append(("signal encoder", one.net, "true signal, 10 s", features, data))
    return out


def row(
    one: Evaluation, protocol: str, encoder: str, condition: str, column: str, scores: Floats, labels: Bools,
    data: EvalSet, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """One line of results: macro AUROCs and each class that the records show."""
    table = auroc_table(scores, labels, one.classes(), one.task.draws)
    by_edge = condition == "photo" and one.task.readings is not None
    return {
        "task": f"teacher/{protocol}", "encoder": encoder, "condition": condition, "column": column,
        "labels": one.task.labels, "test_folds": list(one.task.test_folds), "records": len(data),
        "refused": int((~data.shown).sum()), "sheet": "edge reader" if by_edge else "truth, shaken",
        "auroc": table.macro.as_list(), f"auroc_classes_{MIN_POSITIVES}_or_more": table.macro_common.as_list(),
        "classes": {k: v.as_list() for k, v in table.classes.items() if table.positives[k]},
        "positives": {k: v for k, v in table.positives.items() if v}, **more,
    }  # fmt: skip
