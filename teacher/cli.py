"""``ecgscan-teacher``: train the ECG-Scan teacher."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from ecg.errors import EcgscanError, InputError

if TYPE_CHECKING:
    from teacher.config import TeacherConfig

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
    data: Annotated[list[str] | None, typer.Option(help="synthetic, ptbxl:DIR, cinc:DIR, ludb:DIR, wfdb:DIR.")] = None,
    out: Annotated[Path, typer.Option(help="The run's folder.")] = Path("runs/teacher"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps of the whole schedule.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=0, help="Stop after so many; --resume goes on.")] = None,
    pages: Annotated[int | None, typer.Option(min=1, help="Pages to print and photograph first.")] = None,
    pages_from: Annotated[Path | None, typer.Option(help="Folder of rendered pages that runs share.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that render pages.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Pages a step and process.")] = None,
    precision: Annotated[str | None, typer.Option(help="no or bf16.")] = None,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
) -> None:
    """Train a teacher; without options a short run on synthetic hearts, offline, in minutes.

    Pages are rendered first, then the reports embedded, the small preset's signal encoder trained, and the teacher.
    A run that was cut off at any moment goes on with --resume.  On several GPUs: accelerate launch -m teacher.cli ...
    """
    given = {"preset": preset, "data": data, "steps": steps, "pages": pages, "workers": workers, "batch": batch,
             "precision": precision, "seed": seed}  # fmt: skip
    try:
        from teacher.train import Task
        from teacher.train import train as run

        config = _resumed(out, given) if resume else _config(given)
        typer.echo(f"wrote {run(Task(config, out, resume, max_steps, pages_from))}")
    except ImportError as error:
        _end(f"the teacher needs {error.name or error}: pip install 'ecgscan[train]'")
    except EcgscanError as error:
        _end(str(error))


def _config(given: dict[str, Any]) -> TeacherConfig:
    """The preset with what the options change."""
    from teacher.config import preset

    config = preset(given["preset"].value if given["preset"] else "small")
    data = {"sources": tuple(given["data"] or ()), "pages": given["pages"], "workers": given["workers"]}
    optim = {name: given[name] for name in ("steps", "batch", "precision", "seed")}
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
