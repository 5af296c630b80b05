from pathlib import Path

import numpy as np
import pytest

from ecg.errors import BundleError
from ecg.leads import LEADS
from ecg.page import EcgSignal
from edge_runtime.findings import FindingsHead, Prompts, Rules, doubt, rules_of, seconds_read

RULE = {"code": "NORM", "name": "", "slope": 2.0, "intercept": -1.0, "threshold": 0.5, "leads": [], "any_leads": 10,
        "min_s": 1.2}  # fmt: skip
DOCUMENT = {
    "format": 1,
    "findings": [RULE, {**RULE, "code": "AMI", "leads": ["V1", "V2"], "any_leads": 6}],
    "limits": {"confidence": 0.4},
}
GOOD = {"confidence": 0.9}


class _Net:
    """Says the same of every page."""

    def __call__(self, inputs: object) -> dict[str, np.ndarray]:
        assert np.shape(inputs) == (1, 36, 1000)
        return {"logits": np.array([[1.0, -1.0]], np.float32), "embedding": np.array([[3.0, 4.0]], np.float32)}

    def close(self) -> None:
        """Nothing to let go of."""


def _signal(leads: tuple[str, ...] = LEADS) -> EcgSignal:
    mv = np.full((12, 5000), np.nan, np.float32)
    for lead in leads:
        mv[LEADS.index(lead)] = np.sin(np.arange(5000) / 50)
    return EcgSignal(mv, 500.0, np.ones_like(mv), np.zeros(mv.shape, bool))


def _head(prompts: Prompts | None = None) -> FindingsHead:
    return FindingsHead(_Net(), rules_of(DOCUMENT), prompts)


def test_probability_decision_and_name() -> None:
    told = _head()(_signal(), GOOD)
    normal, infarct = told.findings
    assert normal.name == "Normal ECG"
    assert normal.probability == pytest.approx(1 / (1 + np.exp(-1.0)))
    assert (normal.decision, infarct.decision) == ("present", "absent")
    assert normal.zero_shot is None
    np.testing.assert_allclose(told.embedding, [0.6, 0.8], atol=1e-6)


def test_missing_leads_are_not_assessed() -> None:
    normal, infarct = _head()(_signal(LEADS[:7]), GOOD).findings
    assert normal.decision == infarct.decision == "not assessed"
    assert "10 leads" in normal.why
    assert "V2" in infarct.why


def test_doubtful_readings_are_not_assessed() -> None:
    normal = _head()(_signal(), {"confidence": 0.2}).findings[0]
    assert normal.decision == "not assessed"
    assert "confidence is 0.20" in normal.why


def test_prompts_give_likeness_and_own_prompts_are_told_apart() -> None:
    prompts = Prompts(("NORM", "AMI", "my own"), np.array([[0.6, 0.8], [-0.6, -0.8], [1.0, 0.0]], np.float32))
    normal, infarct, own = _head(prompts)(_signal(), GOOD).findings
    assert normal.zero_shot == pytest.approx(1)  # the only superclass
    assert infarct.zero_shot is not None
    assert infarct.zero_shot < 0
    assert (own.code, own.decision) == ("my own", "not assessed")
    assert np.isnan(own.probability)


def test_seconds_count_what_was_read() -> None:
    mv = np.full((12, 1000), np.nan, np.float32)
    mv[1, :250] = 0
    assert seconds_read(mv)["II"] == 2.5
    rules = rules_of(DOCUMENT)
    assert isinstance(rules, Rules)
    assert doubt(rules.rules[0], seconds_read(mv), GOOD, rules.limits) == "needs 1.2 s of 10 leads"


def test_broken_rules_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="export the bundle again"):
        rules_of({"format": 1})
    with pytest.raises(BundleError, match="format 9"):
        rules_of({"format": 9})
