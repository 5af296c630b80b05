"""HL7 annotated ECG (aECG, ANSI/HL7 V3 ECG R1-2004, PORT_MT020001) as XML.

A lead that is printed for 2.5 s is 2.5 s long here: leads with the same samples share a sequence set, whose relative
time starts where they start.  Nothing stands for what is not there.  Subject, trial and times of recording are of
unknown null flavour, for nothing of the header is read.
"""

from __future__ import annotations

import io
from collections import defaultdict
from typing import Final
from xml.etree import ElementTree as ET

from ecg.leads import LEADS
from edge_runtime.exports.document import MISSING, ORIGIN, SOFTWARE, Document, runs

NS: Final = "urn:hl7-org:v3"
XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"
_CPT: Final = "2.16.840.1.113883.6.12"
_ACT_CODE: Final = "2.16.840.1.113883.5.4"
_MDC: Final = "2.16.840.1.113883.6.24"


def contents(document: Document, names: tuple[str, ...]) -> tuple[bytes]:
    """The file's bytes, UTF-8."""
    root = ET.Element("AnnotatedECG", {"xmlns": NS, "xmlns:xsi": XSI, "type": "Observation"})
    ET.SubElement(root, "id", root=str(document.uuid("aecg")))
    ET.SubElement(root, "code", code="93000", codeSystem=_CPT, codeSystemName="CPT-4")
    ET.SubElement(root, "text").text = ORIGIN
    ET.SubElement(root, "effectiveTime", nullFlavor="UNK")
    assignment = _nested(root, "componentOf", "timepointEvent", "componentOf", "subjectAssignment")
    ET.SubElement(_nested(assignment, "subject", "trialSubject"), "id", nullFlavor="UNK")
    ET.SubElement(_nested(assignment, "componentOf", "clinicalTrial"), "id", nullFlavor="NA")
    series = _nested(root, "component", "series")
    ET.SubElement(series, "id", root=str(document.uuid("series")))
    ET.SubElement(series, "code", code="RHYTHM", codeSystem=_ACT_CODE)
    ET.SubElement(series, "effectiveTime", nullFlavor="UNK")
    device = _nested(series, "author", "seriesAuthor", "manufacturedSeriesDevice")
    ET.SubElement(device, "manufacturerModelName").text = "ecgscan-edge"
    ET.SubElement(device, "softwareName").text = SOFTWARE
    for (start, stop), leads in _sets(document).items():
        _sequence_set(_nested(series, "component", "sequenceSet"), document, start, stop, leads)
    ET.indent(root)
    out = io.BytesIO()
    ET.ElementTree(root).write(out, encoding="UTF-8", xml_declaration=True)
    return (out.getvalue() + b"\n",)


def _nested(parent: ET.Element, *tags: str) -> ET.Element:
    """The innermost of new elements, each within the one before."""
    for tag in tags:
        parent = ET.SubElement(parent, tag)
    return parent


def _sets(document: Document) -> dict[tuple[int, int], list[int]]:
    """Leads (their indices) by the stretch of samples that they share, in order of time."""
    found: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for i in range(len(LEADS)):
        for stretch in runs(document.counts[i] != MISSING):
            found[stretch].append(i)
    return dict(sorted(found.items()))


def _sequence_set(parent: ET.Element, document: Document, start: int, stop: int, leads: list[int]) -> None:
    clock = _sequence(parent, "TIME_RELATIVE", _ACT_CODE, "GLIST_PQ")
    ET.SubElement(clock, "head", value=f"{start / document.fs_hz:.10g}", unit="s")
    ET.SubElement(clock, "increment", value=f"{1 / document.fs_hz:.10g}", unit="s")
    for i in leads:
        value = _sequence(parent, f"MDC_ECG_LEAD_{LEADS[i].upper()}", _MDC, "SLIST_PQ")
        ET.SubElement(value, "origin", value="0", unit="uV")
        ET.SubElement(value, "scale", value=str(document.lsb_uv), unit="uV")
        ET.SubElement(value, "digits").text = " ".join(map(str, document.counts[i, start:stop].tolist()))


def _sequence(parent: ET.Element, code: str, system: str, kind: str) -> ET.Element:
    sequence = _nested(parent, "component", "sequence")
    ET.SubElement(sequence, "code", code=code, codeSystem=system)
    return ET.SubElement(sequence, "value", {"xsi:type": kind})
