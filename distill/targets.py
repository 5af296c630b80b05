"""Samples to the maps that the losses compare with, as batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from distill.samples import CROP_CELLS, CoarseSample, FineSample, StripSample
from ecg.marks import END_KINDS, FINE_STRIDE, MARK_KINDS, PULSE_REF_MM, STRIP_ROW_STRIDE
from ecg.other_rows import as_told
from ecg.page import F32, U8

HEAT_SIGMA_CELLS = 0.8
ALONE_SHARE = 0.4  # of the strips that the decoder learns from without the other rows
AnySample = TypeVar("AnySample", CoarseSample, FineSample, StripSample)


def heat_and_places(marks: F32) -> tuple[F32, F32, F32]:
    """Marks (n, 5) in view px to heat (kinds, 96, 96), places (6, 96, 96), and the places' weights (6, 96, 96)."""
    heat = np.zeros((len(MARK_KINDS), CROP_CELLS, CROP_CELLS), np.float32)
    place, weight = np.zeros((2, 6, CROP_CELLS, CROP_CELLS), np.float32)
    for kind, x, y, w_mm, h_mm in marks:
        k = int(kind)
        cx, cy = (x - 1.5) / FINE_STRIDE, (y - 1.5) / FINE_STRIDE
        x0, x1 = max(0, round(cx) - 2), min(CROP_CELLS, round(cx) + 3)
        y0, y1 = max(0, round(cy) - 2), min(CROP_CELLS, round(cy) + 3)
        if x0 >= x1 or y0 >= y1:
            continue
        gx, gy = np.meshgrid(np.arange(x0, x1), np.arange(y0, y1))
        r2 = (gx - cx) ** 2 + (gy - cy) ** 2
        bell = np.exp(-r2 / (2 * HEAT_SIGMA_CELLS**2))
        # The nearest cell counts as the mark itself (focal loss wants an exact 1).
        bell[r2 == r2.min()] = 1.0
        area = heat[k, y0:y1, x0:x1]
        np.maximum(area, bell, out=area)
        near = (r2 <= 2.3) & (bell > 0.3)
        pair = 2 if MARK_KINDS[k] in END_KINDS else 0
        for c, d in ((pair, cx - gx), (pair + 1, cy - gy)):
            place[c, y0:y1, x0:x1][near] = d[near]
            weight[c, y0:y1, x0:x1][near] = 1
        if MARK_KINDS[k] == "pulse" and w_mm > 0.5 and h_mm > 0.5:
            for c, mm in ((4, w_mm), (5, h_mm)):
                place[c, y0:y1, x0:x1][near] = np.log2(mm / PULSE_REF_MM)
                weight[c, y0:y1, x0:x1][near] = 1
    return heat, place, weight


def fine_batch(samples: list[FineSample]) -> dict[str, NDArray[np.generic]]:
    """rgb (B, 3, 384, 384) uint8, phase (B, 4, ...) cos and sin, grid, paper, trace (B, ...), heat, place, weight."""
    angle = np.stack([s.phase_mm for s in samples]).astype(np.float32) * (2 * np.pi / 5)
    phase = np.stack([np.cos(angle[..., 0]), np.sin(angle[..., 0]), np.cos(angle[..., 1]), np.sin(angle[..., 1])], 1)
    flags = np.stack([s.flags for s in samples]).astype(np.float32)
    heat, place, weight = (np.stack(x) for x in zip(*(heat_and_places(s.marks) for s in samples), strict=True))
    return {"rgb": _planes([s.rgb for s in samples]), "phase": phase, "grid": flags[..., 0], "paper": flags[..., 1],
            "trace": flags[..., 2], "heat": heat, "place": place, "weight": weight}  # fmt: skip


def coarse_batch(samples: list[CoarseSample]) -> dict[str, NDArray[np.generic]]:
    """rgb (B, 3, 512, 512) uint8 and maps (B, 7, 32, 32)."""
    maps = np.stack([s.maps for s in samples]).astype(np.float32).transpose(0, 3, 1, 2)
    return {"rgb": _planes([s.rgb for s in samples]), "maps": maps}


def strip_batch(samples: list[StripSample]) -> dict[str, NDArray[np.generic]]:
    """rgb (B, 4, 224, 512) uint8 as STRIP_CHANNELS; bin (B, 512), the height distribution's fractional bin (0 where
    absent); present."""
    row = np.stack([s.row for s in samples])
    present = np.isfinite(row)
    # Bin k covers rows 2k and 2k + 1, its centre at row 2k + 0.5.
    bins = np.where(present, (np.nan_to_num(row) - (STRIP_ROW_STRIDE - 1) / 2) / STRIP_ROW_STRIDE, 0.0)
    return {"rgb": _planes([shown(s) for s in samples]), "bin": bins.astype(np.float32),
            "present": present.astype(np.float32)}  # fmt: skip


def _planes(images: list[U8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))


def shown(sample: CoarseSample | FineSample | StripSample) -> U8:
    """What a net is shown of a sample (H, W, channels)."""
    return np.dstack([sample.rgb, as_told(sample.others)]) if isinstance(sample, StripSample) else sample.rgb


def varied(sample: AnySample, rng: np.random.Generator) -> AnySample:
    """The sample in another light; strips at times without the other rows, as the runtime first shows them."""
    changes: dict[str, Any] = {"rgb": recoloured(sample.rgb, rng)}
    if isinstance(sample, StripSample) and rng.random() < ALONE_SHARE:
        changes["others"] = np.zeros_like(sample.others)
    return replace(sample, **changes)


def recoloured(rgb: U8, rng: np.random.Generator) -> U8:
    """Another light and another camera: gain, gamma and cast by channel, at times grey, blurred or noisy."""
    if rng.random() < 0.2:
        return rgb
    gain = rng.uniform(0.75, 1.2) * rng.uniform(0.9, 1.1, 3)
    gamma = rng.uniform(0.75, 1.35)
    levels = np.arange(256) / 255.0
    table = np.clip(255 * (levels[:, None] ** gamma) * gain + rng.uniform(-12, 12), 0, 255).astype(np.uint8)
    out: NDArray[np.uint8] = np.stack([table[:, c][rgb[..., c]] for c in range(3)], axis=-1)
    kind = rng.random()
    if kind < 0.12:
        out = np.repeat(np.asarray(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY), np.uint8)[..., None], 3, axis=-1)
    elif kind < 0.2:
        out = out[..., ::-1]
    if rng.random() < 0.15:
        out = np.asarray(cv2.GaussianBlur(np.ascontiguousarray(out), (0, 0), rng.uniform(0.4, 1.1)), np.uint8)
    if rng.random() < 0.15:
        noise = rng.normal(0, rng.uniform(2, 9), out.shape[:2])[..., None]
        out = np.clip(out + noise, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(out, dtype=np.uint8)
