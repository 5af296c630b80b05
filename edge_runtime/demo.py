"""The example that a fresh install reads: a page from ``ecg.synth``, photographed, its truth known."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from ecg.errors import EcgscanError
from ecg.metrics import score_reading
from ecg.page import U8, Reading, Unreadable
from ecg.synth.truth import Photograph
from edge_runtime.outputs import check_folder, write_atomic, write_result
from edge_runtime.scan import PhotoReader, describe

LONG_SIDE_PX: Final = 3000
STEM: Final = "demo"


def demo_photo(seed: int, long_side_px: int = LONG_SIDE_PX) -> Photograph:
    """A folded 3x4+1 page at 25 mm/s and 10 mm/mV, as a phone sees it; the patient does not exist."""
    from ecg.synth.camera import photograph, random_shot
    from ecg.synth.printer import random_page
    from edge_runtime.rendered import random_record

    rng = np.random.default_rng(seed)
    page = random_page(rng, random_record(rng), layout="3x4+1", speed_mm_per_s=25.0, gain_mm_per_mv=10.0,
                       chest_gain_mm_per_mv=None, grid="lines", partial=False)  # fmt: skip
    shot = random_shot(rng, condition="folded", long_side_px=long_side_px, upright=True)
    return photograph(page, shot, rng)


def run_demo(out_dir: Path, bundle_dir: Path | None, seed: int) -> Iterator[str]:
    """Render, read, write, compare; a line each. Raises ``EcgscanError`` where the photo can't be read."""
    from edge_runtime.reader import Reader

    yield from run_demo_with(Reader.open(bundle_dir), out_dir, seed)


def run_demo_with(reader: PhotoReader, out_dir: Path, seed: int) -> Iterator[str]:
    """The same with a reader at hand."""
    from edge_runtime.images import load_photos

    check_folder(out_dir)
    shot = demo_photo(seed)
    if shot.page is None:
        raise EcgscanError("the demo's photo shows no page; use another --seed")
    path = out_dir / f"{STEM}.jpg"
    done, jpeg = cv2.imencode(".jpg", cv2.cvtColor(shot.rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not done:
        raise EcgscanError("the demo's photo can't be encoded; reinstall OpenCV")
    write_atomic(path, jpeg.tobytes())
    yield f"rendered {path}: a synthetic ECG, printed, folded and photographed"
    photo = next(iter(load_photos(path)))
    result = reader.read(photo)
    files = write_result(result, photo, reader.bundle, out_dir, STEM)
    if isinstance(result, Unreadable):
        raise EcgscanError(f"{path}: unreadable ({result.reason}): {result.message}")
    yield f"{describe(result)}, in {sum(result.timings_ms.values()) / 1000:.1f} s"
    yield _accuracy(result, shot)
    yield "wrote " + ", ".join(str(f) for f in files)


def _accuracy(reading: Reading, shot: Photograph) -> str:
    from edge_runtime.evaluation import page_truth

    assert shot.page is not None
    score = score_reading(page_truth(shot.page), reading.signal.mv, reading.signal.fs_hz)
    return (
        f"against the truth: {score.db:.1f} dB, {score.clock_db:.1f} dB on the printed clock, "
        f"{score.rmse_uv:.0f} uV, {100 * score.coverage:.0f} % covered"
    )


def picture(out_dir: Path, height_px: int = 520) -> U8:
    """What ``run_demo`` wrote, side by side: the photo and the sheet with the traces read."""
    halves = [cv2.imread(str(out_dir / f"{STEM}{suffix}")) for suffix in (".jpg", ".png")]
    sides = [cv2.resize(h, (round(h.shape[1] * height_px / h.shape[0]), height_px), interpolation=cv2.INTER_AREA)
             for h in halves if h is not None]  # fmt: skip
    if len(sides) != 2:
        raise EcgscanError(f"{out_dir}: no {STEM}.jpg and {STEM}.png; run ecgscan-edge demo --out {out_dir} first")
    return np.asarray(np.hstack(sides), dtype=np.uint8)


if __name__ == "__main__":  # python -m edge_runtime.demo OUT PICTURE.png, after ecgscan-edge demo --out OUT
    Path(sys.argv[2]).parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(sys.argv[2], picture(Path(sys.argv[1])))
