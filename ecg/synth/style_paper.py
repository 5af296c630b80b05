"""Random papers: bases, grids in the colours that makers use, copies."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from ecg.synth.ink import Rgb
from ecg.synth.paper import HEAVY_MM, GridStyle, PaperStyle, Rect

# Inks at full strength, as reflectances; how often each is drawn.
_INKS: Final[dict[str, tuple[Rgb, float]]] = {
    "red": ((0.85, 0.28, 0.28), 0.24),
    "pink": ((0.96, 0.50, 0.62), 0.22),
    "orange": ((0.95, 0.55, 0.30), 0.15),
    "green": ((0.35, 0.68, 0.45), 0.11),
    "grey": ((0.45, 0.45, 0.45), 0.09),
    "blue": ((0.40, 0.58, 0.85), 0.08),
    "brown": ((0.58, 0.40, 0.30), 0.07),
    "purple": ((0.70, 0.45, 0.75), 0.04),
}
_DARK_INKS: Final[tuple[Rgb, ...]] = (
    (0.55, 0.10, 0.10), (0.70, 0.15, 0.12), (0.45, 0.15, 0.12), (0.80, 0.30, 0.28), (0.35, 0.20, 0.16),
    (0.25, 0.25, 0.28), (0.20, 0.30, 0.55), (0.15, 0.40, 0.25), (0.85, 0.45, 0.50), (0.60, 0.30, 0.15),
)  # fmt: skip
_KIND_SHARES: Final = {"lines": 0.64, "dots": 0.16, "fine": 0.06, "heavy": 0.09, "none": 0.05}
_WHITES: Final[tuple[Rgb, ...]] = ((1.0, 1.0, 1.0), (0.97, 0.97, 0.96), (0.98, 0.96, 0.90), (0.94, 0.94, 0.94))


def _choice(rng: np.random.Generator, shares: dict[str, float]) -> str:
    weights = np.array(list(shares.values()))
    return list(shares)[int(rng.choice(len(weights), p=weights / weights.sum()))]


def _strength(ink: Rgb, amount: float) -> Rgb:
    """A thinner print of an ink."""
    r, g, b = (1.0 - amount * (1.0 - c) for c in ink)
    return r, g, b


def _varied(ink: Rgb, rng: np.random.Generator, by: float = 0.06) -> Rgb:
    r, g, b = (float(np.clip(c + rng.normal(0, by), 0.02, 1.0)) for c in ink)
    return r, g, b


def _heavy_only(rng: np.random.Generator, area: Rect) -> GridStyle:
    """Thin dark 5-mm lines with a darker frame on white: plots printed on an office printer."""
    ink = _varied(_DARK_INKS[int(rng.integers(len(_DARK_INKS)))], rng, 0.05)
    return GridStyle(
        "heavy", area[0], area[1], area,
        heavy_rgb=_strength(ink, rng.uniform(0.6, 1.0)), heavy_width_mm=rng.uniform(0.12, 0.3),
        uneven=rng.choice([0.0, 0.25, 0.5]),
        frame_width_mm=rng.uniform(0.2, 0.4) if rng.random() < 0.75 else 0.0,
        frame_rgb=(0.12, 0.12, 0.13) if rng.random() < 0.7 else ink,
    )  # fmt: skip


def _random_grid(rng: np.random.Generator, kind: str, area: Rect) -> GridStyle:
    ink = _varied(_INKS[_choice(rng, {k: v for k, (_, v) in _INKS.items()})][0], rng)
    if kind == "none":
        return GridStyle("none", area[0], area[1], area)
    dark = rng.random() < 0.06  # grids as dark as the trace
    heavy = rng.uniform(0.55, 1.0)
    fine = heavy * rng.uniform(0.25, 0.95)
    if kind == "fine":
        fine = rng.uniform(0.15, 0.7)
    if dark:
        ink = (0.12, 0.12, 0.12)
    fine_width = rng.uniform(0.08, 0.2)
    return GridStyle(
        kind, area[0], area[1], area,
        fine_rgb=_strength(ink, max(fine, 0.5) if kind == "dots" else fine), heavy_rgb=_strength(ink, heavy),
        fine_width_mm=rng.uniform(0.16, 0.32) if kind == "dots" else fine_width,
        heavy_width_mm=fine_width * rng.uniform(1.0, 2.4) if kind != "heavy" else rng.uniform(0.12, 0.35),
        tint_rgb=_strength(ink, rng.uniform(0.02, 0.16)) if rng.random() < 0.45 and not dark else (1.0, 1.0, 1.0),
        uneven=rng.choice([0.0, 0.15, 0.4]), bold_every=5 if rng.random() < 0.04 else 0,
        dash=kind == "dots" and rng.random() < 0.25,
        frame_width_mm=rng.uniform(0.15, 0.4) if rng.random() < 0.15 else 0.0, frame_rgb=_strength(ink, 1.0),
    )  # fmt: skip


def grid_area(rng: np.random.Generator, page_mm: tuple[float, float], traces_mm: Rect, kit: bool) -> Rect:
    """The rectangle that the grid covers: the whole page, all but a margin, or only around the traces."""
    w, h = page_mm
    mode = rng.random()
    if kit:
        x0, y0 = rng.uniform(2, 12), rng.uniform(2, 12)
        nx, ny = int((w - 2 * x0) / HEAVY_MM), int((h - 2 * y0) / HEAVY_MM)
        return x0, y0, x0 + nx * HEAVY_MM, y0 + ny * HEAVY_MM
    if mode < 0.5:
        return 0.0, 0.0, w, h
    if mode < 0.75:
        x0, y0, x1, y1 = (float(v) for v in rng.uniform(1, 9, 4))
        return x0, y0, w - x1, h - y1
    pad = rng.uniform(0, 8, 4)
    x0, y0 = max(traces_mm[0] - pad[0], 0.0), max(traces_mm[1] - pad[1], 0.0)
    return float(x0), float(y0), float(min(traces_mm[2] + pad[2], w)), float(min(traces_mm[3] + pad[3], h))


def random_paper(
    rng: np.random.Generator,
    page_mm: tuple[float, float],
    traces_mm: Rect,
    *,
    kit: bool = False,
    kind: str | None = None,
    anchor_mm: tuple[float, float] | None = None,
) -> PaperStyle:
    """A sheet for a page whose traces fill ``traces_mm``. ``kit``: an office print with thin 5-mm lines.

    ``kind`` forces the grid's kind; ``anchor_mm`` puts a heavy crossing there (traces aligned with the grid).
    """
    area = grid_area(rng, page_mm, traces_mm, kit)
    if kit and kind in (None, "heavy"):
        grid = _heavy_only(rng, area)
    else:
        grid = _random_grid(rng, kind or _choice(rng, _KIND_SHARES), area)
        if rng.random() < 0.6:
            grid = replace(grid, x0_mm=float(rng.uniform(0, 5)), y0_mm=float(rng.uniform(0, 5)))
    if anchor_mm is not None:
        grid = replace(grid, x0_mm=anchor_mm[0], y0_mm=anchor_mm[1])
    base = _varied(_WHITES[int(rng.choice(4, p=[0.5, 0.25, 0.15, 0.1]))], rng, 0.012)
    if rng.random() < 0.05:  # coloured or dark paper
        base = _strength(_varied((0.72, 0.70, 0.66), rng, 0.05), float(rng.uniform(0.3, 1.3)))
    copy = _choice(rng, {"": 0.92, "grey": 0.06, "fax": 0.02})
    grain = float(rng.uniform(0.5, 3.0)) if rng.random() < 0.4 else 0.0
    return PaperStyle(base, grid, grain, copy, float(rng.uniform(0.9, 1.8)))
