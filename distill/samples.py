"""What the nets learn from: inputs with exact targets cut from synthetic photographs.

One photograph gives one thumbnail (coarse finder), a few upright crops (fine finder) and a few strips (decoder).
Targets are kept compact (positions, phases, heights) and become maps in ``distill.targets``.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from distill.first_reading import first_reading
from distill.levels import level_mm
from ecg.geometry import StripWindow, View, letterbox, photo_xy, render_view, sample_photo, strip_xy
from ecg.leads import is_limb
from ecg.marks import (
    COARSE_CHANNELS,
    COARSE_PX,
    COARSE_REF_PX_PER_MM,
    COARSE_STRIDE,
    FINE_STRIDE,
    MARK_KINDS,
    STRIP_COLUMNS,
    STRIP_LEAST_HALF_MM,
    STRIP_PX_PER_MM_X,
    STRIP_ROWS,
    STRIP_TALLER,
    strip_half_height_mm,
)
from ecg.other_rows import ReadTrace, drawn
from ecg.page import F32, U8, PageLayout, Photo, Sheet
from ecg.synth.shake import shaken_sheet
from ecg.synth.truth import F64, Photograph, PrintedPage, TraceTruth
from edge_runtime.engines.base import Engine

CROP_PX = 384
CROP_CELLS = CROP_PX // FINE_STRIDE
LATTICE_ERROR_MM = 0.12  # what the runtime's lattice may be off by
TALL_SHARE = 0.12  # the runtime reads deflections that leave the window again in a taller one
FITTED_SHARE = 0.6  # and gives low traces a lower window, in which they are seen larger
FIT_MARGIN_MM = (1.0, 6.0)
EDGE_MM = 2.0  # a trace that stops this close to the paper's edge was cut off: no start, no end


@dataclass(frozen=True, eq=False)
class CoarseSample:
    """rgb (512, 512, 3); maps (32, 32, 7) float16 as COARSE_CHANNELS; cells off the paper hold 0."""

    rgb: U8
    maps: NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class FineSample:
    """rgb (384, 384, 3); phase_mm (96, 96, 2) distance past a heavy line 0..5; flags (96, 96, 3): grid, paper, trace.

    marks (n, 5): kind index, x and y in view px, width and height in mm.
    """

    rgb: U8
    phase_mm: NDArray[np.float16]
    flags: U8
    marks: F32


@dataclass(frozen=True, eq=False)
class StripSample:
    """rgb (224, 512, 3); row (512,) fractional row of the trace, NaN where there is none; others (224, 512): where a
    first reading saw the other rows run (``ecg.other_rows``), 0 where none is known."""

    rgb: U8
    row: F32
    others: U8


def coarse_sample(shot: Photograph) -> CoarseSample:
    """The thumbnail with where the paper is, how it is turned and how large it shows."""
    rgb, f = letterbox(Photo(shot.rgb))
    n = COARSE_PX // COARSE_STRIDE
    maps = np.zeros((n, n, len(COARSE_CHANNELS)), np.float32)
    centre = (np.arange(n) + 0.5) * COARSE_STRIDE - 0.5
    xy = (np.stack(np.meshgrid(centre, centre), axis=-1) + 0.5) / f - 0.5
    mm, jac = _with_jacobian(shot, xy)
    ok = np.isfinite(mm[..., 0]) & np.isfinite(jac).all(axis=(-1, -2))
    if shot.page is not None and ok.any():
        maps[..., 0] = ok
        maps[..., 1] = ok & _inside(mm, _ecg_area_mm(shot.page))
        # d(mm)/d(px) inverted: where the time axis points in the photo.
        det = jac[..., 0, 0] * jac[..., 1, 1] - jac[..., 0, 1] * jac[..., 1, 0]
        time_axis = np.stack([jac[..., 1, 1], -jac[..., 1, 0]], axis=-1) / np.where(det == 0, 1, det)[..., None]
        length = np.linalg.norm(time_axis, axis=-1)
        px_per_mm = 1 / np.sqrt(np.abs(np.where(ok, det, 1.0))) * f
        maps[..., 2:4] = np.where(ok[..., None], time_axis / np.where(length == 0, 1, length)[..., None], 0)
        maps[..., 5] = maps[..., 2] ** 2 - maps[..., 3] ** 2
        maps[..., 6] = 2 * maps[..., 2] * maps[..., 3]
        maps[..., 4] = np.where(ok, np.log2(np.clip(px_per_mm, 0.1, 50) / COARSE_REF_PX_PER_MM), 0)
    return CoarseSample(rgb, np.nan_to_num(maps).astype(np.float16))


def page_pose(shot: Photograph) -> tuple[float, float] | None:
    """Photo px per mm and the time axis' angle, averaged over the visible ECG as the coarse finder would."""
    if shot.page is None:
        return None
    h, w = shot.rgb.shape[:2]
    xy = np.stack(np.meshgrid(np.linspace(0, w - 1, 24), np.linspace(0, h - 1, 24)), axis=-1)
    mm, jac = _with_jacobian(shot, xy)
    ok = np.isfinite(mm[..., 0]) & np.isfinite(jac).all(axis=(-1, -2)) & _inside(mm, _ecg_area_mm(shot.page))
    if ok.sum() < 4:
        return None
    inverse = np.linalg.inv(jac[ok])
    angle = np.arctan2(np.median(inverse[:, 1, 0]), np.median(inverse[:, 0, 0]))
    scale = np.exp(np.mean(np.log(np.sqrt(np.abs(np.linalg.det(inverse))))))
    return float(scale), float(angle)


def fine_samples(shot: Photograph, rng: np.random.Generator, n: int) -> list[FineSample]:
    """Upright crops at about 4 px/mm, turned and scaled as wrongly as the coarse finder may be."""
    pose = page_pose(shot)
    h, w = shot.rgb.shape[:2]
    if pose is None:  # nothing to find: still a view at some scale
        pose = (float(np.exp(rng.uniform(np.log(2.5), np.log(12)))), float(rng.uniform(-np.pi, np.pi)))
        pose = (min(pose[0], max(h, w) / 100), pose[1])
    return [_fine_sample(shot, _random_view(shot, pose, rng)) for _ in range(n)]


def _random_view(shot: Photograph, pose: tuple[float, float], rng: np.random.Generator) -> View:
    h, w = shot.rgb.shape[:2]
    wide = rng.random() < 0.15
    angle = pose[1] + rng.normal(0, np.radians(12 if wide else 4))
    scale = pose[0] * np.exp(rng.normal(0, 0.12 if wide else 0.07)) / 4.0
    centre = np.array([rng.uniform(0, w), rng.uniform(0, h)])
    telling = _telling_px(shot) if rng.random() < 0.4 else np.zeros((0, 2))
    if len(telling):
        # Speed, gain and pulses are a few spots on a page: chance alone would show them too seldom.
        centre = telling[int(rng.integers(len(telling)))] + rng.uniform(-0.42, 0.42, 2) * CROP_PX * scale
    elif shot.page is not None and shot.page.traces and rng.random() < 0.85:
        x0, y0, x1, y1 = _ecg_area_mm(shot.page)
        for _ in range(8):
            mm = np.array([[rng.uniform(x0, x1), rng.uniform(y0, y1)]])
            px = shot.page_to_photo(mm)[0]
            if np.isfinite(px).all() and 0 <= px[0] < w and 0 <= px[1] < h:
                centre = px
                break
    view = View(0.0, 0.0, scale, angle, CROP_PX, CROP_PX)
    origin = centre - view.to_photo(np.array([CROP_PX / 2, CROP_PX / 2]))
    return View(float(origin[0]), float(origin[1]), scale, angle, CROP_PX, CROP_PX)


def _telling_px(shot: Photograph) -> F64:
    """Photo px (n, 2) of what tells paper speed and gain, as far as the photo shows it."""
    boxes = [] if shot.page is None else [b for b in shot.page.marks if b.kind in ("speed", "gain", "pulse")]
    if not boxes:
        return np.zeros((0, 2))
    px = shot.page_to_photo(np.array([[(b.x0_mm + b.x1_mm) / 2, (b.y0_mm + b.y1_mm) / 2] for b in boxes]))
    h, w = shot.rgb.shape[:2]
    ok = np.isfinite(px).all(axis=1) & (px > 0).all(axis=1) & (px < [w, h]).all(axis=1)
    return np.asarray(px[ok], np.float64)


def _fine_sample(shot: Photograph, view: View) -> FineSample:
    centre = np.arange(CROP_CELLS) * FINE_STRIDE + (FINE_STRIDE - 1) / 2
    xy = view.to_photo(np.stack(np.meshgrid(centre, centre), axis=-1))
    flags = np.zeros((CROP_CELLS, CROP_CELLS, 3), np.uint8)
    phase = np.zeros((CROP_CELLS, CROP_CELLS, 2), np.float32)
    marks: list[list[float]] = []
    page = shot.page
    mm = np.asarray(shot.photo_to_page(xy))
    h, w = shot.rgb.shape[:2]
    seen = (xy[..., 0] > -0.5) & (xy[..., 1] > -0.5) & (xy[..., 0] < w - 0.5) & (xy[..., 1] < h - 0.5)
    ok = np.isfinite(mm[..., 0]) & seen
    if page is not None:
        flags[..., 1] = ok
        if page.grid.kind not in ("none", "fine"):  # equal lines every millimetre have no heavy ones to count
            flags[..., 0] = ok & _inside(mm, page.grid.area_mm)
            phase = np.nan_to_num(np.mod(mm - [page.grid.x0_mm, page.grid.y0_mm], 5.0))
        flags[..., 2] = _trace_cells(shot, view) * ok
        marks = _marks_in(shot, view)
    rgb = render_view(Photo(shot.rgb), view, fill=0)
    return FineSample(rgb, phase.astype(np.float16), flags, np.array(marks, np.float32).reshape(-1, 5))


def _trace_cells(shot: Photograph, view: View) -> U8:
    """Cells that a trace passes through (0 or 1)."""
    assert shot.page is not None
    cells = np.zeros((CROP_CELLS, CROP_CELLS), np.uint8)
    for trace in shot.page.traces:
        px = shot.page_to_photo(np.stack([trace.x_mm, trace.y_mm], axis=-1)[:: max(1, len(trace.x_mm) // 2500)])
        at = (view.from_photo(px) - 1.5) / FINE_STRIDE
        at = at[np.isfinite(at).all(axis=1)]
        at = at[(np.abs(at - CROP_CELLS / 2) < CROP_CELLS).all(axis=1)]
        if len(at) > 1:
            gaps = np.flatnonzero(np.linalg.norm(np.diff(at, axis=0), axis=1) > 30) + 1
            for part in np.split(at, gaps):
                cv2.polylines(cells, [np.rint(part * 16).astype(np.int32)], False, 1, 1, cv2.LINE_8, 4)
    return cells


def _marks_in(shot: Photograph, view: View) -> list[list[float]]:
    """[kind, x, y (view px), width, height (mm)] of each mark in the view."""
    assert shot.page is not None
    found = page_marks(shot.page)
    if not found:
        return []
    px = view.from_photo(shot.page_to_photo(np.array([[m[1], m[2]] for m in found])))
    h, w = shot.rgb.shape[:2]
    photo = view.to_photo(px)
    ok = np.isfinite(px).all(axis=1) & ((px > -2) & (px < CROP_PX + 2)).all(axis=1)
    ok &= ((photo > 0) & (photo < [w, h])).all(axis=1)
    return [[MARK_KINDS.index(found[i][0]), *px[i], *found[i][3:5]] for i in np.flatnonzero(ok)]


def page_marks(page: PrintedPage) -> list[tuple[str, float, float, float, float]]:
    """(kind, x_mm, y_mm, width_mm, height_mm) of all marks of a printed page."""
    out: list[tuple[str, float, float, float, float]] = []
    for box in page.marks:
        kinds = {"lead": [f"lead:{box.text}"], "speed": [f"speed:{box.text}"], "pulse": ["pulse"],
                 "gain": [f"gain:{g}" for g in box.text.split("/")[:1]]}.get(box.kind, [])  # fmt: skip
        for kind in kinds:
            if kind in MARK_KINDS:
                out.append((kind, (box.x0_mm + box.x1_mm) / 2, (box.y0_mm + box.y1_mm) / 2,
                            box.x1_mm - box.x0_mm, box.y1_mm - box.y0_mm))  # fmt: skip
    width = page.size_mm[0]
    last: dict[int, TraceTruth] = {}
    for trace in page.traces:
        if not len(trace.x_mm):
            continue
        if trace.x_mm[0] > EDGE_MM:
            out.append(("start", float(trace.x_mm[0]), float(trace.y_mm[0]), 0.0, 0.0))
        row = trace.strip.row
        if row not in last or trace.x_mm[-1] > last[row].x_mm[-1]:
            last[row] = trace
    for trace in last.values():
        if trace.x_mm[-1] < width - EDGE_MM:
            out.append(("end", float(trace.x_mm[-1]), float(trace.y_mm[-1]), 0.0, 0.0))
    return out


def strip_samples(
    shot: Photograph, rng: np.random.Generator, n: int, reader: Engine | None = None
) -> list[StripSample]:  # fmt: skip
    """Stretches of random rows, cut out along a lattice as wrong as the runtime's may be.

    ``reader``: a decoder that reads the page first; strips then show where it saw the other rows run.
    """
    if shot.page is None or shot.sheet is None or not shot.page.traces:
        return []
    rows = sorted({t.strip.row for t in shot.page.traces})
    sheet = shaken_sheet(shot.sheet, rng, LATTICE_ERROR_MM)
    read = {} if reader is None else first_reading(shot, sheet, reader, rng)
    samples = (_strip_sample(shot, sheet, int(rng.choice(rows)), read, rng) for _ in range(n))
    return [s for s in samples if s is not None]


def _strip_sample(
    shot: Photograph, sheet: Sheet, row: int, read: dict[int, ReadTrace], rng: np.random.Generator
) -> StripSample | None:
    assert shot.page is not None
    traces = [t for t in shot.page.traces if t.strip.row == row and len(t.x_mm) > 1]
    if not traces:
        return None
    window = _random_window(shot.page.layout, traces, rng)
    # Both sheets count from the page's own origin, so that window and truth share their millimetres.
    xy = strip_xy(sheet, window)
    if np.isfinite(xy[..., 0]).mean() < 0.3:
        return None
    height, width = shot.rgb.shape[:2]
    rows_at = _rows_at_columns(shot, sheet, window, traces)
    middle = xy[np.clip(np.nan_to_num(np.rint(rows_at), nan=STRIP_ROWS // 2).astype(int), 0, STRIP_ROWS - 1),
                np.arange(STRIP_COLUMNS)]  # fmt: skip
    off = ~np.isfinite(middle[:, 0]) | (middle < 0).any(axis=1) | (middle > [width - 1, height - 1]).any(axis=1)
    rows_at[off | (rows_at < 0) | (rows_at > STRIP_ROWS - 1)] = np.nan
    others = drawn(window, [trace for k, trace in read.items() if k != row])
    return StripSample(sample_photo(Photo(shot.rgb), xy), rows_at.astype(np.float32), others)


def _random_window(layout: PageLayout, traces: list[TraceTruth], rng: np.random.Generator) -> StripWindow:
    """A window on some stretch of a row's traces."""
    strip = traces[0].strip
    gain = layout.gain_mm_per_mv if is_limb(strip.lead) else strip.gain_mm_per_mv
    per_mm = STRIP_PX_PER_MM_X[layout.paper_speed_mm_per_s] * rng.uniform(0.94, 1.06)
    x_first, x_last = min(t.x_mm[0] for t in traces), max(t.x_mm[-1] for t in traces)
    length = STRIP_COLUMNS / per_mm
    start = rng.uniform(x_first - 14, max(x_last + 8 - length, x_first - 13))
    centre = float(np.average([level_mm(t) for t in traces], weights=[len(t.x_mm) for t in traces])) + rng.normal(0, 1)
    half = _half_height_mm(gain, max(float(np.abs(t.y_mm - centre).max()) for t in traces), rng)
    return StripWindow(float(start), centre, half, per_mm, STRIP_COLUMNS, STRIP_ROWS)


def _half_height_mm(gain: float, reach_mm: float, rng: np.random.Generator) -> float:
    """Half a window's height: a gain's usual one, a taller one, or one fitted to how far the row's traces reach."""
    usual = strip_half_height_mm(gain) * rng.uniform(0.92, 1.08)
    kind = rng.random()
    if kind < TALL_SHARE:
        return float(usual * STRIP_TALLER)
    fitted = max(reach_mm + rng.uniform(*FIT_MARGIN_MM), STRIP_LEAST_HALF_MM)
    return float(min(usual, fitted) if kind < TALL_SHARE + FITTED_SHARE else usual)


def _rows_at_columns(shot: Photograph, sheet: Sheet, window: StripWindow, traces: list[TraceTruth]) -> F64:
    """Where the pen crossed each column of the window as the given lattice shows it; NaN where it didn't."""
    x_columns = window.columns_mm()
    out = np.full(window.n_columns, np.nan)
    for trace in traces:
        near = (trace.x_mm > x_columns[0] - 3) & (trace.x_mm < x_columns[-1] + 3)
        if near.sum() < 2:
            continue
        mm = np.stack([trace.x_mm[near], trace.y_mm[near]], axis=-1).astype(np.float64)
        seen = mm + _lattice_error_mm(shot, sheet, mm)
        ok = np.isfinite(seen).all(axis=1)
        if ok.sum() < 2:
            continue
        x = np.maximum.accumulate(seen[ok, 0])
        inside = (x_columns >= x[0]) & (x_columns <= x[-1])
        out[inside] = window.row_of(np.interp(x_columns[inside], x, seen[ok, 1]))
    return out


def _lattice_error_mm(shot: Photograph, sheet: Sheet, mm: F64) -> F64:
    """How far the lattice moves page points (n, 2): its inverse at the true photo px, minus the points.

    Two Newton steps.
    """
    target = shot.page_to_photo(mm)
    p = mm.copy()
    for _ in range(2):
        here = photo_xy(sheet, p)
        jx = (photo_xy(sheet, p + [0.5, 0]) - here) / 0.5
        jy = (photo_xy(sheet, p + [0, 0.5]) - here) / 0.5
        det = jx[:, 0] * jy[:, 1] - jx[:, 1] * jy[:, 0]
        d = target - here
        p = p + np.stack([(d[:, 0] * jy[:, 1] - d[:, 1] * jy[:, 0]) / det,
                          (d[:, 1] * jx[:, 0] - d[:, 0] * jx[:, 1]) / det], axis=-1)  # fmt: skip
    return np.asarray(np.clip(p - mm, -4, 4))


def _with_jacobian(shot: Photograph, xy: NDArray[np.floating]) -> tuple[F64, F64]:
    """Page mm (..., 2) and d(mm)/d(photo px) (..., 2, 2) at photo points."""
    step = 4.0
    mm = np.asarray(shot.photo_to_page(xy))
    dx = (np.asarray(shot.photo_to_page(xy + [step, 0])) - np.asarray(shot.photo_to_page(xy - [step, 0]))) / (2 * step)
    dy = (np.asarray(shot.photo_to_page(xy + [0, step])) - np.asarray(shot.photo_to_page(xy - [0, step]))) / (2 * step)
    return mm, np.stack([dx, dy], axis=-1)


def _ecg_area_mm(page: PrintedPage) -> tuple[float, float, float, float]:
    """The rectangle around all traces with 10 mm about it; an empty one without traces."""
    traces = [t for t in page.traces if len(t.x_mm)]
    if not traces:
        return (0.0, 0.0, -1.0, -1.0)
    return (float(min(t.x_mm.min() for t in traces)) - 10, float(min(t.y_mm.min() for t in traces)) - 10,
            float(max(t.x_mm.max() for t in traces)) + 10, float(max(t.y_mm.max() for t in traces)) + 10)  # fmt: skip


def _inside(mm: NDArray[np.floating], box: tuple[float, float, float, float]) -> NDArray[np.bool_]:
    x, y = mm[..., 0], mm[..., 1]
    with np.errstate(invalid="ignore"):
        return np.asarray((x >= box[0]) & (x <= box[2]) & (y >= box[1]) & (y <= box[3]))
