"""The decoder: rows of traces, cut out along the lattice, to heights in millimetres with a confidence a column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.bundle import ModelBundle
from ecg.errors import BundleError
from ecg.geometry import StripWindow, local_scales, sample_shrunken, shrunken, strip_xy
from ecg.marks import STRIP_CHANNELS, STRIP_ROW_STRIDE, STRIP_TALLER
from ecg.other_rows import LEAST_SURE, ReadTrace, as_told, drawn
from ecg.page import F32, U8, LeadStrip, PageLayout, Photo, Sheet
from edge_runtime.coarse import sigmoid
from edge_runtime.decoder_windows import (
    MOST_TILES,
    OVERLAP_COLUMNS,
    centre_mm,
    rows_of,
    tile_windows,
    tiles_columns,
    usual_half_mm,
)
from edge_runtime.engines import open_engine
from edge_runtime.engines.base import Engine, calls_at_once
from edge_runtime.layout_evidence import Ink

S = TypeVar("S")
T = TypeVar("T")
SPARSE = 8
LEAST_OFF = 1e-3  # of a column
EDGE_MM, EDGE_PRESENT = 2.0, 0.2  # a trace this near to the window's edge may go on beyond it
EDGE_BESIDE_MM = 1.0
SAME_ROW_MM = 1.0  # two rows whose middles lie this close are one trace on the paper
MEET_MM = 2.0
EDGE_OF_PHOTO_MM = 0.25
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
    the other rows, or otherwise, or took windows of one width."""
    given = bundle.spec("decoder").inputs[0]
    fits = len(given.shape) == 4 and given.shape[1] == len(STRIP_CHANNELS) and isinstance(given.shape[3], str)
    if given.channels != STRIP_CHANNELS or not fits:
        raise BundleError(f"{bundle.info.path}: its decoder takes {given.shape} of {', '.join(given.channels)}, ours "
                          f"any width of {', '.join(STRIP_CHANNELS)}; use the shipped bundle, or train and export the "
                          "decoder again")  # fmt: skip
    return open_engine(bundle, "decoder", engine, threads=threads, side_by_side=True)


class Strips:
    """A photo's strips along its lattice, read by the decoder."""

    def __init__(self, photo: Photo, sheet: Sheet, windows: Sequence[StripWindow], decoder: Engine) -> None:
        self._sheet, self._decoder = sheet, decoder
        self._workers, self._size_px = calls_at_once(decoder), (photo.rgb.shape[1], photo.rgb.shape[0])
        self._small, self._shrink = shrunken(photo, min(_scales(sheet, windows), default=1.0))

    def read(self, looks: Sequence[Look]) -> list[Tile]:
        """A tile a look."""
        # Few looks are read each by itself: two cores have work then.  The same on any number of cores.
        stretches = joined(looks, min(MOST_TILES, len(looks) // 4))
        return [tile for tiles in self._side_by_side(self._tiles, stretches) for tile in tiles]

    def _tiles(self, looks: Sequence[Look]) -> list[Tile]:
        """Looks that go on one after the other, read as one."""
        window = replace(looks[0].window, n_columns=tiles_columns(len(looks), looks[-1].window.n_columns))
        xy = strip_xy(self._sheet, window)
        rgb = sample_shrunken(self._small, self._shrink, xy)
        tile = within(_run(self._decoder, window, rgb, drawn(window, looks[0].others)), xy, self._size_px)
        return [_part(tile, look.window) for look in looks]

    def _side_by_side(self, work: Callable[[S], T], items: Sequence[S]) -> list[T]:
        """What comes of every item, in as many threads as call the decoder at once."""
        if self._workers == 1 or len(items) < 2:
            return [work(item) for item in items]
        with ThreadPoolExecutor(self._workers) as pool:
            return list(pool.map(work, items))


def within(tile: Tile, xy_px: F32, size_px: tuple[int, int]) -> Tile:
    """The tile without what was read outside the photo or along its edge, which looks like a stroke in a window that
    goes on beyond it; ``xy_px`` (rows, columns, 2): where the window's px lie in a photo of (width, height)."""
    w, h = size_px
    inside = cv2.inRange(xy_px, (0.0, 0.0), (w - 1.0, h - 1.0))  # not so where the lattice is unknown
    if inside.all():
        return tile
    window = tile.window
    reach = (2 * round(EDGE_OF_PHOTO_MM * per_mm) + 1 for per_mm in (window.px_per_mm_x, window.px_per_mm_y))
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, tuple(reach))
    clear = cv2.erode(inside, kernel, borderType=cv2.BORDER_REPLICATE) > 0
    row = np.clip(np.rint(window.row_of(tile.y_mm)), 0, window.n_rows - 1).astype(int)
    return replace(tile, presence=tile.presence * clear[row, np.arange(window.n_columns)])


def joined(looks: Sequence[Look], most: int) -> list[Sequence[Look]]:
    """The looks in stretches of up to ``most`` of which each goes on where the last ends, told of the same: a net that
    reads such a stretch at once doesn't read what windows share twice."""
    out: list[list[Look]] = []
    for look in looks:
        if out and len(out[-1]) < most and _goes_on(out[-1][-1], look):
            out[-1].append(look)
        else:
            out.append([look])
    return list(out)


def _goes_on(look: Look, other: Look) -> bool:
    """Whether a look is the other's next: the same, ``OVERLAP_COLUMNS`` before where that one ends."""
    step_mm = (look.window.n_columns - OVERLAP_COLUMNS) / look.window.px_per_mm_x
    following = replace(look.window, x0_mm=other.window.x0_mm, n_columns=other.window.n_columns)
    near = abs(other.window.x0_mm - look.window.x0_mm - step_mm) * look.window.px_per_mm_x < LEAST_OFF
    return near and following == other.window and look.others == other.others


def _part(tile: Tile, window: StripWindow) -> Tile:
    """What a window shows of a tile that holds it."""
    first = round((window.x0_mm - tile.window.x0_mm) * window.px_per_mm_x)
    here = slice(first, first + window.n_columns)
    return Tile(window, tile.y_mm[here], tile.presence[here], tile.sharpness[here])


def _scales(sheet: Sheet, windows: Sequence[StripWindow]) -> list[float]:
    """Photo px per px of each window, from every ``SPARSE``-th px of the highest one of its row."""
    rows: dict[tuple[float, float], list[StripWindow]] = {}
    for window in windows:
        rows.setdefault((window.y_centre_mm, window.px_per_mm_x), []).append(window)
    out = []
    for row in rows.values():
        highest, per_mm = max(row, key=lambda w: w.half_height_mm), row[0].px_per_mm_x / SPARSE
        x0_mm = min(w.x0_mm for w in row)
        spans = [(round((w.x0_mm - x0_mm) * per_mm), w.n_columns // SPARSE) for w in row]
        few = replace(highest, x0_mm=x0_mm, n_rows=highest.n_rows // SPARSE, n_columns=max(map(sum, spans)),
                      px_per_mm_x=per_mm)  # fmt: skip
        xy = strip_xy(sheet, few)
        for window, (first, n) in zip(row, spans, strict=True):
            across, down = local_scales(xy[:, first : first + n])
            out.append(min(across, down * window.half_height_mm / highest.half_height_mm) / SPARSE)
    return out


def decode_rows(
    photo: Photo, sheet: Sheet, layout: PageLayout, decoder: Engine, ink: Ink | None = None, *, twice: bool = True
) -> tuple[RowTrace, ...]:
    """Every row of the page, all tiles of all rows side by side; ``ink`` tells which traces are low.

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


def _run(decoder: Engine, window: StripWindow, rgb: U8, others: U8) -> Tile:
    """What the net reads in a window that shows colours (rows, columns, 3) and other rows (rows, columns)."""
    seen = np.stack([*cv2.split(rgb), as_told(others)])
    out = decoder(seen[None])
    bins, sharpness = expected_bins(out["height"][0])
    row = bins * STRIP_ROW_STRIDE + (STRIP_ROW_STRIDE - 1) / 2
    return Tile(window, window.y_mm_of(row), sigmoid(out["presence"][0]), sharpness)


def expected_bins(height: F32) -> tuple[NDArray[np.float64], F32]:
    """Height logits (bins, w) to the expected bin near the likeliest one, and the share of probability there."""
    bins = np.arange(len(height), dtype=np.int16)  # short, as the comparison below then is
    e = np.exp(height - height.max(axis=0))
    total = e.sum(axis=0)
    e *= np.abs(bins[:, None] - height.argmax(axis=0).astype(np.int16)) <= NEAR_BINS
    near = e.sum(axis=0)
    return np.asarray(bins.astype(np.float32) @ e / near, np.float64), (near / total).astype(np.float32)
