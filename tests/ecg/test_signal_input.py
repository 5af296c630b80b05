import numpy as np
import pytest

from ecg.findings import FINDINGS, SUPERCLASSES, finding_labels, finding_name
from ecg.page import EcgSignal
from ecg.signal_input import SIGNAL_CHANNELS, SIGNAL_SAMPLES, input_of, on_signal_clock, signal_input


def _wave() -> np.ndarray:
    t = np.arange(SIGNAL_SAMPLES) / 100
    return np.stack([np.sin(2 * np.pi * (1 + k / 10) * t) * 0.1 * (k + 1) for k in range(12)]).astype(np.float32)


def test_clock_takes_means_and_keeps_what_is_unknown() -> None:
    mv = np.repeat(np.arange(12, dtype=np.float32)[:, None], 2500, axis=1)
    mv[3, 1000:1500] = np.nan
    out = on_signal_clock(mv, 500.0)
    assert out.shape == (12, SIGNAL_SAMPLES)
    assert np.isnan(out[:, 500:]).all()
    assert np.isnan(out[3, 200:300]).all()
    assert (out[5, :500] == 5).all()


def test_clock_wants_a_multiple_of_its_rate() -> None:
    with pytest.raises(ValueError, match="multiple of 100 Hz"):
        on_signal_clock(np.zeros((12, 1250), np.float32), 125.0)


def test_shape_does_not_depend_on_gain_and_size_does() -> None:
    one, two = signal_input(_wave()), signal_input(2 * _wave())
    assert one.shape == (SIGNAL_CHANNELS, SIGNAL_SAMPLES)
    np.testing.assert_allclose(one[:24], two[:24], atol=1e-5)
    assert ((two[24:] - one[24:]) > 0.5).all()


def test_unknown_samples_are_zero_everywhere() -> None:
    mv = _wave()
    mv[2], mv[4, 300:] = np.nan, np.nan
    x = signal_input(mv)
    assert np.isfinite(x).all()
    assert not x[[2, 14, 26]].any()
    assert not x[[4, 16, 28], 300:].any()
    assert x[16, :300].all()


def test_batches_are_like_single_records() -> None:
    batch = np.stack([_wave(), _wave()[::-1]])
    np.testing.assert_array_equal(signal_input(batch)[1], signal_input(batch[1]))


def test_input_of_a_reading() -> None:
    mv = np.full((12, 5000), np.nan, np.float32)
    mv[1] = 0.5
    signal = EcgSignal(mv, 500.0, np.ones_like(mv), np.zeros(mv.shape, bool))
    assert input_of(signal)[13].all()


def test_labels_cover_coarser_codes() -> None:
    row = dict(zip(FINDINGS, finding_labels(["LAFB/LPFB", "_AVB", "ASMI"], ["CD", "MI"]), strict=True))
    assert row["LAFB"]
    assert row["1AVB"]
    assert row["AMI"]
    assert row["MI"]
    assert row["NORM"] is False


def test_records_without_labels_say_nothing() -> None:
    assert set(finding_labels([], [])) == {None}


def test_every_finding_has_a_name() -> None:
    assert FINDINGS[:5] == SUPERCLASSES
    assert all(finding_name(c) for c in FINDINGS)
