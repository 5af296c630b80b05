"""The printer's truth is where the ink is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ecg.layouts import LAYOUTS
from ecg.leads import LEADS, limb_leads
from ecg.records import EcgRecord
from ecg.synth.ink import add_stroke, coverage
from ecg.synth.lettering import FontStyle, render_text
from ecg.synth.paper import GridStyle, PaperStyle, line_coverage
from ecg.synth.printer import blank_page, distractor_page, print_page, random_page, random_style
from ecg.synth.resample import printed_signal, upsampled
from ecg.synth.style import Labels, PageStyle, Pen, Preparation, Pulses, Separators
from ecg.synth.truth import PrintedPage

NO_GRID = PaperStyle((1.0, 1.0, 1.0), GridStyle("none", 0.0, 0.0, (0.0, 0.0, 0.0, 0.0)))


def smooth_record(duration_s: float = 10.0, fs_hz: float = 500.0) -> EcgRecord:
    """Slow waves whose pen line is flat enough for a column's centre of ink to be the curve itself."""
    t = np.arange(int(duration_s * fs_hz)) / fs_hz
    i, ii = 0.3 * np.sin(2 * np.pi * 0.4 * t), 0.4 * np.cos(2 * np.pi * 0.3 * t)
    chest = [0.25 * np.sin(2 * np.pi * 0.35 * t + k) for k in range(6)]
    return EcgRecord(np.concatenate([limb_leads(i, ii), chest]).astype(np.float32), fs_hz)


def beating_record(duration_s: float = 10.0, fs_hz: float = 500.0, seed: int = 0) -> EcgRecord:
    """Spikes once a second, with noise."""
    t = np.arange(int(duration_s * fs_hz)) / fs_hz
    rng = np.random.default_rng(seed)
    beat = np.exp(-0.5 * ((t % 1.0 - 0.4) / 0.012) ** 2) + 0.2 * np.exp(-0.5 * ((t % 1.0 - 0.7) / 0.05) ** 2)
    size = rng.uniform(-1.2, 1.8, 12)[:, None]
    return EcgRecord((size * beat + rng.normal(0, 0.01, (12, len(t)))).astype(np.float32), fs_hz)


def bare(style: PageStyle) -> PageStyle:
    """Only traces, in full black."""
    names = tuple(c[0] for c in style.layout.cells())
    return replace(
        style, paper=NO_GRID, items=(), pulses=Pulses(), separators=Separators(),
        labels=Labels(FontStyle(), hidden=names), pen=Pen(0.3, (0.0, 0.0, 0.0)),
    )  # fmt: skip


def ink_centre_mm(page: PrintedPage, x_mm: float, y_mm: float, reach_mm: float) -> float:
    """Height of the dark centroid near a point, in the column of pixels that holds x_mm."""
    px = page.px_per_mm
    column = 255.0 - page.rgb[:, int(x_mm * px), 0].astype(float)
    at = (np.arange(len(column)) + 0.5) / px
    near = np.abs(at - y_mm) < reach_mm
    return float((column * at)[near].sum() / column[near].sum())


@pytest.mark.parametrize("layout", ["3x4+1", "3x4-cabrera", "6x2", "12x1", "4x3", "1x1-V3"])
@pytest.mark.parametrize("speed", [25.0, 50.0])
def test_ink_lies_where_the_truth_says(layout, speed):
    rng = np.random.default_rng(3)
    record = smooth_record()
    style = bare(random_style(rng, record, layout=layout, speed_mm_per_s=speed, gain_mm_per_mv=5.0, partial=False))
    page = print_page(record, style, rng)
    assert len(page.traces) == len(LAYOUTS[layout].cells())
    errors = []
    for trace in page.traces:
        for k in np.linspace(20, len(trace.mv) - 20, 40).astype(int):
            x = (int(trace.x_mm[k] * page.px_per_mm) + 0.5) / page.px_per_mm  # the centre of that column
            y = float(np.interp(x, trace.x_mm, trace.y_mm))
            errors.append(ink_centre_mm(page, x, y, 0.9) - y)
    assert np.abs(errors).max() < 0.02


def test_truth_follows_gain_baseline_and_clock():
    rng = np.random.default_rng(0)
    record = beating_record()
    gains = {"gain_mm_per_mv": 10.0, "chest_gain_mm_per_mv": 5.0}
    style = random_style(rng, record, layout="3x4-cabrera", partial=False, **gains)
    style = replace(style, preparation=Preparation())
    page = print_page(record, style, rng)
    for trace in page.traces:
        strip = trace.strip
        sign = -1.0 if strip.lead.startswith("-") else 1.0
        assert strip.gain_mm_per_mv == (5.0 if strip.lead.startswith("V") else 10.0)
        np.testing.assert_allclose(trace.y_mm, strip.baseline_mm - sign * strip.gain_mm_per_mv * trace.mv, atol=1e-3)
        start = int(np.ceil(strip.start_s * 500 - 1e-3))
        lead = record.mv[LEADS.index(strip.lead.lstrip("-"))]
        np.testing.assert_allclose(trace.mv, lead[start : start + len(trace.mv)], atol=1e-5)
        seconds = (trace.x_mm - strip.x0_mm) / page.layout.paper_speed_mm_per_s + strip.start_s
        np.testing.assert_allclose(seconds, (start + np.arange(len(trace.mv))) / 500, atol=2e-5)


def test_grid_truth_is_where_the_heavy_lines_are():
    rng = np.random.default_rng(5)
    record = smooth_record()
    style = random_style(rng, record, grid="heavy", partial=True, furniture=False)
    plain = replace(style.paper.grid, heavy_rgb=(0.0, 0.0, 0.0), uneven=0.0, frame_width_mm=0.0, bold_every=0)
    page = print_page(record, replace(bare(style), paper=replace(NO_GRID, grid=plain), pen=Pen(alpha=0.0)), rng)
    x0, y0, x1, _ = page.grid.area_mm
    lines = np.arange(page.grid.x0_mm, page.size_mm[0], 5.0)
    lines = lines[(lines > x0 + 1) & (lines < x1 - 1)]
    between = page.grid.y0_mm + 5 * np.ceil((y0 - page.grid.y0_mm) / 5) + 2.5
    darkness = 255.0 - page.rgb[int(between * page.px_per_mm), :, 0].astype(float)
    at = (np.arange(len(darkness)) + 0.5) / page.px_per_mm
    for line in lines:
        near = np.abs(at - line) < 0.5
        assert (darkness * at)[near].sum() / darkness[near].sum() == pytest.approx(line, abs=0.02)


def test_a_style_and_a_seed_give_the_same_bytes():
    record = beating_record()
    first, second = (random_page(np.random.default_rng(11), record) for _ in range(2))
    assert first.rgb.tobytes() == second.rgb.tobytes()
    assert first.marks == second.marks
    assert first.style == second.style


@pytest.mark.parametrize("seed", range(20))
def test_any_page_has_sound_truth(seed):
    rng = np.random.default_rng(seed)
    page = random_page(rng, beating_record(seed=seed))
    w, h = page.size_mm
    assert page.rgb.dtype == np.uint8
    assert page.traces
    assert page.layout.strips == tuple(t.strip for t in page.traces)
    assert page.layout.name in LAYOUTS or page.layout.name == "partial"
    for trace in page.traces:
        assert 0 <= trace.strip.x0_mm < trace.strip.x1_mm <= w + 0.1
        assert trace.x_mm.min() >= 0
        assert trace.x_mm.max() <= w
        assert 0 <= trace.strip.baseline_mm <= h
        assert trace.strip.start_s >= 0
        assert trace.mv.shape == trace.x_mm.shape == trace.y_mm.shape
    for box in page.marks:
        assert 0 <= box.x0_mm <= box.x1_mm <= w
        assert 0 <= box.y0_mm <= box.y1_mm <= h
    known = {"lead", "speed", "gain", "pulse", "separator", "header", "footer", "handwriting", "stamp"}
    assert {box.kind for box in page.marks} <= known


def test_a_crop_cuts_strips_and_counts_from_the_first_visible_second():
    record = smooth_record()
    rng = np.random.default_rng(1)
    style = bare(random_style(rng, record, layout="3x4+1", speed_mm_per_s=25.0, gain_mm_per_mv=5.0, partial=False))
    geo = style.geometry
    left = geo.x0_mm + 75.0  # in the middle of the second column, above the rhythm strip
    bottom = (geo.baselines_mm[2] + geo.baselines_mm[3]) / 2
    crop = (left, 0.0, geo.page_mm[0], bottom)
    page = print_page(record, replace(style, geometry=replace(geo, crop_mm=crop)), rng)
    assert page.layout.name == "partial"
    assert {s.lead for s in page.layout.strips} == set(LEADS) - {"I", "II", "III"}
    shown = {t.strip.lead: t for t in page.traces}
    seconds = geo.column_s * 4 / 10  # a page may print other than 10 s
    assert shown["aVR"].strip.start_s == 0
    assert shown["aVR"].strip.x0_mm == 0
    assert shown["V1"].strip.start_s == pytest.approx(2 * geo.column_s - 3.0, abs=1e-3)
    assert seconds > 0
    k = len(shown["V1"].mv) // 2
    y = float(shown["V1"].y_mm[k])
    assert ink_centre_mm(page, float(shown["V1"].x_mm[k]), y, 0.9) == pytest.approx(y, abs=0.03)


def test_short_records_and_gaps_print_what_there_is():
    mv = np.array(beating_record(6.0).mv)
    mv[2] = np.nan
    mv[0, 300:400] = np.nan
    record = EcgRecord(mv, 500.0)
    rng = np.random.default_rng(2)
    style = random_style(rng, record, layout="3x4+1", speed_mm_per_s=25.0, partial=False)
    assert style.geometry.column_s <= 1.5
    page = print_page(record, replace(style, preparation=Preparation()), rng)
    leads = [t.strip.lead for t in page.traces]
    assert "III" not in leads
    first = page.traces[leads.index("I")]
    assert np.isnan(first.mv[300:400]).all()
    assert np.isfinite(first.mv[:300]).all()
    ten = replace(style, geometry=replace(style.geometry, column_s=2.5))
    long = print_page(record, ten, rng)
    assert max(len(t.mv) for t in long.traces) == 3000


def test_lead_marks_hold_the_printed_name():
    record = smooth_record()
    rng = np.random.default_rng(4)
    style = bare(random_style(rng, record, layout="3x4+1", partial=False))
    labels = Labels(FontStyle("stroke", 3.0), place="above", dy_mm=9.0, case="upper")
    page = print_page(record, replace(style, labels=labels), rng)
    names = [m.text for m in page.marks if m.kind == "lead"]
    assert names == [c[0] for c in LAYOUTS["3x4+1"].cells()]
    box = next(m for m in page.marks if m.text == "aVR")
    px = page.px_per_mm
    part = page.rgb[int(box.y0_mm * px) : int(box.y1_mm * px), int(box.x0_mm * px) : int(box.x1_mm * px)]
    assert part.min() < 60
    assert 2.5 < box.y1_mm - box.y0_mm < 4.0


def test_pulse_is_one_millivolt_high_and_200_ms_wide():
    record = smooth_record()
    rng = np.random.default_rng(6)
    style = bare(random_style(rng, record, layout="3x4+1", speed_mm_per_s=25.0, gain_mm_per_mv=10.0, partial=False))
    style = replace(style, pulses=Pulses((0, 1, 2, 3)), geometry=replace(style.geometry, x0_mm=20.0))
    page = print_page(record, style, rng)
    pulses = [m for m in page.marks if m.kind == "pulse"]
    assert len(pulses) == 4
    top = ink_centre_mm(page, pulses[0].x0_mm + 2.5, pulses[0].y0_mm, 0.5)
    assert top == pytest.approx(page.traces[0].strip.baseline_mm - 10.0, abs=0.02)
    assert pulses[0].x1_mm - pulses[0].x0_mm == pytest.approx(5.0)


@pytest.mark.parametrize("width", [1.2, 2.0, 3.7])
def test_stroke_covers_its_exact_area(width):
    x = np.linspace(10.0, 190.0, 500)
    slope = 0.25
    acc = np.zeros((101, 200), dtype=np.float32)
    add_stroke(acc, x, 20.3 + slope * x, width)
    ink = coverage(acc).astype(float) / 255
    columns = ink[:, 40:160].sum(axis=0)
    np.testing.assert_allclose(columns, width * np.hypot(1, slope), atol=0.08)


def test_upsampling_keeps_band_limited_waves():
    t = np.arange(1250) / 125
    wave = np.sin(2 * np.pi * 7.3 * t)[None]
    fine = upsampled(wave, 4)[0]
    expected = np.sin(2 * np.pi * 7.3 * np.arange(5000) / 500)
    np.testing.assert_allclose(fine[100:-100], expected[100:-100], atol=2e-3)
    np.testing.assert_allclose(fine[::4], wave[0], atol=1e-9)


def test_printed_signal_of_a_500_hz_record_is_the_record():
    record = beating_record()
    np.testing.assert_allclose(printed_signal(record, Preparation(), 10.0), record.mv, atol=1e-6)


def test_lines_cover_their_width():
    cover = line_coverage(800, 8.0, 1.0, 0.3, 0.13)
    assert cover.sum() / 100 == pytest.approx(0.13 * 8, abs=0.02)


@pytest.mark.parametrize("face", ["aileron", "stroke", "slab", "hand"])
def test_text_is_as_high_as_asked(face):
    text = render_text("V", FontStyle(face, 4.0), 10.0, np.random.default_rng(0))
    assert text.mask.shape[0] == pytest.approx(40, abs=14 if face == "hand" else 8)
    assert render_text("", FontStyle(face), 8.0).mask.shape == (1, 1)


@pytest.mark.parametrize("seed", range(10))
def test_pages_without_an_ecg(seed):
    for make in (blank_page, distractor_page):
        page = make(np.random.default_rng(seed))
        assert page.traces == ()
        assert page.layout.strips == ()
        assert page.rgb.tobytes() == make(np.random.default_rng(seed)).rgb.tobytes()


def test_all_choices_come_up():
    styles = [random_style(np.random.default_rng(k), smooth_record()) for k in range(400)]
    share = np.mean([s.name == "3x4+1" for s in styles])
    assert 0.35 < share < 0.55
    assert {s.geometry.speed_mm_per_s for s in styles} == {25.0, 50.0}
    assert {s.geometry.gain_mm_per_mv for s in styles} == {5.0, 10.0, 20.0}
    assert any(s.geometry.chest_gain_mm_per_mv for s in styles)
    assert {s.paper.grid.kind for s in styles} == {"lines", "fine", "dots", "heavy", "none"}
    assert {s.separators.kind for s in styles} == {"none", "tick", "line", "dotted", "double"}
    assert {s.labels.place for s in styles} == {"left", "above", "below", "inside"}
    assert {s.pulses.side for s in styles if s.pulses.rows} == {"left", "right"}
    assert {s.paper.copy for s in styles} == {"", "grey", "fax"}


def test_ink_starts_and_ends_where_its_curve_does():
    """Along the middle of level strokes, to a twelfth of a pixel: readers find starts to a hundredth of a mm."""
    rng, off = np.random.default_rng(0), []
    for _ in range(200):
        x0, radius, y = rng.uniform(10, 11), rng.uniform(0.8, 2.2), 20 + rng.uniform(-0.2, 0.2)
        acc = np.zeros((41, 80), np.float32)
        add_stroke(acc, np.array([x0, x0 + 20, x0 + 40]), np.full(3, y), 2 * radius)
        middle = coverage(acc)[20].astype(float)
        ink = middle / middle[30]
        off.append([30 - ink[:30].sum() - (x0 - radius), x0 + 40 + radius - (30 + ink[30:].sum())])
    assert np.abs(np.mean(off, axis=0) - 0.19).max() < 0.03  # a round pen's tip fills less than a pixel's height
    assert np.std(off, axis=0).max() < 1 / 12
