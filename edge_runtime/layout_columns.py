"""Where a page's columns start and how wide they are: start and end marks against standard and other widths.

All rows of a column start at one x and all columns are equally wide, so two numbers place every mark.  The finder's
marks err alike in all rows of a column (a pulse that runs on into the trace, a beat where no separator stands), and
where they do they often show two places; so no mean is taken: each hypothesis, a width and a first start, is worth what
stands where it wants its lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_runtime.layout_evidence import F64, Points

STEP_MM: Final = 0.05
MARK_WIDTHS_MM: Final = ((0.5, 0.15), (0.35, 0.5), (0.15, 1.2))  # how far marks lie off their lines: shares, sigmas
KERNEL_MM: Final = 4.0
MARK_WORTH: Final = 3.0  # a mark's density over that of false ones, per mm
ALIKE: Final = 1.5  # marks of one line share their faults: the logarithm of their sum counts this much
OFF_GUESS_MM: Final = 4.0  # how far the first look may be wrong
REACH_MM: Final = 12.0
METRIC_TRUST: Final = 0.003  # the lattice of the paper is metric within this
# Printed column widths and how usual they are: 2.5, 10/3, 5 and 10 s at 25 or 50 mm/s; 2, 2.4, 2.56, 3, 4 s on some.
USUAL_MM: Final = {w: 1.0 for w in (62.5, 250.0 / 3.0, 125.0, 250.0, 500.0)} | {
    w: 0.05 for w in (31.25, 50.0, 60.0, 64.0, 75.0, 100.0, 120.0, 128.0, 150.0)
}
STANDARD_MM: Final = tuple(w for w, share in USUAL_MM.items() if share == 1.0)
# Columns of another width: how many to one of a usual one, and how far off; and per mm of any width.
OWN, OWN_SPREAD, OWN_PER_MM = 0.5, 0.015, 0.001
LONE_USUAL, LONE_PER_MM, LONE_OFF = 0.02, 0.005, 0.15  # a lone row is a strip cut to any length
GAPS_MM: Final = (1.0, 4.0)  # blanks between columns
GAPPED: Final = 0.06  # of usual columns have one


@dataclass(frozen=True)
class Lines:
    """Column c starts at x0_mm + c * pitch_mm, its last gap_mm blank; ``sigma_mm``: of x0; ``nominal``: a standard
    width."""

    x0_mm: float
    pitch_mm: float
    gap_mm: float
    sigma_mm: float
    nominal: bool


@dataclass(frozen=True, eq=False)
class _Field:
    """What marks say of lines at x_mm: log likelihood ratios every STEP_MM from ``left_mm``."""

    left_mm: float
    worth: F64

    def at(self, x_mm: F64) -> F64:
        i = np.rint((x_mm - self.left_mm) / STEP_MM).astype(np.int64)
        inside = (i >= 0) & (i < len(self.worth))
        return np.where(inside, self.worth[np.clip(i, 0, len(self.worth) - 1)], 0.0)


def _kernel() -> F64:
    x = np.arange(-KERNEL_MM, KERNEL_MM + STEP_MM / 2, STEP_MM)
    return np.asarray(
        sum(share / (s * np.sqrt(2 * np.pi)) * np.exp(-0.5 * (x / s) ** 2) for share, s in MARK_WIDTHS_MM)
    )


_KERNEL: Final = _kernel()


def _field(marks: Points) -> _Field:
    if not len(marks):
        return _Field(0.0, np.zeros(1))
    left = float(marks.x.min()) - KERNEL_MM
    at = np.rint((marks.x - left) / STEP_MM).astype(np.int64)
    scores = np.bincount(at, marks.score, int(at.max()) + len(_KERNEL) // 2 + 1)
    return _Field(left, ALIKE * np.log1p(MARK_WORTH * np.convolve(scores, _KERNEL, mode="same")))


def is_one_of(width_mm: float, widths_mm: Iterable[float]) -> bool:
    """Whether a width is one of ``widths_mm`` as far as the lattice can be trusted."""
    return any(abs(width_mm / w - 1) < METRIC_TRUST for w in widths_mm)


def fit_lines(
    first: Points, inner: Points, ends: Points, rhythm_ends: Points, n_cols: int, guess: tuple[float, float],
    lone: bool = False,
) -> Lines:  # fmt: skip
    """The likeliest lines: ``first`` are start marks that may belong to column 0, ``inner`` to any other, ``ends`` end
    marks of rows of columns, ``rhythm_ends`` of rhythm strips, which have no blanks and end before the columns where
    these have; ``guess`` the first start and the width of the first look (mm)."""
    x0 = np.arange(guess[0] - REACH_MM, guess[0] + REACH_MM, STEP_MM)
    fields = _field(first), _field(inner), _field(ends), _field(rhythm_ends)
    far = -np.log1p(((x0 - guess[0]) / OFF_GUESS_MM) ** 2)
    hypotheses = _lone_families(guess[1]) if lone else _families(guess[1], n_cols)
    families = [_worth(fields, x0, far, n_cols, *family, guess[1]) for family in hypotheses]
    totals = [float(np.logaddexp.reduce(worth, axis=None)) for worth, *_ in families]
    worth, pitch, gap, nominal = families[int(np.argmax(totals))]
    k = len(pitch) // 2 if nominal else int(worth.max(axis=1).argmax())  # standard widths are printed exactly
    i = int(worth[k].argmax())
    near = np.exp(worth[k] - worth[k, i]) * (np.abs(x0 - x0[i]) < 1.5)
    middle = float((near * x0).sum() / near.sum())
    sigma = float(np.sqrt((near * (x0 - middle) ** 2).sum() / near.sum()))
    return Lines(float(x0[i]), float(pitch[k]), float(gap[k]), max(sigma, STEP_MM), nominal)


def _families(width_mm: float, n_cols: int) -> list[tuple[F64, F64, F64, bool]]:
    """Hypotheses that compete as families: pitches, gaps, their prior weights, and whether they are standard ones."""
    out: list[tuple[F64, F64, F64, bool]] = []
    near = {w: p for w, p in USUAL_MM.items() if abs(w / width_mm - 1.0) < 0.08}
    for w, p in near.items():
        spread = w * (1.0 + METRIC_TRUST * np.array([-0.5, 0.0, 0.5]))
        out.append((spread, np.zeros(3), p * np.array([0.2, 0.6, 0.2]), True))
        if w in STANDARD_MM and n_cols > 1:
            gap = np.arange(GAPS_MM[0], GAPS_MM[1], 0.1)
            out.append((w + gap, gap, np.full(len(gap), GAPPED / len(gap)), False))
    own = width_mm * np.linspace(0.92, 1.08, 161)
    step = own[1] - own[0]
    density = np.full(len(own), OWN_PER_MM)
    for w in STANDARD_MM:
        s = OWN_SPREAD * w
        density += OWN * np.exp(-0.5 * ((own - w) / s) ** 2) / (s * np.sqrt(2 * np.pi))
    out.append((own, np.zeros(len(own)), density * step, False))
    return out


def _lone_families(width_mm: float) -> list[tuple[F64, F64, F64, bool]]:
    """Hypotheses for a row that stands alone: any length."""
    own = width_mm * np.linspace(1.0 - LONE_OFF, 1.0 + LONE_OFF, 601)
    usual = [(np.array([w]), np.zeros(1), np.array([LONE_USUAL * p]), True) for w, p in USUAL_MM.items()]
    return [*usual, (own, np.zeros(len(own)), np.full(len(own), LONE_PER_MM * (own[1] - own[0])), False)]


def _worth(
    fields: tuple[_Field, _Field, _Field, _Field], x0: F64, far: F64, n_cols: int, pitch: F64, gap: F64, prior: F64,
    nominal: bool, width_mm: float,
) -> tuple[F64, F64, F64, bool]:  # fmt: skip
    """Log weights (hypotheses, len(x0)) of one family."""
    first, inner, ends, rhythm_ends = fields
    lines = x0[None, :, None] + pitch[:, None, None] * np.arange(1, n_cols)
    starts = inner.at(lines).sum(axis=-1)
    if gap.any():  # a separator amid a blank is often taken for the start
        starts = np.maximum(starts, inner.at(lines - gap[:, None, None] / 2).sum(axis=-1))
    total = first.at(x0)[None, :] + starts + far[None, :] + np.log(prior)[:, None]
    total = total + ends.at(x0[None, :] + n_cols * pitch[:, None] - gap[:, None])
    total = total + rhythm_ends.at(x0[None, :] + n_cols * (pitch - gap)[:, None])
    off = n_cols * (pitch - width_mm) / OFF_GUESS_MM
    return total - np.log1p(off**2)[:, None], pitch, gap, nominal
