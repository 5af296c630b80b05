"""Everything on a page that is no trace: text, rules, stamps, scribbles, holes, bars, logos."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from ecg.synth.ink import Canvas
from ecg.synth.lettering import render_text, turned
from ecg.synth.style import Item
from ecg.synth.truth import F64


def draw_item(canvas: Canvas, item: Item, before: Item | None, rng: np.random.Generator) -> None:
    """Draw one thing and note its mark. A text with ``before`` starts right of the last mark made."""
    if before is not None and canvas.last_text_end is not None:
        x, y = canvas.last_text_end
        _text(canvas, item, x + item.font.cap_mm * 1.2, y, rng)
        return
    _DRAW[item.shape](canvas, item, item.x_mm, item.y_mm, rng)


def _text(canvas: Canvas, item: Item, x: float, y: float, rng: np.random.Generator) -> None:
    text = render_text(item.text, item.font, canvas.px_per_mm, rng)
    if item.turn_deg:
        text = turned(text, item.turn_deg)
    left, top = int(canvas.x_px(x)) + text.left_px, int(canvas.y_px(y)) + text.top_px
    canvas.lay(text.mask, left, top, item.rgb, item.alpha)
    px, (ox, oy) = canvas.px_per_mm, canvas.origin_mm
    h, w = text.mask.shape
    box = (left / px + ox, top / px + oy, (left + w) / px + ox, (top + h) / px + oy)
    canvas.last_text_end = (box[2], y)
    if item.kind:
        canvas.mark(item.kind, item.means or item.text, *box)


def _rule(canvas: Canvas, item: Item, x: float, y: float, rng: np.random.Generator) -> None:
    canvas.fill(x, y, x + item.w_mm, y + item.h_mm, item.rgb, item.alpha)


def _redaction(canvas: Canvas, item: Item, x: float, y: float, rng: np.random.Generator) -> None:
    """An opaque bar; drawn by hand if black: strokes of a marker that overlap."""
    canvas.forget(x, y, x + item.w_mm, y + item.h_mm)
    if min(item.rgb) > 0.5:
        canvas.cover(x, y, x + item.w_mm, y + item.h_mm, item.rgb)
        return
    if rng.random() < 0.5:
        canvas.fill(x, y, x + item.w_mm, y + item.h_mm, item.rgb)
        return
    pen = 2.5
    for k in np.arange(0.0, item.h_mm, 1.6):
        ends = np.array([[x, y + k], [x + item.w_mm / 2, y + k], [x + item.w_mm, y + k]]) + rng.normal(0, 0.4, (3, 2))
        canvas.curve(ends, pen, item.rgb, 0.9)


def _hole(canvas: Canvas, item: Item, x: float, y: float, rng: np.random.Generator) -> None:
    """A punched hole shows what lies below the sheet."""
    px, r = canvas.px_per_mm, item.w_mm / 2
    n = int(np.ceil(item.w_mm * px)) + 2
    left, top = int(canvas.x_px(x)) - 1, int(canvas.y_px(y)) - 1
    yy, xx = np.mgrid[0:n, 0:n] + 0.5
    off = np.hypot(xx + left - canvas.x_px(x + r), yy + top - canvas.y_px(y + r))
    canvas.paint((np.clip(r * px + 0.5 - off, 0, 1) * 255).astype(np.uint8), left, top, item.rgb)


def _barcode(canvas: Canvas, item: Item, x: float, y: float, rng: np.random.Generator) -> None:
    at = x
    while at < x + item.w_mm:
        bar, gap = rng.choice([0.3, 0.6, 0.9], 2)
        canvas.fill(at, y, at + bar, y + item.h_mm, item.rgb)
        at += bar + gap
    canvas.mark(item.kind, "", x, y, at, y + item.h_mm)


def _logo(canvas: Canvas, item: Item, x: float, y: float, rng: np.random.Generator) -> None:
    """A cross, a ring or a heartbeat: what hospitals put on letterheads."""
    w, h = item.w_mm, item.h_mm
    kind = int(rng.integers(3))
    if kind == 0:
        canvas.fill(x + h * 0.35, y, x + h * 0.65, y + h, item.rgb)
        canvas.fill(x, y + h * 0.35, x + h, y + h * 0.65, item.rgb)
    elif kind == 1:
        turn = np.linspace(0, 2 * np.pi, 40)
        ring = np.stack([x + w / 2 + w / 2 * np.cos(turn), y + h / 2 + h / 2 * np.sin(turn)], axis=1)
        canvas.curve(ring, 0.9, item.rgb)
        canvas.fill(x + w * 0.3, y + h * 0.45, x + w * 0.7, y + h * 0.55, item.rgb)
    else:
        beat = np.array([[0, 0.5], [0.3, 0.5], [0.4, 0.1], [0.5, 0.95], [0.6, 0.4], [0.65, 0.5], [1, 0.5]])
        canvas.curve(beat * [w, h] + [x, y], 0.6, item.rgb)
    canvas.mark(item.kind, "", x, y, x + w, y + h)


def _scribble(canvas: Canvas, item: Item, x: float, y: float, rng: np.random.Generator) -> None:
    """A signature: loops that run on, or circles and underlines."""
    pen = item.font.weight * item.font.cap_mm
    line = _signature(rng, item.w_mm, item.h_mm) if rng.random() < 0.7 else _ring(rng, item.w_mm, item.h_mm)
    canvas.mark(item.kind, "", *canvas.curve(line + np.array([x, y]), pen, item.rgb, 0.95))


def _signature(rng: np.random.Generator, w: float, h: float) -> F64:
    t = np.linspace(0, 1, 160)
    loops = w / rng.uniform(3, 7)
    phase = 2 * np.pi * loops * t + rng.uniform(0, 6)
    tall = 0.25 + 0.75 * np.interp(t, np.linspace(0, 1, 9), rng.random(9))
    xs = t * w + 0.12 * h * np.cos(phase) * tall
    return np.stack([xs, h / 2 + h / 2 * tall * np.sin(phase) * rng.choice([-1, 1])], axis=1)


def _ring(rng: np.random.Generator, w: float, h: float) -> F64:
    turn = np.linspace(0, 2 * np.pi * rng.uniform(1.0, 1.3), 60)
    wobble = 1 + 0.06 * np.interp(np.linspace(0, 1, 60), np.linspace(0, 1, 8), rng.normal(0, 1, 8))
    return np.stack([w / 2 + w / 2 * np.cos(turn) * wobble, h / 2 + h / 2 * np.sin(turn) * wobble], axis=1)


def _stamp(canvas: Canvas, item: Item, x: float, y: float, rng: np.random.Generator) -> None:
    """A rubber stamp: framed words, turned, with ink that doesn't cover."""
    px = canvas.px_per_mm
    text = render_text(item.text, item.font, px, rng)
    h, w = text.mask.shape
    pad, rim = int(1.5 * px), max(int(0.5 * px), 1)
    mask = np.zeros((h + 2 * pad, w + 2 * pad), dtype=np.uint8)
    mask[pad : pad + h, pad : pad + w] = text.mask
    if rng.random() < 0.8:
        mask[:rim] = mask[-rim:] = 255
        mask[:, :rim] = mask[:, -rim:] = 255
    worn = np.clip(rng.normal(0.8, 0.35, (mask.shape[0] // 6 + 1, mask.shape[1] // 6 + 1)), 0, 1)
    worn = np.repeat(np.repeat(worn, 6, axis=0), 6, axis=1)[: mask.shape[0], : mask.shape[1]]
    turned_text = turned(type(text)((mask * worn).astype(np.uint8), 0, 0), item.turn_deg)
    left, top = int(canvas.x_px(x)) + turned_text.left_px, int(canvas.y_px(y)) + turned_text.top_px
    canvas.lay(turned_text.mask, left, top, item.rgb, item.alpha)
    (ox, oy), (th, tw) = canvas.origin_mm, turned_text.mask.shape
    canvas.mark(item.kind, item.text, left / px + ox, top / px + oy, (left + tw) / px + ox, (top + th) / px + oy)


_Draw = Callable[[Canvas, Item, float, float, np.random.Generator], None]
_DRAW: Final[dict[str, _Draw]] = {
    "text": _text, "rule": _rule, "redaction": _redaction, "hole": _hole, "barcode": _barcode, "logo": _logo,
    "scribble": _scribble, "stamp": _stamp,
}  # fmt: skip
