"""Samples cut from rendered photographs: every target must lie where the picture shows it."""

import json

import numpy as np
import pytest

from distill.render import RenderConfig, random_photograph, render_shard
from distill.samples import coarse_sample, fine_samples, page_marks, strip_samples
from distill.shards import Shard
from distill.targets import coarse_batch, fine_batch, strip_batch
from distill.train import TrainConfig, train
from ecg.errors import InputError
from ecg.synth.camera import photograph, random_shot
from ecg.synth.heart import beat, random_heart
from ecg.synth.printer import random_page


@pytest.fixture(scope="module")
def shot():
    rng = np.random.default_rng(5)
    record = beat(random_heart(rng), rng=rng)
    page = random_page(rng, record, layout="3x4+1", grid="lines", partial=False)
    return photograph(page, random_shot(rng, condition="curled", long_side_px=1400), rng)


def test_phases_are_distances_to_the_heavy_lines(shot):
    for sample in fine_samples(shot, np.random.default_rng(0), 3):
        on = sample.flags[..., 0] > 0
        assert sample.rgb.shape == (384, 384, 3)
        if on.sum() < 500:
            continue
        # A cell is about a millimetre, so the phase advances by about one from cell to cell.
        step = np.mod(np.diff(sample.phase_mm.astype(float)[..., 0], axis=1), 5)[on[:, 1:] & on[:, :-1]]
        assert 0.6 < np.median(step) < 1.6


def test_strip_targets_lie_on_the_ink(shot):
    rng = np.random.default_rng(1)
    darker = []
    for sample in strip_samples(shot, rng, 8):
        columns = np.flatnonzero(np.isfinite(sample.row))
        if len(columns) < 50:
            continue
        grey = sample.rgb.min(axis=-1).astype(float)
        on = grey[np.rint(sample.row[columns]).astype(int), columns]
        darker.append(np.median(on - np.median(grey[:, columns], axis=0)))
    assert len(darker) >= 4
    assert np.median(darker) < -15


def test_coarse_maps_tell_paper_size_and_direction(shot):
    sample = coarse_sample(shot)
    on = sample.maps[..., 1] > 0
    assert on.any()
    assert np.allclose(np.hypot(sample.maps[on][:, 2], sample.maps[on][:, 3]), 1, atol=2e-3)
    centre = np.argwhere(on)[on.sum() // 2]
    px = (centre[::-1] + 0.5) * 16 * max(shot.rgb.shape) / 512
    mm = shot.photo_to_page(np.array([px, px]))
    ahead = shot.page_to_photo(mm + [[0, 0], [1, 0]])
    direction = ahead[1] - ahead[0]
    cos, sin = sample.maps[centre[0], centre[1], 2:4].astype(float)
    assert abs(np.cross([*direction, 0], [cos, sin, 0])[2]) / np.linalg.norm(direction) < 0.05


def test_page_marks_name_every_column_start(shot):
    kinds = [m[0] for m in page_marks(shot.page)]
    assert kinds.count("start") == len(shot.page.traces)
    assert kinds.count("end") == 4


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    config = RenderConfig(folder, photos_per_shard=1, fine_per_photo=1, strips_per_photo=2, no_ecg_share=0.0)
    for index in range(6):
        render_shard(index, ([], []), config)
    return folder


def test_shards_give_back_what_went_in(shards):
    shard = Shard(sorted(shards.glob("*.npz"))[0])
    assert (shard.count("coarse"), shard.count("fine")) == (1, 1)
    assert coarse_batch([shard.coarse(0)])["maps"].shape == (1, 7, 32, 32)
    assert fine_batch([shard.fine(0)])["phase"].shape == (1, 4, 96, 96)
    if shard.count("strip"):
        assert strip_batch([shard.strip(0)])["bin"].shape == (1, 512)
    assert not list(shards.glob("*.part"))


def test_the_same_seed_renders_the_same_shard(shards, tmp_path):
    config = RenderConfig(tmp_path, photos_per_shard=1, fine_per_photo=1, strips_per_photo=2, no_ecg_share=0.0)
    render_shard(2, ([], []), config)
    assert (tmp_path / "shard-00002.npz").read_bytes() == (shards / "shard-00002.npz").read_bytes()


@pytest.mark.parametrize("what", ["coarse", "fine", "strip"])
def test_training_stops_and_goes_on(what, shards, tmp_path):
    config = TrainConfig(what, shards, tmp_path, steps=2, batch=2, log_every=1, save_every=10)
    train(config)
    train(TrainConfig(**{**config.__dict__, "steps": 4}))
    lines = [json.loads(line) for line in (tmp_path / f"{what}.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]


def test_an_empty_folder_of_shards_is_said_in_one_line(tmp_path):
    with pytest.raises(InputError, match="run ecgscan-distill render first"):
        train(TrainConfig("fine", tmp_path, tmp_path / "run", steps=1))


def test_pictures_without_an_ecg_give_samples_too():
    rng = np.random.default_rng(3)
    config = RenderConfig(out=None, no_ecg_share=1.0)
    for _ in range(4):
        shot = random_photograph(([], []), config, rng, 700)
        assert coarse_sample(shot).maps[..., 1].max() == 0
        assert strip_samples(shot, rng, 2) == []
        for sample in fine_samples(shot, rng, 1):
            assert len(sample.marks) == 0 or not any(sample.marks[:, 0] < 13)
