"""The DICOM object read back by pydicom, and what PS3.3 asks of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from export_readings import assert_same_signal

from ecg.errors import InputError
from ecg.leads import LEADS
from ecg.page import EcgSignal, Reading

pydicom = pytest.importorskip("pydicom")
# Type 1 of the modules Patient to SOP Common (must hold a value), and type 2 (must be there).
TYPE_1 = (
    "StudyInstanceUID", "SeriesInstanceUID", "Modality", "InstanceNumber", "ContentDate", "ContentTime",
    "AcquisitionDateTime", "WaveformSequence", "SOPClassUID", "SOPInstanceUID",
)  # fmt: skip
TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber", "SeriesNumber", "Manufacturer", "AcquisitionContextSequence",
)  # fmt: skip
GROUP_TYPE_1 = (
    "WaveformOriginality", "NumberOfWaveformChannels", "NumberOfWaveformSamples", "SamplingFrequency",
    "ChannelDefinitionSequence", "WaveformBitsAllocated", "WaveformSampleInterpretation", "WaveformPaddingValue",
    "WaveformData",
)  # fmt: skip
MEANINGS = {"2:1": "I", "2:2": "II", "2:61": "III", "2:62": "aVR", "2:63": "aVL", "2:64": "aVF"} | {
    f"2:{k + 2}": f"V{k}" for k in range(1, 7)
}


def test_pydicom_reads_the_waveform(reading: Reading, write: Callable[..., Path]) -> None:
    dataset = pydicom.dcmread(write(reading, "dicom"))
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.9.1.1"
    assert dataset.SOPClassUID.name == "12-lead ECG Waveform Storage"
    group = dataset.WaveformSequence[0]
    assert float(group.SamplingFrequency) == 500
    assert (group.NumberOfWaveformChannels, group.NumberOfWaveformSamples) == reading.signal.mv.shape
    channels = group.ChannelDefinitionSequence
    sources = [c.ChannelSourceSequence[0] for c in channels]
    assert [MEANINGS[s.CodeValue] for s in sources] == list(LEADS)
    assert {s.CodingSchemeDesignator for s in sources} == {"MDC"}
    assert {c.ChannelSensitivityUnitsSequence[0].CodeValue for c in channels} == {"uV"}
    raw = pydicom.waveforms.multiplex_array(dataset, 0, as_raw=True)
    padding = np.frombuffer(group.WaveformPaddingValue, "<i2")[0]
    uv = np.where(raw == padding, np.nan, dataset.waveform_array(0))
    assert_same_signal(uv.T / 1000, reading)


def test_the_object_is_complete_and_names_nobody(reading: Reading, write: Callable[..., Path]) -> None:
    dataset = pydicom.dcmread(write(reading, "dicom"))
    assert all(str(dataset[k].value) for k in TYPE_1)
    assert all(k in dataset for k in TYPE_2)
    assert all(dataset.WaveformSequence[0][k].value for k in GROUP_TYPE_1)
    assert not any(str(e.value) for e in dataset if e.tag.group == 0x0010)
    assert dataset.PatientIdentityRemoved == "YES"
    assert (dataset.AcquisitionDateTime, dataset.TimezoneOffsetFromUTC) == ("20240229130507", "+0100")
    uids = {dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID}
    assert len(uids) == 3
    assert all(u.is_valid and u.startswith("2.25.") for u in uids)
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID


def test_filled_samples_are_annotated(reading: Reading, write: Callable[..., Path]) -> None:
    first, *notes = pydicom.dcmread(write(reading, "dicom")).WaveformAnnotationSequence
    assert "not of the recording" in first.UnformattedTextValue
    filled = np.zeros(reading.signal.filled.shape, bool)
    for note in notes:
        assert note.UnformattedTextValue == "filled in"
        group, channel = note.ReferencedWaveformChannels
        start, stop = note.ReferencedSamplePositions
        filled[channel - 1, start - 1 : stop] = group == 1
    assert np.array_equal(filled, reading.signal.filled & np.isfinite(reading.signal.mv))


@pytest.mark.parametrize(("fs_hz", "n"), [(100.0, 1000), (500.0, 16385)])
def test_what_the_object_cannot_hold(reading: Reading, write: Callable[..., Path], fs_hz: float, n: int) -> None:
    zeros = np.zeros((12, n), np.float32)
    with pytest.raises(InputError, match="export wfdb or edf"):
        write(replace(reading, signal=EcgSignal(zeros, fs_hz, zeros, zeros > 0)), "dicom")


def test_measurements_are_annotated(write: Callable[..., Path]) -> None:
    from export_readings import measured

    notes = pydicom.dcmread(write(measured(), "dicom")).WaveformAnnotationSequence
    assert [n.AnnotationGroupNumber for n in notes] == list(range(len(notes)))
    said = [n.UnformattedTextValue for n in notes if "UnformattedTextValue" in n]
    assert "Heart rate 72 ± 1 bpm, rhythm regular, QRS 94 ± 12 ms" in said
    assert "Not measured: P, PR (no P waves)" in said
    coded = {n.ConceptNameCodeSequence[0].CodeMeaning: n for n in notes if "ConceptNameCodeSequence" in n}
    assert set(coded) == {"QRS duration global", "QTc global using Bazett formula", "QRS axis"}
    assert float(coded["QRS axis"].NumericValue) == -31.6
    assert coded["QRS axis"].MeasurementUnitsCodeSequence[0].CodeValue == "deg"
