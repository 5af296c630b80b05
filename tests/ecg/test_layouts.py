from __future__ import annotations

import pytest

from ecg.layouts import LAYOUTS, LayoutSpec
from ecg.leads import CHEST_LEADS, LEADS, LIMB_LEADS, base_lead


@pytest.mark.parametrize("spec", LAYOUTS.values(), ids=lambda s: s.name)
def test_cells_fill_rows_and_columns(spec):
    cells = spec.cells()
    assert len(cells) == sum(len(r) for r in spec.rows) + len(spec.rhythm)
    assert len({(row, column) for _, row, column, _ in cells}) == len(cells)
    for lead, row, column, span in cells:
        assert base_lead(lead)[0] in LEADS
        assert 0 <= row < spec.n_rows
        assert column + span <= spec.n_columns
    assert all(span == spec.n_columns for lead, row, _, span in cells if row >= len(spec.rows))


@pytest.mark.parametrize("name", [n for n in LAYOUTS if n.startswith(("3x4", "6x2", "12x1", "4x3"))])
def test_full_layouts_show_each_lead_once_beside_the_rhythm_strips(name):
    shown = [base_lead(lead)[0] for row in LAYOUTS[name].rows for lead in row]
    assert sorted(shown) == sorted(LEADS)


def test_standard_arrangement():
    assert LAYOUTS["3x4+1"].rows == (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
    assert LAYOUTS["3x4+1"].rhythm == ("II",)
    assert [r[0] for r in LAYOUTS["6x2-cabrera"].rows] == ["aVL", "I", "-aVR", "II", "aVF", "III"]
    assert [r[0] for r in LAYOUTS["6x1-limb"].rows] == list(LIMB_LEADS)
    assert [r[0] for r in LAYOUTS["6x1-chest"].rows] == list(CHEST_LEADS)


def test_rows_must_have_the_same_number_of_columns():
    with pytest.raises(ValueError, match="same number of columns"):
        LayoutSpec("bad", (("I", "II"), ("III",)))
