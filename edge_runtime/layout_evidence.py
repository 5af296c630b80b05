"""Marks and trace ink of a flattened page, turned into evidence for rows, columns and cells.

A page is a set of horizontal levels (the rows' baselines) crossed by a lattice of columns.  Both are found here without
knowing the layout; ``layout_match`` then asks which layout explains them.  Weights are log likelihood ratios (natural
logarithm) against "this mark is false, this ink is nothing"; they were set by reasoning about the finder (a name is
missed one time in five, misread one time in twenty), and hold over a wide range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecg.leads import LEADS, base_lead
from ecg.page import Mark, TraceMap

F64 = NDArray[np.floating]
I64 = NDArray[np.integer]
Bools = NDArray[np.bool_]

LABELS: Final = (*LEADS, "-aVR")
LABEL_INDEX: Final = {name: i for i, name in enumerate(LABELS)}
MIN_SCORE: Final = 0.1
MIN_ROW_GAP_MM: Final = 6.0
NAME_REACH_MM: Final = 20.0  # a name's centre lies at most this far from the start of its trace,
NAME_LEFT_MM: Final = 32.0  # or this far left of it, with a pulse between
START_REACH_MM: Final = 3.0  # a start belongs to a column line at most this far away
NOMINAL_WIDTHS_MM: Final = (62.5, 125.0, 250.0 / 3.0)
MIN_COLUMN_MM: Final = 22.0
LEAST_COLUMN: Final = 0.12  # of the densest column's marks: where traces run on, names alone show a column
REACH_X_MM: Final = 12.0


@dataclass(frozen=True, eq=False)
class Points:
    """Marks of one sort as arrays (n,): page mm and scores."""

    x: F64
    y: F64
    score: F64

    def __len__(self) -> int:
        return len(self.x)

    def where(self, chosen: Bools) -> Points:
        """Some of the marks."""
        return Points(self.x[chosen], self.y[chosen], self.score[chosen])

    def plus(self, x_mm: float, score: float) -> Points:
        """One more at an x and no certain y."""
        return Points(np.append(self.x, x_mm), np.append(self.y, np.nan), np.append(self.score, score))


@dataclass(frozen=True, eq=False)
class Seen:
    """All marks by sort; ``label`` (n,) is each name's index in ``LABELS``."""

    names: Points
    label: I64
    starts: Points
    ends: Points
    pulses: tuple[Mark, ...]
    texts: tuple[Mark, ...]


@dataclass(frozen=True, eq=False)
class Ink:
    """Trace ink by square millimetre: ``mass`` (H, W) gives every column of each trace about unit mass, however steep
    the trace is there; ``there`` (H, W) says whether there is any; ``xs`` and ``ys`` are the cells' centres in mm.
    Ink runs from ``left_mm`` to ``right_mm``: the middle 99 % of it and a margin."""

    mass: F64
    there: Bools
    on_page: Bools
    xs: F64
    ys: F64
    cell_mm: float
    left_mm: float
    right_mm: float

    def columns(self, x0_mm: float, x1_mm: float) -> slice:
        """Columns whose centres lie in [x0_mm, x1_mm)."""
        a, b = np.searchsorted(self.xs, [x0_mm, x1_mm])
        return slice(int(a), int(b))

    def rows(self, y0_mm: float, y1_mm: float) -> slice:
        """Rows whose centres lie in [y0_mm, y1_mm)."""
        a, b = np.searchsorted(self.ys, [y0_mm, y1_mm])
        return slice(int(a), int(b))

    def page_at(self, x_mm: F64, y_mm: F64) -> Bools:
        """Whether paper is seen at points of one shape, False outside the map."""
        j = np.rint((x_mm - self.xs[0]) / self.cell_mm).astype(np.int64)
        i = np.rint((y_mm - self.ys[0]) / self.cell_mm).astype(np.int64)
        inside = (i >= 0) & (i < len(self.ys)) & (j >= 0) & (j < len(self.xs))
        at = self.on_page[np.clip(i, 0, len(self.ys) - 1), np.clip(j, 0, len(self.xs) - 1)]
        return np.asarray(inside & at)


@dataclass(frozen=True, eq=False)
class Lattice:
    """Columns start at x0_mm + k * width_mm for k in [k_min, k_max]; with ``single`` there is one, that wide."""

    x0_mm: float
    width_mm: float
    k_min: int
    k_max: int
    single: bool = False


def gather(marks: Sequence[Mark]) -> Seen:
    """Sort the marks by kind and drop the faintest and those of one kind on top of each other (the best stays)."""
    kept: list[Mark] = []
    for m in sorted(marks, key=lambda m: -m.score):
        if m.score >= MIN_SCORE and not any(
            k.kind == m.kind and abs(k.x_mm - m.x_mm) < 3 and abs(k.y_mm - m.y_mm) < 3 for k in kept
        ):
            kept.append(m)
    names = [m for m in kept if m.kind.startswith("lead:") and m.kind[5:] in LABEL_INDEX]
    return Seen(
        names=_points(names),
        label=np.array([LABEL_INDEX[m.kind[5:]] for m in names], dtype=np.int64),
        starts=_points([m for m in kept if m.kind == "start"]),
        ends=_points([m for m in kept if m.kind == "end"]),
        pulses=tuple(m for m in kept if m.kind == "pulse"),
        texts=tuple(m for m in kept if m.kind.startswith(("speed:", "gain:"))),
    )


def _points(marks: list[Mark]) -> Points:
    table = np.array([(m.x_mm, m.y_mm, m.score) for m in marks], dtype=np.float64).reshape(-1, 3)
    return Points(table[:, 0], table[:, 1], np.clip(table[:, 2], 0.0, 1.0))


def find_ink(trace_map: TraceMap) -> Ink | None:
    """The map's ink, or None where there is next to none."""
    d = np.where(trace_map.on_page, trace_map.density, 0.0).astype(np.float64)
    h, w = d.shape
    strongest = np.sort(d.max(axis=0))[::-1]
    level = float(strongest[: max(20, w // 4)].mean()) if w else 0.0
    threshold = min(max(0.35 * level, 0.06), 0.5)
    there = d >= threshold
    if int(there.any(axis=0).sum()) * trace_map.cell_mm < 25.0:
        return None
    d = np.where(there, d, 0.0)
    # A flat trace fills one or two cells of a column, a QRS stroke ten: both get unit mass.
    reach = max(1, round(4.0 / trace_map.cell_mm))
    total = np.cumsum(np.pad(d, ((reach + 1, reach), (0, 0))), axis=0)
    near = total[2 * reach + 1 :] - total[:h]
    mass = d / np.maximum(near, threshold)
    xs = trace_map.x0_mm + trace_map.cell_mm * np.arange(w)
    ys = trace_map.y0_mm + trace_map.cell_mm * np.arange(h)
    share = mass.sum(axis=0).cumsum()
    left, right = np.searchsorted(share, share[-1] * np.array([0.005, 0.995]))
    span = float(xs[left]) - 1.0, float(xs[min(right, w - 1)]) + 1.0
    return Ink(mass, there, trace_map.on_page, xs, ys, trace_map.cell_mm, *span)


def smooth(profile: F64, sigma_cells: float) -> F64:
    """Gaussian smoothing of a profile (n,)."""
    reach = max(1, int(np.ceil(3.0 * sigma_cells)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_cells) ** 2)
    return np.convolve(np.pad(profile, reach), kernel / kernel.sum(), mode="valid")


def find_levels(ink: Ink, starts: Points) -> F64:
    """Candidate baselines (L,) in mm from top to bottom: peaks of the ink's projection, and starts far from any."""
    profile = smooth(ink.mass.sum(axis=1) * ink.cell_mm, 1.5 / ink.cell_mm)
    floor = max(0.12 * float(profile.max()), 2.5)
    inner = np.pad(profile, 1)
    peaks = np.flatnonzero((profile >= inner[:-2]) & (profile > inner[2:]) & (profile > floor))
    levels: list[float] = []
    for i in peaks[np.argsort(-profile[peaks], kind="stable")]:
        if all(abs(ink.ys[i] - y) >= MIN_ROW_GAP_MM for y in levels):
            levels.append(float(ink.ys[i]))
    for k in np.argsort(-starts.score, kind="stable"):
        if starts.score[k] >= 0.5 and all(abs(starts.y[k] - y) >= 1.5 * MIN_ROW_GAP_MM for y in levels):
            levels.append(float(starts.y[k]))
    return np.sort(np.array(levels[:28], dtype=np.float64))


def modes(
    values: F64, weights: F64, sigma: float, apart: float, at_most: int, *, least: float = 0.4
) -> list[float]:  # fmt: skip
    """The heaviest modes of weighted values (n,), ``apart`` from each other, strongest first and those below ``least``
    of its density left out; [] of nothing."""
    found: list[float] = []
    if values.size == 0:
        return found
    density = np.exp(-0.5 * ((values[:, None] - values[None, :]) / sigma) ** 2) @ weights
    best = float(density.max())
    for i in np.argsort(-density, kind="stable"):
        if len(found) == at_most or density[i] < least * best:
            break
        if all(abs(values[i] - v) >= apart for v in found):
            near = np.exp(-0.5 * ((values - values[i]) / sigma) ** 2) * weights
            found.append(float((values * near).sum() / near.sum()))
    return found


def name_drops(seen: Seen, levels: F64) -> list[float]:
    """How far names may lie below their rows' baselines (negative: above), mm: one number for the page, best first."""
    d = (seen.names.y[:, None] - levels[None, :]).ravel()
    w = np.repeat(seen.names.score, len(levels)) * np.exp(-0.5 * (d / 12.0) ** 2)
    near = np.abs(d) <= NAME_REACH_MM
    return modes(d[near], w[near], 1.5, 5.0, 2) or [0.0]


def name_shift(seen: Seen, drop_mm: float, most_mm: float = NAME_REACH_MM) -> float | None:
    """How far names lie right of their traces' starts, ``most_mm`` at most; None without a name beside a start."""
    dx = seen.names.x[:, None] - seen.starts.x[None, :]
    dy = seen.names.y[:, None] - drop_mm - seen.starts.y[None, :]
    near = (dx >= -NAME_LEFT_MM) & (dx <= most_mm) & (np.abs(dy) <= 8.0)
    usual = np.exp(-0.5 * (dx / np.where(dx < 0, 20.0, 14.0)) ** 2)
    w = seen.names.score[:, None] * seen.starts.score[None, :] * usual
    found = modes(dx[near], w[near], 1.8, 5.0, 1)
    return found[0] if found else None


def find_lattices(seen: Seen, shift_mm: float, ink: Ink) -> list[Lattice]:
    """Lattices of columns worth trying, best first, and those of one column last."""
    x = np.concatenate([seen.starts.x, seen.names.x - shift_mm])
    w = np.concatenate([seen.starts.score, 0.5 * seen.names.score])
    tau = np.concatenate([np.full(len(seen.starts), 1.2), np.full(len(seen.names), 3.0)])
    if x.size == 0:
        return _single_lattices(seen, x, w, ink)
    anchors = np.array(modes(x, w / tau, 1.2, 4.0, 8, least=LEAST_COLUMN))
    gaps = np.abs(anchors[:, None] - anchors[None, :])[np.triu_indices(len(anchors), 1)]
    widths = np.unique(np.round(np.concatenate([NOMINAL_WIDTHS_MM, *(gaps / j for j in (1, 2, 3))]), 2))
    widths = widths[(widths >= MIN_COLUMN_MM) & (widths <= 300.0)]
    k = np.rint((x[None, None, :] - anchors[:, None, None]) / widths[None, :, None])
    off = x[None, None, :] - anchors[:, None, None] - k * widths[None, :, None]
    hit = w * np.exp(-0.5 * (off / tau) ** 2)
    scores = hit.sum(axis=2) - 0.6 * _idle_lines(k, hit)
    out: list[Lattice] = []
    for a, b in zip(*np.unravel_index(np.argsort(-scores, axis=None, kind="stable"), scores.shape), strict=True):
        if len(out) == 3 or scores[a, b] < 0.5 * scores.max():
            break
        lattice = _refined(anchors[a], widths[b], x, w, tau)
        if not any(_same(lattice, other) for other in out):
            out.append(lattice)
    return out + _single_lattices(seen, x, w, ink)


def _idle_lines(k: F64, hit: F64) -> F64:
    """Lattice lines without evidence between the outermost with evidence, for (anchors, widths, points)."""
    lines = np.arange(-8, 9)
    busy = ((k[..., None] == lines) & (hit[..., None] > 0.15)).any(axis=2)
    low = np.where(busy.any(axis=-1), busy.argmax(axis=-1), 0)
    high = np.where(busy.any(axis=-1), len(lines) - 1 - busy[..., ::-1].argmax(axis=-1), 0)
    idle: F64 = (high - low + 1 - busy.sum(axis=-1)).astype(np.float64)
    return idle


def _refined(x0: float, width: float, x: F64, w: F64, tau: F64) -> Lattice:
    """Least squares of the points near the lattice's lines, once."""
    k = np.rint((x - x0) / width)
    near = np.abs(x - x0 - k * width) < 2.5 * tau
    k, x, w = k[near], x[near], (w / tau**2)[near]
    if k.size and k.min() < k.max():
        middle = float(w @ k) / float(w.sum())
        width = float((w * (k - middle)) @ x) / float(w @ (k - middle) ** 2)
        x0 = float(w @ x) / float(w.sum()) - width * middle
    low, high = (int(k.min()), int(k.max())) if k.size else (0, 0)
    return Lattice(float(x0), float(width), max(low, -6), min(high, 6))


def _same(a: Lattice, b: Lattice) -> bool:
    phase = (a.x0_mm - b.x0_mm) / b.width_mm
    return abs(a.width_mm - b.width_mm) < 0.015 * b.width_mm and abs(phase - round(phase)) * b.width_mm < 2.0


def _single_lattices(seen: Seen, x: F64, w: F64, ink: Ink) -> list[Lattice]:
    """One column from a start to where end marks agree that it ends, or to where the ink ends."""
    left, right = ink.left_mm, ink.right_mm
    stops = [right, *(v for v in modes(seen.ends.x, seen.ends.score, 1.0, 5.0, 2) if abs(v - right) > 3.0)]
    starts = modes(x, w, 1.2, 4.0, 3)[:2] or [left]
    return [Lattice(a, b - a, 0, 0, single=True) for a in starts for b in stops[:2] if b - a > MIN_COLUMN_MM]


def row_windows(levels: F64, least: float = 0.0) -> tuple[F64, F64]:
    """Each level's share of the height: up to halfway to its neighbours, at most 14 mm; at least ``least`` of the usual
    distance where some levels may be false: a trace that wanders leaves two close to each other."""
    middle = (levels[1:] + levels[:-1]) / 2
    reach = least * float(np.median(np.diff(levels))) if len(levels) > 1 else 0.0
    low = np.maximum(np.minimum(np.concatenate([[-np.inf], middle]), levels - reach), levels - 14.0)
    high = np.minimum(np.maximum(np.concatenate([middle, [np.inf]]), levels + reach), levels + 14.0)
    return low, high


def family(label: int) -> int:
    """Labels that a finder mixes up share a family: I II III; aVR aVL aVF -aVR; V1 to V6."""
    name = base_lead(LABELS[label])[0]
    return 2 if name.startswith("V") else 1 if name.startswith("a") else 0
