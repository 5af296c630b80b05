"""``ecgscan-distill``: train the students, render what they learn from."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ecg.errors import EcgscanError

app = typer.Typer(add_completion=False, help=__doc__)


class Student(str, Enum):
    """The student's image encoder."""

    mobilevit = "mobilevit"
    mobilenetv4 = "mobilenetv4"
    repvit = "repvit"


class Part(str, Enum):
    """Which net of the student."""

    finder = "finder"
    finder_coarse = "finder-coarse"
    finder_fine = "finder-fine"
    decoder = "decoder"
    mark_reader = "mark-reader"
    start_reader = "start-reader"
    encoder = "encoder"


@app.callback(invoke_without_command=True)
def distill(
    context: typer.Context,
    student: Annotated[
        Student, typer.Option(help="The page's encoder; the other nets are the same for all.")
    ] = Student.mobilevit,
    part: Annotated[Part, typer.Option(help="Which net to train.")] = Part.finder,
    out: Annotated[Path, typer.Option(help="The run's folder; an earlier run there goes on.")] = Path("runs/student"),
    shards: Annotated[Path, typer.Option(help="Folder that `render` fills (it may still be filling).")] = Path(
        "runs/shards"
    ),
    minutes: Annotated[float, typer.Option(help="Time a net; the learning rate ends with it.")] = 60.0,
    steps: Annotated[int, typer.Option(help="Steps a net instead of --minutes.")] = 0,
    batch: Annotated[int, typer.Option()] = 12,
    threads: Annotated[int, typer.Option()] = 1,
    lr: Annotated[float, typer.Option(help="All but the encoder: the highest learning rate.")] = 2e-3,
    begin: Annotated[
        Path | None,
        typer.Option(
            help="All but the encoder: a bundle whose weights a new run begins with, or a finder's or "
            "decoder's checkpoint."
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="decoder: a bundle whose decoder teaches a narrower one, and gives a new run the channels that "
            "matter most."
        ),
    ] = None,
    pages: Annotated[Path, typer.Option(help="encoder: a teacher's pool of rendered pages.")] = Path("runs/pages"),
    targets: Annotated[Path, typer.Option(help="encoder: what ecgscan-teacher embed wrote.")] = Path(
        "runs/targets.npz"
    ),
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Train a part of the student."""
    if context.invoked_subcommand:
        return
    if part is Part.encoder:
        _told(lambda: _encoder(student.value, pages, targets, out, minutes, steps, batch, threads, seed))
        return
    if part in (Part.mark_reader, Part.start_reader):
        _told(lambda: _patch_reader(part, shards, out, steps, lr, seed, threads, begin))
        return
    from distill.train import PARTS, TrainConfig, train

    def work() -> None:
        for what in PARTS[part.value]:
            budget_s = 0.0 if steps else minutes * 60
            config = TrainConfig(what, shards, out, steps=steps or 1, batch=batch, threads=threads, seed=seed,
                                 lr=lr, begin=begin, budget_s=budget_s, teacher=teacher)  # fmt: skip
            typer.echo(f"wrote {train(config)}")

    _told(work)


def _patch_reader(
    part: Part, patches: Path, out: Path, steps: int, lr: float, seed: int, threads: int, begin: Path | None
) -> None:
    """The readers of what small patches show."""
    from distill.mark_train import MarkConfig, train_marks
    from distill.start_train import StartTraining, train_starts

    if part is Part.mark_reader:
        path = train_marks(
            MarkConfig(patches, out, steps=steps or 2600, lr=lr, seed=seed, threads=threads, begin=begin)
        )
    else:
        path = train_starts(
            StartTraining(patches, out, steps=steps or 6000, lr=lr, seed=seed, threads=threads, begin=begin)
        )
    typer.echo(f"wrote {path}")


def _encoder(
    student: str, pages: Path, targets: Path, out: Path, minutes: float, steps: int, batch: int, threads: int, seed: int
) -> None:
    """The page path."""
    import torch

    from distill.page_train import StudentTrainConfig, train_student
    from distill.students import StudentConfig
    from teacher.embed import load_targets

    torch.set_num_threads(threads)
    net = StudentConfig(student, embedding=load_targets(targets).signal.shape[1])
    config = StudentTrainConfig(pages, targets, out, net, minutes=minutes, steps=steps, batch=batch, seed=seed)
    typer.echo(f"wrote {train_student(config, typer.echo)}")


@app.command()
def render(
    out: Annotated[Path, typer.Option(help="Folder for the shards; those there are kept.")] = Path("runs/shards"),
    shards: Annotated[int, typer.Option(help="How many shards of 24 photographs.")] = 200,
    first: Annotated[int, typer.Option(help="Number of the first.")] = 0,
    data: Annotated[
        list[str] | None, typer.Option(help="Records to print: ptbxl:DIR, cinc:DIR, ludb:DIR, wfdb:DIR.")
    ] = None,
    fonts: Annotated[list[str] | None, typer.Option(help="More TrueType files for printed text.")] = None,
    long_side_px: Annotated[tuple[int, int], typer.Option(help="Smallest and largest photographs.")] = (1000, 2600),
    strips: Annotated[int, typer.Option(help="Strips cut out of a photograph.")] = 4,
    crops: Annotated[int, typer.Option(help="Crops for the fine finder out of a photograph.")] = 2,
    unusual: Annotated[float, typer.Option(help="Share of pages at 50 mm/s or at 5, 20 or 10/5 mm/mV.")] = 0.0,
    crowded: Annotated[float, typer.Option(help="Share of pages whose tall waves run through other rows.")] = 0.0,
    lone: Annotated[float, typer.Option(help="Share of pages of a single row.")] = 0.0,
    beats: Annotated[float, typer.Option(help="Share of pages with a beat cut in two where columns meet.")] = 0.0,
    prints: Annotated[float, typer.Option(help="Share of pages as printed, without a camera.")] = 0.0,
    no_ecg: Annotated[float, typer.Option(help="Share of photographs that show no ECG.")] = 0.06,
    reader: Annotated[
        Path | None, typer.Option(help="Bundle whose decoder reads pages first: strips show where the other rows run.")
    ] = None,
    workers: Annotated[int, typer.Option()] = 1,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Render synthetic photographs with exact truth and cut them into samples."""
    from distill.render import RenderConfig
    from distill.render import render as run

    config = RenderConfig(out, shards, first, data=tuple(data or ()), fonts=tuple(fonts or ()), workers=workers,
                          seed=seed, long_side_px=long_side_px, strips_per_photo=strips,
                          fine_per_photo=crops, unusual_share=unusual, no_ecg_share=no_ecg, crowded_share=crowded,
                          lone_share=lone, beat_share=beats, print_share=prints, reader=reader)  # fmt: skip
    _told(lambda: run(config))


@app.command()
def findings(
    data: Annotated[list[str], typer.Option(help="Records to learn from: ptbxl:DIR (folds 1 to 7), ludb:DIR.")],
    out: Annotated[Path, typer.Option(help="The run's folder; features kept there are used again.")] = Path(
        "runs/student"
    ),
    copies: Annotated[int, typer.Option(help="Simulated readings of each record.")] = 12,
    synthetic: Annotated[int, typer.Option(help="Synthetic hearts beside them.")] = 2400,
    targets: Annotated[
        Path | None, typer.Option(help="What ecgscan-teacher embed wrote: the embedding comes into its space.")
    ] = None,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Train the signal path: decoded leads to findings and an embedding among the prompts."""
    from distill.findings_run import train_run

    _told(lambda: typer.echo(f"wrote {train_run(data, out, targets, seed, copies, synthetic)}"))


@app.command()
def calibrate(
    run: Annotated[Path, typer.Argument(help="Folder with findings.ckpt.")],
    readings: Annotated[Path, typer.Option(help="What `readings` wrote; PTB-XL's fold 8 calibrates.")],
    prompts: Annotated[Path | None, typer.Option(help="Your own prompts, lines NAME: sentence | sentence.")] = None,
) -> None:
    """Fit probabilities, thresholds and abstention; write findings.json and prompts.npz for ecgscan-export."""
    from distill.findings_run import calibrate_run

    _told(lambda: typer.echo(f"wrote {run / 'findings.json'}: {calibrate_run(run, readings, prompts)}"))


@app.command()
def readings(
    data: Annotated[list[str], typer.Option(help="Records to print, photograph and read: ptbxl:DIR, cinc:DIR.")],
    out: Annotated[Path, typer.Option(help="File for the readings; an earlier run there goes on.")] = Path(
        "runs/readings.npz"
    ),
    folds: Annotated[list[int] | None, typer.Option(help="Only these folds of sources that have folds.")] = None,
    conditions: Annotated[list[str] | None, typer.Option(help="photo, clean; both by default.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="The reader's bundle; the shipped one by default.")] = None,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Print, photograph and read records with the edge's reader, for findings to be calibrated and tested on."""
    from distill.readings import CONDITIONS, ReadingsConfig, read_all

    config = ReadingsConfig(out, tuple(data), tuple(folds or ()), tuple(conditions or CONDITIONS), bundle, seed)
    _told(lambda: read_all(config, typer.echo))


@app.command("render-marks")
def render_marks(
    out: Annotated[Path, typer.Option(help="Folder for the patches; files there are kept.")] = Path("runs/patches"),
    files: Annotated[int, typer.Option(help="How many files of 40 pages.")] = 80,
    first: Annotated[int, typer.Option(help="Number of the first.")] = 0,
    data: Annotated[
        list[str] | None, typer.Option(help="Records to print: ptbxl:DIR, cinc:DIR, ludb:DIR, wfdb:DIR.")
    ] = None,
    fonts: Annotated[list[str] | None, typer.Option(help="More TrueType files for printed text.")] = None,
    lone: Annotated[float, typer.Option(help="Share of pages of a single row.")] = 0.0,
    workers: Annotated[int, typer.Option()] = 1,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Print pages and cut out names and texts: what --part mark-reader --shards OUT learns from."""
    from distill.mark_samples import PatchConfig, render_patches

    config = PatchConfig(out, files, first, data=tuple(data or ()), fonts=tuple(fonts or ()), lone_share=lone,
                         workers=workers, seed=seed)  # fmt: skip
    _told(lambda: render_patches(config))


@app.command("render-starts")
def render_starts(
    out: Annotated[Path, typer.Option(help="Folder for the patches; files there are kept.")] = Path("runs/starts"),
    files: Annotated[int, typer.Option(help="How many files of 40 pages.")] = 260,
    first: Annotated[int, typer.Option(help="Number of the first.")] = 0,
    data: Annotated[
        list[str] | None, typer.Option(help="Records to print: ptbxl:DIR, cinc:DIR, ludb:DIR, wfdb:DIR.")
    ] = None,
    fonts: Annotated[list[str] | None, typer.Option(help="More TrueType files for printed text.")] = None,
    workers: Annotated[int, typer.Option()] = 1,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Print pages and cut out where traces start and end: what --part start-reader --shards OUT learns from."""
    from distill import start_samples

    config = start_samples.StartConfig(
        out, files, first, data=tuple(data or ()), fonts=tuple(fonts or ()), workers=workers, seed=seed
    )
    _told(lambda: start_samples.render_starts(config))


def _told(work) -> None:
    try:
        work()
    except EcgscanError as e:
        typer.echo(f"ecgscan-distill: {e}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    app()
