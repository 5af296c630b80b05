"""Things that people photograph instead of an ECG, to test refusals with; nothing is trained on them.

Drawn with PIL, apart from ``ecg.synth.distractors`` and ``scenes`` (which training sees), so that a refusal here isn't
a memory of the same drawing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ecg.leads import N_LEADS
from ecg.page import F32, U8, PageLayout
from ecg.records import EcgRecord
from ecg.synth.camera import photograph, random_shot
from ecg.synth.paper_shape import smooth_noise
from ecg.synth.truth import GridTruth, PrintedPage

Rng = np.random.Generator
Ink = tuple[int, int, int]
_PX_PER_MM: Final = 8.0
_GOODS: Final = (
    "BREAD", "MILK 1L", "APPLES", "PAPER", "COFFEE", "TEA", "SOAP", "RICE 2KG", "EGGS", "BATTERY", "SUGAR", "GLOVES",
    "GAUZE", "PLASTER", "WATER", "SALT", "PENS",
)  # fmt: skip
_PROSE: Final = (
    "Dear", "colleague", "thank", "you", "for", "referring", "this", "patient", "who", "was", "seen", "in", "the",
    "clinic", "on", "Monday", "The", "examination", "showed", "no", "sign", "of", "and", "we", "suggest", "to",
    "continue", "with", "same", "dose", "until", "next", "visit", "Yours", "sincerely", "I", "II", "V1", "mV", "mm",
)  # fmt: skip
_HEADS: Final = ("Date", "Name", "Rate", "Dose", "HR", "BP", "Sum", "Code", "Ward", "Unit", "SpO2", "Temp")


@lru_cache(maxsize=64)
def _font(size_px: int) -> Any:
    return ImageFont.load_default(size=size_px)


def _sheet(size_mm: tuple[float, float], rng: Rng, level: tuple[int, int] = (232, 256)) -> Image.Image:
    base = int(rng.integers(*level))
    tint = tuple(max(base - int(v), 0) for v in (0, rng.integers(0, 6), rng.integers(0, 14)))
    return Image.new("RGB", (round(size_mm[0] * _PX_PER_MM), round(size_mm[1] * _PX_PER_MM)), tint)


def _ink(rng: Rng) -> Ink:
    grey = int(rng.integers(5, 90))
    return grey, grey, min(grey + int(rng.integers(0, 40)), 255)


def _page_size(rng: Rng) -> tuple[float, float]:
    w, h = ((297.0, 210.0), (210.0, 297.0), (279.0, 216.0))[int(rng.integers(3))]
    return w, h


def _receipt(rng: Rng) -> Image.Image:
    w, h = float(rng.uniform(56, 82)), float(rng.uniform(110, 240))
    image = _sheet((w, h), rng)
    draw, ink, px = ImageDraw.Draw(image), _ink(rng), _PX_PER_MM
    size = int(rng.uniform(2.6, 3.6) * px)
    y = 8.0 * px
    while y < (h - 30) * px:
        price = f"{rng.uniform(0.2, 80):.2f}"
        draw.text((4 * px, y), str(rng.choice(_GOODS)), fill=ink, font=_font(size))
        draw.text(((w - 4) * px, y), price, fill=ink, font=_font(size), anchor="ra")
        y += size * 1.35
        if rng.random() < 0.08:
            draw.text((4 * px, y), "-" * 32, fill=ink, font=_font(size))
            y += size * 1.2
    for x in np.cumsum(rng.uniform(0.3, 1.4, 60)) * px + 6 * px:  # a bar code
        if x < (w - 8) * px:
            draw.rectangle((x, y + 4 * px, x + rng.uniform(0.2, 0.7) * px, y + 16 * px), fill=ink)
    return image


def _letter(rng: Rng) -> Image.Image:
    w, h = _page_size(rng)
    image = _sheet((w, h), rng)
    draw, ink, px = ImageDraw.Draw(image), _ink(rng), _PX_PER_MM
    size = int(rng.uniform(2.6, 4.2) * px)
    draw.rectangle((20 * px, 12 * px, (w - 20) * px, 13 * px), fill=_ink(rng))
    draw.text((20 * px, 16 * px), "Department of Cardiology", fill=ink, font=_font(int(size * 1.6)))
    y = 34.0 * px
    while y < (h - 18) * px:
        words = rng.choice(_PROSE, int(rng.integers(4, 15)))
        draw.text((20 * px, y), " ".join(words), fill=ink, font=_font(size))
        y += size * (1.45 if rng.random() < 0.85 else 2.4)
    return image


def _spreadsheet(rng: Rng) -> Image.Image:
    w, h = _page_size(rng)
    image = _sheet((w, h), rng, (246, 256))
    draw, ink, px = ImageDraw.Draw(image), _ink(rng), _PX_PER_MM
    rule = tuple(int(v) for v in rng.integers(140, 225, 3))
    row, column = rng.uniform(4.5, 8) * px, rng.uniform(14, 30) * px
    xs, ys = np.arange(8 * px, (w - 8) * px, column), np.arange(10 * px, (h - 8) * px, row)
    font = _font(int(row * 0.6))
    draw.rectangle((xs[0], ys[0], xs[-1], ys[1]), fill=(215, 222, 232))
    for y in ys:
        draw.line((xs[0], y, xs[-1], y), fill=rule, width=2)
    for x in xs:
        draw.line((x, ys[0], x, ys[-1]), fill=rule, width=2)
    for i, y in enumerate(ys[:-1]):
        for x in xs[:-1]:
            text = str(rng.choice(_HEADS)) if i == 0 else f"{rng.normal(50, 40):.{int(rng.integers(0, 3))}f}"
            draw.text((x + 0.6 * px, y + 0.12 * row), text, fill=ink, font=font)
    return image


def _line_chart(rng: Rng) -> Image.Image:
    """Prices, temperatures or pulse rates over time, several panels at times: the look of rows of traces."""
    w, h = _page_size(rng)
    image = _sheet((w, h), rng, (244, 256))
    draw, px = ImageDraw.Draw(image), _PX_PER_MM
    n = int(rng.integers(1, 5))
    for k in range(n):
        x0, x1 = 24 * px, (w - 10) * px
        y0, y1 = (14 + (h - 26) * k / n) * px, (14 + (h - 26) * (k + 0.86) / n) * px
        for y in np.linspace(y0, y1, int(rng.integers(4, 9))):
            draw.line((x0, y, x1, y), fill=(208, 208, 214), width=2)
            draw.text((x0 - 2 * px, y), f"{rng.uniform(0, 200):.0f}", fill=(70, 70, 70), font=_font(22), anchor="rm")
        for x in np.linspace(x0, x1, int(rng.integers(5, 14))):
            draw.line((x, y0, x, y1), fill=(222, 222, 226), width=2)
        for _ in range(int(rng.integers(1, 4))):
            m = int(rng.integers(20, 400))
            walk = np.cumsum(rng.normal(0, 1, m)) + rng.normal(0, 2, m) * (rng.random() < 0.3)
            unit = (walk - walk.min()) / max(float(np.ptp(walk)), 1e-6)
            line = np.stack([np.linspace(x0, x1, m), y1 - unit * (y1 - y0) * 0.95], -1)
            colour = tuple(int(v) for v in rng.integers(0, 200, 3))
            draw.line([(float(x), float(y)) for x, y in line], fill=colour, width=int(rng.integers(2, 6)))
    return image


def _blank_grid(rng: Rng) -> Image.Image:
    """Millimetre paper in the usual colours, nothing on it."""
    w, h = _page_size(rng)
    image = _sheet((w, h), rng)
    draw, px = ImageDraw.Draw(image), _PX_PER_MM
    hues = ((236, 150, 140), (150, 190, 235), (160, 205, 160), (235, 180, 120), (190, 190, 190))
    heavy = hues[int(rng.integers(len(hues)))]
    fine = tuple((v + 2 * 240) // 3 for v in heavy)
    margin = float(rng.choice([0.0, 8.0, 14.0]))
    step = 1.0 if rng.random() < 0.8 else 2.0
    for axis, length, across in ((0, w, h), (1, h, w)):
        for mm in np.arange(margin, length - margin + 0.1, step):
            bold = abs((mm - margin) % (5 * step)) < 0.01
            ends = [(mm * px, margin * px), (mm * px, (across - margin) * px)]
            draw.line([p if axis == 0 else p[::-1] for p in ends], fill=heavy if bold else fine, width=3 if bold else 1)
    return image


def _xray(rng: Rng) -> Image.Image:
    """A chest film: dark lungs crossed by ribs, spine and heart bright, collar bones, a side mark."""
    h, w = 900, int(rng.integers(760, 1100))
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    u, v = x / w - 0.5, y / h - 0.5
    body = 175 * np.exp(-((np.abs(u) / 0.44) ** 6) - (np.abs(v - 0.1) / 0.62) ** 6)
    lungs = sum(np.exp(-(((u - s) / 0.125) ** 2) - ((v + 0.02) / 0.3) ** 4) for s in (-0.21, 0.21))
    spine = np.exp(-((u / 0.035) ** 2)) * (0.75 + 0.25 * np.sign(np.sin(v * 70)))
    heart = np.exp(-(((u - 0.06) / 0.12) ** 2) - ((v - 0.15) / 0.15) ** 2)
    ribs = np.zeros((h, w), np.float32)
    for k in range(int(rng.integers(8, 12))):
        centre = -0.36 + 0.085 * k + 0.55 * np.abs(u) ** 1.3 - 0.05
        ribs += np.exp(-(((v - centre) / 0.011) ** 2))
    collar = np.exp(-(((v + 0.34 + 0.15 * np.abs(u)) / 0.014) ** 2)) * (np.abs(u) > 0.04)
    grain = smooth_noise((h, w), 60, rng) * 9 + smooth_noise((h, w), 6, rng) * np.float32(rng.uniform(1, 5))
    grey = body - 115 * lungs + 45 * spine + 55 * heart + 26 * ribs * (lungs > 0.05) + 40 * collar + 18 + grain
    image = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB")
    ImageDraw.Draw(image).text((50, 60), "LR"[int(rng.integers(2))], fill=(245, 245, 245), font=_font(54))
    return image


_DRAW: Final[dict[str, Callable[[Rng], Image.Image]]] = {
    "receipt": _receipt, "letter": _letter, "spreadsheet": _spreadsheet, "line chart": _line_chart,
    "blank grid": _blank_grid, "x-ray": _xray,
}  # fmt: skip
NON_ECG_KINDS: Final = (*_DRAW, "desk")


def _as_page(image: Image.Image) -> PrintedPage:
    """The picture as a sheet of paper (an X-ray as a print of about A4) for the camera."""
    rgb: U8 = np.array(image, np.uint8)
    px_per_mm = max(max(rgb.shape[:2]) / 297.0, 2.0) if max(rgb.shape[:2]) < 1200 else _PX_PER_MM
    rgb.setflags(write=False)
    empty = EcgRecord(np.full((N_LEADS, 1), np.nan, np.float32), 500.0, name="none")
    grid = GridTruth("none", 0.0, 0.0, (0.0, 0.0, 0.0, 0.0))
    return PrintedPage(rgb, px_per_mm, PageLayout("partial", 25.0, 10.0, ()), (), (), grid, empty)


def _desk(rng: Rng, long_side_px: int) -> U8:
    """Nothing but shapes and colours out of focus, as where the camera points at the room."""
    w, h = long_side_px, int(long_side_px * 0.75)
    soft: F32 = np.stack([smooth_noise((h // 4, w // 4), w / 14, rng) for _ in range(3)], -1)
    small = np.clip(soft * 60 + rng.uniform(60, 190, 3), 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(3, 14))):
        corner = rng.integers(0, (w // 4, h // 4), 2)
        ink = tuple(int(v) for v in rng.integers(0, 255, 3))
        size = rng.integers(6, w // 14, 2)
        cv2.rectangle(small, tuple(int(v) for v in corner), tuple(int(v) for v in corner + size), ink, -1)
    large = cv2.resize(cv2.GaussianBlur(small, (0, 0), float(rng.uniform(0.4, 3))), (w, h))
    return np.asarray(np.clip(large + rng.normal(0, 4, (h, w, 1)), 0, 255), dtype=np.uint8)


def non_ecg(kind: str, rng: Rng, long_side_px: int = 1600) -> U8:
    """A picture (H, W, 3) of one of ``NON_ECG_KINDS``: photographed, or now and then as a plain file.

    Raises ValueError for an unknown kind.
    """
    if kind not in NON_ECG_KINDS:
        raise ValueError(f"kind must be one of {', '.join(NON_ECG_KINDS)}, got {kind!r}")
    if kind == "desk":
        return _desk(rng, long_side_px)
    page = _as_page(_DRAW[kind](rng))
    if rng.random() < 0.25:  # a scan or an export
        h, w = page.rgb.shape[:2]
        factor = min(long_side_px / max(h, w), 1.0)
        size = max(round(w * factor), 1), max(round(h * factor), 1)
        return np.asarray(cv2.resize(np.array(page.rgb), size, interpolation=cv2.INTER_AREA), np.uint8)
    shot = random_shot(rng, long_side_px=long_side_px)
    return np.array(photograph(page, replace(shot, fingers=0), rng).rgb)
