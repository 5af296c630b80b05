"""The sentences that stand for each SCP code in zero-shot use: one set a code, ours, in the terms of ECG textbooks.

A set's first sentence is the one that ``ecg.findings`` prints; the others say what the criteria say or what another
reader would write.  No sentence stands in two sets.  ``MERL_NAMES`` is kept apart: the plain statement names, for the
column that follows others' protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from ecg.errors import InputError
from ecg.findings import STATEMENTS, SUPERCLASSES


def _sets(table: str) -> dict[str, tuple[str, ...]]:
    """Lines ``code: sentence | sentence``."""
    rows = (line.split(":", 1) for line in table.strip().splitlines())
    return {code.strip(): tuple(s.strip() for s in text.split("|")) for code, text in rows}


_DIAGNOSTIC: Final = """
NORM: within normal limits | sinus rhythm with normal axis, intervals, qrs complexes, st segments and t waves
NDT: minor t wave abnormality of no clear cause | flattened or slightly inverted t waves, not specific
NST_: minor st-t changes | slight st segment depression or elevation, not specific
DIG: sagging st depression as under digitalis | scooped st segments with a short qt interval
LNGQT: corrected qt interval is long | long qt interval, consider a drug or an electrolyte disturbance
ISC_: st depression and t wave inversion suggest ischaemia | ischaemic st-t changes
ISCAL: ischaemic st-t changes in i, avl and v3 to v6 | anterolateral st depression and t wave inversion
ISCIN: ischaemic st-t changes in ii, iii and avf | inferior st depression and t wave inversion
ISCIL: ischaemic st-t changes in ii, iii, avf, v5 and v6 | inferolateral st depression and t wave inversion
ISCAS: ischaemic st-t changes in v1 to v3 | anteroseptal st depression and t wave inversion
ISCLA: ischaemic st-t changes in i, avl, v5 and v6 | lateral st depression and t wave inversion
ISCAN: ischaemic st-t changes in v2 to v4 | anterior st depression and t wave inversion
ANEUR: st elevation that stays after an old infarct | q waves with lasting st elevation, as over an aneurysm
EL: t waves tall and peaked or flat with u waves, as in potassium disturbance | electrolyte disturbance or drug effect
IMI: pathological q waves in ii, iii and avf | inferior infarct
ASMI: pathological q waves in v1 to v3 | loss of r waves in v1 to v3, septal and anterior infarct
AMI: pathological q waves in v2 to v4 | poor r wave progression with q waves, anterior infarct
ALMI: pathological q waves in i, avl and v3 to v6 | anterior and lateral infarct
ILMI: pathological q waves in ii, iii, avf, v5 and v6 | inferior and lateral infarct
LMI: pathological q waves in i, avl, v5 and v6 | lateral infarct
PMI: tall broad r waves in v1 and v2 with st depression | posterior infarct
IPMI: q waves in ii, iii and avf with tall r waves in v1 and v2 | inferior and posterior infarct
IPLMI: q waves in ii, iii, avf, v5 and v6 with tall r waves in v1 | inferior, posterior and lateral infarct
INJAS: st segment displacement in v1 to v3, acute injury current | anteroseptal injury
INJAL: st segment displacement in i, avl and v3 to v6, acute injury current | anterolateral injury
INJIN: st segment displacement in ii, iii and avf, acute injury current | inferior injury
INJLA: st segment displacement in i, avl, v5 and v6, acute injury current | lateral injury
INJIL: st segment displacement in ii, iii, avf, v5 and v6, acute injury current | inferolateral injury
LVH: deep s in v1 and tall r in v5 and v6 with strain | left ventricular hypertrophy with repolarisation changes
RVH: dominant r wave in v1 with right axis deviation | right ventricular hypertrophy with strain in v1 to v3
LAO/LAE: broad notched p wave in ii | p wave in v1 with a deep and broad negative end
RAO/RAE: tall peaked p waves in ii, iii and avf | right atrial overload, p wave higher than 2.5 mm
SEHYP: deep narrow q waves in lateral leads, septal hypertrophy | large septal forces
LAFB: marked left axis deviation with rs complexes in ii, iii and avf | left anterior hemiblock
LPFB: right axis deviation with qr complexes in iii and avf | left posterior hemiblock
IRBBB: rsr' in v1 with qrs shorter than 120 ms | incomplete rbbb
CRBBB: broad qrs with rsr' in v1 and broad s waves in i and v6 | complete right bundle branch block
ILBBB: left bundle branch block pattern with qrs shorter than 120 ms | incomplete lbbb
CLBBB: broad notched r waves in i, avl, v5 and v6 with deep s waves in v1 | complete left bundle branch block
IVCD: broad qrs of neither bundle branch block pattern | intraventricular conduction disturbance
WPW: short pr interval with a delta wave and broad qrs | accessory pathway, pre-excitation
1AVB: pr interval longer than 200 ms, every p wave conducted | prolonged atrioventricular conduction
2AVB: some p waves are not followed by a qrs complex | intermittent atrioventricular block with dropped beats
3AVB: p waves and qrs complexes independent of each other | complete heart block with an escape rhythm
"""

_FORM: Final = """
ABQRS: unusual shape of the qrs complex | notched or slurred qrs complexes
PVC: early broad qrs complex without a p wave before it | ventricular extrasystole
STD_: depressed st segments | st segments below the baseline
STE_: elevated st segments | st segments above the baseline
VCLVH: r and s waves in chest leads exceed the limits for left ventricular hypertrophy | sokolow-lyon index is high
QWAVE: deep or broad q waves | q waves wider than 40 ms
LOWT: t waves of low amplitude | flat t waves
NT_: t waves not quite normal, no specific cause | unspecific t wave variation
PAC: early narrow qrs complex after an abnormal p wave | supraventricular extrasystole
LPR: long pr interval | pr interval above 200 ms
INVT: t waves point downwards | negative t waves
LVOLT: qrs below 0.5 mv in all limb leads | small qrs complexes in limb leads
HVOLT: large qrs complexes | qrs amplitudes above normal
TAB_: abnormal t waves | t waves of abnormal shape
PRC(S): extrasystole(s) | early beat(s)
"""

_RHYTHM: Final = """
SR: regular rhythm, a p wave before every qrs complex | normal sinus rhythm
AFIB: irregularly irregular rhythm without p waves | fibrillating atria with irregular ventricular response
STACH: fast sinus rhythm, rate above 100 per minute | regular fast rhythm with p waves
SARRH: sinus rhythm whose rate varies with breathing | irregular sinus rhythm
SBRAD: slow sinus rhythm, rate below 60 per minute | regular slow rhythm with p waves
PACE: pacing spikes followed by broad qrs complexes | paced rhythm
SVARR: irregular rhythm from above the ventricles | atrial or junctional arrhythmia
BIGU: every second beat is premature | premature beats alternating with normal beats
AFLT: saw-tooth flutter waves at about 300 per minute | flutter waves with regular conduction
SVTAC: regular narrow complex tachycardia without visible p waves | rapid supraventricular rhythm
PSVT: sudden regular narrow complex tachycardia | paroxysm of supraventricular tachycardia
TRIGU: every third beat is premature | a premature beat after every two normal beats
"""

_SUPERCLASS: Final = """
NORM: normal electrocardiogram | nothing abnormal in rhythm, conduction, qrs, st and t
MI: myocardial infarction | pathological q waves of an infarct | acute or old infarct
STTC: st segment or t wave changes | st depression, t wave inversion or other repolarisation abnormality
CD: conduction disturbance | bundle branch block, fascicular block, av block or pre-excitation
HYP: hypertrophy or enlargement of ventricles or atria | high qrs voltage or abnormal p waves of chamber overload
"""

SUPERCLASS_PROMPTS: Final = _sets(_SUPERCLASS)
PROMPTS: Final = {
    code: (STATEMENTS[code].sentence, *others)
    for table in (_DIAGNOSTIC, _FORM, _RHYTHM)
    for code, others in _sets(table).items()
}
MERL_SUPERCLASSES: Final = {
    "NORM": ("normal ecg",), "MI": ("myocardial infarction",), "STTC": ("st/t change",),
    "CD": ("conduction disturbance",), "HYP": ("hypertrophy",),
}  # fmt: skip
MERL_NAMES: Final = {code: (s.name.lower(),) for code, s in STATEMENTS.items()}


def prompts_of(code: str) -> tuple[str, ...]:
    """The sentences of an SCP code; InputError for one that has none."""
    if code not in PROMPTS:
        raise InputError(f"code {code!r}: there are no prompts for it; teacher/prompts.py has those there are")
    return PROMPTS[code]


def class_vectors(sets: Iterable[Sequence[str]], embed: Callable[[list[str]], Tensor]) -> Tensor:
    """Unit vectors (classes, d): each the mean of its sentences' unit vectors, from ``embed`` (texts to (n, d))."""
    return torch.stack([F.normalize(F.normalize(embed(list(s)), dim=-1).mean(dim=0), dim=-1) for s in sets])


def superclass_sets() -> tuple[tuple[str, ...], ...]:
    """The superclasses' prompts in the order of ``SUPERCLASSES``."""
    return tuple(SUPERCLASS_PROMPTS[name] for name in SUPERCLASSES)
