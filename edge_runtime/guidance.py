"""What to tell whoever holds the camera: one short line at a time, steady enough to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ecg.page import GateFinding

GREEN: Final = "hold still: taking the picture"
HOLD_S: Final = 0.8  # a line stays this long before another advice takes its place


def words(findings: Sequence[GateFinding]) -> str:
    """The advice for the most pressing doubt; what to do when there is none."""
    return findings[0].advice if findings else GREEN


class Guide:
    """The line that is shown, held for a while so that it doesn't flicker between two doubts."""

    def __init__(self, hold_s: float = HOLD_S) -> None:
        self._hold_s = hold_s
        self._line, self._since_s = "", -1e9

    def line(self, findings: Sequence[GateFinding], now_s: float) -> str:
        """The line to show at a time in seconds; green shows at once, another advice after ``hold_s``."""
        wanted = words(findings)
        if wanted != self._line and (not findings or now_s - self._since_s >= self._hold_s):
            self._line, self._since_s = wanted, now_s
        return self._line
