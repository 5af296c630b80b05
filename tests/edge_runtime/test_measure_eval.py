"""Measurements against marks: what a layout shows, the figures, and the command on LUDB where it is at hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import fake_reader
import numpy as np
import pytest
from typer.testing import CliRunner

from ecg.ludb import Reference
from ecg.measurements import Measurement
from ecg.page import Overrides
from ecg.records import EcgRecord
from edge_runtime import measure_eval
from edge_runtime.measure_eval import HALVES, QUANTITIES, Row, app, as_printed, figures, opinions, table


def a_row(name: str, off: float) -> Row:
    truth = {kind: np.array([60.0, 100.0, 160.0, 90.0, 400.0]) for kind in ("global", "outermost", "median")}
    return Row(name, truth["global"] + off, np.full(5, 5.0), truth["median"], truth, 1.0)


def test_a_page_shows_a_quarter_of_each_lead_and_its_rhythm_strip() -> None:
    record = EcgRecord(np.ones((12, 5000), np.float32), 500.0)
    assert as_printed(record, "all") is record
    shown = np.isfinite(as_printed(record, "3x4+1").mv)
    assert shown.sum(axis=1).tolist() == [1250, 5000] + [1250] * 10
    assert shown[9:, 3750:].all()
    assert np.isfinite(as_printed(record, "3x4").mv).sum() == 12 * 1250


def test_figures_and_table() -> None:
    rows = [a_row("2", 1.0), a_row("4", -9.0), a_row("6", 3.0)]
    rows[2].ours[2] = np.nan
    found = figures(rows)
    assert found["global"]["qrs"] == {
        "n": 3.0, "bias": 1.0, "median_abs": 3.0, "p90_abs": pytest.approx(7.8), "within_error": pytest.approx(2 / 3),
        "share": 1.0, "missed": 0.0, "unmarked": 0.0,
    }  # fmt: skip
    assert found["global"]["pr"]["missed"] == 1.0
    assert found["global"]["pr"]["share"] == pytest.approx(2 / 3)
    assert found["median"]["qt"]["median_abs"] == 0.0
    lines = list(table({half: found for half in HALVES}, "3x4"))
    assert len(lines) == 1 + len(QUANTITIES) * (len(HALVES) + 2)


def test_rhythm_and_axis_against_the_table() -> None:
    said = "Sinus arrhythmia. Electric axis of the heart: horizontal"
    rows = [replace(a_row("2", 0.0), rhythm="irregular", axis_deg=12.0, report=said),
            replace(a_row("4", 0.0), rhythm="regular", axis_deg=49.0, report=said),
            replace(a_row("6", 0.0), report="Sinus rhythm. Electric axis of the heart: normal"),
            replace(a_row("8", 0.0), rhythm="regular", report="Atrial flutter, typical")]  # fmt: skip
    found = opinions(rows)
    assert found["rhythm"] == {"n": 3.0, "share": pytest.approx(2 / 3), "agree": 0.5}
    assert found["axis"]["share"] == pytest.approx(2 / 3)
    assert (found["axis"]["inside"], found["axis"]["p90_off"]) == (0.5, pytest.approx(17.1))


def test_pages_are_measured_and_refusals_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    record = EcgRecord(np.ones((12, 5000), np.float32), 500.0, name="2", report="Sinus rhythm")
    reference = Reference("global", 60.0, 0.1, 0.16, 0.09, 0.4, 8)
    monkeypatch.setattr(measure_eval, "read_marks", lambda *_: None)
    monkeypatch.setattr(measure_eval, "references", lambda *_: {"global": reference})
    monkeypatch.setattr(measure_eval, "row", lambda *_: a_row("2", 0.0))
    reading = replace(fake_reader.reading_for((1000, 2000, 3), Overrides()),
                      measurements=(Measurement("heart_rate", 62.0, "bpm", 1.0, 9),))  # fmt: skip
    answers = [(record, reading, 1.0), (record, None, 1.0)]
    monkeypatch.setattr(measure_eval, "measured_pages", lambda *_: iter(answers))
    refs = [SimpleNamespace(name="2", path="2", read=lambda: record)] * 2
    read, refused = measure_eval.page_rows(None, refs, "printed", 1)
    assert (read.ours[0], read.truth["global"][0], read.truth["signal"][0]) == (62.0, 60.0, 60.0)
    assert np.isnan(refused.ours).all()
    assert figures([read, refused])["global"]["heart_rate"]["share"] == 0.5


def test_a_folder_that_is_not_there_gives_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(tmp_path / "none")])
    assert done.exit_code != 0
    assert "no such folder" in done.output
