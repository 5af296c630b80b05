"""``ecgscan-teacher``: train the ECG-Scan teacher, measure it, embed records with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from ecg.errors import EcgscanError, InputError

if TYPE_CHECKING:
    from teacher.config import TeacherConfig

_GIVEN = ("preset", "data", "pages", "workers", "held_out", "steps", "batch", "lr", "save_every", "precision", "seed")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


class Preset(str, Enum):
    """What is trained."""

    small = "small"
    paper = "paper"


@app.callback()
def main() -> None:
    """Train the ECG-Scan teacher: pages aligned with signals and reports."""


@app.command()
def train(
    preset: Annotated[Preset | None, typer.Option(help="small: offline, two CPU cores. paper: GPUs.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="synthetic, ptbxl:DIR, mimic:DIR, ...")] = None,
    out: Annotated[Path, typer.Option(help="The run's folder.")] = Path("runs/teacher"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps of the whole schedule.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=0, help="Stop after so many; --resume goes on.")] = None,
    pages: Annotated[int | None, typer.Option(min=1, help="Pages to print and photograph first.")] = None,
    pages_from: Annotated[Path | None, typer.Option(help="Rendered pages or shards that runs share.")] = None,
    hold_out: Annotated[list[int] | None, typer.Option(help="Folds that don't train; 9 and 10 unless named.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that render pages.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Pages a step and process.")] = None,
    lr: Annotated[float | None, typer.Option(min=0.0, help="Learning rate.")] = None,
    save_every: Annotated[int | None, typer.Option(min=1, help="Steps between checkpoints.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, no or bf16.")] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
) -> None:
    """Train a teacher; without options a short run on synthetic hearts, offline, in minutes.

    Pages are rendered first, then the reports embedded, the small preset's signal encoder trained, and the teacher.
    A run that was cut off at any moment goes on with --resume.  On several GPUs: accelerate launch -m teacher.cli ...
    """
    given = {"preset": preset, "data": data, "steps": steps, "pages": pages, "workers": workers, "batch": batch,
             "held_out": hold_out, "lr": lr, "save_every": save_every, "precision": precision,
             "seed": seed}  # fmt: skip
    with _one_line_errors():
        from teacher.train import Task
        from teacher.train import train as run

        config = _resumed(out, given) if resume else _config(given)
        typer.echo(f"wrote {run(Task(config, out, resume, max_steps, pages_from))}")


class Protocol(str, Enum):
    """What is measured."""

    zero_shot = "zero-shot"
    linear_probe = "linear-probe"
    shift = "shift"
    durations = "durations"
    ablation = "ablation"
    reconstruction = "reconstruction"


RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A finished run's folder.")]
ResultsOption = Annotated[Path | None, typer.Option("--results", help="Append the figures to this .jsonl file.")]


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """A fault that has a message ends the command with that line."""
    try:
        yield
    except ImportError as error:
        _end(f"the teacher needs {error.name or error}: pip install 'ecgscan[train]'")
    except EcgscanError as error:
        _end(str(error))


@app.command()
def evaluate(
    run: RunArgument,
    data: Annotated[list[str], typer.Option(help="ptbxl:DIR and the like: what is held out of it is measured.")],
    protocol: Annotated[list[Protocol] | None, typer.Option(help="Repeatable; zero-shot unless named.")] = None,
    readings: Annotated[
        Path | None, typer.Option(help="Photos as the edge read them (ecgscan-distill readings).")
    ] = None,
    labels: Annotated[str, typer.Option(help="super, codes, form or rhythm.")] = "super",
    condition: Annotated[list[str] | None, typer.Option(help="clean, photo; both unless named.")] = None,
    valid_fold: Annotated[list[int] | None, typer.Option(help="Chooses; 8 unless named.")] = None,
    test_fold: Annotated[list[int] | None, typer.Option(help="Is reported; 9 unless named.")] = None,
    to: Annotated[list[str] | None, typer.Option(help="Other sources, for shift.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of each short run, for ablation.")] = 60,
    seeds: Annotated[int, typer.Option(min=1, help="Of small shares of labels and of ablation.")] = 3,
    draws: Annotated[int, typer.Option(min=1, help="Bootstrap draws.")] = 1000,
    results: ResultsOption = None,
    table: Annotated[Path | None, typer.Option(help="Write the results file's tables here (Markdown).")] = None,
    plot: Annotated[Path | None, typer.Option(help="Plot the results file here (PNG).")] = None,
) -> None:
    """Measure a run on records that didn't train it: AUROC with bootstrap intervals, chosen on validation only."""
    with _one_line_errors():
        from teacher.measure import measure, write_tables

        chosen = [p.value for p in protocol or [Protocol.zero_shot]]
        given = {
            "data": tuple(data), "readings": readings, "labels": labels, "to": tuple(to or ()), "seeds": seeds,
            "draws": draws, "conditions": tuple(condition or ()), "valid_folds": tuple(valid_fold or ()),
            "test_folds": tuple(test_fold or ()),
        }  # fmt: skip
        for line in measure(run, chosen, {k: v for k, v in given.items() if v not in (None, ())}, steps, results):
            typer.echo(line)
        if table or plot:
            if results is None:
                raise InputError("tables and plots are made from a results file: name it with --results")
            write_tables(results, table, plot)


@app.command()
def embed(
    run: RunArgument,
    data: Annotated[list[str], typer.Option(help="ptbxl:DIR and the like.")],
    out: Annotated[Path, typer.Option(help="The targets' file.")] = Path("targets.npz"),
    photos: Annotated[bool, typer.Option("--photos", help="Embed each page as photographed too.")] = False,
) -> None:
    """Write the teacher's embeddings of records, their signals and all prompts: what students learn from."""
    with _one_line_errors():
        from teacher.embed import embed as write

        typer.echo(f"wrote {write(run, tuple(data), out, photos, typer.echo)}")


@app.command()
def render(
    out: Annotated[Path, typer.Option(help="Folder for the shards.")],
    preset: Annotated[Preset, typer.Option(help="Whose pages.")] = Preset.small,
    data: Annotated[list[str] | None, typer.Option(help="As for train.")] = None,
    pages: Annotated[int | None, typer.Option(min=1, help="How many in all.")] = None,
    shard_pages: Annotated[int, typer.Option(min=1, help="In each shard.")] = 256,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    ray: Annotated[str | None, typer.Option(metavar="ADDRESS", help="A Ray cluster, or local.")] = None,
) -> None:
    """Print and photograph pages beforehand, into webdataset shards (tar); what is there already is left."""
    with _one_line_errors():
        from teacher.tars import render_shards

        config = _config({"preset": preset, "data": data, "pages": pages, "seed": seed})
        made, of = render_shards(config, out, shard_pages, workers, ray)
        typer.echo(f"wrote {made} of {of} shards to {out}; the others were there")


@app.command()
def bench(
    batch: Annotated[int, typer.Option(min=1, help="Pages a step.")] = 2,
    steps: Annotated[int, typer.Option(min=1, help="Timed steps, after one that warms up.")] = 2,
    records: Annotated[int, typer.Option(min=1, help="Of the training that is estimated.")] = 772_000,
    epochs: Annotated[int, typer.Option(min=1)] = 5,
    results: ResultsOption = None,
) -> None:
    """A few real steps of the paper preset with random encoders of the real sizes: memory, speed, GPU hours."""
    with _one_line_errors():
        from teacher.bench import bench_paper

        for line in bench_paper(batch, steps, records, epochs, results):
            typer.echo(line)


def _config(given: dict[str, Any]) -> TeacherConfig:
    """The preset with what the options change."""
    from teacher.config import preset

    given = dict.fromkeys(_GIVEN) | given
    config = preset(given["preset"].value if given["preset"] else "small")
    data = {"sources": tuple(given["data"] or ()), "pages": given["pages"], "workers": given["workers"],
            "held_out": tuple(given["held_out"] or ())}  # fmt: skip
    optim = {name: given[name] for name in ("steps", "batch", "lr", "save_every", "precision", "seed")}
    try:
        return replace(config, data=_changed(config.data, data), optim=_changed(config.optim, optim))
    except ValueError as error:
        raise InputError(str(error)) from error


def _changed(part: Any, values: dict[str, Any]) -> Any:
    return replace(part, **{k: v for k, v in values.items() if v not in (None, ())})


def _resumed(out: Path, given: dict[str, Any]) -> TeacherConfig:
    """The run's own configuration; only the number of rendering processes may change."""
    from teacher.config import load_config

    config = load_config(out / "config.json")
    if said := [name for name, value in given.items() if value is not None and name != "workers"]:
        raise InputError(f"--{said[0]}: a resumed run keeps what {out / 'config.json'} says; leave it out")
    return replace(config, data=_changed(config.data, {"workers": given["workers"]}))


def _end(line: str) -> NoReturn:
    typer.echo(f"ecgscan-teacher: {line}", err=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
