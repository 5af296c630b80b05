"""A tiny run is measured, its embeddings written, its tables made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import NamedText
from typer.testing import CliRunner

from ecg.errors import InputError
from ecg.findings import SUPERCLASSES
from ecg.records import EcgRecord
from ecg.synth.heart import beat, random_heart
from teacher.cli import app
from teacher.config import TeacherConfig
from teacher.embed import load_targets
from teacher.eval_pages import plausible
from teacher.tables import markdown, newest, read_rows
from teacher.train import Task, train


class HeartRef:
    """A synthetic heart that says it is a record of PTB-XL."""

    def __init__(self, number: int) -> None:
        rng = np.random.default_rng([9, number])
        self.record: EcgRecord = replace(
            beat(random_heart(rng), 10.0, rng=rng), name=f"heart-{number}", fold=(8, 9, 1)[number % 3]
        )
        self.name, self.fold = self.record.name, self.record.fold
        self.path = Path(self.name)
        self.labels = {"codes": self.record.codes, "superclasses": self.record.superclasses}

    def read(self) -> EcgRecord:
        return self.record


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, tiny_run: TeacherConfig) -> Path:
    """A finished tiny run whose pages show made-up "PTB-XL" records."""
    refs = [HeartRef(k) for k in range(36)]
    run = tmp_path_factory.mktemp("runs") / "measured"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("teacher.train.build_text_encoder", lambda config: NamedText())
        patch.setattr("teacher.samples.list_records", lambda spec: refs)
        config = replace(tiny_run, data=replace(tiny_run.data, sources=("ptbxl:x",), held_out=(8, 9, 10), pages=16))
        train(Task(config, run))
    return run


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    refs = [HeartRef(k) for k in range(36)]
    monkeypatch.setattr("teacher.eval_pages.list_records", lambda spec: refs)
    for where in ("train", "evaluate", "embed"):
        monkeypatch.setattr(f"teacher.{where}.build_text_encoder", lambda config: NamedText())


@pytest.mark.usefixtures("made_up")
def test_evaluate(measured: Path, tmp_path: Path) -> None:
    results, table, picture = tmp_path / "teacher.jsonl", tmp_path / "t.md", tmp_path / "p.png"
    args = ["evaluate", str(measured), "--data", "ptbxl:x", "--draws", "20", "--results", str(results)]
    for protocol in ("zero-shot", "linear-probe", "durations", "reconstruction"):
        args += ["--protocol", protocol]
    done = CliRunner().invoke(app, [*args, "--condition", "clean", "--seeds", "1", "--table", str(table)])
    assert done.exit_code == 0, done.output
    rows = read_rows(results)
    shot = [r for r in rows if r["task"] == "teacher/zero-shot"]
    assert {r["encoder"] for r in shot} == {"image", "random image encoder", "signal encoder"}
    assert {r["column"] for r in shot} == {"own prompts", "merl: plain names as prompts"}
    for row in shot:
        value, low, high = row["auroc"]
        assert low <= value <= high
        assert set(row["classes"]) <= set(SUPERCLASSES)
        assert row["records"] == 12
    probes = [r for r in rows if r["task"] == "teacher/linear-probe"]
    assert {r["share"] for r in probes} == {0.01, 0.1, 1.0}
    assert any(r["column"].startswith("merl") for r in probes)
    (drawn,) = [r for r in rows if r["task"] == "teacher/reconstruction"]
    assert drawn["mean_absolute_error_uv"] > 0
    assert drawn["einthoven_residual_of_truth_uv"] < 50
    assert "### teacher/zero-shot" in table.read_text()
    assert len(newest(rows + rows)) == len(newest(rows))
    assert "| image" in markdown(rows)
    pytest.importorskip("matplotlib")
    from teacher.tables import plot

    plot(rows, picture)
    assert picture.stat().st_size > 1000


@pytest.mark.usefixtures("made_up")
def test_embed(measured: Path, tmp_path: Path) -> None:
    out = tmp_path / "targets.npz"
    done = CliRunner().invoke(app, ["embed", str(measured), "--data", "ptbxl:x", "--out", str(out)])
    assert done.exit_code == 0, done.output
    got = load_targets(out)
    assert got.image.shape == (36, 1, 16)
    assert got.signal.shape == got.printed.shape == (36, 16)
    for rows in (got.image, got.signal, got.text, got.concept_vector):
        assert np.allclose(np.linalg.norm(rows, axis=-1), 1, atol=1e-4)
    assert set(got.source) == {"ptbxl"}
    assert got.concept[-5:].tolist() == list(SUPERCLASSES)
    assert len(got.teacher) == 64
    with pytest.raises(InputError, match="embed"):
        load_targets(tmp_path / "none.npz")


def test_lost_gains_dont_tell_the_labels() -> None:
    record = replace(HeartRef(3).record, true_mv=False)
    other = replace(record, codes=("LVH",), superclasses=("HYP",))
    assert np.array_equal(plausible(record).mv, plausible(other).mv)


def test_faults_are_one_line(tmp_path: Path) -> None:
    for args, match in (
        (["evaluate", str(tmp_path), "--data", "ptbxl:x"], "config.json"),
        (["embed", str(tmp_path), "--data", "ptbxl:x"], "config.json"),
        (["render", "--out", str(tmp_path / "r"), "--data", "nowhere:x"], "expected KIND:DIR"),
    ):
        done = CliRunner().invoke(app, args)
        assert done.exit_code == 1, done.output
        assert match in done.output
        assert len(done.output.strip().splitlines()) == 1, done.output


def test_results_are_json(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"task": "teacher/ablation", "variant": "all", "zero_shot": 0.7}) + "\n")
    assert "| variant | zero_shot |" in markdown(read_rows(path))
    with pytest.raises(InputError, match="no such file"):
        read_rows(tmp_path / "none.jsonl")
