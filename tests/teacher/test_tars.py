"""Pages rendered beforehand as webdataset shards."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecg.errors import InputError
from teacher import tars
from teacher.bench import estimate
from teacher.config import TeacherConfig
from teacher.samples import Source, make_sample
from teacher.tars import ShardPool, read_shard, render_shards, shard_path
from teacher.train import Task, train


def test_shards(tiny_run: TeacherConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clocks) -> None:
    config = replace(tiny_run, data=replace(tiny_run.data, pages=5))
    assert render_shards(config, tmp_path, 2, 1) == (3, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "pages-000000.tar", "pages-000001.tar", "pages-000002.tar", "render.json"
    ]  # fmt: skip
    (last,) = read_shard(shard_path(tmp_path, 2))
    want = make_sample(4, Source(config), config, clocks)
    assert np.abs(last["page"].astype(int) - want.page).mean() < 6  # JPEG
    assert np.array_equal(last["printed"], want.printed)
    assert np.abs(last["mv"] - want.mv).max() < 0.003
    assert (last["sentence"], last["record"]) == (want.sentence, want.record)
    with tarfile.open(shard_path(tmp_path, 0)) as tar:  # webdataset takes what stands before the first dot as the key
        assert [m.name for m in tar.getmembers()][:3] == ["00000000.jpg", "00000000.npz", "00000000.json"]
    whole = shard_path(tmp_path, 1).read_bytes()
    shard_path(tmp_path, 1).unlink()
    assert render_shards(config, tmp_path, 2, 1) == (1, 3)  # only what is missing
    again = list(read_shard(shard_path(tmp_path, 1)))
    assert len(again) == 2
    assert whole[:512] == shard_path(tmp_path, 1).read_bytes()[:512]
    with pytest.raises(InputError, match="another configuration"):
        render_shards(replace(config, optim=replace(config.optim, seed=4)), tmp_path, 2, 1)

    def cut_off(*_):
        raise KeyboardInterrupt

    shard_path(tmp_path, 2).unlink()
    monkeypatch.setattr(tars, "make_sample", cut_off)
    with pytest.raises(KeyboardInterrupt):
        render_shards(config, tmp_path, 2, 1)
    assert not shard_path(tmp_path, 2).exists()  # whole or not at all


@pytest.mark.usefixtures("named_text")
def test_shards_train(tiny_run: TeacherConfig, tmp_path: Path) -> None:
    config = replace(tiny_run, data=replace(tiny_run.data, pages=5), optim=replace(tiny_run.optim, steps=1))
    render_shards(config, tmp_path / "shards", 2, 1)
    done = train(Task(config, tmp_path / "run", pages_from=tmp_path / "shards"))
    assert done.name == "teacher.safetensors"
    batch = ShardPool(tmp_path / "shards", config).batch(np.array([4, 1]))
    assert batch.pages.shape == (2, 3, 32, 64)
    shard_path(tmp_path / "shards", 1).unlink()
    with pytest.raises(InputError, match="1 of 3 shards are missing"):
        ShardPool(tmp_path / "shards", config)


def test_a_broken_shard_is_named(tmp_path: Path) -> None:
    path = shard_path(tmp_path, 0)
    path.write_bytes(b"rubbish")
    with pytest.raises(InputError, match=r"pages-000000\.tar"):
        list(read_shard(path))


def test_the_estimate_is_plain_arithmetic() -> None:
    cost = estimate(1e12, 3600, 2)
    assert cost.gpu_hours["A100"] == pytest.approx(2e12 / (312e12 * 0.35))
    assert cost.render_core_hours == pytest.approx(0.17)
