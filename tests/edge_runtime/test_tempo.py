"""The heart's say about the paper speed, on synthetic hearts read at the right and at the wrong one."""

from dataclasses import replace

import numpy as np
import pytest

from ecg.measurements import measure
from ecg.page import Decided, EcgSignal, LeadStrip, PageLayout
from ecg.synth.heart import beat, random_heart
from edge_runtime.tempo import MARGIN, log_likelihood, other_speed


def signal() -> EcgSignal:
    """A usual heart, all leads, 500 Hz."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        record = beat(random_heart(rng), 10.0, rng=rng)
        mv = np.asarray(record.mv[:, :5000], np.float32)
        found = EcgSignal(mv, record.fs_hz, np.ones_like(mv), np.zeros(mv.shape, bool))
        figures = {m.name: m.value for m in measure(found)}
        usual = all(isinstance(figures[k], float) for k in ("heart_rate", "qrs", "qtc_bazett"))
        if usual and 65 < figures["heart_rate"] < 90 and figures["qrs"] < 110 and 390 < figures["qtc_bazett"] < 450:
            return found
    raise AssertionError("no usual heart in 40")


def layout(speed: float, how: str = "default", confidence: float = 0.9) -> PageLayout:
    strip = LeadStrip("II", 0, 0.0, 250.0, 20.0, 0.0, 10.0)
    return PageLayout("1x1-II", speed, 10.0, (strip,), decided={"paper_speed": Decided(how, confidence)})


def slowed(times: float) -> EcgSignal:
    found = signal()
    return replace(found, fs_hz=found.fs_hz / times)


def test_a_page_at_50_read_at_25_is_found_out():
    wrong = slowed(2.0)
    speed, decided = other_speed(wrong, layout(25.0), measure(wrong))
    assert speed == 50.0
    assert decided.how == "rhythm"
    assert decided.confidence > 1 / (1 + np.exp(-MARGIN))


def test_a_page_at_25_read_at_50_is_found_out():
    wrong = slowed(0.5)
    assert other_speed(wrong, layout(50.0), measure(wrong))[0] == 25.0


def test_a_usual_heart_is_left_alone():
    right = signal()
    assert other_speed(right, layout(25.0), measure(right)) is None


@pytest.mark.parametrize(("how", "confidence"), [("override", 0.5), ("text", 0.5), ("pulse", 0.9999)])
def test_what_the_page_or_the_user_says_surely_stands(how, confidence):
    wrong = slowed(2.0)
    assert other_speed(wrong, layout(25.0, how, confidence), measure(wrong)) is None


def test_medians_are_the_likeliest_and_nothing_is_impossible():
    usual = {"heart_rate": 75.0, "qrs": 95.0, "qtc_bazett": 425.0}
    assert log_likelihood(usual) > log_likelihood(usual | {"qrs": 190.0}) > log_likelihood(usual | {"qrs": 900.0}) - 1
    assert np.isfinite(log_likelihood({"heart_rate": 1.0, "qrs": 5000.0}))
    assert log_likelihood({}) == 0.0
