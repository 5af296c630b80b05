"""Each loss against a slow transcription of its equation, and its gradients where they could blow up."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ecg.leads import LIMB_FROM_I_II
from teacher.losses.gramian import EPSILON, gramian, volumes
from teacher.losses.infonce import infonce, positives
from teacher.losses.reconstruction import reconstruction
from teacher.losses.soft_lead import RELATIONS, applicable, soft_lead
from teacher.losses.unit import Temperature


def rows(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_unit(x: list[float]) -> list[float]:
    length = math.sqrt(sum(c * c for c in x))
    return [c / length for c in x]


def dot(a: list[float], b: list[float]) -> float:
    return sum(p * q for p, q in zip(a, b, strict=True))


def slow_cross_entropy(logits: list[list[float]], target: list[list[float]]) -> float:
    total = 0.0
    for row, want in zip(logits, target, strict=True):
        log_sum = math.log(sum(math.exp(x) for x in row))
        total += sum(p * (log_sum - x) for x, p in zip(row, want, strict=True))
    return total / len(logits)


def turned(m: list[list[float]]) -> list[list[float]]:
    return [list(c) for c in zip(*m, strict=True)]


def eye(n: int) -> list[list[float]]:
    return [[float(i == j) for j in range(n)] for i in range(n)]


# ------------------------------------------------------------------------------------------------------------ InfoNCE


@pytest.mark.parametrize("n", [1, 2, 7])
def test_infonce(n: int) -> None:
    a, b, tau = rows(n, 5), rows(n, 5, 1), 0.2
    logits = [[dot(slow_unit(x), slow_unit(y)) / tau for y in b.tolist()] for x in a.tolist()]
    slow = (slow_cross_entropy(logits, eye(n)) + slow_cross_entropy(turned(logits), eye(n))) / 2
    assert infonce(a, b, tau).item() == pytest.approx(slow, abs=1e-9)


def test_infonce_equal_sentences_are_all_right() -> None:
    groups = torch.tensor([4, 7, 4])
    target = positives(groups)
    assert target.tolist() == [[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]]
    a, b = rows(3, 5), rows(3, 5, 1)
    b[2] = b[0]
    logits = [[dot(slow_unit(x), slow_unit(y)) / 0.2 for y in b.tolist()] for x in a.tolist()]
    slow = (slow_cross_entropy(logits, target.tolist()) + slow_cross_entropy(turned(logits), target.tolist())) / 2
    assert infonce(a, b, 0.2, target).item() == pytest.approx(slow, abs=1e-9)
    assert infonce(a, b, 0.2, positives(torch.arange(3))).item() == pytest.approx(infonce(a, b, 0.2).item(), abs=1e-9)


def test_infonce_gradient_even_at_parallel_and_equal_vectors() -> None:
    a = rows(3, 4).requires_grad_()
    for b in (rows(3, 4, 1), a.detach().clone() * 2, -a.detach()):
        assert torch.autograd.gradcheck(lambda x, y: infonce(x, y, 0.1), (a, b.requires_grad_()))


def test_infonce_keeps_full_precision_under_autocast() -> None:
    a, b = rows(6, 32).float(), rows(6, 32, 1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = infonce(a, b, 0.02)
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(infonce(a, b, 0.02).item(), abs=1e-6)


# ------------------------------------------------------------------------------------------------------------ Gramian


def slow_gramian(a: Tensor, v: Tensor, w: Tensor, tau: float, smoothing: float) -> float:
    n, logits = len(a), []
    for x in a.tolist():
        row = []
        for y, z in zip(v.tolist(), w.tolist(), strict=True):
            basis = torch.tensor([slow_unit(x), slow_unit(y), slow_unit(z)], dtype=torch.float64)
            row.append(-math.sqrt(max(0.0, torch.linalg.det(basis @ basis.T).item()) + EPSILON) / tau)
        logits.append(row)
    target = [[(1 - smoothing) * one + smoothing / n for one in row] for row in eye(n)]
    return (slow_cross_entropy(logits, target) + slow_cross_entropy(turned(logits), target)) / 2


@pytest.mark.parametrize("n", [1, 2, 6])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gramian(n: int, smoothing: float) -> None:
    a, v, w = rows(n, 5), rows(n, 5, 1), rows(n, 5, 2)
    assert gramian(a, v, w, 0.3, smoothing).item() == pytest.approx(slow_gramian(a, v, w, 0.3, smoothing), abs=1e-9)


def test_only_the_anchor_is_swapped() -> None:
    a, v, w = rows(4, 6), rows(4, 6, 1), rows(4, 6, 2)
    vol = volumes(a, v, w)
    for i in range(4):
        for j in range(4):
            assert vol[i, j].item() == pytest.approx(volumes(a[i : i + 1], v[j : j + 1], w[j : j + 1]).item(), abs=1e-9)


def test_volume_of_known_bodies() -> None:
    x, y, z = torch.eye(3)[:, None].unbind()
    assert volumes(x, y, z).item() == pytest.approx(1, abs=1e-5)
    assert volumes(x, x, x).item() == pytest.approx(math.sqrt(EPSILON), abs=1e-5)
    assert volumes(x, y, (y + z)).item() == pytest.approx(math.sqrt(0.5), abs=1e-5)
    assert volumes(-x, y, z).item() == volumes(x, y, z).item()  # blind to sign: why InfoNCE stands beside it


def hard_triples() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    a, v, w = rows(4, 8), rows(4, 8, 1), rows(4, 8, 2)
    return {
        "all parallel": (a, a.clone(), a.clone() * 3),
        "anti-parallel": (a, -a, a.clone()),
        "signal equals text": (a, v, v.clone()),
        "image equals signal": (v.clone(), v, w),
        "coplanar": (v + 2 * w, v, w),
        "almost parallel": (a, a + 1e-4 * v, a + 1e-4 * w),
        "a zero row": (a * torch.tensor([0.0, 1, 1, 1])[:, None], v, w),
    }


@pytest.mark.parametrize("name", hard_triples())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gramian_gradients_stay_finite_and_bounded(name: str, dtype: torch.dtype) -> None:
    a, v, w = (x.to(dtype).requires_grad_() for x in hard_triples()[name])
    tau = Temperature()
    loss = gramian(a, v, w, tau())
    loss.backward()
    assert loss.dtype == torch.float32
    assert math.isfinite(loss.item())
    for x in (a, v, w):
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()
        # |d Vol / d det| <= 500, and det's own slope is at most 6 for unit vectors; a normalised zero row has none.
        length = x.detach().float().norm(dim=1, keepdim=True).clamp(min=1e-2)
        assert (x.grad.float() * length).abs().max() < 500 * 6 / 0.07
    assert torch.isfinite(tau.s.grad).all()


@pytest.mark.parametrize("name", ["random", "almost parallel", "image equals signal"])
def test_gramian_gradcheck(name: str) -> None:
    triple = hard_triples().get(name, (rows(4, 8), rows(4, 8, 1), rows(4, 8, 2)))
    if name == "image equals signal":  # only the diagonal vanishes; step off the kink of the clamp
        triple = (triple[0] + 0.05 * rows(4, 8, 3), *triple[1:])
    inputs = tuple(x.clone().requires_grad_() for x in triple)
    assert torch.autograd.gradcheck(lambda a, v, w: gramian(a, v, w, 0.2), inputs, eps=1e-7, atol=2e-3)


def test_gramian_descends_to_the_pairs() -> None:
    torch.manual_seed(0)
    v, w = rows(6, 8, 1).float(), rows(6, 8, 2).float()
    a = rows(6, 8).float().requires_grad_()
    optimiser = torch.optim.Adam([a], lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        gramian(a, v, w, 0.07).backward()
        optimiser.step()
    assert (volumes(a, v, w).argmin(dim=1) == torch.arange(6)).all()


# -------------------------------------------------------------------------------------------------------- temperature


def test_temperature_is_bounded_and_learnable() -> None:
    tau = Temperature(0.07, 0.01, 0.5)
    assert tau().item() == pytest.approx(0.07, rel=1e-5)
    for s in (-1e4, -30.0, 30.0, 1e4):
        with torch.no_grad():
            tau.s.fill_(s)
        assert 0.01 - 1e-6 <= tau().item() <= 0.5 + 1e-6
    tau = Temperature()
    tau().backward()
    assert tau.s.grad is not None
    assert tau.s.grad.item() > 0
    with pytest.raises(ValueError, match="initial"):
        Temperature(0.6)


# ----------------------------------------------------------------------------------------------------- reconstruction


def test_reconstruction() -> None:
    y, x = rows(2 * 12, 9).view(2, 12, 9), rows(2 * 12, 9, 1).view(2, 12, 9)
    m = rows(2 * 12, 9, 2).view(2, 12, 9) > -0.5
    total = slope = count = 0.0
    for b in range(2):
        for lead in range(12):
            for t in range(9):
                if not m[b, lead, t]:
                    continue
                count += 1
                error = (y - x)[b, lead, t].item()
                total += abs(error)
                if t and m[b, lead, t - 1]:
                    slope += abs(error - (y - x)[b, lead, t - 1].item())
    assert reconstruction(y, x, m, 0.5).item() == pytest.approx((total + 0.5 * slope) / count, abs=1e-9)
    y.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: reconstruction(z, x, m), (y,))


def test_what_is_not_printed_teaches_nothing() -> None:
    true = torch.randn(1, 12, 20)
    printed = torch.zeros(1, 12, 20, dtype=torch.bool)
    printed[:, :, 5:9] = True
    true[~printed] = torch.nan
    drawn = torch.zeros(1, 12, 20, requires_grad=True)
    loss = reconstruction(drawn, true, printed)
    loss.backward()
    assert math.isfinite(loss.item())
    assert (drawn.grad[~printed] == 0).all()
    assert (drawn.grad[printed] != 0).any()
    nothing = reconstruction(drawn, torch.full_like(true, torch.nan), torch.zeros_like(printed))
    nothing.backward()
    assert nothing.item() == 0
    assert torch.isfinite(drawn.grad).all()


# ---------------------------------------------------------------------------------------------------------- soft lead


def heart(t: int = 16) -> Tensor:
    limb = torch.from_numpy(LIMB_FROM_I_II) @ rows(2, t)
    return torch.cat([limb, rows(6, t, 3)])[None]


def everything(t: int = 16) -> Tensor:
    return torch.ones(1, 12, t, dtype=torch.bool)


def test_true_hearts_cost_nothing() -> None:
    assert soft_lead(heart(), everything(), dead_zone_mv=0.0).item() == pytest.approx(0, abs=1e-20)
    assert soft_lead(heart(), everything()).item() == 0


def test_soft_lead_against_its_equation() -> None:
    y = rows(2 * 12, 7).view(2, 12, 7)
    m = rows(2 * 12, 7, 5).view(2, 12, 7) > -0.8
    total, count = 0.0, 0
    for b in range(2):
        for t in range(7):
            i, ii, iii, r, left, f = y[b, :6, t].tolist()
            residuals = {
                (0, 1, 2): [i + iii - ii], (3, 4, 5): [r + left + f], (0, 1, 3): [r + (i + ii) / 2],
                (0, 2, 4): [left - (i - iii) / 2], (1, 2, 5): [f - (ii + iii) / 2],
                (0, 3, 4): [i - 2 / 3 * (left - r)], (1, 3, 5): [ii - 2 / 3 * (f - r)],
                (2, 4, 5): [iii - 2 / 3 * (f - left)],
            }  # fmt: skip
            for leads, (residual,) in residuals.items():
                if m[b, list(leads), t].all():
                    count += 1
                    total += max(0.0, abs(residual) - 0.05) ** 2
    assert len(RELATIONS) == 8
    assert soft_lead(y, m).item() == pytest.approx(total / count, abs=1e-9)
    y.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: soft_lead(z, m), (y,))


def test_dead_zone() -> None:
    off = heart()
    off[0, 1] += 0.04
    assert soft_lead(off, everything(), dead_zone_mv=0.05).item() == 0
    off.requires_grad_()
    soft_lead(off, everything(), dead_zone_mv=0.05).backward()
    assert (off.grad == 0).all()
    edge = heart()
    edge[0, 1] += 0.05  # exactly at the edge the slope is still zero
    edge.requires_grad_()
    soft_lead(edge, everything(), dead_zone_mv=0.05).backward()
    assert edge.grad.abs().max() < 1e-12
    far = heart()
    far[0, 1] += 0.5
    assert soft_lead(far, everything()).item() > 0.01


def test_only_leads_printed_together_are_compared() -> None:
    """A 3x4 page with II below: I II III in the first quarter, aVR aVL aVF and II in the second."""
    printed = torch.zeros(1, 12, 16, dtype=torch.bool)
    for k in range(4):
        printed[0, 3 * k : 3 * k + 3, 4 * k : 4 * k + 4] = True
    no_strip = applicable(printed)
    assert no_strip[0, :, 0].tolist() == [True] + [False] * 7
    assert no_strip[0, :, 4].tolist() == [False, True] + [False] * 6
    assert not no_strip[0, :, 8:].any()
    printed[0, 1] = True
    with_strip = applicable(printed)
    assert with_strip[0, :, 4].tolist() == [False, True, False, False, False, False, True, False]
    wrong = heart()
    wrong[0, 0, 4:] += 9.0  # I where it isn't printed
    assert soft_lead(wrong, printed).item() == 0


def test_soft_lead_where_nothing_is_printed() -> None:
    y = heart().requires_grad_()
    loss = soft_lead(y, torch.zeros(1, 12, 16))
    loss.backward()
    assert loss.item() == 0
    assert (y.grad == 0).all()
