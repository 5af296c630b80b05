"""Measurements of synthetic hearts, their error bars, and the reasons where nothing is measured."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from ecg.delineation import Delineation, delineate
from ecg.measurements import NOT_MEASURED, Measurement, bazett, framingham, fridericia, in_words, measure, measured
from ecg.page import EcgSignal
from ecg.synth.anatomy import HeartSpec, with_axis
from ecg.synth.heart import beat, random_heart

FS_HZ = 500.0
NAMES = (
    "heart_rate", "rhythm", "rr_sd", "ectopic_share", "p_duration", "pr", "qrs", "qt",
    "qtc_bazett", "qtc_fridericia", "qtc_framingham", "axis",
)  # fmt: skip


def signal(mv: np.ndarray, confidence: float = 1.0) -> EcgSignal:
    mv = np.array(mv, np.float32)  # EcgSignal freezes its arrays
    sure = np.where(np.isfinite(mv), confidence, 0).astype(np.float32)
    return EcgSignal(mv, FS_HZ, sure, np.zeros(mv.shape, bool))


@lru_cache(maxsize=16)
def found_in(seed: int, *conditions: str) -> tuple[HeartSpec, Delineation]:
    rng = np.random.default_rng(seed)
    spec = random_heart(rng, conditions)
    return spec, delineate(beat(spec, rng=rng).mv, FS_HZ)


def by_name(items: tuple[Measurement, ...]) -> dict[str, Measurement]:
    return {m.name: m for m in items}


def number(m: Measurement) -> float:
    assert isinstance(m.value, float), m
    return m.value


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_healthy_hearts(seed: int) -> None:
    spec, found = found_in(seed)
    items = by_name(measured(found, 0.002))
    truth = {
        "heart_rate": spec.rhythm.rate_bpm, "pr": 1e3 * spec.pr_s, "qrs": 1e3 * spec.qrs_s, "qt": 1e3 * spec.qt_s,
        "axis": spec.axis_deg,
    }  # fmt: skip
    for name, value in truth.items():
        m = items[name]
        assert m.error is not None
        assert m.error > 0
        assert abs(number(m) - value) < 3 * m.error + 0.5, m
    assert items["rhythm"].value == "regular"
    assert items["ectopic_share"].value == 0.0


def test_every_measurement_is_there_with_its_unit_or_its_reason() -> None:
    for mv in (np.full((12, 5000), np.nan), np.zeros((12, 5000)), beat(found_in(1)[0]).mv):
        items = measure(signal(mv))
        assert tuple(m.name for m in items) == NAMES
        for m in items:
            assert (m.value is None) == m.reason.startswith("not measured: ")
            assert type(m.value) in (float, str, type(None))
            assert m.error is None or type(m.error) is float
            assert type(m.n_beats) is int


def test_corrections_of_qt() -> None:
    assert bazett(0.4, 1.0) == fridericia(0.4, 1.0) == framingham(0.4, 1.0) == 0.4
    assert bazett(0.36, 0.64) == pytest.approx(0.45)
    assert fridericia(0.36, 0.512) == pytest.approx(0.45)
    assert framingham(0.36, 0.5) == pytest.approx(0.437)
    items = by_name(measured(found_in(1)[1], 0.002))
    rr = 60 / number(items["heart_rate"])
    assert number(items["qtc_bazett"]) == pytest.approx(1e3 * bazett(number(items["qt"]) / 1e3, rr), rel=0.02)


def test_fibrillation_has_no_p_and_is_irregular() -> None:
    items = by_name(measured(found_in(1, "AFIB")[1], 0.002))
    assert items["rhythm"].value == "irregular"
    for name in ("p_duration", "pr"):
        assert items[name].value is None
        assert "P" in items[name].reason
    assert number(items["qrs"]) > 60


def test_a_beat_in_step_but_irregular_needs_surer_p_waves() -> None:
    _, found = found_in(1, "SARRH")
    assert by_name(measured(found, 0.002))["pr"].value is not None
    doubtful = by_name(measured(replace(found, p_likeness=0.66), 0.002))["pr"]
    assert doubtful.value is None
    assert "irregular" in doubtful.reason


def test_ectopic_beats_are_counted() -> None:
    assert number(by_name(measured(found_in(1, "BIGU")[1], 0.002))["ectopic_share"]) == pytest.approx(50, abs=12)
    with_pvc = by_name(measured(found_in(1, "PVC")[1], 0.002))
    assert 5 < number(with_pvc["ectopic_share"]) < 40
    assert with_pvc["rhythm"].value == "regular"  # but for the ectopic beats
    early = by_name(measured(found_in(1, "PAC")[1], 0.002))
    assert number(early["ectopic_share"]) > 0


def test_less_confidence_and_less_resolution_widen_the_error() -> None:
    spec, found = found_in(2)
    plain, blurred = by_name(measured(found, 0.002)), by_name(measured(found, 0.040))
    doubtful = by_name(measured(found, 0.002, confidence=0.25))
    for name in ("pr", "qrs", "qt"):
        assert plain[name].error < blurred[name].error  # type: ignore[operator]
        assert doubtful[name].error == pytest.approx(2 * plain[name].error)  # type: ignore[operator]
    half = measure(signal(beat(spec).mv, confidence=0.5))
    assert by_name(half)["qt"].value is not None


def test_noise_widens_the_error() -> None:
    mv = beat(found_in(2)[0]).mv
    noisy = mv + np.random.default_rng(0).normal(0, 0.03, mv.shape)
    clean, rough = by_name(measure(signal(mv))), by_name(measure(signal(noisy)))
    assert rough["qt"].error > 1.3 * clean["qt"].error  # type: ignore[operator]


@pytest.mark.parametrize("axis_deg", [-60.0, 0.0, 75.0, 120.0])
def test_axis(axis_deg: float) -> None:
    rng = np.random.default_rng(5)
    spec = with_axis(random_heart(rng, ()), axis_deg)
    m = by_name(measure(signal(beat(spec, rng=rng).mv)))["axis"]
    assert number(m) == pytest.approx(spec.axis_deg, abs=6)


def test_axis_from_two_limb_leads_only() -> None:
    spec, _ = found_in(1)
    mv = beat(spec).mv.copy()
    whole = number(by_name(measure(signal(mv)))["axis"])
    mv[[0, 1, 3, 4]] = np.nan  # III and aVF stay
    assert number(by_name(measure(signal(mv)))["axis"]) == pytest.approx(whole, abs=6)
    mv[2] = np.nan
    alone = by_name(measure(signal(mv)))["axis"]
    assert alone.reason == "not measured: two limb leads are needed"


def test_too_few_beats() -> None:
    spec, _ = found_in(1)
    items = by_name(measure(signal(beat(spec).mv[:, 250:800])))
    assert items["rhythm"].value is None
    assert items["pr"].value is None or items["pr"].n_beats >= 2


def test_errors_cover_about_two_thirds_of_synthetic_hearts() -> None:
    inside = []
    for seed in range(8):
        spec, found = found_in(seed)
        items = by_name(measured(found, 0.002))
        for name, value in (("pr", spec.pr_s), ("qrs", spec.qrs_s), ("qt", spec.qt_s)):
            error = items[name].error
            assert error is not None
            inside.append(abs(number(items[name]) - 1e3 * value) <= error)
    assert np.mean(inside) > 0.6


def test_qt_ends_before_the_next_beat() -> None:
    """In bigeminy the early beat may come before T ends: what looks like T's end then is the early beat's."""
    _, found = found_in(3)
    assert by_name(measured(found, 0.002))["qt"].value is not None
    crowded = by_name(measured(replace(found, beat_s=found.beat_s * 0.3), 0.002))
    assert crowded["qt"].reason == "not measured: the next beat comes before T ends"
    assert crowded["qtc_bazett"].reason == crowded["qt"].reason
    assert crowded["qrs"].value is not None


def test_in_words() -> None:
    assert in_words(Measurement("pr", 162.4, "ms", 9.2, 5)) == "PR 162 ± 9 ms"
    assert in_words(Measurement("axis", -31.6, "deg", 0.2, 5)) == "axis -32 ± 1°"
    assert in_words(Measurement("rhythm", "irregular", "", None, 5)) == "rhythm irregular"
    assert in_words(Measurement("qt", None, "ms", None, 5, NOT_MEASURED + "too short")) == "QT not measured: too short"
