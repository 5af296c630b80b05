"""A training from nothing: rendered, cut off, gone on with, and what stops it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ecg.errors import InputError
from teacher import pool as pools
from teacher.checkpoint import CHECKPOINT, read_tensors
from teacher.cli import app
from teacher.config import TeacherConfig, load_config, save_config
from teacher.encoders.weights import WeightsError
from teacher.pool import Pool, n_parts, part_path, read_part, render_parts
from teacher.pretrain import TrainingError, warm_cosine
from teacher.report import forget_after
from teacher.samples import Clocks
from teacher.train import Task, load_teacher, train

pytestmark = pytest.mark.usefixtures("named_text")


def losses(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "train.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines}


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory, tiny_run: TeacherConfig, tiny_pages: Path) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        from conftest import NamedText

        patch.setattr("teacher.train.build_text_encoder", lambda config: NamedText())
        assert train(Task(tiny_run, run, pages_from=tiny_pages)) == run / "teacher.safetensors"
    return run


# --------------------------------------------------------------------------------------------------------------- pages


def test_pages_on_disk(tiny_run: TeacherConfig, tiny_pages: Path, clocks: Clocks) -> None:
    part = read_part(part_path(tiny_pages, 0))
    assert part["mv"].shape == part["known"].shape == (10, 12, 1000)
    assert part["known"].dtype == bool
    from teacher.samples import Source, make_sample

    want = make_sample(7, Source(tiny_run), tiny_run, clocks)
    batch = Pool(tiny_pages, 10, 0).batch(np.array([7, 2]))
    assert batch.pages.shape == (2, 3, 32, 64)
    assert np.abs(batch.pages[0].numpy().transpose(1, 2, 0).astype(int) - want.page).mean() < 6  # JPEG
    assert np.abs(batch.mv[0].numpy() - want.mv).max() < 0.003
    assert np.array_equal(batch.printed[0].numpy(), want.printed)
    before = part_path(tiny_pages, 0).stat().st_mtime_ns
    render_parts(tiny_pages, tiny_run, clocks)  # what is there is kept
    assert part_path(tiny_pages, 0).stat().st_mtime_ns == before
    with pytest.raises(InputError, match="another configuration"):
        render_parts(tiny_pages, replace(tiny_run, optim=replace(tiny_run.optim, seed=5)), clocks)


def test_broken_pages_are_named(tmp_path: Path) -> None:
    for content in (b"", b"PK\x03\x04 cut off"):
        part_path(tmp_path, 0).write_bytes(content)
        with pytest.raises(InputError, match=r"part-000000\.npz"):
            read_part(part_path(tmp_path, 0))


def test_an_epoch_takes_every_page_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pools, "PART_SAMPLES", 3)
    pool = Pool(tmp_path, 100, 0)
    assert sorted(pool.order(0)) == list(range(100))
    assert not np.array_equal(pool.order(0), pool.order(1))
    assert n_parts(100) == 34
    batches = list(pool.numbers(30, 8, 0))
    assert np.array_equal(np.stack(batches[5:]), np.stack(list(pool.numbers(25, 8, 5))))  # from anywhere the same
    assert len(set(np.concatenate(batches[:12]).tolist())) == 96
    with pytest.raises(InputError, match="fewer than one batch"):
        next(pool.numbers(1, 101, 0))


# ------------------------------------------------------------------------------------------------------------ training


def test_a_whole_run_can_be_used(whole_run: Path, tiny_run: TeacherConfig) -> None:
    assert load_config(whole_run / "config.json") == tiny_run
    assert sorted(losses(whole_run)) == [1, 2, 3, 4, 5, 6]
    net = load_teacher(whole_run)
    rows = net.embed_pages(torch.zeros(2, 3, 32, 64, dtype=torch.uint8))
    assert rows.shape == (2, 16)
    assert torch.equal(rows, load_teacher(whole_run).embed_pages(torch.zeros(2, 3, 32, 64, dtype=torch.uint8)))


def test_cut_off_and_resumed_gives_the_same(
    tmp_path: Path, whole_run: Path, tiny_run: TeacherConfig, tiny_pages: Path
) -> None:
    run = tmp_path / "run"
    assert train(Task(tiny_run, run, max_steps=3, pages_from=tiny_pages)) == run / CHECKPOINT
    assert sorted(losses(run)) == [1, 2, 3]
    with pytest.raises(InputError, match="no finished teacher"):
        load_teacher(run)
    # As after kill -9 between two checkpoints: a later line, half a line, an unfinished file.
    with (run / "train.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 99.0}\n{"step": 5, "lo')
    (run / "checkpoint.4711.part").write_bytes(b"half")
    train(Task(tiny_run, run, resume=True, pages_from=tiny_pages))
    assert losses(run) == losses(whole_run)
    mine, theirs = read_tensors(run / "teacher.safetensors")[0], read_tensors(whole_run / "teacher.safetensors")[0]
    assert set(mine) == set(theirs)
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_resuming_before_the_first_checkpoint(tmp_path: Path, tiny_run: TeacherConfig, tiny_pages: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    save_config(tiny_run, run / "config.json")  # all that was there when the power went
    train(Task(tiny_run, run, resume=True, max_steps=1, pages_from=tiny_pages))
    assert sorted(losses(run)) == [1]


def test_accumulated_steps(tmp_path: Path, tiny_run: TeacherConfig, tiny_pages: Path) -> None:
    config = replace(tiny_run, optim=replace(tiny_run.optim, accumulate=2, batch=2, steps=2))
    train(Task(config, tmp_path / "run", pages_from=tiny_pages))
    assert sorted(losses(tmp_path / "run")) == [1, 2]


def test_nan_stops_with_step_and_pages(
    tmp_path: Path, tiny_run: TeacherConfig, tiny_pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from teacher import train as module

    honest = module.terms

    def poisoned(out, batch, config):
        found = honest(out, batch, config)
        poisoned.calls += 1  # type: ignore[attr-defined]
        return found | {"gramian": found["gramian"] * (torch.nan if poisoned.calls == 4 else 1)}  # type: ignore[attr-defined]

    poisoned.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "terms", poisoned)
    run = tmp_path / "run"
    with pytest.raises(TrainingError, match=r"step 3: not finite: .*'gramian': nan.*pages \[\d+") as caught:
        train(Task(tiny_run, run, pages_from=tiny_pages))
    assert "\n" not in str(caught.value)
    assert read_tensors(run / CHECKPOINT)[1]["step"] == "2"  # whole, and from before


def test_a_run_isnt_overwritten_or_continued_as_another(whole_run: Path, tiny_run: TeacherConfig) -> None:
    with pytest.raises(InputError, match="add --resume"):
        train(Task(tiny_run, whole_run))
    with pytest.raises(InputError, match="says otherwise"):
        train(Task(replace(tiny_run, width=32), whole_run, resume=True))


def test_a_broken_checkpoint_is_named(tmp_path: Path, tiny_run: TeacherConfig, tiny_pages: Path) -> None:
    run = tmp_path / "run"
    train(Task(tiny_run, run, max_steps=2, pages_from=tiny_pages))
    (run / CHECKPOINT).write_bytes(b"rubbish")
    with pytest.raises(WeightsError, match=r"checkpoint\.safetensors"):
        train(Task(tiny_run, run, resume=True, pages_from=tiny_pages))


def test_learning_rate() -> None:
    rates = [warm_cosine(k, 100, 10) for k in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1, abs=0.03)
    assert rates[-1] < 0.02
    assert all(a > b for a, b in pairwise(rates[10:]))


def test_forget_after(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    forget_after(path, 1)
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    forget_after(path, 1)
    assert path.read_text() == '{"step": 1}\n'


# ------------------------------------------------------------------------------------------------------------- command


def test_command(tmp_path: Path, tiny_run: TeacherConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("teacher.config.PRESETS", {"small": tiny_run})
    run, cli = str(tmp_path / "run"), CliRunner()
    done = cli.invoke(app, ["train", "--out", run, "--pages", "4", "--steps", "2", "--max-steps", "1"])
    assert done.exit_code == 0, done.output
    assert "checkpoint.safetensors" in done.output
    config = load_config(tmp_path / "run" / "config.json")
    assert (config.data.pages, config.optim.steps) == (4, 2)
    again = cli.invoke(app, ["train", "--out", run])
    assert again.exit_code == 1
    assert "add --resume" in again.output
    other = cli.invoke(app, ["train", "--out", run, "--resume", "--steps", "9"])
    assert other.exit_code == 1
    assert "--steps" in other.output
    rest = cli.invoke(app, ["train", "--out", run, "--resume"])
    assert rest.exit_code == 0, rest.output
    assert "teacher.safetensors" in rest.output


def test_commands_faults_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cli = CliRunner()
    for args, match in (
        (["--preset", "paper"], "weights/clip-vit-l-14-336.safetensors: CLIP's weights not found; fetch"),
        (["--data", "nowhere:x"], "expected KIND:DIR"),
        (["--precision", "fp7"], "precision"),
        (["--resume"], "config.json"),
    ):
        done = cli.invoke(app, ["train", "--out", f"run-{args[0]}", *args])
        assert done.exit_code == 1, done.output
        assert match in done.output
        assert len(done.output.strip().splitlines()) == 1, done.output
        assert not (tmp_path / f"run-{args[0]}").exists()


def test_help_without_a_command() -> None:
    done = CliRunner().invoke(app, ["--help"])
    assert done.exit_code == 0
    assert "train" in done.output
