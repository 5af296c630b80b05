"""The gate: what speaks against a photo or a reading, each doubt with its code, its measure and what to do.

Three functions, all pure: ``gate_frame`` judges a camera's frame before it is read (a "refuse" keeps the camera from
taking it), ``gate_photo`` the picture behind a reading or a refusal, ``gate_reading`` what was read.  Only the last
one's "refuse" makes a photo unreadable: a picture that looks bad but reads well is read.

Thresholds were fitted on rendered photos (``ecg.synth``); how they do on others: ``edge_runtime.risk_coverage``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from ecg.page import GateFinding, Photo, Reading, Unreadable
from edge_runtime.engines.base import Engine
from edge_runtime.gate_measures import PhotoMeasures, coarse_area, measure, page_area

Severity = Literal["refuse", "warn"]


@dataclass(frozen=True)
class Limit:
    """A measure's limit: a doubt where it is passed (``above`` or below)."""

    code: str
    above: bool
    value: float
    advice: str

    def of(self, value: float, severity: Severity, advice: str = "") -> tuple[GateFinding, ...]:
        """The finding, if the value passes the limit; none where it isn't known (NaN)."""
        if np.isfinite(value) and (value > self.value if self.above else value < self.value):
            return (GateFinding(self.code, advice or self.advice, round(float(value), 4), self.value, severity),)
        return ()


NOT_AN_ECG: Final = Limit("not_an_ecg", False, 0.5, "show the printed ECG: its page should fill the picture")
TOO_DARK: Final = Limit("too_dark", False, 50.0, "too dark: more light on the page")
TOO_BRIGHT: Final = Limit("too_bright", True, 0.7, "too bright: less light, or tap on the page to expose for it")
LOW_CONTRAST: Final = Limit("low_contrast", False, 22.0, "the traces are faint: more and even light, clean the lens")
TOO_SMALL: Final = Limit("too_small", False, 2.0, "move closer: the page is too small in the picture")
CUT_OFF: Final = Limit("cut_off", True, 0.0, "page cut off: show all of it")
TILTED: Final = Limit("tilted", True, 1.35, "hold the camera straight above the page")
GLARE: Final = Limit("glare", True, 0.02, "glare on the page: tilt it or turn off the flash")
BLURRED: Final = Limit("blurred", True, 0.65, "blurred: hold still and let the camera focus")
MOVING: Final = Limit("moving", True, 0.006, "hold still")

FAINT_READING: Final = Limit("traces_unsure", False, 0.40, "the traces are read unsurely: come closer, even light, flatten the page")  # fmt: skip  # noqa: E501
GAPS: Final = Limit("gaps", False, 0.90, "parts of the traces are missing: show all of the page, without glare")
GRID_LOST: Final = Limit("grid_lost", True, 0.40, "the paper's grid can't be followed: flatten the page, avoid glare")
# Of rendered pictures with so faint a grid (seeds 2 to 4, two of them charts) all five whose lattice lay this far
# off its lines were misread, the two others were not.
FAINT_GRID: Final = 0.75
FAINT_GRID_LOST: Final = Limit("grid_lost", True, 0.14, GRID_LOST.advice)
GRID_ROUGH: Final = Limit("grid_rough", True, 0.20, "the paper's grid is hard to follow: flatten the page")
GRID_UNSEEN: Final = Limit("grid_unseen", False, 0.45, "hardly any grid is seen: times and voltages are less sure")
EINTHOVEN: Final = Limit("leads_contradict", True, 0.60, "leads I, II and III contradict each other: flatten the page, check the layout")  # fmt: skip  # noqa: E501
EINTHOVEN_WARN: Final = Limit("leads_contradict", True, 0.35, "leads I, II and III agree poorly: check the traces")
REPEAT: Final = Limit("rhythm_contradicts", True, 0.80, "the rhythm strip differs from the short lead of its name: check the layout, or they were not recorded together")  # fmt: skip  # noqa: E501
BOTH_EINTHOVEN: Final = EINTHOVEN_WARN.value  # two contradictions of different kinds refuse together
LAYOUT_UNSURE: Final = Limit("layout_unsure", False, 0.50, "few lead names are readable: check the leads, or give --layout")  # fmt: skip  # noqa: E501
SCALE_UNSURE: Final = Limit("scale_unsure", False, 0.75, "paper speed or gain is not certain: check them, or give --speed and --gain")  # fmt: skip  # noqa: E501
SCALE_DOUBTED: Final = Limit("scale_unsure", False, 0.65, "paper speed or gain can't be told: give --speed and --gain")
SCALE_UNTOLD: Final = Limit("scale_unsure", False, 0.70, "hardly any grid shows, and neither speed nor gain can be read: give --speed and --gain")  # fmt: skip  # noqa: E501
LONE_LEAD: Final = Limit("layout_unknown", False, 0.55, "too little is seen to tell which lead this is: show more of the page")  # fmt: skip  # noqa: E501
CUSTOM: Final = ("default", "layout")
WASHED_OUT: Final = 100.0  # contrast below which a clipped picture may have lost its grid


def gate_frame(measures: PhotoMeasures, motion: float = 0.0) -> tuple[GateFinding, ...]:
    """What keeps a camera's frame from being taken, the most pressing first; empty where it is green.

    ``motion``: how far the picture moved since the last frame, in picture widths.
    """
    m = measures
    light = TOO_DARK.of(m.paper_level, "refuse") + _too_bright(m)
    ecg = NOT_AN_ECG.of(m.ecg_probability, "refuse")
    if ecg:
        return light + ecg
    return (
        light
        + _too_small(m)
        + _cut_off(m)
        + _glare(m)
        + TILTED.of(m.tilt, "refuse")
        + MOVING.of(motion, "refuse")
        + (BLURRED.of(m.blur_mm, "refuse") or LOW_CONTRAST.of(m.contrast, "refuse"))
    )


def gate_photo(measures: PhotoMeasures) -> tuple[GateFinding, ...]:
    """Doubts about a picture that was read, or tried to: a frame's, as warnings."""
    return tuple(replace(f, severity="warn") for f in gate_frame(measures))


def gate_reading(reading: Reading) -> tuple[GateFinding, ...]:
    """Doubts about what was read: refusals first."""
    q, layout = reading.quality, reading.layout
    confidence, residual = q.get("confidence", 1.0), q.get("lattice_residual_mm", 0.0)
    found = FAINT_READING.of(confidence, "refuse") + GAPS.of(q.get("coverage", 1.0), "warn")
    lost = GRID_LOST if q.get("grid", 1.0) > FAINT_GRID else FAINT_GRID_LOST
    found += lost.of(residual, "refuse") or GRID_ROUGH.of(residual, "warn")
    found += GRID_UNSEEN.of(q.get("grid", 1.0), "warn")
    found += _contradictions(q.get("einthoven_error", -1.0), q.get("repeat_error", -1.0), residual)
    if len(layout.strips) == 1:
        found += LONE_LEAD.of(min(q.get("grid", 1.0), confidence), "refuse")
    sure = {k: v.confidence for k, v in layout.decided.items()}
    found += LAYOUT_UNSURE.of(sure.get("layout", 1.0), "warn")
    # What the page says is against the usual value, which only custom speaks for.
    doubted = [v.confidence for k, v in layout.decided.items() if k in ("paper_speed", "gain") and v.how in CUSTOM]
    if len(doubted) == 2:  # a chart whose numbers look like lead names is read as far as here
        found += SCALE_UNTOLD.of(q.get("grid", 1.0), "refuse")
    found += SCALE_DOUBTED.of(min(doubted, default=1.0), "refuse") or SCALE_UNSURE.of(
        min(sure.get("paper_speed", 1.0), sure.get("gain", 1.0)), "warn"
    )
    return tuple(sorted(found, key=lambda f: f.severity != "refuse"))


def seen_of(photo: Photo, reading: Reading) -> PhotoMeasures:
    """The photo measured where it was read."""
    q = reading.quality
    return measure(photo, page_area(photo, reading.sheet, reading.layout, q["px_per_mm"], q["ecg_probability"]))


def gated(
    photo: Photo, outcome: Reading | Unreadable, coarse: Engine, seen: PhotoMeasures | None = None
) -> Reading | Unreadable:  # fmt: skip
    """The outcome with all that the gate says of it; unreadable where it refuses.  ``seen``: ``seen_of`` a reading,
    where it is known."""
    if isinstance(outcome, Unreadable):
        return replace(outcome, gate=gate_photo(measure(photo, coarse_area(photo, coarse))))
    q = outcome.quality
    findings = gate_reading(outcome) + gate_photo(seen or seen_of(photo, outcome))
    for finding in refusals(findings):
        return Unreadable("gate", finding.code, finding.advice, outcome.timings_ms, findings)
    return replace(outcome, gate=findings, quality={**q, "trust": trust(q, findings)})


def refusals(findings: Iterable[GateFinding]) -> tuple[GateFinding, ...]:
    """Those that refuse."""
    return tuple(f for f in findings if f.severity == "refuse")


def trust(quality: dict[str, float], findings: Iterable[GateFinding] = ()) -> float:
    """How far to trust a reading, 0 to 1: what readings are sorted by in the risk-coverage curve.

    A product of what each figure leaves: no probability, an order.
    """
    einthoven, repeat = quality.get("einthoven_error", -1.0), quality.get("repeat_error", -1.0)
    left = quality.get("confidence", 1.0) * quality.get("coverage", 1.0)
    left *= 1.0 / (1.0 + (max(einthoven, 0.1 if einthoven < 0 else 0.0) / 0.3) ** 2)
    left *= 1.0 / (1.0 + (max(repeat, 0.2 if repeat < 0 else 0.0) / 0.6) ** 2)
    left *= 1.0 / (1.0 + (quality.get("lattice_residual_mm", 0.0) / 0.2) ** 2)
    left *= float(np.clip(quality.get("grid", 1.0), 0.2, 1.0))
    codes = {f.code for f in findings}
    left *= 0.8 ** len(codes & {SCALE_UNSURE.code, BLURRED.code, TOO_SMALL.code, GLARE.code, LAYOUT_UNSURE.code})
    return round(float(np.clip(left, 0.0, 1.0)), 4)


def _contradictions(einthoven: float, repeat: float, residual_mm: float) -> tuple[GateFinding, ...]:
    """Leads against each other; a rhythm strip of another time differs without a fault: alone it never refuses."""
    found = REPEAT.of(repeat, "warn")
    doubted = bool(found) and (einthoven > BOTH_EINTHOVEN or (einthoven < 0 and residual_mm > GRID_ROUGH.value))
    if doubted and einthoven <= EINTHOVEN.value:
        found = REPEAT.of(repeat, "refuse")
    return (EINTHOVEN.of(einthoven, "refuse") or EINTHOVEN_WARN.of(einthoven, "warn")) + found


def _too_bright(m: PhotoMeasures) -> tuple[GateFinding, ...]:
    """Clipped paper is common in scans: only where the print went with it."""
    return TOO_BRIGHT.of(m.clipped_share, "refuse") if m.contrast < WASHED_OUT else ()


def _too_small(m: PhotoMeasures) -> tuple[GateFinding, ...]:
    turn = "turn the page or the camera by 90 degrees: it fills the picture better"
    return TOO_SMALL.of(m.px_per_mm, "refuse", turn if m.turn_gain > 1.25 else "")


def _cut_off(m: PhotoMeasures) -> tuple[GateFinding, ...]:
    if not m.cut:
        return ()
    advice = "page cut off on all sides: move back" if len(m.cut) > 2 else f"page cut off {_at(' and '.join(m.cut))}"
    return CUT_OFF.of(float(len(m.cut)), "refuse", advice)


def _glare(m: PhotoMeasures) -> tuple[GateFinding, ...]:
    return GLARE.of(m.glare_share, "refuse", f"glare {_at(m.glare_side or 'middle')}: tilt the page or move the lamp")


def _at(side: str) -> str:
    return ("on the " if side in ("left", "right", "left and right") else "in the " if side == "middle" else "at the ") + side  # fmt: skip  # noqa: E501
