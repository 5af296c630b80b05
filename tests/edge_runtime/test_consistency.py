import numpy as np
import pytest

from ecg.leads import limb_leads
from ecg.page import EcgSignal
from edge_runtime.consistency import reconciled


def limb_signal(noise_mv: float, seed: int = 0):
    rng = np.random.default_rng(seed)
    t = np.arange(1250) / 500
    limb = limb_leads(np.sin(2 * np.pi * 1.2 * t), 0.7 * np.cos(2 * np.pi * 1.2 * t))
    true = np.full((12, 1250), np.nan, np.float32)
    true[:6] = limb
    read = true.copy()
    read[:6] += rng.normal(0, noise_mv, (6, 1250))
    return true, EcgSignal(read, 500.0, np.ones((12, 1250), np.float32), np.zeros((12, 1250), bool))


def test_a_third_of_independent_errors_power_goes():
    true, signal = limb_signal(0.02)
    before = np.var(signal.mv[:6] - true[:6])
    after = np.var(reconciled(signal).mv[:6] - true[:6])
    assert after / before == pytest.approx(2 / 3, abs=0.04)


def test_zero_lines_stay_where_they_are():
    _, signal = limb_signal(0.0)
    moved = np.array(signal.mv)
    moved[0] += 0.3
    moved[4] -= 0.2
    out = reconciled(EcgSignal(moved.copy(), 500.0, np.array(signal.confidence), np.array(signal.filled)))
    assert np.nanmax(np.abs(out.mv - moved)) < 1e-5


def test_a_misread_lead_never_reaches_another():
    true, signal = limb_signal(0.0)
    wrong = np.array(signal.mv)
    wrong[2, 300:380] += 1.0
    out = reconciled(EcgSignal(wrong, 500.0, np.array(signal.confidence), np.array(signal.filled)))
    assert np.abs(out.mv[:2] - true[:2]).max() < 1e-3


def test_leads_of_other_columns_are_left_alone():
    _, signal = limb_signal(0.02)
    mv = np.array(signal.mv)
    mv[2, :] = np.nan
    out = reconciled(EcgSignal(mv, 500.0, np.array(signal.confidence), np.array(signal.filled)))
    assert np.array_equal(out.mv[:2], mv[:2])
    assert np.isnan(out.mv[2]).all()
