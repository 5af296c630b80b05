"""Signals of twelve leads with what is known of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecg.leads import N_LEADS
from ecg.page import F32


@dataclass(frozen=True, eq=False)
class EcgRecord:
    """mv (12, n) float32 in the order of ``ecg.leads.LEADS``, NaN where unknown; SCP codes; a report sentence.

    ``true_mv`` is False where the source lost the absolute gain (PTB-XL's normalised records).
    """

    mv: F32
    fs_hz: float
    name: str = ""
    codes: tuple[str, ...] = ()
    superclasses: tuple[str, ...] = ()
    report: str = ""
    fold: int = 0
    age_years: float | None = None
    sex: str = ""
    true_mv: bool = True

    def __post_init__(self) -> None:
        if self.mv.ndim != 2 or self.mv.shape[0] != N_LEADS or self.mv.dtype != np.float32:
            raise ValueError(f"mv must be ({N_LEADS}, n) float32, got {self.mv.shape} {self.mv.dtype}")
        self.mv.setflags(write=False)

    @property
    def duration_s(self) -> float:
        """Length of the recording."""
        return self.mv.shape[1] / self.fs_hz
