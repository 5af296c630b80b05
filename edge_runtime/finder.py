"""The finder: where the page lies in the photo, its grid as a lattice, and what is printed where.

Coarse: a thumbnail tells paper from background, the direction of the time axis and the size of a millimetre.  Fine:
an upright view at 4 px/mm gives the grid's phases, the trace's ink and marks (lead names, starts, pulses, text).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.geometry import VIEW_PX_PER_MM, View, render_view, view_around
from ecg.marks import (
    COARSE_STRIDE,
    END_KINDS,
    FINE_MOST_PX,
    FINE_PAD,
    FINE_STRIDE,
    MARK_KINDS,
)
from ecg.page import F32, LATTICE_MM, Mark, Photo, Sheet, TraceMap, Unreadable
from edge_runtime.coarse import Folded, area_pose, folded, look, planes, sigmoid
from edge_runtime.engines.base import Engine
from edge_runtime.fine_lines import PaperLines, even_field, paper_lines
from edge_runtime.flattened import looked_flat, stands_steep
from edge_runtime.lattice import (
    RAD_PER_MM,
    SURE,
    Field,
    field_to_sheet,
    grid_certainty,
    mean_gradient,
    unwrap_grid,
)
from edge_runtime.mark_reader import Places, legible, read_marks, read_places
from edge_runtime.view_marks import find_marks, trace_map

MIN_ECG_PROBABILITY = 0.35
MIN_PX_PER_MM = 1.6  # FIELD 4: below two px/mm no trace is worth reading
LEGIBLE = 3.5  # lead names read, by their probabilities, that leave no doubt of the way up
READABLE = ("lead:", "speed:", "gain:")
GRID_SHOWS = 0.5  # mean certainty of the grid around the traces
# Below, the view may show it at half its size or twice it, which leaves some certainty, but phases that don't fit.
GRID_FITS, FITS_MM = 0.7, 0.2
PROBE_PX = 320  # view px: 80 mm, heavy lines enough to tell how the page lies
PROBE_SEEN = 0.3  # of its cells
PROBE_OFF = (0.03, np.radians(1.5))  # log of scale and turn that are worth another view
FIELD_OFF = (0.1, np.radians(7))  # and worth another look at the whole view
SURE_NAMES = 6.5  # lead names seen that no page upside down shows
ROWS_SURE = 0.8  # coherence of the rows' direction from which they don't run across
TOLD = 1.0  # names, texts and pulses, by score, that stand in for a grid
UNLIKE_MM = 0.12  # what the net leaves of its phases where it can't tell a box's lines apart, and seldom elsewhere
EVEN_MM = 0.055  # what 1 mm lines may leave of theirs: on crumpled paper that leaves more whole millimetres are lost
EVEN_WORTH = 2.0  # in lead names read: that such lines show at a size
OTHER_SIZES = (0.6, 1.65, 2.3)
VIEW_MARGIN_MM = 10.0
PAPER = 0.5  # probability of a thumbnail's cell


@dataclass(frozen=True, eq=False)
class Pose:
    """Where the ECG lies: photo px per mm, the time axis' angle, how alike all places see it, and the view on it."""

    px_per_mm: float
    angle_rad: float
    coherence: float
    ecg_probability: float
    view: View
    around_px: NDArray[np.floating]  # (n, 2) photo px: corners of the thumbnail's cells that show an ECG
    paper_px: NDArray[np.floating]  # (n, 2) photo px: the same of cells that show paper
    row_coherence: float = 0.0  # how alike they see the rows' direction, either way along them
    decided: str = "page"  # "names" where only the readable lead names told the way up


@dataclass(frozen=True, eq=False)
class Maps:
    """The fine finder's outputs over a view, a cell a millimetre: (C, h, w) each, logits turned into probabilities."""

    view: View
    grid: F32
    paper: F32
    trace: F32
    marks: F32
    place: F32


@dataclass(frozen=True, eq=False)
class Found:
    """What the finder hands on: the sheet, marks and ink in page mm, and how well the grid was seen."""

    sheet: Sheet
    marks: tuple[Mark, ...]
    trace_map: TraceMap
    pose: Pose
    grid_seen: float


def find_pose(photo: Photo, coarse: Engine) -> Pose | Unreadable:
    """Thumbnail to pose, or why there is none."""
    strip = folded(photo)
    seen = look(strip.photo, coarse)
    if seen.best < MIN_ECG_PROBABILITY:
        return Unreadable("finder", "not_an_ecg",
                          "no ECG found in the picture: fill the frame with the page, in even light")  # fmt: skip
    weight = np.where(seen.ecg > 0.5 * seen.best, seen.ecg, np.float32(0))
    lies = area_pose(seen, weight)
    if lies.px_per_mm < MIN_PX_PER_MM:
        return Unreadable("finder", "too_small",
                          f"the page shows at {lies.px_per_mm:.1f} px/mm, at least {MIN_PX_PER_MM} are needed: "
                          "move closer or use the original picture")  # fmt: skip
    points = _corners_px(strip, weight > 0, seen.factor)
    paper = _corners_px(strip, (sigmoid(seen.maps[0]) > PAPER) | (weight > 0), seen.factor)
    view = bounded(view_around(points, lies.px_per_mm, lies.angle_rad, VIEW_MARGIN_MM))
    return Pose(lies.px_per_mm, lies.angle_rad, lies.coherence, seen.best, view, points, paper, lies.row_coherence)


def _corners_px(strip: Folded, cells: NDArray[np.bool_], factor: float) -> NDArray[np.floating]:
    """Photo px (n, 2) of the corners of the thumbnail's cells (32, 32) that are on."""
    rows, columns = np.nonzero(cells)
    edge = np.concatenate([np.stack([columns + dx, rows + dy], -1) for dx in (0, 1) for dy in (0, 1)])
    middle = np.tile(np.stack([columns + 0.5, rows + 0.5], -1), (4, 1))
    px = COARSE_STRIDE / factor
    return strip.unfolded(edge * px, middle * px)


def bounded(view: View) -> View:
    """The view, coarser if it would be larger than a page can be."""
    area = view.width * view.height
    if area <= FINE_MOST_PX:
        return view
    f = float(np.sqrt(area / FINE_MOST_PX))
    return replace(view, scale=view.scale * f, width=int(view.width / f), height=int(view.height / f))


def fine_maps(photo: Photo, view: View, fine: Engine) -> Maps:
    """Run the fine finder over the view."""
    width, height = -(-view.width // FINE_PAD) * FINE_PAD, -(-view.height // FINE_PAD) * FINE_PAD
    padded = replace(view, width=width, height=height)
    out = fine(planes(render_view(photo, padded)))
    area = sigmoid(out["area"][0])
    return Maps(padded, out["grid"][0], area[0], area[1], sigmoid(out["marks"][0]), out["place"][0])


def find(
    photo: Photo, coarse: Engine, fine: Engine, names: Engine | None = None,
    seen_at: Callable[[Pose, Places | None], None] = lambda pose, places: None,
) -> Found | Unreadable:  # fmt: skip
    """Photo to sheet, marks and ink, or why not; ``names`` reads what the view shows too small.

    ``seen_at`` is told the pose, most often the last, and what was read there, before the lattice is followed.
    """
    pose = find_pose(photo, coarse)
    if isinstance(pose, Unreadable):
        return pose
    pose = _straightened(photo, pose, fine)
    maps, pose, places = _best_size(photo, *_best_way_up(photo, pose, fine, names), fine, names)
    sized = maps
    seen_at(pose, places)
    pose, maps, field = _followed(photo, pose, maps, fine)
    seen = _grid_seen(maps)
    allowed = _paper(photo, maps)
    if allowed.sum() < 400:
        return Unreadable("finder", "page_too_small", "too little of the page is in the picture: show all of it")
    sheet, cells = field_to_sheet(field, maps.view, allowed)
    if np.isfinite(sheet.node_px[..., 0]).sum() < 16:
        return Unreadable("lattice", "no_lattice", "the paper's grid can't be followed: flatten the page, avoid glare")
    marks = find_marks(maps, field)
    if names is not None:
        places = places if maps is sized and places is not None else read_places(photo, maps, names)
        marks = tuple(m for m in marks if not m.kind.startswith(READABLE)) + read_marks(places, field)
    if stands_steep(field, maps.trace):
        sheet, cells, marks = looked_flat(photo, sheet, cells, marks, fine)
    if seen < GRID_SHOWS and _told(marks) < TOLD:
        advice = "neither ECG paper nor lead names are seen: fill the frame with the page, in even light"
        return Unreadable("finder", "not_an_ecg", advice)
    return Found(sheet, marks, trace_map(maps, sheet, cells), pose, seen)


def _followed(photo: Photo, pose: Pose, maps: Maps, fine: Engine) -> tuple[Pose, Maps, Field]:
    """The page's millimetres, where its grid tells them, in a view as that says it lies.

    Where the net can't tell a box's lines apart, from the 1 mm lines themselves.  Where these are followed roughly they
    are good for a second look and no further, and the net's phases may have told better where to look.
    """
    net = unwrap_grid(maps.grid, maps.paper)
    if net is None:
        return pose, maps, plain_field(maps)
    lines = _lines(photo, maps) if net.residual_mm > UNLIKE_MM else None
    if lines is not None and (resized := _of_box_lines(photo, pose, maps, lines.apart, fine)) is not None:
        return _second_look(photo, *resized, fine)
    even = even_field(lines, maps.grid, maps.paper)
    for first in (net,) if even is None else (even, net):
        looked = _second_look(photo, pose, maps, first, fine)
        if looked[2].lines_mm == LATTICE_MM or looked[2].residual_mm < EVEN_MM:
            return looked
    pose, maps, _ = looked
    return pose, maps, unwrap_grid(maps.grid, maps.paper) or net


def _of_box_lines(
    photo: Photo, pose: Pose, maps: Maps, apart: int, fine: Engine
) -> tuple[Pose, Maps, Field] | None:  # fmt: skip
    """The view at the size at which its lines lie 5 mm apart, where at its own they lie ``apart``, not 1 mm, and its
    grid is seen better then; else None."""
    px_per_mm = pose.px_per_mm * apart / LATTICE_MM
    if apart == 1 or px_per_mm < MIN_PX_PER_MM:
        return None
    view = _corner_view(pose.view, px_per_mm, pose.view.angle_rad)
    again = fine_maps(photo, view, fine)
    field = unwrap_grid(again.grid, again.paper)
    if field is None or field.residual_mm > UNLIKE_MM or _grid_seen(again) < _grid_seen(maps):
        return None
    return replace(pose, px_per_mm=px_per_mm, view=view), again, field


def _of_even_lines(photo: Photo, maps: Maps) -> Field | None:
    return even_field(_lines(photo, maps), maps.grid, maps.paper)


def _lines(photo: Photo, maps: Maps) -> PaperLines | None:
    return paper_lines(render_view(photo, maps.view), maps.paper, maps.trace)


def _second_look(photo: Photo, pose: Pose, maps: Maps, field: Field, fine: Engine) -> tuple[Pose, Maps, Field]:
    """The page as its own grid says it lies; as it was first seen where that is good, or shows no grid."""
    better = _corrected(pose, field)
    if better is None:
        return pose, maps, field
    again = fine_maps(photo, better.view, fine)
    closer = unwrap_grid(again.grid, again.paper)
    if closer is not None and closer.residual_mm > UNLIKE_MM:
        closer = _of_even_lines(photo, again) or closer
    return (pose, maps, field) if closer is None else (better, again, closer)


def _straightened(photo: Photo, pose: Pose, fine: Engine) -> Pose:
    """The pose as the grid in the middle of the view has it, so that the whole view is looked at once only."""
    view = pose.view
    side = min(PROBE_PX, view.width, view.height) // FINE_PAD * FINE_PAD
    if side < PROBE_PX // 2:
        return pose
    corner = view.to_photo(np.array([(view.width - side) / 2, (view.height - side) / 2]))
    probe = replace(view, origin_x_px=float(corner[0]), origin_y_px=float(corner[1]), width=side, height=side)
    maps = fine_maps(photo, probe, fine)
    seen = (grid_certainty(maps.grid) > SURE).astype(np.float64)
    if seen.mean() < PROBE_SEEN:
        return pose
    unit = [maps.grid[2 * axis] + 1j * maps.grid[2 * axis + 1] for axis in (0, 1)]
    mm_a_cell = np.array([mean_gradient(z, seen) for z in unit]) / RAD_PER_MM
    return _repaired(pose, mm_a_cell, PROBE_OFF) or pose


def _repaired(pose: Pose, mm_a_cell: NDArray[np.float64], off: tuple[float, float]) -> Pose | None:
    """The pose turned and scaled so that a cell is a millimetre; None where it is, but for less than ``off``.

    ``mm_a_cell`` (2, 2): how page x and y grow along the view's columns and rows; ``off``: log of scale, rad.
    """
    scale = float(np.sqrt(abs(np.linalg.det(mm_a_cell))))
    turn = float(np.arctan2(mm_a_cell[0, 1] - mm_a_cell[1, 0], mm_a_cell[0, 0] + mm_a_cell[1, 1]))
    if not 0.5 < scale < 2 or (abs(np.log(scale)) < off[0] and abs(turn) < off[1]):
        return None
    px_per_mm, angle = pose.px_per_mm / scale, pose.angle_rad + turn
    view = bounded(view_around(pose.around_px, px_per_mm, angle, VIEW_MARGIN_MM))
    return replace(pose, px_per_mm=px_per_mm, angle_rad=angle, view=view)


def _best_way_up(photo: Photo, pose: Pose, fine: Engine, names: Engine | None) -> tuple[Maps, Pose, Places | None]:
    """The fine maps; where few names can be read this way up, of all ways the one with most of them. And what was read
    there."""

    def seen(way: Pose) -> tuple[float, Maps, Pose, Places | None]:
        maps = fine_maps(photo, way.view, fine)
        places = None if names is None else read_places(photo, maps, names)
        return _told_names(maps, places), maps, way, places

    first = seen(pose)
    enough = LEGIBLE if names is not None else 1.5 if pose.coherence > 0.85 else SURE_NAMES
    ways = [first]
    for turn in (np.pi,) if pose.row_coherence > ROWS_SURE else (np.pi, np.pi / 2, -np.pi / 2):
        if max(w[0] for w in ways) > enough:
            break
        view = _turned(pose.view, turn)
        ways.append(seen(replace(pose, angle_rad=pose.angle_rad + turn, view=view, decided="names")))
    _, maps, pose, places = max(ways, key=lambda w: w[0])
    return maps, pose, places


def _best_size(
    photo: Photo, maps: Maps, pose: Pose, places: Places | None, fine: Engine, names: Engine | None
) -> tuple[Maps, Pose, Places | None]:
    """Where hardly a grid shows the thumbnail may have misjudged the size: of several the one that shows most."""
    seen = _grid_seen(maps)
    if seen > GRID_FITS or (seen > GRID_SHOWS and _leaves_mm(maps) < FITS_MM):
        return maps, pose, places
    candidates, even = [(maps, pose, places)], _of_even_lines(photo, maps)
    for factor in OTHER_SIZES:
        px_per_mm = pose.px_per_mm * factor
        if px_per_mm >= MIN_PX_PER_MM:
            view = _corner_view(pose.view, px_per_mm, pose.view.angle_rad)
            other = fine_maps(photo, view, fine)
            read = None if names is None else read_places(photo, other, names)
            candidates.append((other, replace(pose, px_per_mm=px_per_mm, view=view), read))
    worth = [_told_names(m, read) + 4 * _grid_seen(m) for m, _, read in candidates]
    worth[0] += EVEN_WORTH if even is not None else 0.0  # lines of no other size are looked for: that takes long
    return candidates[int(np.argmax(worth))]


def _told_names(maps: Maps, places: Places | None) -> float:
    """How much can be read in a view, or how many names it seems to show where nothing reads them."""
    return _names(maps) if places is None else legible(places)


def _turned(view: View, turn: float) -> View:
    return _corner_view(view, view.scale * VIEW_PX_PER_MM, view.angle_rad + turn)


def _corner_view(view: View, px_per_mm: float, angle_rad: float) -> View:
    """The view on the same stretch of photo in another size or turned otherwise."""
    return bounded(view_around(view.corners_px(), px_per_mm, angle_rad, 0.0))


def _names(maps: Maps) -> float:
    """How many lead names are seen, softly counted."""
    n = sum(kind.startswith("lead:") for kind in MARK_KINDS)
    return float(np.sort(maps.marks[:n].reshape(n, -1).max(axis=1))[::-1].clip(0, 1).sum())


def _leaves_mm(maps: Maps) -> float:
    """How far the measured phases lie off a lattice through them."""
    net = unwrap_grid(maps.grid, maps.paper)
    return np.inf if net is None else net.residual_mm


def _grid_seen(maps: Maps) -> float:
    """Mean certainty of the grid where there is trace ink."""
    certainty = grid_certainty(maps.grid)
    near = cv2.dilate(maps.trace, np.ones((9, 9), np.uint8)) > 0.5
    return float(certainty[near].mean()) if near.any() else float(certainty.mean())


def _corrected(pose: Pose, field: Field) -> Pose | None:
    """A better pose where the lattice says that the view was turned or scaled wrongly; else None."""
    sure = field.certainty > 0.4
    if sure.sum() < 400:
        return None
    gy, gx = (np.asarray(g) for g in np.gradient(field.mm, axis=(0, 1)))
    mm_a_cell = np.array([[np.median(g[sure][:, k]) for g in (gx, gy)] for k in (0, 1)])
    return _repaired(pose, mm_a_cell, FIELD_OFF)


def _told(marks: tuple[Mark, ...]) -> float:
    """How surely names, texts and pulses say that this is an ECG: their kinds' best scores added up.

    Where no grid shows, nothing else does, nor how large a millimetre is.
    """
    best: dict[str, float] = {}
    for m in marks:
        if m.kind not in END_KINDS:
            best[m.kind] = max(m.score, best.get(m.kind, 0.0))
    return sum(best.values())


def plain_field(maps: Maps) -> Field:
    """Without a grid: the view's own millimetres (the coarse finder's scale)."""
    h, w = maps.paper.shape
    mm = np.stack(np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)), axis=-1)
    return Field(mm, np.zeros((h, w), np.float32), 0.0)


def _paper(photo: Photo, maps: Maps) -> NDArray[np.bool_]:
    """Cells that show paper and lie in the photo."""
    h, w = maps.paper.shape
    centre = np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1) * FINE_STRIDE + (FINE_STRIDE - 1) / 2
    px = maps.view.to_photo(centre)
    height, width = photo.rgb.shape[:2]
    inside = (px[..., 0] >= 0) & (px[..., 1] >= 0) & (px[..., 0] < width) & (px[..., 1] < height)
    paper = ((maps.paper > 0.5) | (grid_certainty(maps.grid) > 0.6)).astype(np.uint8)
    closed = cv2.morphologyEx(paper, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    return np.asarray((closed > 0) & inside)
