"""Lettering: outline fonts through PIL, a plotter's stroke font of our own, its slab-serif and handwritten forms.

OpenCV's Hershey fonts aren't used: version 5 draws other glyphs than version 4, and the same seed must give the same
page.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ecg.page import U8
from ecg.synth.ink import stroke_mask
from ecg.synth.truth import F64

STROKE_FACES: Final = ("stroke", "slab", "hand")
_CAP = 6.0  # cap height in units of the stroke font
_OUTLINE_CAP = 0.71  # cap height over font size of common sans faces

# Points are two characters, x then y (0 baseline, 6 cap height, a and b below the line); "|" lifts the pen, "~" rounds.
_BOWL = "~33 24 14 03 01 10 20 31"
_STROKES: Final = {
    "A": "00 26 40|12 32", "B": "00 06|~06 36 45 44 33 03|~03 33 42 41 30 00", "C": "~45 36 16 05 01 10 30 41",
    "D": "00 06|~06 26 45 41 20 00", "E": "46 06 00 40|03 33", "F": "46 06 00|03 33",
    "G": "~45 36 16 05 01 10 30 41 43|43 23", "H": "00 06|40 46|03 43", "I": "00 06", "J": "~36 31 20 10 01",
    "K": "00 06|46 03 40", "L": "06 00 40", "M": "00 06 22 46 40", "N": "00 06 40 46",
    "O": "~26 16 05 01 10 30 41 45 36 26", "P": "00 06|~06 36 45 44 33 03",
    "Q": "~26 16 05 01 10 30 41 45 36 26|22 40", "R": "00 06|~06 36 45 44 33 03|23 40",
    "S": "~45 36 16 05 04 13 33 42 41 30 10 01", "T": "06 46|26 20", "U": "~06 01 10 30 41 46", "V": "06 20 46",
    "W": "06 10 24 30 46", "X": "00 46|06 40", "Y": "06 23 46|23 20", "Z": "06 46 00 40",
    "0": "~26 16 05 01 10 30 41 45 36 26", "1": "05 26 20", "2": "~05 16 36 45 44 00|00 40",
    "3": "~05 16 36 45 44 33 23|~23 33 42 41 30 10 01", "4": "30 36 02 42", "5": "46 06 03|~03 14 34 43 41 30 10 01",
    "6": "~45 36 16 05 01 10 30 41 42 33 13 02", "7": "06 46 10",
    "8": "~23 13 04 05 16 36 45 44 33 23|~23 13 02 01 10 30 41 42 33 23", "9": "~01 10 30 41 45 36 16 05 04 13 33 44",
    "a": "34 30|" + _BOWL, "b": "06 00|~03 14 24 33 31 20 10 01", "c": _BOWL, "d": "36 30|" + _BOWL,
    "e": "02 32|~32 33 24 14 03 01 10 20 31", "f": "~36 26 15 13|13 10|04 34", "g": "34 3a|~3a 2b 1b 0a|" + _BOWL,
    "h": "06 00|~03 14 24 33 30", "i": "04 00|06 06", "j": "~14 1a 0b|16 16", "k": "06 00|34 01|12 30", "l": "06 00",
    "m": "04 00|~03 14 23 20|~23 34 43 40", "n": "04 00|~03 14 24 33 30", "o": "~14 03 01 10 20 31 33 24 14",
    "p": "04 0b|~03 14 24 33 31 20 10 01", "q": "34 3b|" + _BOWL, "r": "04 00|~02 13 24 34",
    "s": "~33 24 14 03 12 22 31 20 10 01", "t": "16 12|~12 11 20 30|04 34", "u": "~04 01 10 20 31|34 30",
    "v": "04 20 44", "w": "04 10 23 30 44", "x": "00 34|04 30", "y": "04 20|44 1b", "z": "04 34 00 30",
    ".": "00 00", ",": "10 0a", ":": "01 01|04 04", ";": "10 0a|14 14", "-": "03 33", "/": "00 46", "+": "03 43|21 25",
    "(": "~26 04 02 20", ")": "~06 24 22 00", "%": "00 46|16 16|30 30", "=": "02 42|04 44", "*": "12 35|15 32|03 43",
    "_": "00 40", "'": "06 05", "?": "~05 16 36 45 44 22|20 20", "<": "45 03 41", ">": "05 43 01", "!": "06 02|00 00",
    "#": "10 16|30 36|02 42|04 44", "&": "~40 04 05 16 25 24 02 01 10 20 42", "[": "16 06 00 10", "]": "06 16 10 00",
}  # fmt: skip
_LEVEL: Final = {"a": -1.0, "b": -2.0}


@dataclass(frozen=True)
class FontStyle:
    """How text looks. ``face``: "aileron" (PIL's own), "stroke", "slab", "hand", or the path of a TrueType file.

    ``cap_mm`` is the height of a capital; ``weight`` the pen's width over it (0.12 regular, 0.2 bold); ``stretch``
    widens, ``slant`` shears (dx / dy), ``spacing`` adds space between letters, in cap heights.
    """

    face: str = "aileron"
    cap_mm: float = 2.5
    weight: float = 0.12
    stretch: float = 1.0
    slant: float = 0.0
    spacing: float = 0.0


@dataclass(frozen=True, eq=False)
class Text:
    """Rendered text: mask (h, w) uint8 cropped to its ink; left and top in px from the start of the baseline."""

    mask: U8
    left_px: int
    top_px: int


def _round_off(points: F64) -> F64:
    """Chaikin's corner cutting, twice, ends kept."""
    for _ in range(2):
        a, b = points[:-1], points[1:]
        inner = np.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], axis=1).reshape(-1, 2)
        points = np.vstack([points[:1], inner[1:-1], points[-1:]])
    return points


@lru_cache(maxsize=256)
def _glyph(char: str) -> tuple[tuple[F64, ...], float]:
    """Polylines of a character in font units (y up) and its width; unknown ones fall back to their base letter."""
    code = _STROKES.get(char) or _STROKES.get(unicodedata.normalize("NFD", char)[0])
    if code is None:
        return (), 2.0
    lines = []
    for part in code.split("|"):
        pts = np.array([[float(p[0]), _LEVEL.get(p[1]) or float(int(p[1], 16) % 10)] for p in part.strip("~").split()])
        lines.append(_round_off(pts) if part.startswith("~") else pts)
    return tuple(lines), max(float(max(line[:, 0].max() for line in lines)), 0.6)


def _serifs(lines: list[F64]) -> list[F64]:
    """Short feet at the ends of upright strokes that stand on the line or reach the cap height."""
    feet = []
    for line in lines:
        for end, inner in ((line[0], line[min(1, len(line) - 1)]), (line[-1], line[max(-2, -len(line))])):
            upright = abs(end[1] - inner[1]) > 1.2 * abs(end[0] - inner[0])
            if upright and (end[1] < 0.1 or end[1] > 5.9):
                feet.append(np.array([[end[0] - 0.8, end[1]], [end[0] + 0.8, end[1]]]))
    return lines + feet


def _stroke_lines(text: str, font: FontStyle, rng: np.random.Generator | None) -> list[F64]:
    """Polylines of a text in font units, y up, the pen starting at x = 0."""
    gap = 1.8 + font.spacing * _CAP + (0.6 if font.face == "slab" else 0.0)
    out: list[F64] = []
    x, joinable = 0.0, False
    hand = font.face == "hand" and rng is not None
    for char in text:
        lines, width = _glyph(char)
        placed = [line + np.array([x, 0.0]) for line in lines]
        if font.face == "slab":
            placed = _serifs(placed)
        if hand and rng is not None and placed:
            placed = _by_hand(placed, rng)
            if joinable and char.islower() and rng.random() < 0.6:  # joined up with the letter before
                out.append(np.stack([out[-1][-1], placed[0][0]]))
        joinable = bool(placed)
        out.extend(placed)
        x += width + (gap * (0.6 if hand else 1.0))
    return out


def _by_hand(lines: list[F64], rng: np.random.Generator) -> list[F64]:
    """One letter written with a hand that isn't steady: own size, turn and place, and wobbling strokes."""
    turn = np.eye(2) * rng.uniform(0.85, 1.2) + rng.normal(0, 0.09, (2, 2))
    middle = np.concatenate(lines).mean(axis=0)
    shift = rng.normal(0, 0.3, 2)
    wobbled = []
    for line in lines:
        fine = _round_off(line) if len(line) > 1 else line
        wobble = np.cumsum(rng.normal(0, 0.06, fine.shape), axis=0)
        wobbled.append((fine - middle) @ turn.T + middle + shift + wobble)
    return wobbled


def _stroke_text(text: str, font: FontStyle, px_per_mm: float, rng: np.random.Generator | None) -> Text:
    unit = font.cap_mm * px_per_mm / _CAP
    lines = _stroke_lines(text, font, rng)
    if not lines:
        return Text(np.zeros((1, 1), dtype=np.uint8), 0, 0)
    to_px = np.array([[font.stretch, font.slant], [0.0, -1.0]]) * unit
    lines = [line @ to_px.T for line in lines]
    pen = max(font.weight * font.cap_mm * px_per_mm, 1.0)
    every = np.concatenate(lines)
    left, top = (int(v) for v in np.floor(every.min(axis=0) - pen))
    right, bottom = (int(v) for v in np.ceil(every.max(axis=0) + pen))
    mask = stroke_mask([line - [left, top] for line in lines], right - left, bottom - top, pen)
    return Text(mask, left, top)


@lru_cache(maxsize=128)
def _outline_font(face: str, size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if face == "aileron":
        return ImageFont.load_default(size_px)
    return ImageFont.truetype(face, size_px)


def _outline_text(text: str, font: FontStyle, px_per_mm: float) -> Text:
    face = _outline_font(font.face, max(round(font.cap_mm * px_per_mm / _OUTLINE_CAP), 6))
    if font.face == "aileron":  # it has no accented letters
        text = unicodedata.normalize("NFD", text).encode("ascii", "ignore").decode()
    step = font.spacing * font.cap_mm * px_per_mm
    chunks = list(text) if step else [text]
    advance = [float(face.getlength(c)) + step for c in chunks]
    pad = int(font.cap_mm * px_per_mm) + 4
    width, height = int(sum(advance)) + 2 * pad, 3 * pad
    image = Image.new("L", (width, height))
    draw, x = ImageDraw.Draw(image), float(pad)
    for chunk, dx in zip(chunks, advance, strict=True):
        draw.text((x, 2 * pad), chunk, fill=255, font=face, anchor="ls")
        x += dx
    mask = np.array(image)
    if font.weight > 0.16:
        size = 2 if font.weight * font.cap_mm * px_per_mm < 4.0 else 3
        mask = np.asarray(cv2.dilate(mask, np.ones((size, size), np.uint8)), dtype=np.uint8)
    if font.stretch != 1.0 or font.slant:
        way = np.array([[font.stretch, -font.slant, font.slant * 2 * pad], [0, 1, 0]], dtype=np.float64)
        wide = int(width * font.stretch + abs(font.slant) * height) + 1
        mask = np.asarray(cv2.warpAffine(mask, way, (wide, height), flags=cv2.INTER_LINEAR), dtype=np.uint8)
    return Text(mask, -round(pad * font.stretch), -2 * pad)


def render_text(text: str, font: FontStyle, px_per_mm: float, rng: np.random.Generator | None = None) -> Text:
    """Text in a font at a scale; ``rng`` moves a writing hand (face "hand"). Empty text gives an empty mask (1, 1).

    Raises OSError where a TrueType file can't be read.
    """
    if font.face in STROKE_FACES:
        text_px = _stroke_text(text, font, px_per_mm, rng)
    else:
        text_px = _outline_text(text, font, px_per_mm)
    return _cropped(text_px)


def turned(text: Text, degrees: float) -> Text:
    """The same text turned clockwise about the start of its baseline."""
    h, w = text.mask.shape
    rad = np.deg2rad(degrees)
    turn = np.array([[np.cos(rad), -np.sin(rad)], [np.sin(rad), np.cos(rad)]])
    corners = np.array([[0, 0], [w, 0], [0, h], [w, h]], dtype=np.float64) + np.array([text.left_px, text.top_px])
    moved = corners @ turn.T
    left, top = np.floor(moved.min(axis=0)).astype(int)
    size = np.ceil(moved.max(axis=0)).astype(int) - np.array([left, top]) + 1
    start = turn @ np.array([text.left_px, text.top_px], dtype=np.float64) - (left, top)
    way = np.column_stack([turn, start])
    mask = cv2.warpAffine(text.mask, way, (int(size[0]), int(size[1])), flags=cv2.INTER_LINEAR)
    return _cropped(Text(np.asarray(mask, dtype=np.uint8), int(left), int(top)))


def _cropped(text: Text) -> Text:
    """Without the empty rim, so that the box is the ink's."""
    rows, cols = np.flatnonzero(text.mask.max(axis=1) > 40), np.flatnonzero(text.mask.max(axis=0) > 40)
    if not len(rows):
        return Text(np.zeros((1, 1), dtype=np.uint8), text.left_px, text.top_px)
    part = text.mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    return Text(np.ascontiguousarray(part), text.left_px + int(cols[0]), text.top_px + int(rows[0]))
