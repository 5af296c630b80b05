"""What the mark reader learns from: patches around printed names and texts, and around what is neither."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from distill.render import LONE_LAYOUTS, RecordPools, random_record, unusual_scale, write_files
from distill.targets import recoloured
from ecg.errors import InputError
from ecg.files import write_npz
from ecg.marks import PATCH_HEIGHT, PATCH_PX_PER_MM, PATCH_WIDTH, READ_KINDS, SPLIT_GAIN
from ecg.page import U8
from ecg.synth.printer import distractor_page, random_page
from ecg.synth.truth import MarkBox, PrintedPage

OTHER = READ_KINDS.index("other")
LONG_SPREAD = 0.2  # of a text's length
LEAST_ON_TRACES = 12  # places on a page's traces: of a single row many, since its strokes look like an I
Spot = tuple[int, float, float, float]  # kind, x mm, y mm, standard deviation of its place along x, mm


@dataclass(frozen=True)
class PatchConfig:
    """What to print: ``files`` of ``pages`` pages each, out of the records of ``data`` and synthetic hearts."""

    out: Path
    files: int = 40
    first: int = 0
    pages: int = 40
    data: tuple[str, ...] = ()
    fonts: tuple[str, ...] = ()
    unusual_share: float = 0.5
    lone_share: float = 0.0  # pages of a single row
    workers: int = 1
    seed: int = 0


def spots(page: PrintedPage, rng: np.random.Generator) -> list[Spot]:
    """Names and texts of a page, and other places on it, some of them printed with something else."""
    out: list[Spot] = []
    for box in page.marks:
        x, y = (box.x0_mm + box.x1_mm) / 2, (box.y0_mm + box.y1_mm) / 2
        kind = f"{box.kind}:{box.text}"
        if kind in READ_KINDS:
            out.append((READ_KINDS.index(kind), x, y, _spread_mm(box)))
            if rng.random() < 0.25:  # beside it: not the name's place
                far = rng.uniform(4, 9) * rng.choice([-1, 1])
                out.append((OTHER, x, y + far, 0.3) if rng.random() < 0.5 else (OTHER, x + 1.4 * far, y, 0.3))
        elif box.kind == "gain" and kind != SPLIT_GAIN:
            continue
        elif box.kind in ("header", "footer", "handwriting", "stamp", "pulse", "separator") and rng.random() < 0.5:
            out.append((OTHER, rng.uniform(box.x0_mm, box.x1_mm), rng.uniform(box.y0_mm, box.y1_mm), 0.5))
    each = max(2, LEAST_ON_TRACES // max(1, len(page.traces)))
    for trace in page.traces:
        for k in rng.integers(0, len(trace.x_mm), each if len(trace.x_mm) else 0):
            at = float(trace.x_mm[k]), float(trace.y_mm[k])
            if all(s[0] == OTHER or abs(at[0] - s[1]) > 6 or abs(at[1] - s[2]) > 3 for s in out):
                out.append((OTHER, *at, 0.5))
    return out


def _spread_mm(box: MarkBox) -> float:
    """How far from its middle the finder sees something: a name at its place, a long text anywhere along it."""
    return 0.5 if box.kind == "lead" else max(1.2, LONG_SPREAD * (box.x1_mm - box.x0_mm))


def cut_patch(rgb: U8, px_per_mm: float, x_mm: float, y_mm: float, rng: np.random.Generator) -> U8:
    """The patch (40, 224) around a page's point as a photo of some resolution, a little turned and scaled, shows it."""
    seen = float(np.exp(rng.uniform(np.log(3.6), np.log(12.0))))  # photo px per mm
    turn, size = np.radians(rng.normal(0, 2.0)), np.exp(rng.normal(0, 0.06))
    w, h = PATCH_WIDTH / PATCH_PX_PER_MM, PATCH_HEIGHT / PATCH_PX_PER_MM
    fine = min(seen, px_per_mm)
    shape = max(8, round(h * fine)), max(24, round(w * fine))
    step = size / fine * px_per_mm
    c, s = np.cos(turn) * step, np.sin(turn) * step
    centre = np.array([x_mm, y_mm]) * px_per_mm - 0.5
    half = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2])
    origin = centre - np.array([c * half[0] - s * half[1], s * half[0] + c * half[1]])
    if step > 1.3:  # shrink by area first, or thin strokes break
        pad = int(np.ceil(max(w, h) * px_per_mm))
        x0, y0 = (int(np.clip(v - pad, 0, n - 1)) for v, n in zip(centre, rgb.shape[1::-1], strict=True))
        cut = rgb[y0 : y0 + 2 * pad, x0 : x0 + 2 * pad]
        rgb = np.asarray(cv2.GaussianBlur(cut, (0, 0), 0.4 * step), np.uint8)
        origin = origin - [x0, y0]
    matrix = np.array([[c, -s, origin[0]], [s, c, origin[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    out = cv2.warpAffine(rgb, matrix, (shape[1], shape[0]), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    out = recoloured(compressed(np.asarray(out, np.uint8), rng), rng).max(axis=-1)
    if rng.random() < 0.5:  # shade
        ramp = np.linspace(rng.uniform(0.6, 1), rng.uniform(0.6, 1), out.shape[1])
        out = np.clip(out * ramp, 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(out, (PATCH_WIDTH, PATCH_HEIGHT), interpolation=cv2.INTER_LINEAR), np.uint8)


def compressed(rgb: U8, rng: np.random.Generator) -> U8:
    """The picture, mostly as a JPEG of some quality shows it."""
    if rng.random() < 0.4:
        return rgb
    ok, data = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(35, 95))])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8) if ok else rgb


def page_patches(page: PrintedPage, rng: np.random.Generator) -> tuple[list[U8], list[int]]:
    """Patches of one page and their kinds; rare kinds are cut several times."""
    patches, kinds = [], []
    for kind, x, y, sigma in spots(page, rng):
        rare = READ_KINDS[kind].startswith(("speed", "gain")) or READ_KINDS[kind] == "lead:-aVR"
        for _ in range(4 if rare else 1):
            at = x + rng.normal(0, sigma), y + rng.normal(0, 0.4)
            patches.append(cut_patch(page.rgb, page.px_per_mm, *at, rng))
            kinds.append(kind)
    return patches, kinds


def write_file(index: int, records: RecordPools, config: PatchConfig) -> Path:
    """One file of patches, whole or not at all; it depends on the seed and the index alone."""
    path = config.out / f"patches-{index:05d}.npz"
    if path.exists():
        return path
    rng = np.random.default_rng([config.seed, 7, index])
    patches: list[U8] = []
    kinds: list[int] = []
    for _ in range(config.pages):
        if rng.random() < 0.06:
            page = distractor_page(rng)
        else:
            scale = unusual_scale(rng) if rng.random() < config.unusual_share else (None, None, None)
            record = random_record(records, 0.15, rng)
            lone = config.lone_share and rng.random() < config.lone_share
            layout = LONE_LAYOUTS[int(rng.integers(len(LONE_LAYOUTS)))] if lone else None
            page = random_page(rng, record, fonts=config.fonts, layout=layout, speed_mm_per_s=scale[0],
                               gain_mm_per_mv=scale[1], chest_gain_mm_per_mv=scale[2])  # fmt: skip
        some, what = page_patches(page, rng)
        patches += some
        kinds += what
    write_npz(path, {"patch": np.stack(patches), "kind": np.array(kinds, np.uint8)}, compressed=True)
    return path


def render_patches(config: PatchConfig) -> None:
    """Print all files that aren't there yet."""
    write_files(write_file, config, config.files)


def load_patches(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All patches (n, 40, 224) of a folder and their kinds (n,)."""
    found = [np.load(p) for p in sorted(folder.glob("patches-*.npz"))]
    if not found:
        raise InputError(f"{folder}: no patches there; run ecgscan-distill render-marks first")
    return np.concatenate([f["patch"] for f in found]), np.concatenate([f["kind"] for f in found]).astype(np.int64)
