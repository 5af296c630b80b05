"""The prompts' vectors in the space that embeddings are aligned to: what zero-shot compares with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecg.errors import InputError
from ecg.page import F32


@dataclass(frozen=True, eq=False)
class TextSpace:
    """Unit vectors (d,) of each code's prompts: ``vectors[code]`` (k, d); ``name`` says whose space it is."""

    name: str
    vectors: dict[str, F32]

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
    return embedded("all-MiniLM-L6-v2, centred", sets, lambda s: encoder.embed(s).numpy(), centred=True)


def prompt_sets(codes: Mapping[str, Sequence[str]], classes: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """All sets of sentences; superclasses stand as "class:NAME": NORM is both a code and a superclass."""
    return {c: tuple(s) for c, s in codes.items()} | {f"class:{c}": tuple(s) for c, s in classes.items()}


def embedded(
    name: str, sets: Mapping[str, Sequence[str]], embed: Callable[[list[str]], F32], centred: bool = False
) -> TextSpace:
    """The sets' sentences as unit vectors."""
    raw = {code: np.asarray(embed(list(s)), np.float32) for code, s in sets.items()}
    mean = np.concatenate(list(raw.values())).mean(axis=0) if centred else np.float32(0)
    moved = {code: v - mean for code, v in raw.items()}
    return TextSpace(name, {code: v / np.linalg.norm(v, axis=1, keepdims=True) for code, v in moved.items()})


def save_space(space: TextSpace, path: Path) -> None:
    """One array a code, and the name."""
    np.savez(path, allow_pickle=False, name=np.array(space.name), codes=np.array(list(space.vectors)),
             count=np.array([len(v) for v in space.vectors.values()]),
             vectors=np.concatenate(list(space.vectors.values())))  # fmt: skip


def load_space(path: Path) -> TextSpace:
    """The reverse of ``save_space``; ``InputError`` where it can't be read."""
    try:
        with np.load(path, allow_pickle=False) as f:
            parts = np.split(f["vectors"], np.cumsum(f["count"])[:-1])
            return TextSpace(str(f["name"]), dict(zip(f["codes"].tolist(), parts, strict=True)))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: can't be read as a text space ({error})") from error
