"""FHIR R4: a collection of a DiagnosticReport, the Observation with the samples, the Device that read them,
and an Observation for each measurement.

https://hl7.org/fhir/R4/observation-example-sample-data.html: one component a lead, ``valueSampledData`` in microvolts,
"E" where a sample is not there (not printed or not read).  There is no subject and no effective time, for neither is
read; the status is preliminary, for nobody has confirmed it.
"""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np

import ecg
from ecg.leads import LEADS
from ecg.measurements import LABELS, Measurement, in_words
from edge_runtime.exports.document import MDC_MEASUREMENTS, MISSING, ORIGIN, UCUM, Document

# ISO/IEEE 11073-10101 by its own name, and by the number under which R4's example and older systems know it.
_MDC: Final = ("urn:iso:std:iso:11073:10101", "urn:oid:2.16.840.1.113883.6.24")
_UCUM: Final = "http://unitsofmeasure.org"
_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/observation-category"
_UNCERTAINTY: Final = "http://hl7.org/fhir/StructureDefinition/iso21090-uncertainty"
_PARTITION: Final = 2 << 16  # MDC's second partition, where ECGs are
# Code and display, where LOINC has one that says the same.
_LOINC: Final = {
    "heart_rate": ("8867-4", "Heart rate"),
    "rhythm": ("8884-9", "Heart rate rhythm"),
    "rr_sd": ("80404-7", "R-R interval.standard deviation (Heart rate variability)"),
    "pr": ("8625-6", "P-R Interval"),
    "qrs": ("8633-0", "QRS duration"),
    "qt": ("8634-8", "Q-T interval"),
    "qtc_bazett": ("8636-3", "Q-T interval corrected"),
    "qtc_fridericia": ("8636-3", "Q-T interval corrected"),
    "qtc_framingham": ("8636-3", "Q-T interval corrected"),
    "axis": ("8632-2", "QRS axis"),
}
_POTENTIAL: Final = 131328  # MDC_ECG_ELEC_POTL; a lead's own code lies this far above its number
_LEAD_NUMBERS: Final = dict(zip(LEADS, (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8), strict=True))


def contents(document: Document, names: tuple[str, ...]) -> tuple[bytes]:
    """The file's bytes: a Bundle as JSON, UTF-8."""
    return (json.dumps(bundle(document), indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n",)


def bundle(document: Document) -> dict[str, Any]:
    """The Bundle resource."""
    resources = [_report(document), _observation(document), _device(document)]
    entries = [{"fullUrl": _url(document, r["resourceType"]), "resource": r} for r in resources]
    figures = document.reading.measurements
    entries += [{"fullUrl": _url(document, m.name), "resource": _measured(document, m)} for m in figures]
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "timestamp": document.when.isoformat(),
        "entry": entries,
    }


def _url(document: Document, kind: str) -> str:
    return f"urn:uuid:{document.uuid(kind)}"


def _concept(system: str, code: str, display: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, "display": display}]}


def _mdc(code: int, display: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": str(code), "display": display} for system in _MDC]}


def _report(document: Document) -> dict[str, Any]:
    terms = "http://terminology.hl7.org/CodeSystem/v2-0074"
    parts = ("Observation", *(m.name for m in document.reading.measurements))
    report = {
        "resourceType": "DiagnosticReport",
        "status": "preliminary",
        "category": [_concept(terms, "EC", "Electrocardiac (e.g., EKG, EEC, Holter)")],
        "code": _concept("http://loinc.org", "11524-6", "EKG study"),
        "issued": document.when.isoformat(),
        "result": [{"reference": _url(document, k)} for k in parts],
    }
    if document.notes:
        report["conclusion"] = "\n".join(document.notes)
    return report


def _observation(document: Document) -> dict[str, Any]:
    quality = document.reading.quality
    figures = ", ".join(f"{k} {quality[k]:.2f}" for k in ("coverage", "confidence", "filled") if k in quality)
    note = f"{ORIGIN} The time of recording is not known; time 0 is the printed start."
    return {
        "resourceType": "Observation",
        "status": "preliminary",
        "category": [_concept(_CATEGORY, "procedure", "Procedure")],
        "code": _mdc(_POTENTIAL, "MDC_ECG_ELEC_POTL"),
        "issued": document.when.isoformat(),
        "device": {"reference": _url(document, "Device")},
        "note": [{"text": note + (f" Reading: {figures}." if figures else "")}],
        "component": [_component(document, i) for i in range(len(LEADS))],
    }


def _measured(document: Document, m: Measurement) -> dict[str, Any]:
    """One measurement as an Observation of its own; its error bar is ISO 21090's uncertainty."""
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "status": "preliminary",
        "category": [_concept(_CATEGORY, "procedure", "Procedure")],
        "code": _measurement_code(m.name),
        "issued": document.when.isoformat(),
        "device": {"reference": _url(document, "Device")},
        "derivedFrom": [{"reference": _url(document, "Observation")}],
    }
    if m.value is None:
        absent = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
        return resource | {"dataAbsentReason": _concept(absent, "unknown", "Unknown") | {"text": m.reason}}
    bar = "" if m.error is None else ", one standard deviation"
    resource["note"] = [{"text": f"{in_words(m)}{bar}; from {m.n_beats} beats or intervals"}]
    if isinstance(m.value, str):
        return resource | {"valueString": m.value}
    quantity: dict[str, Any] = {"value": round(m.value, 1), "unit": m.unit, "system": _UCUM, "code": UCUM[m.unit]}
    if m.error is not None:
        quantity["extension"] = [{"url": _UNCERTAINTY, "valueDecimal": round(m.error, 1)}]
    return resource | {"valueQuantity": quantity}


def _measurement_code(name: str) -> dict[str, Any]:
    coding = []
    if name in _LOINC:
        coding.append({"system": "http://loinc.org", "code": _LOINC[name][0], "display": _LOINC[name][1]})
    if name in MDC_MEASUREMENTS:
        number, meaning = MDC_MEASUREMENTS[name]
        coding.append({"system": _MDC[0], "code": str(_PARTITION + number), "display": meaning})
    return {**({"coding": coding} if coding else {}), "text": LABELS.get(name, name)}


def _component(document: Document, i: int) -> dict[str, Any]:
    lead, counts = LEADS[i], document.counts[i]
    code = _mdc(_POTENTIAL + _LEAD_NUMBERS[lead], f"MDC_ECG_ELEC_POTL_{lead.upper()}")
    if np.all(counts == MISSING):
        absent = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
        return {"code": code, "dataAbsentReason": _concept(absent, "unknown", "Unknown")}
    period_ms = 1e3 / document.fs_hz
    return {
        "code": code,
        "valueSampledData": {
            "origin": {"value": 0, "unit": "uV", "system": _UCUM, "code": "uV"},
            "period": int(period_ms) if period_ms.is_integer() else period_ms,
            "factor": document.lsb_uv,
            "dimensions": 1,
            "data": " ".join("E" if v == MISSING else str(v) for v in counts.tolist()),
        },
    }


def _device(document: Document) -> dict[str, Any]:
    return {
        "resourceType": "Device",
        "deviceName": [{"name": "ecgscan-edge", "type": "model-name"}],
        "version": [{"value": ecg.__version__}],
    }
