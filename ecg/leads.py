"""The twelve leads, their order and the relations between them."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

LIMB_LEADS: Final = ("I", "II", "III", "aVR", "aVL", "aVF")
CHEST_LEADS: Final = ("V1", "V2", "V3", "V4", "V5", "V6")
LEADS: Final = LIMB_LEADS + CHEST_LEADS
STROKE_LEADS: Final = ("I", "II", "III")  # names of upright strokes alone: the same upside down
CABRERA_LIMB: Final = ("aVL", "I", "-aVR", "II", "aVF", "III")
N_LEADS: Final = len(LEADS)
LEAD_INDEX: Final = {name: i for i, name in enumerate(LEADS)}

# Rows give each limb lead from (I, II).  Einthoven: III = II - I.  Goldberger: aVR = -(I + II) / 2,
# aVL = I - II / 2, aVF = II - I / 2.
LIMB_FROM_I_II: Final = np.array([[1, 0], [0, 1], [-1, 1], [-0.5, -0.5], [1, -0.5], [-0.5, 1]], dtype=np.float64)


def base_lead(name: str) -> tuple[str, int]:
    """The lead behind a printed name and its sign: ``"-aVR"`` gives ``("aVR", -1)``."""
    return (name[1:], -1) if name.startswith("-") else (name, 1)


def is_limb(name: str) -> bool:
    """True for I, II, III, aVR, aVL, aVF (and -aVR)."""
    return base_lead(name)[0] in LIMB_LEADS


def limb_leads(i_mv: NDArray[np.floating], ii_mv: NDArray[np.floating]) -> NDArray[np.float64]:
    """The six limb leads (6, n) in mV from I and II (n,) in mV."""
    return LIMB_FROM_I_II @ np.stack([i_mv, ii_mv]).astype(np.float64)


def einthoven_residual_mv(mv: NDArray[np.floating]) -> NDArray[np.float64]:
    """I + III - II (n,) of a (12, n) signal in mV; NaN where one of them is not there."""
    return np.asarray(mv[0] + mv[2] - mv[1], dtype=np.float64)


def goldberger_residual_mv(mv: NDArray[np.floating]) -> NDArray[np.float64]:
    """aVR + aVL + aVF (n,) of a (12, n) signal in mV, zero for true augmented leads."""
    return np.asarray(mv[3] + mv[4] + mv[5], dtype=np.float64)
