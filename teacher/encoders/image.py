"""Image encoders: open_clip's vision towers with LoRA, timm's convolution nets, our own, the released ECG-Scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecg.errors import InputError
from teacher.config import ImageConfig, LoraConfig
from teacher.encoders.protocols import ImageEncoder
from teacher.encoders.rows import RowsImageEncoder
from teacher.encoders.weights import Frozen, KeyCounts, WeightsError, load_strictly, read_state, require

CLIP_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Final = (0.26862954, 0.26130258, 0.27577711)
FETCH_CLIP = "open_clip_model.safetensors of huggingface.co/timm/vit_large_patch14_clip_336.openai"
FETCH_ECG_SCAN = "the gated repository huggingface.co/Manhph2211/ECG-Scan (Apache-2.0; ask for access there)"

# Vision towers of our own, to be trained from nothing or to test with.
OWN_TOWERS: Final[dict[str, dict[str, Any]]] = {
    "ecgscan-vit-tiny": {
        "embed_dim": 192,
        "vision_cfg": {"layers": 6, "width": 192, "head_width": 64, "patch_size": 16},
    },
    "ecgscan-vit-test": {"embed_dim": 24, "vision_cfg": {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16}},
}
_CLIP_TEXT_SIDE = (
    "transformer.", "token_embedding.", "positional_embedding", "text_projection", "ln_final.", "logit_scale",
    "attn_mask", "text.",
)  # fmt: skip


class _Normalised(nn.Module):
    """Pages 0..1 to CLIP's mean and spread."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(3, 1, 1), persistent=False)

    def forward(self, pages: Tensor) -> Tensor:
        return (pages - self.mean) / self.std


class SplitAttention(nn.Module):
    """nn.MultiheadAttention's sum with its three input projections apart, so that LoRA can adapt each as a layer.

    (Adapters on the joint matrix would have to be merged into the frozen weights and taken out again at every step,
    which lets rounding errors drift into them.)
    """

    def __init__(self, joint: nn.MultiheadAttention) -> None:
        super().__init__()
        width = joint.embed_dim
        self.heads = joint.num_heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.out_proj = nn.Linear(width, width)
        weight, bias = joint.in_proj_weight, joint.in_proj_bias
        with torch.no_grad():
            for k, proj in enumerate((self.q_proj, self.k_proj, self.v_proj)):
                proj.weight.copy_(weight[k * width : (k + 1) * width])
                proj.bias.copy_(bias[k * width : (k + 1) * width])
            self.out_proj.weight.copy_(joint.out_proj.weight)
            self.out_proj.bias.copy_(joint.out_proj.bias)

    def forward(
        self, q_x: Tensor, k_x: Tensor, v_x: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """(B, n, width) each; the signature is nn.MultiheadAttention's."""
        b, n, width = q_x.shape
        q, k, v = (
            proj(x).view(b, -1, self.heads, width // self.heads).transpose(1, 2)
            for proj, x in ((self.q_proj, q_x), (self.k_proj, k_x), (self.v_proj, v_x))
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask)
        return self.out_proj(mixed.transpose(1, 2).reshape(b, n, width)), None


def split_attentions(net: nn.Module) -> None:
    """Replace every nn.MultiheadAttention under ``net``, keeping what it computes."""
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.MultiheadAttention):
                setattr(module, name, SplitAttention(child))


def add_lora(net: nn.Module, config: LoraConfig) -> None:
    """Freeze ``net`` and put trainable low-rank adapters on the layers that the config names."""
    from peft import LoraConfig as PeftConfig
    from peft import inject_adapter_in_model

    peft = PeftConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=list(config.targets)
    )
    names = [name for name, _ in net.named_modules()]
    for target in config.targets:  # peft complains only if none of them is there
        if not any(name == target or name.endswith(f".{target}") for name in names):
            raise InputError(f"lora.targets {target!r}: the encoder has no such layer")
    inject_adapter_in_model(peft, net)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_("lora_" in name)


class ClipImageEncoder(nn.Module):
    """A vision tower of open_clip (or of ``OWN_TOWERS``), frozen but for its adapters where the config has any."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        model = _tower_config(config.name)
        found = check_weights(config)
        self.tower = _tower(model, config)
        vision = model["vision_cfg"]
        self.width, self.token_width = int(model["embed_dim"]), int(vision["width"])
        self.n_tokens = (config.height_px // vision["patch_size"]) * (config.width_px // vision["patch_size"])
        self.normalised = _Normalised()
        self.counts = KeyCounts(0, 0)
        if found:
            self.counts = self._load(found)
        split_attentions(self.tower)
        if config.lora.rank:
            add_lora(self.tower, config.lora)

    def _load(self, path: Path) -> KeyCounts:
        state = read_state(path)
        vision = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
        strange = [k for k in state if not k.startswith(("visual.", *_CLIP_TEXT_SIDE))]
        if strange or not vision:
            raise WeightsError(f"{path}: {strange[:3] or 'no visual.* tensors'}: not an open_clip checkpoint")
        counts = load_strictly(self.tower, vision, path)
        return KeyCounts(counts.loaded, len(state) - len(vision))

    def forward(self, pages: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled (B, width) and tokens (B, n_tokens, token_width)."""
        pooled, tokens = self.tower(self.normalised(pages))
        return pooled, tokens


def _tower_config(name: str) -> dict[str, Any]:
    if name in OWN_TOWERS:
        return OWN_TOWERS[name]
    import open_clip

    found: dict[str, Any] | None = open_clip.get_model_config(name)
    if found is None:
        raise InputError(f"image.name {name!r}: open_clip knows no such model; ours are {', '.join(OWN_TOWERS)}")
    return found


_PLAIN = {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"}


def _tower(model: dict[str, Any], config: ImageConfig) -> nn.Module:
    """A plain vision transformer at the pages' size, returning its tokens too."""
    from open_clip.transformer import QuickGELU, VisionTransformer

    vision = model["vision_cfg"]
    if set(vision) - _PLAIN or not isinstance(vision["layers"], int):
        raise InputError(f"image.name {config.name!r}: only plain vision transformers are supported")
    patch = vision["patch_size"]
    if config.height_px % patch or config.width_px % patch:
        raise InputError(f"image {config.height_px} x {config.width_px} px: both must be multiples of {patch}")
    return VisionTransformer(
        image_size=(config.height_px, config.width_px),
        patch_size=patch,
        width=vision["width"],
        layers=vision["layers"],
        heads=vision["width"] // vision.get("head_width", 64),
        mlp_ratio=vision.get("mlp_ratio", 4.0),
        output_dim=model["embed_dim"],
        output_tokens=True,
        act_layer=QuickGELU if model.get("quick_gelu") else nn.GELU,
    )


class TimmImageEncoder(nn.Module):
    """A convolution net of timm with random weights, trained whole.

    Its tokens stand 16 px apart and join the net's last two stages: traces want the finer one, findings the deeper.
    """

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        import timm

        if config.weights or config.lora.rank:
            raise InputError("image.kind 'timm' starts from random weights and has no adapters; leave both unset")
        if config.height_px % 32 or config.width_px % 32:
            raise InputError(f"image {config.height_px} x {config.width_px} px: both must be multiples of 32")
        if not timm.is_model(config.name):
            raise InputError(f"image.name {config.name!r}: timm knows no such model")
        net: Any = timm.create_model(config.name, pretrained=False, num_classes=0)
        info = net.feature_info
        channels = [f["num_chs"] for f in info] if isinstance(info, list) else list(info.channels())
        self.width = int(getattr(net, "head_hidden_size", None) or net.num_features)
        self.token_width = int(net.num_features + channels[-2])
        self.n_tokens = (config.height_px // 16) * (config.width_px // 16)
        self.net = net.to(memory_format=torch.channels_last)  # a quarter faster on CPUs
        self.normalised = _Normalised()

    def forward(self, pages: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled (B, width) and tokens (B, n_tokens, token_width)."""
        x = self.normalised(pages).contiguous(memory_format=torch.channels_last)
        deep, (fine,) = self.net.forward_intermediates(x, indices=[-2])
        wide = F.interpolate(deep, size=fine.shape[-2:], mode="nearest")
        tokens = torch.cat([fine, wide], dim=1).flatten(2).transpose(1, 2)
        return self.net.forward_head(deep), tokens


class ReleasedEcgScan(Frozen):
    """The released checkpoint as a ready image teacher, from its folder; frozen.

    Its folder brings Python code, which runs here: ``trust_remote_code`` says that you have read it.
    """

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        folder = str(check_weights(config))
        if not config.trust_remote_code:
            raise InputError(f"{folder}: brings its own code; read it, then set image.trust_remote_code")
        from transformers import AutoModel

        net, report = AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=True, output_loading_info=True
        )
        lacking = [*report["missing_keys"], *report["mismatched_keys"], *report["unexpected_keys"]]
        if lacking:
            raise WeightsError(f"{folder}: {lacking[0]} and {len(lacking) - 1} more don't fit; fetch the folder again")
        self.net = net
        self.normalised = _Normalised()
        self.freeze()
        with torch.no_grad():
            pooled, tokens = self(torch.zeros(1, 3, config.height_px, config.width_px))
        self.width, self.token_width, self.n_tokens = pooled.shape[1], tokens.shape[2], tokens.shape[1]

    def forward(self, pages: Tensor) -> tuple[Tensor, Tensor]:
        """Its embeddings (B, width); the same as one token where it gives no others."""
        out = self.net(self.normalised(pages))
        pooled = out.embeddings
        tokens = getattr(out, "last_hidden_state", None)
        return pooled, pooled[:, None] if tokens is None else tokens


def check_weights(config: ImageConfig) -> Path | None:
    """Where the encoder's weights are, None for random ones; WeightsError where they should be and aren't."""
    if config.kind == "ecg-scan":
        return require(config.weights, "the released ECG-Scan", FETCH_ECG_SCAN)
    return require(config.weights, "CLIP's weights", FETCH_CLIP) if config.weights else None


def build_image_encoder(config: ImageConfig) -> ImageEncoder:
    """The encoder that the config names."""
    kinds: dict[str, Any] = {
        "open_clip": ClipImageEncoder, "timm": TimmImageEncoder, "rows": RowsImageEncoder, "ecg-scan": ReleasedEcgScan,
    }  # fmt: skip
    if config.kind not in kinds:
        raise InputError(f"image.kind {config.kind!r}: expected one of {', '.join(kinds)}")
    if (config.kind == "rows") != (config.page == "leads"):
        raise InputError(f"image.kind {config.kind!r} doesn't go with image.page {config.page!r}")
    encoder: ImageEncoder = kinds[config.kind](config)
    return encoder
