"""The report rendered by PDFium: true scale, every trace where it should be, nothing that should not be said."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fake_reader
import numpy as np
import pypdfium2
import pytest
from export_readings import WHEN, measured, whole

from ecg.layouts import LAYOUTS
from ecg.leads import LEAD_INDEX, LEADS, base_lead
from ecg.page import EcgSignal, LeadStrip, Overrides, Reading
from edge_runtime.exports.canvas import Canvas
from edge_runtime.exports.pdf import A4_MM, FIRST_MM, GRID_MM, baselines_mm

PX_PER_MM = 10


def render(path: Path) -> np.ndarray:
    """Darkness (H, W) 0..255 of coloured and black lines: the lightest of red, green and blue, turned over."""
    with pypdfium2.PdfDocument(path) as document:
        assert len(document) == 1
        assert np.allclose(np.array(document[0].get_size()) / 72 * 25.4, A4_MM, atol=1e-4)
        rgb = document[0].render(scale=(PX_PER_MM - 1e-4) * 25.4 / 72, rev_byteorder=True).to_numpy()[..., :3]
    assert rgb.shape[1::-1] == tuple(round(PX_PER_MM * side) for side in A4_MM)  # else PDFium has stretched it
    return 255 - rgb.max(axis=2).astype(int)


def trace_y_mm(dark: np.ndarray, x_mm: float, near_mm: float) -> float:
    """Centre of the ink in one column of pixels, within 3 mm of where it should be."""
    column = dark[:, int(x_mm * PX_PER_MM)]
    first = int((near_mm - 3) * PX_PER_MM)
    ink = np.clip(column[first : first + 6 * PX_PER_MM] - 30, 0, None)  # the grid's red channel is light
    assert ink.any(), (x_mm, near_mm)
    return (first + 0.5 + float((ink * np.arange(len(ink))).sum() / ink.sum())) / PX_PER_MM


def laid_out(name: str, speed: float, gain: float) -> Reading:
    """A page of 10 s in any layout, printed at any scale: slow sines of 0.3 to 0.85 mV."""
    spec = LAYOUTS[name]
    width_s = 10.0 / spec.n_columns
    strips = tuple(
        LeadStrip(lead, row, c * width_s * speed, (c + k) * width_s * speed, 20.0 * row, c * width_s, gain)
        for lead, row, c, k in spec.cells()
    )
    base = fake_reader.reading_for((900, 900, 3), Overrides())
    t = np.arange(5000) / 500
    mv = np.stack([(0.3 + 0.05 * k) * np.sin(2 * np.pi * (0.4 + 0.05 * k) * t) for k in range(12)]).astype(np.float32)
    signal = EcgSignal(mv, 500.0, np.ones_like(mv), np.zeros(mv.shape, bool))
    layout = replace(base.layout, name=name, paper_speed_mm_per_s=speed, gain_mm_per_mv=gain, strips=strips)
    return replace(base, layout=layout, signal=signal)


@pytest.mark.parametrize(("name", "speed", "gain"), [("3x4+1", 25.0, 10.0), ("6x2-cabrera", 50.0, 20.0)])
def test_traces_stand_at_25_mm_per_s_and_10_mm_per_mv(
    write: Callable[..., Path], name: str, speed: float, gain: float
) -> None:
    reading = laid_out(name, speed, gain)
    dark = render(write(reading, "pdf"))
    baselines = baselines_mm(reading)
    errors = []
    for strip in reading.layout.strips:
        lead, sign = base_lead(strip.lead)
        for t in (0.6, 0.9, 1.41, 2.2):  # right of the lead names
            sample = round((strip.start_s + t) * 500)
            # The column of pixels is centred half a pixel right of its left edge: read the sine there.
            x_mm = FIRST_MM + sample / 500 * 25
            t_px = (int(x_mm * PX_PER_MM) + 0.5) / PX_PER_MM
            mv = np.interp((t_px - FIRST_MM) / 25 * 500, np.arange(5000), reading.signal.mv[LEAD_INDEX[lead]])
            want = baselines[strip.row] - 10 * sign * mv
            errors.append(abs(trace_y_mm(dark, x_mm, want) - want))
    assert max(errors) < 0.05  # mm, half a pixel


def test_the_pulse_is_10_mm_high_and_5_mm_wide(write: Callable[..., Path]) -> None:
    dark = render(write(whole(), "pdf")) > 120
    y_mm = baselines_mm(whole())[0]
    left = round(GRID_MM[0] * PX_PER_MM)
    window = dark[round((y_mm - 11) * PX_PER_MM) : round((y_mm + 1) * PX_PER_MM), left : left + 14 * PX_PER_MM]
    rows, columns = np.flatnonzero(window.sum(axis=1) > 20), np.flatnonzero(window.sum(axis=0) > 50)
    assert (rows.max() - rows.min()) / PX_PER_MM == pytest.approx(10, abs=0.35)  # from outer edge to outer edge
    assert (columns.max() - columns.min()) / PX_PER_MM == pytest.approx(5, abs=0.35)


def test_nothing_is_drawn_where_nothing_was_read(write: Callable[..., Path]) -> None:
    reading = laid_out("3x4+1", 25.0, 10.0)
    mv = np.array(reading.signal.mv)
    mv[LEAD_INDEX["aVL"], 1800:2100] = np.nan
    dark = render(write(replace(reading, signal=replace(reading.signal, mv=mv)), "pdf"))
    y_mm = baselines_mm(reading)[1]
    x0, x1 = (round((FIRST_MM + s / 500 * 25) * PX_PER_MM) for s in (1810, 2090))
    assert dark[round((y_mm - 9) * PX_PER_MM) : round((y_mm + 9) * PX_PER_MM), x0:x1].max() < 30
    assert dark[round((y_mm - 9) * PX_PER_MM) : round((y_mm + 9) * PX_PER_MM), x0 - 40 : x0 - 5].max() > 200


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_fits_with_high_peaks(name: str) -> None:
    reading = laid_out(name, 25.0, 10.0)
    tall = replace(reading, signal=replace(reading.signal, mv=np.asarray(reading.signal.mv * 4)))  # to 3.4 mV
    y = list(baselines_mm(tall).values())
    assert y == sorted(y)
    assert len(y) == LAYOUTS[name].n_rows
    peak = 10 * np.abs(tall.signal.mv).max(axis=1)
    for strip in tall.layout.strips:
        reach = peak[LEAD_INDEX[base_lead(strip.lead)[0]]]
        if strip.row == 0:
            assert y[0] - reach > GRID_MM[1]
        if strip.row == len(y) - 1:
            assert y[-1] + reach < GRID_MM[3]


def test_the_words(reading: Reading, write: Callable[..., Path]) -> None:
    path = write(reading, "pdf", notes=("Heart rate 72 ± 1 bpm", "(back\\slash) ☃", "x" * 500))
    with pypdfium2.PdfDocument(path) as document:
        said = document[0].get_textpage().get_text_range()
        assert document.get_metadata_dict()["Title"] == "ECG read from a photo of paper"
        assert document.get_metadata_dict()["CreationDate"].startswith("D:2024")
    assert set(LEADS) <= set(said.split())
    for words in (
        "25 mm/s 10 mm/mV", "Heart rate 72 ± 1 bpm", "(back\\slash) ?", "not a medical device", "Mustermann_Erika",
        "3x4+1, 25 mm/s, 10 mm/mV, layout by names, gain by pulse", f"{WHEN:%Y-%m-%d %H:%M}",
    ):  # fmt: skip
        assert words in re.sub(r" +", " ", said), words
    assert "ward 7" not in said  # the folder
    assert "xx..." in said
    assert "Only the first" not in said


def test_what_is_too_long_for_the_page_is_said(write: Callable[..., Path]) -> None:
    reading = laid_out("1x1-II", 25.0, 10.0)
    strip = replace(reading.layout.strips[0], x1_mm=25 * 30.0)
    mv = np.tile(reading.signal.mv, 3)
    signal = EcgSignal(mv, 500.0, np.ones_like(mv), np.zeros(mv.shape, bool))
    path = write(replace(reading, layout=replace(reading.layout, strips=(strip,)), signal=signal), "pdf")
    with pypdfium2.PdfDocument(path) as document:
        assert "Only the first 10.2 s are drawn" in document[0].get_textpage().get_text_range()
    assert render(path)[:, round(GRID_MM[2] * PX_PER_MM) + 5 :].max() < 30


def test_cross_references_and_length_are_right() -> None:
    canvas = Canvas(100, 50)
    canvas.text(10, 10, "a", 3)
    data = canvas.pdf("t", "p", WHEN)
    start = int(re.search(rb"startxref\n(\d+)\n%%EOF\n$", data)[1])
    table = data[start:].split(b"\n")
    assert table[0] == b"xref"
    for number, line in enumerate(table[3:10], start=1):
        assert len(line) == 19
        assert data[int(line[:10]) :].startswith(b"%d 0 obj\n" % number)
    stream = re.search(rb"/Length (\d+) [^\n]*\nstream\n", data)
    assert b"(a) Tj" in zlib.decompress(data[stream.end() : stream.end() + int(stream[1])])
    assert data[stream.end() + int(stream[1]) :].startswith(b"\nendstream")
    assert b"/PrintScaling /None" in data


def test_measurements_stand_above_the_grid(write: Callable[..., Path]) -> None:
    with pypdfium2.PdfDocument(write(measured(), "pdf", notes=("a note", "another"))) as document:
        said = re.sub(r" +", " ", document[0].get_textpage().get_text_range())
    for words in (
        "Heart rate 72 ± 1 bpm, rhythm regular, QRS 94 ± 12 ms", "QTc (Bazett) 412 ± 20 ms, axis -32 ± 4°",
        "Not measured: P, PR (no P waves)", "a note",
    ):  # fmt: skip
        assert words in said, words
    assert "another" not in said  # no room
