"""Pages printed on purpose so that waves run through other rows, taller windows, and runs that begin with another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from distill.heldout import spread_inputs
from distill.levels import level_mm
from distill.nets import StripDecoder
from distill.render import CROWDED_LAYOUTS, RenderConfig, random_photograph, render_shard
from distill.samples import FIT_MARGIN_MM, _half_height_mm, strip_samples
from distill.train import begin_with
from ecg.errors import InputError
from ecg.marks import STRIP_LEAST_HALF_MM, strip_half_height_mm


def test_crowded_prints_are_tall_or_tight_and_have_no_camera():
    config = RenderConfig(Path("unused"), crowded_share=1.0, print_share=1.0, no_ecg_share=0.0)
    rng = np.random.default_rng(4)
    for _ in range(4):
        shot = random_photograph(([], []), config, rng, 1200)
        assert shot.condition == "print"
        assert shot.page is not None
        layout = shot.page.layout
        assert layout.name in CROWDED_LAYOUTS or layout.name == "partial"
        assert layout.gain_mm_per_mv == 20.0 or layout.name.startswith("12x1")
        for trace in shot.page.traces:
            y = trace.y_mm[np.isfinite(trace.y_mm)]
            assert y.min() <= level_mm(trace) <= y.max()
            # Where it mostly runs, not halfway up its waves.
            assert np.mean(np.abs(y - level_mm(trace)) < 3.0) > 0.15
    assert strip_samples(shot, rng, 2)


def test_lone_pages_have_one_row():
    config = RenderConfig(Path("unused"), lone_share=1.0, print_share=1.0, no_ecg_share=0.0)
    rng = np.random.default_rng(8)
    pages = [random_photograph(([], []), config, rng, 1200).page for _ in range(6)]
    assert all(page is not None and {s.row for s in page.layout.strips} == {0} for page in pages)
    assert len({page.layout.strips[0].lead for page in pages}) > 1


def test_windows_are_usual_taller_or_fitted_to_the_traces():
    rng, usual = np.random.default_rng(2), strip_half_height_mm(10.0)
    low = np.array([_half_height_mm(10.0, 4.0, rng) for _ in range(400)])
    assert low.min() == STRIP_LEAST_HALF_MM
    assert 0.5 < np.mean(low == STRIP_LEAST_HALF_MM) < 0.7
    assert 0.05 < np.mean(low > 1.3 * usual) < 0.2
    high = np.array([_half_height_mm(10.0, 18.0, rng) for _ in range(400)])
    assert 18.0 + FIT_MARGIN_MM[0] <= high.min() < 18.0 + FIT_MARGIN_MM[1]


def test_a_net_with_new_silent_layers_begins_as_the_one_without(tmp_path):
    torch.manual_seed(0)
    net = StripDecoder().eval()
    state = {f"module.{k}": v for k, v in net.state_dict().items() if ".refine." not in k}
    torch.save({"mean": state | {"n_averaged": torch.tensor(1)}}, tmp_path / "old.ckpt")
    other = StripDecoder().eval()
    begin_with(other, tmp_path / "old.ckpt")
    rgb = torch.rand(1, 4, 224, 64) * 255
    with torch.no_grad():
        assert torch.equal(net(rgb)[0], other(rgb)[0])


def test_weights_of_another_net_are_refused(tmp_path):
    torch.save({"mean": {"module.head.weight": torch.zeros(1)}}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="of another net"):
        begin_with(StripDecoder(), tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="no such checkpoint"):
        begin_with(StripDecoder(), tmp_path / "none.ckpt")


def test_shards_without_crops_say_so_where_crops_are_wanted(tmp_path):
    path = render_shard(0, ([], []), RenderConfig(tmp_path, photos_per_shard=1, fine_per_photo=0, no_ecg_share=0.0))
    assert spread_inputs("strip", [path], 2)[0]["rgb"].shape == (1, 4, 224, 512)
    with pytest.raises(InputError, match="none of its shards holds samples for fine"):
        spread_inputs("fine", [path], 2)
