import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from distill.cli import app
from distill.nets import StartReader
from distill.start_samples import NOT_HERE, StartConfig, cut_start, page_starts, places, write_file
from distill.start_train import StartTraining, load_starts_net, moved, start_figures, targets, train_starts
from ecg.errors import InputError
from ecg.geometry import start_patch_mm
from ecg.marks import START_BINS, START_OFFSETS_MM, START_PX_PER_MM, START_SIDE
from ecg.synth.heart import beat, random_heart
from ecg.synth.printer import random_page


def _page(seed: int, **given):
    rng = np.random.default_rng(seed)
    return random_page(rng, beat(random_heart(rng), 12.0, rng=rng), **given), rng


def test_every_trace_starts_at_a_place_and_every_row_ends_at_one():
    page, _ = _page(3, layout="3x4+1", partial=False)
    found = places(page)
    starts, ends = ({(round(x, 3)) for kind, x, _ in found if kind == k} for k in (0, 1))
    assert starts == {round(t.strip.x0_mm, 3) for t in page.traces}
    assert len([f for f in found if f[0] == 0]) == len(page.traces) == 13
    assert ends == {round(max(t.strip.x1_mm for t in page.traces if t.strip.row == r), 3) for r in range(4)}


def test_what_the_page_s_edge_cuts_off_is_no_place():
    page, _ = _page(3, layout="3x4+1", partial=True)
    for kind, x, _ in places(page):
        assert 0 < x < page.size_mm[0]
        assert any(abs(x - (t.strip.x0_mm, t.strip.x1_mm)[kind]) < 1e-6 for t in page.traces)


def test_a_patch_shows_its_place_in_its_middle():
    rgb = np.full((400, 1600, 3), 230, np.uint8)
    rgb[:, 800:] = 0  # ink from x = 100 mm on
    x_mm, _ = start_patch_mm()
    seen = []
    for k in range(40):
        patch = cut_start(rgb, 8.0, 100.2, 25.0, np.random.default_rng(k)).mean(axis=(0, 2))
        dark, bright = patch[-12:].mean(), patch[:12].mean()
        seen.append(float(np.interp(-(dark + bright) / 2, -patch, x_mm)))
    assert np.median(seen) == pytest.approx(-0.2, abs=0.02)
    assert np.std(seen) < 0.06


def test_a_page_s_patches_say_how_far_off_they_were_cut():
    page, rng = _page(5, layout="12x1", partial=False)
    patches, kinds, offsets = page_starts(page, rng)
    assert len(patches) == len(kinds) == len(offsets) == 14
    assert patches[0].shape == (START_SIDE, START_SIDE, 3)
    assert set(kinds) == {0, 1}
    assert all(o == NOT_HERE or abs(o) <= START_OFFSETS_MM[-1] for o in offsets)


def test_targets_are_distributions_around_the_place():
    t = targets(np.array([0.0, 0.131, -1.0, NOT_HERE]))
    assert t.shape == (4, START_BINS + 1)
    np.testing.assert_allclose(t.sum(axis=1), 1.0, rtol=1e-5)
    at = t[:3, :-1] @ np.array(START_OFFSETS_MM)
    np.testing.assert_allclose(at[:2], [0.0, 0.131], atol=0.002)
    assert t[3, -1] == 1.0
    assert t[:3, -1].max() == 0.0


def test_patches_move_with_their_places():
    patches = np.zeros((40, START_SIDE, START_SIDE, 3), np.uint8)
    patches[:, :, 48:] = 200  # ink ends in the middle
    offsets = np.append(np.zeros(38), [0.95, NOT_HERE])
    after, said = moved(patches, offsets, np.random.default_rng(1))
    edge = (after[:, 40, 5:-5, 0] > 100).argmax(axis=1) + 5
    np.testing.assert_allclose(said[:39] - offsets[:39], (edge[:39] - 48) / START_PX_PER_MM[0], atol=1e-9)
    assert len(set(edge)) > 5
    assert np.abs(said[:39]).max() <= START_OFFSETS_MM[-1]
    assert said[39] == NOT_HERE


def test_figures_tell_how_far_off_the_answers_lie():
    offset, kinds = np.array([0.1, -0.3, 0.2, 0.0]), np.array([0, 0, 1, 1])
    said = np.log(np.maximum(targets(offset + np.array([0.04, 0.04, 0.0, 0.0])), 1e-9))
    told = start_figures(np.stack([said, said], axis=1), kinds, offset)
    assert told["start_off_mm"] == pytest.approx(0.04, abs=1e-3)
    assert told["end_off_mm"] == pytest.approx(0.0, abs=1e-3)
    assert told["loss"] > 1.0


def test_rendering_is_repeatable_and_training_goes_on_from_its_checkpoint(tmp_path):
    config = StartConfig(tmp_path / "starts", files=2, pages=2, seed=5)
    config.out.mkdir()
    first = np.load(write_file(0, ([], []), config))["patch"]
    (config.out / "starts-00000.npz").unlink()
    assert np.array_equal(first, np.load(write_file(0, ([], []), config))["patch"])
    with pytest.raises(InputError, match="1 files of starts; run ecgscan-distill render-starts first"):
        train_starts(StartTraining(config.out, tmp_path / "other", steps=1))
    write_file(1, ([], []), config)
    path = train_starts(StartTraining(config.out, tmp_path / "run", steps=2, batch=4))
    before = load_starts_net(path).head.weight.clone()
    train_starts(StartTraining(config.out, tmp_path / "run", steps=4, batch=4))
    assert not torch.equal(before, load_starts_net(path).head.weight)
    assert torch.load(path, weights_only=True)["step"] == 4


def test_the_net_gives_places_for_starts_and_ends_and_is_small():
    net = StartReader().eval()
    assert net(torch.rand(3, 3, START_SIDE, START_SIDE) * 255).shape == (3, 2, START_BINS + 1)
    assert sum(p.numel() for p in net.parameters()) < 1_100_000


def test_no_patches_end_in_one_line(tmp_path):
    result = CliRunner().invoke(
        app, ["--part", "start-reader", "--shards", str(tmp_path), "--out", str(tmp_path / "r")]
    )
    assert result.exit_code == 2
    assert "run ecgscan-distill render-starts first" in result.output
