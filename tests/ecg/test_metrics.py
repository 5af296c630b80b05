from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from ecg.leads import LEADS
from ecg.metrics import Score, decibels, score_reading, summarise
from ecg.records import EcgRecord, list_records

SCORER = Path(__file__).parents[3] / "shared" / "tools" / "score_photos.py"
PAIRED = SCORER.parents[1] / "data" / "photos" / "paired"
FS = 500.0


def printed_truth(seed: int, n: int = 5000) -> EcgRecord:
    """Smooth noise in the 3x4+1 pattern: NaN where not printed."""
    rng = np.random.default_rng(seed)
    mv = np.cumsum(rng.standard_normal((12, n)), axis=1) * 0.02 + rng.normal(0, 0.3, (12, 1))
    for lead in range(12):
        column = lead // 3
        if LEADS[lead] != "II":
            mv[lead, : column * n // 4] = np.nan
            mv[lead, (column + 1) * n // 4 :] = np.nan
    return EcgRecord(mv.astype(np.float32), FS, name=f"r{seed}")


def perturbed(truth: EcgRecord, seed: int) -> np.ndarray:
    """Lag, offset, gain, noise and gaps, as a reader makes them."""
    rng = np.random.default_rng(100 + seed)
    lag = int(rng.integers(-60, 60))
    out = np.roll(np.array(truth.mv, dtype=np.float64), lag, axis=1) * rng.uniform(0.9, 1.1)
    out += rng.normal(0, 0.02 * (1 + seed), out.shape) + rng.normal(0, 0.2, (12, 1))
    if seed % 2:
        start = int(rng.integers(0, 1000))
        out[:, start : start + 200] = np.nan
    if seed % 3 == 0:
        out[int(rng.integers(0, 12))] = np.nan
    return out


def loop_score(truth_mv: np.ndarray, predicted: np.ndarray, max_s: float) -> tuple[float, float]:
    """The definition, sample by sample: (summed signal power, summed noise power)."""
    signal = noise = 0.0
    for label, guess in zip(truth_mv.astype(float), predicted, strict=True):
        known = [i for i, v in enumerate(label) if np.isfinite(v)]
        label, guess = label[known[0] : known[-1] + 1], guess[known[0] : known[-1] + 1]
        n, best, best_covariance = len(label), None, -np.inf
        for lag in range(-round(max_s * FS), round(max_s * FS) + 1):
            pairs = [(label[i], guess[i - lag]) for i in range(n) if 0 <= i - lag < n and np.isfinite(guess[i - lag])]
            if len(pairs) < 2:
                continue
            mean_guess = sum(p for _, p in pairs) / len(pairs)
            covariance = sum((q - label.mean()) * (p - mean_guess) for q, p in pairs)
            if covariance > best_covariance:
                best_covariance, best = covariance, lag
        signal += sum(v * v for v in label)
        if best is None:
            noise += sum(v * v for v in label)
            continue
        guess = [guess[i - best] if 0 <= i - best < n else np.nan for i in range(n)]
        offset = np.mean([p - q for p, q in zip(guess, label, strict=True) if np.isfinite(p)])
        noise += sum((q - (p - offset if np.isfinite(p) else 0.0)) ** 2 for p, q in zip(guess, label, strict=True))
    return signal, noise


@pytest.mark.parametrize("seed", range(3))
def test_ratios_follow_the_definition(seed):
    truth = printed_truth(seed, n=240)
    predicted = perturbed(truth, seed)
    predicted[4, 80:160] = np.nan
    score = score_reading(truth, predicted, FS)
    signal, noise = loop_score(truth.mv, predicted, 0.2)
    assert score.ratio == pytest.approx(min(signal / noise, 384), rel=1e-9)
    signal, noise = loop_score(truth.mv, predicted, 0.0)
    assert score.clock_ratio == pytest.approx(min(signal / noise, 384), rel=1e-9)


@pytest.mark.skipif(not SCORER.is_file(), reason="../shared/tools/score_photos.py isn't there")
def test_agrees_with_the_shared_scorer():
    pytest.importorskip("wfdb")
    scorer = _load_scorer()
    scores, theirs = [], []
    for seed in range(6):
        truth = printed_truth(seed)
        predicted = perturbed(truth, seed) if seed != 4 else None
        scores.append(score_reading(truth, predicted, FS))
        theirs.append(_their_score(scorer, truth, predicted))
    for ours, row in zip(scores, theirs, strict=True):
        assert ours.ratio == pytest.approx(row["ratio"], rel=1e-9)
        assert ours.clock_ratio == pytest.approx(row["clock"], rel=1e-9)
        assert ours.coverage == pytest.approx(row["coverage"], rel=1e-12)
    summary, reference = summarise(scores), scorer.summary(theirs)
    assert summary.n == reference["n"]
    assert summary.n_read == reference["read"]
    assert summary.under_6db == reference["under_6db"]
    assert round(summary.kaggle_db, 2) == reference["kaggle_db"]
    assert round(summary.median_db, 2) == reference["median_db"]
    assert round(summary.p10_db, 2) == reference["p10_db"]
    assert round(summary.clock_median_db, 2) == reference["clock_median_db"]
    assert round(summary.coverage, 4) == reference["coverage"]


@pytest.mark.skipif(not (PAIRED / "photos.csv").is_file(), reason="../shared/data/photos isn't there")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the scorer leaves photos.csv open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_agrees_with_the_shared_scorer_through_files(tmp_path):
    """Written as the runtime writes them, six decimals, empty cells where nothing was read."""
    pytest.importorskip("wfdb")
    scorer = _load_scorer()
    truths = [r.read() for r in list_records(f"paired:{PAIRED}")[:3]]
    ours = []
    for seed, truth in enumerate(truths):
        guess = np.round(np.nan_to_num(perturbed(truth, seed), nan=0.0), 6)
        guess[:, 600:700] = np.nan
        guess[np.isnan(truth.mv)] = np.nan
        _write_csv(tmp_path / f"{truth.name}.csv", guess)
        ours.append(score_reading(truth, guess, FS))
    theirs = {r["stem"]: r for r in scorer.score(str(PAIRED), str(tmp_path), {t.name for t in truths})}
    for score in ours:
        assert score.ratio == pytest.approx(theirs[score.name]["ratio"], rel=1e-6)
        assert score.clock_ratio == pytest.approx(theirs[score.name]["clock"], rel=1e-6)
        assert score.coverage == pytest.approx(theirs[score.name]["coverage"], rel=1e-12)


def _write_csv(path: Path, mv: np.ndarray) -> None:
    lines = ["time_s," + ",".join(LEADS)]
    for i, column in enumerate(mv.T):
        lines.append(f"{i / FS:.3f}," + ",".join("" if np.isnan(v) else f"{v:.6f}" for v in column))
    path.write_text("\n".join(lines) + "\n")


def _load_scorer():
    spec = importlib.util.spec_from_file_location("score_photos", SCORER)
    scorer = importlib.util.module_from_spec(spec)
    sys.modules["score_photos"] = scorer
    spec.loader.exec_module(scorer)
    return scorer


def _their_score(scorer, truth: EcgRecord, predicted: np.ndarray | None) -> dict:
    """The body of the scorer's loop over photos, for signals in memory instead of files."""
    signal = np.zeros(2)
    noise = np.zeros(2)
    covered = total = 0
    for label, guess in zip(truth.mv.astype(float), np.full((12, 5000), np.nan) if predicted is None else predicted,
                            strict=True):  # fmt: skip
        known = np.flatnonzero(np.isfinite(label))
        label, guess = label[known[0] : known[-1] + 1], guess[known[0] : known[-1] + 1]
        total, covered = total + len(label), covered + int(np.isfinite(guess).sum())
        for k, max_s in enumerate((0.2, 0.0)):
            s, q = scorer.lead_power(label, guess, FS, max_s)
            signal[k], noise[k] = signal[k] + s, noise[k] + q
    got = predicted is not None
    ratio = [min(s / q, 384) if got else 0.0 for s, q in zip(signal, noise, strict=True)]
    return {"stem": truth.name, "got": got, "ratio": ratio[0], "clock": ratio[1], "coverage": covered / total}


def test_perfect_lagged_and_resampled_readings():
    truth = printed_truth(1)
    perfect = score_reading(truth, truth.mv, FS)
    assert perfect.db == pytest.approx(25.84, abs=0.01)
    assert perfect.rmse_uv == pytest.approx(0, abs=1e-6)
    assert perfect.coverage == 1
    assert perfect.physionet_db == pytest.approx(25.84, abs=0.01)
    late = np.full((12, 5000), np.nan)
    late[:, 10:] = truth.mv[:, :-10]
    lagged = score_reading(truth, late + 0.5, FS)
    assert lagged.db > lagged.clock_db
    assert np.median(lagged.lag_s) == -0.02  # a moved prediction is moved back
    halved = score_reading(truth, truth.mv[:, ::2], FS / 2)
    assert halved.db > 20


def test_rmse_is_in_microvolts():
    truth = printed_truth(2)
    noise = np.random.default_rng(0).normal(0, 0.05, truth.mv.shape)
    assert score_reading(truth, truth.mv + noise + 0.3, FS).rmse_uv == pytest.approx(50, rel=0.03)


def test_refused_and_failed_count_as_nothing():
    truth = printed_truth(3)
    refused = score_reading(truth, None, status="refused")
    failed = score_reading(truth, None)
    good = score_reading(truth, truth.mv, FS)
    assert failed.status == "failed"
    assert (refused.ratio, refused.coverage, refused.physionet_db) == (0, 0, 0)
    summary = summarise([good, good, refused, failed])
    assert summary.refusal_rate == summary.failure_rate == 0.25
    assert summary.kaggle_db == pytest.approx(decibels(192))
    assert summary.coverage == 0.5
    assert summary.median_db == pytest.approx(12.92, abs=0.01)


def test_wrong_input_is_named():
    truth = printed_truth(0)
    with pytest.raises(ValueError, match=r"predicted_mv must be \(12, m\)"):
        score_reading(truth, np.zeros((3, 10)))
    with pytest.raises(ValueError, match="no scores"):
        summarise([])
    with pytest.raises(ValueError, match="status must be"):
        Score("x", "odd", 0, 0, 0, 0, (), ())
