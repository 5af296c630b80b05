"""Random furniture of a page: headers, footers, handwriting, stamps, holes, bars."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ecg.records import EcgRecord
from ecg.synth import words
from ecg.synth.ink import Rgb
from ecg.synth.lettering import FontStyle
from ecg.synth.style import BLACK, Geometry, Item

_PENS: tuple[Rgb, ...] = ((0.08, 0.08, 0.1), (0.1, 0.15, 0.55), (0.1, 0.2, 0.7), (0.7, 0.1, 0.1), (0.1, 0.4, 0.2))


def random_font(rng: np.random.Generator, fonts: tuple[str, ...], cap_mm: float) -> FontStyle:
    """A printer's font; ``fonts`` are paths of TrueType files that may be used besides the built-in ones."""
    faces = ("aileron", "aileron", "stroke", "slab", *fonts)
    face = words.pick(rng, faces)
    bold = rng.random() < 0.35
    outline = face not in ("stroke", "slab")
    weight = rng.uniform(0.17, 0.24) if bold else rng.uniform(0.09, 0.14)
    stretch = rng.uniform(0.8, 1.25) if rng.random() < (0.4 if outline else 0.8) else 1.0
    spacing = rng.uniform(0.1, 0.5) if rng.random() < 0.1 else 0.0
    return FontStyle(face, cap_mm, float(weight), float(stretch), 0.2 if rng.random() < 0.05 else 0.0, float(spacing))


def _block(kind: str, lines: tuple[str, ...], x: float, y: float, font: FontStyle, rgb: Rgb) -> list[Item]:
    step = font.cap_mm * 1.75
    return [Item("text", kind, x, y + k * step, text=line, font=font, rgb=rgb) for k, line in enumerate(lines)]


def header(
    rng: np.random.Generator,
    record: EcgRecord | None,
    page: tuple[float, float],
    bottom_mm: float,
    fonts: tuple[str, ...],
) -> list[Item]:
    """Blocks of text above the traces, as many lines as there is room for."""
    font = random_font(rng, fonts, float(rng.uniform(1.6, 2.8)))
    room = int((bottom_mm - 4) / (font.cap_mm * 1.75))
    if room < 1:
        return []
    ink: Rgb = (0.1, 0.1, 0.35) if rng.random() < 0.1 else BLACK
    top = rng.uniform(3, 6) + font.cap_mm
    blocks = [words.patient_lines(rng, record)]
    blocks += [words.measurement_lines(rng)] if rng.random() < 0.6 else []
    blocks += [words.report_lines(rng, record)] if rng.random() < 0.55 else []
    blocks += [(words.pick(rng, ("Date: ", "", "")) + words.date(rng),)] if rng.random() < 0.8 else []
    if rng.random() < 0.2:
        blocks = [blocks[k] for k in rng.permutation(len(blocks))]
    items: list[Item] = []
    for k, lines in enumerate(blocks):
        x = page[0] * (0.03 + 0.95 * k / len(blocks)) + rng.uniform(0, 8)
        items += _block("header", lines[:room], float(x), top, font, ink)
    return items


def settings(
    rng: np.random.Generator, geometry: Geometry, page: tuple[float, float], y_mm: float, fonts: tuple[str, ...]
) -> list[Item]:
    """Paper speed, gain and filter: in one line, apart, or only some of them."""
    font = random_font(rng, fonts, float(rng.uniform(1.6, 3.0)))
    font = replace(font, spacing=0.0)
    speed = Item("text", "speed", 0, 0, text=words.speed_text(rng, geometry.speed_mm_per_s), font=font)
    chest = geometry.chest_gain_mm_per_mv
    means = f"{geometry.gain_mm_per_mv:g}" + (f"/{chest:g}" if chest is not None else "")
    speed = replace(speed, means=f"{geometry.speed_mm_per_s:g}")
    gain = Item("text", "gain", 0, 0, text=words.gain_text(rng, geometry.gain_mm_per_mv, chest), means=means, font=font)
    parts = [speed, gain]
    if (filt := words.filter_text(rng)) and rng.random() < 0.75:
        parts.append(Item("text", "footer", 0, 0, text=filt, font=font))
    if rng.random() < 0.12:
        parts = parts[int(rng.integers(2)) :][: int(rng.integers(1, 3))]
    if rng.random() < 0.1:
        parts[0], parts[-1] = parts[-1], parts[0]
    if rng.random() < 0.65:
        x = float(page[0] * rng.choice([0.04, 0.2, 0.4]) + rng.uniform(0, 10))
        return [replace(p, x_mm=x if k == 0 else 0.0, y_mm=y_mm, follows=k > 0) for k, p in enumerate(parts)]
    xs = (np.arange(len(parts)) + rng.uniform(0.05, 0.4, len(parts))) / len(parts) * page[0] * 0.8
    return [replace(p, x_mm=float(x), y_mm=y_mm) for p, x in zip(parts, xs, strict=True)]


def footer(rng: np.random.Generator, page: tuple[float, float], y_mm: float, fonts: tuple[str, ...]) -> list[Item]:
    """A line of small print, right of the settings."""
    font = replace(random_font(rng, fonts, float(rng.uniform(1.4, 2.2))), spacing=0.0)
    text = words.pick(rng, ("{p}  {d}", "{p}", "Page 1 of 1", "Unconfirmed  {d}", "V2.1 SN {n}", "{p}  Loc: {n}"))
    text = text.format(p=words.place(rng), d=words.date(rng), n=int(rng.integers(100, 10**6)))
    return [Item("text", "footer", float(page[0] * rng.uniform(0.72, 0.85)), y_mm, text=text, font=font)]


def handwriting(rng: np.random.Generator, page: tuple[float, float], header_mm: float) -> list[Item]:
    """Notes and scribbles, mostly above the traces, sometimes across them."""
    ink = _PENS[int(rng.integers(len(_PENS)))]
    out = []
    for _ in range(int(rng.integers(1, 4))):
        over = rng.random() < 0.35
        y = rng.uniform(0.1, 0.95) * page[1] if over else rng.uniform(6, max(header_mm, 10))
        x = rng.uniform(0.05, 0.75) * page[0]
        cap = float(rng.uniform(3, 8))
        weight, stretch = rng.uniform(0.35, 0.7) / cap, rng.uniform(0.8, 1.3)
        font = FontStyle("hand", cap, float(weight), float(stretch), rng.uniform(0, 0.5))
        turn = float(rng.normal(0, 6))
        if rng.random() < 0.75:
            out.append(Item("text", "handwriting", x, y, text=words.note(rng), font=font, rgb=ink, turn_deg=turn))
        else:
            w, h = rng.uniform(15, 60), rng.uniform(4, 12)
            out.append(Item("scribble", "handwriting", x, y - h, w, h, rgb=ink, font=font))
    return out


def extras(rng: np.random.Generator, page: tuple[float, float], header_mm: float, fonts: tuple[str, ...]) -> list[Item]:
    """The rarer things: stamps, holes, redaction, barcodes, logos, rules, text up the side."""
    w, h = page
    out: list[Item] = []
    if rng.random() < 0.08:
        font = FontStyle(words.pick(rng, ("aileron", "slab", "stroke")), float(rng.uniform(3, 6)), 0.18)
        ink = ((0.75, 0.1, 0.15), (0.15, 0.2, 0.7), (0.4, 0.1, 0.5), (0.1, 0.1, 0.1))[int(rng.integers(4))]
        where = (rng.uniform(0.1, 0.75) * w, rng.uniform(0.1, 0.9) * h)
        out.append(Item("stamp", "stamp", *where, text=words.stamp(rng), font=font, rgb=ink,
                        alpha=float(rng.uniform(0.4, 0.85)), turn_deg=float(rng.normal(0, 12))))  # fmt: skip
    if rng.random() < 0.06:
        pitch = float(rng.choice([80.0, 70.0, 108.0]))
        left = rng.random() < 0.5
        for s in (-0.5, 0.5):
            x, y = (rng.uniform(6, 10), h / 2 + s * pitch) if left else (w / 2 + s * pitch, rng.uniform(6, 10))
            out.append(Item("hole", "", x - 3, y - 3, 6, 6, rgb=(0.25, 0.2, 0.16)))
    if rng.random() < 0.10:
        for _ in range(int(rng.integers(1, 3))):
            y = rng.uniform(1, max(header_mm - 4, 2))
            out.append(Item("redaction", "", rng.uniform(0, 0.7) * w, y, rng.uniform(15, 60), rng.uniform(3, 9),
                            rgb=BLACK if rng.random() < 0.8 else (1.0, 1.0, 1.0)))  # fmt: skip
    if rng.random() < 0.05:
        out.append(Item("barcode", "header", rng.uniform(0.1, 0.7) * w, rng.uniform(2, 8), rng.uniform(25, 50), 8))
    if rng.random() < 0.08:
        where = (rng.uniform(0.0, 0.85) * w, rng.uniform(1, 6))
        ink = ((0.1, 0.3, 0.6), (0.7, 0.1, 0.1), (0.1, 0.1, 0.1))[int(rng.integers(3))]
        out.append(Item("logo", "header", *where, rng.uniform(7, 16), rng.uniform(5, 11), rgb=ink))
    if rng.random() < 0.08:
        out.append(Item("rule", "", 0.02 * w, header_mm - 1.0, 0.96 * w, rng.uniform(0.15, 0.5)))
    if rng.random() < 0.06:
        x = rng.uniform(3, 6) if rng.random() < 0.5 else w - rng.uniform(1, 4)
        font = random_font(rng, fonts, float(rng.uniform(1.4, 2.2)))
        text = words.pick(rng, ("REF 40457D  Made in EU", "GE Medical", "Cat. No. 9402-020", "PRINTED IN GERMANY"))
        out.append(Item("text", "footer", x, h * rng.uniform(0.5, 0.9), text=text, font=font, turn_deg=-90.0))
    return out
