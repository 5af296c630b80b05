"""Losses against slow transcriptions of their equations."""

import math

import numpy as np
import pytest
import torch

from distill.losses import coarse_loss, fine_loss, focal_heat, strip_loss
from distill.nets import FinderCoarse, FinderFine, StripDecoder, expected_row
from distill.targets import heat_and_places
from ecg.marks import MARK_KINDS


def test_focal_heat_equals_the_loop():
    rng = np.random.default_rng(0)
    logits, heat = rng.normal(0, 2, (2, 3, 5, 6)), rng.uniform(0, 0.9, (2, 3, 5, 6))
    heat[0, 1, 2, 3] = heat[1, 0, 4, 4] = 1.0
    total = 0.0
    for x, y in zip(logits.ravel(), heat.ravel(), strict=True):
        p = 1 / (1 + math.exp(-x))
        total -= (1 - p) ** 2 * math.log(p) if y == 1 else (1 - y) ** 4 * p**2 * math.log(1 - p)
    assert float(focal_heat(torch.tensor(logits), torch.tensor(heat))) == pytest.approx(total / 2, rel=1e-5)


def strip_batch(w=40, bins=112):
    rng = np.random.default_rng(1)
    true = 50 + 20 * np.sin(np.arange(w) / 5)[None] + rng.normal(0, 1, (2, w))
    present = np.ones((2, w))
    present[0, :7] = 0
    true[0, :7] = 0
    logits = rng.normal(0, 1, (2, bins, w))
    return torch.tensor(logits), torch.tensor(rng.normal(0, 1, (2, w))), {
        "bin": torch.tensor(true), "present": torch.tensor(present)}  # fmt: skip


def test_strip_terms_equal_the_loop():
    logits, seen, batch = strip_batch()
    got = {k: float(v) for k, v in strip_loss((logits, seen), batch).items()}
    b, bins, w = logits.shape
    ce, count, snr, slopes, n_slopes = 0.0, 0.0, [], 0.0, 0
    for i in range(b):
        errors, trues, last = [], [], None
        for x in range(w):
            if not batch["present"][i, x]:
                last = None
                continue
            z = logits[i, :, x].numpy()
            p = np.exp(z) / np.exp(z).sum()
            t = float(batch["bin"][i, x])
            low, share = int(t), t - int(t)
            steep = 0.0  # of the steepest column among four on either side
            for k in range(max(0, x - 4), min(w - 1, x + 5)):
                if batch["present"][i, k] and batch["present"][i, k + 1]:
                    steep = max(steep, abs(float(batch["bin"][i, k + 1] - batch["bin"][i, k])))
            weight = 1 + 3 * min(steep / 2, 1)
            ce -= weight * ((1 - share) * math.log(p[low]) + share * math.log(p[low + 1]))
            count += weight
            y = float((p * np.arange(bins)).sum())
            if last is not None:
                slopes += abs((y - last[0]) - (t - last[1]))
                n_slopes += 1
            last = (y, t)
            errors.append(y - t)
            trues.append(t)
        noise = np.var(errors) + 0.02
        snr.append(math.log(noise / (np.var(trues) + 1.0)))
    assert got["height"] == pytest.approx(ce / count, rel=1e-6)
    assert got["slope"] == pytest.approx(0.5 * slopes / n_slopes, rel=1e-6)
    assert got["snr"] == pytest.approx(np.mean(snr), rel=1e-6)


def test_perfect_heights_leave_nothing_but_the_floor():
    _, seen, batch = strip_batch()
    low = batch["bin"].floor().long()
    share = batch["bin"] - low
    logits = torch.full((2, 112, 40), -30.0, dtype=torch.float64)
    logits.scatter_(1, low[:, None], torch.log(1 - share + 1e-12)[:, None])
    logits.scatter_(1, low[:, None] + 1, torch.log(share + 1e-12)[:, None])
    assert torch.allclose((expected_row(logits) * batch["present"]), batch["bin"], atol=1e-4)
    terms = strip_loss((logits, seen), batch)
    assert float(terms["absolute"]) < 1e-4
    assert float(terms["slope"]) < 1e-4


def test_losses_have_finite_gradients_where_nothing_is_to_be_seen():
    empty = {"bin": torch.zeros(1, 64), "present": torch.zeros(1, 64)}
    height = torch.zeros(1, 112, 64, requires_grad=True)
    sum(strip_loss((height, torch.zeros(1, 64)), empty).values()).backward()
    assert torch.isfinite(height.grad).all()
    maps = torch.zeros(1, 7, 32, 32, requires_grad=True)
    sum(coarse_loss(maps, {"maps": torch.zeros(1, 7, 32, 32)}).values()).backward()
    assert torch.isfinite(maps.grad).all()
    out = tuple(torch.zeros(1, c, 8, 8, requires_grad=True) for c in (4, 2, len(MARK_KINDS), 6))
    batch = {k: torch.zeros(1, 8, 8) for k in ("grid", "paper", "trace")}
    batch |= {"phase": torch.zeros(1, 4, 8, 8), "heat": torch.zeros(1, len(MARK_KINDS), 8, 8),
              "place": torch.zeros(1, 6, 8, 8), "weight": torch.zeros(1, 6, 8, 8)}  # fmt: skip
    sum(fine_loss(out, batch).values()).backward()
    assert all(torch.isfinite(o.grad).all() for o in out if o.grad is not None)


def test_marks_are_found_again_from_their_heat_to_a_hundredth_of_a_cell():
    marks = np.array([[MARK_KINDS.index("lead:V3"), 101.3, 200.9, 0, 0], [MARK_KINDS.index("start"), 50.0, 77.7, 0, 0],
                      [MARK_KINDS.index("pulse"), 300.0, 30.0, 5.0, 20.0]], np.float32)  # fmt: skip
    heat, place, weight = heat_and_places(marks)
    for kind, x, y, w, h in marks:
        i, j = np.unravel_index(heat[int(kind)].argmax(), heat.shape[1:])
        pair = 2 if MARK_KINDS[int(kind)] == "start" else 0
        assert weight[pair, i, j] == 1
        assert (j + place[pair, i, j]) * 4 + 1.5 == pytest.approx(x, abs=0.01)
        assert (i + place[pair + 1, i, j]) * 4 + 1.5 == pytest.approx(y, abs=0.01)
        if w:
            assert 10 * 2 ** place[4, i, j] == pytest.approx(w, rel=1e-5)
            assert 10 * 2 ** place[5, i, j] == pytest.approx(h, rel=1e-5)


def test_nets_keep_their_shapes_and_their_size():
    with torch.no_grad():
        assert FinderCoarse().eval()(torch.zeros(1, 3, 512, 512)).shape == (1, 7, 32, 32)
        shapes = [tuple(o.shape) for o in FinderFine().eval()(torch.zeros(1, 3, 64, 96))]
        assert shapes == [(1, 4, 16, 24), (1, 2, 16, 24), (1, len(MARK_KINDS), 16, 24), (1, 6, 16, 24)]
        height, presence = StripDecoder().eval()(torch.zeros(2, 4, 224, 128))
    assert (height.shape, presence.shape) == ((2, 112, 128), (2, 128))
    total = sum(p.numel() for net in (FinderCoarse(), FinderFine(), StripDecoder()) for p in net.parameters())
    assert total < 6_000_000
