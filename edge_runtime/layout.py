"""Which lead stands where on a flattened page: marks and trace ink to a ``PageLayout``, or the reason why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from ecg.errors import InputError
from ecg.layouts import LAYOUTS, LayoutSpec
from ecg.leads import STROKE_LEADS, base_lead, is_limb
from ecg.page import Decided, LeadStrip, Mark, Overrides, PageLayout, TraceMap, Unreadable
from edge_runtime.layout_board import find_boards
from edge_runtime.layout_evidence import find_ink, find_levels, gather
from edge_runtime.layout_fit import Columns, fit_columns, make_strips
from edge_runtime.layout_match import Match, match_layout
from edge_runtime.layout_scale import Scale, find_scale

STAGE: Final = "layout"
MIN_NAME_SHARE: Final = 0.25  # of the layout's visible leads, this share must be named
MIN_RIGHT_SHARE: Final = 0.5  # of the names that stand in rows, this share must agree with the layout
STRUCTURE_CONFIDENCE: Final = 0.35  # for a layout told by its rows and columns alone
LONE_NAME: Final = 0.75  # a lone row is told by its name alone: misread ones score less,
LONE_STROKES: Final = 0.85  # but those of strokes alone: of 372 rendered lone rows one was misread more surely
NO_RIVAL: Final = 0.55  # confidence below which the names speak as much for another arrangement
_ADVICE: Final = "name the arrangement with --layout (for example --layout 3x4+1)"


def find_layout(
    marks: Sequence[Mark], trace_map: TraceMap, overrides: Overrides | None = None
) -> PageLayout | Unreadable:
    """Say which lead is printed where, at what paper speed and gain, from what the finder saw on the flattened page.

    ``marks`` and ``trace_map`` are in page mm, the page upright.  ``decided`` of the result has "layout", "columns",
    "paper_speed" and "gain", and "rhythm" where there are rhythm strips.  Unreadable with reason "no_traces",
    "layout_unknown" or "layout_contradictory".  Raises InputError where ``overrides`` names no known layout.
    """
    overrides = overrides or Overrides()
    if overrides.layout is not None and overrides.layout not in LAYOUTS:
        raise InputError(f"unknown layout {overrides.layout!r}: use one of {', '.join(LAYOUTS)}")
    only = LAYOUTS[overrides.layout] if overrides.layout else None
    ink = find_ink(trace_map)
    if ink is None:
        return Unreadable(
            STAGE, "no_traces", "no ECG traces seen: photograph the printed ECG, sharp, filling the frame"
        )
    seen = gather(marks)
    levels = find_levels(ink, seen.starts)
    match = match_layout(find_boards(seen, ink, levels), ink, only) if levels.size else None
    if match is None:
        return Unreadable(STAGE, "layout_unknown", f"traces, but no rows of leads were found: {_ADVICE}")
    match, how = _trusted(match, only)
    columns = fit_columns(match, seen, ink)
    scale = _overridden(find_scale(seen, columns, match.spec, match.rows_mm), overrides)
    strips = make_strips(match, columns, ink, scale.speed_mm_per_s)
    if not strips:
        return Unreadable(STAGE, "no_traces", "no traces beside the lead names: take the photo again in better light")
    refused = _refusal(match, [s.lead for s in strips]) if only is None else None
    return refused or _page_layout(match, columns, scale, strips, how)


def _refusal(match: Match, leads: Sequence[str]) -> Unreadable | None:
    """Why the best match, of which the traces of ``leads`` are seen, isn't good enough; or None."""
    n_cells = len(leads)
    # A bar beside an I makes it a II.
    if n_cells == 1 and match.surest_name < (LONE_STROKES if leads[0] in STROKE_LEADS else LONE_NAME):
        advice = "say which lead it is with --layout (for example --layout 1x1-II)"
        return Unreadable(STAGE, "layout_unknown", f"one row of traces whose lead name can't be read surely: {advice}")
    named = match.names_right >= max(1, MIN_NAME_SHARE * n_cells) and match.names_right >= min(2, n_cells)
    if named and match.names_right >= MIN_RIGHT_SHARE * match.names_seen:
        whole = n_cells == len(match.spec.cells()) > 1  # of a part, rivals mostly differ in what isn't seen
        rivals = whole and match.confidence < NO_RIVAL and not _told_by_structure(match)
        return (
            Unreadable(STAGE, "layout_unknown", f"the lead names fit two arrangements: {_ADVICE}") if rivals else None
        )
    if match.names_seen <= 2 and _told_by_structure(match):
        return None
    if match.names_seen >= 3 and match.names_right < MIN_RIGHT_SHARE * match.names_seen:
        return Unreadable(STAGE, "layout_contradictory", f"the lead names fit no known arrangement: {_ADVICE}")
    return Unreadable(STAGE, "layout_unknown", f"too few lead names can be read to tell the leads apart: {_ADVICE}")


def _told_by_structure(match: Match) -> bool:
    """Four columns in three rows, with or without rhythm strips: only one arrangement is usual."""
    full = bool(np.isfinite(match.rows_mm).all())
    columns = (match.lattice.k_min, match.lattice.k_max) == (match.k0, match.k0 + 3)
    return full and columns and match.spec.rows == LAYOUTS["3x4"].rows


def _trusted(match: Match, only: LayoutSpec | None) -> tuple[Match, str]:
    """The match with the confidence that it deserves, and how the layout was decided."""
    if only is not None:
        return replace(match, confidence=1.0), "override"
    if match.names_right < 2 and match.spec.n_rows > 1:
        return replace(match, confidence=min(match.confidence, STRUCTURE_CONFIDENCE)), "grid"
    if match.spec.n_rows * match.spec.n_columns == 1 and match.names_right == 1:
        return replace(match, confidence=max(match.confidence, match.surest_name)), "names"
    share = match.names_right / max(match.names_seen, 1)
    return replace(match, confidence=match.confidence * (0.5 + 0.5 * share)), "names"


def _overridden(scale: Scale, overrides: Overrides) -> Scale:
    """The scale with what the user said of it."""
    said = Decided("override", 1.0)
    if overrides.paper_speed_mm_per_s is not None:
        scale = replace(scale, speed_mm_per_s=overrides.paper_speed_mm_per_s, speed=said)
    if overrides.gain_mm_per_mv is not None:
        scale = replace(scale, gain_mm_per_mv=overrides.gain_mm_per_mv, chest_gain_mm_per_mv=None, gain=said)
    return scale


def _page_layout(match: Match, columns: Columns, scale: Scale, strips: list[LeadStrip], how: str) -> PageLayout:
    """Put the parts together: gains by lead, the layout's name, and how all was decided."""
    chest = scale.chest_gain_mm_per_mv
    gains = {s.lead: scale.gain_mm_per_mv if chest is None or is_limb(s.lead) else chest for s in strips}
    printed = [(lead, row) for lead, row, *_ in match.spec.cells()]
    shown = {(s.lead, s.row) for s in strips}
    rows_shown = {row for _, row in shown} == {row for _, row in printed}
    columns_shown = {base_lead(lead)[0] for lead, _ in shown} == {base_lead(lead)[0] for lead, _ in printed}
    whole = match.spec.name in LAYOUTS and rows_shown and columns_shown
    decided = {
        "layout": Decided(how, round(match.confidence, 3)),
        "columns": Decided("layout" if columns.nominal else "marks", round(float(np.exp(-columns.sigma_mm)), 3)),
        "paper_speed": scale.speed,
        "gain": scale.gain,
    }
    if match.rhythm_confidence:
        least = round(min(match.rhythm_confidence), 3)
        decided["rhythm"] = Decided("override" if how == "override" else "names" if least > 0.5 else "default", least)
    return PageLayout(
        name=match.spec.name if whole else "partial",
        paper_speed_mm_per_s=scale.speed_mm_per_s,
        gain_mm_per_mv=scale.gain_mm_per_mv,
        strips=tuple(replace(s, gain_mm_per_mv=gains[s.lead]) for s in strips),
        chest_gain_mm_per_mv=chest,
        decided=decided,
    )
