"""The decoder: rows of traces, cut out along the lattice, to heights in millimetres with a confidence a column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.bundle import ModelBundle
from ecg.errors import BundleError
from ecg.geometry import StripWindow, local_scale, sample_shrunken, shrunken, strip_xy
from ecg.marks import STRIP_CHANNELS, STRIP_ROW_STRIDE, STRIP_TALLER
from ecg.other_rows import LEAST_SURE, ReadTrace, drawn
from ecg.page import F32, U8, LeadStrip, PageLayout, Photo, Sheet
from edge_runtime.decoder_windows import OVERLAP_COLUMNS, centre_mm, rows_of, tile_windows, usual_half_mm
from edge_runtime.engines import open_engine
from edge_runtime.engines.base import Engine, calls_at_once
from edge_runtime.layout_evidence import Ink

BATCH = 5  # where one call takes all cores; more take memory and save no time
EDGE_MM, EDGE_PRESENT = 2.0, 0.2  # a trace this near to the window's edge may go on beyond it
EDGE_BESIDE_MM = 1.0
SAME_ROW_MM = 1.0  # two rows whose middles lie this close are one trace on the paper
MEET_MM = 2.0
NEAR_BINS = 24  # the expectation is taken this far around the likeliest height


@dataclass(frozen=True, eq=False)
class RowTrace:
    """One row read: x_mm, y_mm, presence and sharpness (n,) each; the strips that lie on it."""

    strips: tuple[LeadStrip, ...]
    x_mm: NDArray[np.float64]
    y_mm: NDArray[np.float64]
    presence: F32
    sharpness: F32

    @property
    def centre_mm(self) -> float:
        """The middle of its windows."""
        return centre_mm(self.strips)

    def as_read(self) -> ReadTrace:
        """The trace as other rows' windows are told of it."""
        return ReadTrace(self.x_mm, self.y_mm, self.presence * self.sharpness)


@dataclass(frozen=True, eq=False)
class Tile:
    """One window read: y_mm, presence and sharpness (columns,) each."""

    window: StripWindow
    y_mm: NDArray[np.float64]
    presence: F32
    sharpness: F32


@dataclass(frozen=True, eq=False)
class Look:
    """A window to be read, half the height that windows of its row usually have (mm), and the traces of other rows that
    the net is told of."""

    window: StripWindow
    usual_mm: float
    others: tuple[ReadTrace, ...] = ()


ReadTiles = Callable[[Sequence[Look]], list[Tile]]


def open_decoder(bundle: ModelBundle, engine: str = "auto", *, threads: int | None = None) -> Engine:
    """The decoder of a bundle; raises ``BundleError`` where it isn't shown what ours is: earlier ones weren't told of
    the other rows."""
    shape = bundle.spec("decoder").inputs[0].shape
    if len(shape) != 4 or shape[1] != len(STRIP_CHANNELS):
        raise BundleError(f"{bundle.info.path}: its decoder takes {shape}, ours {len(STRIP_CHANNELS)} channels; use "
                          "the shipped bundle, or train and export the decoder again")  # fmt: skip
    return open_engine(bundle, "decoder", engine, threads=threads, side_by_side=True)


class Strips:
    """A photo's strips along its lattice, read by the decoder in batches."""

    def __init__(self, photo: Photo, sheet: Sheet, windows: Sequence[StripWindow], decoder: Engine) -> None:
        self._sheet, self._decoder = sheet, decoder
        self._maps = {w: strip_xy(sheet, w) for w in windows}
        self._small, self._shrink = shrunken(photo.rgb, min(map(local_scale, self._maps.values()), default=1.0))

    def read(self, looks: Sequence[Look]) -> list[Tile]:
        """A tile a look."""
        workers = calls_at_once(self._decoder)
        size = BATCH if workers == 1 else 1

        def read(some: Sequence[Look]) -> list[Tile]:
            seen = [np.dstack([self._pixels(k.window), drawn(k.window, k.others)]) for k in some]
            return _run(self._decoder, [k.window for k in some], seen)

        batches = [looks[k : k + size] for k in range(0, len(looks), size)]
        if workers == 1 or len(batches) < 2:
            return [tile for some in batches for tile in read(some)]
        with ThreadPoolExecutor(workers) as pool:
            return [tile for tiles in pool.map(read, batches) for tile in tiles]

    def _pixels(self, window: StripWindow) -> U8:
        xy = self._maps[window] if window in self._maps else strip_xy(self._sheet, window)
        return sample_shrunken(self._small, self._shrink, xy)


def decode_rows(
    photo: Photo, sheet: Sheet, layout: PageLayout, decoder: Engine, ink: Ink | None = None, *, twice: bool = True
) -> tuple[RowTrace, ...]:
    """Every row of the page, all tiles of all rows batched together; ``ink`` tells which traces are low.

    Where traces of two rows meet, both are read once more, each shown where the others were seen to run; not so without
    ``twice``.
    """
    rows = rows_of(layout)
    windows = tile_windows(rows, layout, ink)
    looks = [
        (r, Look(w, usual_half_mm(row, layout))) for r, row in enumerate(rows) for w in windows[r]
    ]  # fmt: skip
    once = list({look.window: look for _, look in looks}.values())
    strips = Strips(photo, sheet, [look.window for look in once], decoder)
    first = {look.window: tile for look, tile in zip(once, strips.read(once), strict=True)}
    tiles = settled([look for _, look in looks], [first[look.window] for _, look in looks], strips.read)
    read = _joined_rows(rows, looks, tiles)
    if not twice:
        return read
    told = _told_of_each_other(looks, tiles, read)
    for i, tile in zip(told, whole(list(told.values()), strips.read), strict=True):
        tiles[i] = tile
    return _joined_rows(rows, looks, tiles)


def _told_of_each_other(
    looks: list[tuple[int, Look]], tiles: list[Tile], rows: tuple[RowTrace, ...]
) -> dict[int, Look]:  # fmt: skip
    """The tiles, by their index, in which a row meets one of the others, as looks that are told of these."""
    known = [(row.centre_mm, row.as_read()) for row in rows]
    others = [tuple(t for centre, t in known if abs(centre - row.centre_mm) > SAME_ROW_MM) for row in rows]
    return {
        i: replace(look, others=others[r])
        for i, ((r, look), tile) in enumerate(zip(looks, tiles, strict=True))
        if any(meets(tile, other) for other in others[r])
    }


def meets(tile: Tile, other: ReadTrace) -> bool:
    """Whether a tile's trace runs close to another row's somewhere: there either may have been taken for the other."""
    x = tile.window.columns_mm()
    away = np.abs(np.interp(x, other.x_mm, other.y_mm, left=np.inf, right=np.inf) - tile.y_mm)
    both = (tile.presence > EDGE_PRESENT) & (np.interp(x, other.x_mm, other.sure) > LEAST_SURE)
    return bool((both & (away < MEET_MM)).any())


def whole(looks: Sequence[Look], read: ReadTiles) -> list[Tile]:
    """A tile a look, settled."""
    return settled(looks, read(looks), read)


def settled(looks: Sequence[Look], tiles: Sequence[Tile], read: ReadTiles) -> list[Tile]:
    """The looks' tiles with deflections that reach their windows' edges read again in taller ones, and only these."""
    out = list(tiles)
    over = {}
    for i, (look, tile) in enumerate(zip(looks, tiles, strict=True)):
        if look.window.half_height_mm <= look.usual_mm and (at := at_edge(tile)).any():
            over[i] = at
    if over:
        again = whole([_taller(looks[i]) for i in over], read)
        for (i, at), tile in zip(over.items(), again, strict=True):
            out[i] = followed(tiles[i], tile, at)
    return out


def _taller(look: Look) -> Look:
    usual = look.usual_mm
    half = usual if look.window.half_height_mm < usual else STRIP_TALLER * usual
    return replace(look, window=replace(look.window, half_height_mm=half))


def followed(tile: Tile, again: Tile, over: NDArray[np.bool_]) -> Tile:
    """The tile with those stretches of ``over`` from ``again`` in which the trace goes on to the edge or beyond.

    Elsewhere the taller window has lost it to a neighbouring row, and the cut-off deflection is the better one.
    """
    window, take = tile.window, np.zeros(len(over), dtype=bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], over.astype(np.int8), [0]])))
    for first, last in edges.reshape(-1, 2).tolist():
        was, now = (t.y_mm[first:last] - window.y_centre_mm for t in (tile, again))
        side = np.sign(was[np.abs(was).argmax()])
        take[first:last] = (side * now).max() > window.half_height_mm - EDGE_MM
    y, p, s = (np.where(take, b, a) for a, b in zip(_columns(tile), _columns(again), strict=True))
    return replace(tile, y_mm=y, presence=p, sharpness=s)


def _columns(tile: Tile) -> tuple[NDArray[np.floating], ...]:
    return tile.y_mm, tile.presence, tile.sharpness


def at_edge(tile: Tile) -> NDArray[np.bool_]:
    """Columns (n,) where the trace runs at the window's upper or lower edge, and those close beside them."""
    window = tile.window
    reach = window.half_height_mm - EDGE_MM
    over = (np.abs(tile.y_mm - window.y_centre_mm) > reach) & (tile.presence > EDGE_PRESENT)
    kernel = np.ones((1, 2 * round(EDGE_BESIDE_MM * window.px_per_mm_x) + 1), np.uint8)
    return np.asarray(cv2.dilate(over[None].astype(np.uint8), kernel)[0] > 0)


def _joined_rows(
    rows: tuple[tuple[LeadStrip, ...], ...], looks: list[tuple[int, Look]], tiles: list[Tile]
) -> tuple[RowTrace, ...]:
    """The rows of all their tiles; each look says which row is its tile's."""
    each = list(zip(looks, tiles, strict=True))
    return tuple(_joined(row, [tile for (k, _), tile in each if k == r]) for r, row in enumerate(rows))


def _joined(strips: tuple[LeadStrip, ...], tiles: list[Tile]) -> RowTrace:
    """A row of its tiles: each up to the middle of what it shares with the next."""
    half, last = OVERLAP_COLUMNS // 2, len(tiles) - 1
    parts = [slice(half if i else 0, -half if i < last else None) for i in range(len(tiles))]
    x, y, p, s = (
        np.concatenate([v[part] for v, part in zip(of, parts, strict=True)])
        for of in zip(*((t.window.columns_mm(), *_columns(t)) for t in tiles), strict=True)
    )
    return RowTrace(strips, x, y, p, s)


def _run(decoder: Engine, windows: Sequence[StripWindow], seen: Sequence[NDArray[np.uint8]]) -> list[Tile]:
    """What the net reads in windows, of which ``seen`` (rows, columns, channels) is shown."""
    out = decoder(np.ascontiguousarray(np.stack(seen).transpose(0, 3, 1, 2)))
    bins, sharpness = expected_bins(out["height"])
    presence = (1.0 / (1.0 + np.exp(-np.clip(out["presence"], -30, 30)))).astype(np.float32)
    row = bins * STRIP_ROW_STRIDE + (STRIP_ROW_STRIDE - 1) / 2
    return [Tile(w, w.y_mm_of(r), p, s) for w, r, p, s in zip(windows, row, presence, sharpness, strict=True)]


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
