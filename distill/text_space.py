"""The prompts' vectors in the space that embeddings are aligned to: what zero-shot compares with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from ecg.errors import InputError
from ecg.findings import FINDINGS, SUPERCLASSES
from ecg.page import F32

if TYPE_CHECKING:
    from teacher.embed import Targets

MINILM: Final = "all-MiniLM-L6-v2"
HEAD: Final = "head:"  # before the names of a head's arrays in files


@dataclass(frozen=True, eq=False)
class TextSpace:
    """Unit vectors (d,) of each code's prompts: ``vectors[code]`` (k, d); ``name`` says whose space it is; ``centre``
    (d,) was taken off before their lengths were made 1; ``head``: what brings MiniLM's sentences into a teacher's space
    (empty for MiniLM's own)."""

    name: str
    vectors: dict[str, F32]
    centre: F32
    head: Mapping[str, F32] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """d."""
        return int(next(iter(self.vectors.values())).shape[1])

    def of(self, code: str) -> F32:
        """The code's mean vector (d,), at length 1."""
        mean = self.vectors[code].mean(axis=0)
        return np.asarray(mean / np.linalg.norm(mean), np.float32)


def minilm_space() -> TextSpace:
    """The prompts in all-MiniLM-L6-v2's space, less their common mean: that all speak of ECGs says nothing."""
    from teacher.encoders.text import load_minilm
    from teacher.prompts import PROMPTS, SUPERCLASS_PROMPTS

    encoder = load_minilm()
    sets = prompt_sets(PROMPTS, SUPERCLASS_PROMPTS)
    return embedded(f"{MINILM}, centred", sets, lambda s: encoder.embed(s).numpy(), centred=True)


def prompt_sets(codes: Mapping[str, Sequence[str]], classes: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """All sets of sentences; superclasses stand as "class:NAME": NORM is both a code and a superclass."""
    return {c: tuple(s) for c, s in codes.items()} | {f"class:{c}": tuple(s) for c, s in classes.items()}


def embedded(
    name: str, sets: Mapping[str, Sequence[str]], embed: Callable[[list[str]], F32], centred: bool = False
) -> TextSpace:
    """The sets' sentences as unit vectors."""
    raw = {code: np.asarray(embed(list(s)), np.float32) for code, s in sets.items()}
    every = np.concatenate(list(raw.values()))
    centre = every.mean(axis=0) if centred else np.zeros(every.shape[1], np.float32)
    return TextSpace(name, {code: _unit(v - centre) for code, v in raw.items()}, centre)


def teacher_space(targets: Targets) -> TextSpace:
    """The prompts in a teacher's own space, out of what ``ecgscan-teacher embed`` wrote."""
    runs = [len(list(rows)) for _, rows in groupby(targets.sentence_concept.tolist())]
    concepts = targets.concept.tolist()
    if len(runs) != len(concepts):
        raise InputError("the targets' sentences aren't in the order of their concepts; make them again")
    first = len(concepts) - len(SUPERCLASSES)
    names = [c if k < first else f"class:{c}" for k, c in enumerate(concepts)]
    parts = np.split(targets.text, np.cumsum(runs)[:-1])
    vectors = {n: np.asarray(p, np.float32) for n, p in zip(names, parts, strict=True)}
    return TextSpace(f"teacher {targets.teacher[:12]}", vectors, np.zeros(targets.text.shape[1], np.float32),
                     dict(targets.text_head))  # fmt: skip


def with_prompts(space: TextSpace, sets: Mapping[str, Sequence[str]]) -> TextSpace:
    """The space with prompts of the user's own beside its codes; ``InputError`` where nothing brings MiniLM's vectors
    into it."""
    if not space.name.startswith(MINILM) and not space.head:
        raise InputError(f"prompts of your own need the space of {MINILM} or a head into {space.name!r}: there is none")
    from teacher.encoders.text import load_minilm

    encoder = load_minilm()
    own = {name: _unit(_headed(space.head, encoder.embed(list(s)).numpy()) - space.centre) for name, s in sets.items()}
    return TextSpace(space.name, space.vectors | own, space.centre, space.head)


def _headed(head: Mapping[str, F32], x: F32) -> F32:
    """The teacher's text projection (``teacher.model.projection``)."""
    if not head:
        return x
    import torch
    from torch.nn import functional as F

    w = {k: torch.from_numpy(np.asarray(v, np.float32)) for k, v in head.items()}
    y = F.layer_norm(torch.from_numpy(x), (x.shape[1],), w["0.weight"], w["0.bias"])
    y = F.linear(F.gelu(F.linear(y, w["1.weight"], w["1.bias"])), w["3.weight"], w["3.bias"])
    return np.asarray(y.numpy(), np.float32)


def read_prompts(path: Path) -> dict[str, tuple[str, ...]]:
    """Lines ``name: sentence | sentence``; blank lines and those from # on are skipped."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read as prompts ({error})") from error
    out: dict[str, tuple[str, ...]] = {}
    for k, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, text = line.partition(":")
        sentences = tuple(s.strip() for s in text.split("|") if s.strip())
        if not colon or not name.strip() or not sentences:
            raise InputError(f"{path}, line {k}: expected NAME: sentence | sentence")
        out[name.strip()] = sentences
    return out


def _unit(v: F32) -> F32:
    return np.asarray(v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-9), np.float32)


def save_space(space: TextSpace, path: Path) -> None:
    """One row of vectors a sentence, with its code, the centre and the name."""
    count = np.array([len(v) for v in space.vectors.values()])
    vectors = np.concatenate(list(space.vectors.values()))
    codes = np.array(list(space.vectors))
    head = {f"{HEAD}{k}": v for k, v in space.head.items()}
    np.savez(path, allow_pickle=False, name=np.array(space.name), codes=codes, count=count, vectors=vectors,
             centre=space.centre, **head)  # fmt: skip


def load_space(path: Path) -> TextSpace:
    """The reverse of ``save_space``; ``InputError`` where it can't be read."""
    try:
        with np.load(path, allow_pickle=False) as f:
            parts = np.split(f["vectors"], np.cumsum(f["count"])[:-1])
            head = {k.removeprefix(HEAD): f[k] for k in f.files if k.startswith(HEAD)}
            return TextSpace(str(f["name"]), dict(zip(f["codes"].tolist(), parts, strict=True)), f["centre"], head)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: can't be read as a text space ({error})") from error


def prompt_table(space: TextSpace, own: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """What a bundle carries for zero-shot: ``codes`` of the findings and own prompts, and their ``vectors`` (n, d)."""
    keys = [f"class:{c}" if c in SUPERCLASSES else c for c in FINDINGS]
    vectors = np.stack([space.of(k) for k in (*keys, *own)])
    return {"codes": np.array([*FINDINGS, *own]), "vectors": vectors.astype(np.float32)}
