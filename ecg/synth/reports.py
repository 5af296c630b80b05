"""The interpretation that a cart prints above the traces."""

from __future__ import annotations

from typing import Final

import numpy as np

from ecg.findings import STATEMENTS, superclasses_of
from ecg.synth.anatomy import HeartSpec

# Other ways to say a statement; the first is ecg.findings' own sentence.
_OTHERWISE: Final[dict[str, tuple[str, ...]]] = {
    "SR": ("normal sinus rhythm",),
    "SBRAD": ("sinus rhythm, bradycardia",),
    "STACH": ("sinus rhythm, tachycardia",),
    "SARRH": ("sinus rhythm with marked respiratory variation", "sinus arrhythmia, variable rate"),
    "AFIB": ("atrial fibrillation, irregular ventricular response",),
    "AFLT": ("atrial flutter with regular flutter waves",),
    "PAC": ("atrial premature beat(s)", "supraventricular extrasystole(s)"),
    "PVC": ("ventricular extrasystole(s)", "ventricular premature beat(s)"),
    "PACE": ("paced rhythm", "ventricular paced rhythm"),
    "1AVB": ("prolonged pr interval, first degree av block",),
    "3AVB": ("third degree av block", "av dissociation, complete heart block"),
    "CLBBB": ("complete left bundle branch block",),
    "CRBBB": ("complete right bundle branch block",),
    "IRBBB": ("incomplete rbbb", "rsr' in v1, incomplete right bundle branch block"),
    "IVCD": ("intraventricular conduction delay",),
    "WPW": ("short pr interval and delta wave, pre-excitation",),
    "LVH": ("voltage criteria for left ventricular hypertrophy", "probable left ventricular hypertrophy"),
    "RVH": ("dominant r wave in v1, right ventricular hypertrophy",),
    "LAO/LAE": ("possible left atrial enlargement", "left atrial abnormality"),
    "RAO/RAE": ("possible right atrial enlargement", "peaked p waves, right atrial abnormality"),
    "LVOLT": ("low voltage in limb leads",),
    "LNGQT": ("prolonged qt, this may be due to a drug effect or an electrolyte disturbance",),
    "NDT": ("minor t wave changes, non-specific",),
    "LOWT": ("t waves are low or flat",),
    "INVT": ("t waves are inverted",),
    "STD_": ("st segments are depressed",),
    "STE_": ("st segments are elevated",),
    "ISC_": ("st-t abnormality, possible myocardial ischaemia",),
    "NORM": ("normal ecg, no abnormality found", "within normal limits"),
}
# Implied by what else is said.
_SILENT: Final = ("VCLVH", "QWAVE", "LPR", "NST_")
_INFARCT_LEADS: Final[dict[str, str]] = {
    "IMI": "ii, iii, avf", "AMI": "v2, v3, v4", "ASMI": "v1, v2, v3", "ALMI": "i, avl, v3 to v6",
    "LMI": "i, avl, v5, v6", "ILMI": "ii, iii, avf, v5, v6",
}  # fmt: skip
_RATE: Final = ("SR", "SBRAD", "STACH", "SARRH", "AFIB", "AFLT", "SVTAC", "PACE")


def report(spec: HeartSpec, rng: np.random.Generator) -> str:
    """What a cart prints of this heart: rhythm, axis, then findings, each a sentence; lower case as in PTB-XL."""
    rhythm = [c for c in spec.codes if STATEMENTS[c].kind == "rhythm" or c in ("PAC", "PVC")]
    others = [c for c in spec.codes if c not in rhythm and c not in _SILENT and c != "NORM"]
    sentences = [_sentence(c, rng) for c in rhythm]
    if rhythm and rng.uniform() < 0.4 and rhythm[0] in _RATE:
        sentences[0] += f", rate {round(spec.rhythm.rate_bpm)}"
    sentences += _axis(spec)
    for code in others:
        sentences.append(_detailed(code, spec, rng))
    if "NORM" in spec.codes:
        sentences.append(_sentence("NORM", rng) if len(sentences) == 1 else "otherwise normal ecg")
    elif superclasses_of(spec.codes) and rng.uniform() < 0.3:
        sentences.append("abnormal ecg")
    return ". ".join(sentences) + "."


def _sentence(code: str, rng: np.random.Generator) -> str:
    choices = (STATEMENTS[code].sentence, *_OTHERWISE.get(code, ()))
    return choices[0] if rng.uniform() < 0.5 else str(rng.choice(choices))


def _axis(spec: HeartSpec) -> list[str]:
    axis = spec.axis_deg
    if axis < -30:
        return ["left axis deviation"]
    return ["right axis deviation"] if axis > 95 else []


def _detailed(code: str, spec: HeartSpec, rng: np.random.Generator) -> str:
    """A finding with its age, leads or kind where those are known."""
    if STATEMENTS[code].superclass == "MI":
        return _infarction(code, spec, rng)
    if code == "2AVB":
        kind = next((d for d in spec.details if d.startswith("mobitz")), "")
        return "second degree av block, " + {"mobitz1": "mobitz type i (wenckebach)"}.get(kind, "mobitz type ii")
    if code == "LVH" and "strain" in spec.details:
        return _sentence(code, rng) + " with strain"
    return _sentence(code, rng)


def _infarction(code: str, spec: HeartSpec, rng: np.random.Generator) -> str:
    age = next((d for d in spec.details if d in ("acute", "recent", "old")), "old")
    stage = {"old": ("old", "age undetermined"), "recent": ("recent", "probably recent"), "acute": ("acute",)}[age]
    where = _INFARCT_LEADS.get(code, "")
    sign = ("st elevation" if age == "acute" else "q waves") + f" in {where}, " if where and rng.uniform() < 0.4 else ""
    said = str(rng.choice(stage))
    name = STATEMENTS[code].sentence
    return f"{sign}{name}, {said}" if said.startswith(("age", "probably")) else f"{sign}{said} {name}"
