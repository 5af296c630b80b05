"""Synthetic photographs of synthetic and real records, cut into training samples, by as many processes as asked for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from distill.first_reading import decoder_of
from distill.samples import coarse_sample, fine_samples, strip_samples
from distill.shards import PhotoSamples, write_shard
from ecg.layouts import LAYOUTS
from ecg.records import EcgRecord, iter_records, with_plausible_gain
from ecg.synth.camera import photograph, random_scene, random_shot
from ecg.synth.heart import beat, random_heart
from ecg.synth.printer import blank_page, distractor_page, print_page
from ecg.synth.prints import as_photograph
from ecg.synth.style import PageStyle
from ecg.synth.style_random import random_style
from ecg.synth.truth import Photograph
from ecg.workers import run_shares

RecordPools = tuple[list[EcgRecord], list[EcgRecord]]  # true millivolts, unknown gain
CROWDED_LAYOUTS = (
    "12x1", "12x1", "12x1-cabrera", "6x2", "6x2+1", "6x2-cabrera", "6x1-limb", "6x1-chest",
    "3x4", "3x4+1", "3x4+3", "4x3",
)  # fmt: skip
LONE_LAYOUTS = tuple(name for name in LAYOUTS if name.startswith("1x1-"))
WriteFile = Callable[[int, RecordPools, Any], Path]
APART_S, STEEP, QRS_S = 0.25, 0.4, 0.02  # beats: how far apart at least, how steep of the steepest; half a QRS' width
BEAT_SPREAD_S = 0.03
HELD_OUT_FOLDS = (9, 10)  # PTB-XL: 9 validates, 10 tests; neither is ever printed for training


@dataclass(frozen=True)
class RenderConfig:
    """What to render: shards of ``photos_per_shard`` photographs of the records of ``data`` and of synthetic hearts."""

    out: Path
    shards: int = 200
    first: int = 0
    photos_per_shard: int = 24
    fine_per_photo: int = 2
    strips_per_photo: int = 4
    data: tuple[str, ...] = ()
    synthetic_share: float = 0.35
    no_ecg_share: float = 0.06
    workers: int = 1
    seed: int = 0
    fonts: tuple[str, ...] = field(default=())
    long_side_px: tuple[int, int] = (1000, 2600)
    unusual_share: float = 0.0  # pages printed on purpose at 50 mm/s, or at a gain other than 10 mm/mV
    crowded_share: float = 0.0  # pages printed on purpose so that tall waves run through other rows
    lone_share: float = 0.0  # pages of a single row: small ones that fill the photograph as large ones do
    beat_share: float = 0.0  # pages printed on purpose so that a beat is cut in two where columns meet or rows begin
    print_share: float = 0.0  # pages taken as they leave the printer, without a camera
    reader: Path | None = None  # bundle whose decoder reads pages first: strips show where it saw the other rows


def training_records(specs: Sequence[str]) -> list[EcgRecord]:
    """All records of the named sources but the folds that validate and test."""
    return [r for spec in specs for r in iter_records(spec) if r.fold not in HELD_OUT_FOLDS]


def by_gain(records: Sequence[EcgRecord]) -> RecordPools:
    """Records in true millivolts and those of unknown gain, apart."""
    return [r for r in records if r.true_mv], [r for r in records if not r.true_mv]


def random_record(pools: RecordPools, synthetic_share: float, rng: np.random.Generator) -> EcgRecord:
    """A real record, in plausible millivolts, or a synthetic one."""
    true, rest = pools
    if not (true or rest) or rng.random() < synthetic_share:
        return beat(random_heart(rng), duration_s=float(rng.uniform(10, 13)), rng=rng)
    # True millivolts come up somewhat more often than all normalised ones.
    pool = true if not rest or (true and rng.random() < 0.6) else rest
    record = pool[int(rng.integers(len(pool)))]
    return record if record.true_mv else with_plausible_gain(record, rng)


def random_photograph(
    records: RecordPools, config: RenderConfig, rng: np.random.Generator, long_side_px: int | None = None
) -> Photograph:
    """One photograph: mostly of an ECG, at times of plain grid paper, of another page or of no page at all."""
    if rng.random() < config.no_ecg_share:
        kind = rng.random()
        if kind < 0.3:
            return random_scene(rng, long_side_px or 1200)
        page = blank_page(rng) if kind < 0.6 else distractor_page(rng)
    else:
        record = random_record(records, config.synthetic_share, rng)
        style = random_style(rng, record, fonts=config.fonts, **_choices(config, rng))
        if config.beat_share and rng.random() < config.beat_share:
            style = cut_beat(style, record, rng)
        page = print_page(record, style, rng)
        if config.print_share and rng.random() < config.print_share:
            return as_photograph(page)
    return photograph(page, random_shot(rng, long_side_px=long_side_px), rng)


def _choices(config: RenderConfig, rng: np.random.Generator) -> dict[str, Any]:
    """What ``random_style`` is told of the page."""
    if config.crowded_share and rng.random() < config.crowded_share:
        layout = CROWDED_LAYOUTS[int(rng.integers(len(CROWDED_LAYOUTS)))]
        gain = 10.0 if layout.startswith("12x1") and rng.random() < 0.4 else 20.0
        return {"layout": layout, "gain_mm_per_mv": gain, "speed_mm_per_s": 50.0 if rng.random() < 0.4 else 25.0}
    if config.lone_share and rng.random() < config.lone_share:
        speed, gain, chest = unusual_scale(rng) if rng.random() < 0.5 else (25.0, 10.0, None)
        layout = LONE_LAYOUTS[int(rng.integers(len(LONE_LAYOUTS)))]
        return {"layout": layout, "speed_mm_per_s": speed, "gain_mm_per_mv": gain, "chest_gain_mm_per_mv": chest}
    if rng.random() < config.unusual_share:
        return dict(zip(("speed_mm_per_s", "gain_mm_per_mv", "chest_gain_mm_per_mv"), unusual_scale(rng), strict=True))
    return {}


def cut_beat(style: PageStyle, record: EcgRecord, rng: np.random.Generator) -> PageStyle:
    """The style with the record started a little later, so that one of its beats lies where a column starts."""
    starts_s = style.preparation.start_s + style.geometry.column_s * np.arange(style.layout.n_columns)
    late_s = beats_s(record)[:, None] - starts_s + rng.normal(0, BEAT_SPREAD_S, (1, len(starts_s)))
    late_s = np.sort(late_s[late_s > 0])
    if not len(late_s):
        return style
    # Little of a record that is no longer than the page should be missing at its end.
    later = style.preparation.start_s + float(late_s[rng.integers(min(3, len(late_s)))])
    return replace(style, preparation=replace(style.preparation, start_s=later))


def beats_s(record: EcgRecord) -> NDArray[np.float64]:
    """Times (n,) of a record's steepest moments, one a beat."""
    steep = np.nansum(np.abs(np.diff(record.mv, axis=1)), axis=0)
    steep = cv2.GaussianBlur(steep[None].astype(np.float32), (0, 0), QRS_S * record.fs_hz)
    around = np.ones((1, 2 * round(APART_S * record.fs_hz) + 1), np.uint8)
    peak = ((cv2.dilate(steep, around) == steep) & (steep > STEEP * steep.max()))[0]
    return np.asarray(np.flatnonzero(peak) / record.fs_hz, dtype=np.float64)


def unusual_scale(rng: np.random.Generator) -> tuple[float, float, float | None]:
    """Paper speed, limb gain and chest gain of which at least one is rare in clinics."""
    gains: tuple[tuple[float, float | None], ...] = ((10.0, None), (5.0, None), (20.0, None), (10.0, 5.0))
    gain, chest = gains[int(rng.choice(4, p=[0.25, 0.3, 0.3, 0.15]))]
    speed = 50.0 if (gain == 10.0 and chest is None) or rng.random() < 0.4 else 25.0
    return speed, gain, chest


def random_long_side_px(rng: np.random.Generator, low: int, high: int) -> int:
    """A size between two, small ones more often."""
    return int(np.exp(rng.uniform(np.log(low), np.log(high))))


def photo_samples(shot: Photograph, config: RenderConfig, rng: np.random.Generator) -> PhotoSamples:
    """All training samples of a photograph."""
    return PhotoSamples(
        coarse_sample(shot),
        fine_samples(shot, rng, config.fine_per_photo),
        strip_samples(shot, rng, config.strips_per_photo, decoder_of(config.reader) if config.reader else None),
        shot.condition,
    )


def render_shard(index: int, records: RecordPools, config: RenderConfig) -> Path:
    """Write shard ``index``; it depends on the seed and the index alone."""
    path = config.out / f"shard-{index:05d}.npz"
    if path.exists():
        return path
    rng = np.random.default_rng([config.seed, index])
    photos = []
    for _ in range(config.photos_per_shard):
        shot = random_photograph(records, config, rng, random_long_side_px(rng, *config.long_side_px))
        photos.append(photo_samples(shot, config, rng))
    write_shard(path, photos)
    return path


def _write_share(job: tuple[WriteFile, Any], numbers: Sequence[int]) -> None:
    write, config = job
    cv2.setNumThreads(1)
    records = by_gain(training_records(config.data))
    for index in numbers:
        start = time.perf_counter()
        path = write(index, records, config)
        print(f"{path.name} {time.perf_counter() - start:.1f} s", flush=True)


def write_files(write: WriteFile, config: Any, count: int) -> None:
    """``write(number, records, config)`` for ``count`` numbers from ``config.first`` on, by ``config.workers``.

    What was asked for is written beside the files.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "render.json").write_text(json.dumps(asdict(config), default=str, indent=1))
    run_shares(_write_share, (write, config), range(config.first, config.first + count), config.workers)


def render(config: RenderConfig) -> None:
    """Render all shards that aren't there yet."""
    write_files(render_shard, config, config.shards)
