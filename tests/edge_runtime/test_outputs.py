"""The contract of CSV, JSON and PNG: names, units, empty cells, and files that are whole or not there."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import cv2
import fake_reader
import numpy as np
import pytest

from ecg.errors import EcgscanError
from ecg.leads import LEADS
from ecg.measurements import Measurement
from ecg.page import BundleInfo, EcgSignal, Overrides, Photo, Reading, Unreadable
from edge_runtime import outputs
from edge_runtime.outputs import StemNames, csv_text, png_bytes, reading_json, write_atomic, write_result
from edge_runtime.overlay import PX_PER_MM, draw_overlay

BUNDLE = BundleInfo(Path("bundle"), "1.2", "ab" * 32)


@pytest.fixture
def photo(page_rgb: np.ndarray) -> Photo:
    return Photo(page_rgb, "folder/page.jpg")


@pytest.fixture
def reading(photo: Photo) -> Reading:
    return fake_reader.reading_for(photo.rgb.shape, Overrides())


def test_csv_holds_millivolts_at_500_hz_and_empty_cells(reading: Reading) -> None:
    rows = list(csv.reader(io.StringIO(csv_text(reading.signal))))
    assert rows[0] == ["time_s", "I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
    assert len(rows) == 1 + 5000
    times = np.array([float(r[0]) for r in rows[1:]])
    assert np.abs(times - np.arange(5000) / 500).max() < 1e-9
    for column, lead in enumerate(LEADS, start=1):
        filled = np.array([r[column] != "" for r in rows[1:]])
        assert np.array_equal(filled, np.isfinite(reading.signal.mv[column - 1])), lead
        first, last = times[filled][[0, -1]]
        start = 0.0 if lead == "II" else 2.5 * ((column - 1) // 3)
        assert (first, last) == (start, pytest.approx(start + (10.0 if lead == "II" else 2.5) - 0.002))
        got = np.array([float(r[column]) for r in rows[1:] if r[column]])
        assert np.abs(got - reading.signal.mv[column - 1][filled]).max() <= 0.5e-4 + 1e-6


def test_json_contract(reading: Reading, photo: Photo) -> None:
    text = json.dumps(reading_json(reading, photo, BUNDLE, "page"), allow_nan=False)
    document = json.loads(text)
    assert document["status"] == "read"
    assert document["reason"] is None
    assert document["message"] is None
    layout = document["layout"]
    assert layout["name"] == "3x4+1"
    assert layout["paper_speed_mm_per_s"] == 25
    assert layout["gain_mm_per_mv"] == 10
    assert layout["orientation_deg"] == 0
    assert set(outputs.DECIDED_KEYS.values()) <= set(layout["decided"])
    assert layout["decided"]["gain_mm_per_mv"] == {"how": "pulse", "confidence": 0.8}
    assert list(document["leads"]) == list(LEADS)
    assert document["leads"]["II"]["end_s"] == 10
    assert document["leads"]["aVR"] == {
        "printed": True, "start_s": 2.5, "end_s": 5.0, "coverage": 1.0, "confidence": 0.9, "filled": 0.0,
    }  # fmt: skip
    assert document["leads"]["I"]["filled"] == pytest.approx(0.04)
    assert document["quality"] == {"lattice_residual_mm": 0.1, "unknown": None}
    assert document["timings_ms"] == {"finder": 1.0, "decoder": 2.0}
    assert document["bundle"] == {"version": "1.2", "sha256": "ab" * 32}
    assert document["photo"]["file"] == "page.jpg"  # no folder names: they may name a patient


def test_a_lead_that_is_not_printed_says_so(reading: Reading, photo: Photo) -> None:
    strips = tuple(s for s in reading.layout.strips if s.lead != "V6")
    part = replace(reading, layout=replace(reading.layout, strips=strips))
    assert reading_json(part, photo, BUNDLE, "x")["leads"]["V6"] == {"printed": False}


def test_unreadable_writes_json_alone_and_takes_old_results_away(
    reading: Reading, photo: Photo, tmp_path: Path
) -> None:
    assert len(write_result(reading, photo, BUNDLE, tmp_path, "page")) == 3
    refusal = Unreadable("finder", "no_grid", "no grid: move closer")
    assert write_result(refusal, photo, BUNDLE, tmp_path, "page") == (tmp_path / "page.json",)
    assert [p.name for p in tmp_path.iterdir()] == ["page.json"]
    document = json.loads((tmp_path / "page.json").read_text())
    assert (document["status"], document["reason"], document["message"]) == (
        "unreadable", "no_grid", "no grid: move closer",
    )  # fmt: skip
    assert document["leads"] == {}
    assert document["layout"] is None
    assert document["signal"] is None


def test_files_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.csv"
    write_atomic(target, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(outputs.os, "replace", fail)
    with pytest.raises(EcgscanError, match="No space left"):
        write_atomic(target, b"new")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


def test_an_output_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(EcgscanError, match="choose another --out"):
        write_atomic(tmp_path / "out" / "a.csv", b"")


def test_names_do_not_collide(tmp_path: Path, page_rgb: np.ndarray) -> None:
    names = StemNames(tmp_path)
    files = [("x/a.jpg", 0), ("y/a.png", 0), ("a.pdf", 0), ("a.pdf", 1), ("A.tif", 0), ("a-2.jpg", 0)]
    got = [names.take(Photo(page_rgb, source, page)) for source, page in files]
    assert got == ["a", "a-2", "a-3", "a_p2", "A-4", "a-2-2"]
    assert len({n.casefold() for n in got}) == len(got)


def test_a_picture_that_is_not_ours_is_kept(tmp_path: Path, page_rgb: np.ndarray) -> None:
    photo_path = tmp_path / "a.png"
    cv2.imwrite(str(photo_path), page_rgb)
    assert StemNames(tmp_path).take(Photo(page_rgb, "elsewhere/a.jpg")) == "a-2"
    assert StemNames(tmp_path, [photo_path]).take(Photo(page_rgb, str(photo_path))) == "a-2"
    write_atomic(tmp_path / "b.png", png_bytes(page_rgb))
    assert StemNames(tmp_path).take(Photo(page_rgb, "b.jpg")) == "b"  # ours: may be written again


def test_png_is_a_valid_picture(page_rgb: np.ndarray) -> None:
    from PIL import Image

    image = Image.open(io.BytesIO(png_bytes(page_rgb)))
    image.load()
    assert image.info == {"Software": "ecgscan"}
    assert np.array_equal(np.asarray(image), page_rgb)


def overlay_px(x_mm: float, y_mm: float) -> tuple[int, int]:
    """The fake page's millimetres to overlay pixels (x, y): the picture starts 14 mm left of, 14 mm above the rows."""
    return round((x_mm - 1.0) * PX_PER_MM - 0.5), round((y_mm - 36.0) * PX_PER_MM - 0.5)


def test_overlay_draws_the_traces_where_they_stand(reading: Reading, photo: Photo) -> None:
    rgb = draw_overlay(photo, reading)
    red_to_blue = rgb[..., 2].astype(int) - rgb[..., 0]  # the lines are anti-aliased: their hue tells them
    blue, orange = red_to_blue > 40, red_to_blue < -90
    for strip in reading.layout.strips:
        mv = reading.signal.mv[LEADS.index(strip.lead)]
        for t in (0.5, 0.9, 1.7):
            value = mv[round((strip.start_s + t) * 500)]
            x, y = overlay_px(strip.x0_mm + 25 * t, strip.baseline_mm - 10 * value)
            assert blue[y - 2 : y + 3, x - 2 : x + 3].any(), (strip.lead, t)
    x, y = overlay_px(15.0 + 25 * 0.25, 50.0 - 10 * reading.signal.mv[0, 125])
    assert orange[y - 2 : y + 3, x - 2 : x + 3].any()


def test_header_and_surroundings_are_blanked(reading: Reading, photo: Photo) -> None:
    secret = (255, 0, 255)
    rgb = photo.rgb.copy()
    rgb[:225] = secret  # up to 37.5 mm: the first row's baseline stands at 50 mm
    rgb[840:] = secret  # below 140 mm: the last row's stands at 125 mm
    rgb[:, 1760:] = secret  # right of 293 mm: the rows end at 265 mm
    seen = np.abs(draw_overlay(Photo(rgb), reading).astype(int) - secret).sum(axis=2) < 40
    assert not seen.any()
    kept = np.abs(draw_overlay(Photo(rgb), reading, keep_header=True).astype(int) - secret).sum(axis=2) < 40
    assert kept.any()


def test_overlay_of_a_page_partly_off_the_photo(reading: Reading, photo: Photo) -> None:
    nodes = np.array(reading.sheet.node_px)
    nodes[:, 30:] = np.nan
    mv = np.array(reading.signal.mv)
    mv[:, 3000:] = np.nan
    signal = EcgSignal(mv, 500.0, np.array(reading.signal.confidence), np.array(reading.signal.filled))
    rgb = draw_overlay(photo, replace(reading, sheet=replace(reading.sheet, node_px=nodes), signal=signal))
    assert rgb.dtype == np.uint8


def test_measurements_stand_in_the_json(reading: Reading, photo: Photo) -> None:
    figures = (
        Measurement("heart_rate", 71.25, "bpm", 0.5, 9),
        Measurement("rhythm", "irregular", "", None, 9),
        Measurement("pr", None, "ms", None, 3, "not measured: no P waves"),
    )
    got = reading_json(replace(reading, measurements=figures), photo, BUNDLE, "x")["measurements"]
    assert got == {
        "heart_rate": {"value": 71.25, "unit": "bpm", "error": 0.5, "n_beats": 9, "reason": ""},
        "rhythm": {"value": "irregular", "unit": "", "error": None, "n_beats": 9, "reason": ""},
        "pr": {"value": None, "unit": "ms", "error": None, "n_beats": 3, "reason": "not measured: no P waves"},
    }
