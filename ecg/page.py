"""What is known of one page and of one reading, passed between stages as frozen values.

Page millimetres: x to the right along time, y down, the origin anywhere on the page (the printer puts it at the top
left corner of the sheet, the reader at a node of the lattice). Pixels appear in ``Photo`` and ``Sheet`` only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ecg.leads import N_LEADS, base_lead

if TYPE_CHECKING:
    from ecg.findings import Finding
    from ecg.measurements import Measurement

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
LATTICE_MM = 5.0  # distance of two nodes of a Sheet's lattice: the heavy lines of ECG paper


@dataclass(frozen=True, eq=False)
class Photo:
    """An upright colour image: rgb (H, W, 3) uint8; ``source`` names the file or camera, ``page`` counts from 0."""

    rgb: U8
    source: str = ""
    page: int = 0

    def __post_init__(self) -> None:
        if self.rgb.ndim != 3 or self.rgb.shape[2] != 3 or self.rgb.dtype != np.uint8:
            raise ValueError(f"rgb must be (H, W, 3) uint8, got {self.rgb.shape} {self.rgb.dtype}")


@dataclass(frozen=True, eq=False)
class Sheet:
    """The way from page millimetres to photo pixels: nodes ``step_mm`` apart, cubic between them.

    ``node_px`` (Ny, Nx, 2) float32: photo (x, y) px (pixel centres at integers) of the page point
    (x0_mm + j step_mm, y0_mm + i step_mm); NaN off the paper.
    ``residual_mm``: the median distance between the measured grid and this lattice.
    """

    node_px: F32
    x0_mm: float = 0.0
    y0_mm: float = 0.0
    residual_mm: float = 0.0
    step_mm: float = LATTICE_MM

    def __post_init__(self) -> None:
        if self.node_px.ndim != 3 or self.node_px.shape[2] != 2 or min(self.node_px.shape[:2]) < 2:
            raise ValueError(f"node_px must be (Ny >= 2, Nx >= 2, 2), got {self.node_px.shape}")
        self.node_px.setflags(write=False)


@dataclass(frozen=True)
class LeadStrip:
    """One printed trace in page millimetres.

    ``lead`` is the printed name ("-aVR" is drawn upside down); ``start_s`` counts from the printed start.
    ``clipped_*``: the photo or the paper ends before the trace does.
    """

    lead: str
    row: int
    x0_mm: float
    x1_mm: float
    baseline_mm: float
    start_s: float
    gain_mm_per_mv: float
    confidence: float = 1.0

    def __post_init__(self) -> None:
        base_lead(self.lead)
        if not self.x1_mm > self.x0_mm:
            raise ValueError(f"strip {self.lead}: x1_mm {self.x1_mm} must lie right of x0_mm {self.x0_mm}")


@dataclass(frozen=True)
class Mark:
    """Something the finder saw, at page mm (x_mm, y_mm).

    ``kind``: "lead:NAME" (centre of a printed lead name, "lead:-aVR" too), "start" (first point of a trace, at every
    column's start), "end" (last point of a row), "pulse" (centre of a calibration pulse; its width and height in mm),
    "speed:25", "speed:50", "gain:5", "gain:10", "gain:20" (centre of the printed text).  ``score`` 0..1.
    """

    kind: str
    x_mm: float
    y_mm: float
    score: float
    width_mm: float = 0.0
    height_mm: float = 0.0


@dataclass(frozen=True, eq=False)
class TraceMap:
    """How much trace ink lies in each square millimetre: density (H, W) 0..1, cell (i, j) centred at
    page mm (x0_mm + j * cell_mm, y0_mm + i * cell_mm); ``on_page`` (H, W) False where the photo shows no paper."""

    density: F32
    on_page: NDArray[np.bool_]
    x0_mm: float
    y0_mm: float
    cell_mm: float = 1.0


@dataclass(frozen=True)
class Decided:
    """How a property of the page was decided ("pulse", "text", "grid", "layout", "default", "override"), how surely."""

    how: str
    confidence: float


@dataclass(frozen=True)
class PageLayout:
    """Where each lead stands: ``name`` is a key of ``ecg.layouts.LAYOUTS`` or "partial"."""

    name: str
    paper_speed_mm_per_s: float
    gain_mm_per_mv: float
    strips: tuple[LeadStrip, ...]
    chest_gain_mm_per_mv: float | None = None  # where it differs from the limb leads' gain
    orientation_deg: float = 0.0  # how far the photo shows the page turned clockwise
    decided: dict[str, Decided] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        """From the printed start to the last printed sample."""
        return max((s.start_s + (s.x1_mm - s.x0_mm) / self.paper_speed_mm_per_s for s in self.strips), default=0.0)


@dataclass(frozen=True)
class Overrides:
    """What the user says of a page; None where the page decides. ``layout`` is a key of ``ecg.layouts.LAYOUTS``.

    ``lead_names``: printed names in the order of ``PageLayout.strips``, as many as there are strips.
    """

    paper_speed_mm_per_s: float | None = None
    gain_mm_per_mv: float | None = None
    layout: str | None = None
    lead_names: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class EcgSignal:
    """mv (12, n) as ``ecg.leads.LEADS``, NaN where not printed; confidence (12, n) 0..1; filled (12, n) bool."""

    mv: F32
    fs_hz: float
    confidence: F32
    filled: NDArray[np.bool_]

    def __post_init__(self) -> None:
        for name in ("mv", "confidence", "filled"):
            shape = getattr(self, name).shape
            if len(shape) != 2 or shape[0] != N_LEADS or shape != self.mv.shape:
                raise ValueError(f"{name} must be ({N_LEADS}, n) like mv, got {shape}")
            getattr(self, name).setflags(write=False)


@dataclass(frozen=True)
class GateFinding:
    """One doubt about a photo or a reading: its code, what to do about it, the measure and the limit it passed.

    ``severity``: "refuse" (nothing read from it can be trusted) or "warn".
    """

    code: str
    advice: str
    value: float
    threshold: float
    severity: Literal["refuse", "warn"]


@dataclass(frozen=True)
class Unreadable:
    """A photo that can't be read: the stage that says so, a reason code, and one line with what to do."""

    stage: str
    reason: str
    message: str
    timings_ms: dict[str, float] = field(default_factory=dict)
    gate: tuple[GateFinding, ...] = ()


@dataclass(frozen=True, eq=False)
class Reading:
    """All that one page gave; ``embedding`` (d,) in the teacher's space, where it was asked for."""

    sheet: Sheet
    layout: PageLayout
    signal: EcgSignal
    quality: dict[str, float]
    timings_ms: dict[str, float] = field(default_factory=dict)
    gate: tuple[GateFinding, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    findings: tuple[Finding, ...] = ()
    embedding: F32 | None = None


@dataclass(frozen=True)
class BundleInfo:
    """Which nets read the page."""

    path: Path
    version: str
    sha256: str
    precision: str = "fp32"
