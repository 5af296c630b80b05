"""The camera: a printed page and a shot become a photo with the exact map between paper millimetres and pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from ecg.page import F32, LATTICE_MM, U8, Sheet
from ecg.synth.backgrounds import background, finger
from ecg.synth.develop import develop, moire, monitor
from ecg.synth.lens import EDGE_NODES, STRIDE_PX, Pinhole, PixelMap, pixel_map, place
from ecg.synth.light import LightField, light_field
from ecg.synth.paper_shape import bend
from ecg.synth.scenes import random_scene
from ecg.synth.shots import CONDITIONS, Shot, random_shot
from ecg.synth.truth import Photograph, PrintedPage

__all__ = ["CONDITIONS", "Shot", "photograph", "random_scene", "random_shot"]

_NO_MAP: Any = None  # cv2.remap: the first map holds x and y
_CLEAR_AROUND: Any = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": (0, 0, 0, 0)}
_STRIP_ROWS = 32  # a strip of the photo fits the processor's cache
_OVERSAMPLING = 1.15  # page pixels a photo pixel, at most


def _raster_for(page: PrintedPage, px_per_mm: float, show_through: float) -> tuple[U8, F32]:
    """The page (h, w, 4) at about the photo's resolution (sampling a finer one would alias), the fourth channel its
    cover; and its px per mm in x and y."""
    rgb, scale = page.rgb, np.array([page.px_per_mm, page.px_per_mm], np.float32)
    shrink = px_per_mm * _OVERSAMPLING / page.px_per_mm
    while shrink < 0.62:  # exact halves are quick
        h, w = rgb.shape[0] // 2, rgb.shape[1] // 2
        rgb = np.asarray(cv2.resize(rgb[: 2 * h, : 2 * w], (w, h), interpolation=cv2.INTER_AREA), np.uint8)
        shrink, scale = shrink * 2, scale * np.float32(0.5)
    if shrink < 0.95:
        h, w = rgb.shape[:2]
        size = (max(round(w * shrink), 8), max(round(h * shrink), 8))
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR), np.uint8)
        scale = np.asarray(scale * [size[0] / w, size[1] / h], np.float32)
    if show_through > 0:
        back = _blurred(rgb[:, ::-1], 0.35 * px_per_mm)
        rgb = np.asarray(cv2.addWeighted(rgb, 1.0, back, show_through, -show_through * 245), np.uint8)
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA), np.uint8), scale


def _blurred(rgb: U8, sigma_px: float) -> U8:
    """Blurred by a wide bell, at half its size: a third of the time, and nobody sees the difference."""
    h, w = rgb.shape[:2]
    small = cv2.resize(rgb, (w // 2, h // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma_px / 2), (w, h)), np.uint8)


def _part_of(half: U8, rows: tuple[int, int], cols: tuple[int, int]) -> U8:
    """Rows and columns (both from an even number) of a picture kept at half its size."""
    (r0, r1), (c0, c1) = rows, cols
    top, left = max(r0 // 2 - 1, 0), max(c0 // 2 - 1, 0)
    block = half[top : -(-r1 // 2) + 1, left : -(-c1 // 2) + 1]
    up = cv2.resize(block, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    return np.asarray(up[r0 - 2 * top :, c0 - 2 * left :][: r1 - r0, : c1 - c0], np.uint8)


def _lay_over(rgba: U8, behind: U8, rows: tuple[int, int], cols: tuple[int, int], into: U8) -> None:
    """A piece of the sheet, its colours already times its cover and in ``into``, over what lies behind."""
    table = _part_of(behind, rows, cols)
    alpha = cv2.extractChannel(rgba[:, cols[0] : cols[1]], 3)
    if not cv2.countNonZero(alpha):
        into[:] = table
        return
    clear = cv2.cvtColor(cv2.bitwise_not(alpha, dst=alpha), cv2.COLOR_GRAY2RGB)
    cv2.add(into, cv2.multiply(table, clear, dst=clear, scale=1 / 255), dst=into)


def _all_sheet(pm: PixelMap) -> list[tuple[int, int]]:
    """For each strip the pixel columns, from an even one to an end, that show nothing but the sheet; maybe none."""
    width, height = pm.size_px
    reach = _STRIP_ROWS // STRIDE_PX + 2
    above = cv2.erode(pm.on_sheet.astype(np.uint8), np.ones((reach, 1), np.uint8), anchor=(0, 0))
    columns = []
    for row0 in range(0, height, _STRIP_ROWS):
        nodes = np.flatnonzero(above[row0 // STRIDE_PX + EDGE_NODES - 1])
        if not len(nodes) or nodes[-1] - nodes[0] >= len(nodes):  # none, or not in one piece
            columns.append((0, 0))
            continue
        # A node farther in: the sheet's rim is a pixel of the page wide.
        start = min(max(STRIDE_PX * (int(nodes[0]) + 2 - EDGE_NODES), 0), width)
        columns.append((start, max(min(STRIDE_PX * (int(nodes[-1]) - 1 - EDGE_NODES), width), start)))
    return columns


@dataclass(frozen=True, eq=False)
class _Room:
    """Memory that every strip of a photo uses again: fresh memory each time costs more than the work itself."""

    xy: F32
    rgba: U8
    rgb: U8
    gain: F32
    lit: F32

    @staticmethod
    def of(pm: PixelMap) -> _Room:
        n, width = _STRIP_ROWS, pm.size_px[0]
        rgba, rgb = np.empty((n, width, 4), np.uint8), np.empty((n, width, 3), np.uint8)
        return _Room(pm.room(2, n), rgba, rgb, pm.room(3, n), np.empty((n, width, 3), np.float32))


def _expose(pm: PixelMap, page_px: tuple[U8, F32], behind: U8, field: LightField | None, exposure: float) -> U8:
    """Sample the sheet through the map, lay it over the background, and light both: (H, W, 3), strip by strip."""
    raster, scale = page_px
    source = pm.page_mm * scale - np.float32(0.5)  # px of the raster at the nodes
    width, height = pm.size_px
    out, room = np.empty((height, width, 3), np.uint8), _Room.of(pm)
    for row0, (left, right) in zip(range(0, height, _STRIP_ROWS), _all_sheet(pm), strict=True):
        rows = (row0, min(row0 + _STRIP_ROWS, height))
        into = out[row0 : rows[1]]
        n = len(into)
        xy = pm.dense(source, *rows, room.xy)
        rgba = np.asarray(cv2.remap(raster, xy, _NO_MAP, cv2.INTER_LINEAR, room.rgba[:n], **_CLEAR_AROUND), np.uint8)
        strip = into if field is None else room.rgb[:n]
        cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB, dst=strip)
        for c0, c1 in ((0, left), (right, width)):
            if c1 > c0:
                _lay_over(rgba, behind, rows, (c0, c1), strip[:, c0:c1])
        if field is not None:
            _light(strip, pm, field, exposure, rows, room, into)
    return out


def _light(
    strip: U8, pm: PixelMap, field: LightField, exposure: float, rows: tuple[int, int], room: _Room, into: U8
) -> None:
    """The strip under its light."""
    gain = pm.dense(field.gain, *rows, room.gain)
    if field.add is None:
        cv2.multiply(strip, gain, into, exposure, cv2.CV_8U)
        return
    lit = cv2.multiply(strip, gain, room.lit[: len(strip)], exposure, cv2.CV_32F)
    cv2.scaleAdd(pm.dense(field.add, *rows, room.gain), 255.0, lit, lit)
    cv2.convertScaleAbs(lit, into)  # never negative: this rounds and clips


def _add_fingers(rgb: U8, pm: PixelMap, count: int, light: float, rng: np.random.Generator) -> None:
    """Fingers that hold the sheet by its edge."""
    on = pm.on_sheet[EDGE_NODES:-EDGE_NODES, EDGE_NODES:-EDGE_NODES].astype(np.uint8)
    rim = np.argwhere(cv2.morphologyEx(on, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)))
    if not len(rim):
        return
    middle = np.argwhere(on).mean(axis=0)
    side = rim[int(rng.integers(len(rim)))]
    width = 15 * pm.scale_px_per_mm
    for k in range(count):
        near = rim[np.argsort(np.abs(rim - side).sum(axis=1))[min(int(k * width * 1.2 / STRIDE_PX), len(rim) - 1)]]
        inward = (middle - near)[::-1]
        angle = float(np.arctan2(inward[1], inward[0]) + rng.normal(0, 0.25))
        tip = near[::-1] * STRIDE_PX + np.array([np.cos(angle), np.sin(angle)]) * width * rng.uniform(0.2, 1.0)
        finger(rgb, tip.astype(np.float32), angle, width * rng.uniform(0.85, 1.1), light, rng)


def _sheet(pm: PixelMap, page: PrintedPage) -> Sheet:
    """The truth at the crossings of the heavy lines; NaN off the sheet or farther than the map's rim from the frame."""
    axes = []
    for start, size in zip((page.grid.x0_mm, page.grid.y0_mm), pm.size_mm, strict=True):
        first = start - np.floor(start / LATTICE_MM + 1e-6) * LATTICE_MM
        axes.append(first + LATTICE_MM * np.arange(max(int((size - first) / LATTICE_MM + 1e-6) + 1, 2)))
    mm = np.stack(np.meshgrid(*axes), axis=-1)
    px = pm.page_to_photo(mm)
    rim = STRIDE_PX * (EDGE_NODES - 2)
    w, h = pm.size_px
    with np.errstate(invalid="ignore"):
        near = (px > -rim).all(axis=-1) & (px[..., 0] < w - 1 + rim) & (px[..., 1] < h - 1 + rim)
    px[~near] = np.nan
    return Sheet(px.astype(np.float32), float(axes[0][0]), float(axes[1][0]))


def _moire_over(rgb: U8, pm: PixelMap, pitch_mm: float, rng: np.random.Generator) -> None:
    """The page was on a monitor."""
    shine, place, room = monitor(rng), pm.page_mm * np.float32(256 / pitch_mm), pm.room(2, _STRIP_ROWS)
    for row0 in range(0, len(rgb), _STRIP_ROWS):
        strip = rgb[row0 : row0 + _STRIP_ROWS]
        moire(strip, pm.dense(place, row0, row0 + len(strip), room), shine)


def _behind(shot: Shot, pm: PixelMap, pinhole: Pinhole, rng: np.random.Generator) -> U8:
    """The background at half the photo's size: nobody looks at it closely."""
    half = pinhole.halved()
    inner = pm.on_sheet[EDGE_NODES - 1 : 1 - EDGE_NODES, EDGE_NODES - 1 : 1 - EDGE_NODES]
    if inner.all():  # nothing of the table is seen
        return np.zeros((half.size_px[1], half.size_px[0], 3), np.uint8)
    return background(shot.background, half, shot.things, shot.sheets, rng)


def photograph(page: PrintedPage, shot: Shot, rng: np.random.Generator) -> Photograph:
    """Take the photo: bend the sheet, look at it, light it, and develop the picture.

    The same page, shot and generator state give the same bytes.
    """
    pinhole = place(shot.view, page.size_mm, shot.long_side_px)
    pm = pixel_map(bend(shot.paper, page.size_mm, rng), pinhole)
    lighting, dev = shot.lighting, shot.development
    lit = bool(lighting.lamps or lighting.uneven or lighting.glare or lighting.vignette)
    field = light_field(pm, lighting, rng) if lit else None
    raster = _raster_for(page, pm.scale_px_per_mm, shot.show_through)
    rgb = _expose(pm, raster, _behind(shot, pm, pinhole, rng), field, dev.exposure)
    if shot.fingers:
        _add_fingers(rgb, pm, shot.fingers, dev.exposure, rng)
    if dev.moire_mm:
        _moire_over(rgb, pm, dev.moire_mm, rng)
    rgb = develop(rgb, dev, rng)
    rgb.setflags(write=False)
    return Photograph(rgb, page, pm.page_to_photo, pm.photo_to_page, _sheet(pm, page), shot.condition)
