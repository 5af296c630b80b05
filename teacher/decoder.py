"""Image tokens to twelve leads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ecg.errors import InputError
from ecg.leads import N_LEADS
from teacher.config import DecoderConfig, TeacherConfig
from teacher.encoders.kernels import SIGNAL_HZ, SIGNAL_SAMPLES
from teacher.encoders.rows import TOKEN_SAMPLES


class SignalDecoder(nn.Module):
    """A transformer whose learned queries, one for each lead and patch of samples, ask the page what was drawn there.

    The relations between leads are not built in; the soft lead loss asks for them.
    """

    def __init__(self, config: DecoderConfig, n_tokens: int, token_width: int) -> None:
        super().__init__()
        self.config = config
        width, n_patches = config.width, config.n_samples // config.patch
        self.tokens = nn.Sequential(nn.LayerNorm(token_width), nn.Linear(token_width, width))
        self.place = nn.Parameter(torch.randn(n_tokens, width) * 0.02)
        self.lead = nn.Parameter(torch.randn(N_LEADS, 1, width) * 0.5)
        self.time = nn.Parameter(torch.randn(1, n_patches, width) * 0.5)
        layer = nn.TransformerDecoderLayer(
            width, config.heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerDecoder(layer, config.layers, norm=nn.LayerNorm(width))
        self.samples = nn.Linear(width, config.patch)

    def forward(self, tokens: Tensor) -> Tensor:
        """mV (B, 12, n_samples) from tokens (B, n_tokens, token_width)."""
        memory = self.tokens(tokens) + self.place
        queries = (self.lead + self.time).flatten(0, 1).expand(len(tokens), -1, -1)
        drawn = self.samples(self.layers(queries, memory))
        return drawn.reshape(len(tokens), N_LEADS, self.config.n_samples)


class OwnLines(nn.Module):
    """What the image encoder "rows" read, as it stands in its tokens."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        if (config.fs_hz, config.n_samples) != (SIGNAL_HZ, SIGNAL_SAMPLES):
            raise InputError("a decoder without layers draws 10 s at 100 Hz; give it layers for other clocks")
        self.shape = (N_LEADS, config.n_samples)

    def forward(self, tokens: Tensor) -> Tensor:
        """mV (B, 12, n_samples) from tokens (B, n_tokens, token_width)."""
        return tokens[..., :TOKEN_SAMPLES].reshape(len(tokens), *self.shape)


def build_decoder(config: TeacherConfig, n_tokens: int, token_width: int) -> nn.Module:
    """The decoder that the config asks for; InputError for one without layers beside an encoder that reads no lines."""
    if config.decoder.layers:
        return SignalDecoder(config.decoder, n_tokens, token_width)
    if config.image.kind != "rows":
        raise InputError(f"decoder.layers 0: the image encoder {config.image.kind!r} reads no lines; give it layers")
    return OwnLines(config.decoder)
