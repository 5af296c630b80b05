"""Measurements against marks: what a layout shows, the figures, and the command on LUDB where it is at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ecg.records import EcgRecord
from edge_runtime.measure_eval import HALVES, QUANTITIES, Row, app, as_printed, figures, table


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
        "missed": 0.0, "unmarked": 0.0,
    }  # fmt: skip
    assert found["global"]["pr"]["missed"] == 1.0
    assert found["median"]["qt"]["median_abs"] == 0.0
    lines = list(table({half: found for half in HALVES}, "3x4"))
    assert len(lines) == 1 + len(QUANTITIES) * (len(HALVES) + 2)


def test_a_folder_that_is_not_there_gives_one_line(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, [str(tmp_path / "none")])
    assert done.exit_code != 0
    assert "no such folder" in done.output
