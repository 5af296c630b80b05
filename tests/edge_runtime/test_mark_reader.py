"""Places of the view's heat, the patches cut there, and what is made of the reader's answers."""

import numpy as np
import pytest

from ecg.geometry import View
from ecg.marks import FINE_STRIDE, MARK_KINDS, PATCH_HEIGHT, PATCH_WIDTH, READ_KINDS, STROKE_KINDS
from ecg.page import Photo
from edge_runtime.finder import Maps
from edge_runtime.lattice import Field
from edge_runtime.mark_reader import SHIFTS_MM, cut_patches, legible, read_places
from edge_runtime.mark_reader import read_marks as marks_of

H, W = 60, 90  # cells of 1 mm


def maps(heat: dict[tuple[str, int, int], float]) -> Maps:
    marks = np.zeros((len(MARK_KINDS), H, W), np.float32)
    for (kind, row, column), value in heat.items():
        marks[MARK_KINDS.index(kind), row, column] = value
    view = View(0.0, 0.0, 2.0, 0.0, W * FINE_STRIDE, H * FINE_STRIDE)  # 8 px/mm
    blank = np.zeros((H, W), np.float32)
    return Maps(view, np.zeros((4, H, W), np.float32), blank, blank, marks, np.zeros((6, H, W), np.float32))


def field() -> Field:
    mm = np.stack(np.meshgrid(np.arange(W, dtype=np.float32), np.arange(H, dtype=np.float32)), axis=-1)
    return Field(mm, np.ones((H, W), np.float32), 0.0)


class Says:
    """Answers for the patches in the order of their places' heat."""

    def __init__(self, *kinds: str, sure: float = 9.0) -> None:
        self.kinds, self.sure, self.seen = kinds, sure, np.zeros(0)

    def __call__(self, patches):
        again = len(self.seen) > 0  # names of strokes are asked for once more, shifted each way
        self.seen = self.seen if again else patches
        logits = np.zeros((len(patches), len(READ_KINDS)), np.float32)
        kinds = [k for k in self.kinds if k in STROKE_KINDS] * len(SHIFTS_MM) if again else self.kinds
        for row, kind in zip(logits, kinds, strict=True):
            row[READ_KINDS.index(kind)] = self.sure
        return {"kind": logits}

    def close(self) -> None:
        """Nothing to let go of."""


def read_marks(picture, seen, where, reader):
    return marks_of(read_places(picture, seen, reader), where)


def photo() -> Photo:
    return Photo(np.full((H * 8, W * 8, 3), 200, np.uint8))


def test_what_the_reader_says_replaces_what_the_view_took_it_for():
    seen = maps({("lead:V3", 20, 30): 0.5, ("speed:25", 40, 50): 0.4, ("lead:II", 10, 70): 0.1})
    got = read_marks(photo(), seen, field(), Says("lead:V4", "speed:50", "other"))
    assert [(m.kind, m.x_mm, m.y_mm) for m in got] == [("lead:V4", 30.0, 20.0), ("speed:50", 50.0, 40.0)]
    assert all(m.score > 0.9 for m in got)


def test_nothing_is_told_of_faint_places_and_unsure_answers():
    assert read_marks(photo(), maps({("lead:V3", 20, 30): 0.02}), field(), Says()) == ()
    assert read_marks(photo(), maps({("lead:V3", 20, 30): 0.5}), field(), Says("lead:V3", sure=0.5)) == ()


def test_pulses_and_ends_are_not_read():
    reader = Says("lead:I")
    read_marks(photo(), maps({("pulse", 5, 5): 0.9, ("start", 9, 9): 0.9, ("lead:I", 20, 20): 0.3}), field(), reader)
    assert len(reader.seen) == 1


def test_one_place_holds_one_name():
    seen = maps({("lead:V3", 20, 30): 0.5, ("lead:V4", 22, 31): 0.4, ("gain:10", 50, 20): 0.3})
    got = read_marks(photo(), seen, field(), Says("lead:V4", "lead:V3", "gain:10/5"))
    assert [m.kind for m in got] == ["lead:V4", "gain:10/5"]


def test_a_patch_is_upright_and_centred_whatever_the_view():
    rgb = np.full((600, 900, 3), 240, np.uint8)
    centre = np.array([450.0, 300.0])
    for angle in (0.0, 0.4, np.pi / 2):
        view = View(0.0, 0.0, 2.0, angle, 400, 300)
        picture = rgb.copy()
        along = np.array([np.cos(angle), np.sin(angle)])
        for t in np.linspace(-40, 40, 161):  # a line of 10 mm along time
            x, y = np.rint(centre + t * along).astype(int)
            picture[y - 1 : y + 2, x - 1 : x + 2] = 10
        patch = cut_patches(Photo(picture), view, view.from_photo(centre[None]))[0, 0]
        dark = patch < 120
        assert patch.shape == (PATCH_HEIGHT, PATCH_WIDTH)
        rows, columns = np.nonzero(dark)
        assert abs(rows.mean() - (PATCH_HEIGHT - 1) / 2) < 0.7
        assert abs(columns.mean() - (PATCH_WIDTH - 1) / 2) < 0.7
        assert np.ptp(columns) > 70 > 10 > np.ptp(rows)


def test_names_and_texts_that_read_one_way_up_tell_it():
    """Strokes alone are the same upside down; a lone row of lead II has its speed and gain to go by."""
    seen = maps({("lead:II", 20, 30): 0.5, ("speed:25", 40, 50): 0.4, ("lead:V4", 10, 70): 0.3})
    assert legible(read_places(photo(), seen, Says("lead:II", "speed:25", "other"))) == pytest.approx(1.0, abs=0.02)
    assert legible(read_places(photo(), seen, Says("lead:II", "speed:25", "lead:V4"))) == pytest.approx(2.0, abs=0.02)


class CountsStrokes:
    """Takes a name for II in three of five patches around it, for III else; each is asked once more for strokes."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, patches):
        self.calls.append(len(patches))
        logits = np.zeros((len(patches), len(READ_KINDS)), np.float32)
        said = ["lead:III"] if len(self.calls) == 1 else ["lead:II", "lead:II", "lead:III", "lead:II"]
        logits[np.arange(len(patches)), [READ_KINDS.index(kind) for kind in said]] = 9.0
        return {"kind": logits}

    def close(self) -> None:
        """Nothing to let go of."""


def test_names_of_strokes_are_read_from_five_patches_together():
    reader = CountsStrokes()
    places = read_places(photo(), maps({("lead:II", 20, 30): 0.5}), reader)
    assert reader.calls == [1, 4]
    p = dict(zip(READ_KINDS, places.probability[0], strict=True))
    assert p["lead:II"] == pytest.approx(0.6, abs=0.01)
    assert p["lead:III"] == pytest.approx(0.4, abs=0.01)
