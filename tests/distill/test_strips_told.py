"""Strips that show the other rows: as a first reading saw them; and runs that begin with a bundle's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from distill.first_reading import decoder_of
from distill.from_bundle import begin_with_bundle, unfold_norms
from distill.nets import FinderCoarse, StripDecoder
from distill.render import RenderConfig, render_shard
from distill.samples import strip_samples
from distill.shards import Shard
from distill.targets import ALONE_SHARE, strip_batch, varied
from ecg.errors import InputError
from ecg.synth.heart import beat, random_heart
from ecg.synth.printer import random_page
from ecg.synth.prints import as_photograph
from edge_runtime.reader import SHIPPED


@pytest.fixture(scope="module")
def shot():
    rng = np.random.default_rng(6)
    page = random_page(rng, beat(random_heart(rng), duration_s=12.5, rng=rng), layout="12x1", partial=False)
    return as_photograph(page)


def test_other_rows_lie_on_their_ink_and_beside_the_own_trace(shot):
    shown = 0
    for sample in strip_samples(shot, np.random.default_rng(1), 6, decoder_of(SHIPPED)):
        assert sample.others.shape == (224, 512)
        grey, told = sample.rgb.min(axis=-1).astype(float), sample.others > 200
        if told.sum() < 500:
            continue
        shown += 1
        assert grey[told].mean() < np.median(grey) - 20
        columns = np.flatnonzero(np.isfinite(sample.row))
        own = sample.others[np.rint(sample.row[columns]).astype(int), columns] > 100
        assert own.mean() < 0.3
    assert shown >= 3


def test_without_a_reader_nothing_is_told(shot):
    samples = strip_samples(shot, np.random.default_rng(1), 2)
    assert samples
    assert not any(s.others.any() for s in samples)


def test_shards_keep_what_strips_are_told(tmp_path: Path):
    config = RenderConfig(tmp_path, photos_per_shard=1, fine_per_photo=0, strips_per_photo=3, no_ecg_share=0.0,
                          print_share=1.0, crowded_share=1.0, seed=3, reader=SHIPPED)  # fmt: skip
    shard = Shard(render_shard(0, ([], []), config), ("strip",))
    strips = [shard.strip(i) for i in range(shard.count("strip"))]
    assert any(s.others.any() for s in strips)
    batch = strip_batch(strips)
    assert batch["rgb"].shape == (len(strips), 4, 224, 512)
    assert np.array_equal(batch["rgb"][:, 3], 128 + np.stack([s.others for s in strips]) // 2)


def test_some_strips_are_learnt_from_alone(shot):
    sample = strip_samples(shot, np.random.default_rng(1), 1, decoder_of(SHIPPED))[0]
    rng = np.random.default_rng(0)
    alone = np.mean([not varied(sample, rng).others.any() for _ in range(60)])
    assert abs(alone - ALONE_SHARE) < 0.2


def test_a_bundles_weights_come_back_and_train_as_they_were():
    torch.manual_seed(0)
    net = StripDecoder().eval()
    begin_with_bundle(net, "strip", SHIPPED)
    rng = np.random.default_rng(0)
    strips = rng.integers(0, 256, (2, 4, 224, 512)).astype(np.float32)
    want = decoder_of(SHIPPED)(strips)
    with torch.no_grad():
        got = net(torch.from_numpy(strips))
        assert np.abs(got[0].numpy() - want["height"]).mean() < 0.1 * want["height"].std()
        unfold_norms(net, [torch.from_numpy(strips)])
        assert torch.allclose(net(torch.from_numpy(strips))[0], got[0], atol=1e-3)
        assert torch.allclose(net.train()(torch.from_numpy(strips))[0], got[0], atol=0.02)


def test_weights_of_another_bundles_net_are_refused():
    with pytest.raises(InputError, match="of another net"):
        begin_with_bundle(FinderCoarse(), "strip", SHIPPED)
