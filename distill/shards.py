"""Training samples on disk: one .npz a few photographs, written whole or not at all; images as JPEG inside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from distill.samples import CoarseSample, FineSample, StripSample
from ecg.files import write_npz
from ecg.marks import MARK_KINDS, TEXT_KINDS
from ecg.page import U8

JPEG_QUALITY = 95
_PULSE = MARK_KINDS.index("pulse")
_TELLING = [_PULSE, *(MARK_KINDS.index(k) for k in TEXT_KINDS)]
_RARE = [MARK_KINDS.index(k) for k in ("speed:50", "gain:5", "gain:20")]


def _unusual(marks: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which marks (n, 5) tell of a speed or gain other than 25 mm/s and 10 mm/mV."""
    far = (np.abs(marks[:, 3] - 5) > 1) | (np.abs(marks[:, 4] - 10) > 1)
    return np.isin(marks[:, 0], _RARE) | ((marks[:, 0] == _PULSE) & far)


@dataclass(frozen=True, eq=False)
class PhotoSamples:
    """All samples of one photograph, with its condition for tables."""

    coarse: CoarseSample
    fine: list[FineSample]
    strips: list[StripSample]
    condition: str


def _pack(images: Iterable[U8], kind: str = ".jpg") -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    parts = []
    for image in images:
        ok, data = cv2.imencode(kind, image[..., ::-1] if image.ndim == 3 else image,
                                [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if kind == ".jpg" else [])  # fmt: skip
        if not ok:
            raise RuntimeError(f"{kind} encoder failed")
        parts.append(np.asarray(data, np.uint8).reshape(-1))
    ends = np.cumsum([0, *(len(p) for p in parts)])
    return (np.concatenate(parts) if parts else np.zeros(0, np.uint8)), ends.astype(np.int64)


def write_shard(path: Path, photos: list[PhotoSamples]) -> None:
    """Write all samples of some photographs to ``path``."""
    fine = [s for p in photos for s in p.fine]
    strips = [s for p in photos for s in p.strips]
    out: dict[str, NDArray[np.generic]] = {}
    out["coarse_jpg"], out["coarse_end"] = _pack(p.coarse.rgb for p in photos)
    out["coarse_maps"] = np.stack([p.coarse.maps for p in photos])
    out["fine_jpg"], out["fine_end"] = _pack(s.rgb for s in fine)
    if fine:
        out["fine_phase"] = np.stack([s.phase_mm for s in fine])
        out["fine_flags"] = np.packbits(np.stack([s.flags for s in fine]).astype(bool), axis=None)
        out["fine_marks"] = np.concatenate([s.marks for s in fine])
        out["fine_marks_end"] = np.cumsum([0, *(len(s.marks) for s in fine)])
    out["strip_jpg"], out["strip_end"] = _pack(s.rgb for s in strips)
    out["others_png"], out["others_end"] = _pack((s.others for s in strips), ".png")
    if strips:
        out["strip_row"] = np.stack([s.row for s in strips])
    write_npz(path, out)


class Shard:
    """One shard in memory; images decoded when asked for."""

    def __init__(self, path: Path, what: tuple[str, ...] = ("coarse", "fine", "strip")) -> None:
        with np.load(path) as f:
            wanted = (*what, "others") if "strip" in what else what
            self.arrays = {k: f[k] for k in f.files if k.split("_")[0] in wanted}
        if "fine_flags" in self.arrays:
            shape = (*self.arrays["fine_phase"].shape[:3], 3)
            self.arrays["fine_flags"] = np.unpackbits(self.arrays["fine_flags"])[: int(np.prod(shape))].reshape(shape)

    def count(self, what: str) -> int:
        """How many samples of ``what`` ("coarse", "fine", "strip") there are."""
        return len(self.arrays[f"{what}_end"]) - 1 if f"{what}_end" in self.arrays else 0

    def odds(self, what: str) -> NDArray[np.float64]:
        """How often to draw each sample of ``what``: crops with what tells speed and gain, most of all unusual ones,
        come up more often, or the fine finder meets too few of them."""
        odds = np.ones(self.count(what))
        if what == "fine" and len(odds):
            ends = self.arrays["fine_marks_end"]
            for i in range(len(odds)):
                marks = self.arrays["fine_marks"][ends[i] : ends[i + 1]]
                odds[i] += 2 * np.isin(marks[:, 0], _TELLING).any() + 4 * _unusual(marks).any()
        return odds

    def _image(self, what: str, kind: str, i: int, flags: int) -> U8:
        a, b = self.arrays[f"{what}_end"][i : i + 2]
        image = cv2.imdecode(self.arrays[f"{what}_{kind}"][a:b], flags)
        if image is None:
            raise RuntimeError(f"sample {what} {i} can't be decoded")
        return np.asarray(image, np.uint8)

    def _rgb(self, what: str, i: int) -> U8:
        return np.ascontiguousarray(self._image(what, "jpg", i, cv2.IMREAD_COLOR)[..., ::-1])

    def coarse(self, i: int) -> CoarseSample:
        """The i-th thumbnail."""
        return CoarseSample(self._rgb("coarse", i), self.arrays["coarse_maps"][i])

    def fine(self, i: int) -> FineSample:
        """The i-th upright crop."""
        a, b = self.arrays["fine_marks_end"][i : i + 2]
        return FineSample(self._rgb("fine", i), self.arrays["fine_phase"][i], self.arrays["fine_flags"][i],
                          self.arrays["fine_marks"][a:b])  # fmt: skip

    def strip(self, i: int) -> StripSample:
        """The i-th strip."""
        rgb = self._rgb("strip", i)
        if "others_end" not in self.arrays:  # rendered before strips showed the other rows
            return StripSample(rgb, self.arrays["strip_row"][i], np.zeros(rgb.shape[:2], np.uint8))
        return StripSample(rgb, self.arrays["strip_row"][i], self._image("others", "png", i, cv2.IMREAD_GRAYSCALE))
