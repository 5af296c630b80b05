"""One page of PDF 1.4 drawn in millimetres from its top left corner, y down: lines, curves of points, text.

PDF 32000-1:2008.  Text is Helvetica, one of the fonts that every reader has, in Latin-1; the content is vectors alone.
Written here and not by a library, so that the report needs nothing installed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

PT_PER_MM: Final = 72 / 25.4
Colour = tuple[float, float, float]  # red, green, blue 0..1
BLACK: Final[Colour] = (0.0, 0.0, 0.0)
# Mean width of Helvetica's letters over the font's size: good enough to cut a line that is too long.
_MEAN_WIDTH: Final = 0.52


class Canvas:
    """What is drawn on one page of ``width_mm`` by ``height_mm``; ``pdf`` gives the file."""

    def __init__(self, width_mm: float, height_mm: float) -> None:
        self.width_mm, self.height_mm = width_mm, height_mm
        self._ops: list[str] = []

    def lines(self, ends_mm: Iterable[tuple[float, float, float, float]], width_mm: float, colour: Colour) -> None:
        """Straight lines (x0, y0, x1, y1), one stroke."""
        path = " ".join(f"{a:.3f} {b:.3f} m {c:.3f} {d:.3f} l" for a, b, c, d in ends_mm)
        self._ops.append(f"{_rgb(colour)} RG {width_mm:.3f} w {path} S")

    def polyline(self, x_mm: NDArray[np.floating], y_mm: NDArray[np.floating], width_mm: float, colour: Colour) -> None:
        """A line through the points (n,), round at its joints."""
        points = [f"{x:.3f} {y:.3f}" for x, y in zip(x_mm.tolist(), y_mm.tolist(), strict=True)]
        if len(points) == 1:
            points *= 2  # a dot: round caps show it
        self._ops.append(f"{_rgb(colour)} RG {width_mm:.3f} w 1 J 1 j {points[0]} m {' l '.join(points[1:])} l S")

    def clip(self, x0_mm: float, y0_mm: float, x1_mm: float, y1_mm: float) -> None:
        """Draw inside this rectangle only, until ``unclip``."""
        self._ops.append(f"q {x0_mm:.3f} {y0_mm:.3f} {x1_mm - x0_mm:.3f} {y1_mm - y0_mm:.3f} re W n")

    def unclip(self) -> None:
        """End of ``clip``."""
        self._ops.append("Q")

    def text(
        self, x_mm: float, y_mm: float, text: str, size_mm: float, *, bold: bool = False, fit_mm: float | None = None,
        colour: Colour = BLACK,
    ) -> None:  # fmt: skip
        """A line of text, its baseline at y_mm; letters outside Latin-1 become "?", what exceeds fit_mm is cut."""
        if fit_mm is not None:
            n = max(4, int(fit_mm / (size_mm * _MEAN_WIDTH)))
            text = text if len(text) <= n else text[: n - 3] + "..."
        plain = "".join(c if c.isprintable() else " " for c in text).encode("latin-1", "replace").decode("latin-1")
        escaped = plain.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
        font = "F2" if bold else "F1"
        # The page is upside down (y down): the text matrix turns its letters back.
        self._ops.append(f"BT {_rgb(colour)} rg /{font} {size_mm:.3f} Tf 1 0 0 -1 {x_mm:.3f} {y_mm:.3f} Tm")
        self._ops.append(f"({escaped}) Tj ET")

    def pdf(self, title: str, producer: str, when: datetime) -> bytes:
        """The file's bytes.  Readers are asked to print it unscaled."""
        width, height = self.width_mm * PT_PER_MM, self.height_mm * PT_PER_MM
        to_points = f"{PT_PER_MM:.9f} 0 0 {-PT_PER_MM:.9f} 0 {height:.6f} cm"
        content = zlib.compress("\n".join([to_points, *self._ops]).encode("latin-1"), 6)
        font = "<< /Type /Font /Subtype /Type1 /BaseFont /%s /Encoding /WinAnsiEncoding >>"
        objects = [
            b"<< /Type /Catalog /Pages 2 0 R /ViewerPreferences << /PrintScaling /None >> >>",
            b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width:.6f} {height:.6f}] /Contents 4 0 R "
            "/Resources << /Font << /F1 5 0 R /F2 6 0 R >> >> >>".encode(),
            b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(content), content),
            (font % "Helvetica").encode(),
            (font % "Helvetica-Bold").encode(),
            f"<< /Title ({title}) /Producer ({producer}) /CreationDate ({_date(when)}) >>".encode("latin-1"),
        ]
        return _file(objects)


def _rgb(colour: Colour) -> str:
    return " ".join(f"{c:.3g}" for c in colour)


def _date(when: datetime) -> str:
    zone = when.strftime("%z") or "+0000"
    return f"D:{when:%Y%m%d%H%M%S}{zone[:3]}'{zone[3:5]}'"


def _file(objects: list[bytes]) -> bytes:
    """Objects 1.. with their cross-reference table; the first is the catalogue, the last the information."""
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    table = bytearray(b"0000000000 65535 f \n")
    for number, body in enumerate(objects, start=1):
        table += b"%010d 00000 n \n" % len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    count = len(objects) + 1
    start = len(out)
    out += b"xref\n0 %d\n%s" % (count, bytes(table))
    out += b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (count, count - 1, start)
    return bytes(out)
