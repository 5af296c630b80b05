"""What the limb leads know of each other: Einthoven's and Goldberger's sums, used where the readings nearly agree.

Three leads read independently from one column, each with its own error, sum to a residual that should be zero.
Sharing a third of it out to each lead is their least-squares projection (FIELD 5); it takes a third of the error's
power.  A large residual says that one of them was misread: then all stay as they are, so that one lead's fault never
reaches another.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ecg.leads import LEAD_INDEX
from ecg.page import EcgSignal

# (lead, sign) whose signed sum vanishes.
TRIADS = ((("I", 1), ("III", 1), ("II", -1)), (("aVR", 1), ("aVL", 1), ("aVF", 1)))
AGREE_MV = 0.12  # residuals of this size get 1 / e of the correction
MIN_SAMPLES = 50


def reconciled(signal: EcgSignal) -> EcgSignal:
    """The signal with the limb leads of each column moved softly onto their relations."""
    mv = np.array(signal.mv)
    for triad in TRIADS:
        rows = [LEAD_INDEX[lead] for lead, _ in triad]
        signs = np.array([sign for _, sign in triad], dtype=np.float32)
        together = np.asarray(np.isfinite(mv[rows]).all(axis=0) & ~signal.filled[rows].any(axis=0))
        for part in _runs(together):
            _project(mv, rows, signs, part)
    return EcgSignal(mv, signal.fs_hz, np.array(signal.confidence), np.array(signal.filled))


def _project(mv: NDArray[np.float32], rows: list[int], signs: NDArray[np.float32], part: slice) -> None:
    """Share the residual of one stretch out; each lead's own zero line is arbitrary, so the median goes first."""
    residual = signs @ mv[rows, part]
    residual = residual - np.median(residual)
    share = residual * np.exp(-((residual / AGREE_MV) ** 2)) / 3
    mv[rows, part] -= signs[:, None] * share


def _runs(on: NDArray[np.bool_]) -> list[slice]:
    """Stretches of at least MIN_SAMPLES true samples."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(np.int8)))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= MIN_SAMPLES]
