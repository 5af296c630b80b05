"""ECG statements: SCP-ECG codes with their names, superclasses and the sentence a cart prints.

Codes, names and superclasses follow PTB-XL's ``scp_statements.csv`` (Wagner et al. 2020, CC BY 4.0), which takes them
from SCP-ECG (EN 1064); the printed sentences are ours, in the manner of carts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

SUPERCLASSES: Final = ("NORM", "MI", "STTC", "CD", "HYP")


@dataclass(frozen=True)
class Statement:
    """One statement: ``kind`` is "diagnostic", "form" or "rhythm"; ``superclass`` is empty for most forms and rhythms.

    ``sentence`` is lower case without a full stop, ready to be joined into a report.
    """

    code: str
    name: str
    kind: str
    superclass: str
    sentence: str


def _rows(kind: str, table: str) -> list[Statement]:
    """Statements from lines ``code | superclass | name | sentence``; an empty sentence repeats the name."""
    out = []
    for line in table.strip().splitlines():
        code, superclass, name, sentence = (cell.strip() for cell in line.split("|"))
        out.append(Statement(code, name, kind, superclass, sentence or name.lower()))
    return out


_DIAGNOSTIC: Final = """
NORM  | NORM | Normal ECG                                   | normal ecg
NDT   | STTC | Non-diagnostic T abnormalities               | non-diagnostic t wave abnormalities
NST_  | STTC | Non-specific ST changes                      | non-specific st segment changes
DIG   | STTC | Digitalis effect                             | st-t changes, probably digitalis effect
LNGQT | STTC | Long QT interval                             | prolonged qt interval
ISC_  | STTC | Non-specific ischaemic ST-T changes          | st-t changes, consider myocardial ischaemia
ISCAL | STTC | Ischaemic ST-T changes, anterolateral        | st-t changes in anterolateral leads, consider ischaemia
ISCIN | STTC | Ischaemic ST-T changes, inferior             | st-t changes in inferior leads, consider ischaemia
ISCIL | STTC | Ischaemic ST-T changes, inferolateral        | st-t changes in inferolateral leads, consider ischaemia
ISCAS | STTC | Ischaemic ST-T changes, anteroseptal         | st-t changes in anteroseptal leads, consider ischaemia
ISCLA | STTC | Ischaemic ST-T changes, lateral              | st-t changes in lateral leads, consider ischaemia
ISCAN | STTC | Ischaemic ST-T changes, anterior             | st-t changes in anterior leads, consider ischaemia
ANEUR | STTC | ST-T changes compatible with an aneurysm     | persistent st elevation, consider ventricular aneurysm
EL    | STTC | Electrolyte disturbance or drug effect       | st-t changes, consider electrolyte or drug effect
IMI   | MI   | Inferior myocardial infarction               | inferior myocardial infarction
ASMI  | MI   | Anteroseptal myocardial infarction           | anteroseptal myocardial infarction
AMI   | MI   | Anterior myocardial infarction               | anterior myocardial infarction
ALMI  | MI   | Anterolateral myocardial infarction          | anterolateral myocardial infarction
ILMI  | MI   | Inferolateral myocardial infarction          | inferolateral myocardial infarction
LMI   | MI   | Lateral myocardial infarction                | lateral myocardial infarction
PMI   | MI   | Posterior myocardial infarction              | posterior myocardial infarction
IPMI  | MI   | Inferoposterior myocardial infarction        | inferoposterior myocardial infarction
IPLMI | MI   | Inferoposterolateral myocardial infarction   | inferoposterolateral myocardial infarction
INJAS | MI   | Subendocardial injury, anteroseptal          | subendocardial injury in anteroseptal leads
INJAL | MI   | Subendocardial injury, anterolateral         | subendocardial injury in anterolateral leads
INJIN | MI   | Subendocardial injury, inferior              | subendocardial injury in inferior leads
INJLA | MI   | Subendocardial injury, lateral               | subendocardial injury in lateral leads
INJIL | MI   | Subendocardial injury, inferolateral         | subendocardial injury in inferolateral leads
LVH   | HYP  | Left ventricular hypertrophy                 | left ventricular hypertrophy
RVH   | HYP  | Right ventricular hypertrophy                | right ventricular hypertrophy
LAO/LAE | HYP | Left atrial overload or enlargement         | left atrial enlargement
RAO/RAE | HYP | Right atrial overload or enlargement        | right atrial enlargement
SEHYP | HYP  | Septal hypertrophy                           | septal hypertrophy
LAFB  | CD   | Left anterior fascicular block               | left anterior fascicular block
LPFB  | CD   | Left posterior fascicular block              | left posterior fascicular block
IRBBB | CD   | Incomplete right bundle branch block         | incomplete right bundle branch block
CRBBB | CD   | Complete right bundle branch block           | right bundle branch block
ILBBB | CD   | Incomplete left bundle branch block          | incomplete left bundle branch block
CLBBB | CD   | Complete left bundle branch block            | left bundle branch block
IVCD  | CD   | Non-specific intraventricular conduction disturbance | non-specific intraventricular conduction delay
WPW   | CD   | Wolff-Parkinson-White pattern                | ventricular pre-excitation, wolff-parkinson-white pattern
1AVB  | CD   | First degree AV block                        | first degree av block
2AVB  | CD   | Second degree AV block                       | second degree av block
3AVB  | CD   | Third degree AV block                        | complete av block
"""

_FORM: Final = """
ABQRS | | Abnormal QRS                           | abnormal qrs morphology
PVC   | | Ventricular premature complex          | premature ventricular complex(es)
STD_  | | Non-specific ST depression             | st segment depression
STE_  | | Non-specific ST elevation              | st segment elevation
VCLVH | | Voltage criteria for left ventricular hypertrophy | voltage criteria for left ventricular hypertrophy
QWAVE | | Q waves present                        | abnormal q waves
LOWT  | | Low amplitude T waves                  | low t waves
NT_   | | Non-specific T wave changes            | non-specific t wave changes
PAC   | | Atrial premature complex               | premature atrial complex(es)
LPR   | | Prolonged PR interval                  | prolonged pr interval
INVT  | | Inverted T waves                       | inverted t waves
LVOLT | | Low QRS voltages                       | low qrs voltage
HVOLT | | High QRS voltages                      | high qrs voltage
TAB_  | | T wave abnormality                     | t wave abnormality
PRC(S) | | Premature complex(es)                 | premature complex(es)
"""

_RHYTHM: Final = """
SR    | | Sinus rhythm                           | sinus rhythm
AFIB  | | Atrial fibrillation                    | atrial fibrillation
STACH | | Sinus tachycardia                      | sinus tachycardia
SARRH | | Sinus arrhythmia                       | sinus arrhythmia
SBRAD | | Sinus bradycardia                      | sinus bradycardia
PACE  | | Paced rhythm                           | electronic ventricular pacemaker
SVARR | | Supraventricular arrhythmia            | supraventricular arrhythmia
BIGU  | | Bigeminy                               | bigeminy
AFLT  | | Atrial flutter                         | atrial flutter
SVTAC | | Supraventricular tachycardia           | supraventricular tachycardia
PSVT  | | Paroxysmal supraventricular tachycardia | paroxysmal supraventricular tachycardia
TRIGU | | Trigeminy                              | trigeminy
"""

STATEMENTS: Final[dict[str, Statement]] = {
    s.code: s for s in (*_rows("diagnostic", _DIAGNOSTIC), *_rows("form", _FORM), *_rows("rhythm", _RHYTHM))
}

# PTB-XL's diagnostic subclasses that are not themselves codes, as its coarser labels name them.
SUBCLASSES: Final[dict[str, str]] = {
    "STTC": "STTC", "NST": "STTC", "NST_": "STTC", "ISCA": "STTC", "ISCI": "STTC", "ISC": "STTC", "ISC_": "STTC",
    "LAFB/LPFB": "CD", "AVB": "CD", "_AVB": "CD",
}  # fmt: skip


def superclasses_of(codes: Iterable[str]) -> tuple[str, ...]:
    """The superclasses that the codes belong to, in the order of ``SUPERCLASSES``; unknown codes add nothing."""
    found = set()
    for code in codes:
        statement = STATEMENTS.get(code)
        found.add(statement.superclass if statement else SUBCLASSES.get(code, ""))
    return tuple(s for s in SUPERCLASSES if s in found)


def report_of(codes: Iterable[str]) -> str:
    """The codes' sentences joined as a cart prints them: rhythm first, then form and conduction, "normal ecg" last."""
    known = [STATEMENTS[c] for c in codes if c in STATEMENTS]
    order = {"rhythm": 0, "diagnostic": 1, "form": 2}
    known.sort(key=lambda s: 3 if s.code == "NORM" else order[s.kind])
    return " ".join(s.sentence + "." for s in known)


# What the findings' head says: the superclasses, then codes with enough examples.  A code stands for those it covers:
# records that only carry a coarser label (PTB-XL's diagnostic subclasses) count with the code that nine in ten of them
# have, and infarcts of neighbouring walls count with the wall that they share.
FINDING_CODES: Final[dict[str, tuple[str, ...]]] = {
    "AMI": ("AMI", "ASMI", "ALMI", "INJAS", "INJAL"),
    "IMI": ("IMI", "ILMI", "IPMI", "IPLMI", "INJIN", "INJIL"),
    "ISC_": ("ISC_", "ISCAL", "ISCIN", "ISCIL", "ISCAS", "ISCLA", "ISCAN", "ISCA", "ISCI"),
    "NDT": ("NDT",),
    "NST_": ("NST_",),
    "STD_": ("STD_",),
    "INVT": ("INVT",),
    "LOWT": ("LOWT",),
    "LVH": ("LVH",),
    "VCLVH": ("VCLVH",),
    "LAO/LAE": ("LAO/LAE",),
    "LAFB": ("LAFB", "LAFB/LPFB"),
    "IRBBB": ("IRBBB",),
    "CRBBB": ("CRBBB",),
    "CLBBB": ("CLBBB",),
    "IVCD": ("IVCD",),
    "1AVB": ("1AVB", "_AVB"),
    "QWAVE": ("QWAVE",),
    "ABQRS": ("ABQRS",),
    "LVOLT": ("LVOLT",),
    "PVC": ("PVC",),
    "PAC": ("PAC",),
    "SR": ("SR",),
    "AFIB": ("AFIB",),
    "STACH": ("STACH",),
    "SBRAD": ("SBRAD",),
    "SARRH": ("SARRH",),
}
FINDINGS: Final = (*SUPERCLASSES, *FINDING_CODES)
SUPERCLASS_NAMES: Final = {
    "NORM": "Normal ECG",
    "MI": "Myocardial infarction",
    "STTC": "ST-T changes",
    "CD": "Conduction disturbance",
    "HYP": "Hypertrophy",
}


def finding_name(code: str) -> str:
    """What people call a finding."""
    return SUPERCLASS_NAMES[code] if code in SUPERCLASS_NAMES else STATEMENTS[code].name


def finding_labels(codes: Iterable[str], superclasses: Iterable[str]) -> tuple[bool | None, ...]:
    """For each of ``FINDINGS``: present, absent, or None where a source that says nothing at all can't tell."""
    said, classes = set(codes), set(superclasses)
    if not said and not classes:
        return (None,) * len(FINDINGS)
    return tuple([c in classes for c in SUPERCLASSES] + [not said.isdisjoint(m) for m in FINDING_CODES.values()])


@dataclass(frozen=True)
class Finding:
    """What the findings' net says of one statement.

    ``probability``: calibrated, 0 to 1.  ``zero_shot``: likeness (-1 to 1) of the page's embedding to the statement's
    prompts, less that to the others'; None where nothing was embedded.  ``decision``: "present", "absent", or
    "not assessed", for which ``why`` gives the reason.
    """

    code: str
    name: str
    probability: float
    zero_shot: float | None
    decision: Literal["present", "absent", "not assessed"]
    why: str = ""
