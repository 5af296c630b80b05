from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from distill.page_train import STATE, StudentTrainConfig, load_student, shifted, text_of, train_student
from distill.students import Lesson, LossWeights, PageStudent, StudentConfig, relational, student_loss
from ecg.errors import InputError
from ecg.findings import FINDINGS

NAME = "mobilenetv4"


def _units(n: int, d: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def _lesson(n: int = 6, d: int = 16) -> Lesson:
    zeros = torch.zeros(n, len(FINDINGS))
    return Lesson(_units(n, d, 0), _units(n, d, 1), _units(n, d, 2), torch.arange(n), zeros, zeros + 1)


def test_names_outside_timm_are_refused() -> None:
    with pytest.raises(InputError, match="timm has no model"):
        PageStudent(StudentConfig("no_such_net"))


def test_rows_become_channels_in_order() -> None:
    net = PageStudent(StudentConfig(NAME, embedding=16)).eval()
    page = torch.zeros(1, 1, 768, 768)
    page[0, 0, 64:128] = 255.0
    shaped = net.shaped(page)
    assert shaped.shape == (1, 12, 64, 768)
    assert shaped[0, 1].min() == 1
    assert shaped[0, [0, *range(2, 12)]].max() == 0
    logits, embedding = net(page)
    assert logits.shape == (1, len(FINDINGS))
    assert embedding.shape == (1, 16)
    assert sum(p.numel() for p in net.parameters()) < 10e6


def test_the_teachers_own_embedding_costs_least() -> None:
    lesson = _lesson()
    taus = lambda name: torch.tensor(0.1)  # noqa: E731
    logits = torch.full((6, len(FINDINGS)), -5.0)
    right = student_loss(logits, lesson.image, lesson, taus, LossWeights())
    wrong = student_loss(logits, lesson.image.flip(0), lesson, taus, LossWeights())
    assert right["cosine"] < 1e-5
    assert right["relational"] < 1e-5
    assert wrong["cosine"] > 0.3
    assert relational(lesson.image.flip(0), lesson.image) > 0
    assert set(student_loss(logits, lesson.image, lesson, taus, LossWeights(gramian=0))) == set(right) - {"gramian"}


def test_text_is_the_mean_of_what_is_said() -> None:
    vectors = np.eye(3, dtype=np.float32)
    out = text_of((("AFIB", "odd"), ()), ((), ("MI",)), ["AFIB", "SR", "MI"], vectors)
    np.testing.assert_array_equal(out, vectors[[0, 2]])


def test_shift_keeps_rows_apart() -> None:
    page = np.zeros((768, 768), np.uint8)
    page[64 * 5 + 20 : 64 * 5 + 40] = 200
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows = shifted(page, rng).reshape(12, -1)
        assert not rows[[k for k in range(12) if k != 5]].any()


def _pool(folder: Path) -> None:
    rng = np.random.default_rng(0)
    jpegs = [cv2.imencode(".jpg", rng.integers(0, 255, (768, 768), dtype=np.uint8))[1].reshape(-1) for _ in range(8)]
    np.savez(
        folder / "part-000000.npz", jpeg=np.concatenate(jpegs), jpeg_end=np.cumsum([len(j) for j in jpegs]),
        record=np.array([f"r{k % 4}" for k in range(8)]), mv=np.zeros((8, 12, 8), np.float16),
        known=np.zeros((8, 12, 1), np.uint8), target_mv=np.zeros((8, 12, 8), np.float16),
        printed=np.zeros((8, 12, 1), np.uint8), sentence=np.array([""] * 8), group=np.array([""] * 8),
    )  # fmt: skip


def _targets(path: Path) -> None:
    unit = lambda n, s: _units(n, 16, s).numpy()  # noqa: E731
    np.savez(
        path, record=np.array([f"r{k}" for k in range(4)]), source=np.array(["ptbxl"] * 4), fold=np.array([1, 2, 3, 9]),
        codes=np.array(["AFIB", "SR NORM", "IMI SR", "SR"]), superclasses=np.array(["", "NORM", "MI", ""]),
        image=unit(8, 0).reshape(4, 2, 16), signal=unit(4, 1), printed=unit(4, 2), sentence=np.array(["a", "b"]),
        sentence_concept=np.array(["SR", "AFIB"]), text=unit(2, 3), concept=np.array(["SR", "AFIB"]),
        concept_vector=unit(2, 4), teacher=np.array("abc"),
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_training_writes_a_student_that_comes_back(tmp_path: Path) -> None:
    _pool(tmp_path)
    _targets(tmp_path / "targets.npz")
    config = StudentTrainConfig(tmp_path, tmp_path / "targets.npz", tmp_path / "run", StudentConfig(NAME, embedding=16),
                                steps=1, batch=2, log_every=1)  # fmt: skip
    net = load_student(train_student(config, lambda line: None))
    with torch.no_grad():
        assert torch.isfinite(net(torch.zeros(1, 1, 768, 768))[1]).all()
    assert "cosine" in (tmp_path / "run" / "page.jsonl").read_text(encoding="utf-8")


@pytest.mark.filterwarnings("ignore")
def test_a_training_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    _pool(tmp_path)
    _targets(tmp_path / "targets.npz")
    config = StudentTrainConfig(tmp_path, tmp_path / "targets.npz", tmp_path / "run", StudentConfig(NAME, embedding=16),
                                steps=1, batch=2, log_every=1)  # fmt: skip
    train_student(config, lambda line: None)
    said: list[str] = []
    train_student(replace(config, steps=2), said.append)
    assert said[0] == "going on at step 1"
    assert torch.load(tmp_path / "run" / STATE, weights_only=True)["step"] == 2
    with pytest.raises(InputError, match="is of a student"):
        train_student(replace(config, student=StudentConfig("repvit", embedding=16)), said.append)


def test_pools_of_other_records_are_refused(tmp_path: Path) -> None:
    _targets(tmp_path / "targets.npz")
    config = StudentTrainConfig(tmp_path, tmp_path / "targets.npz", tmp_path / "run")
    with pytest.raises(InputError, match="no pages"):
        train_student(config, lambda line: None)
