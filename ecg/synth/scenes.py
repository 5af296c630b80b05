"""Pictures without an ECG, for training refusal: tables, clutter, text, plain squared paper, X-ray-like blobs."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.page import U8
from ecg.synth.backgrounds import KINDS, background, clutter, other_sheet
from ecg.synth.develop import Development, develop
from ecg.synth.lens import View, place
from ecg.synth.paper_shape import smooth_noise
from ecg.synth.truth import F64, Photograph

_KINDS = ("table", "text", "xray", "gradient", "shapes", "chart", "noise")


def _nowhere(points: NDArray[np.floating]) -> F64:
    """No sheet: NaN for every point."""
    return np.full(np.shape(points), np.nan)


def _text(rgb: U8, rng: np.random.Generator) -> None:
    """Pages of letters: random strings in rows."""
    h, w = rgb.shape[:2]
    rgb[:] = rng.integers(200, 256, 3)
    scale = max(h, w) / 1600 * rng.uniform(0.5, 1.3)
    step = int(36 * scale) + 6
    ink = tuple(float(v) for v in rng.integers(0, 110, 3))
    alphabet = np.array(list("abcdefghijklmnopqrstuvwxyz     ABCDEF0123456789.,"))
    for y in range(step, h, step):
        if rng.random() < 0.12:
            continue
        line = "".join(rng.choice(alphabet, int(rng.integers(8, 90))))
        cv2.putText(
            rgb, line, (int(0.06 * w), y), cv2.FONT_HERSHEY_COMPLEX, scale, ink, max(int(scale * 1.6), 1), cv2.LINE_AA
        )


def _xray(rgb: U8, rng: np.random.Generator) -> None:
    """Soft bright blobs on black with ribs of a sort."""
    h, w = rgb.shape[:2]
    field = np.clip(smooth_noise((h, w), w / 3, rng) + smooth_noise((h, w), w / 9, rng) * np.float32(0.4), -0.4, 1)
    y = np.linspace(0, rng.uniform(20, 60), h, dtype=np.float32)[:, None]
    field = field + np.sin(y + smooth_noise((h, w), w / 2, rng) * 4) * np.float32(rng.uniform(0, 0.15))
    grey = np.clip((field + np.float32(0.4)) * 150, 0, 255).astype(np.uint8)
    rgb[:] = grey[..., None]


def _chart(rgb: U8, rng: np.random.Generator) -> None:
    """Axes, a grid and curves that are no ECG: a bar or line chart."""
    h, w = rgb.shape[:2]
    rgb[:] = 250
    n = int(rng.integers(4, 12))
    for k in range(n + 1):
        y = int(h * (0.1 + 0.8 * k / n))
        cv2.line(rgb, (int(0.1 * w), y), (int(0.95 * w), y), (205, 205, 210), 1)
    for _ in range(int(rng.integers(1, 5))):
        x = np.linspace(0.1, 0.95, int(rng.integers(5, 40))) * w
        y = (0.5 + np.cumsum(rng.normal(0, 0.05, len(x)))) * h
        colour = tuple(float(v) for v in rng.integers(0, 220, 3))
        if rng.random() < 0.5:
            path = np.stack([x, y], axis=1).astype(np.int32).reshape(-1, 1, 2)
            cv2.polylines(rgb, [path], False, colour, max(w // 400, 1), cv2.LINE_AA)
        else:
            for a, b in zip(x, y, strict=True):
                cv2.rectangle(rgb, (int(a), int(b)), (int(a + w / 60), int(0.9 * h)), colour, -1)


def _paint(kind: str, rgb: U8, rng: np.random.Generator) -> None:
    h, w = rgb.shape[:2]
    if kind == "text":
        _text(rgb, rng)
    elif kind == "xray":
        _xray(rgb, rng)
    elif kind == "chart":
        _chart(rgb, rng)
    elif kind == "gradient":
        for c in range(3):
            n = smooth_noise((h, w), max(h, w) * rng.uniform(0.2, 1), rng)
            rgb[..., c] = np.clip((n * 0.5 + 0.5) * 255, 0, 255).astype(np.uint8)
    elif kind == "noise":
        n = smooth_noise((h, w), rng.uniform(2, 12), rng) + smooth_noise((h, w), w / 8, rng)
        rgb[:] = np.clip(n * 70 + 128, 0, 255).astype(np.uint8)[..., None]


def random_scene(rng: np.random.Generator, long_side_px: int) -> Photograph:
    """A picture that shows no ECG; ``page`` and ``sheet`` are None and the maps give NaN."""
    kind = str(rng.choice(_KINDS, p=[0.4, 0.15, 0.08, 0.08, 0.12, 0.1, 0.07]))
    view = View(
        window=(0, 0, 1, 1),
        aspect=float(rng.choice([4 / 3, 16 / 9, 1.0, 1.5])),
        turned_frame=bool(rng.random() < 0.4),
        roll_deg=float(rng.uniform(0, 360)),
        tilt_deg=float(rng.uniform(0, 30)),
        azimuth_deg=float(rng.uniform(0, 360)),
    )
    pinhole = place(view, (297.0, 210.0), long_side_px)
    surface = str(rng.choice(KINDS))
    things = int(rng.integers(0, 7)) if kind == "table" else 0
    rgb = background(surface, pinhole, things, int(rng.integers(0, 3)) if kind == "table" else 0, rng)
    _paint(kind, rgb, rng)
    if kind == "shapes":
        clutter(rgb, int(rng.integers(6, 25)), rng)
        if rng.random() < 0.4:
            other_sheet(rgb, rng)
    shade = smooth_noise(rgb.shape[:2], long_side_px * 0.6, rng) * np.float32(rng.uniform(0, 0.3)) + np.float32(0.85)
    rgb = np.clip(rgb * shade[..., None], 0, 255).astype(np.uint8)
    dev = Development(
        defocus_px=float(rng.uniform(0, 1.5)),
        noise=float(rng.uniform(0, 6)),
        contrast=float(rng.uniform(0.8, 1.2)),
        jpeg=int(rng.integers(30, 96)),
    )
    rgb = develop(rgb, dev, rng)
    rgb.setflags(write=False)
    return Photograph(rgb, None, _nowhere, _nowhere, None, "scene")
