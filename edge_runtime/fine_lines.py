"""The lattice from 1 mm lines, where none of them is heavier: there the fine finder can't tell how far a place lies past
a heavy line.

The lines are a carrier of one cycle a millimetre along time and another across.  Demodulation gives their
phases cell by cell (as of fringes: Takeda, Ina and Kobayashi, J. Opt. Soc. Am. 72, 156, 1982), about the frequency that
a Fourier transform finds near the size that the thumbnail told, or about that size where the paper is too bent for one
frequency.  They are unwrapped as the finder's are.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.geometry import VIEW_PX_PER_MM
from ecg.marks import FINE_STRIDE
from ecg.page import F32, U8
from edge_runtime.lattice import SURE, Field, unwrapped

F64 = NDArray[np.float64]
LINES_A_BOX: Final = 5
CYCLE: Final = 1 / VIEW_PX_PER_MM  # cycles a view px
OFF: Final = 0.13  # share that the view's size may be off by: the lines' neighbours in 5 mm boxes are 0.2 away
PEAK: Final = 12.0  # times the median around it: noise and traces reach 4 to 6
BLUR_MM: Final = 1.2
PAPER_MM: Final = 5.0  # paper is brighter than most of what lies this near
INK: Final = 92.0  # percentile of darkness that lines reach and traces go beyond
AMPLITUDE: Final = 90.0  # percentile that counts as seen for certain


def fine_field(view_rgb: U8, paper: F32) -> Field | None:
    """A view (4 h, 4 w, 3) and its paper probability (h, w) to page mm; None where no 1 mm lines are seen."""
    dark = _darkness(view_rgb, cv2.resize(paper, (view_rgb.shape[1], view_rgb.shape[0])) > 0.5)
    spectrum = np.fft.rfft2(dark * np.outer(np.hanning(dark.shape[0]), np.hanning(dark.shape[1])))
    waves = [_wave(np.abs(spectrum), dark.shape, axis) for axis in (0, 1)]
    fields, certainty = [], np.clip(paper, 0, 1)
    phases = [_phase(dark, wave) for wave in waves]
    for z in phases:
        certainty = np.minimum(certainty, np.clip(np.abs(z) / max(np.percentile(np.abs(z), AMPLITUDE), 1e-6), 0, 1))
    if (certainty > SURE).sum() < 400:
        return None
    h, w = paper.shape
    x, y = (np.arange(n) * FINE_STRIDE + (FINE_STRIDE - 1) / 2 for n in (w, h))
    for z, wave in zip(phases, waves, strict=True):
        phase, off = unwrapped(z, certainty.astype(np.float32))
        fields.append((phase / (2 * np.pi) + wave[0] * x + wave[1] * y[:, None], off / (2 * np.pi)))
    sure = certainty > SURE
    residual_mm = float(np.median(np.hypot(*(off for _, off in fields))[sure]))
    mm = np.stack([mm for mm, _ in fields], axis=-1)
    return Field(mm.astype(np.float32), certainty.astype(np.float32), residual_mm)


def box_share(grid: F32, even: Field) -> float:
    """The share of cells (the larger of both axes') that find one and the same of five lines heavier than the others.

    ``grid``: phases (4, h, w) as GRID_CHANNELS, of a box's five lines; ``even``: the lattice of all lines.  Near 1 where
    lines are heavier, a fifth or little more where the phases are guesses.
    """
    seen = np.minimum(np.hypot(grid[0], grid[1]), np.hypot(grid[2], grid[3])).clip(0, 1) * even.certainty > SURE
    shares = []
    for axis in (0, 1):
        phase = np.arctan2(grid[2 * axis + 1], grid[2 * axis])[seen] / (2 * np.pi)
        line = phase * LINES_A_BOX - even.mm[..., axis][seen]  # of the box, up to what all cells share
        shared = np.angle(np.exp(2j * np.pi * line).sum()) / (2 * np.pi)
        which = np.rint(line - shared).astype(int) % LINES_A_BOX
        shares.append(float(np.bincount(which, minlength=LINES_A_BOX).max()) / max(1, len(which)))
    return max(shares)


def _darkness(rgb: U8, paper: NDArray[np.bool_]) -> F32:
    """How much darker than the paper around it the view is, traces no more than lines, 0 off the paper; mean 0."""
    grey = cv2.min(cv2.min(rgb[..., 0], rgb[..., 1]), rgb[..., 2]).astype(np.float32)
    near = round(PAPER_MM * VIEW_PX_PER_MM)
    bright = cv2.blur(cv2.dilate(grey, np.ones((5, 5), np.uint8)), (near, near))
    dark = np.clip(bright - grey, 0, None)
    most = float(np.percentile(dark[paper], INK)) if paper.any() else 0.0
    dark = np.minimum(dark, most)
    mean = float(dark[paper].mean()) if paper.any() else 0.0
    return np.where(paper, dark - mean, 0).astype(np.float32)


def _wave(spectrum: F64, shape: tuple[int, int], axis: int) -> tuple[float, float]:
    """Cycles a px along x and y of the lines that cross the time axis (0) or run along it (1); ``CYCLE`` straight along
    the axis where no peak stands out."""
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    along, beside = (fx, fy) if axis == 0 else (fy, fx)
    near = (np.abs(along / CYCLE - 1) < OFF) & (np.abs(beside) < OFF * CYCLE)
    at = np.unravel_index(int(np.argmax(np.where(near, spectrum, 0))), spectrum.shape)
    if spectrum[at] < PEAK * float(np.median(spectrum[near])):
        return (CYCLE, 0.0) if axis == 0 else (0.0, CYCLE)
    return float(fx[0, at[1]]), float(fy[at[0], 0])


def _phase(dark: F32, wave: tuple[float, float]) -> NDArray[np.complex64]:
    """The lines' phase and strength in every cell (h, w), their own carrier taken out."""
    h, w = dark.shape
    turn = -2 * np.pi * (wave[0] * np.arange(w) + wave[1] * np.arange(h)[:, None])
    sigma = BLUR_MM * VIEW_PX_PER_MM
    parts = [cv2.GaussianBlur(dark * f(turn).astype(np.float32), (0, 0), sigma) for f in (np.cos, np.sin)]
    x, y = (np.arange(n // FINE_STRIDE, dtype=np.float32) * FINE_STRIDE + (FINE_STRIDE - 1) / 2 for n in (w, h))
    places = np.meshgrid(x, y)
    real, imaginary = (cv2.remap(p, *places, cv2.INTER_LINEAR) for p in parts)
    return (real + 1j * imaginary).astype(np.complex64)
