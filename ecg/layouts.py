"""How leads are arranged on a page: which lead in which row and column, and which part of the recording it shows.

A layout counts in columns; millimetres follow from the column's width (``PageLayout``), seconds from the paper speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ecg.leads import CABRERA_LIMB, CHEST_LEADS, LEADS, LIMB_LEADS

PAPER_SPEEDS_MM_PER_S: Final = (25.0, 50.0)
GAINS_MM_PER_MV: Final = (5.0, 10.0, 20.0)


@dataclass(frozen=True)
class LayoutSpec:
    """Rows of printed lead names from top to bottom, and the full-width rhythm strips below them.

    A lead in column c starts c column widths after the printed start; a rhythm strip spans all columns.
    """

    name: str
    rows: tuple[tuple[str, ...], ...]
    rhythm: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len({len(r) for r in self.rows}) > 1:
            raise ValueError(f"layout {self.name}: rows must have the same number of columns")

    @property
    def n_columns(self) -> int:
        """Columns side by side."""
        return len(self.rows[0]) if self.rows else 1

    @property
    def n_rows(self) -> int:
        """Rows of traces, rhythm strips included."""
        return len(self.rows) + len(self.rhythm)

    def cells(self) -> tuple[tuple[str, int, int, int], ...]:
        """Every printed trace as (printed lead name, row, first column, columns spanned)."""
        short = [(lead, r, c, 1) for r, row in enumerate(self.rows) for c, lead in enumerate(row)]
        long = [(lead, len(self.rows) + k, 0, self.n_columns) for k, lead in enumerate(self.rhythm)]
        return tuple(short + long)


def _by_columns(leads: tuple[str, ...], n_rows: int) -> tuple[tuple[str, ...], ...]:
    """Leads filled down the columns: 12 leads in 3 rows give I aVR V1 V4 / II aVL V2 V5 / III aVF V3 V6."""
    return tuple(tuple(leads[r::n_rows]) for r in range(n_rows))


_CABRERA: Final = CABRERA_LIMB + CHEST_LEADS

_SPECS: Final = (
    LayoutSpec("3x4", _by_columns(LEADS, 3)),
    LayoutSpec("3x4+1", _by_columns(LEADS, 3), ("II",)),
    LayoutSpec("3x4+1-V1", _by_columns(LEADS, 3), ("V1",)),
    LayoutSpec("3x4+1-V5", _by_columns(LEADS, 3), ("V5",)),
    LayoutSpec("3x4+2", _by_columns(LEADS, 3), ("II", "V1")),
    LayoutSpec("3x4+2-V1-II", _by_columns(LEADS, 3), ("V1", "II")),
    LayoutSpec("3x4+3", _by_columns(LEADS, 3), ("V1", "II", "V5")),
    LayoutSpec("6x2", _by_columns(LEADS, 6)),
    LayoutSpec("6x2+1", _by_columns(LEADS, 6), ("II",)),
    LayoutSpec("12x1", tuple((lead,) for lead in LEADS)),
    LayoutSpec("4x3", _by_columns(LEADS, 4)),
    LayoutSpec("3x4-cabrera", _by_columns(_CABRERA, 3)),
    LayoutSpec("3x4+1-cabrera", _by_columns(_CABRERA, 3), ("II",)),
    LayoutSpec("6x2-cabrera", _by_columns(_CABRERA, 6)),
    LayoutSpec("12x1-cabrera", tuple((lead,) for lead in _CABRERA)),
    LayoutSpec("6x1-limb", tuple((lead,) for lead in LIMB_LEADS)),
    LayoutSpec("6x1-chest", tuple((lead,) for lead in CHEST_LEADS)),
    *(LayoutSpec(f"1x1-{lead}", ((lead,),)) for lead in LEADS),
)

LAYOUTS: Final = {spec.name: spec for spec in _SPECS}
