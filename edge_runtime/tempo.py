"""Which paper speed the heart speaks for, where the page itself says too little.

A page at 50 mm/s that is read at 25 shows half the heart rate and twice every interval: 37 bpm with QRS complexes of
190 ms and a QTc of 630 ms.  Sick hearts come near one of these figures, hardly ever all three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from ecg.layouts import PAPER_SPEEDS_MM_PER_S
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


def log_likelihood(figures: Mapping[str, float]) -> float:
    """How usual a heart with these figures (names as in ``USUAL``) is: log densities relative to the medians'."""
    total = 0.0
    for name, value in figures.items():
        median, sigma = USUAL[name]
        bell = np.exp(-0.5 * (np.log(max(value, 1.0) / median) / sigma) ** 2)
        odd = ODD * sigma * np.sqrt(2 * np.pi) / LOG_WIDTH_OF_ODD
        total += float(np.log((1 - ODD) * bell + odd))
    return total


def _figures(measurements: Sequence[Measurement]) -> dict[str, float]:
    return {m.name: m.value for m in measurements if m.name in USUAL and isinstance(m.value, float)}


def other_speed(
    signal: EcgSignal, layout: PageLayout, measurements: Sequence[Measurement]
) -> tuple[float, Decided] | None:
    """The other paper speed, where the heart speaks for it, and how surely; None where it does not."""
    speed = layout.paper_speed_mm_per_s
    said = layout.decided.get("paper_speed", Decided("default", 0.9))
    here = _figures(measurements)
    if said.how in ("override", "text") or said.confidence > SURE or log_likelihood(here) > FAIR:
        return None
    (other,) = (v for v in PAPER_SPEEDS_MM_PER_S if v != speed)
    there = _figures(measure(replace(signal, fs_hz=signal.fs_hz * other / speed)))
    odds = sum(log_likelihood({k: there[k]}) - log_likelihood({k: here[k]}) for k in here.keys() & there.keys())
    odds -= float(np.log(said.confidence / max(1.0 - said.confidence, 1e-4)))
    return (other, Decided("rhythm", round(float(1.0 / (1.0 + np.exp(-odds))), 3))) if odds > MARGIN else None
