"""Records printed by ``ecg.synth``, photographed or not, read by the reader and measured: what a page costs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from ecg.page import Photo, Reading
from ecg.records import EcgRecord
from ecg.synth.camera import photograph, random_shot
from ecg.synth.printer import random_page
from ecg.synth.shots import PHONE
from edge_runtime.scan import PhotoReader

PAGES: Final = ("printed", "photographed")
LAYOUT: Final = "3x4+1"
SPEED_MM_PER_S: Final = 25.0
GAIN_MM_PER_MV: Final = 10.0
LONG_SIDE_PX: Final = 2400


def page_photo(record: EcgRecord, kind: str, seed: Sequence[int]) -> Photo:
    """A record on a whole 3x4+1 page at 25 mm/s and 10 mm/mV, all else by chance; "photographed" by a phone."""
    rng = np.random.default_rng(list(seed))
    page = random_page(rng, record, layout=LAYOUT, speed_mm_per_s=SPEED_MM_PER_S, gain_mm_per_mv=GAIN_MM_PER_MV,
                       chest_gain_mm_per_mv=None, partial=False)  # fmt: skip
    if kind == "printed":
        return Photo(np.array(page.rgb))
    shot = random_shot(rng, condition=str(rng.choice(PHONE)), long_side_px=LONG_SIDE_PX)
    return Photo(np.array(photograph(page, shot, rng).rgb))


def measured_pages(
    reader: PhotoReader, records: Sequence[EcgRecord], kind: str, seed: int
) -> Iterator[tuple[EcgRecord, Reading | None, float]]:
    """Each record with what was read from its page (None: refused) and the milliseconds that reading took."""
    for k, record in enumerate(records):
        photo = page_photo(record, kind, (seed, PAGES.index(kind), k))
        start = time.perf_counter()
        result = reader.read(photo)
        yield record, result if isinstance(result, Reading) else None, 1e3 * (time.perf_counter() - start)
