import numpy as np

from ecg.page import LeadStrip, PageLayout, Sheet
from ecg.page_input import HALF_ROW_MV, PAGE_HEIGHT_PX, PAGE_WIDTH_PX, PX_PER_MV, PX_PER_S, ROW_PX, page_input


def _page(lead: str, speed: float, gain: float, mv: float) -> np.ndarray:
    """A page at 10 px/mm with one flat trace ``mv`` above its baseline at y = 40 mm, from x = 20 mm on."""
    rgb = np.full((800, 2000, 3), 235, np.uint8)
    rgb[::50] = (235, 150, 150)  # a red grid
    y = round((40 - mv * gain) * 10)
    rgb[y - 2 : y + 3, 200:1450] = 20
    nodes = np.stack(np.meshgrid(np.arange(41) * 50.0 - 0.5, np.arange(17) * 50.0 - 0.5), axis=-1).astype(np.float32)
    strip = LeadStrip(lead, 0, 20.0, 145.0, 40.0, 0.0, gain)
    return page_input(rgb, Sheet(nodes), PageLayout("partial", speed, gain, (strip,)))


def _height_mv(ink: np.ndarray, row: int, column: int) -> float:
    cut = ink[row * ROW_PX : (row + 1) * ROW_PX, column].astype(float)
    cut[cut < 0.7 * cut.max()] = 0  # the grid, fainter than the pen
    return HALF_ROW_MV - (float((cut * np.arange(ROW_PX)).sum() / cut.sum()) + 0.5) / PX_PER_MV


def test_a_level_lands_at_its_millivolts_whatever_speed_and_gain():
    for speed, gain in ((25.0, 10.0), (50.0, 10.0), (25.0, 5.0), (50.0, 20.0)):
        ink = _page("V2", speed, gain, 0.8)
        assert ink.shape == (PAGE_HEIGHT_PX, PAGE_WIDTH_PX)
        assert abs(_height_mv(ink, 7, 100) - 0.8) < 0.05
        last = int(125 / speed * PX_PER_S)
        others = np.delete(ink.reshape(12, ROW_PX, PAGE_WIDTH_PX), 7, axis=0)
        assert not others.any()
        assert not ink[:, last + 2 :].any()


def test_a_lead_printed_upside_down_is_turned_back():
    assert abs(_height_mv(_page("-aVR", 25.0, 10.0, 0.5), 3, 50) + 0.5) < 0.05


def test_a_coloured_grid_leaves_no_ink():
    ink = _page("I", 25.0, 10.0, 1.0)[:ROW_PX]
    assert np.median(ink[40:, 10:300]) < 10
