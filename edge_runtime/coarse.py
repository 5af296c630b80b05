"""One look of the coarse finder at a thumbnail, and what its maps say of an area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ecg.geometry import letterbox
from ecg.marks import COARSE_REF_PX_PER_MM
from ecg.page import F32, U8, Photo
from edge_runtime.engines.base import Engine

LONG_STRIP: Final = 8.0  # length by height from which a picture is folded: less shows the net a page it knows,
FOLDED: Final = 3.0  # and about what is left of it then

_thumbnails: WeakKeyDictionary[Photo, tuple[U8, float]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class CoarseLook:
    """The thumbnail's px per photo px, the net's maps (7, 32, 32) as COARSE_CHANNELS, the probability of an ECG in
    each cell (32, 32), and the photo's: the sixth largest of these."""

    factor: float
    maps: F32
    ecg: F32
    best: float


@dataclass(frozen=True)
class AreaPose:
    """Photo px per mm, its log2 in the thumbnail, the time axis' angle; how alike the cells see the way along the rows
    and the rows' direction, 0 to 1."""

    px_per_mm: float
    log2_scale: float
    angle_rad: float
    coherence: float
    row_coherence: float


@dataclass(frozen=True, eq=False)
class Folded:
    """A long strip cut into pieces of equal length, laid below each other (beside, where it stands upright); a picture
    of usual shape as its only piece.  ``length_px``: of a piece, along the strip."""

    photo: Photo
    pieces: int
    length_px: int
    upright: bool

    def unfolded(self, points: NDArray[np.floating], beside: NDArray[np.floating]) -> NDArray[np.floating]:
        """Points (n, 2) of the folded picture in px of the photo: those of the pieces that ``beside`` (n, 2) lie on."""
        along, across = (1, 0) if self.upright else (0, 1)
        height = self.photo.rgb.shape[1 if self.upright else 0] / self.pieces
        piece = np.clip(beside[:, across] // height, 0, self.pieces - 1)
        out = points.copy()
        out[:, across] = np.clip(points[:, across] - piece * height, 0, height)
        out[:, along] = np.clip(points[:, along], 0, self.length_px) + piece * self.length_px
        return out


def folded(photo: Photo) -> Folded:
    """A picture as its thumbnail shows it best: whole, or folded where it is a strip of which little would be seen."""
    height, width = photo.rgb.shape[:2]
    upright, shape = height > width, max(height, width) / min(height, width)
    pieces = int(np.ceil(np.sqrt(shape / FOLDED))) if shape > LONG_STRIP else 1
    if pieces == 1:
        return Folded(photo, 1, max(height, width), upright)
    length = max(height, width) // pieces
    cuts = [slice(k * length, (k + 1) * length) for k in range(pieces)]
    parts = [photo.rgb[cut] if upright else photo.rgb[:, cut] for cut in cuts]
    return Folded(Photo(np.concatenate(parts, axis=1 if upright else 0)), pieces, length, upright)


def planes(rgb: U8) -> U8:
    """(h, w, 3) to the (1, 3, h, w) that a net takes."""
    return np.ascontiguousarray(rgb.transpose(2, 0, 1)[None])


def sigmoid(x: F32) -> F32:
    """1 / (1 + exp(-x))."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(x, -30, 30))), dtype=np.float32)


def thumbnail(photo: Photo) -> tuple[U8, float]:
    """The letterboxed photo and thumbnail px per photo px, made once for all that look at it."""
    if photo not in _thumbnails:
        _thumbnails[photo] = letterbox(photo)
    return _thumbnails[photo]


def look(photo: Photo, coarse: Engine) -> CoarseLook:
    """Run the coarse finder on a photo."""
    small, factor = thumbnail(photo)
    maps = coarse(planes(small))["maps"][0]
    ecg = sigmoid(maps[1])
    return CoarseLook(factor, maps, ecg, float(np.sort(ecg.ravel())[-6]))


def area_pose(seen: CoarseLook, weight: F32) -> AreaPose:
    """How the page lies where ``weight`` (32, 32) says; zeros where it is 0 everywhere."""
    total = float(weight.sum()) or 1.0
    c, s, log2, c2, s2 = (float((seen.maps[k] * weight).sum()) / total for k in (2, 3, 4, 5, 6))
    # The rows' direction from the doubled angle, the way along it from the single one.
    angle = float(np.arctan2(s2, c2)) / 2
    along = c * np.cos(angle) + s * np.sin(angle)
    if along < 0:
        angle += np.pi
    px_per_mm = COARSE_REF_PX_PER_MM * 2.0**log2 / seen.factor
    return AreaPose(px_per_mm, log2, angle, abs(float(along)), float(np.hypot(c2, s2)))
