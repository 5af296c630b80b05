"""Our own image encoder for pages of rows: a small net reads each row down to a line in mV, random kernels describe it.

The reader sees one row at a time, with the same weights for all twelve: what a stroke looks like doesn't depend on the
lead.  A row's 64 heights are its channels; for each column it weighs them and takes their mean, starting from the ink
itself.  It learns by reconstruction; what follows is built like the signal encoder (``kernels``) and learns to agree
with it.  Features are taken from the lines without gradient: reading is not bent to please them.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg.leads import N_LEADS
from ecg.page_input import HALF_ROW_MV, PAGE_WIDTH_PX, PX_PER_MV, PX_PER_S, ROW_PX
from teacher.config import ImageConfig
from teacher.encoders.kernels import SIGNAL_HZ, SIGNAL_SAMPLES, KernelFeatures

TOKEN_SAMPLES: Final = 50
_STROKES: Final = 96
_PIECE: Final = 96  # columns
_HALO: Final = 8
_LEAST_INK: Final = 0.1  # of full ink; JPEG leaves less in empty rows
_INK_LOGIT: Final = 12.0


class RowsImageEncoder(nn.Module):
    """Pages (B, 1, 768, 768) 0..1 to one vector and to tokens: a lead's half second of line, and where it is known."""

    heights_mv: Tensor
    before: Tensor
    share: Tensor

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        # The heights are channels: one matrix product a column, which CPUs do fast.
        self.strokes = nn.Sequential(
            nn.Conv2d(ROW_PX, _STROKES, (1, 5), stride=(1, 2), padding=(0, 2), bias=False),
            nn.BatchNorm2d(_STROKES),
            nn.ReLU(),
            nn.Conv2d(_STROKES, _STROKES, (1, 7), padding=(0, 3), bias=False),
            nn.BatchNorm2d(_STROKES),
            nn.ReLU(),
            nn.Conv2d(_STROKES, 2 * ROW_PX, 1),
        )
        self.kernels = KernelFeatures(config.kernels)
        self.layer = nn.Linear(self.kernels.n_features, config.width)
        self.dropout = config.dropout
        self.width, self.token_width = config.width, 2 * TOKEN_SAMPLES
        self.n_tokens = N_LEADS * SIGNAL_SAMPLES // TOKEN_SAMPLES
        self.register_buffer("heights_mv", HALF_ROW_MV - (torch.arange(ROW_PX) + 0.5) / PX_PER_MV, persistent=False)
        at = (torch.arange(SIGNAL_SAMPLES) / SIGNAL_HZ * PX_PER_S - 0.5).clamp(0, PAGE_WIDTH_PX - 1 - 1e-3)
        self.register_buffer("before", at.floor().long(), persistent=False)
        self.register_buffer("share", at - at.floor(), persistent=False)
        self.to(memory_format=torch.channels_last)

    def lines(self, pages: Tensor) -> tuple[Tensor, Tensor]:
        """mV and known (B, 12, 1000) at 100 Hz; 0 where there is no ink.

        Most of a page of columns is empty: only pieces with ink are computed.
        """
        b = len(pages)
        rows = F.pad(pages.reshape(b * N_LEADS, ROW_PX, PAGE_WIDTH_PX), (_HALO, _HALO))
        pieces = rows.unfold(2, _PIECE + 2 * _HALO, _PIECE).transpose(1, 2).flatten(0, 1)  # (b 12 n, 64, columns)
        inked = pieces.amax(dim=(1, 2)) > _LEAST_INK
        if not inked.any():
            inked[0] = True
        there = pieces[inked]
        mv = self._read(there)
        here = F.max_pool1d(there.amax(dim=1, keepdim=True), 9, 1, 4)[:, 0, _HALO:-_HALO] > _LEAST_INK
        all_mv, all_here = mv.new_zeros(len(pieces), _PIECE), here.new_zeros(len(pieces), _PIECE)
        all_mv[inked], all_here[inked] = mv, here
        columns = all_mv.reshape(b, N_LEADS, PAGE_WIDTH_PX)
        known = all_here.reshape(b, N_LEADS, PAGE_WIDTH_PX)[..., self.before]
        line = columns[..., self.before] * (1 - self.share) + columns[..., self.before + 1] * self.share
        return torch.where(known, line, 0.0), known

    def _read(self, pieces: Tensor) -> Tensor:
        """mV (P, columns) of pieces (P, 64, columns + 2 halo)."""
        logits = self.strokes(pieces[:, :, None].contiguous(memory_format=torch.channels_last))[:, :, 0].float()
        p, _, pairs = logits.shape
        logits = logits.reshape(p, 2, ROW_PX, pairs).permute(0, 2, 3, 1).reshape(p, ROW_PX, 2 * pairs)
        logits = logits[..., _HALO:-_HALO] + _INK_LOGIT * pieces[..., _HALO:-_HALO]
        return (logits.softmax(dim=1) * self.heights_mv[:, None]).sum(dim=1)

    def forward(self, pages: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled (B, width) and tokens (B, n_tokens, token_width)."""
        mv, known = self.lines(pages)
        features = F.dropout(self.kernels(mv.detach(), known), self.dropout, self.training)
        tokens = torch.cat([x.reshape(len(mv), self.n_tokens, TOKEN_SAMPLES) for x in (mv, known.to(mv.dtype))], dim=2)
        return self.layer(features), tokens
