"""Everything that decides what a printed page looks like, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass

from ecg.layouts import LayoutSpec
from ecg.leads import is_limb
from ecg.synth.ink import Rgb
from ecg.synth.lettering import FontStyle
from ecg.synth.paper import PaperStyle, Rect

BLACK: Rgb = (0.05, 0.05, 0.06)
PLAIN = FontStyle()


@dataclass(frozen=True)
class Geometry:
    """Where traces run, page mm. Column c starts at x0 + c (column_s * speed + column_gap); row r at baselines[r].

    ``crop_mm`` is what of the page is there; all coordinates of a style are those of the whole page.
    """

    page_mm: tuple[float, float]
    crop_mm: Rect
    x0_mm: float
    baselines_mm: tuple[float, ...]
    column_s: float
    speed_mm_per_s: float = 25.0
    gain_mm_per_mv: float = 10.0
    chest_gain_mm_per_mv: float | None = None
    column_gap_mm: float = 0.0

    def gain_of(self, lead: str) -> float:
        """mm per mV of a printed lead."""
        return self.gain_mm_per_mv if self.chest_gain_mm_per_mv is None or is_limb(lead) else self.chest_gain_mm_per_mv

    def column_x_mm(self, column: int) -> float:
        """Where a column's traces start."""
        return self.x0_mm + column * (self.column_s * self.speed_mm_per_s + self.column_gap_mm)


@dataclass(frozen=True)
class Preparation:
    """What the machine does to the signal before it prints.

    ``start_s`` of the record is the printed start; ``mv_scale`` (one per lead, or empty) makes mV of a record that
    lost them; ``detrend``: "" none, "strip" removes each trace's mean, "lead" that of the whole lead; ``limit_mv``
    clips like an amplifier at its rails (inf: never).
    """

    start_s: float = 0.0
    mv_scale: tuple[float, ...] = ()
    detrend: str = ""
    limit_mv: float = float("inf")


@dataclass(frozen=True)
class Pen:
    """The trace's pen. ``uneven`` thins the ink from place to place, ``fade`` where it moves fast (both 0..1)."""

    width_mm: float = 0.3
    rgb: Rgb = BLACK
    alpha: float = 1.0
    uneven: float = 0.0
    fade: float = 0.0
    join_columns: bool = False


@dataclass(frozen=True)
class Labels:
    """Lead names. ``place``: "left" of the first column, "above", "below" or "inside" (over the trace) at its start.

    ``case``: "as" LEADS write it, "upper", "lower"; ``tick_mm`` draws a short tick left of the name (0: none).
    """

    font: FontStyle
    rgb: Rgb = BLACK
    alpha: float = 1.0
    place: str = "above"
    dx_mm: float = 1.0
    dy_mm: float = 6.0
    case: str = "as"
    box: bool = False
    tick_mm: float = 0.0
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True)
class Separators:
    """Between columns. ``kind``: none, tick, line, dotted, double (one dash above and one below the trace);
    ``off_mm`` right of the middle between them."""

    kind: str = "none"
    width_mm: float = 0.3
    height_mm: float = 5.0
    rgb: Rgb = BLACK
    off_mm: float = 0.0


@dataclass(frozen=True)
class Pulses:
    """Calibration pulses of 1 mV. ``rows`` that have one; ``side`` "left" or "right"; ``lead_mm`` of flat line before
    and after; ``gap_mm`` to the trace; ``joined`` closes the gap with the pen."""

    rows: tuple[int, ...] = ()
    side: str = "left"
    width_mm: float = 5.0
    lead_mm: float = 1.0
    gap_mm: float = 1.0
    joined: bool = False

    @property
    def span_mm(self) -> float:
        """Width with flat lines and gap."""
        return self.width_mm + 2 * self.lead_mm + self.gap_mm if self.rows else 0.0


@dataclass(frozen=True)
class Item:
    """A thing printed, written or punched that is no trace. ``shape``: text, rule, redaction, hole, barcode, logo,
    scribble, stamp; ``kind`` is its MarkBox's ("" leaves none). (x_mm, y_mm) is the start of a text's baseline, the
    top left corner of anything else. ``follows`` puts a text right after the one before."""

    shape: str
    kind: str
    x_mm: float
    y_mm: float
    w_mm: float = 0.0
    h_mm: float = 0.0
    text: str = ""
    means: str = ""  # the mark's text, where it isn't ``text`` itself
    font: FontStyle = PLAIN
    rgb: Rgb = BLACK
    alpha: float = 1.0
    turn_deg: float = 0.0
    follows: bool = False


@dataclass(frozen=True)
class PageStyle:
    """One page's looks."""

    layout: LayoutSpec
    geometry: Geometry
    paper: PaperStyle
    pen: Pen
    labels: Labels
    separators: Separators = Separators()
    pulses: Pulses = Pulses()
    preparation: Preparation = Preparation()
    items: tuple[Item, ...] = ()
    px_per_mm: float = 8.0

    @property
    def name(self) -> str:
        """The layout's name, before any crop."""
        return self.layout.name
