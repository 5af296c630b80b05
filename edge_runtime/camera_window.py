"""The camera's window: the picture, where the ECG is seen, and the line of guidance."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Final

import cv2
import numpy as np

from ecg.marks import COARSE_PX
from ecg.page import U8
from edge_runtime.camera_glance import Glance
from edge_runtime.camera_sources import CameraError

TITLE: Final = "ecgscan"
MAX_SIDE_PX: Final = 1100
GREEN, AMBER, WHITE = (60, 170, 60), (30, 120, 220), (255, 255, 255)  # BGR
QUIT_KEYS: Final = (27, ord("q"))
TAKE_KEYS: Final = (32, 13)


def check_window() -> None:
    """Raise ``CameraError`` in one line where no window can be shown."""
    gui = [line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")]
    if gui and gui[0].split(":", 1)[1].strip() == "NONE":
        raise CameraError(
            "the camera's window needs opencv-python instead of opencv-python-headless; or use --headless", again=False
        )
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise CameraError("there is no display for the camera's window; use --headless", again=False)


def picture(rgb: U8, look: Glance | None, line: str) -> U8:
    """What the window shows, BGR: the frame, at most ``MAX_SIDE_PX``, the ECG's outline and the line below."""
    f = min(1.0, MAX_SIDE_PX / max(rgb.shape[:2]))
    size = max(1, round(rgb.shape[1] * f)), max(1, round(rgb.shape[0] * f))
    out = cv2.cvtColor(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    colour = GREEN if look is not None and look.green else AMBER
    if look is not None and look.area.cells.any():
        side = round(COARSE_PX / look.area.factor * f)
        mask = cv2.resize(look.area.cells.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
        mask = mask[: size[1], : size[0]]
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(out, outlines, -1, colour, 3)
    bar = np.full((48, size[0], 3), colour, np.uint8)
    width = cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 2)[0][0]
    scale = min(0.9, (size[0] - 24) / max(width, 1))
    cv2.putText(bar, line, (12, 32), cv2.FONT_HERSHEY_SIMPLEX, scale, WHITE, 2, cv2.LINE_AA)
    return np.asarray(np.concatenate([np.asarray(out, np.uint8), bar]), dtype=np.uint8)


class Window:
    """The window itself, closed by ``with``."""

    def __enter__(self) -> Window:
        check_window()
        cv2.namedWindow(TITLE, cv2.WINDOW_AUTOSIZE)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        cv2.destroyAllWindows()  # destroyWindow fails where the user closed it

    def show(self, rgb: U8, look: Glance | None, line: str) -> str:
        """Show a frame; "quit" for Esc, q or the window's close button, "take" for space or Enter, else ""."""
        cv2.imshow(TITLE, picture(rgb, look, line))
        key = cv2.waitKey(1) & 0xFF
        closed = cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1
        return "quit" if closed or key in QUIT_KEYS else "take" if key in TAKE_KEYS else ""
