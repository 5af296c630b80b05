"""ECG-Scan put together: a page's embedding beside its signal's and its report's, and the signal drawn again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg.errors import InputError
from teacher.config import SignalConfig, TeacherConfig, TextConfig
from teacher.decoder import build_decoder
from teacher.encoders.dbeta import DbetaSignalEncoder
from teacher.encoders.image import build_image_encoder
from teacher.encoders.kernels import KernelSignalEncoder
from teacher.encoders.protocols import SignalEncoder, TextEncoder
from teacher.encoders.rows import RowsImageEncoder
from teacher.encoders.text import load_medcpt, load_minilm
from teacher.encoders.weights import Frozen, WeightsError
from teacher.losses.unit import Temperature


@dataclass(frozen=True, eq=False)
class Batch:
    """What one step sees; B rows.

    pages (B, 3 or 1, H, W) uint8; mv and known (B, 12, n), the whole recording on the signal encoder's clock, 0 where
    not known; text (B, w), the report's embedding; target_mv and printed (B, 12, T), what the page shows on the
    decoder's clock; record and sentence (B,) int64, equal where the recording or the report's text is the same.
    """

    pages: Tensor
    mv: Tensor
    known: Tensor
    text: Tensor
    target_mv: Tensor
    printed: Tensor
    record: Tensor
    sentence: Tensor

    def __post_init__(self) -> None:
        rows = {len(x) for x in vars(self).values()}
        if len(rows) != 1:
            raise ValueError(f"a batch's tensors must have the same number of rows, got {sorted(rows)}")

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return Batch(**{k: v.to(device, non_blocking=True) for k, v in vars(self).items()})


def projection(width: int, hidden: int, out: int) -> nn.Module:
    """An encoder's embedding to the shared space: a norm, then one hidden layer."""
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out))


class _FrozenSignal(Frozen):
    """Any signal encoder, held frozen and in eval mode."""

    def __init__(self, encoder: SignalEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.freeze()

    @torch.no_grad()
    def forward(self, mv: Tensor, known: Tensor) -> Tensor:
        return self.encoder(mv, known)


class Teacher(nn.Module):
    """The trainable teacher.  The text encoder stands outside: reports enter as its embeddings, made once.

    ``signal`` must already be trained; it is frozen here.
    """

    def __init__(self, config: TeacherConfig, signal: SignalEncoder, text_width: int) -> None:
        super().__init__()
        self.config = config
        w, losses = config.losses, (config.losses.tau, config.losses.tau_low, config.losses.tau_high)
        self.image = build_image_encoder(config.image)
        contrasts = w.image_text or w.image_signal or w.gramian
        self.image_projection = (
            projection(self.image.width, config.hidden, config.width) if contrasts else nn.Identity()
        )  # with nothing to align to, the encoder's own embedding stays
        if w.image_signal or w.gramian:
            self.signal = _FrozenSignal(signal)
            self.signal_projection = projection(signal.width, config.hidden, config.width)
        if w.image_text or w.gramian:
            self.text_projection = projection(text_width, config.hidden, config.width)
        if w.reconstruction or w.soft_lead:
            self.decoder = build_decoder(config, self.image.n_tokens, self.image.token_width)
        weights = {"image_text": w.image_text, "image_signal": w.image_signal, "gramian": w.gramian}
        self.temperatures = nn.ModuleDict({name: Temperature(*losses) for name, weight in weights.items() if weight})

    def start_from(self, heads: Mapping[str, Tensor], signal: SignalEncoder) -> None:
        """Begin where the own signal encoder's training ended: its two projections, which stay as they are, so that
        pages come to signals and sentences and not these to pages; and its layers for the image encoder "rows"."""
        parts = {"signal": getattr(self, "signal_projection", None), "text": getattr(self, "text_projection", None)}
        for name, part in parts.items():
            if part is not None:
                part.load_state_dict({k.removeprefix(f"{name}."): v for k, v in heads.items() if k.startswith(name)})
                part.requires_grad_(False)
        if isinstance(self.image, RowsImageEncoder) and isinstance(signal, KernelSignalEncoder):
            self.image.kernels.load_state_dict(signal.kernels.state_dict())
            self.image.layer.load_state_dict(signal.layer.state_dict())
            if parts["signal"] is not None:
                self.image_projection.load_state_dict(parts["signal"].state_dict())

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Unit vectors "image", "signal", "text" (B, width), "drawn_mv" (B, 12, T), and each contrast's "tau:NAME".

        What no loss that is switched on asks for isn't there.
        """
        pooled, tokens = self.image(batch.pages.float() / 255)
        out = {"image": _unit(self.image_projection(pooled))}
        if hasattr(self, "signal_projection"):
            out["signal"] = _unit(self.signal_projection(self.signal(batch.mv, batch.known)))
        if hasattr(self, "text_projection"):
            out["text"] = _unit(self.text_projection(batch.text))
        if hasattr(self, "decoder"):
            out["drawn_mv"] = self.decoder(tokens).float()
        out |= {f"tau:{name}": tau() for name, tau in self.temperatures.items()}
        return out

    @torch.no_grad()
    def embed_pages(self, pages: Tensor) -> Tensor:
        """Unit vectors (B, width) of pages (B, 3 or 1, H, W) uint8: what students learn from."""
        return _unit(self.image_projection(self.image(pages.float() / 255)[0]))

    @torch.no_grad()
    def embed_signals(self, mv: Tensor, known: Tensor) -> Tensor:
        """Unit vectors (B, width) of signals (B, 12, n) on the signal encoder's clock, read where ``known``; InputError
        in a teacher trained without signals."""
        if not hasattr(self, "signal_projection"):
            raise InputError("this teacher was trained without signals (image_signal and gramian are 0)")
        return _unit(self.signal_projection(self.signal(mv, known)))

    @torch.no_grad()
    def embed_text(self, text: Tensor) -> Tensor:
        """Unit vectors (n, width) of sentences' embeddings (n, w); InputError in a teacher trained without text."""
        if not hasattr(self, "text_projection"):
            raise InputError("this teacher was trained without text (image_text and gramian are 0): no zero-shot")
        return _unit(self.text_projection(text))

    def saved_state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: all but the frozen weights that come from elsewhere."""
        elsewhere: tuple[str, ...] = ("image.",) if self.config.image.weights else ()
        elsewhere += ("signal.",) if self.config.signal.kind == "dbeta" else ()
        trained = {name for name, p in self.named_parameters() if p.requires_grad}
        return {k: v for k, v in self.state_dict().items() if k in trained or not k.startswith(elsewhere)}

    def load_saved(self, state: Mapping[str, Tensor]) -> None:
        """The reverse of ``saved_state``; WeightsError where names or shapes differ."""
        wanted = self.saved_state()
        odd = set(wanted) ^ set(state)
        odd |= {k for k in wanted if k in state and wanted[k].shape != state[k].shape}
        if odd:
            raise WeightsError(f"the checkpoint doesn't fit this configuration: {sorted(odd)[:3]} of {len(odd)} differ")
        self.load_state_dict(dict(state), strict=False)  # what comes from elsewhere is there already


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.float(), dim=-1)


def build_signal_encoder(config: SignalConfig) -> SignalEncoder:
    """The encoder that the config names; an own one without weights comes untrained."""
    if config.kind == "dbeta":
        return DbetaSignalEncoder.load(config.weights)
    if config.kind != "kernels":
        raise InputError(f"signal.kind {config.kind!r}: expected dbeta or kernels")
    if config.weights:
        return KernelSignalEncoder.load(config.weights, config.width, config.kernels)
    return KernelSignalEncoder(config.width, config.kernels)


def build_text_encoder(config: TextConfig) -> TextEncoder:
    """The frozen sentence encoder that the config names."""
    if config.kind == "medcpt":
        return load_medcpt(config.weights)
    if config.kind != "minilm":
        raise InputError(f"text.kind {config.kind!r}: expected medcpt or minilm")
    return load_minilm(config.weights)
