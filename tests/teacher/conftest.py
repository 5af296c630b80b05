"""A teacher small enough to train in a test, and a text encoder that needs no weights."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest
import torch
from torch import Tensor

from teacher.config import (
    DataConfig,
    DecoderConfig,
    ImageConfig,
    LoraConfig,
    LossConfig,
    OptimConfig,
    SignalConfig,
    TeacherConfig,
)
from teacher.pool import render_parts
from teacher.samples import Clocks

CLOCKS = Clocks(100.0, 1000, 100.0, 1000)
TINY_RUN = TeacherConfig(
    preset="tiny",
    width=16,
    hidden=24,
    image=ImageConfig(
        "open_clip", "ecgscan-vit-test", 32, 64, "photo", lora=LoraConfig(2, 4, 0.1, ("q_proj", "v_proj"))
    ),
    signal=SignalConfig(width=16, kernels=1),
    decoder=DecoderConfig(width=16, layers=1, heads=2),
    losses=LossConfig(),
    data=DataConfig(pages=10, long_side_px=300, photo_share=0.6, hearts=12, workers=1),
    optim=OptimConfig(steps=6, pretrain_steps=2, pretrain_batch=8, batch=4, warmup=2, save_every=2, log_every=1),
)


class NamedText:
    """Sentences to fixed random vectors."""

    width = 8

    def embed(self, sentences: Sequence[str]) -> Tensor:
        rows = [torch.randn(8, generator=torch.Generator().manual_seed(crc32(s.encode()))) for s in sentences]
        return torch.stack(rows)


@pytest.fixture(scope="session")
def tiny_run() -> TeacherConfig:
    return TINY_RUN


@pytest.fixture(scope="session")
def clocks() -> Clocks:
    return CLOCKS


@pytest.fixture(scope="session")
def tiny_pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten rendered pages that tests share."""
    folder = tmp_path_factory.mktemp("pages")
    render_parts(folder, replace(TINY_RUN), CLOCKS)
    return folder


@pytest.fixture(autouse=True)
def _fresh_accelerator() -> Iterator[None]:
    """accelerate keeps its settings for the whole process."""
    yield
    if "accelerate" in sys.modules:
        sys.modules["accelerate"].state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def named_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("teacher.train.build_text_encoder", lambda config: NamedText())
