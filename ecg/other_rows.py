"""What a row's window is told of the other rows: their traces as read before, drawn where the window shows them.

Where traces cross, the ink alone leaves open whose stroke is whose; a net that sees where the others went on either
side can tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecg.geometry import StripWindow
from ecg.page import F32, U8

SOLID_ROWS, FADE_ROWS = 0.5, 1.0  # half a drawn line's height, and what it fades out over
LEAST_SURE: Final = 0.1  # columns read less surely than this say nothing


@dataclass(frozen=True, eq=False)
class ReadTrace:
    """A row as read before: page heights y_mm (n,) at x_mm (n,), rising, and how surely (n,), 0 to 1."""

    x_mm: NDArray[np.float64]
    y_mm: NDArray[np.float64]
    sure: F32


def drawn(window: StripWindow, others: Iterable[ReadTrace]) -> U8:
    """The other rows' traces in a window: (rows, columns), 0 where there is none, up to 255 where one surely is."""
    out = np.zeros((window.n_rows, window.n_columns), np.uint8)
    rows = np.arange(window.n_rows, dtype=np.float32)[:, None]
    x = window.columns_mm()
    for other in others:
        at = window.row_of(np.interp(x, other.x_mm, other.y_mm)).astype(np.float32)
        sure = np.interp(x, other.x_mm, other.sure, left=0.0, right=0.0).astype(np.float32)
        low, high = _stroke(at)
        here = np.flatnonzero((sure > LEAST_SURE) & (high > -2) & (low < window.n_rows + 1))
        if len(here):
            low, high = low[here], high[here]
            reach = SOLID_ROWS + FADE_ROWS + 1
            near = slice(max(int(low.min() - reach), 0), max(int(high.max() + reach) + 1, 0))
            away = np.maximum(np.maximum(low - rows[near], rows[near] - high), 0)
            line = sure[here] * np.clip((SOLID_ROWS + FADE_ROWS - away) / FADE_ROWS, 0, 1)
            out[near, here] = np.maximum(out[near, here], np.rint(255 * line).astype(np.uint8))
    return out


def as_told(others: U8) -> U8:
    """``drawn`` as the decoder takes it, like a fourth colour: from 128 for no trace to 255 for a sure one.

    On the colours' scale 128 is nothing, so that the net's picture enters as bytes without loss.
    """
    return np.asarray(128 + others // 2, np.uint8)


def _stroke(row: F32) -> tuple[F32, F32]:
    """Upper and lower end (n,) of a stroke through ``row`` (n,) within each column: half way to both neighbours."""
    middle = (row[1:] + row[:-1]) / 2
    before, after = np.concatenate([row[:1], middle]), np.concatenate([middle, row[-1:]])
    return np.minimum(np.minimum(before, after), row), np.maximum(np.maximum(before, after), row)
