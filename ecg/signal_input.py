"""Twelve decoded leads as the findings' net sees them: one clock, one scale, and what isn't known said beside it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecg.leads import N_LEADS
from ecg.page import F32, EcgSignal

SIGNAL_HZ: Final = 100.0
SIGNAL_SAMPLES: Final = 1000
SIGNAL_CHANNELS: Final = 3 * N_LEADS
_LIMIT: Final = 6.0  # in standard deviations of the lead: R waves reach 5
_LOG_MEAN: Final = -1.7  # of a lead's standard deviation in mV, and how much that varies
_LOG_SPREAD: Final = 0.6
_LEAST_MV: Final = 0.01


def on_signal_clock(mv: NDArray[np.floating], fs_hz: float) -> F32:
    """Means over each hundredth of a second, (12, 1000) mV at 100 Hz from (12, n); NaN where less than half is known.

    ``fs_hz`` must be a multiple of 100 Hz.
    """
    step = round(fs_hz / SIGNAL_HZ)
    if step < 1 or abs(step * SIGNAL_HZ - fs_hz) > 1e-6:
        raise ValueError(f"fs_hz must be a multiple of {SIGNAL_HZ:g} Hz, got {fs_hz}")
    out = np.full((N_LEADS, SIGNAL_SAMPLES * step), np.nan, np.float32)
    n = min(mv.shape[1], out.shape[1])
    out[:, :n] = mv[:, :n]
    cells = out.reshape(N_LEADS, SIGNAL_SAMPLES, step)
    known = np.isfinite(cells)
    count = known.sum(axis=2)
    mean = np.where(known, cells, 0).sum(axis=2) / np.maximum(count, 1)
    return np.where(2 * count >= step, mean, np.nan).astype(np.float32)


def signal_input(mv: NDArray[np.floating]) -> F32:
    """(..., 36, 1000) from mV (..., 12, 1000), NaN where not known.

    Channels 0 to 11: each lead less its median (of every fourth sample), over its own standard deviation, 0 where not
    known.  12 to 23: 1 where known.  24 to 35: the logarithm of that deviation, where known.  Shape and size thus come
    apart: sizes of leads differ between recorders far more than shapes, and eight bits hold both.
    """
    known = np.isfinite(mv)
    count = np.maximum(known.sum(axis=-1, keepdims=True), 1)
    filled = np.where(known, mv, 0.0)
    centre = filled.sum(axis=-1, keepdims=True) / count
    spread = np.sqrt((np.where(known, mv - centre, 0.0) ** 2).sum(axis=-1, keepdims=True) / count)
    spread = np.maximum(spread, _LEAST_MV)
    # The isoelectric line is where most samples lie.
    level = _median(mv, known)
    shape = np.clip(np.where(known, (mv - level) / spread, 0.0), -_LIMIT, _LIMIT)
    size = np.where(known, (np.log(spread) - _LOG_MEAN) / _LOG_SPREAD, 0.0)
    return np.concatenate([shape, known.astype(np.float32), size], axis=-2).astype(np.float32)


def _median(mv: NDArray[np.floating], known: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Median along the last axis of every fourth sample where it is known (sorting is slow), 0 where none is."""
    few, here = mv[..., ::4], known[..., ::4]
    count = here.sum(axis=-1, keepdims=True)
    ordered = np.sort(np.where(here, few, np.inf), axis=-1)
    middle = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=-1)
    return np.where(count > 0, middle, 0.0)


def input_of(signal: EcgSignal) -> F32:
    """The net's input (36, 1000) of a reading's signal."""
    return signal_input(on_signal_clock(signal.mv, signal.fs_hz))
