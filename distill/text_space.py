"""The prompts' vectors in the space that embeddings are aligned to: what zero-shot compares with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecg.errors import InputError
from ecg.findings import FINDINGS, SUPERCLASSES
from ecg.page import F32

MINILM: Final = "all-MiniLM-L6-v2"


@dataclass(frozen=True, eq=False)
class TextSpace:
    """Unit vectors (d,) of each code's prompts: ``vectors[code]`` (k, d); ``name`` says whose space it is; ``centre``
    (d,) was taken off before their lengths were made 1."""

    name: str
    vectors: dict[str, F32]
    centre: F32

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


def with_prompts(space: TextSpace, sets: Mapping[str, Sequence[str]]) -> TextSpace:
    """The space with prompts of the user's own beside its codes; ``InputError`` for a space that isn't MiniLM's."""
    if not space.name.startswith(MINILM):
        raise InputError(f"prompts of your own need the space of {MINILM}, this run has {space.name!r}")
    from teacher.encoders.text import load_minilm

    encoder = load_minilm()
    own = {name: _unit(encoder.embed(list(s)).numpy() - space.centre) for name, s in sets.items()}
    return TextSpace(space.name, space.vectors | own, space.centre)


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
    np.savez(path, allow_pickle=False, name=np.array(space.name), codes=codes, count=count, vectors=vectors,
             centre=space.centre)  # fmt: skip


def load_space(path: Path) -> TextSpace:
    """The reverse of ``save_space``; ``InputError`` where it can't be read."""
    try:
        with np.load(path, allow_pickle=False) as f:
            parts = np.split(f["vectors"], np.cumsum(f["count"])[:-1])
            return TextSpace(str(f["name"]), dict(zip(f["codes"].tolist(), parts, strict=True)), f["centre"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: can't be read as a text space ({error})") from error


def prompt_table(space: TextSpace, own: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """What a bundle carries for zero-shot: ``codes`` of the findings and own prompts, and their ``vectors`` (n, d)."""
    keys = [f"class:{c}" if c in SUPERCLASSES else c for c in FINDINGS]
    vectors = np.stack([space.of(k) for k in (*keys, *own)])
    return {"codes": np.array([*FINDINGS, *own]), "vectors": vectors.astype(np.float32)}
