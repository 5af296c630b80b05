from __future__ import annotations

import numpy as np
import pytest

from ecg import leads


def test_limb_leads_hold_einthoven_and_goldberger():
    rng = np.random.default_rng(0)
    one, two = rng.standard_normal((2, 50))
    limb = leads.limb_leads(one, two)
    mv = np.vstack([limb, np.zeros((6, 50))])
    assert np.allclose(limb[0], one)
    assert np.allclose(limb[1], two)
    assert np.abs(leads.einthoven_residual_mv(mv)).max() < 1e-12
    assert np.abs(leads.goldberger_residual_mv(mv)).max() < 1e-12
    # From the electrodes' potentials themselves: RA, LA, LL.
    ra, la, ll = rng.standard_normal((3, 50))
    direct = np.stack([la - ra, ll - ra, ll - la, ra - (la + ll) / 2, la - (ra + ll) / 2, ll - (ra + la) / 2])
    assert np.allclose(leads.limb_leads(direct[0], direct[1]), direct)


def test_order_and_names():
    assert len(leads.LEADS) == leads.N_LEADS == 12
    assert [leads.LEAD_INDEX[x] for x in leads.LEADS] == list(range(12))
    assert leads.base_lead("-aVR") == ("aVR", -1)
    assert leads.base_lead("V3") == ("V3", 1)
    assert {leads.base_lead(x)[0] for x in leads.CABRERA_LIMB} == set(leads.LIMB_LEADS)


@pytest.mark.parametrize("name", leads.LEADS)
def test_is_limb(name):
    assert leads.is_limb(name) == (not name.startswith("V"))
    assert leads.is_limb("-aVR")
