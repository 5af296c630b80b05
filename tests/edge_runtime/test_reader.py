"""When a page's texts beyond the view make a second layout worth its time."""

from __future__ import annotations

import pytest

from ecg.page import Decided, Mark, PageLayout
from edge_runtime.reader import _confirm, _open_scale


def layout(speed_sure: float = 0.978, gain_sure: float = 0.999, chest: float | None = None) -> PageLayout:
    decided = {"paper_speed": Decided("pulse", speed_sure), "gain": Decided("pulse", gain_sure)}
    return PageLayout("3x4", 25.0, 10.0, (), chest, decided=decided)


def text(kind: str, score: float = 0.97) -> Mark:
    return Mark(kind, 0.0, 0.0, score)


def test_a_five_millimetre_pulse_alone_leaves_the_speed_open():
    """Some machines print it at 50 mm/s too."""
    assert _open_scale(layout())
    assert not _open_scale(layout(speed_sure=0.995))


@pytest.mark.parametrize(
    ("texts", "page", "same"),
    [
        ((text("speed:25"), text("gain:10")), layout(), True),
        ((text("speed:25"), text("gain:20", 0.6)), layout(), True),
        ((text("speed:50"), text("gain:10")), layout(), False),
        ((text("speed:25", 0.7),), layout(), False),
        ((text("speed:25"),), layout(speed_sure=0.7), False),
        ((text("gain:10"),), layout(chest=5.0), False),
    ],
)
def test_only_sure_texts_that_say_the_same_confirm(texts, page, same):
    assert _confirm(texts, page) is same
