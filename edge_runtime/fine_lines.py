"""The lattice from 1 mm lines, where none of them is heavier: there the fine finder can't tell how far a place lies
past a heavy line.

The lines are a carrier of one cycle a millimetre along time and another across.  Demodulation gives their
phases cell by cell (as of fringes: Takeda, Ina and Kobayashi, J. Opt. Soc. Am. 72, 156, 1982), about the frequency that
a Fourier transform finds near the size that the thumbnail told, or about that size where the paper is too bent for one
frequency.  They are unwrapped as the finder's are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.geometry import VIEW_PX_PER_MM
from ecg.marks import FINE_STRIDE
from ecg.page import F32, LATTICE_MM, U8
from edge_runtime.lattice import SURE, Field, both_unwrapped, grid_certainty

F64 = NDArray[np.float64]
Wave = tuple[float, float]  # cycles a px along x and y
LINES_A_BOX: Final = 5
GUESSED: Final = 0.58  # share of cells that take one line of five for heavier: more is no guess
CYCLE: Final = 1 / VIEW_PX_PER_MM  # cycles a view px
OFF: Final = 0.16  # share that size and turn of the view may be off by: harmonics of 5 mm boxes are 0.2 away
PEAK: Final = 6.5  # times the median around it: noise and traces seldom reach so far, and fit nothing where they do
PARTS, NEAR_STEPS = 0.6, 2  # of the wave of 1 mm; of the transform.  1 mm lines: half of that, lines 3 mm apart: 0.9
# Neighbourhoods that phases are seen in, and what they may leave: .25 and .1 mm where there are no lines.
BLURS_MM: Final = ((1.2, 0.15), (3.0, 0.04))
PAPER_MM: Final = 5.0  # paper is brighter than most of what lies this near
TRACED: Final = 0.3  # probability of a trace
INK: Final = 97.0  # percentile of darkness that lines reach and writing goes beyond
HALF_SEEN: Final = 0.5  # share of bare paper around a place below which its lines count for less
AMPLITUDE: Final = 90.0  # percentile that counts as seen for certain


@dataclass(frozen=True, eq=False)
class PaperLines:
    """What a view (4 h, 4 w) shows of its paper's lines: how dark it is there, 1 where that is bare, the waves of lines
    across and along the time axis, and how many of the view's millimetres lines lie apart: 1, or 2 to 4 where it shows
    5 mm lines too small."""

    dark: F32
    bare: U8
    waves: tuple[Wave, Wave]
    apart: int


def paper_lines(view_rgb: U8, paper: F32, trace: F32) -> PaperLines | None:
    """The lines of a view (4 h, 4 w, 3), given the probabilities of paper and of traces in its cells (h, w); None
    without bare paper."""
    bare = _bare(view_rgb, paper, trace)
    if not bare.any():
        return None
    dark = _darkness(view_rgb, bare > 0)
    spectrum = _spectrum(dark)
    waves = _waves(spectrum, dark.shape)
    return PaperLines(dark, bare, waves, _lines_apart(spectrum, dark.shape, waves))


def even_field(lines: PaperLines | None, grid: F32, paper: F32) -> Field | None:
    """``fine_field`` of a view where the finder's phases (4, h, w) as GRID_CHANNELS take no line for heavier; else
    None."""
    field = fine_field(lines, paper)
    return field if field is not None and box_share(grid, field) < GUESSED else None


def fine_field(lines: PaperLines | None, paper: F32) -> Field | None:
    """The page mm of a view's cells, where paper is as probable as ``paper`` (h, w); None where no 1 mm lines are
    seen."""
    if lines is None or lines.apart > 1:
        return None
    for blur_mm, most_mm in BLURS_MM:
        phases = [_phase(lines.dark, lines.bare, wave, blur_mm) for wave in lines.waves]
        field = _field(phases, lines.waves, paper)
        if field is not None and field.residual_mm < most_mm:
            return field
    return None


def _bare(view_rgb: U8, paper: F32, trace: F32) -> U8:
    """1 where a view's px show paper without traces."""
    ink = cv2.dilate((trace > TRACED).astype(np.uint8), np.ones((3, 3), np.uint8))
    size = view_rgb.shape[1], view_rgb.shape[0]
    bare = cv2.resize(((paper > 0.5) & (ink == 0)).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(bare, dtype=np.uint8)


def _field(phases: list[NDArray[np.complex64]], waves: tuple[Wave, Wave], paper: F32) -> Field | None:
    """The page mm of the lines' phases, each beside its wave."""
    certainty = np.clip(paper, 0, 1)
    for z in phases:
        certainty = np.minimum(certainty, np.clip(np.abs(z) / max(np.percentile(np.abs(z), AMPLITUDE), 1e-6), 0, 1))
    sure = certainty > SURE
    if sure.sum() < 400:
        return None
    x, y = (np.arange(n) * FINE_STRIDE + (FINE_STRIDE - 1) / 2 for n in paper.shape[::-1])
    mm, off = [], []
    # These phases are means already, rounded at creases: kept sharp there 12 of 30 pages were read instead of 17.
    both = both_unwrapped(phases, certainty.astype(np.float32), sharp=False)
    for (phase, missed), wave in zip(both, waves, strict=True):
        mm.append(phase / (2 * np.pi) + wave[0] * x + wave[1] * y[:, None])
        off.append(missed / (2 * np.pi))
    residual_mm = float(np.median(np.hypot(*off)[sure]))
    page_mm = np.stack(mm, axis=-1).astype(np.float32)
    return Field(page_mm, certainty.astype(np.float32), residual_mm, LATTICE_MM / LINES_A_BOX)


def box_share(grid: F32, even: Field) -> float:
    """The share of cells (the larger of both axes') that find one and the same of five lines heavier than the others.

    ``grid``: phases (4, h, w) as GRID_CHANNELS, of a box's five lines; ``even``: the lattice of all lines.  Near 1
    where lines are heavier, a fifth or little more where the phases are guesses.
    """
    seen = grid_certainty(grid) * even.certainty > SURE
    shares = []
    for axis in (0, 1):
        phase = np.arctan2(grid[2 * axis + 1], grid[2 * axis])[seen] / (2 * np.pi)
        line = phase * LINES_A_BOX - even.mm[..., axis][seen]  # of the box, up to what all cells share
        shared = np.angle(np.exp(2j * np.pi * line).sum()) / (2 * np.pi)
        which = np.rint(line - shared).astype(int) % LINES_A_BOX
        shares.append(float(np.bincount(which, minlength=LINES_A_BOX).max()) / max(1, len(which)))
    return max(shares)


def _darkness(rgb: U8, bare: NDArray[np.bool_]) -> F32:
    """How much darker than the paper around it a view is, writing no more than lines: mean 0, and 0 off bare paper."""
    grey = cv2.min(cv2.min(rgb[..., 0], rgb[..., 1]), rgb[..., 2]).astype(np.float32)
    near = round(PAPER_MM * VIEW_PX_PER_MM)
    bright = cv2.blur(cv2.dilate(grey, np.ones((5, 5), np.uint8)), (near, near))
    dark = np.clip(bright - grey, 0, None)
    dark = np.minimum(dark, np.percentile(dark[bare], INK))
    return np.where(bare, dark - dark[bare].mean(), 0).astype(np.float32)


def _spectrum(dark: F32) -> F64:
    """Amplitudes (h, w / 2 + 1) of a view's waves."""
    return np.asarray(np.abs(np.fft.rfft2(dark * np.outer(np.hanning(dark.shape[0]), np.hanning(dark.shape[1])))))


def _lines_apart(spectrum: F64, shape: tuple[int, ...], waves: tuple[Wave, Wave]) -> int:
    """``PaperLines.apart``: lines n mm apart have waves of 1/n, 2/n, ... as strong as that of 1 mm, both ways."""
    for n in (4, 3, 2):  # every other wave of four is one of two
        parts = [_near(spectrum, shape, (x * k / n, y * k / n)) for x, y in waves for k in range(1, n)]
        if min(parts) > PARTS * max(_near(spectrum, shape, wave) for wave in waves):
            return n
    return 1


def _near(spectrum: F64, shape: tuple[int, ...], wave: Wave) -> float:
    """The largest amplitude at a wave or less than three steps beside it."""
    x, y = (wave[0], wave[1]) if wave[0] >= 0 else (-wave[0], -wave[1])
    column, row = round(x * shape[1]), round(y * shape[0])
    rows = np.arange(row - NEAR_STEPS, row + NEAR_STEPS + 1) % shape[0]
    columns = np.arange(max(column - NEAR_STEPS, 0), column + NEAR_STEPS + 1)
    return float(spectrum[np.ix_(rows, columns[columns < spectrum.shape[1]])].max())


def _waves(spectrum: F64, shape: tuple[int, ...]) -> tuple[Wave, Wave]:
    """The waves of the lines that cross the time axis and of those that run along it: where their peaks stand out; at
    right angles to the other where only that does; else ``CYCLE`` straight along the axes."""
    upright, level = (_peak(spectrum, shape, axis) for axis in (0, 1))
    if upright is None:
        upright = (CYCLE, 0.0) if level is None else (level[1], -level[0])
    return upright, level or (-upright[1], upright[0])


def _peak(spectrum: F64, shape: tuple[int, ...], axis: int) -> Wave | None:
    """The wave near ``CYCLE`` along an axis that stands out of the others there; None where none does."""
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    along, beside = (fx, fy) if axis == 0 else (fy, fx)
    near = (np.abs(along / CYCLE - 1) < OFF) & (np.abs(beside) < OFF * CYCLE)
    at = np.unravel_index(int(np.argmax(np.where(near, spectrum, 0))), spectrum.shape)
    if spectrum[at] < PEAK * float(np.median(spectrum[near])):
        return None
    return float(fx[0, at[1]]), float(fy[at[0], 0])


def _phase(dark: F32, bare: U8, wave: Wave, blur_mm: float) -> NDArray[np.complex64]:
    """The lines' phase and strength in every cell (h, w), their own carrier taken out, from the bare paper around."""
    h, w = dark.shape
    turn = -2 * np.pi * (wave[0] * np.arange(w) + wave[1] * np.arange(h)[:, None])
    sigma = blur_mm * VIEW_PX_PER_MM
    parts = [dark * np.cos(turn).astype(np.float32), dark * np.sin(turn).astype(np.float32), bare.astype(np.float32)]
    x, y = (np.arange(n // FINE_STRIDE, dtype=np.float32) * FINE_STRIDE + (FINE_STRIDE - 1) / 2 for n in (w, h))
    places = np.meshgrid(x, y)
    real, imaginary, seen = (cv2.remap(cv2.GaussianBlur(p, (0, 0), sigma), *places, cv2.INTER_LINEAR) for p in parts)
    return ((real + 1j * imaginary) / np.maximum(seen, HALF_SEEN)).astype(np.complex64)
