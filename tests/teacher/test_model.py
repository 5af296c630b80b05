"""The teacher as a whole: what trains, what is saved, terms that switch off, two processes as one."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist

from ecg.errors import InputError
from teacher.config import (
    LOSS_TERMS,
    DecoderConfig,
    ImageConfig,
    LoraConfig,
    LossConfig,
    SignalConfig,
    TeacherConfig,
    TextConfig,
    preset,
)
from teacher.encoders.kernels import KernelSignalEncoder
from teacher.encoders.weights import WeightsError
from teacher.losses.gather import gathered, shared_mean
from teacher.model import Batch, Teacher, build_signal_encoder, build_text_encoder
from teacher.objective import terms, total

LORA = LoraConfig(2, 4, 0.0, ("q_proj", "v_proj"))
TINY = TeacherConfig(
    preset="tiny",
    width=16,
    hidden=24,
    image=ImageConfig("open_clip", "ecgscan-vit-test", 32, 64, "photo", lora=LORA),
    signal=SignalConfig(width=16, kernels=1),
    decoder=DecoderConfig(width=16, layers=1, heads=2),
    losses=LossConfig(),
)
TEXT_WIDTH = 12


def tiny(config: TeacherConfig = TINY, seed: int = 0) -> Teacher:
    torch.manual_seed(seed)
    return Teacher(config, KernelSignalEncoder(config.signal.width, config.signal.kernels), TEXT_WIDTH)


def batch(b: int = 4, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    printed = torch.zeros(b, 12, 1000, dtype=torch.bool)
    for k in range(4):
        printed[:, 3 * k : 3 * k + 3, 250 * k : 250 * k + 250] = True
    printed[: b // 2, 1] = True  # half of the pages have a rhythm strip: counts differ between the processes
    return Batch(
        pages=torch.randint(0, 256, (b, 3, 32, 64), generator=g, dtype=torch.uint8),
        mv=torch.randn(b, 12, 1000, generator=g),
        known=torch.ones(b, 12, 1000, dtype=torch.bool),
        text=torch.randn(b, TEXT_WIDTH, generator=g),
        target_mv=torch.where(printed, torch.randn(b, 12, 1000, generator=g), torch.nan),
        printed=printed,
        record=torch.arange(b),
        sentence=torch.tensor([0, 1, 0, 2])[torch.arange(b) % 4],
    )


def step(net: Teacher, data: Batch) -> tuple[dict[str, Tensor], Tensor]:
    found = terms(net(data), data, net.config.losses)
    loss = total(found, net.config.losses)
    loss.backward()
    return found, loss


def test_shapes_and_unit_vectors() -> None:
    out = tiny()(batch())
    assert out["drawn_mv"].shape == (4, 12, 1000)
    for name in ("image", "signal", "text"):
        assert out[name].shape == (4, 16)
        assert torch.allclose(out[name].norm(dim=1), torch.ones(4), atol=1e-5)


def test_only_adapters_and_heads_train() -> None:
    net = tiny().train()
    for name, p in net.named_parameters():
        frozen = name.startswith("signal.") or (name.startswith("image.") and "lora_" not in name)
        assert p.requires_grad != frozen, name
    assert not any(m.training for m in net.signal.modules())
    assert net.image_projection.training
    step(net, batch())
    for name, p in net.named_parameters():
        assert (p.grad is not None) == p.requires_grad, name
        assert p.grad is None or torch.isfinite(p.grad).all(), name


def test_all_of_it_learns_a_batch() -> None:
    net, data = tiny().train(), batch()
    optimiser = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        losses.append(step(net, data)[1].item())
        optimiser.step()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("off", LOSS_TERMS)
def test_each_term_switches_off(off: str) -> None:
    config = replace(TINY, losses=replace(LossConfig(), **{off: 0.0}))
    found, loss = step(tiny(config), batch())
    assert set(found) == set(LOSS_TERMS) - {off}
    assert loss.item() == pytest.approx(sum(t.item() for t in found.values()), rel=1e-5)


@pytest.mark.parametrize("only", LOSS_TERMS)
def test_each_term_stands_alone_and_builds_nothing_unused(only: str) -> None:
    config = replace(TINY, losses=LossConfig(**{name: float(name == only) for name in LOSS_TERMS}))
    net = tiny(config)
    found, _ = step(net, batch())
    assert set(found) == {only}
    heads = [n for n, p in net.named_parameters() if p.requires_grad and "image" not in n]
    assert all(dict(net.named_parameters())[n].grad is not None for n in heads)
    assert hasattr(net, "decoder") == (only in ("reconstruction", "soft_lead"))
    assert hasattr(net, "text_projection") == (only in ("image_text", "gramian"))
    if not hasattr(net, "text_projection"):
        with pytest.raises(InputError, match="without text"):
            net.embed_text(torch.zeros(1, TEXT_WIDTH))


def test_weights_count() -> None:
    config = replace(TINY, losses=replace(LossConfig(), gramian=3.0))
    found, loss = step(tiny(config), batch())
    want = sum(t.item() for t in found.values()) + 2 * found["gramian"].item()
    assert loss.item() == pytest.approx(want, rel=1e-5)


# ----------------------------------------------------------------------------------------------------- saved and read


def test_saved_and_read_again() -> None:
    net, other, data = tiny(seed=0).eval(), tiny(seed=1).eval(), batch()
    assert not torch.allclose(net(data)["image"], other(data)["image"], atol=1e-4)
    other.load_saved(net.saved_state())
    for name, value in net(data).items():
        assert torch.equal(value, other(data)[name]), name


def test_what_comes_from_elsewhere_isnt_saved() -> None:
    net = tiny()
    kept = net.saved_state()
    net.config = replace(TINY, image=replace(TINY.image, weights="clip.safetensors"), signal=SignalConfig("dbeta"))
    state = net.saved_state()
    assert {k for k in state if k.startswith("image.")} == {k for k in kept if "lora_" in k}
    assert not [k for k in state if k.startswith("signal.")]
    net.load_saved(state)


def test_a_checkpoint_that_doesnt_fit() -> None:
    net = tiny()
    state = net.saved_state()
    with pytest.raises(WeightsError, match="doesn't fit"):
        net.load_saved({k: v for k, v in state.items() if k != "decoder.place"})
    with pytest.raises(WeightsError, match="doesn't fit"):
        net.load_saved(state | {"decoder.place": torch.zeros(1)})
    with pytest.raises(WeightsError, match="doesn't fit"):
        net.load_saved(state | {"decoder.other": torch.zeros(1)})


def test_paper_without_weights_says_what_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paper = preset("paper")
    with pytest.raises(WeightsError, match=r"weights/d-beta\.pt: .*fetch .*D-BETA"):
        build_signal_encoder(paper.signal)
    with pytest.raises(WeightsError, match=r"weights/MedCPT.*: .*fetch .*MedCPT"):
        build_text_encoder(paper.text)
    for build, config in ((build_signal_encoder, SignalConfig("x")), (build_text_encoder, TextConfig("x"))):
        with pytest.raises(InputError, match="expected"):
            build(config)  # type: ignore[operator]


def test_small_draws_and_embeds() -> None:
    small = preset("small")
    torch.manual_seed(0)
    net = Teacher(small, build_signal_encoder(small.signal), TEXT_WIDTH).eval()
    h, w = small.image.height_px, small.image.width_px
    data = replace(batch(1), pages=torch.zeros(1, 1, h, w, dtype=torch.uint8))
    with torch.no_grad():
        out = net(data)
    assert out["drawn_mv"].shape == (1, 12, small.decoder.n_samples)
    assert torch.allclose(net.embed_pages(data.pages), out["image"], atol=1e-6)
    assert net.embed_text(data.text).shape == (1, small.width)


# ------------------------------------------------------------------------------------------------------- two processes


def _part(data: Batch, rank: int) -> Batch:
    half = len(data.pages) // 2
    return Batch(**{k: v[rank * half : (rank + 1) * half] for k, v in vars(data).items()})


def _one_of_two(rank: int, port: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The mean of both processes' terms, and the gradients that data-parallel training gives."""
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    try:
        net = nn.parallel.DistributedDataParallel(tiny().train())
        data = _part(batch(), rank)
        found = terms(net(data), data, TINY.losses)
        total(found, TINY.losses).backward()
        mean = {k: v.detach().clone() for k, v in found.items()}
        for value in mean.values():
            dist.all_reduce(value)
        grads = {n: p.grad for n, p in net.module.named_parameters() if p.grad is not None}
        return {k: v / 2 for k, v in mean.items()}, grads
    finally:
        dist.destroy_process_group()


def test_two_processes_give_one_processs_losses_and_gradients() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    net, data = tiny().train(), batch()
    found, _ = step(net, data)
    other = torch.multiprocessing.get_context("spawn").Process(target=_one_of_two, args=(1, port))
    other.start()
    mean, grads = _one_of_two(0, port)
    other.join()
    assert other.exitcode == 0
    assert set(grads) == {n for n, p in net.named_parameters() if p.requires_grad}
    for name, term in found.items():
        assert mean[name].item() == pytest.approx(term.item(), rel=1e-5), name
    for name, p in net.named_parameters():
        if p.requires_grad:
            assert torch.allclose(grads[name], p.grad, atol=1e-6, rtol=1e-3), name


def test_alone_nothing_is_gathered() -> None:
    x = torch.randn(2, 3)
    assert gathered(x) is x
    assert shared_mean(x, torch.tensor(3)) is x
