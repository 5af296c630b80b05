"""Honest probabilities: logits calibrated, thresholds chosen, doubtful readings left out; all from validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecg.findings import FINDINGS, finding_name
from ecg.metrics import auroc

F64 = NDArray[np.float64]
Flags = NDArray[np.bool_]
FORMAT: Final = 1
FEW: Final = 8  # positives below which a finding's own threshold isn't fitted
SENSITIVITY: Final = 0.85  # that a threshold aims at, where specificity allows
LEAST_SPECIFICITY: Final = 0.75
SLOPE_SPREAD: Final = 0.3  # how far (in log) a finding's slope may lie from 1 before the data must insist
_RHYTHM: Final = ("SR", "AFIB", "STACH", "SBRAD", "SARRH", "PVC", "PAC")
# Leads without which a finding can't be told.
NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "AMI": ("V1", "V2", "V3", "V4"),
    "IMI": ("II", "III", "aVF"),
    "LAFB": ("I", "II", "III", "aVF"),
    "LVH": ("V1", "V2", "V5"),
    "VCLVH": ("V1", "V2", "V5"),
    "LVOLT": ("I", "II", "III"),
    "CRBBB": ("V1",),
    "IRBBB": ("V1",),
    "CLBBB": ("V1", "V6"),
    "1AVB": (),
}
COLUMN_S: Final = 1.2  # of each lead that is needed: a beat at 50 per minute
RHYTHM_S: Final = 4.0


@dataclass(frozen=True)
class Fit:
    """probability = sigmoid(slope * logit + intercept)."""

    slope: float
    intercept: float

    def __call__(self, logit: NDArray[np.floating]) -> F64:
        """Calibrated probabilities."""
        return np.asarray(1 / (1 + np.exp(-np.clip(self.slope * logit + self.intercept, -30, 30))), np.float64)


def platt(logit: NDArray[np.floating], true: Flags, prior: Fit = Fit(1.0, 0.0), weight: float = 1.0) -> Fit:
    """Platt's two parameters by Newton's method, held near ``prior``: rare findings keep its slope.

    ``weight`` scales the prior's hold.
    """
    x, y = np.asarray(logit, np.float64), true.astype(np.float64)
    # Platt's targets: no probability of 0 or 1 from a few examples.
    n1, n0 = y.sum(), (1 - y).sum()
    y = np.where(true, (n1 + 1) / (n1 + 2), 1 / (n0 + 2))
    hold = weight * np.array([1 / SLOPE_SPREAD**2, 1 / 1.5**2])
    centre = np.array([prior.slope, prior.intercept])
    w = centre.copy()
    design = np.stack([x, np.ones_like(x)], axis=1)
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(design @ w, -30, 30)))
        gradient = design.T @ (p - y) + hold * (w - centre)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(hold)
        step = np.linalg.solve(hessian, gradient)
        w = w - np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-8:
            break
    return Fit(float(max(w[0], 0.05)), float(w[1]))


@dataclass(frozen=True)
class Threshold:
    """The least probability that says "present", and what it gave on the validation readings."""

    at: float
    sensitivity: float
    specificity: float


def threshold(probability: F64, true: Flags) -> Threshold:
    """The highest threshold that reaches ``SENSITIVITY``; where that leaves too little specificity, Youden's.

    With fewer than ``FEW`` positives: the odds of the finding itself, at most a half.
    """
    n1 = int(true.sum())
    if n1 < FEW:
        at = float(np.clip(3 * true.mean(), 0.05, 0.5))
        return _scored(at, probability, true)
    ordered = np.sort(probability[true])
    at = float(ordered[int(np.floor((1 - SENSITIVITY) * n1))])
    found = _scored(at, probability, true)
    if found.specificity >= LEAST_SPECIFICITY:
        return found
    options = [_scored(float(a), probability, true) for a in np.unique(ordered)]
    return max(options, key=lambda t: t.sensitivity + t.specificity)


def _scored(at: float, probability: F64, true: Flags) -> Threshold:
    present = probability >= at
    sensitivity = float(present[true].mean()) if true.any() else float("nan")
    return Threshold(at, sensitivity, float((~present[~true]).mean()) if (~true).any() else float("nan"))


def quality_limits(
    quality: Mapping[str, NDArray[np.floating]], loss: F64, share: float = 0.1, ratio: float = 2.0
) -> dict[str, float]:
    """Least figures of quality below which findings are wrong much more often.

    For each figure the largest limit that leaves out at most ``share`` of the readings, all of whose left-out ones
    lose at least ``ratio`` times as much on average as the rest; none where there is no such limit.
    """
    out: dict[str, float] = {}
    for name, values in quality.items():
        for q in np.arange(share, 0.009, -0.01):
            limit = float(np.quantile(values, q))
            bad = values < limit
            if bad.sum() >= 4 and loss[bad].mean() > ratio * loss[~bad].mean():
                out[name] = round(limit, 3)
                break
    return out


def needs(code: str) -> dict[str, Any]:
    """The leads and seconds that a finding needs: rhythms one long lead, walls their leads, the rest nearly all."""
    if code in _RHYTHM:
        return {"leads": [], "any_leads": 1, "min_s": RHYTHM_S}
    if code in NEEDED:
        return {"leads": list(NEEDED[code]), "any_leads": 1 if not NEEDED[code] else 6, "min_s": COLUMN_S}
    return {"leads": [], "any_leads": 10, "min_s": COLUMN_S}


def fitted_rules(
    logits: NDArray[np.floating], target: NDArray[np.floating], prevalence: NDArray[np.floating],
    quality: Mapping[str, NDArray[np.floating]],
) -> dict[str, Any]:  # fmt: skip
    """The bundle's ``findings`` entry from validation readings: logits and target (n, findings).

    ``prevalence`` (findings,) of the training records stands in where validation has too few.
    """
    true = target > 0.5
    common = [k for k in range(len(FINDINGS)) if FEW <= true[:, k].sum() <= len(true) - FEW]
    shared = platt(logits[:, common].ravel(), true[:, common].ravel())
    rows, losses = [], []
    for k, code in enumerate(FINDINGS):
        fit = platt(logits[:, k], true[:, k], Fit(shared.slope, shared.intercept))
        p = fit(logits[:, k])
        chosen = threshold(p, true[:, k])
        losses.append((p - true[:, k]) ** 2)
        rows.append({
            "code": code, "name": finding_name(code), "slope": round(fit.slope, 5),
            "intercept": round(fit.intercept, 5), "threshold": round(chosen.at, 5),
            "sensitivity": _number(chosen.sensitivity), "specificity": _number(chosen.specificity),
            "positives": int(true[:, k].sum()), "prevalence": round(float(prevalence[k]), 4),
            "auroc": _number(auroc(logits[:, k], true[:, k])), **needs(code),
        })  # fmt: skip
    limits = quality_limits(quality, np.mean(losses[:5], axis=0))
    return {"format": FORMAT, "findings": rows, "limits": limits, "fitted_on": {"readings": len(true)}}


def probabilities(rules: Mapping[str, Any], logits: NDArray[np.floating]) -> F64:
    """Calibrated probabilities (n, findings)."""
    fits = [Fit(r["slope"], r["intercept"]) for r in rules["findings"]]
    return np.stack([fit(logits[:, k]) for k, fit in enumerate(fits)], axis=1)


def priors(rules: Mapping[str, Any]) -> F64:
    """What a refused page counts with (findings,): the share of training records that have each finding."""
    return np.array([r["prevalence"] for r in rules["findings"]])


def _number(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def codes_of(rules: Mapping[str, Any]) -> Sequence[str]:
    """The findings' codes in the net's order."""
    return [r["code"] for r in rules["findings"]]
