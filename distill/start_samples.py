"""What the start reader learns from: patches around printed traces' starts and ends, and where in them these lie."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from distill.mark_samples import compressed
from distill.render import LONE_LAYOUTS, RecordPools, random_record, unusual_scale, write_files
from distill.targets import recoloured
from ecg.errors import InputError
from ecg.files import write_npz
from ecg.geometry import start_patch_mm
from ecg.marks import END_KINDS, START_OFFSETS_MM
from ecg.page import U8
from ecg.synth.printer import print_page
from ecg.synth.style_random import random_style
from ecg.synth.truth import PrintedPage

NOT_HERE: Final = 99.0  # the place of a patch that shows none
PER_PAGE: Final = 14
LEVEL_MM: Final = 1.0  # a patch is as high as its trace runs this far inside
SEPARATORS_OFF_MM: Final = 0.2
AROUND_MM: Final = 14.0  # of the page around a patch's middle that a camera sees
Place = tuple[int, float, float]  # index in END_KINDS, x mm, y mm


@dataclass(frozen=True)
class StartConfig:
    """What to print: ``files`` of ``pages`` pages each, out of the records of ``data`` and synthetic hearts."""

    out: Path
    files: int = 260
    first: int = 0
    pages: int = 40
    data: tuple[str, ...] = ()
    fonts: tuple[str, ...] = ()
    unusual_share: float = 0.6
    lone_share: float = 0.06
    synthetic_share: float = 0.4
    workers: int = 1
    seed: int = 0


def places(page: PrintedPage) -> list[Place]:
    """Where traces start, and where rows end, unless the page's edge cuts them off."""
    width = page.size_mm[0]
    found: list[Place] = []
    last: dict[int, tuple[bool, float, float]] = {}  # by row: whether the end is there, x and y
    for trace in page.traces:
        strip, seen = trace.strip, np.isfinite(trace.y_mm)
        few = max(4, int(LEVEL_MM / float(trace.x_mm[1] - trace.x_mm[0])))
        if seen[:few].all() and strip.x0_mm > 0.01:
            found.append((END_KINDS.index("start"), strip.x0_mm, float(np.median(trace.y_mm[:few]))))
        if strip.row not in last or strip.x1_mm > last[strip.row][1]:
            whole = bool(seen[-few:].all()) and strip.x1_mm < width - 0.01
            last[strip.row] = whole, strip.x1_mm, float(np.median(trace.y_mm[-few:]))
    return found + [(END_KINDS.index("end"), x, y) for whole, x, y in last.values() if whole]


def cut_start(rgb: U8, px_per_mm: float, x_mm: float, y_mm: float, rng: np.random.Generator) -> U8:
    """The patch (96, 96, 3) around a page's point, at times as a scan shows it, at times as a photo does."""
    if rng.random() < 0.5:
        return _cut(rgb, np.array([px_per_mm, px_per_mm]), np.zeros(2), (x_mm, y_mm), (0.003, 0.002), rng)
    centre, pad = np.array([x_mm, y_mm]) * px_per_mm, AROUND_MM * px_per_mm
    x0, y0 = np.maximum(centre - pad, 0).astype(int)
    x1, y1 = (centre + pad).astype(int)
    part = np.ascontiguousarray(rgb[y0:y1, x0:x1])
    scale = float(np.exp(rng.uniform(np.log(4.5), np.log(11.0)))) / px_per_mm
    size = max(8, round(part.shape[1] * scale)), max(8, round(part.shape[0] * scale))
    seen = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR), np.uint8)
    real = np.array(size) / part.shape[1::-1]
    if rng.random() < 0.5:
        seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), rng.uniform(0.3, 1.1)), np.uint8)
    seen = recoloured(compressed(seen, rng), rng)
    return _cut(seen, px_per_mm * real, np.array([x0, y0]) * real, (x_mm, y_mm), (0.0175, 0.02), rng)


def _cut(
    rgb: U8, px_per_mm: NDArray[np.float64], origin_px: NDArray[np.float64], at_mm: tuple[float, float],
    spread: tuple[float, float], rng: np.random.Generator,
) -> U8:  # fmt: skip
    """The patch around ``at_mm`` of a picture whose corner lies ``origin_px`` from the page's; ``spread``: standard
    deviations of how far a lattice may be turned (radians) and how wrong its scale may be."""
    turn, size = rng.normal(0, spread[0]), np.exp(rng.normal(0, spread[1]))
    u, v = np.meshgrid(*start_patch_mm())
    c, s = np.cos(turn) * size, np.sin(turn) * size
    x = (at_mm[0] + c * u - s * v) * px_per_mm[0] - origin_px[0] - 0.5
    y = (at_mm[1] + s * u + c * v) * px_per_mm[1] - origin_px[1] - 0.5
    xy = x.astype(np.float32), y.astype(np.float32)
    return np.asarray(cv2.remap(rgb, *xy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def page_starts(page: PrintedPage, rng: np.random.Generator) -> tuple[list[U8], list[int], list[float]]:
    """Patches of one page, their kinds, and how far right of their middles the places lie (mm, or ``NOT_HERE``)."""
    patches: list[U8] = []
    kinds: list[int] = []
    offsets: list[float] = []
    found = places(page)
    for k in rng.permutation(len(found))[:PER_PAGE]:
        kind, x, y = found[k]
        off = float(rng.normal(0, 0.12) if rng.random() < 0.7 else rng.uniform(-0.9, 0.9))
        if rng.random() < 0.05:
            off = float(rng.choice([-1, 1]) * rng.uniform(1.5, 8))
        patches.append(cut_start(page.rgb, page.px_per_mm, x - off, y + rng.normal(0, 0.4), rng))
        kinds.append(kind)
        offsets.append(off if abs(off) <= START_OFFSETS_MM[-1] else NOT_HERE)
    return patches, kinds, offsets


def write_file(index: int, records: RecordPools, config: StartConfig) -> Path:
    """One file of patches, whole or not at all; it depends on the seed and the index alone."""
    path = config.out / f"starts-{index:05d}.npz"
    if path.exists():
        return path
    rng = np.random.default_rng([config.seed, 11, index])
    rows: list[tuple[U8, int, float]] = []
    for _ in range(config.pages):
        scale = unusual_scale(rng) if rng.random() < config.unusual_share else (None, None, None)
        layout = LONE_LAYOUTS[int(rng.integers(len(LONE_LAYOUTS)))] if rng.random() < config.lone_share else None
        record = random_record(records, config.synthetic_share, rng)
        style = random_style(rng, record, fonts=config.fonts, layout=layout, speed_mm_per_s=scale[0],
                             gain_mm_per_mv=scale[1], chest_gain_mm_per_mv=scale[2])  # fmt: skip
        # Machines draw separators anywhere near where their columns meet.
        off = replace(style.separators, off_mm=float(rng.normal(0, SEPARATORS_OFF_MM)))
        rows += zip(*page_starts(print_page(record, replace(style, separators=off), rng), rng), strict=True)
    patches, kinds, offsets = zip(*rows, strict=True)
    arrays = {"patch": np.stack(patches), "kind": np.array(kinds, np.uint8), "offset": np.array(offsets, np.float32)}
    write_npz(path, arrays, compressed=True)
    return path


def render_starts(config: StartConfig) -> None:
    """Print all files that aren't there yet."""
    write_files(write_file, config, config.files)


def start_files(folder: Path) -> list[Path]:
    """A folder's files of patches; raises ``InputError`` where there are fewer than two."""
    paths = sorted(folder.glob("starts-*.npz"))
    if len(paths) < 2:
        raise InputError(f"{folder}: has {len(paths)} files of starts; run ecgscan-distill render-starts first")
    return paths


def load_starts(paths: list[Path]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.float64]]:
    """Patches (n, 96, 96, 3), their kinds (n,) and offsets (n,)."""
    found = [np.load(p) for p in paths]
    patch, kind, offset = (np.concatenate([f[name] for f in found]) for name in ("patch", "kind", "offset"))
    return patch, kind.astype(np.int64), offset.astype(np.float64)
