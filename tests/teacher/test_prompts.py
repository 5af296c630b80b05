"""Prompts: one set for every code, none twice, and what becomes of them."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from ecg.errors import InputError
from ecg.findings import STATEMENTS, SUPERCLASSES
from teacher.prompts import MERL_NAMES, PROMPTS, SUPERCLASS_PROMPTS, class_vectors, prompts_of, superclass_sets


def test_every_code_has_its_set() -> None:
    assert set(PROMPTS) == set(STATEMENTS) == set(MERL_NAMES)
    assert set(SUPERCLASS_PROMPTS) == set(SUPERCLASSES)
    for code, sentences in PROMPTS.items():
        assert sentences[0] == STATEMENTS[code].sentence
        assert len(sentences) >= 3, code


def test_sentences_are_plain_and_stand_once() -> None:
    sentences = [s for one in (*PROMPTS.values(), *SUPERCLASS_PROMPTS.values()) for s in one]
    assert [s for s, n in Counter(sentences).items() if n > 1] == []
    for s in sentences:
        assert s == s.lower().strip().rstrip("."), s
        assert len(s) > 5
        assert "diagnos" not in s.replace("non-diagnostic", "")  # findings, not diagnoses


def test_unknown_code() -> None:
    assert prompts_of("AFIB")[0] == "atrial fibrillation"
    with pytest.raises(InputError, match="XYZ"):
        prompts_of("XYZ")


def test_class_vectors_are_means_of_unit_vectors() -> None:
    table = {"a": [3.0, 0.0], "b": [0.0, 1.0], "c": [0.0, -5.0]}
    got = class_vectors([("a", "b"), ("c",)], lambda texts: torch.tensor([table[t] for t in texts]))
    assert torch.allclose(got, torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, -1.0]]))
    assert len(superclass_sets()) == 5
