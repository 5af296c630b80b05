"""A file of readings: what the shipped reader made of many printed and photographed records (``ecgscan-distill
readings`` writes it; teacher and students measure on it)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.errors import InputError
from ecg.page_input import PAGE_HEIGHT_PX, PAGE_WIDTH_PX
from ecg.signal_input import SIGNAL_SAMPLES

QUALITY: Final = ("coverage", "confidence", "filled", "grid", "lattice_residual_mm", "px_per_mm", "ecg_probability",
                  "einthoven_mv")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Readings:
    """n readings: mv (n, 12, 1000) at 100 Hz, NaN where not read; confidence alike, 0..1; printed (n, 12, 1000) bool;
    quality (n, len(QUALITY)); per reading its status ("read" or why not), codes, superclasses and where it is from."""

    mv: NDArray[np.float32]
    confidence: NDArray[np.float32]
    printed: NDArray[np.bool_]
    quality: NDArray[np.float32]
    status: NDArray[np.str_]
    layout: NDArray[np.str_]
    codes: tuple[tuple[str, ...], ...]
    superclasses: tuple[tuple[str, ...], ...]
    record: NDArray[np.str_]
    source: NDArray[np.str_]
    fold: NDArray[np.int64]
    condition: NDArray[np.str_]
    true_mv: NDArray[np.bool_]
    _page: NDArray[np.uint8]
    _page_end: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.mv)

    @property
    def read(self) -> NDArray[np.bool_]:
        """Which weren't refused (n,)."""
        return np.asarray(self.status == "read")

    def page(self, k: int) -> NDArray[np.uint8]:
        """The page input (768, 768) of reading k; zeros for a refusal."""
        first, last = int(self._page_end[k - 1]) if k else 0, int(self._page_end[k])
        if first == last:
            return np.zeros((PAGE_HEIGHT_PX, PAGE_WIDTH_PX), np.uint8)
        return np.asarray(cv2.imdecode(self._page[first:last], cv2.IMREAD_GRAYSCALE), np.uint8)

    def where(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The numbers of the chosen readings."""
        return np.flatnonzero(chosen)

    def part(self, chosen: NDArray[np.bool_]) -> Readings:
        """Some of the readings, without their pages."""
        k = np.flatnonzero(chosen)
        taken: dict[str, Any] = {f: getattr(self, f)[k] for f in _ROWS}
        for f in ("codes", "superclasses"):
            taken[f] = tuple(getattr(self, f)[int(i)] for i in k)
        return Readings(**taken, _page=np.zeros(0, np.uint8), _page_end=np.zeros(len(k), np.int64))


_ROWS: Final = ("mv", "confidence", "printed", "quality", "status", "layout", "record", "source", "fold", "condition",
                "true_mv")  # fmt: skip


def load_readings(path: Path) -> Readings:
    """The readings of a file; ``InputError`` where it can't be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            a = {k: file[k] for k in file.files}
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: can't be read as readings ({error}); make them with ecgscan-distill readings"
        ) from error
    return Readings(
        mv=a["mv"].astype(np.float32), confidence=a["confidence"].astype(np.float32) / 255,
        printed=np.unpackbits(a["printed"], axis=-1, count=SIGNAL_SAMPLES).astype(bool), quality=a["quality"],
        status=a["status"], layout=a["layout"], codes=tuple(tuple(c.split()) for c in a["codes"].tolist()),
        superclasses=tuple(tuple(c.split()) for c in a["superclasses"].tolist()), record=a["record"],
        source=a["source"], fold=a["fold"], condition=a["condition"], true_mv=a["true_mv"],
        _page=a["page"], _page_end=a["page_end"],
    )  # fmt: skip
