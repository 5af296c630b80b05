"""Pages of rows: made from prints and photos, read down to lines, described by random kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ecg.errors import InputError
from ecg.leads import LEAD_INDEX
from ecg.metrics import auroc
from ecg.page_input import HALF_ROW_MV, PX_PER_MV, PX_PER_S, ROW_PX
from ecg.synth.heart import beat, random_heart
from teacher.config import ImageConfig, TeacherConfig
from teacher.decoder import build_decoder
from teacher.encoders.image import build_image_encoder
from teacher.encoders.kernels import KernelFeatures
from teacher.encoders.rows import RowsImageEncoder
from teacher.lead_pages import clean_page, flat_sheet, lead_page, print_page, shaken_layout, shoot
from teacher.metrics import auroc_table, chosen_probe
from teacher.samples import printed_on
from teacher.signal_set import CONCEPTS, SignalSet, layout_mask, printed_mask, read_signals


def page(seed: int = 0):
    rng = np.random.default_rng(seed)
    return print_page(beat(random_heart(rng), 10.0, rng=rng), rng)


def drawn_page(mv: np.ndarray) -> torch.Tensor:
    """Rows with a stroke of two px at mv (12, 768); NaN where there is none."""
    out = np.zeros((12, ROW_PX, 768), np.uint8)
    at = np.clip(np.round((HALF_ROW_MV - mv) * PX_PER_MV - 0.5), 1, ROW_PX - 2)
    for lead, column in zip(*np.nonzero(np.isfinite(at)), strict=True):
        out[lead, int(at[lead, column]), column] = 255
    return torch.from_numpy(out.reshape(1, 1, 768, 768))


def test_pages_of_rows() -> None:
    one = page()
    clean = clean_page(one)
    assert clean.shape == (768, 768, 1)
    assert clean.dtype == np.uint8
    rng = np.random.default_rng(3)
    shaken = [lead_page(one, None, rng) for _ in range(2)]
    assert not np.array_equal(*shaken)
    shot = shoot(one, 700, np.random.default_rng(4))
    assert lead_page(one, shot, rng).any()
    assert flat_sheet(one).node_px.shape[2] == 2
    moved = shaken_layout(one.layout, rng)
    assert len(moved.strips) == len(one.layout.strips)
    assert max(abs(a.x0_mm - b.x0_mm) for a, b in zip(moved.strips, one.layout.strips, strict=True)) < 4


def test_an_untrained_reader_starts_from_the_ink() -> None:
    t = np.arange(768) / PX_PER_S
    mv = np.full((12, 768), np.nan)
    mv[LEAD_INDEX["II"]] = np.sin(2 * np.pi * t)
    mv[LEAD_INDEX["V1"], 400:600] = 0.5
    net = RowsImageEncoder(ImageConfig()).eval()
    with torch.no_grad():
        net.strokes[-1].weight.zero_()
        net.strokes[-1].bias.zero_()
        lines, known = net.lines(drawn_page(mv).float() / 255)
    assert known.shape == lines.shape == (1, 12, 1000)
    assert known[0, LEAD_INDEX["II"]].all()
    assert not known[0, LEAD_INDEX["III"]].any()
    assert 240 < int(known[0, LEAD_INDEX["V1"]].sum()) < 280
    assert (lines[~known] == 0).all()
    assert torch.corrcoef(torch.stack([lines[0, 1], torch.sin(2 * torch.pi * torch.arange(1000) / 100)]))[0, 1] > 0.95


def test_reading_learns() -> None:
    torch.manual_seed(0)
    net = RowsImageEncoder(ImageConfig()).train()
    one = page(1)
    picture = torch.from_numpy(clean_page(one)[..., 0][None, None]).float() / 255
    target, printed = (torch.from_numpy(x)[None] for x in printed_on(one, 100.0, 1000))
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    errors = []
    for _ in range(12):
        lines, _ = net.lines(picture)
        loss = (lines - target).abs()[printed].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(float(loss.detach()))
    assert errors[-1] < 0.7 * errors[0]


def test_tokens_are_the_lines() -> None:
    config = TeacherConfig()
    net = RowsImageEncoder(config.image).eval()
    pages = drawn_page(np.full((12, 768), 0.3)).float() / 255
    with torch.no_grad():
        pooled, tokens = net(pages)
        decoder = build_decoder(config, net.n_tokens, net.token_width)
        assert torch.equal(decoder(tokens), net.lines(pages)[0])
    assert pooled.shape == (1, net.width)
    assert tokens.shape == (1, net.n_tokens, net.token_width)
    empty = net(torch.zeros(1, 1, 768, 768))[0]
    assert torch.isfinite(empty).all()


def test_what_doesnt_go_together() -> None:
    with pytest.raises(ValueError, match="photo or leads"):
        ImageConfig(page="x")
    with pytest.raises(ValueError, match="768 x 768"):
        ImageConfig(height_px=256)
    with pytest.raises(InputError, match="doesn't go with"):
        build_image_encoder(ImageConfig("rows", page="photo"))
    config = TeacherConfig(image=ImageConfig("timm", "x", 32, 32, "photo"))
    with pytest.raises(InputError, match="reads no lines"):
        build_decoder(config, 1, 1)


def test_kernel_features_read_only_what_is_known() -> None:
    net = KernelFeatures(2)
    g = torch.Generator().manual_seed(0)
    mv = torch.randn(2, 12, 1000, generator=g)
    known = torch.ones(2, 12, 1000, dtype=torch.bool)
    known[:, :, 500:] = False
    other = torch.where(known, mv, torch.nan)
    assert torch.equal(net.raw(mv, known), net.raw(other, known))
    louder = net.raw(2 * mv, known)[:, : 12 * 30]
    assert torch.allclose(louder, net.raw(mv, known)[:, : 12 * 30], atol=1e-4)  # shapes don't ask for voltage
    net.fit(net.raw(mv, known))
    assert net(mv, known).abs().max() <= 5


def test_signals_in_memory(tiny_run: TeacherConfig) -> None:
    signals: SignalSet = read_signals(tiny_run, 100.0, 1000)
    assert len(signals) == tiny_run.data.hearts
    assert signals.concepts.shape == (len(signals), len(CONCEPTS))
    assert signals.concepts.any(axis=1).all()
    mv, known = signals.draw(np.arange(5), np.random.default_rng(0))
    assert mv.shape == known.shape == (5, 12, 1000)
    assert (mv[~known] == 0).all()
    again = signals.draw(np.arange(5), np.random.default_rng(0))
    assert np.array_equal(mv, again[0])
    assert 0 < printed_mask(1000, 100.0, np.random.default_rng(1)).mean() <= 1
    from ecg.layouts import LAYOUTS

    mask = layout_mask(LAYOUTS["3x4+1"], 1000, 100.0, 10.0)
    assert mask[0, :250].all()
    assert not mask[0, 250:].any()
    assert mask[1].all()


def test_auroc_and_probe() -> None:
    rng = np.random.default_rng(0)
    true = rng.random(200) < 0.3
    score = true + rng.normal(0, 1, 200)
    pairs = [(a > b) + 0.5 * (a == b) for a in score[true] for b in score[~true]]
    assert auroc(score, true) == pytest.approx(np.mean(pairs))
    assert auroc(np.zeros(200), true) == 0.5
    assert np.isnan(auroc(score, np.ones(200, bool)))
    labels = np.stack([true, rng.random(200) < 0.02], axis=1)
    table = auroc_table(np.stack([score, score], axis=1), labels, ("a", "b"), draws=50)
    assert table.classes["a"].low < table.classes["a"].value < table.classes["a"].high
    assert table.macro_common.value == table.classes["a"].value
    x = rng.normal(size=(200, 5))
    y = (x[:, :1] + 0.1 * rng.normal(size=(200, 1))) > 0
    probe, strength = chosen_probe((x[:100], y[:100]), (x[100:], y[100:]))
    assert auroc(probe.scores(x[100:])[:, 0], y[100:, 0]) > 0.95
    assert strength > 0
