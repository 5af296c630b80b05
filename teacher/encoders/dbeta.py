"""D-BETA's signal half (Pham et al., ICML 2025, arXiv 2410.02131), so that its released checkpoint loads.

The names and shapes of the tensors are the checkpoint's; the code is ours.  The checkpoint is CC BY-NC 4.0: a teacher
trained with it says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg.leads import N_LEADS
from teacher.encoders.weights import Frozen, KeyCounts, load_strictly, read_state, require

FETCH = "the checkpoint of huggingface.co/Manhph2211/D-BETA (CC BY-NC 4.0)"

# The checkpoint's text half and training heads, which the signal half doesn't need.
OTHER_PARTS = (
    "language_encoder.", "multi_modal_language_proj.", "modality_type_embeddings.", "multi_modal_ecg_layers.",
    "multi_modal_language_layers.", "multi_modal_ecg_pooler.", "multi_modal_language_pooler.",
    "unimodal_language_pooler.", "mlm_head.", "mim_head.", "itm_head.", "ecg_encoder.mask_emb",
)  # fmt: skip


@dataclass(frozen=True)
class DbetaSize:
    """Sizes of the released checkpoint: four convolutions of kernel and stride 2, then eight transformer layers."""

    conv_width: int = 256
    conv_layers: int = 4
    width: int = 768
    ffn_width: int = 3072
    layers: int = 8
    heads: int = 12
    position_kernel: int = 128
    position_groups: int = 16


class _WeightNormConv(nn.Module):
    """A convolution whose kernel is a direction and a length per tap: w = g v / |v|, |v| over all but the last axis."""

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.groups, self.padding = groups, kernel // 2
        self.bias = nn.Parameter(torch.zeros(width))
        self.weight_v = nn.Parameter(torch.randn(width, width // groups, kernel) * (4 / (kernel * width)) ** 0.5)
        self.weight_g = nn.Parameter(self.weight_v.detach().norm(dim=(0, 1), keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, n) to (B, width, n + 1) for an even kernel."""
        weight = self.weight_g * self.weight_v / self.weight_v.norm(dim=(0, 1), keepdim=True)
        return F.conv1d(x, weight, self.bias, padding=self.padding, groups=self.groups)


class _Position(nn.Module):
    """Where a frame stands, from a wide grouped convolution over its neighbours."""

    def __init__(self, size: DbetaSize) -> None:
        super().__init__()
        conv = _WeightNormConv(size.width, size.position_kernel, size.position_groups)
        self.pos_conv = nn.Sequential(conv, nn.Identity(), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, width) to (B, n, width)."""
        return self.pos_conv(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj, self.v_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.q_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, width = x.shape
        q, k, v = (
            proj(x).view(b, n, self.heads, width // self.heads).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, width)
        return self.out_proj(mixed)


class _Layer(nn.Module):
    """Transformer layer, norms after the sums."""

    def __init__(self, size: DbetaSize) -> None:
        super().__init__()
        self.self_attn = _Attention(size.width, size.heads)
        self.self_attn_layer_norm = nn.LayerNorm(size.width)
        self.fc1 = nn.Linear(size.width, size.ffn_width)
        self.fc2 = nn.Linear(size.ffn_width, size.width)
        self.final_layer_norm = nn.LayerNorm(size.width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.self_attn_layer_norm(x + self.self_attn(x))
        return self.final_layer_norm(x + self.fc2(F.gelu(self.fc1(x))))


class _Layers(nn.Module):
    def __init__(self, size: DbetaSize) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_Layer(size) for _ in range(size.layers)])
        self.layer_norm = nn.LayerNorm(size.width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer_norm(x)
        for layer in self.layers:
            x = layer(x)
        return x


class _Frames(nn.Module):
    """Convolutions; the first is normalised per channel over time, as its place 2 in the checkpoint says."""

    def __init__(self, size: DbetaSize) -> None:
        super().__init__()
        blocks, width = [], N_LEADS
        for k in range(size.conv_layers):
            conv = nn.Conv1d(width, size.conv_width, 2, stride=2, bias=False)
            norm = [nn.GroupNorm(size.conv_width, size.conv_width)] if k == 0 else []
            blocks.append(nn.Sequential(conv, nn.Identity(), *norm, nn.GELU()))
            width = size.conv_width
        self.conv_layers = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.conv_layers:
            x = block(x)
        return x


class _Trunk(nn.Module):
    def __init__(self, size: DbetaSize) -> None:
        super().__init__()
        self.feature_extractor = _Frames(size)
        self.layer_norm = nn.LayerNorm(size.conv_width)
        self.post_extract_proj = nn.Linear(size.conv_width, size.width)
        self.conv_pos = _Position(size)
        self.encoder = _Layers(size)


class _Pooler(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)


class DbetaSignalEncoder(Frozen):
    """10 s at 500 Hz, raw mV, lead order I II III aVR aVL aVF V1..V6, to (B, width); frozen."""

    fs_hz = 500.0
    n_samples = 5000

    def __init__(self, size: DbetaSize | None = None) -> None:
        super().__init__()
        size = size or DbetaSize()
        self.width = size.width
        self.class_embedding = nn.Parameter(torch.rand(size.width))
        self.ecg_encoder = _Trunk(size)
        self.multi_modal_ecg_proj = nn.Linear(size.width, size.width)
        self.unimodal_ecg_pooler = _Pooler(size.width)
        self.counts = KeyCounts(0, 0)
        self.freeze()

    @classmethod
    def load(cls, weights: str, size: DbetaSize | None = None) -> DbetaSignalEncoder:
        """The released encoder from its checkpoint; WeightsError where it is missing or not D-BETA's."""
        path = require(weights, "D-BETA's checkpoint", FETCH)
        net = cls(size)
        net.counts = load_strictly(net, read_state(path), path, OTHER_PARTS)
        net.freeze()
        return net

    @torch.no_grad()
    def forward(self, mv: Tensor, known: Tensor) -> Tensor:
        """(B, width) from mV (B, 12, 5000); what isn't ``known`` is zero to the net: masked, never tiled."""
        trunk = self.ecg_encoder
        x = trunk.feature_extractor(torch.where(known.bool(), mv, 0.0))
        x = trunk.post_extract_proj(trunk.layer_norm(x.transpose(1, 2)))
        x = x + trunk.conv_pos(x)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], dim=1)
        first = self.multi_modal_ecg_proj(trunk.encoder(x))[:, 0]
        return torch.tanh(self.unimodal_ecg_pooler.dense(first))
