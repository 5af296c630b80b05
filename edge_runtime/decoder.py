"""The decoder: rows of traces, cut out along the lattice, to heights in millimetres with a confidence a column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecg.geometry import StripWindow, local_scale, sample_shrunken, shrunken, strip_xy
from ecg.leads import is_limb
from ecg.marks import STRIP_COLUMNS, STRIP_PX_PER_MM_X, STRIP_ROW_STRIDE, STRIP_ROWS, strip_half_height_mm
from ecg.page import F32, LeadStrip, PageLayout, Photo, Sheet
from edge_runtime.engines.base import Engine

OVERLAP_COLUMNS = 96  # tiles share these; each is trusted to the middle of what it shares
BEFORE_MM, AFTER_MM = 6.0, 6.0
BATCH = 6
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
    tiles = [t for m in maps for t in _tiles(sample_shrunken(small, shrink, m))]
    outputs = [_run(decoder, tiles[k : k + BATCH]) for k in range(0, len(tiles), BATCH)]
    bins, presence, sharpness = (np.concatenate(x) for x in zip(*outputs, strict=True))
    out, k = [], 0
    for strips, window in zip(rows, windows, strict=True):
        n = (window.n_columns - OVERLAP_COLUMNS) // (STRIP_COLUMNS - OVERLAP_COLUMNS)
        b, p, s = (_joined(v[k : k + n]) for v in (bins, presence, sharpness))
        row = b * STRIP_ROW_STRIDE + (STRIP_ROW_STRIDE - 1) / 2
        out.append(RowTrace(strips, window.columns_mm(), window.y_mm_of(row), p, s))
        k += n
    return tuple(out)


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
