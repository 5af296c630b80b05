"""A narrow decoder cut out of a wide one: what it keeps, what its teacher asks of it, and a run of both."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from distill.cli import app
from distill.losses import taught_loss
from distill.narrow import groups, narrow, wide_decoder, widths_of
from distill.nets import StripDecoder
from distill.render import RenderConfig, render_shard
from distill.train import VALIDATION_SHARDS, TrainConfig, train
from ecg.errors import InputError
from edge_runtime.reader import SHIPPED

WIDE, NARROW = (20, 40, 24, 24, 24), (16, 32, 24, 24, 24)


@pytest.fixture
def strips():
    return torch.from_numpy(np.random.default_rng(1).uniform(0, 255, (2, 4, 224, 64)).astype(np.float32))


def decoder(widths, seed=0):
    """A decoder whose silent layers speak."""
    torch.manual_seed(seed)
    net = StripDecoder(widths).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    return net


@torch.no_grad()
def test_channels_that_nothing_takes_up_are_the_ones_left_out(strips):
    wide, net = decoder(WIDE), decoder(NARROW, 1)
    weights = wide.state_dict()
    for part in groups(WIDE):
        unused = torch.randperm(WIDE[part.level])[: WIDE[part.level] - NARROW[part.level]]
        for name, first in part.taken_by:
            weights[f"{name}.weight"][:, first + unused] = 0.0
    narrow(wide, net, [strips])
    assert widths_of(net) == NARROW
    for got, want in zip(net.eval()(strips), wide(strips), strict=True):
        assert (got - want).abs().max() < 0.01 * want.std()  # sums in another order


@torch.no_grad()
def test_a_net_of_the_same_widths_is_a_copy(strips):
    wide, net = decoder(NARROW), decoder(NARROW, 1)
    narrow(wide, net, [strips])
    assert torch.allclose(net.eval()(strips)[0], wide(strips)[0], atol=1e-5)


def test_a_wider_net_cannot_be_cut_out(strips):
    with pytest.raises(InputError, match="give a wider one"):
        narrow(decoder(NARROW), decoder(WIDE), [strips])
    with pytest.raises(InputError, match="give a wider one"):
        narrow(decoder((20, 40, 32, 24, 24)), decoder(NARROW), [strips])


def test_the_bundles_decoder_teaches_as_wide_as_it_is():
    assert widths_of(wide_decoder(SHIPPED))[2:] == (64, 96, 128)


def test_what_a_teacher_asks_for_written_out():
    rng = np.random.default_rng(2)
    height, told = rng.normal(size=(2, 1, 5, 3))
    presence, said = rng.normal(size=(2, 1, 3))
    total = weight = cross = 0.0
    for c in range(3):
        seen = 1 / (1 + np.exp(-said[0, c]))
        p, q = (np.exp(x[0, :, c]) / np.exp(x[0, :, c]).sum() for x in (told, height))
        total += seen * (p * np.log(p / q)).sum()
        weight += seen
        own = 1 / (1 + np.exp(-presence[0, c]))
        cross -= seen * np.log(own) + (1 - seen) * np.log(1 - own)
    terms = taught_loss(*(tuple(map(torch.from_numpy, pair)) for pair in ((height, presence), (told, said))))
    assert float(terms["height_told"]) == pytest.approx(2 * total / max(weight, 1.0))
    assert float(terms["presence_told"]) == pytest.approx(0.5 * cross / 3)


def test_a_taught_run_goes_on_from_its_checkpoint(tmp_path):
    config = RenderConfig(tmp_path / "shards", photos_per_shard=1, strips_per_photo=2, fine_per_photo=1,
                          long_side_px=(900, 1000), synthetic_share=1.0, no_ecg_share=0.0, print_share=1.0)  # fmt: skip
    config.out.mkdir()
    for k in range(VALIDATION_SHARDS + 1):
        render_shard(k, ([], []), config)
    for steps in (1, 2):
        path = train(TrainConfig("strip", config.out, tmp_path / "run", steps=steps, batch=1, teacher=SHIPPED))
        assert torch.load(path, weights_only=True)["step"] == steps


def test_other_parts_have_no_teacher(tmp_path):
    told = CliRunner().invoke(app, ["--part", "finder-coarse", "--teacher", str(SHIPPED), "--shards", str(tmp_path),
                                    "--out", str(tmp_path / "run"), "--steps", "1"])  # fmt: skip
    assert told.exit_code != 0
    assert "only a decoder has a teacher" in told.output
