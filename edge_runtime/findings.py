"""From the decoded leads to findings with calibrated probabilities, and the embedding that prompts are compared with.

What the bundle says of findings is one plain dict (``FINDINGS_KEY`` of its extras), written by
``calibration.confidence``: a slope and an intercept per finding, its threshold, the leads and seconds that it needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecg.bundle import ModelBundle
from ecg.errors import BundleError
from ecg.findings import SUPERCLASSES, Finding, finding_name
from ecg.leads import LEAD_INDEX
from ecg.page import F32, EcgSignal
from ecg.signal_input import SIGNAL_HZ, on_signal_clock, signal_input
from edge_runtime.engines import open_engine
from edge_runtime.engines.base import Engine

FINDINGS_KEY: Final = "findings"
FINDINGS_NET: Final = "findings"
PROMPTS_FILE: Final = "prompts"
FORMAT: Final = 1
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """How one finding is told: probability = sigmoid(slope * logit + intercept), present from ``threshold`` on.

    Assessed only where each lead of ``leads``, or ``any_leads`` of all twelve, were read over ``min_s`` seconds.
    """

    code: str
    name: str
    slope: float
    intercept: float
    threshold: float
    leads: tuple[str, ...]
    any_leads: int
    min_s: float


@dataclass(frozen=True)
class Rules:
    """All findings' rules, what a reading must reach to be assessed at all, and the prompts' scale."""

    rules: tuple[Rule, ...]
    limits: Mapping[str, float]  # least figure of ``Reading.quality`` by name


def rules_of(document: Mapping[str, Any]) -> Rules:
    """The rules in a bundle's extras; raises ``BundleError`` where they can't be read."""
    try:
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']}, this ecgscan reads {FORMAT}")
        rules = tuple(
            Rule(
                str(r["code"]), str(r.get("name") or finding_name(str(r["code"]))), float(r["slope"]),
                float(r["intercept"]), float(r["threshold"]), tuple(r["leads"]), int(r["any_leads"]), float(r["min_s"]),
            )
            for r in document["findings"]
        )  # fmt: skip
        return Rules(rules, {str(k): float(v) for k, v in document["limits"].items()})
    except (KeyError, TypeError, ValueError) as err:
        raise BundleError(f"the bundle's findings can't be read ({err}); export the bundle again") from err


@dataclass(frozen=True, eq=False)
class Prompts:
    """Unit vectors (n, d) of what zero-shot compares with, by code; superclasses and the user's own among them."""

    codes: tuple[str, ...]
    vectors: F32

    def likeness(self, embedding: F32) -> dict[str, float]:
        """Cosine of the embedding with each code's prompts, less the mean over the codes of its kind: superclasses are
        compared with superclasses."""
        cosine = self.vectors @ embedding
        coarse = np.array([c in SUPERCLASSES for c in self.codes])
        kind = coarse[:, None] == coarse[None, :]
        np.fill_diagonal(kind, False)
        others = (kind * cosine).sum(axis=1) / np.maximum(kind.sum(axis=1), 1)
        return dict(zip(self.codes, (float(v) for v in cosine - others), strict=True))


@dataclass(frozen=True, eq=False)
class Findings:
    """All findings of a reading, in the bundle's order, and the embedding (d,) at length 1."""

    findings: tuple[Finding, ...]
    embedding: F32


class FindingsHead:
    """The findings' net of a bundle with its rules and prompts."""

    def __init__(self, engine: Engine, rules: Rules, prompts: Prompts | None = None) -> None:
        self._engine, self._rules, self._prompts = engine, rules, prompts

    def __call__(self, signal: EcgSignal, quality: Mapping[str, float]) -> Findings:
        """Findings of one reading."""
        mv = on_signal_clock(signal.mv, signal.fs_hz)
        out = self._engine(signal_input(mv)[None])
        logits = np.asarray(out["logits"][0], np.float64)
        embedding = np.asarray(out["embedding"][0], np.float32)
        embedding = embedding / max(float(np.linalg.norm(embedding)), 1e-6)
        shot = self._prompts.likeness(embedding) if self._prompts else {}
        told = tuple(
            told_by(rule, float(logit), shot.get(rule.code), seconds_read(mv), quality, self._rules.limits)
            for rule, logit in zip(self._rules.rules, logits, strict=True)
        )
        return Findings(told + own_prompts(self._prompts, self._rules, shot), embedding)


def own_prompts(prompts: Prompts | None, rules: Rules, shot: Mapping[str, float]) -> tuple[Finding, ...]:
    """The user's own prompts: likeness only, nothing was calibrated for them."""
    if prompts is None:
        return ()
    known = {r.code for r in rules.rules}
    return tuple(
        Finding(c, c, float("nan"), shot[c], "not assessed", "a prompt of your own: likeness only")
        for c in prompts.codes
        if c not in known
    )


def probability(logit: float, rule: Rule) -> float:
    """The calibrated probability of a logit."""
    return float(1.0 / (1.0 + np.exp(-np.clip(rule.slope * logit + rule.intercept, -30.0, 30.0))))


def seconds_read(mv: F32) -> dict[str, float]:
    """Seconds that were read of each lead."""
    known = np.isfinite(mv).sum(axis=1) / SIGNAL_HZ
    return {lead: float(known[k]) for lead, k in LEAD_INDEX.items()}


def told_by(
    rule: Rule, logit: float, shot: float | None, seconds: Mapping[str, float], quality: Mapping[str, float],
    limits: Mapping[str, float],
) -> Finding:  # fmt: skip
    """One finding, or why it isn't assessed."""
    p = probability(logit, rule)
    why = doubt(rule, seconds, quality, limits)
    if why:
        return Finding(rule.code, rule.name, p, shot, "not assessed", why)
    return Finding(rule.code, rule.name, p, shot, "present" if p >= rule.threshold else "absent")


def doubt(
    rule: Rule, seconds: Mapping[str, float], quality: Mapping[str, float], limits: Mapping[str, float]
) -> str:  # fmt: skip
    """Why a finding can't be assessed from a reading; "" where it can."""
    for name, least in limits.items():
        if quality.get(name, 1.0) < least:
            return f"the reading's {name} is {quality[name]:.2f}, {least:.2f} is needed"
    missing = [lead for lead in rule.leads if seconds[lead] < rule.min_s]
    if missing:
        return f"needs {rule.min_s:g} s of {_names(missing)}"
    if sum(s >= rule.min_s for s in seconds.values()) < rule.any_leads:
        what = "one lead" if rule.any_leads == 1 else f"{rule.any_leads} leads"
        return f"needs {rule.min_s:g} s of {what}"
    return ""


def _names(leads: Sequence[str]) -> str:
    return ", ".join(leads) if len(leads) < 5 else f"{len(leads)} leads that were not read"


def open_findings(bundle: ModelBundle, engine: str = "auto") -> FindingsHead | None:
    """The findings' head of a bundle; None where the bundle has none.

    In one thread: for a millisecond's work a second one costs more than it brings (``results/int8.jsonl``)."""
    if FINDINGS_NET not in bundle.nets or FINDINGS_KEY not in bundle.extras:
        return None
    net = open_engine(bundle, FINDINGS_NET, engine, threads=1)
    return FindingsHead(net, rules_of(bundle.extras[FINDINGS_KEY]), prompts_of(bundle))


def prompts_of(bundle: ModelBundle) -> Prompts | None:
    """The prompts' vectors that the bundle carries; None where it carries none."""
    if PROMPTS_FILE not in bundle.files:
        return None
    path = bundle.info.path / bundle.files[PROMPTS_FILE].file
    try:
        with np.load(path, allow_pickle=False) as file:
            codes, vectors = tuple(str(c) for c in file["codes"]), np.asarray(file["vectors"], np.float32)
    except (OSError, ValueError, KeyError) as err:
        raise BundleError(f"{path}: can't be read as prompts ({err}); export the bundle again") from err
    return Prompts(codes, vectors)
