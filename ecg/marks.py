"""What the finder's maps mean: the kinds of marks, the channels of each output, the sizes of its inputs."""

from __future__ import annotations

from typing import Final

from ecg.leads import LEADS, STROKE_LEADS

COARSE_PX: Final = 512  # side of the letterboxed thumbnail
COARSE_STRIDE: Final = 16
COARSE_REF_PX_PER_MM: Final = 2.0  # the scale channel holds log2(thumbnail px per mm / this)
FINE_PAD: Final = 32  # the fine finder's coarsest stride: its pictures' sides are multiples of it
FINE_LEAST_PX, FINE_MOST_PX = 64, 2_600_000  # a side and a whole picture that it is shown
FINE_STRIDE: Final = 4  # one cell of the fine maps is one millimetre at ecg.geometry.VIEW_PX_PER_MM
LEAD_KINDS: Final = tuple(f"lead:{name}" for name in (*LEADS, "-aVR"))
STROKE_KINDS: Final = tuple(f"lead:{name}" for name in STROKE_LEADS)
TEXT_KINDS: Final = ("speed:25", "speed:50", "gain:5", "gain:10", "gain:20")
MARK_KINDS: Final = (*LEAD_KINDS, "start", "end", "pulse", *TEXT_KINDS)

# cos2 and sin2 (of twice the angle) tell the rows' direction where the way up is open, which cos and sin then tell.
COARSE_CHANNELS: Final = ("paper", "ecg", "cos", "sin", "log2_scale", "cos2", "sin2")
GRID_CHANNELS: Final = ("cos_x", "sin_x", "cos_y", "sin_y")
AREA_CHANNELS: Final = ("paper", "trace")
# Where in its cell a mark lies (cells, from the centre): for names, texts and pulses; for starts and ends.  And a
# pulse's size, log2(mm / 10).
PLACE_CHANNELS: Final = ("dx_text", "dy_text", "dx_end", "dy_end", "log2_width", "log2_height")
END_KINDS: Final = ("start", "end")
PULSE_REF_MM: Final = 10.0

STRIP_CHANNELS: Final = ("red", "green", "blue", "other_rows_above_128")  # the last: ecg.other_rows.as_told
STRIP_ROWS: Final = 224  # rows of a decoder strip
STRIP_COLUMNS: Final = 512  # columns of a training strip; the runtime's tiles are as wide, and read up to three at once
STRIP_HALF_HEIGHT_MM: Final = 28.0  # at 10 mm/mV
STRIP_LEAST_HALF_MM: Final = 12.0  # of a window fitted to low traces
STRIP_TALLER: Final = 1.5  # times as high: the window that deflections beyond the usual one are read in
STRIP_ROW_STRIDE: Final = 2  # the decoder's distribution has a bin every second row
# Columns a millimetre: 200 samples a second at 25 mm/s (FIELD: 8 px/mm cost less than 1 dB), 250 at 50 mm/s.
STRIP_PX_PER_MM_X: Final = {25.0: 8.0, 50.0: 5.0}


def strip_half_height_mm(gain_mm_per_mv: float) -> float:
    """Half the height of a strip's window: larger gains need more room, within limits."""
    return STRIP_HALF_HEIGHT_MM * min(max(gain_mm_per_mv / 10.0, 0.7), 1.5)


# The mark reader's input: a patch around something that looks like a name or a text, upright, the brightest channel.
PATCH_PX_PER_MM: Final = 8.0
PATCH_HEIGHT: Final = 40
PATCH_WIDTH: Final = 224
SPLIT_GAIN: Final = "gain:10/5"
READ_KINDS: Final = (*LEAD_KINDS, *TEXT_KINDS, SPLIT_GAIN, "other")

# The start reader's input: a patch along the lattice around the place where a trace is thought to start or to end.
START_SIDE: Final = 96  # columns, and rows
START_PX_PER_MM: Final = (12.0, 8.0)  # along the trace, and across
START_BIN_MM: Final = 0.02
START_BINS: Final = 101  # where the place really is, seen from the patch's middle; and one answer more: not here
START_OFFSETS_MM: Final = tuple(round((k - START_BINS // 2) * START_BIN_MM, 2) for k in range(START_BINS))
