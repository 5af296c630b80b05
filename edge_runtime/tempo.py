"""Which paper speed the heart speaks for, where the page itself says too little.

A page at 50 mm/s that is read at 25 shows half the heart rate and twice every interval: 37 bpm with QRS complexes of
190 ms and a QTc of 630 ms.  Sick hearts come near one of these figures, hardly ever all three.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from ecg.measurements import Measurement, measure
from ecg.page import Decided, EcgSignal, PageLayout

# Median and standard deviation of the logarithm in adults: heart rate and QRS as textbooks have them, widened for the
# patients of hospitals; QTc by Bazett as in Rautaharju et al., J. Am. Coll. Cardiol. 53, 982 (2009), widened likewise.
USUAL: Final = {"heart_rate": (75.0, 0.30), "qrs": (95.0, 0.20), "qtc_bazett": (425.0, 0.09)}
ODD: Final = 0.10  # of hearts lie anywhere within a factor of four
LOG_WIDTH_OF_ODD: Final = float(np.log(16.0))
FAIR: Final = -3.5  # log likelihood from which a heart is not odd enough to look again
SURE: Final = 0.9995
MARGIN: Final = 1.5  # of log odds: a rate read twice as fast as it is does more harm than a refusal


def log_likelihood(measurements: Sequence[Measurement], names: Sequence[str] = tuple(USUAL)) -> float:
    """How usual the heart is: the log densities of those of ``names`` that were measured, relative to the medians'."""
    total = 0.0
    for m in measurements:
        if m.name in names and m.name in USUAL and isinstance(m.value, float):
            median, sigma = USUAL[m.name]
            bell = np.exp(-0.5 * (np.log(max(m.value, 1.0) / median) / sigma) ** 2)
            odd = ODD * sigma * np.sqrt(2 * np.pi) / LOG_WIDTH_OF_ODD
            total += float(np.log((1 - ODD) * bell + odd))
    return total


def other_speed(signal: EcgSignal, layout: PageLayout, measurements: Sequence[Measurement]) -> Decided | None:
    """How surely the page runs at the other speed (50 for 25 and 25 for 50 mm/s); None where it does not."""
    speed = layout.paper_speed_mm_per_s
    said = layout.decided.get("paper_speed", Decided("default", 0.9))
    if said.how in ("override", "text") or said.confidence > SURE or log_likelihood(measurements) > FAIR:
        return None
    faster = replace(signal, fs_hz=signal.fs_hz * (75.0 - speed) / speed)
    again = measure(faster)
    both = [
        n for n in USUAL if all(any(m.name == n and m.value is not None for m in ms) for ms in (measurements, again))
    ]
    odds = log_likelihood(again, both) - log_likelihood(measurements, both)
    odds -= float(np.log(said.confidence / max(1.0 - said.confidence, 1e-4)))
    return Decided("rhythm", round(float(1.0 / (1.0 + np.exp(-odds))), 3)) if odds > MARGIN else None
