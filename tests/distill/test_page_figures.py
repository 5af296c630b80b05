from pathlib import Path

import numpy as np
import pytest
import torch

from distill.evaluate_pages import Pages, calibrating_pages, eight_bits, fused, rows
from distill.signal_path import SignalNet, SignalNetConfig, save_signal_net
from distill.students import PageStudent, StudentConfig
from ecg.errors import InputError

NET = StudentConfig("mobilenetv4", embedding=16)


def _pages(seed: int) -> Pages:
    rng = np.random.default_rng(seed)
    pages = rng.integers(0, 255, (6, 1, 768, 768), dtype=np.uint8)
    true = (np.arange(6)[:, None] + np.arange(5)) % 2 == 0
    return Pages(pages, np.arange(6) > 0, true, rng.normal(size=(6, 12, 1000)).astype(np.float32))


@pytest.mark.filterwarnings("ignore")
def test_figures_of_a_page_encoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = PageStudent(NET).eval()
    sets = {("photo", 8): _pages(0), ("photo", 9): _pages(1)}
    lines = list(rows("mobilenetv4", net, np.eye(5, 16, dtype=np.float32), sets))
    assert [(r["condition"], r["fold"], r["n"], r["refused"]) for r in lines] == [
        ("photo", 8, 6, 1),
        ("photo", 9, 6, 1),
    ]
    assert all(0 <= r["findings_auroc"][0] <= 1 for r in lines)
    save_signal_net(SignalNet(SignalNetConfig(banks=((2, 1, 1),), hidden=4, embedding=8)), tmp_path / "findings.ckpt")
    both = fused(net, tmp_path, sets)
    assert both["fold_8_fused"][0] >= both["fold_8_alone"][0]


@pytest.mark.filterwarnings("ignore")
def test_cost_of_a_page_encoder() -> None:
    net, data = PageStudent(NET).eval(), _pages(0)
    found = eight_bits("mobilenetv4", net, data.pages[:2], data)
    assert found["mb"]["int8"] < 0.5 * found["mb"]["fp32"]
    assert found["parameters"] == sum(p.numel() for p in net.parameters())


def test_a_pool_without_pages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fewer than"):
        calibrating_pages(tmp_path, 4)
