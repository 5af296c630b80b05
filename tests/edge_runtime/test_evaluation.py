"""The measuring itself: a perfect reading scores full marks, each fault is named, figures reach the README."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import fake_reader
import numpy as np
import pytest

from ecg.errors import InputError
from ecg.metrics import score_reading
from ecg.page import EcgSignal, Overrides, PageLayout, Photo, Reading, Sheet, Unreadable
from ecg.records import EcgRecord
from ecg.synth.truth import PrintedPage
from edge_runtime.demo import demo_photo, run_demo_with
from edge_runtime.diagnose import diagnose
from edge_runtime.evaluation import Row, by_group, figures, page_truth, read_row, table, worst_first
from edge_runtime.rendered import round_trip_page, traces_cross
from edge_runtime.results_log import append_result, conditions, cpu_name, read_results
from edge_runtime.results_table import END, START, results_block, rewrite


def reading_of(mv: np.ndarray, layout: PageLayout, fs_hz: float = 500.0) -> Reading:
    sheet = Sheet(np.zeros((2, 2, 2), np.float32), residual_mm=0.1)
    signal = EcgSignal(mv, fs_hz, np.ones(mv.shape, np.float32), np.zeros(mv.shape, bool))
    return Reading(sheet, layout, signal, {})


class Oracle:
    """Reads what is known, or refuses."""

    def __init__(self, result: Reading | Unreadable) -> None:
        self.bundle = fake_reader.Reader.open().bundle
        self._result = result

    def read(self, photo: Photo, overrides: Overrides = Overrides()) -> Reading | Unreadable:  # noqa: B008
        return self._result


@pytest.fixture(scope="module")
def page() -> PrintedPage:
    return round_trip_page("3x4+1", 25.0, 10.0, seed=3)


@pytest.fixture(scope="module")
def truth(page: PrintedPage) -> EcgRecord:
    return page_truth(page)


def at_500_hz(truth: EcgRecord, stretch: float = 1.0) -> np.ndarray:
    """The truth read perfectly, or on a clock that runs ``stretch`` times as long."""
    n = round(truth.duration_s * 500)
    t, grid = np.arange(truth.mv.shape[1]) / truth.fs_hz, np.arange(n) / 500 / stretch
    out = np.full((12, n), np.nan, np.float32)
    for lead, row in enumerate(truth.mv):
        ok = np.isfinite(row)
        out[lead] = np.interp(grid, t[ok], row[ok], left=np.nan, right=np.nan)
    return out


def test_truth_of_a_page_shows_each_lead_where_it_is_printed(page: PrintedPage, truth: EcgRecord) -> None:
    for trace in page.traces:
        lead = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6").index(trace.strip.lead)
        first = round(trace.strip.start_s * truth.fs_hz)
        assert np.isfinite(truth.mv[lead, first : first + len(trace.mv)]).mean() > 0.99
    assert np.isfinite(truth.mv[1]).all()  # the rhythm strip
    assert np.isfinite(truth.mv[0]).mean() < 0.3


def test_a_perfect_reading(page: PrintedPage, truth: EcgRecord) -> None:
    reading = reading_of(at_500_hz(truth), page.layout)
    row = read_row(Oracle(reading), Photo(np.array(page.rgb)), "p", truth, group="3x4+1")
    assert row.score is not None
    assert row.diagnosis is not None
    assert row.score.db > 24
    assert row.score.clock_db > 24
    assert abs(row.diagnosis.stretch_pct) < 0.03
    assert row.diagnosis.gain_ratio == pytest.approx(1, abs=0.01)
    assert row.diagnosis.cause == "trace"
    text = table([row])
    assert "3x4+1" in text
    assert by_group([row])["3x4+1"]["n_read"] == 1
    assert figures([row])["n_read"] == 1


@pytest.mark.parametrize("stretch", [1.004, 0.996])
def test_a_wrong_clock_is_named(page: PrintedPage, truth: EcgRecord, stretch: float) -> None:
    reading = reading_of(at_500_hz(truth, stretch), page.layout)
    score = score_reading(truth, reading.signal.mv)
    found = diagnose(truth, reading, score)
    assert found.stretch_pct == pytest.approx(100 * (stretch - 1), abs=0.1)
    assert "time scale" in found.cause


def test_a_wrong_gain_a_wrong_layout_and_gaps_are_named(page: PrintedPage, truth: EcgRecord) -> None:
    mv = at_500_hz(truth)
    faults = {
        "gain x2.00": 2 * mv,
        "layout": np.roll(mv, 3, axis=0),
        "gaps": np.where(np.arange(len(mv[0])) % 500 < 60, np.nan, mv),
    }
    for cause, wrong in faults.items():
        reading = reading_of(wrong.astype(np.float32), page.layout)
        found = diagnose(truth, reading, score_reading(truth, reading.signal.mv))
        assert cause in found.cause, (cause, found)


def test_refusals_count_as_nothing_and_come_first(page: PrintedPage, truth: EcgRecord, tmp_path: Path) -> None:
    photo = Photo(np.full((300, 400, 3), 99, np.uint8), "a.jpg")
    refused = read_row(Oracle(Unreadable("finder", "no_grid", "move")), photo, "a", truth, tmp_path)
    read = read_row(Oracle(reading_of(at_500_hz(truth), page.layout)), photo, "b", truth)
    assert (refused.status, refused.db) == ("unreadable", 0.0)
    assert refused.diagnosis is not None
    assert refused.diagnosis.cause == "refused: finder/no_grid"
    assert [r.name for r in worst_first([read, refused])] == ["a", "b"]
    assert figures([read, refused])["refusal_rate"] == 0.5
    assert (tmp_path / "a.json").exists()
    assert json.dumps(refused.as_json())


def test_rows_without_truth() -> None:
    row = Row("x", "read", "3x4", 25.0, 10.0, 0.5, {})
    assert figures([row]) == {"n": 1, "n_read": 1, "seconds_median": 0.5, "seconds_max": 0.5}
    assert "x" in table([row])


def test_results_reach_the_readme(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    assert "No measurement" in rewrite(readme, tmp_path)
    for date, n_read in (("2026-01-01 10:00", 3), ("2026-01-02 10:00", 5), ("2025-01-01 10:00", 1)):
        line = {"task": "photos/clinic", **conditions("photos/clinic"), "date": date}
        append_result(tmp_path / "clinic.jsonl", {**line, "figures": {"n": 9, "n_read": n_read, "x": float("nan")}})
    assert len(read_results(tmp_path / "clinic.jsonl")) == 3
    assert read_results(tmp_path / "clinic.jsonl")[0]["figures"]["x"] is None
    block = rewrite(readme, tmp_path)
    assert "5 of 9 read" in block  # the newest
    assert readme.read_text() == f"before\n{START}\n{block}\n{END}\nafter\n"
    readme.write_text("no markers")
    with pytest.raises(InputError, match="results block"):
        rewrite(readme, tmp_path)


def test_the_projects_own_results_can_be_shown() -> None:
    repo = Path(__file__).parents[2]
    assert results_block(repo / "results")
    text = (repo / "README.md").read_text(encoding="utf-8")
    assert text.count(START) == text.count(END) == 1


def test_results_name_no_folder_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    repo = Path(__file__).parents[2]
    monkeypatch.setattr("sys.argv", ["edge_runtime/evaluate.py", "photos", str(repo / "x"), "--out", "o"])
    line = conditions("d", seed=4)
    assert line["command"] == "python -m edge_runtime.evaluate photos x --out o"
    assert line["seed"] == 4
    assert line["device"]


@pytest.mark.parametrize(
    ("flags", "name"),
    [("fma avx2 avx512bw avx512_vnni", "Some CPU (VNNI)"), ("fma avx avx2", "Some CPU (AVX2)"), ("fp", "Some CPU")],
)
def test_devices_of_one_name_are_told_apart_by_their_instructions(tmp_path: Path, flags: str, name: str) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    one = f"processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: {flags}\n\n"
    cpuinfo.write_text(one + one.replace(": 0", ": 1"))
    assert cpu_name(cpuinfo) == name


def test_a_photos_time_is_shown_for_each_device(tmp_path: Path) -> None:
    figures = {"total_ms": 900.0, "megapixels": 12.0, "startup_ms": 300.0, "peak_rss_mb": 380.0}
    for day, device, ms in (("01", "A", 800.0), ("02", "B", 1700.0), ("03", "A", 900.0)):
        line = {"task": "bench/photo", "date": f"2026-11-{day}", "device": device, "cores": 2, "threads": 2}
        append_result(tmp_path / "bench.jsonl", line | {"figures": figures | {"total_ms": ms}})
    block = results_block(tmp_path)
    assert [row.split(" ms a photo")[0].split()[-1] for row in block.splitlines()[2:]] == ["900", "1700"]


def test_demo_writes_its_photo_and_results(tmp_path: Path) -> None:
    lines = list(run_demo_with(fake_reader.Reader.open(), tmp_path, seed=9))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo.csv", "demo.jpg", "demo.json", "demo.png"]
    assert "dB" in lines[-2]
    assert str(tmp_path / "demo.csv") in lines[-1]


def test_demo_photo_is_the_same_each_time() -> None:
    first, again = demo_photo(9), demo_photo(9)
    assert np.array_equal(first.rgb, again.rgb)
    assert first.page is not None
    assert replace(first.page.layout, strips=()) == replace(again.page.layout, strips=()) if again.page else False


def test_plain_pages_hold_the_machines_own_print_alone():
    page = round_trip_page("6x2", 25.0, 10.0, seed=5, plain=True)
    assert page.layout.name == "6x2"
    assert not {box.kind for box in page.marks} & {"handwriting", "stamp"}
    assert all(t.y_mm.min() > 0 and t.y_mm.max() < page.size_mm[1] for t in page.traces)
    assert sum(box.kind == "lead" for box in page.marks) >= len(page.traces)


def test_traces_that_run_through_another_row_are_told():
    page = round_trip_page("6x2", 25.0, 10.0, seed=5, plain=True)
    flat = replace(
        page, traces=tuple(replace(t, y_mm=np.full_like(t.y_mm, 40 + 20 * t.strip.row)) for t in page.traces)
    )
    assert not traces_cross(flat)
    tall = flat.traces[2].y_mm.copy()
    tall[100:110] -= 30
    assert traces_cross(replace(flat, traces=(*flat.traces[:2], replace(flat.traces[2], y_mm=tall), *flat.traces[3:])))
