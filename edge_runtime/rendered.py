"""Pages of ``ecg.synth`` to measure on: as printed, as photographed, and pictures that hold no ECG."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Final

import numpy as np

from ecg.layouts import GAINS_MM_PER_MV, LAYOUTS, PAPER_SPEEDS_MM_PER_S
from ecg.page import Photo
from ecg.records import EcgRecord
from ecg.synth.camera import photograph, random_scene, random_shot
from ecg.synth.heart import beat, random_heart
from ecg.synth.printer import blank_page, distractor_page, print_page, random_page
from ecg.synth.style import PageStyle
from ecg.synth.style_random import random_style
from ecg.synth.truth import PrintedPage
from edge_runtime.evaluation import Row, page_truth, read_row
from edge_runtime.ink_limit import ink_score
from edge_runtime.scan import PhotoReader

DURATION_S: Final = 12.5
LONG_SIDE_PX: Final = 2400
# Single rows differ by name alone: two stand for all twelve.
ROUND_TRIP_LAYOUTS: Final = tuple(n for n in LAYOUTS if not n.startswith("1x1-") or n in ("1x1-II", "1x1-V1"))


def random_record(rng: np.random.Generator) -> EcgRecord:
    """A synthetic record long enough for any page."""
    return beat(random_heart(rng), duration_s=DURATION_S, rng=rng)


def round_trip_page(layout: str, speed: float, gain: float, seed: int, *, plain: bool = False) -> PrintedPage:
    """A whole page of one layout, paper speed and gain that says what these are; everything else by chance.

    ``plain``: nothing but the machine's own print, on the sheet and in its own ink: no handwriting, stamps, holes or
    blackened names, no photocopy or fax of it, no trace that runs off the sheet, and every lead's name beside it.
    """
    for attempt in range(100):
        rng = np.random.default_rng([seed, *layout.encode(), int(speed), int(gain), attempt])
        record = random_record(rng)
        style = random_style(
            rng, record, layout=layout, speed_mm_per_s=speed, gain_mm_per_mv=gain, partial=False
        )  # fmt: skip
        page = print_page(record, plain_style(style) if plain else style, rng)
        if tells_its_scale(page) and (not plain or is_plain(page)):
            return page
    raise RuntimeError(f"no page of {layout} at {speed} mm/s and {gain} mm/mV says so in 100 attempts")


def plain_style(style: PageStyle) -> PageStyle:
    """The style without what people and copiers add to a page."""
    added = ("scribble", "stamp", "hole", "redaction")
    items = tuple(i for i in style.items if i.shape not in added and i.kind not in ("handwriting", "stamp"))
    return replace(style, items=items, paper=replace(style.paper, copy=""))


def is_plain(page: PrintedPage) -> bool:
    """Whether every trace stays on the paper and has its name printed."""
    height = page.size_mm[1]
    inside = all(float(t.y_mm.min()) > 0 and float(t.y_mm.max()) < height for t in page.traces)
    return inside and sum(box.kind == "lead" for box in page.marks) >= len(page.traces)


def traces_cross(page: PrintedPage) -> bool:
    """Whether any trace runs through one of another row."""
    traces = sorted(page.traces, key=lambda t: t.strip.row)
    for k, upper in enumerate(traces):
        for lower in (t for t in traces[k + 1 :] if t.strip.row > upper.strip.row):
            both = (upper.x_mm >= lower.x_mm[0]) & (upper.x_mm <= lower.x_mm[-1])
            below = np.interp(upper.x_mm[both], lower.x_mm, lower.y_mm)
            if (below < upper.y_mm[both]).any():  # page mm grow downwards
                return True
    return False


def _traces(page: PrintedPage) -> str:
    """How a row of results says whether traces cross."""
    return "crossing" if traces_cross(page) else "apart"


def tells_its_scale(page: PrintedPage) -> bool:
    """Whether a reader could know millimetres, speed and gain: heavy grid lines; printed text, or a pulse for the gain
    and, unless it is 5 mm wide at 50 mm/s as some machines print it, for the speed."""
    kinds = {box.kind for box in page.marks}
    wide = {round(box.x1_mm - box.x0_mm, 1) for box in page.marks if box.kind == "pulse"}
    speed = "speed" in kinds or round(0.2 * page.layout.paper_speed_mm_per_s, 1) in wide
    return page.grid.kind in ("lines", "heavy", "dots") and speed and bool(kinds & {"gain", "pulse"})


def round_trip_rows(
    reader: PhotoReader, seed: int, layouts: tuple[str, ...] = ROUND_TRIP_LAYOUTS, *, plain: bool = False, sets: int = 1
) -> Iterator[Row]:
    """Pages as printed, no camera: every layout at every speed and gain."""
    for name, page in round_trip_pages(seed, layouts, plain=plain, sets=sets):
        row = read_row(reader, Photo(np.array(page.rgb)), name, page_truth(page), group=page.layout.name)
        yield replace(row, traces=_traces(page))


def round_trip_pages(
    seed: int, layouts: tuple[str, ...] = ROUND_TRIP_LAYOUTS, *, plain: bool = False, sets: int = 1
) -> Iterator[tuple[str, PrintedPage]]:
    """``sets`` pages with their names for every layout, paper speed and gain: of seeds ``seed``, ``seed`` + 1, ..."""
    every = product(range(seed, seed + sets), layouts, PAPER_SPEEDS_MM_PER_S, GAINS_MM_PER_MV)
    for set_seed, layout, speed, gain in every:
        yield f"{layout} {speed:g} {gain:g} #{set_seed}", round_trip_page(layout, speed, gain, set_seed, plain=plain)


def ink_rows(seed: int, layouts: tuple[str, ...] = ROUND_TRIP_LAYOUTS, *, sets: int = 1) -> Iterator[Row]:
    """What the plain pages' ink leaves of their signals, whoever reads them (``edge_runtime.ink_limit``)."""
    for name, page in round_trip_pages(seed, layouts, plain=True, sets=sets):
        layout = page.layout
        yield Row(name, "read", layout.name, layout.paper_speed_mm_per_s, layout.gain_mm_per_mv, 0.0, {},
                  group=layout.name, score=ink_score(page), traces=_traces(page))  # fmt: skip


def photographed_rows(
    reader: PhotoReader, seed: int, count: int, long_side_px: int = LONG_SIDE_PX, condition: str | None = None,
    *, plain: bool = False, grid: str | None = None,
) -> Iterator[Row]:  # fmt: skip
    """Random pages through random cameras; ``plain``: pages as ``round_trip_page`` has them, in any layout; ``grid``:
    the kind of paper of all pages that are not plain."""
    for k in range(count):
        rng = np.random.default_rng([seed, 1, k])
        page = _plain_page(rng) if plain else random_page(rng, random_record(rng), partial=False, grid=grid)
        shot = photograph(page, random_shot(rng, condition=condition, long_side_px=long_side_px), rng)
        name = f"photo{k:03d} {shot.condition}"
        yield read_row(reader, Photo(np.array(shot.rgb)), name, page_truth(page), group=shot.condition)


def _plain_page(rng: np.random.Generator) -> PrintedPage:
    """A page of any layout that says its scale, the machine's own print alone."""
    while True:
        record = random_record(rng)
        page = print_page(record, plain_style(random_style(rng, record, partial=False)), rng)
        if tells_its_scale(page) and is_plain(page):
            return page


def refusal_rows(reader: PhotoReader, seed: int, count: int) -> Iterator[Row]:
    """Pictures without an ECG: scenes, plain grid paper, other printed pages, ``count`` of each."""
    for k in range(count):
        rng = np.random.default_rng([seed, 2, k])
        pictures = {
            "scene": random_scene(rng, 1600).rgb,
            "grid paper": photograph(blank_page(rng), random_shot(rng, long_side_px=1600), rng).rgb,
            "other page": photograph(distractor_page(rng), random_shot(rng, long_side_px=1600), rng).rgb,
        }
        for group, rgb in pictures.items():
            yield read_row(reader, Photo(np.array(rgb)), f"{group} {k:02d}", group=group)
