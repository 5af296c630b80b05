"""Readings that are hard to write, and what equal means after reading them back."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import fake_reader
import numpy as np

from ecg.measurements import NOT_MEASURED, Measurement
from ecg.page import EcgSignal, Overrides, Reading

WHEN = datetime(2024, 2, 29, 13, 5, 7, tzinfo=timezone(timedelta(hours=1)))
PHOTO = "ward 7/Mustermann_Erika 1970.jpg"


def whole() -> Reading:
    """3x4+1, 10 s: eleven leads of 2.5 s and lead II throughout; 0.1 s of lead I are filled in."""
    return fake_reader.reading_for((1000, 2000, 3), Overrides())


def measured() -> Reading:
    """The whole page with figures: one of a kind each, one not measured."""
    figures = (
        Measurement("heart_rate", 72.4, "bpm", 0.6, 11),
        Measurement("rhythm", "regular", "", None, 11),
        Measurement("p_duration", None, "ms", None, 5, NOT_MEASURED + "no P waves"),
        Measurement("pr", None, "ms", None, 5, NOT_MEASURED + "no P waves"),
        Measurement("qrs", 94.0, "ms", 12.3, 5),
        Measurement("qtc_bazett", 412.2, "ms", 20.0, 5),
        Measurement("axis", -31.6, "deg", 4.2, 5),
    )
    return replace(whole(), measurements=figures)


def odd() -> Reading:
    """A prime number of samples, noise, gaps of one and more samples, a lead without any, one beyond 16 bits of uV."""
    rng = np.random.default_rng(5)
    reading = whole()
    mv = np.array(reading.signal.mv)[:, :4987]
    mv += rng.normal(0, 0.3, mv.shape).astype(np.float32)
    mv[1, [0, 700, 4986]] = np.nan
    mv[1, 1200:1777] = np.nan
    mv[8] = np.nan
    mv[6, 2600] = -47.1234
    filled = np.array(reading.signal.filled)[:, :4987]
    filled[1, 1100:1250] = True
    return replace(reading, signal=EcgSignal(mv, 500.0, np.array(reading.signal.confidence)[:, :4987], filled))


def lsb_mv(reading: Reading) -> float:
    """The step that the exporters choose: 1 uV, or 2 uV where the signal goes beyond 32 mV."""
    return 0.001 if np.nanmax(np.abs(reading.signal.mv)) < 32.767 else 0.002


def assert_same_signal(got_mv: np.ndarray, reading: Reading) -> None:
    """(12, n) in mV, NaN where nothing was read: equal to half a step."""
    want = reading.signal.mv
    assert got_mv.shape == want.shape
    assert np.array_equal(np.isfinite(got_mv), np.isfinite(want))
    assert np.nanmax(np.abs(got_mv - want)) <= 0.5 * lsb_mv(reading) + 1e-6 * np.nanmax(np.abs(want))
