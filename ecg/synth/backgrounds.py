"""What lies under and around a sheet: wood, desks, cloth, stone, clutter, other papers; and fingers on its edge.

Textures are single-channel tiles drawn once a process from fixed seeds; a photo turns, scales and colours them.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.page import F32, U8
from ecg.synth.lens import Pinhole
from ecg.synth.paper_shape import bell_noise, smooth_noise

TILE = 1024
TILE_PX_PER_MM = 3.0
KINDS = ("wood", "desk", "cloth", "stone", "dark", "paper", "mat", "lid", "flat")
_VARIANTS = 4

# (dark, light) colours of each kind, RGB; a photo mixes its own between them.
_COLOURS: dict[str, tuple[tuple[tuple[int, int, int], tuple[int, int, int]], ...]] = {
    "wood": (
        ((92, 60, 38), (172, 128, 88)),
        ((60, 38, 24), (120, 82, 52)),
        ((150, 110, 70), (218, 184, 142)),
        ((105, 85, 70), (160, 140, 120)),
        ((45, 30, 24), (84, 60, 46)),
        ((24, 24, 26), (66, 64, 64)),
    ),
    "desk": (
        ((176, 172, 166), (214, 210, 204)),
        ((120, 124, 130), (160, 164, 170)),
        ((196, 180, 156), (226, 212, 190)),
        ((86, 96, 104), (120, 132, 140)),
        ((206, 208, 212), (236, 238, 240)),
    ),
    "cloth": (
        ((50, 66, 96), (96, 116, 150)),
        ((140, 140, 144), (200, 200, 204)),
        ((60, 96, 84), (110, 150, 134)),
        ((110, 50, 56), (168, 96, 100)),
        ((30, 32, 36), (72, 74, 80)),
        ((210, 206, 198), (240, 238, 232)),
    ),
    "stone": (((88, 86, 84), (170, 166, 160)), ((40, 40, 44), (96, 94, 96)), ((170, 160, 150), (226, 220, 210))),
    "dark": (((18, 18, 20), (52, 52, 56)), ((28, 24, 22), (66, 58, 52)), ((12, 14, 18), (36, 40, 48))),
    "paper": (((206, 204, 200), (240, 239, 236)), ((190, 194, 200), (228, 231, 236))),
    "lid": (((246, 246, 246), (255, 255, 255)), ((8, 8, 9), (26, 26, 28)), ((150, 150, 150), (190, 190, 190))),
    "mat": (((30, 84, 66), (120, 170, 150)), ((34, 50, 92), (130, 150, 190)), ((150, 150, 150), (214, 214, 214))),
    "flat": (((20, 20, 20), (30, 30, 30)), ((236, 236, 236), (255, 255, 255)), ((110, 110, 110), (140, 140, 140))),
}


def _unit(a: F32) -> F32:
    a = a - a.min()
    return np.asarray(a / max(float(a.max()), 1e-6), np.float32)


def _stretched(rng: np.random.Generator, across: float, along: float) -> F32:
    """Noise much longer in x than in y."""
    ny, nx = max(int(TILE / across), 2), max(int(TILE / along), 2)
    return np.asarray(
        cv2.resize(rng.standard_normal((ny, nx), dtype=np.float32), (TILE, TILE), interpolation=cv2.INTER_CUBIC)
    )


_SLOW = 4  # what varies over 20 samples or more is made this many times smaller, and enlarged


def _enlarged(slow: F32) -> F32:
    return np.asarray(cv2.resize(slow, (TILE, TILE), interpolation=cv2.INTER_CUBIC), np.float32)


def _wood(rng: np.random.Generator) -> F32:
    n = TILE // _SLOW
    rings = np.linspace(0, rng.uniform(5, 16), n, dtype=np.float32)[:, None]
    rings = rings + smooth_noise((n, n), 420 / _SLOW, rng) * np.float32(rng.uniform(0.6, 2.5))
    rings = np.sin(rings * np.float32(2 * np.pi)) * np.float32(0.35)
    z = _enlarged(rings + smooth_noise((n, n), 300 / _SLOW, rng) * np.float32(0.5))
    z += _stretched(rng, 5, 260) * np.float32(0.35)
    z += _stretched(rng, 1.6, 70) * np.float32(0.3)
    pores = _stretched(rng, 1.3, 26) + np.float32(1.6)
    z += np.minimum(pores, 0, out=pores) * np.float32(0.9)
    if rng.random() < 0.4:  # planks
        y = np.arange(TILE, dtype=np.float32)[:, None] / TILE
        plank = (y * rng.integers(2, 6)).astype(np.int32)
        z += rng.uniform(-0.6, 0.6, 8).astype(np.float32)[plank]
        z -= (np.diff(plank, axis=0, prepend=0) > 0) * np.float32(3)
    return z


def _cloth(rng: np.random.Generator) -> F32:
    period = rng.uniform(3, 9)
    t = np.arange(TILE, dtype=np.float32) * np.float32(2 * np.pi / period)
    weave = np.sin(t)[:, None] * np.sin(t)[None, :]
    z = (
        weave * np.float32(0.7)
        + _stretched(rng, 2, 30) * np.float32(0.25)
        + _stretched(rng, 2, 30).T * np.float32(0.25)
    )
    return np.asarray(z + smooth_noise((TILE, TILE), 160, rng) * np.float32(0.8))


def _mat(rng: np.random.Generator) -> F32:
    z = np.zeros((TILE, TILE), np.float32)
    pitch = float(rng.choice([15, 30, 45]))  # 5, 10 or 15 mm: lines that are not an ECG's
    for p in np.arange(0, TILE, pitch):
        z[int(p)] = 1
        z[:, int(p)] = 1
    return np.asarray(z + bell_noise((TILE, TILE), rng) * np.float32(0.06))


def _clouds(rng: np.random.Generator, grain: float, top: float = 220) -> F32:
    n = TILE // _SLOW
    slow, fast = np.zeros((n, n), np.float32), bell_noise((TILE, TILE), rng) * np.float32(grain)
    cell, weight = top, 1.0
    while cell > 4:
        if cell > 5 * _SLOW:
            slow += smooth_noise((n, n), cell / _SLOW, rng) * np.float32(weight)
        else:
            fast += smooth_noise((TILE, TILE), cell, rng) * np.float32(weight)
        cell, weight = cell / 3, weight * 0.6
    fast += _enlarged(slow)
    return fast


@lru_cache(maxsize=40)
def _tile(kind: str, variant: int) -> U8:
    """A texture (TILE, TILE) uint8 of full contrast."""
    rng = np.random.default_rng([variant, *kind.encode()])
    if kind == "wood":
        z = _wood(rng)
    elif kind == "cloth":
        z = _cloth(rng)
    elif kind == "mat":
        z = _mat(rng)
    elif kind == "stone":
        z = _clouds(rng, 0.6, 60)
    else:
        z = _clouds(rng, 1.0 if kind in ("dark", "desk") else 0.1, 700)
    low, high = np.quantile(z[::4, ::4], [0.002, 0.998])
    z -= np.float32(low)
    z *= np.float32(255 / (high - low))
    return np.clip(z, 0, 255, out=z).astype(np.uint8)


def _dull(rng: np.random.Generator) -> NDArray[np.float64]:
    """A colour as things have them: rarely a pure one."""
    vivid = rng.random() ** 2
    return np.asarray(rng.uniform(15, 245) * (1 - vivid) + rng.uniform(10, 245, 3) * vivid)


def _palette(kind: str, rng: np.random.Generator) -> U8:
    """(256, 3): from the dark to the light colour of the kind, varied."""
    dark, light = (np.array(c, np.float64) for c in _COLOURS[kind][int(rng.integers(len(_COLOURS[kind])))])
    if kind == "flat":
        dark = light = dark + (light - dark) * rng.random() if rng.random() < 0.6 else _dull(rng)
    shift = rng.uniform(0.8, 1.15) * rng.uniform(0.94, 1.06, 3)
    t = np.linspace(0, 1, 256)[:, None] ** rng.uniform(0.7, 1.4)
    return np.clip((dark + (light - dark) * t) * shift, 0, 255).astype(np.uint8)


def _surface(kind: str, pinhole: Pinhole, rng: np.random.Generator) -> U8:
    """The table under the sheet as the camera sees it, (H, W, 3)."""
    w, h = pinhole.size_px
    tile = _tile(kind, int(rng.integers(_VARIANTS)))
    a, s = rng.uniform(0, 2 * np.pi), TILE_PX_PER_MM * rng.uniform(0.6, 1.6)
    c, d = s * np.cos(a), s * np.sin(a)
    turned = np.array([[c, -d, 0], [d, c, 0], [0, 0, 1]]) @ np.linalg.inv(pinhole.homography)
    x, y, z = turned @ [w / 2, h / 2, 1]
    # What the picture's middle shows is far from the tile's mirrored edge: beyond it, reading takes thrice longer.
    shift = rng.uniform(0.3 * TILE, 0.7 * TILE, 2) - [x / z, y / z]
    m = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]]) @ turned
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    grey = cv2.warpPerspective(tile, m, (w, h), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(cv2.LUT(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), _palette(kind, rng)[None]), np.uint8)


def _quad(centre: F32, size: F32, angle: float, rng: np.random.Generator) -> F32:
    c, s = np.cos(angle), np.sin(angle)
    q = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * size / 2 * rng.uniform(0.93, 1.07, (4, 2))
    return np.asarray(centre + q @ np.array([[c, s], [-s, c]]), np.float32)


def _fill(rgb: U8, polygon: F32, colour: tuple[float, ...]) -> None:
    shadow = rgb.shape[1] / 250
    cv2.fillPoly(rgb, [np.round(polygon + shadow).astype(np.int32)], tuple(0.35 * c for c in colour), cv2.LINE_AA)
    cv2.fillPoly(rgb, [np.round(polygon).astype(np.int32)], colour, cv2.LINE_AA)


def other_sheet(rgb: U8, rng: np.random.Generator) -> None:
    """Another sheet of paper with lines of text, drawn into ``rgb``."""
    h, w = rgb.shape[:2]
    long = max(h, w)
    centre = rng.uniform([-0.1 * w, -0.1 * h], [1.1 * w, 1.1 * h]).astype(np.float32)
    size = np.array([0.6, 0.42], np.float32) * np.float32(long * rng.uniform(0.5, 1.3))
    angle = float(rng.uniform(0, 2 * np.pi))
    white = tuple(float(v) for v in rng.uniform(205, 245) * rng.uniform(0.96, 1, 3))
    _fill(rgb, _quad(centre, size, angle, rng), white)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    ink = tuple(float(v) for v in rng.uniform(30, 120, 3))
    for row in np.arange(-0.42, 0.42, rng.uniform(0.03, 0.06)):
        x = -0.42
        while x < 0.42 and rng.random() < 0.97:
            length = rng.uniform(0.02, 0.09)
            p, q = (turned @ (np.array([t, row]) * size) + centre for t in (x, x + length))
            cv2.line(rgb, _at(p), _at(q), ink, max(int(long / 500), 1), cv2.LINE_AA)
            x += length + 0.012


def _at(p: F32) -> tuple[int, int]:
    x, y = (int(max(-9999.0, min(v, 9999.0))) for v in p.tolist())
    return x, y


def clutter(rgb: U8, count: int, rng: np.random.Generator) -> None:
    """Pens, boxes, cups, cables, stickers: things, drawn into ``rgb``."""
    h, w = rgb.shape[:2]
    long = max(h, w)
    for _ in range(count):
        centre = rng.uniform([0, 0], [w, h]).astype(np.float32)
        colour = tuple(float(v) for v in _dull(rng))
        angle = float(rng.uniform(0, 2 * np.pi))
        kind = rng.integers(4)
        if kind == 0:
            size = np.array([rng.uniform(0.2, 0.5), rng.uniform(0.008, 0.03)], np.float32) * long
            pen = _quad(centre, size, angle, rng)
            _fill(rgb, pen, colour)
            mid = (pen[[0, 1]] + pen[[3, 2]]) / 2
            cv2.line(
                rgb,
                _at(mid[0]),
                _at(mid[1]),
                tuple(min(c + 70, 255) for c in colour),
                max(int(size[1] / 5), 1),
                cv2.LINE_AA,
            )
        elif kind == 1:
            _fill(rgb, _quad(centre, rng.uniform(0.06, 0.4, 2).astype(np.float32) * long, angle, rng), colour)
        elif kind == 2:
            r = rng.uniform(0.03, 0.12) * long
            cv2.circle(rgb, _at(centre + r / 6), int(r), tuple(0.3 * c for c in colour), -1, cv2.LINE_AA)
            for k in (1.0, 0.88, 0.8):
                cv2.circle(rgb, _at(centre), int(r * k), tuple(c * (0.55 + 0.45 * k) for c in colour), -1, cv2.LINE_AA)
        else:
            steps = np.cumsum(rng.normal(0, 0.03, (40, 2)) + rng.normal(0, 0.02, 2), axis=0) * long
            path = cv2.GaussianBlur((steps + centre).astype(np.float32), (1, 9), 3)
            cv2.polylines(
                rgb, [path.astype(np.int32).reshape(-1, 1, 2)], False, colour, max(int(long / 170), 2), cv2.LINE_AA
            )


def background(kind: str, pinhole: Pinhole, things: int, sheets: int, rng: np.random.Generator) -> U8:
    """What the camera would see without the sheet, (H, W, 3) uint8 under even light."""
    if kind not in KINDS:
        raise ValueError(f"background must be one of {', '.join(KINDS)}, got {kind!r}")
    w, h = pinhole.size_px
    if kind == "flat":
        rgb = np.empty((h, w, 3), np.uint8)
        rgb[:] = _palette(kind, rng)[128]
    else:
        rgb = _surface(kind, pinhole, rng)
    for _ in range(sheets):
        other_sheet(rgb, rng)
    clutter(rgb, things, rng)
    return rgb


_SKIN = ((236, 196, 170), (214, 164, 134), (178, 126, 96), (130, 88, 64), (88, 58, 44))


def finger(rgb: U8, tip: F32, angle_rad: float, width_px: float, light: float, rng: np.random.Generator) -> None:
    """One finger that reaches into the picture along ``angle_rad`` and ends at ``tip``, drawn over ``rgb``.

    It starts outside the picture, as wide as a hand there.
    """
    h, w = rgb.shape[:2]
    r = max(int(width_px / 2), 3)
    d = np.array([np.cos(angle_rad), np.sin(angle_rad)])
    side = np.array([-d[1], d[0]])
    # How far back along the finger the picture ends; the hand begins about there.
    with np.errstate(divide="ignore", invalid="ignore"):
        exits = np.where(d > 0, tip / d, (tip - [w, h]) / d)
    length = float(np.clip(np.nanmin(np.abs(exits)), 3 * r, 3 * max(w, h))) + 2 * r
    knuckle = min(length, width_px * rng.uniform(3.5, 5))
    outline = [(r * 0.9, 0.92 * r), (knuckle, 1.15 * r), (knuckle + 3 * r, 3.2 * r), (length + 9 * r, 5.0 * r)]
    left = [tip - d * back + side * half for back, half in outline]
    right = [tip - d * back - side * half for back, half in reversed(outline)]
    hand = np.array(left + right)
    low = np.clip(np.floor(np.minimum(hand.min(axis=0), tip - r) - 2 * r), 0, [w, h]).astype(int)
    high = np.clip(np.ceil(np.maximum(hand.max(axis=0), tip + r) + 2 * r), 0, [w, h]).astype(int)
    if (high - low < 4).any():
        return
    mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    cv2.fillPoly(mask, [np.round(hand - low).astype(np.int32)], 255)
    cv2.circle(mask, _at(tip - d * r - low), r, 255, -1)
    area = rgb[low[1] : high[1], low[0] : high[0]]
    under = cv2.multiply(area, cv2.cvtColor(_thrown_shadow(mask, r), cv2.COLOR_GRAY2RGB), scale=1 / 255)
    shade = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
    shade = cv2.sqrt(np.minimum(shade, np.float32(r), out=shade)) * np.float32(0.5 / np.sqrt(r)) + np.float32(0.5)
    skin = np.array(_SKIN[int(rng.integers(len(_SKIN)))]) * light
    shade += smooth_noise(mask.shape, r, rng) * np.float32(0.05)
    nail = np.zeros_like(mask)
    cv2.ellipse(
        nail, _at(tip - low - d * r * 0.75), (int(r * 0.55), int(r * 0.45)), np.rad2deg(angle_rad), 0, 360, 255, -1
    )
    shiny = cv2.GaussianBlur(nail, (0, 0), 1.5)
    shaded = cv2.merge([cv2.addWeighted(shade, c, shiny, 0.1, 0, dtype=cv2.CV_8U) for c in skin.tolist()])
    alpha = cv2.GaussianBlur(mask, (0, 0), 1.0) * np.float32(1 / 255)
    area[:] = cv2.blendLinear(shaded, under, alpha, 1 - alpha)


def _thrown_shadow(mask: U8, radius_px: int) -> U8:
    """What a hand lets through of the light beside it, 255 = all."""
    sigma, away = radius_px / 2.5, radius_px // 3
    shrink = max(int(sigma / 3), 1)  # a wide blur of a small picture is a cheap blur
    small = cv2.resize(mask, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
    move = np.array([[1, 0, away / shrink], [0, 1, away / shrink]])
    small = cv2.warpAffine(small, move, small.shape[1::-1])
    soft = cv2.convertScaleAbs(cv2.GaussianBlur(small, (0, 0), sigma / shrink), alpha=-0.45, beta=255)
    return np.asarray(cv2.resize(soft, mask.shape[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
