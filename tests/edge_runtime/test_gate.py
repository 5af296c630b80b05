from dataclasses import replace

import cv2
import numpy as np
import pytest
from fake_reader import PX_PER_MM as PX
from fake_reader import coarse_maps, layout_3x4, signal_3x4

from ecg.leads import LEAD_INDEX
from ecg.page import Decided, EcgSignal, GateFinding, LeadStrip, PageLayout, Photo, Reading, Sheet, Unreadable
from edge_runtime.decoder import RowTrace
from edge_runtime.gate import gate_frame, gate_photo, gate_reading, gated, refusals, trust
from edge_runtime.gate_leads import contradictions, einthoven_error, repeat_error
from edge_runtime.gate_measures import Area, PhotoMeasures, coarse_area, measure, page_area
from edge_runtime.signals import assemble

GOOD = PhotoMeasures(
    px_per_mm=6.0, ecg_probability=0.98, blur_mm=0.3, paper_level=190.0, contrast=90.0, clipped_share=0.0,
    glare_share=0.0, glare_side="", tilt=1.05, cut=(), turn_gain=0.8,
)  # fmt: skip
QUALITY = {
    "coverage": 1.0, "confidence": 0.95, "filled": 0.0, "grid": 0.95, "lattice_residual_mm": 0.06, "px_per_mm": 6.0,
    "ecg_probability": 0.98, "einthoven_error": 0.1, "repeat_error": 0.15,
}  # fmt: skip


def codes(findings: tuple[GateFinding, ...]) -> list[str]:
    return [f.code for f in findings]


def grid_photo(width: int = 1700, height: int = 1000) -> np.ndarray:
    """Paper with a grid at 6 px/mm and a zigzag on it."""
    rgb = np.full((height, width, 3), 205, np.uint8)
    rgb[:: int(PX)] = (205, 165, 165)
    rgb[:, :: int(PX)] = (205, 165, 165)
    for row in range(4):
        x = np.arange(60, width - 60, 9)
        y = 200 + 150 * row + 60 * (np.arange(len(x)) % 11 == 0)
        cv2.polylines(rgb, [np.stack([x, y], -1).astype(np.int32).reshape(-1, 1, 2)], False, (30, 30, 35), 2)
    return rgb


def reading(**quality: float) -> Reading:
    step = 5.0 * PX
    nodes = np.stack(np.meshgrid(np.arange(57) * step, np.arange(34) * step), axis=-1).astype(np.float32)
    return Reading(Sheet(nodes), layout_3x4(), signal_3x4(), {**QUALITY, **quality})


def fake_coarse(probability: float = 0.98, *, shape: tuple[int, int] = (1000, 1700)) -> object:
    """A coarse net that sees the ECG in the middle of the picture."""

    def run(planes: np.ndarray) -> dict[str, np.ndarray]:
        assert planes.shape == (1, 3, 512, 512)
        return coarse_maps(probability, shape)

    return run


# ------------------------------------------------------------------------------------------------------------- frames


def test_good_frame_is_green() -> None:
    assert gate_frame(GOOD) == ()
    assert gate_photo(GOOD) == ()


@pytest.mark.parametrize(
    ("changes", "code", "advice"),
    [
        ({"paper_level": 20.0}, "too_dark", "light"),
        ({"clipped_share": 0.9, "contrast": 40.0}, "too_bright", "less light"),
        ({"px_per_mm": 1.9}, "too_small", "move closer"),
        ({"px_per_mm": 1.9, "turn_gain": 1.6}, "too_small", "turn"),
        ({"cut": ("top",)}, "cut_off", "page cut off at the top"),
        ({"cut": ("left",)}, "cut_off", "page cut off on the left"),
        ({"cut": ("left", "top", "right")}, "cut_off", "move back"),
        ({"glare_share": 0.06, "glare_side": "right"}, "glare", "glare on the right"),
        ({"glare_share": 0.06, "glare_side": "middle"}, "glare", "glare in the middle"),
        ({"tilt": 1.7}, "tilted", "straight above"),
        ({"blur_mm": 1.1}, "blurred", "hold still"),
        ({"contrast": 10.0}, "low_contrast", "faint"),
        ({"ecg_probability": 0.2}, "not_an_ecg", "show the printed ECG"),
    ],
)
def test_frame_doubts_name_what_to_do(changes: dict[str, object], code: str, advice: str) -> None:
    (finding,) = gate_frame(replace(GOOD, **changes))
    assert finding.code == code
    assert advice in finding.advice
    assert finding.severity == "refuse"
    assert all(f.severity == "warn" for f in gate_photo(replace(GOOD, **changes)))


def test_moving_frame_waits() -> None:
    assert codes(gate_frame(GOOD, motion=0.03)) == ["moving"]
    assert gate_frame(GOOD, motion=0.001) == ()


def test_unknown_measures_raise_no_doubt() -> None:
    assert gate_frame(replace(GOOD, blur_mm=float("nan"), tilt=float("nan"))) == ()


def test_scans_with_white_paper_are_not_too_bright() -> None:
    assert gate_frame(replace(GOOD, clipped_share=0.9, contrast=160.0, paper_level=255.0)) == ()


# ----------------------------------------------------------------------------------------------------------- measures


def middle_area(rgb: np.ndarray) -> Area:
    return coarse_area(Photo(rgb), fake_coarse(shape=rgb.shape[:2]))


def test_coarse_area_tells_size_and_angle() -> None:
    area = middle_area(grid_photo())
    assert area.px_per_mm == pytest.approx(PX, rel=0.01)
    assert area.angle_rad == pytest.approx(0.0)
    assert area.ecg_probability == pytest.approx(0.98, abs=0.01)
    assert area.cut == ()


def test_blur_grows_with_the_lens_out_of_focus() -> None:
    rgb = grid_photo()
    area = middle_area(rgb)
    blurs = [measure(Photo(cv2.GaussianBlur(rgb, (0, 0), s) if s else rgb), area).blur_mm for s in (0.0, 2.0, 4.0, 7.0)]
    assert blurs == sorted(blurs)
    assert blurs[0] < 0.35
    assert blurs[2] > 0.55


def test_lines_of_one_direction_have_a_blur_too() -> None:
    rgb = np.full((1000, 1700, 3), 200, np.uint8)
    rgb[::12] = 60
    area = middle_area(rgb)
    assert np.isfinite(measure(Photo(rgb), area).blur_mm)
    assert np.isnan(measure(Photo(np.full_like(rgb, 200)), area).blur_mm)


def test_glare_is_found_with_its_side() -> None:
    rgb = grid_photo()
    area = middle_area(rgb)
    assert measure(Photo(rgb), area).glare_share == 0.0
    cv2.circle(rgb, (1350, 500), 120, (255, 255, 255), -1)
    m = measure(Photo(rgb), area)
    assert m.glare_share > 0.02
    assert m.glare_side == "right"


def test_light_and_contrast_are_measured_on_the_page() -> None:
    rgb = grid_photo()
    area = middle_area(rgb)
    assert measure(Photo(rgb), area).paper_level == pytest.approx(200, abs=12)
    dark = measure(Photo((rgb * 0.15).astype(np.uint8)), area)
    assert dark.paper_level < 50


def test_page_area_sees_the_cut_edge() -> None:
    r = reading()
    whole = page_area(Photo(grid_photo()), r.sheet, r.layout, PX, 0.98)
    assert whole.cut == ()
    assert whole.cells.any()
    cut = page_area(Photo(grid_photo(1200)), r.sheet, r.layout, PX, 0.98)
    assert cut.cut == ("right",)


def test_tilt_is_the_ratio_of_scales() -> None:
    r = reading()
    y, x = np.mgrid[0:34, 0:57].astype(np.float32)
    scale = 1 - 0.006 * x
    nodes = np.stack([30 * (x - 0.003 * x * x), 30 * y * scale], axis=-1)
    area = page_area(Photo(grid_photo()), Sheet(nodes.astype(np.float32)), r.layout, PX, 0.98)
    assert measure(Photo(grid_photo()), area).tilt > 1.2


# ---------------------------------------------------------------------------------------------------------- readings


def test_good_reading_passes() -> None:
    assert gate_reading(reading()) == ()


@pytest.mark.parametrize(
    ("quality", "code", "severity"),
    [
        ({"confidence": 0.2}, "traces_unsure", "refuse"),
        ({"coverage": 0.7}, "gaps", "warn"),
        ({"lattice_residual_mm": 0.6}, "grid_lost", "refuse"),
        ({"lattice_residual_mm": 0.3}, "grid_rough", "warn"),
        ({"grid": 0.2}, "grid_unseen", "warn"),
        ({"einthoven_error": 0.9}, "leads_contradict", "refuse"),
        ({"einthoven_error": 0.4}, "leads_contradict", "warn"),
        ({"repeat_error": 1.3}, "rhythm_contradicts", "warn"),
        ({"repeat_error": 1.3, "einthoven_error": 0.5}, "rhythm_contradicts", "refuse"),
        ({"repeat_error": 1.3, "einthoven_error": -1.0, "lattice_residual_mm": 0.3}, "rhythm_contradicts", "refuse"),
    ],
)
def test_reading_doubts(quality: dict[str, float], code: str, severity: str) -> None:
    found = {f.code: f.severity for f in gate_reading(reading(**quality))}
    assert found[code] == severity


def test_rhythm_strip_of_another_time_never_refuses_alone() -> None:
    assert not refusals(gate_reading(reading(repeat_error=1.4)))


def test_lone_lead_needs_a_grid() -> None:
    r = reading(grid=0.3)
    lone = replace(r, layout=replace(r.layout, name="1x1-II", strips=r.layout.strips[:1]))
    assert refusals(gate_reading(lone))[0].code == "layout_unknown"
    assert not refusals(gate_reading(replace(lone, quality=QUALITY)))


@pytest.mark.parametrize(
    ("how", "confidence", "severity"),
    [("default", 0.55, "refuse"), ("layout", 0.6, "refuse"), ("text", 0.55, "warn"), ("default", 0.7, "warn")],
)
def test_custom_alone_never_overrules_the_page(how: str, confidence: float, severity: str) -> None:
    r = reading()
    doubted = replace(r, layout=replace(r.layout, decided={"gain": Decided(how, confidence)}))
    assert {f.code: f.severity for f in gate_reading(doubted)} == {"scale_unsure": severity}


@pytest.mark.parametrize(
    ("grid", "residual", "refused"), [(0.7, 0.16, True), (0.7, 0.12, False), (0.9, 0.16, False), (0.9, 0.45, True)]
)
def test_a_faint_grid_has_to_be_followed_well(grid: float, residual: float, refused: bool) -> None:
    found = refusals(gate_reading(reading(grid=grid, lattice_residual_mm=residual)))
    assert [f.code for f in found] == (["grid_lost"] if refused else [])


@pytest.mark.parametrize(
    ("grid", "gain_by", "refused"),
    [(0.48, "default", True), (0.9, "default", False), (0.48, "text", False), (0.48, "override", False)],
)
def test_a_scale_that_neither_grid_nor_print_tells_is_refused(grid: float, gain_by: str, refused: bool) -> None:
    r = reading(grid=grid)
    decided = {"paper_speed": Decided("layout", 0.95), "gain": Decided(gain_by, 0.9)}
    found = gate_reading(replace(r, layout=replace(r.layout, decided=decided)))
    assert [f.code for f in refusals(found)] == (["scale_unsure"] if refused else [])


def test_gated_makes_refusals_unreadable_and_keeps_the_doubts() -> None:
    photo, coarse = Photo(grid_photo()), fake_coarse()
    good = gated(photo, reading(), coarse)
    assert isinstance(good, Reading)
    assert 0.3 < good.quality["trust"] <= 1.0
    bad = gated(photo, reading(einthoven_error=0.9), coarse)
    assert isinstance(bad, Unreadable)
    assert (bad.stage, bad.reason) == ("gate", "leads_contradict")
    assert "leads_contradict" in codes(bad.gate)
    refused = gated(Photo((grid_photo() * 0.1).astype(np.uint8)), Unreadable("finder", "x", "y"), fake_coarse(0.1))
    assert isinstance(refused, Unreadable)
    assert {"too_dark", "not_an_ecg"} <= set(codes(refused.gate))
    assert not refusals(refused.gate)


def test_trust_falls_with_every_doubt() -> None:
    best = trust(QUALITY)
    for worse in ({"confidence": 0.5}, {"einthoven_error": 0.5}, {"repeat_error": 0.9}, {"lattice_residual_mm": 0.3},
                  {"grid": 0.4}, {"coverage": 0.6}):  # fmt: skip
        assert trust({**QUALITY, **worse}) < best
    assert 0.0 <= trust({**QUALITY, "confidence": 0.0}) <= best <= 1.0


# -------------------------------------------------------------------------------------------- leads that contradict


def limb_signal(third_is: float = 1.0) -> EcgSignal:
    t = np.arange(1250) / 500.0
    one, two = np.sin(2 * np.pi * 1.3 * t) ** 15, 1.4 * np.sin(2 * np.pi * 1.3 * t + 0.2) ** 15
    mv = np.full((12, 1250), np.nan, np.float32)
    mv[:3] = one + 0.2, two - 0.1, third_is * (two - one)
    return EcgSignal(mv, 500.0, np.ones_like(mv), np.zeros(mv.shape, bool))


def test_einthoven_error_is_small_where_leads_agree() -> None:
    assert einthoven_error(limb_signal()) < 0.02  # zero lines are arbitrary
    assert einthoven_error(limb_signal(-1.0)) > 0.5


def test_einthoven_error_unknown_without_the_leads() -> None:
    signal = limb_signal()
    mv = np.array(signal.mv)
    mv[2] = np.nan
    assert einthoven_error(EcgSignal(mv, 500.0, signal.confidence, signal.filled)) == -1.0


def rows_of(shift_mm: float = 0.0, same: bool = True) -> tuple[tuple[RowTrace, ...], PageLayout]:
    """A short II and a rhythm strip II, read from one heart or from two."""
    short = LeadStrip("II", 0, 10.0, 72.5, 40.0, 0.0, 10.0)
    long = LeadStrip("II", 1, 10.0, 260.0, 80.0, 0.0, 10.0)
    layout = PageLayout("3x4+1", 25.0, 10.0, (short, long))

    def beat(x: np.ndarray, rate: float) -> np.ndarray:
        return np.sin(np.pi * rate * (x - 10.0) / 25.0) ** 31

    out = []
    for strip, rate, shift in ((short, 1.2, 0.0), (long, 1.2 if same else 1.9, shift_mm)):
        x = np.arange(strip.x0_mm - 3, strip.x1_mm + 3, 0.125)
        y = strip.baseline_mm - 10.0 * beat(x - shift, rate)
        out.append(RowTrace((strip,), x, y, np.ones(len(x), np.float32), np.ones(len(x), np.float32)))
    return tuple(out), layout


def test_repeat_error_compares_what_is_printed_twice() -> None:
    assert repeat_error(*rows_of()) < 0.05
    assert repeat_error(*rows_of(shift_mm=0.4)) < 0.15  # half a millimetre of the lattice is no contradiction
    assert repeat_error(*rows_of(same=False)) > 0.7


def test_repeat_error_unknown_where_nothing_is_printed_twice() -> None:
    rows, layout = rows_of()
    assert repeat_error(rows[1:], layout) == -1.0


def test_contradictions_are_quality_figures() -> None:
    rows, layout = rows_of()
    signal = assemble(rows, layout)
    assert np.isfinite(signal.mv[LEAD_INDEX["II"]]).any()
    assert set(contradictions(rows, layout, signal)) == {"repeat_error", "einthoven_error"}
