import numpy as np
import pytest

from calibration.confidence import (
    FEW,
    Fit,
    codes_of,
    fitted_rules,
    platt,
    priors,
    probabilities,
    quality_limits,
    threshold,
)
from calibration.confidence_metrics import bootstrap, brier, calibration_error, macro_auroc, reliability
from ecg.findings import FINDINGS
from ecg.metrics import auroc
from edge_runtime.findings import rules_of


def _drawn(n: int, slope: float, intercept: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 2, n)
    return x, rng.random(n) < 1 / (1 + np.exp(-(slope * x + intercept)))


def test_auroc_of_perfect_random_and_tied_scores() -> None:
    y = np.array([False, False, True, True])
    assert auroc(np.array([0.1, 0.2, 0.3, 0.4]), y) == 1
    assert auroc(np.array([4.0, 3, 2, 1]), y) == 0
    assert auroc(np.ones(4), y) == 0.5
    assert np.isnan(auroc(np.ones(4), np.ones(4, bool)))


def test_macro_leaves_out_classes_of_one_kind() -> None:
    y = np.array([[True, True], [False, True]])
    assert macro_auroc(np.array([[0.9, 0.5], [0.1, 0.2]]), y) == 1


def test_calibration_error_is_zero_where_shares_match() -> None:
    p = np.repeat([0.25, 0.75], 400)
    y = np.concatenate([np.arange(400) % 4 == 0, np.arange(400) % 4 != 0])
    assert calibration_error(p, y) == pytest.approx(0)
    assert calibration_error(1 - p, y) == pytest.approx(0.5)
    assert [r["n"] for r in reliability(p, y)] == [400, 400]
    assert brier(p, y) == pytest.approx(0.1875)


def test_bootstrap_brackets_its_value() -> None:
    x, y = _drawn(300, 1.0, 0.0)
    value, low, high = bootstrap(auroc, (x, y), draws=100)
    assert low < value < high


def test_platt_recovers_slope_and_intercept() -> None:
    x, y = _drawn(4000, 0.6, -1.0)
    fit = platt(x, y)
    assert fit.slope == pytest.approx(0.6, abs=0.06)
    assert fit.intercept == pytest.approx(-1.0, abs=0.15)


def test_platt_of_few_examples_stays_near_its_prior() -> None:
    x, y = np.array([-3.0, -2.0, 4.0]), np.array([False, False, True])
    assert platt(x, y, Fit(0.7, -0.5)).slope == pytest.approx(0.7, abs=0.25)


def test_threshold_reaches_its_sensitivity() -> None:
    x, y = _drawn(2000, 1.5, 0.0)
    found = threshold(1 / (1 + np.exp(-1.5 * x)), y)
    assert 0.84 <= found.sensitivity <= 0.88
    assert found.specificity >= 0.75


def test_threshold_of_rare_findings_is_not_fitted() -> None:
    p, y = np.linspace(0, 1, 100), np.arange(100) >= 100 - (FEW - 1)
    assert threshold(p, y).at == pytest.approx(0.21)


def test_quality_limit_only_where_bad_readings_lose_more() -> None:
    quality = np.linspace(0, 1, 200)
    loss = np.where(quality < 0.1, 1.0, 0.1)
    assert 0.05 < quality_limits({"confidence": quality}, loss)["confidence"] <= 0.11
    assert not quality_limits({"confidence": quality}, np.full(200, 0.1))


def test_rules_are_what_the_runtime_reads() -> None:
    rng = np.random.default_rng(3)
    true = rng.random((200, len(FINDINGS))) < 0.2
    logits = 2.0 * true + rng.normal(0, 1, true.shape)
    document = fitted_rules(logits, true.astype(float), np.full(len(FINDINGS), 0.2), {"confidence": rng.random(200)})
    assert list(codes_of(document)) == list(FINDINGS) == [r.code for r in rules_of(document).rules]
    assert calibration_error(probabilities(document, logits).ravel(), true.ravel()) < 0.05
    assert priors(document) == pytest.approx(0.2)
