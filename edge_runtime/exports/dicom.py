"""DICOM 12-lead ECG Waveform Storage, by pydicom (``pip install 'ecgscan[formats]'``).

PS3.3 A.34.3 (the object) and C.10.9 (Waveform).  Samples that are not there hold the Waveform Padding Value.
Acquisition DateTime is mandatory, yet the printed one is not read: it holds the time of reading, and the first
annotation says so.  Patient attributes are there and empty, as their type 2 asks.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

from ecg.errors import EcgscanError, InputError
from ecg.leads import LEADS
from ecg.measurements import Measurement
from edge_runtime.exports.document import (
    MDC_MEASUREMENTS,
    MISSING,
    ORIGIN,
    SOFTWARE,
    UCUM,
    Document,
    Span,
    figure_lines,
)  # fmt: skip

if TYPE_CHECKING:
    from pydicom import Dataset

SOP_CLASS: Final = "1.2.840.10008.5.1.4.1.1.9.1.1"
_UNIT_NAMES: Final = {"ms": "millisecond", "deg": "degree"}
MAX_SAMPLES: Final = 16384  # of one multiplex group, PS3.3 A.34.3.4
# Codes of the leads in ISO/IEEE 11073-10101, as DICOM's CID 3001 lists them.
_LEAD_CODES: Final = dict(zip(LEADS, (1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8), strict=True))


def contents(document: Document, names: tuple[str, ...]) -> tuple[bytes]:
    """The file's bytes; raises ``EcgscanError`` without pydicom, ``InputError`` for a signal the object can't hold."""
    try:
        import pydicom
    except ImportError as err:
        raise EcgscanError("DICOM needs pydicom: pip install 'ecgscan[formats]'") from err
    if not 200 <= document.fs_hz <= 1000 or document.n > MAX_SAMPLES:
        raise InputError(
            f"a DICOM 12-lead ECG holds 200 to 1000 Hz and {MAX_SAMPLES} samples, not {document.fs_hz:g} Hz and "
            f"{document.n}; export wfdb or edf"
        )
    from pydicom.uid import UID, ExplicitVRLittleEndian

    dataset = _dataset(document)
    dataset.WaveformSequence = [_waveform(document)]
    dataset.WaveformAnnotationSequence = _annotations(document)
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(SOP_CLASS)
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    out = io.BytesIO()
    pydicom.dcmwrite(out, dataset, enforce_file_format=True)
    return (out.getvalue(),)


def _new(**values: Any) -> Dataset:
    from pydicom import Dataset

    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def _code(value: str, scheme: str, meaning: str) -> list[Dataset]:
    return [_new(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)]


def _dataset(document: Document) -> Dataset:
    """Patient, study, series, equipment and identification; UIDs by PS3.5 B.2 from UUIDs."""
    day, time = document.when.strftime("%Y%m%d"), document.when.strftime("%H%M%S")
    return _new(
        SpecificCharacterSet="ISO_IR 100",
        SOPClassUID=SOP_CLASS,
        SOPInstanceUID=f"2.25.{document.uuid(f'instance {document.when.isoformat()}').int}",
        PatientName="", PatientID="", PatientBirthDate="", PatientSex="",
        PatientIdentityRemoved="YES", DeidentificationMethod="the printed header is not read",
        StudyInstanceUID=f"2.25.{document.uuid('study').int}",
        StudyDate="", StudyTime="", StudyID="", ReferringPhysicianName="", AccessionNumber="",
        StudyDescription="ECG read from a photo of paper",
        Modality="ECG", SeriesInstanceUID=f"2.25.{document.uuid('series').int}", SeriesNumber=1,
        Manufacturer="ecgscan", ManufacturerModelName="ecgscan-edge", SoftwareVersions=SOFTWARE,
        InstanceNumber=1, ContentDate=day, ContentTime=time, AcquisitionDateTime=document.when.strftime("%Y%m%d%H%M%S"),
        TimezoneOffsetFromUTC=document.when.strftime("%z")[:5],
        AcquisitionContextSequence=[],
    )  # fmt: skip


def _waveform(document: Document) -> Dataset:
    group = _new(
        MultiplexGroupTimeOffset=0,
        WaveformOriginality="DERIVED",
        NumberOfWaveformChannels=len(LEADS),
        NumberOfWaveformSamples=document.n,
        SamplingFrequency=f"{document.fs_hz:.10g}",
        MultiplexGroupLabel="RHYTHM",
        ChannelDefinitionSequence=[_channel(lead, document.lsb_uv) for lead in LEADS],
        WaveformBitsAllocated=16,
        WaveformSampleInterpretation="SS",
    )
    group.add_new("WaveformPaddingValue", "OW", MISSING.to_bytes(2, "little", signed=True))
    group.add_new("WaveformData", "OW", document.counts.T.astype("<i2").tobytes())
    return group


def _channel(lead: str, lsb_uv: int) -> Dataset:
    return _new(
        ChannelLabel=f"Lead {lead}",
        ChannelSourceSequence=_code(f"2:{_LEAD_CODES[lead]}", "MDC", f"Lead {lead}"),
        ChannelSensitivity=lsb_uv,
        ChannelSensitivityUnitsSequence=_code("uV", "UCUM", "microvolt"),
        ChannelSensitivityCorrectionFactor=1,
        ChannelBaseline=0,
        ChannelSampleSkew=0,
        WaveformBitsStored=16,
    )


def _annotations(document: Document) -> list[Dataset]:
    """What the object can't say elsewhere, and the samples that bridge a gap; channels and samples count from 1."""
    everything = [v for k in range(len(LEADS)) for v in (1, k + 1)]
    said = f"{ORIGIN} Times are those of the reading, not of the recording. Padded samples are not printed or not read."
    whole = _note(0, everything, Span("", 0, document.n, said))
    spans = document.fills()
    notes = [whole] + [_note(k, [1, LEADS.index(s.lead) + 1], s) for k, s in enumerate(spans, start=1)]
    lines = figure_lines(document.reading.measurements)
    notes += [_note(len(notes) + k, everything, Span("", 0, document.n, line)) for k, line in enumerate(lines)]
    coded = [m for m in document.reading.measurements if m.name in MDC_MEASUREMENTS and isinstance(m.value, float)]
    return notes + [_measured(len(notes) + k, everything, m, document.n) for k, m in enumerate(coded)]


def _measured(number: int, channels: list[int], m: Measurement, n: int) -> Dataset:
    """A measurement that DICOM has a code for; its error bar stands in the notes."""
    code, meaning = MDC_MEASUREMENTS[m.name]
    return _new(
        AnnotationGroupNumber=number,
        ConceptNameCodeSequence=_code(f"2:{code}", "MDC", meaning),
        NumericValue=f"{m.value:.1f}",
        MeasurementUnitsCodeSequence=_code(UCUM[m.unit], "UCUM", _UNIT_NAMES[m.unit]),
        ReferencedWaveformChannels=channels,
        TemporalRangeType="SEGMENT",
        ReferencedSamplePositions=[1, n],
    )


def _note(number: int, channels: list[int], span: Span) -> Dataset:
    return _new(
        AnnotationGroupNumber=number,
        UnformattedTextValue=span.what,
        ReferencedWaveformChannels=channels,
        TemporalRangeType="SEGMENT",
        ReferencedSamplePositions=[span.start + 1, span.stop],
    )
