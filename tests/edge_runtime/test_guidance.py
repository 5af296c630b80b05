from ecg.page import GateFinding
from edge_runtime.guidance import GREEN, Guide, words

DARK = GateFinding("too_dark", "too dark: more light on the page", 20.0, 50.0, "refuse")
GLARE = GateFinding("glare", "glare on the right: tilt the page", 0.1, 0.02, "refuse")


def test_the_most_pressing_doubt_is_said() -> None:
    assert words((DARK, GLARE)) == DARK.advice
    assert words(()) == GREEN


def test_advice_is_held_long_enough_to_read() -> None:
    guide = Guide(hold_s=0.8)
    assert guide.line((DARK,), 0.0) == DARK.advice
    assert guide.line((GLARE,), 0.3) == DARK.advice
    assert guide.line((GLARE,), 0.9) == GLARE.advice


def test_green_shows_at_once() -> None:
    guide = Guide(hold_s=5.0)
    guide.line((DARK,), 0.0)
    assert guide.line((), 0.1) == GREEN
