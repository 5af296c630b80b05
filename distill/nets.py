"""The compact students: two finders, the readers of marks and starts, and the decoder.

Convolution, batch norm and ReLU only, so that INT8 gains.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg.marks import (
    AREA_CHANNELS,
    COARSE_CHANNELS,
    END_KINDS,
    GRID_CHANNELS,
    MARK_KINDS,
    PATCH_HEIGHT,
    PATCH_WIDTH,
    PLACE_CHANNELS,
    READ_KINDS,
    START_BINS,
    START_SIDE,
    STRIP_CHANNELS,
)


def conv(c_in: int, c_out: int, stride: int | tuple[int, int] = 1, kernel: int = 3) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)
    )


class Residual(nn.Module):
    """x + conv(conv(x)) at one width; ``silent``: it starts as nothing but x, for nets that go on from others."""

    def __init__(self, channels: int, inner: int | None = None, *, silent: bool = False) -> None:
        super().__init__()
        inner = inner or channels
        norm = nn.BatchNorm2d(channels)
        if silent:
            nn.init.zeros_(norm.weight)
        self.body = nn.Sequential(conv(channels, inner), nn.Conv2d(inner, channels, 3, 1, 1, bias=False), norm)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return F.relu(x + self.body(x))


def as_seen(rgb: Tensor) -> Tensor:
    """Pixels 0..255 to about unit variance."""
    return rgb * (1 / 64.0) - 2.0


class PageContext(nn.Module):
    """Adds to every place what the whole page shows: the mean over the page through a small perceptron."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.ReLU(inplace=True), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return x + self.mix(x.mean(dim=(2, 3), keepdim=True))


class Encoder(nn.Module):
    """Halves the size at each width; returns the features of every level, finest first."""

    def __init__(
        self, widths: tuple[int, ...], depth: tuple[int, ...], strides: tuple[tuple[int, int], ...], channels: int = 3
    ) -> None:
        super().__init__()
        levels, c_in = [], channels
        for width, n, stride in zip(widths, depth, strides, strict=True):
            levels.append(nn.Sequential(conv(c_in, width, stride), *(Residual(width) for _ in range(n))))
            c_in = width
        self.levels = nn.ModuleList(levels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """What is seen (B, channels, H, W), of about unit variance, to features."""
        features = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features


class Decode(nn.Module):
    """Back up from the coarsest features to those of level ``to``, joined with each level on the way; the levels of
    ``refined`` think about it once more."""

    def __init__(
        self, widths: tuple[int, ...], strides: tuple[tuple[int, int], ...], to: int, refined: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        self.level = to
        self.scales = [(float(s[0]), float(s[1])) for s in strides]
        self.join = nn.ModuleDict(
            {str(k): conv(widths[k + 1] + widths[k], widths[k]) for k in range(len(widths) - 2, to - 1, -1)}
        )
        self.refine = nn.ModuleDict({str(k): Residual(widths[k], silent=True) for k in refined})

    def forward(self, features: list[Tensor]) -> Tensor:
        """Features of all levels to (B, widths[to], ...)."""
        x = features[-1]
        for k in range(len(features) - 2, self.level - 1, -1):
            x = F.interpolate(x, scale_factor=self.scales[k + 1], mode="nearest")
            x = self.join[str(k)](torch.cat([x, features[k]], dim=1))
            if str(k) in self.refine:
                x = self.refine[str(k)](x)
        return x


TWO = (2, 2)


class FinderCoarse(nn.Module):
    """Thumbnail (B, 3, 512, 512) to maps (B, 7, 32, 32) as COARSE_CHANNELS, the first two logits."""

    def __init__(self, widths: tuple[int, ...] = (16, 28, 48, 72, 104, 128)) -> None:
        super().__init__()
        strides = (TWO,) * len(widths)
        self.encoder = Encoder(widths, (0, 0, 1, 1, 1, 2), strides)
        self.context = PageContext(widths[-1])
        self.decode = Decode(widths, strides, to=3)
        self.head = nn.Sequential(conv(widths[3], widths[3]), nn.Conv2d(widths[3], len(COARSE_CHANNELS), 1))

    def forward(self, rgb: Tensor) -> Tensor:
        """See the class."""
        f = self.encoder(as_seen(rgb))
        f[-1] = self.context(f[-1])
        return self.head(self.decode(f))


class FinderFine(nn.Module):
    """Upright view (B, 3, H, W) at 4 px/mm to maps at 1 mm: grid phases, areas' logits, marks' logits, places."""

    outputs = ("grid", "area", "marks", "place")

    def __init__(self, widths: tuple[int, ...] = (24, 48, 72, 96, 128)) -> None:
        super().__init__()
        strides = (TWO,) * len(widths)
        self.encoder = Encoder(widths, (0, 1, 1, 1, 2), strides)
        self.decode = Decode(widths, strides, to=1)
        self.refine = Residual(widths[1])
        self.sizes = [len(GRID_CHANNELS), len(AREA_CHANNELS), len(MARK_KINDS), len(PLACE_CHANNELS)]
        self.head = nn.Conv2d(widths[1], sum(self.sizes), 1)
        with torch.no_grad():  # marks are rare: start near their prior
            assert self.head.bias is not None
            self.head.bias[6 : 6 + len(MARK_KINDS)] = -5.0

    def forward(self, rgb: Tensor) -> tuple[Tensor, ...]:
        """See the class; (B, 4, h, w), (B, 2, h, w), (B, kinds, h, w), (B, 6, h, w)."""
        return torch.split(self.head(self.refine(self.decode(self.encoder(as_seen(rgb))))), self.sizes, dim=1)


class MarkReader(nn.Module):
    """Patches (B, 1, 40, 224) of what looks like a name or a text to logits (B, kinds) as READ_KINDS."""

    outputs = ("kind",)

    def __init__(self, widths: tuple[int, ...] = (16, 32, 48, 64)) -> None:
        super().__init__()
        a, b, c, d = widths
        self.body = nn.Sequential(
            conv(1, a, 2), conv(a, b, 2), Residual(b), conv(b, c, 2), Residual(c), conv(c, d, (1, 2)), Residual(d)
        )
        self.head = nn.Linear(d * (PATCH_HEIGHT // 8) * (PATCH_WIDTH // 16), len(READ_KINDS))

    def forward(self, patch: Tensor) -> Tensor:
        """See the class; grey values 0..255."""
        return self.head(self.body(as_seen(patch)).flatten(1))


class StartReader(nn.Module):
    """Patches (B, 3, 96, 96) around where traces start or end to logits (B, 2, 102): for a start and for an end as
    END_KINDS, how far right of the patch's middle it lies (``START_OFFSETS_MM``), and last that it isn't there."""

    outputs = ("place",)

    def __init__(self, widths: tuple[int, ...] = (16, 24, 32, 48), hidden: int = 128) -> None:
        super().__init__()
        a, b, c, d = widths
        # Only x is asked for: it keeps its resolution the longest.
        self.body = nn.Sequential(
            conv(3, a, 2), conv(a, b, (2, 1)), Residual(b), conv(b, c, (2, 1)), Residual(c), conv(c, d, 2), Residual(d)
        )
        self.hidden = nn.Linear(d * (START_SIDE // 16) * (START_SIDE // 4), hidden)
        self.head = nn.Linear(hidden, len(END_KINDS) * (START_BINS + 1))

    def forward(self, patch: Tensor) -> Tensor:
        """See the class; colours 0..255."""
        said = self.head(F.relu(self.hidden(self.body(as_seen(patch)).flatten(1))))
        return said.unflatten(1, (len(END_KINDS), START_BINS + 1))


class StripDecoder(nn.Module):
    """Strip (B, 4, 224, W) to height logits (B, 112, W), a distribution a column, and presence logits (B, W).

    The fourth channel shows where other rows' traces were read to run (``ecg.other_rows.as_told``); 128 everywhere: not
    known."""

    outputs = ("height", "presence")

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 96, 128)) -> None:
        super().__init__()
        strides = (TWO,) * len(widths)
        self.encoder = Encoder(widths, (0, 1, 1, 1, 2), strides, len(STRIP_CHANNELS))
        self.context = PageContext(widths[-1])
        # Where traces cross, half a millimetre decides whose stroke is whose: room to think at the finest levels.
        self.decode = Decode(widths, strides, to=0, refined=(0, 1))
        # Two columns a cell: the distribution is needed at full resolution in time only.
        self.height = nn.Conv2d(widths[0], 2, 1)
        self.presence = nn.Conv1d(widths[0] + widths[2], 2, 3, padding=1)

    def forward(self, strip: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        f = self.encoder(as_seen(strip))
        f[-1] = self.context(f[-1])
        x = self.decode(f)
        pair = self.height(x)  # (B, 2, 112, W / 2)
        b, _, rows, half = pair.shape
        height = pair.permute(0, 2, 3, 1).reshape(b, rows, half * 2)
        wide = F.interpolate(f[2].amax(dim=2), scale_factor=4.0, mode="nearest")
        seen = self.presence(torch.cat([x.amax(dim=2), wide], dim=1))  # (B, 2, W / 2)
        return height, seen.permute(0, 2, 1).reshape(b, half * 2)


def expected_row(height: Tensor) -> Tensor:
    """Expected bin (B, W) of height logits (B, rows, W)."""
    rows = torch.arange(height.shape[1], dtype=height.dtype, device=height.device)
    return torch.einsum("brw,r->bw", height.softmax(dim=1), rows)
