"""All conditions that a heart can be given, by PTB-XL's SCP codes: what excludes what, how often each is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ecg.synth.anatomy import Change
from ecg.synth.arrhythmias import (
    ectopic,
    fibrillation,
    first_degree,
    flutter,
    pacemaker,
    rate,
    second_degree,
    supraventricular,
    third_degree,
)
from ecg.synth.chambers import lae, lvh, rae, rvh, voltage
from ecg.synth.conduction import LAFB, LAFB_S, LPFB, LPFB_S, clbbb, crbbb, fascicle, ilbbb, irbbb, ivcd, wpw
from ecg.synth.ischaemia import digitalis, electrolyte, flat_t, infarct, inverted_t, ischaemia, long_qt, st_shift


@dataclass(frozen=True)
class Condition:
    """``group``: one condition of a group at a time; conditions apply in the order of GROUPS."""

    group: str
    change: Change
    weight: float = 1.0
    excludes: tuple[str, ...] = ()  # groups that it can't be seen beside


GROUPS: Final = (
    "rate", "bundle", "fascicle", "hypertrophy", "infarct", "voltage", "repolarisation", "qt", "atrium", "av", "rhythm",
)  # fmt: skip


CONDITIONS: Final[dict[str, Condition]] = {
    "SBRAD": Condition("rate", rate(38, 58), 3, ("rhythm",)),
    "STACH": Condition("rate", rate(102, 150, (0.0, 0.015)), 3, ("rhythm",)),
    "SARRH": Condition("rate", rate(55, 90, (0.10, 0.2)), 3, ("rhythm",)),
    "CLBBB": Condition("bundle", clbbb, 3, ("fascicle", "hypertrophy", "infarct", "repolarisation")),
    "CRBBB": Condition("bundle", crbbb, 3, ("hypertrophy",)),
    "IRBBB": Condition("bundle", irbbb, 3),
    "ILBBB": Condition("bundle", ilbbb, 1, ("fascicle", "hypertrophy", "infarct", "repolarisation")),
    "IVCD": Condition("bundle", ivcd, 2),
    "WPW": Condition("bundle", wpw, 1, ("fascicle", "hypertrophy", "infarct", "repolarisation", "av", "rhythm")),
    "LAFB": Condition("fascicle", fascicle(LAFB, LAFB_S, -75.0, -46.0), 4),
    "LPFB": Condition("fascicle", fascicle(LPFB, LPFB_S, 100.0, 125.0), 1, ("hypertrophy",)),
    "LVH": Condition("hypertrophy", lvh, 6, ("voltage",)),
    "RVH": Condition("hypertrophy", rvh, 2, ("voltage", "infarct", "bundle", "fascicle")),
    "IMI": Condition("infarct", infarct("IMI"), 4),
    "ASMI": Condition("infarct", infarct("ASMI"), 4),
    "AMI": Condition("infarct", infarct("AMI"), 2),
    "ALMI": Condition("infarct", infarct("ALMI"), 1),
    "LMI": Condition("infarct", infarct("LMI"), 1),
    "ILMI": Condition("infarct", infarct("ILMI"), 1),
    "PMI": Condition("infarct", infarct("PMI"), 0.6),
    "IPMI": Condition("infarct", infarct("IPMI"), 0.6),
    "LVOLT": Condition("voltage", voltage(low=True), 2),
    "HVOLT": Condition("voltage", voltage(low=False), 0.5),
    "ISC_": Condition("repolarisation", ischaemia("ISC_"), 3),
    "ISCAL": Condition("repolarisation", ischaemia("ISCAL"), 2),
    "ISCIN": Condition("repolarisation", ischaemia("ISCIN"), 1),
    "ISCIL": Condition("repolarisation", ischaemia("ISCIL"), 1),
    "ISCAS": Condition("repolarisation", ischaemia("ISCAS"), 1),
    "ISCLA": Condition("repolarisation", ischaemia("ISCLA"), 0.5),
    "ISCAN": Condition("repolarisation", ischaemia("ISCAN"), 0.5),
    "STD_": Condition("repolarisation", st_shift(-1.0), 1),
    "STE_": Condition("repolarisation", st_shift(1.0), 1),
    "NDT": Condition("repolarisation", flat_t, 3),
    "LOWT": Condition("repolarisation", flat_t, 1),
    "INVT": Condition("repolarisation", inverted_t, 1),
    "EL": Condition("repolarisation", electrolyte, 0.6),
    "DIG": Condition("repolarisation", digitalis, 0.6),
    "LNGQT": Condition("qt", long_qt, 1.5),
    "LAO/LAE": Condition("atrium", lae, 3),
    "RAO/RAE": Condition("atrium", rae, 2),
    "1AVB": Condition("av", first_degree, 4),
    "2AVB": Condition("av", second_degree, 1.5, ("rate", "rhythm")),
    "3AVB": Condition("av", third_degree, 1.5, ("rate", "rhythm")),
    "AFIB": Condition("rhythm", fibrillation, 6, ("atrium", "av")),
    "AFLT": Condition("rhythm", flutter, 2.5, ("atrium", "av")),
    "PAC": Condition("rhythm", ectopic("pac"), 3),
    "PVC": Condition("rhythm", ectopic("pvc"), 4),
    "BIGU": Condition("rhythm", ectopic("bigeminy", 2), 1),
    "TRIGU": Condition("rhythm", ectopic("trigeminy", 3), 1),
    "SVTAC": Condition("rhythm", supraventricular, 1.5, ("atrium", "av")),
    "PACE": Condition(
        "rhythm", pacemaker, 2,
        ("atrium", "av", "bundle", "fascicle", "hypertrophy", "infarct", "repolarisation", "voltage", "qt"),
    ),
}  # fmt: skip
