"""aECG against the order and number of elements of HL7's schema; FHIR against the models of fhir.resources."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from uuid import UUID
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from export_readings import WHEN, assert_same_signal

import ecg
from ecg.leads import LEADS
from ecg.page import Reading

HL7 = "{urn:hl7-org:v3}"
XSI_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
# The part of PORT_MT020001.xsd (2003-12) that is used: for each path, its children in order with ? one or none,
# + one or more.  An element that is not listed has no children.
GRAMMAR = {
    "AnnotatedECG": "id code text? effectiveTime componentOf component+",
    "AnnotatedECG/componentOf": "timepointEvent",
    "componentOf/timepointEvent": "componentOf",
    "timepointEvent/componentOf": "subjectAssignment",
    "componentOf/subjectAssignment": "subject componentOf",
    "subjectAssignment/subject": "trialSubject",
    "subject/trialSubject": "id",
    "subjectAssignment/componentOf": "clinicalTrial",
    "componentOf/clinicalTrial": "id",
    "AnnotatedECG/component": "series",
    "component/series": "id? code effectiveTime author? component+",
    "series/author": "seriesAuthor",
    "author/seriesAuthor": "manufacturedSeriesDevice",
    "seriesAuthor/manufacturedSeriesDevice": "manufacturerModelName? softwareName?",
    "series/component": "sequenceSet",
    "component/sequenceSet": "component+",
    "sequenceSet/component": "sequence",
    "component/sequence": "code value",
    "GLIST_PQ": "head increment",
    "SLIST_PQ": "origin scale digits",
}


def check(element: ET.Element, parent: str = "") -> None:
    """The element's children are those of the grammar, in its order; every element is HL7's."""
    assert element.tag.startswith(HL7), element.tag
    name = element.tag.removeprefix(HL7)
    rule = GRAMMAR.get(element.get(XSI_TYPE) or (f"{parent}/{name}" if parent else name), "").split()
    children = [child.tag.removeprefix(HL7) for child in element]
    for term in rule:
        tag = term.rstrip("?+")
        count = 0
        while children and children[0] == tag:
            children.pop(0)
            count += 1
        assert count >= (0 if term.endswith("?") else 1), f"{name} lacks {tag}"
        assert count <= 1 or term.endswith("+"), f"{name} has {count} {tag}"
    assert not children, f"{children} in {name}"
    for child in element:
        check(child, name)


def test_aecg_follows_the_schema(reading: Reading, write: Callable[..., Path]) -> None:
    root = ET.fromstring(write(reading, "aecg").read_bytes())
    check(root)
    assert UUID(root.find(f"{HL7}id").get("root"))
    assert {e.get("nullFlavor") for e in root.iter(f"{HL7}effectiveTime")} == {"UNK"}
    assert root.find(f".//{HL7}trialSubject/{HL7}id").attrib == {"nullFlavor": "UNK"}


def test_aecg_holds_the_leads_where_they_are_printed(reading: Reading, write: Callable[..., Path]) -> None:
    root = ET.fromstring(write(reading, "aecg").read_bytes())
    mv = np.full(reading.signal.mv.shape, np.nan)
    names = {f"MDC_ECG_LEAD_{lead.upper()}": i for i, lead in enumerate(LEADS)}
    for group in root.iter(f"{HL7}sequenceSet"):
        clock, *leads = group.iter(f"{HL7}sequence")
        assert clock.find(f"{HL7}code").get("code") == "TIME_RELATIVE"
        head, step = (clock.find(f"{HL7}value/{HL7}{tag}") for tag in ("head", "increment"))
        assert (head.get("unit"), step.get("unit"), float(step.get("value"))) == ("s", "s", 0.002)
        first = round(float(head.get("value")) / 0.002)
        for lead in leads:
            assert lead.find(f"{HL7}code").get("codeSystem") == "2.16.840.1.113883.6.24"
            i = names[lead.find(f"{HL7}code").get("code")]
            origin, scale, digits = lead.find(f"{HL7}value")
            assert (origin.get("value"), origin.get("unit"), scale.get("unit")) == ("0", "uV", "uV")
            values = np.array([int(d) for d in digits.text.split()]) * float(scale.get("value")) / 1000
            assert np.isnan(mv[i, first : first + len(values)]).all()
            mv[i, first : first + len(values)] = values
    assert_same_signal(mv, reading)


def test_aecg_of_a_printed_page_has_one_set_a_column(write: Callable[..., Path]) -> None:
    from export_readings import whole

    root = ET.fromstring(write(whole(), "aecg").read_bytes())
    groups = [len(list(g.iter(f"{HL7}sequence"))) - 1 for g in root.iter(f"{HL7}sequenceSet")]
    assert groups == [2, 1, 3, 3, 3]  # I and III, II for 10 s, then three leads a column


def resources(path: Path) -> dict[str, dict]:
    return {e["resource"]["resourceType"]: e["resource"] for e in json.loads(path.read_text("utf-8"))["entry"]}


def test_fhir_is_valid(reading: Reading, write: Callable[..., Path]) -> None:
    """R4B's models: its DiagnosticReport, Observation, Device and Bundle are R4's."""
    bundles = pytest.importorskip("fhir.resources.R4B.bundle")
    path = write(reading, "fhir", notes=("sinus rhythm", "72 ± 1 bpm"))
    bundle = bundles.Bundle.model_validate_json(path.read_bytes())
    report, observation, device = (e.resource for e in bundle.entry)
    assert bundle.timestamp == WHEN
    assert report.conclusion == "sinus rhythm\n72 ± 1 bpm"
    assert report.result[0].reference == bundle.entry[1].fullUrl
    assert observation.device.reference == bundle.entry[2].fullUrl
    assert report.status == observation.status == "preliminary"
    assert report.subject is observation.subject is None
    assert device.version[0].value == ecg.__version__


def test_fhir_holds_the_samples(reading: Reading, write: Callable[..., Path]) -> None:
    observation = resources(write(reading, "fhir"))["Observation"]
    assert {c["code"] for c in observation["code"]["coding"]} == {"131328"}
    mv = np.full(reading.signal.mv.shape, np.nan)
    codes = dict(zip((131329, 131330, 131389, 131390, 131391, 131392, *range(131331, 131337)), range(12), strict=True))
    for component in observation["component"]:
        official, older = component["code"]["coding"]
        assert (official["system"], older["system"]) == (
            "urn:iso:std:iso:11073:10101", "urn:oid:2.16.840.1.113883.6.24",
        )  # fmt: skip
        i = codes.pop(int(official["code"]))
        assert official["display"] == f"MDC_ECG_ELEC_POTL_{LEADS[i].upper()}"
        if "dataAbsentReason" in component:
            continue
        data = component["valueSampledData"]
        assert data["origin"] == {"value": 0, "unit": "uV", "system": "http://unitsofmeasure.org", "code": "uV"}
        assert (data["period"], data["dimensions"]) == (2, 1)
        mv[i] = [np.nan if d == "E" else int(d) * data["factor"] / 1000 for d in data["data"].split(" ")]
    assert not codes
    assert_same_signal(mv, reading)


def test_fhir_holds_the_measurements(write: Callable[..., Path]) -> None:
    from export_readings import measured

    path = write(measured(), "fhir")
    entries = json.loads(path.read_text("utf-8"))["entry"]
    report, figures = entries[0]["resource"], {e["fullUrl"]: e["resource"] for e in entries[3:]}
    assert [r["reference"] for r in report["result"]] == [entries[1]["fullUrl"], *figures]
    by_name = {f["code"]["text"]: f for f in figures.values()}
    rate = by_name["heart rate"]
    assert rate["code"]["coding"][0]["code"] == "8867-4"
    quantity = rate["valueQuantity"]
    assert (quantity["value"], quantity["code"], quantity["extension"][0]["valueDecimal"]) == (72.4, "/min", 0.6)
    assert by_name["rhythm"]["valueString"] == "regular"
    assert by_name["PR"]["dataAbsentReason"]["text"] == "not measured: no P waves"
    assert by_name["axis"]["code"]["coding"][1]["code"] == str(131072 + 16132)
    pytest.importorskip("fhir.resources.R4B.bundle").Bundle.model_validate_json(path.read_bytes())
