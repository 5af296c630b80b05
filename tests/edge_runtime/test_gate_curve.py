import numpy as np
import pytest
from typer.testing import CliRunner

from edge_runtime.evaluation import Row
from edge_runtime.risk_coverage import SHARES, app, curve, summary


def test_curve_rises_where_trust_tells_good_from_poor() -> None:
    db = np.arange(20.0)
    rows = curve(db / 20, db)
    assert [r["share"] for r in rows] == list(SHARES)
    assert rows[0]["n"] == 20
    assert rows[0]["median_db"] == pytest.approx(9.5)
    medians = [r["median_db"] for r in rows]
    assert medians == sorted(medians)
    assert rows[-1]["poor"] == 0.0


def test_curve_counts_what_was_refused_as_nothing() -> None:
    rows = curve([0.9, -1.0], [15.0, float("nan")])
    assert rows[0]["median_db"] == pytest.approx(7.5)
    assert rows[-1]["median_db"] == 15.0


def test_summary_of_rows() -> None:
    read = Row("a", "read", "3x4", 25.0, 10.0, 1.0, {"trust": 0.5})
    refused = Row("b", "unreadable", "", 0.0, 0.0, 1.0, {}, "gate/leads_contradict")
    figures = summary([read, refused])
    assert figures["n"] == 2
    assert figures["n_read"] == 1
    assert figures["curve"][0]["least_trust"] == -1.0


def test_unknown_part_is_one_line() -> None:
    done = CliRunner().invoke(app, ["--part", "nothing"])
    assert done.exit_code == 2
    assert "give rendered, real or non-ecg" in done.output
