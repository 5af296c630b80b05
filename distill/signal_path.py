"""The signal path: decoded leads to findings and an embedding, by convolution, batch norm and ReLU, as INT8 likes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg.findings import FINDINGS
from ecg.leads import N_LEADS
from ecg.signal_input import SIGNAL_CHANNELS, SIGNAL_SAMPLES


@dataclass(frozen=True)
class SignalNetConfig:
    """``lead_width`` channels of each lead alone, ``width`` of all together; ``embedding`` of the teacher's space."""

    lead_width: int = 16
    width: int = 128
    blocks: int = 4
    embedding: int = 256
    dropout: float = 0.3
    findings: int = len(FINDINGS)


def _conv(c_in: int, c_out: int, kernel: tuple[int, int], stride: int = 1, groups: int = 1) -> nn.Sequential:
    pad = (0, kernel[1] // 2)
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, (1, stride), pad, groups=groups, bias=False), nn.BatchNorm2d(c_out)
    )


class _Block(nn.Module):
    """Two convolutions over time, halving it, with a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.one = _conv(c_in, c_out, (1, 7), stride)
        self.two = _conv(c_out, c_out, (1, 7))
        self.short = _conv(c_in, c_out, (1, 1), stride) if stride > 1 or c_in != c_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.two(F.relu(self.one(x)))
        return F.relu(y + self.short(x))


class SignalNet(nn.Module):
    """(B, 36, 1000) of ``ecg.signal_input`` to logits (B, findings) and an embedding (B, embedding), not normalised.

    First each lead alone, by the same filters; then all leads together; then what was seen at any time and on average.
    """

    def __init__(self, config: SignalNetConfig = SignalNetConfig()) -> None:
        super().__init__()
        self.config = config
        w, wide = config.lead_width, config.width
        self.lead = nn.Sequential(
            _conv(3, w, (1, 15), 2), nn.ReLU(), _conv(w, 2 * w, (1, 7), 2), nn.ReLU(),
        )  # fmt: skip
        self.together = nn.Sequential(_conv(2 * w * N_LEADS, wide, (1, 1)), nn.ReLU())
        widths = [wide] + [min(wide * 2, int(wide * (1 + 0.34 * k))) // 8 * 8 for k in range(1, config.blocks)]
        pairs = zip([wide, *widths[:-1]], widths, strict=True)
        self.blocks = nn.Sequential(*(_Block(a, b, 2) for k, (a, b) in enumerate(pairs)))
        self.drop = nn.Dropout(config.dropout)
        self.findings = nn.Linear(2 * widths[-1], config.findings)
        self.embed = nn.Linear(2 * widths[-1], config.embedding)

    def features(self, x: Tensor) -> Tensor:
        """(B, 2 C): mean and greatest value over time."""
        b = x.shape[0]
        x = x.reshape(b, 3, N_LEADS, SIGNAL_SAMPLES)
        x = self.lead(x)
        x = x.reshape(b, -1, 1, x.shape[-1])
        x = self.blocks(self.together(x))
        return torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and embedding."""
        f = self.drop(self.features(x))
        return self.findings(f), self.embed(f)


class Ensemble(nn.Module):
    """Several nets' mean logits and embeddings, as one net."""

    def __init__(self, nets: list[SignalNet]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means over the nets."""
        outs = [net(x) for net in self.nets]
        logits = torch.stack([o[0] for o in outs]).mean(0)
        return logits, torch.stack([F.normalize(o[1], dim=1) for o in outs]).mean(0)


def save_signal_net(nets: list[SignalNet], path: Path, extra: dict[str, Any] | None = None) -> None:
    """Weights and configuration of one or more nets."""
    torch.save({"config": [asdict(n.config) for n in nets], "nets": [n.state_dict() for n in nets],
                **(extra or {})}, path)  # fmt: skip


def load_signal_net(path: Path) -> nn.Module:
    """The net of a checkpoint in eval mode, several as one; what ``export.to_onnx`` takes."""
    state = torch.load(path, weights_only=True)
    nets = []
    for config, weights in zip(state["config"], state["nets"], strict=True):
        net = SignalNet(SignalNetConfig(**config))
        net.load_state_dict(weights)
        nets.append(net)
    return nets[0].eval() if len(nets) == 1 else Ensemble(nets).eval()


EXAMPLE_SHAPE = (1, SIGNAL_CHANNELS, SIGNAL_SAMPLES)
