"""The decoder: rows of traces, cut out along the lattice, to heights in millimetres with a confidence a column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.geometry import StripWindow, local_scale, sample_shrunken, shrunken, strip_xy
from ecg.leads import is_limb
from ecg.marks import STRIP_COLUMNS, STRIP_PX_PER_MM_X, STRIP_ROW_STRIDE, STRIP_ROWS, strip_half_height_mm
from ecg.page import F32, LeadStrip, PageLayout, Photo, Sheet
from edge_runtime.engines.base import Engine

OVERLAP_COLUMNS = 96  # tiles share these; each is trusted to the middle of what it shares
BEFORE_MM, AFTER_MM = 6.0, 6.0
BATCH = 5  # more at once takes memory and saves no time
EDGE_MM, EDGE_PRESENT = 2.0, 0.2  # a trace this near to the window's edge may go on beyond it
EDGE_BESIDE_MM = 1.0
TALLER = 1.5
NEAR_BINS = 24  # the expectation is taken this far around the likeliest height


@dataclass(frozen=True, eq=False)
class RowTrace:
    """One row read: x_mm, y_mm, presence and sharpness (n,) each; the strips that lie on it."""

    strips: tuple[LeadStrip, ...]
    x_mm: NDArray[np.float64]
    y_mm: NDArray[np.float64]
    presence: F32
    sharpness: F32


def row_window(strips: tuple[LeadStrip, ...], layout: PageLayout) -> StripWindow:
    """The window that the decoder sees of one row."""
    per_mm = STRIP_PX_PER_MM_X[min(STRIP_PX_PER_MM_X, key=lambda s: abs(s - layout.paper_speed_mm_per_s))]
    x0 = min(s.x0_mm for s in strips) - BEFORE_MM
    x1 = max(s.x1_mm for s in strips) + AFTER_MM
    gain = layout.gain_mm_per_mv if any(is_limb(s.lead) for s in strips) else strips[0].gain_mm_per_mv
    step = STRIP_COLUMNS - OVERLAP_COLUMNS
    tiles = max(1, int(np.ceil(((x1 - x0) * per_mm - OVERLAP_COLUMNS) / step)))
    centre = float(np.average([s.baseline_mm for s in strips], weights=[s.x1_mm - s.x0_mm for s in strips]))
    return StripWindow(x0, centre, strip_half_height_mm(gain), per_mm, tiles * step + OVERLAP_COLUMNS, STRIP_ROWS)


def decode_rows(photo: Photo, sheet: Sheet, layout: PageLayout, decoder: Engine) -> tuple[RowTrace, ...]:
    """Every row of the page, all tiles of all rows batched together."""
    rows = [tuple(s for s in layout.strips if s.row == r) for r in sorted({s.row for s in layout.strips})]
    windows = [row_window(strips, layout) for strips in rows]
    maps = [strip_xy(sheet, w) for w in windows]
    small, shrink = shrunken(photo.rgb, min((local_scale(m) for m in maps), default=1.0))

    def sample(xy_px: F32) -> list[NDArray[np.uint8]]:
        return _tiles(sample_shrunken(small, shrink, xy_px))

    tiles = [t for m in maps for t in sample(m)]
    outputs = [_run(decoder, tiles[k : k + BATCH]) for k in range(0, len(tiles), BATCH)]
    bins, presence, sharpness = (np.concatenate(x) for x in zip(*outputs, strict=True))
    out, k = [], 0
    for strips, window in zip(rows, windows, strict=True):
        n = (window.n_columns - OVERLAP_COLUMNS) // (STRIP_COLUMNS - OVERLAP_COLUMNS)
        b, p, s = (_joined(v[k : k + n]) for v in (bins, presence, sharpness))
        row = b * STRIP_ROW_STRIDE + (STRIP_ROW_STRIDE - 1) / 2
        read = RowTrace(strips, window.columns_mm(), window.y_mm_of(row), p, s)
        out.append(_beyond(read, window, lambda tall: sample(strip_xy(sheet, tall)), decoder))
        k += n
    return tuple(out)


def _beyond(
    row: RowTrace, window: StripWindow, sample: Callable[[StripWindow], list[NDArray[np.uint8]]], decoder: Engine
) -> RowTrace:
    """The row with deflections that reach the window's edge read again in a taller window, and only these."""
    over = at_edge(row, window)
    if not over.any():
        return row
    tall = replace(window, half_height_mm=TALLER * window.half_height_mm)
    tiles, step, half = sample(tall), STRIP_COLUMNS - OVERLAP_COLUMNS, OVERLAP_COLUMNS // 2
    again = replace(row, y_mm=row.y_mm.copy(), presence=row.presence.copy(), sharpness=row.sharpness.copy())
    for i, tile in enumerate(tiles):
        first, last = i * step + (half if i else 0), i * step + STRIP_COLUMNS - (half if i < len(tiles) - 1 else 0)
        if over[first:last].any():
            bins, presence, sharpness = (v[0, first - i * step : last - i * step] for v in _run(decoder, [tile]))
            again.y_mm[first:last] = tall.y_mm_of(bins * STRIP_ROW_STRIDE + (STRIP_ROW_STRIDE - 1) / 2)
            again.presence[first:last], again.sharpness[first:last] = presence, sharpness
    return followed(row, again, over, window)


def followed(row: RowTrace, again: RowTrace, over: NDArray[np.bool_], window: StripWindow) -> RowTrace:
    """The row with those stretches of ``over`` from ``again`` in which the trace goes on to the edge or beyond.

    Elsewhere the taller window has lost it to a neighbouring row, and the cut-off deflection is the better one.
    """
    take = np.zeros(len(over), dtype=bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], over.astype(np.int8), [0]])))
    for first, last in edges.reshape(-1, 2).tolist():
        was, now = (r.y_mm[first:last] - window.y_centre_mm for r in (row, again))
        side = np.sign(was[np.abs(was).argmax()])
        take[first:last] = (side * now).max() > window.half_height_mm - EDGE_MM
    y, p, s = (np.where(take, b, a) for a, b in zip(_columns(row), _columns(again), strict=True))
    return replace(row, y_mm=y, presence=p, sharpness=s)


def _columns(row: RowTrace) -> tuple[NDArray[np.floating], ...]:
    return row.y_mm, row.presence, row.sharpness


def at_edge(row: RowTrace, window: StripWindow) -> NDArray[np.bool_]:
    """Columns (n,) where the trace runs at the window's upper or lower edge, and those close beside them."""
    reach = window.half_height_mm - EDGE_MM
    over = (np.abs(row.y_mm - window.y_centre_mm) > reach) & (row.presence > EDGE_PRESENT)
    kernel = np.ones((1, 2 * round(EDGE_BESIDE_MM * window.px_per_mm_x) + 1), np.uint8)
    return np.asarray(cv2.dilate(over[None].astype(np.uint8), kernel)[0] > 0)


def _tiles(strip: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    step = STRIP_COLUMNS - OVERLAP_COLUMNS
    return [strip[:, x : x + STRIP_COLUMNS] for x in range(0, strip.shape[1] - OVERLAP_COLUMNS, step)]


def _joined(tiles: F32) -> F32:
    """Tiles (n, 512) to one row: each up to the middle of what it shares with the next."""
    half = OVERLAP_COLUMNS // 2
    parts = [t[(half if i else 0) : (len(t) - half if i < len(tiles) - 1 else len(t))] for i, t in enumerate(tiles)]
    return np.concatenate(parts)


def _run(decoder: Engine, tiles: list[NDArray[np.uint8]]) -> tuple[F32, F32, F32]:
    """Tiles to expected bins, presence and sharpness (n, 512) each."""
    pixels = np.ascontiguousarray(np.stack(tiles).transpose(0, 3, 1, 2))
    out = decoder(pixels)
    bins, sharpness = expected_bins(out["height"])
    presence = 1.0 / (1.0 + np.exp(-np.clip(out["presence"], -30, 30)))
    return bins, presence.astype(np.float32), sharpness


def expected_bins(height: F32) -> tuple[F32, F32]:
    """Height logits (n, bins, w) to the expected bin near the likeliest one, and the share of probability there."""
    n, bins, w = height.shape
    top = height.argmax(axis=1)
    at = top[:, None] + np.arange(-NEAR_BINS, NEAR_BINS + 1)[None, :, None]
    inside = (at >= 0) & (at < bins)
    peak = height.max(axis=1, keepdims=True)
    e = np.exp(np.take_along_axis(height, np.clip(at, 0, bins - 1), axis=1) - peak) * inside
    total = np.exp(height - peak).sum(axis=1)
    near = e.sum(axis=1)
    return (e * at).sum(axis=1) / near, (near / total).astype(np.float32)
