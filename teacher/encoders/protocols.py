"""What the teacher asks of its encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class ImageEncoder(Protocol):
    """Pages to tokens.  Pages: (B, 3, height_px, width_px) float32 0..1, fitted and padded by ``teacher.pages``;
    pages of leads (B, 1, 768, 768), as ``ecg.page_input`` makes them."""

    width: int  # of the pooled embedding
    token_width: int
    n_tokens: int

    def __call__(self, pages: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled (B, width) and tokens (B, N, token_width)."""
        ...


class SignalEncoder(Protocol):
    """Twelve leads to one vector: what D-BETA and our own net have in common."""

    width: int
    fs_hz: float
    n_samples: int

    def __call__(self, mv: Tensor, known: Tensor) -> Tensor:
        """(B, width) from mV (B, 12, n_samples), 0 where not ``known`` (B, 12, n_samples) bool."""
        ...


class TextEncoder(Protocol):
    """Sentences to vectors; frozen and deterministic."""

    width: int

    def embed(self, sentences: Sequence[str]) -> Tensor:
        """(n, width) float32, without gradient."""
        ...
