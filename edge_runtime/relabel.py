"""Lead names as the user says they are, in the place of those that the page seemed to print."""

from __future__ import annotations

from dataclasses import replace

from ecg.errors import InputError
from ecg.page import Decided, PageLayout


def relabelled(layout: PageLayout, lead_names: tuple[str, ...] | None) -> PageLayout:
    """The layout with its strips renamed, in the order of ``layout.strips``; raises ``InputError`` for another count.

    Gains, rows and times stay with the places that they were measured at.
    """
    if lead_names is None:
        return layout
    if len(lead_names) != len(layout.strips):
        raise InputError(f"{len(lead_names)} lead names for {len(layout.strips)} traces; name each trace once")
    strips = tuple(replace(s, lead=name) for s, name in zip(layout.strips, lead_names, strict=True))
    decided = {**layout.decided, "leads": Decided("override", 1.0)}
    return replace(layout, strips=strips, decided=decided)
