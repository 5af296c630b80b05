"""Delineation of synthetic hearts whose intervals are known, of parts of leads, and of what is no ECG."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from ecg.delineation import delineate
from ecg.delineation_beats import bridged, find_qrs, slopes, without_impulses
from ecg.delineation_leads import MARKS, P_ON, QRS_OFF, QRS_ON, T_OFF, borne_out
from ecg.delineation_waves import first_true, last_true, nan_median, wave_end
from ecg.ludb import Marks, read_marks, read_symbols, references, waves_of
from ecg.records import EcgRecord
from ecg.synth.anatomy import HeartSpec
from ecg.synth.heart import beat, random_heart

FS_HZ = 500.0
LUDB = Path(__file__).resolve().parents[3] / "shared" / "data" / "ludb"


@lru_cache(maxsize=16)
def heart(seed: int, *conditions: str) -> tuple[HeartSpec, EcgRecord]:
    rng = np.random.default_rng(seed)
    spec = random_heart(rng, conditions)
    return spec, beat(spec, rng=rng)


def as_3x4(mv: np.ndarray, rhythm: bool = True) -> np.ndarray:
    """What a page prints: 2.5 s of each lead, and lead II throughout."""
    out = np.full_like(mv, np.nan)
    quarter = mv.shape[1] // 4
    for column in range(4):
        part = (slice(3 * column, 3 * column + 3), slice(column * quarter, (column + 1) * quarter))
        out[part] = mv[part]
    if rhythm:
        out[1] = mv[1]
    return out


# ------------------------------------------------------------------------------------------------------- known hearts


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
@pytest.mark.parametrize("page", ["all", "3x4+1", "3x4"])
def test_intervals_of_healthy_hearts(seed: int, page: str) -> None:
    spec, record = heart(seed)
    mv = record.mv if page == "all" else as_3x4(record.mv, rhythm=page == "3x4+1")
    found = delineate(mv, FS_HZ)
    slack = 1.0 if page == "all" else 1.6
    assert found.interval_s(P_ON, QRS_ON) == pytest.approx(spec.pr_s, abs=0.020 * slack)
    assert found.interval_s(QRS_ON, QRS_OFF) == pytest.approx(spec.qrs_s, abs=0.020 * slack)
    assert found.interval_s(QRS_ON, T_OFF) == pytest.approx(spec.qt_s, abs=0.025 * slack)
    assert (found.usual | ~found.whole).all()  # a beat may lie across two columns
    assert len(found.beat_s) == pytest.approx(10 * spec.rhythm.rate_bpm / 60, abs=1.5)


def test_marks_follow_each_other_in_every_beat() -> None:
    _, record = heart(1)
    found = delineate(record.mv, FS_HZ)
    assert (np.diff(found.marks_s) > 0).all()
    each = found.beat_marks_s[2:-2]
    assert np.isfinite(each).all()
    assert (np.diff(each, axis=1) > 0).all()
    assert (np.diff(found.lead_marks_s[:, QRS_ON : QRS_OFF + 1]) > 0).all()


def test_time_shift_moves_all_marks_alike() -> None:
    _, record = heart(2)
    whole, later = delineate(record.mv, FS_HZ), delineate(record.mv[:, 700:], FS_HZ)
    k = len(whole.beat_s) - len(later.beat_s)
    np.testing.assert_allclose(later.beat_s[1:], whole.beat_s[k + 1 :] - 1.4, atol=0.006)


def test_gain_does_not_matter() -> None:
    _, record = heart(3)
    one, two = delineate(record.mv, FS_HZ), delineate(1.5 * record.mv, FS_HZ)
    np.testing.assert_allclose(one.marks_s, two.marks_s, atol=0.012)


def test_columns_out_of_step_are_tied_together() -> None:
    spec, record = heart(1)
    mv = as_3x4(record.mv)
    mv[6:9] = np.roll(mv[6:9], 12, axis=1)  # V1 to V3 read 24 ms late
    found = delineate(mv, FS_HZ)
    assert found.interval_s(QRS_ON, QRS_OFF) == pytest.approx(spec.qrs_s, abs=0.025)
    chest = found.lead_marks_s[6:9, QRS_ON] - np.nanmedian(found.lead_marks_s[:, QRS_ON])
    assert np.abs(chest).max() < 0.016


@pytest.mark.parametrize("fs_hz", [125.0, 250.0, 1000.0, 2000.0])
def test_other_rates(fs_hz: float) -> None:
    rng = np.random.default_rng(1)
    spec = random_heart(rng, ())
    found = delineate(beat(spec, 10.0, fs_hz, rng).mv, fs_hz)
    assert found.interval_s(QRS_ON, T_OFF) == pytest.approx(spec.qt_s, abs=0.03)
    assert found.interval_s(P_ON, QRS_ON) == pytest.approx(spec.pr_s, abs=0.03)


def test_ectopic_beats_stay_out_of_the_median() -> None:
    spec, record = heart(1, "BIGU")
    found = delineate(record.mv, FS_HZ)
    assert (~found.usual & found.whole).sum() >= 4
    assert found.interval_s(QRS_ON, QRS_OFF) == pytest.approx(spec.qrs_s, abs=0.02)
    assert np.isnan(found.beat_marks_s[~found.usual]).all()


@pytest.mark.parametrize(("seed", "condition"), [(1, "AFIB"), (2, "AFIB"), (1, "2AVB")])
def test_no_p_without_step(seed: int, condition: str) -> None:
    found = delineate(heart(seed, condition)[1].mv, FS_HZ)
    assert found.no_p
    assert np.isnan(found.marks_s[P_ON])
    assert np.isnan(found.lead_marks_s[:, P_ON]).all()
    assert np.isfinite(found.interval_s(QRS_ON, T_OFF))


def test_pacemaker_impulses_are_cut_out_and_r_waves_are_not() -> None:
    _, record = heart(1)
    mv = record.mv.astype(np.float64)
    assert np.isfinite(without_impulses(mv, FS_HZ)).all()
    spiked = mv.copy()
    spiked[:, 1000:5000:1000] += 0.8
    spiked[:, 1001:5000:1000] += 0.8
    cut = bridged(without_impulses(spiked, FS_HZ), FS_HZ)
    assert np.abs(cut - mv).max() < 0.3


# ---------------------------------------------------------------------------------------------------- awkward signals


@pytest.mark.parametrize(
    "mv",
    [
        np.zeros((12, 0)),
        np.zeros((12, 1)),
        np.zeros((12, 5000)),
        np.full((12, 5000), np.nan),
        np.full((12, 5000), np.inf),
        np.ones((12, 100)),
    ],
)
def test_nothing_to_find(mv: np.ndarray) -> None:
    found = delineate(mv, FS_HZ)
    assert len(found.beat_s) == 0
    assert np.isnan(found.marks_s).all()
    assert found.lead_marks_s.shape == (12, len(MARKS))


def test_one_lead_alone() -> None:
    spec, record = heart(1)
    mv = np.full_like(record.mv, np.nan)
    mv[1] = record.mv[1]
    found = delineate(mv, FS_HZ)
    assert (found.lead_beats > 0).tolist() == [i == 1 for i in range(12)]
    assert found.interval_s(QRS_ON, T_OFF) == pytest.approx(spec.qt_s, abs=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_noise_and_pieces_never_fail(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mv = rng.normal(0, 0.3, (12, int(rng.integers(200, 6000)))).astype(np.float32)
    mv[rng.uniform(size=mv.shape) < 0.3] = np.nan
    mv[:, rng.integers(0, mv.shape[1], 5)] = 50.0
    found = delineate(mv, FS_HZ)
    assert len(found.beat_s) == len(found.used) == len(found.beat_marks_s)
    assert np.isfinite(found.beat_s).all()


def test_low_confidence_counts_as_not_printed() -> None:
    _, record = heart(1)
    sure = np.ones(record.mv.shape, np.float32)
    sure[6:] = 0.0
    found = delineate(record.mv, FS_HZ, sure)
    assert (found.lead_beats[6:] == 0).all()
    assert (found.lead_beats[:6] > 5).all()


@pytest.mark.parametrize(("shape", "fs_hz"), [((8, 5000), 500.0), ((5000,), 500.0), ((12, 5000), 10.0)])
def test_refuses_other_shapes(shape: tuple[int, ...], fs_hz: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        delineate(np.zeros(shape), fs_hz)


# -------------------------------------------------------------------------------------------------------- small parts


def test_qrs_of_a_train_of_triangles() -> None:
    mv = np.zeros((12, 3000))
    peaks = np.arange(300, 2900, 400)
    for p in peaks:
        mv[:, p - 20 : p + 21] += 1 - np.abs(np.arange(-20, 21)) / 20
    np.testing.assert_allclose(find_qrs(slopes(mv, FS_HZ), FS_HZ), peaks, atol=2)


def test_end_of_a_bell_is_near_its_tangent() -> None:
    t = np.arange(500) / FS_HZ
    bells = np.stack([np.exp(-0.5 * ((t - 0.3) / 0.04) ** 2), -2 * np.exp(-0.5 * ((t - 0.3) / 0.04) ** 2)])
    at, size = wave_end(bells, np.full(2, 150.0), np.full(2, 300.0), 0.128, 0.016, FS_HZ)
    np.testing.assert_allclose(at / FS_HZ, 0.3 + 2.1 * 0.04, atol=0.03)
    assert size[1] == pytest.approx(2 * size[0])


def test_nan_median_agrees_with_numpy() -> None:
    x = np.random.default_rng(0).normal(size=(7, 5, 4))
    x[np.random.default_rng(1).uniform(size=x.shape) < 0.3] = np.nan
    np.testing.assert_allclose(nan_median(x, 0), np.nanmedian(x, axis=0))
    assert np.isnan(nan_median(np.full((3, 2), np.nan), 0)).all()


def test_true_runs() -> None:
    mask = np.array([[False, True, True, False], [False] * 4])
    np.testing.assert_array_equal(first_true(mask), [1, np.nan])
    np.testing.assert_array_equal(last_true(mask), [2, np.nan])


def test_a_lone_lead_does_not_decide() -> None:
    marks, fair = np.array([10.0, 40.0, 41.0, 43.0, 44.0, np.nan]), np.ones(6, bool)
    assert borne_out(marks, fair, True, 1)[0] == 40.0
    assert borne_out(marks, fair, False, 1)[0] == 43.0
    assert borne_out(marks[:1], fair[:1], True, 2)[0] == 10.0
    assert np.isnan(borne_out(marks, ~fair, True, 1)[0])


# --------------------------------------------------------------------------------------------------------------- LUDB


def test_waves_from_marks() -> None:
    p, qrs, t = waves_of(np.arange(8.0), ["(", "p", ")", "N", ")", "(", "t", ")"])
    np.testing.assert_array_equal(p, [[0, 1, 2]])
    np.testing.assert_array_equal(qrs, [[np.nan, 3, 4]])
    np.testing.assert_array_equal(t, [[5, 6, 7]])


def test_references_of_marks_with_one_stray_lead() -> None:
    beats = np.arange(1.0, 9.0)
    leads = [0.002 * k for k in range(12)]
    leads[0] = -0.05  # one lead's marks are far too early
    p = tuple(np.stack([beats - 0.16 + d, beats - 0.1, beats - 0.06 + d], axis=1) for d in leads)
    qrs = tuple(np.stack([beats + d, beats + 0.04, beats + 0.09 + d], axis=1) for d in leads)
    t = tuple(np.stack([beats + 0.2, beats + 0.3, beats + 0.4 + d], axis=1) for d in leads)
    found = references(Marks(p, qrs, t))
    assert found["global"].hr_bpm == pytest.approx(60.0)
    assert found["global"].pr_s == pytest.approx(0.16)
    assert found["global"].qrs_s == pytest.approx(0.09 + 0.018)
    assert found["outermost"].qrs_s == pytest.approx(0.09 + 0.072)
    assert found["median"].qt_s == pytest.approx(0.4)


@pytest.mark.skipif(not LUDB.is_dir(), reason="LUDB is not beside the repository (../shared/data/ludb)")
@pytest.mark.filterwarnings("ignore::Warning")  # what wfdb calls in pandas is deprecated
def test_marks_read_as_wfdb_reads_them() -> None:
    wfdb = pytest.importorskip("wfdb")
    stem = sorted(LUDB.glob("*.hea"))[0].with_suffix("")
    theirs = wfdb.rdann(str(stem), "v3")
    times, symbols = read_symbols(Path(f"{stem}.v3"), FS_HZ)
    np.testing.assert_allclose(times, theirs.sample / FS_HZ)
    assert symbols == list(theirs.symbol)
    assert all(len(w) for w in read_marks(stem).qrs)
