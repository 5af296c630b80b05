"""Pages without an ECG, for learning when to refuse: plain grid paper, documents, charts, scores, pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np

from ecg.leads import N_LEADS
from ecg.page import PageLayout
from ecg.records import EcgRecord
from ecg.synth import words
from ecg.synth.furniture import draw_item
from ecg.synth.ink import Canvas, Rgb
from ecg.synth.lettering import FontStyle, render_text
from ecg.synth.paper import GridStyle, PaperStyle, draw_paper, finish_paper
from ecg.synth.style import BLACK
from ecg.synth.style_items import extras, handwriting, random_font
from ecg.synth.style_paper import random_paper
from ecg.synth.truth import PrintedPage

_PX_PER_MM: Final = 8.0
_NO_GRID: Final = GridStyle("none", 0.0, 0.0, (0.0, 0.0, 0.0, 0.0))
_INKS: Final[tuple[Rgb, ...]] = (
    BLACK, (0.2, 0.35, 0.7), (0.8, 0.3, 0.2), (0.25, 0.6, 0.35), (0.9, 0.65, 0.2), (0.5, 0.3, 0.6)
)  # fmt: skip
_TEXT: Final = (
    "the", "of", "and", "to", "in", "is", "was", "for", "that", "with", "patient", "on", "this", "as", "by", "were",
    "from", "be", "or", "at", "which", "has", "have", "not", "are", "had", "been", "results", "study", "table",
    "total", "date", "amount", "please", "sign", "below", "section", "report", "time", "rate", "value", "mean",
    "group", "analysis", "page", "clinic", "visit", "dose", "daily", "oral", "tablet", "blood", "pressure", "normal",
    "history", "examination", "plan", "review", "follow", "weeks", "signed",
)  # fmt: skip


def _page(canvas: Canvas, paper: PaperStyle, rng: np.random.Generator) -> PrintedPage:
    rgb = finish_paper(canvas.rgb, paper, rng)
    rgb.setflags(write=False)
    record = EcgRecord(np.full((N_LEADS, 1), np.nan, dtype=np.float32), 500.0, name="none")
    size = (rgb.shape[1] / canvas.px_per_mm, rgb.shape[0] / canvas.px_per_mm)
    layout = PageLayout("partial", 25.0, 10.0, ())
    return PrintedPage(rgb, canvas.px_per_mm, layout, (), tuple(canvas.marks), paper.grid.truth((0, 0), size), record)


def _size_mm(rng: np.random.Generator) -> tuple[float, float]:
    odd = (rng.uniform(120, 320), rng.uniform(60, 220))
    sizes = ((297.0, 210.0), (210.0, 297.0), (279.4, 215.9), (210.0, 148.0), odd)
    w, h = sizes[int(rng.integers(len(sizes)))]
    return float(w), float(h)


def _sheet(rng: np.random.Generator, size_mm: tuple[float, float], paper: PaperStyle) -> Canvas:
    size_px = (round(size_mm[0] * _PX_PER_MM), round(size_mm[1] * _PX_PER_MM))
    return draw_paper(paper, size_px, _PX_PER_MM, (0.0, 0.0), rng)


def blank_page(rng: np.random.Generator, fonts: tuple[str, ...] = ()) -> PrintedPage:
    """ECG paper on which nothing was recorded, at most a note, a hole or a line of small print."""
    size = _size_mm(rng)
    kind = ("lines", "lines", "lines", "dots", "heavy", "fine")[int(rng.integers(6))]
    paper = random_paper(rng, size, (0.0, 0.0, *size), kit=kind == "heavy" and rng.random() < 0.5, kind=kind)
    canvas = _sheet(rng, size, paper)
    if rng.random() < 0.5:
        for item in extras(rng, size, 25.0, fonts):
            draw_item(canvas, item, None, rng)
    if rng.random() < 0.2:
        for item in handwriting(rng, size, size[1] * 0.8):
            draw_item(canvas, item, None, rng)
    return _page(canvas, paper, rng)


def distractor_page(rng: np.random.Generator, fonts: tuple[str, ...] = ()) -> PrintedPage:
    """A sheet that someone might photograph by mistake; it has no traces and its layout no strips."""
    kinds = tuple(_DRAW)
    kind = kinds[int(rng.integers(len(kinds)))]
    size = (float(rng.uniform(58, 85)), float(rng.uniform(100, 230))) if kind == "receipt" else _size_mm(rng)
    if kind == "graph":
        paper = random_paper(rng, size, (0.0, 0.0, *size))
    else:
        level = rng.uniform(0.9, 1.0)
        copy = "grey" if rng.random() < 0.15 else ""
        grain = float(rng.uniform(0, 2.5))
        base = (level, level * rng.uniform(0.96, 1.0), level * rng.uniform(0.88, 1.0))
        paper = PaperStyle(base, _NO_GRID, grain, copy)
    canvas = _sheet(rng, size, paper)
    _DRAW[kind](canvas, size, rng, fonts)
    if rng.random() < 0.15:
        for item in handwriting(rng, size, size[1] * 0.5):
            draw_item(canvas, item, None, rng)
    return _page(canvas, paper, rng)


def _put(canvas: Canvas, text: str, x: float, y: float, font: FontStyle, rgb: Rgb, rng: np.random.Generator) -> None:
    shape = render_text(text, font, canvas.px_per_mm, rng)
    left, top = int(canvas.x_px(x)) + shape.left_px, int(canvas.y_px(y)) + shape.top_px
    canvas.lay(shape.mask, left, top, rgb)


def _sentence(rng: np.random.Generator, letters: int) -> str:
    out = ""
    while len(out) < letters:
        word = _TEXT[int(rng.integers(len(_TEXT)))]
        out += (word.capitalize() if rng.random() < 0.12 else word) + (". " if rng.random() < 0.08 else " ")
    return out[:letters]


def _document(canvas: Canvas, size: tuple[float, float], rng: np.random.Generator, fonts: tuple[str, ...]) -> None:
    """Paragraphs under a heading, in one or two columns."""
    w, h = size
    cap = float(rng.uniform(1.6, 2.6))
    font, columns = random_font(rng, fonts, cap), int(rng.integers(1, 3))
    _put(canvas, words.place(rng), 18, 16, random_font(rng, fonts, cap * 1.8), BLACK, rng)
    width = (w - 36 - 8 * (columns - 1)) / columns
    letters = max(int(width / (cap * 0.85 * font.stretch * (1 + font.spacing))), 8)
    for column in range(columns):
        y = 26.0
        while y < h - 15:
            full = rng.random() < 0.85
            line = _sentence(rng, letters if full else int(letters * rng.uniform(0.2, 0.8)))
            _put(canvas, line, 18 + column * (width + 8), y, font, BLACK, rng)
            y += cap * (1.9 if full else 3.2)


def _receipt(canvas: Canvas, size: tuple[float, float], rng: np.random.Generator, fonts: tuple[str, ...]) -> None:
    w, h = size
    font = random_font(rng, fonts, float(rng.uniform(1.7, 2.4)))
    _put(canvas, words.place(rng), w * 0.2, 10, random_font(rng, fonts, 3.0), BLACK, rng)
    for y in np.arange(20, h - 12, font.cap_mm * 2.1):
        _put(canvas, _sentence(rng, int(rng.integers(5, 16))), 4, y, font, BLACK, rng)
        _put(canvas, f"{rng.uniform(0, 99):.2f}", w - 16, y, font, BLACK, rng)
        if rng.random() < 0.1:
            canvas.fill(4, y + 1.2, w - 4, y + 1.4, BLACK)


def _table(canvas: Canvas, size: tuple[float, float], rng: np.random.Generator, fonts: tuple[str, ...]) -> None:
    """Ruled cells with numbers: the lines of a form look like a grid."""
    w, h = size
    font = random_font(rng, fonts, float(rng.uniform(1.5, 2.4)))
    row, col = rng.uniform(5, 11), rng.uniform(14, 40)
    rule = rng.uniform(0.15, 0.45)
    ys, xs = np.arange(15, h - 8, row), np.arange(10, w - 8, col)
    for y in ys:
        canvas.fill(xs[0], y, xs[-1], y + rule, BLACK)
    for x in xs:
        canvas.fill(x, ys[0], x + rule, ys[-1], BLACK)
    for y in ys[:-1]:
        for x in xs[:-1]:
            if rng.random() < 0.8:
                text = f"{rng.uniform(0, 500):.1f}" if rng.random() < 0.7 else _sentence(rng, 6)
                _put(canvas, text, x + 1.5, y + row * 0.7, font, BLACK, rng)


def _bar_chart(canvas: Canvas, size: tuple[float, float], rng: np.random.Generator, fonts: tuple[str, ...]) -> None:
    w, h = size
    font = random_font(rng, fonts, 2.2)
    left, base, top = 25.0, h - 22.0, 22.0
    for y in np.linspace(top, base, int(rng.integers(4, 9))):
        canvas.fill(left, y, w - 12, y + 0.2, (0.75, 0.75, 0.75))
        _put(canvas, f"{(base - y):.0f}", left - 12, y + 1, font, BLACK, rng)
    canvas.fill(left, top, left + 0.4, base, BLACK)
    n = int(rng.integers(4, 14))
    pitch = (w - 12 - left) / n
    ink = _INKS[int(rng.integers(len(_INKS)))]
    for k in range(n):
        x = left + (k + 0.2) * pitch
        canvas.fill(x, base - rng.uniform(0.1, 0.95) * (base - top), x + 0.6 * pitch, base, ink)
        _put(canvas, _sentence(rng, 4), x, base + 5, font, BLACK, rng)


def _graph(canvas: Canvas, size: tuple[float, float], rng: np.random.Generator, fonts: tuple[str, ...]) -> None:
    """Curves of functions with axes, on graph paper: the nearest thing to an ECG that is none."""
    w, h = size
    x0, y0 = rng.uniform(0.08, 0.5) * w, rng.uniform(0.4, 0.9) * h
    canvas.fill(8, y0, w - 8, y0 + 0.4, BLACK)
    canvas.fill(x0, 8, x0 + 0.4, h - 8, BLACK)
    x = np.linspace(12, w - 12, 800)
    t = (x - x0) / rng.uniform(8, 40)
    for _ in range(int(rng.integers(1, 4))):
        waves = (np.sin(t + rng.uniform(0, 6)), np.abs(np.sin(t)), np.exp(-(t**2) / 4))
        shapes = (*waves, 0.1 * t**2 - 1, 0.4 * t, np.tanh(t))
        y = y0 - rng.uniform(8, 0.35 * h) * shapes[int(rng.integers(len(shapes)))]
        ok = (y > 5) & (y < h - 5)
        if ok.sum() > 10:
            points = np.stack([x[ok], y[ok]], axis=1)
            canvas.curve(points, rng.uniform(0.3, 0.8), _INKS[int(rng.integers(len(_INKS)))])
    font = random_font(rng, fonts, 3.0)
    _put(canvas, "x", w - 10, y0 + 5, font, BLACK, rng)
    _put(canvas, "f(x)", x0 + 2, 10, font, BLACK, rng)


def _score(canvas: Canvas, size: tuple[float, float], rng: np.random.Generator, fonts: tuple[str, ...]) -> None:
    """Sheet music: rows of lines that run across the page, with things on them."""
    w, h = size
    gap, step = rng.uniform(1.6, 2.2), rng.uniform(20, 28)
    for top in np.arange(20, h - 15, step):
        for k in range(5):
            canvas.fill(12, top + k * gap, w - 12, top + k * gap + 0.18, BLACK)
        for x in np.arange(22, w - 15, rng.uniform(5, 10)):
            y = top + gap * rng.uniform(-0.5, 4.5)
            canvas.curve(np.array([[x, y], [x + 0.8, y - 0.3]]), 1.6, BLACK)
            canvas.fill(x + 1.4, y - 6, x + 1.65, y, BLACK)
        for x in np.linspace(12, w - 12.3, 5):
            canvas.fill(x, top, x + 0.3, top + 4 * gap, BLACK)


def _noise(rng: np.random.Generator, h: int, w: int, octaves: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Clouds (h, w) float32 around 0."""
    out = np.zeros((h, w), dtype=np.float32)
    for k in range(octaves):
        coarse = rng.normal(0, 0.5**k, (3 * 2**k + 2, 3 * 2**k + 2)).astype(np.float32)
        out += cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC)
    return out


def _picture(canvas: Canvas, size: tuple[float, float], rng: np.random.Generator, fonts: tuple[str, ...]) -> None:
    """A photograph's soft shapes and colours."""
    h, w = canvas.rgb.shape[:2]
    colour, vivid = rng.uniform(40, 200, 3).astype(np.float32), rng.uniform(3, 40)
    small = np.stack([_noise(rng, h // 4, w // 4, 6) * vivid + c for c in colour], axis=-1)
    small += _noise(rng, h // 4, w // 4, 5)[..., None] * 40
    soft = np.clip(small, 0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(2, 9))):
        centre = (int(rng.integers(0, w // 4)), int(rng.integers(0, h // 4)))
        ink = tuple(int(v) for v in rng.integers(0, 255, 3))
        axes = (int(rng.integers(8, 120)), int(rng.integers(8, 90)))
        cv2.ellipse(soft, centre, axes, float(rng.uniform(0, 180)), 0, 360, ink, -1, cv2.LINE_AA)
    canvas.rgb[:] = cv2.resize(soft, (w, h), interpolation=cv2.INTER_LINEAR)


def _xray(canvas: Canvas, size: tuple[float, float], rng: np.random.Generator, fonts: tuple[str, ...]) -> None:
    """Two dark lungs, ribs and a bright middle on a dark film."""
    h, w = canvas.rgb.shape[:2]
    yy, xx = np.mgrid[0 : h // 4, 0 : w // 4].astype(np.float32)
    u, v = xx / (w / 4) - 0.5, yy / (h / 4) - 0.5
    body = 160 * np.exp(-((u / 0.42) ** 4) - (v / 0.6) ** 4)
    for side in (-0.2, 0.2):
        body -= 90 * np.exp(-(((u - side) / 0.13) ** 2) - (v / 0.33) ** 2)
    body += 25 * np.sin(40 * v + 6 * u**2 * rng.uniform(5, 15)) * np.exp(-((u / 0.35) ** 4))
    grey = np.clip(body + 15 + 8 * _noise(rng, h // 4, w // 4, 5), 0, 255).astype(np.uint8)
    canvas.rgb[:] = cv2.resize(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), (w, h), interpolation=cv2.INTER_LINEAR)


_Draw = Callable[[Canvas, tuple[float, float], np.random.Generator, tuple[str, ...]], None]
_DRAW: Final[dict[str, _Draw]] = {
    "document": _document, "receipt": _receipt, "table": _table, "bar_chart": _bar_chart, "graph": _graph,
    "score": _score, "picture": _picture, "xray": _xray,
}  # fmt: skip
