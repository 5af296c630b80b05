"""``ecgscan-edge``: photos of paper ECGs to signals. Parses, imports late, calls once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

import ecg
from ecg.errors import EcgscanError
from ecg.layouts import LAYOUTS

if TYPE_CHECKING:
    from ecg.page import Overrides

EXIT_READ: Final = 0
EXIT_FAULT: Final = 1
EXIT_UNUSABLE: Final = 2
EXIT_UNREADABLE: Final = 3
EXIT_STOPPED: Final = 130  # by Ctrl-C, as shells have it

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Photos of paper ECGs to twelve leads in millivolts, offline. Decision support, not a medical device.",
)


class Speed(str, Enum):
    """Paper speeds, mm/s."""

    slow = "25"
    fast = "50"


class Gain(str, Enum):
    """Gains, mm/mV."""

    half = "5"
    standard = "10"
    double = "20"


class EngineName(str, Enum):
    """What runs the nets (``edge_runtime.engines.ENGINES``)."""

    auto = "auto"
    ort = "ort"
    openvino = "openvino"
    trt = "trt"


OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")]
BundleOption = Annotated[Path | None, typer.Option("--bundle", help="Model bundle folder instead of the shipped one.")]
EngineOption = Annotated[
    EngineName, typer.Option(help="What runs the nets; auto: TensorRT where it is installed, else onnxruntime.")
]


KeepHeaderOption = Annotated[
    bool, typer.Option("--keep-header", help="Leave the printed header (names, numbers) in pictures.")
]


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A fault that has a message ends the command with that line and exit code 2."""
    try:
        yield
    except EcgscanError as err:
        typer.echo(f"ecgscan-edge: {err}", err=True)
        raise typer.Exit(EXIT_UNUSABLE) from None


def _overrides(speed: Speed | None, gain: Gain | None, layout: str | None) -> Overrides:
    """What the user says of the pages; wrong usage where there is no such layout."""
    if layout is not None and layout not in LAYOUTS:
        raise typer.BadParameter(f"{layout!r}: give one of {', '.join(LAYOUTS)}", param_hint="--layout")
    from ecg.page import Overrides

    return Overrides(
        paper_speed_mm_per_s=float(speed.value) if speed else None,
        gain_mm_per_mv=float(gain.value) if gain else None,
        layout=layout,
    )


def _exit_code(outcomes: Iterable[str]) -> int:
    """The worst of "read", "unreadable", "unusable" and "fault"."""
    codes = {"fault": EXIT_FAULT, "unusable": EXIT_UNUSABLE, "unreadable": EXIT_UNREADABLE}
    return next((code for outcome, code in codes.items() if outcome in set(outcomes)), EXIT_READ)


def _note(line: str) -> None:
    typer.echo(line, err=True)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ecgscan {ecg.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Kept so that a command's name stays a name, however few commands there are."""


@app.command(short_help="Photos to STEM.csv, STEM.json and STEM.png.")
def scan(
    photos: Annotated[
        list[Path], typer.Argument(metavar="PHOTO...", help="JPEG, HEIC, PNG, TIFF, BMP, WebP or PDF files.")
    ],
    out: OutOption = Path("ecgscan-out"),
    speed: Annotated[Speed | None, typer.Option(help="Paper speed in mm/s, instead of what the page says.")] = None,
    gain: Annotated[Gain | None, typer.Option(help="Gain in mm/mV, instead of what the page says.")] = None,
    layout: Annotated[
        str | None, typer.Option(help="Layout, for example 3x4+1, instead of what the page says.")
    ] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="Also write wfdb, edf, dicom, aecg, fhir or pdf (repeatable).")
    ] = None,
    keep_header: KeepHeaderOption = False,
    embedding: Annotated[bool, typer.Option("--embedding", help="Write the page's embedding into STEM.json.")] = False,
    bundle: BundleOption = None,
    engine: EngineOption = EngineName.auto,
) -> None:
    """Read photos into STEM.csv, STEM.json and STEM.png.

    Exit code: 0 all were read, 3 some could not be read (their JSON says why), 2 wrong usage or unusable files.
    """
    from edge_runtime.exports import FORMATS

    overrides = _overrides(speed, gain, layout)
    for name in formats or ():
        if name not in FORMATS:
            raise typer.BadParameter(f"{name!r}: give one of {', '.join(FORMATS)}", param_hint="--format")
    with one_line_errors():
        from edge_runtime.reader import Reader
        from edge_runtime.scan import Outcome, scan_files

        reader = Reader.open(bundle, engine=engine.value)
        if embedding:
            reader.keep_embedding = True
        outcomes = set()
        for line in scan_files(reader, photos, out, overrides, formats or (), keep_header=keep_header):
            outcomes.add(line.outcome.value)
            typer.echo(line.text, err=line.outcome in (Outcome.UNUSABLE, Outcome.FAULT))
    raise typer.Exit(_exit_code(outcomes))


@app.command(short_help="An archive to Parquet, on all cores.")
def batch(
    source: Annotated[str, typer.Argument(metavar="DIR|GLOB", help="A folder, or a quoted pattern: 'scans/**/*.jpg'.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the dataset; named again, it goes on.")],
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a core if not given.")] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="Also write csv, json, png, wfdb, edf, dicom, aecg, fhir or pdf (repeatable)."),
    ] = None,
    speed: Annotated[Speed | None, typer.Option(help="Paper speed in mm/s of all pages.")] = None,
    gain: Annotated[Gain | None, typer.Option(help="Gain in mm/mV of all pages.")] = None,
    layout: Annotated[str | None, typer.Option(help="Layout of all pages, for example 3x4+1.")] = None,
    keep_header: KeepHeaderOption = False,
    ray: Annotated[
        str | None, typer.Option("--ray", help="Read on a Ray cluster: its address, auto, or local.")
    ] = None,
    bundle: BundleOption = None,
    engine: EngineOption = EngineName.auto,
) -> None:
    """Read an archive into Parquet (readings-*.parquet) and a table of errors (errors.csv), side by side on all cores.

    Killed or stopped, the same command goes on where it was. Exit code: as scan's, over all files of the archive.
    """
    from functools import partial

    overrides = _overrides(speed, gain, layout)
    try:
        with one_line_errors():
            from edge_runtime import batch as archive

            options = archive.BatchOptions(out, workers, tuple(formats or ()), overrides, keep_header, ray)
            archive.check_formats(options.formats)
            open_reader = partial(archive.open_reader, bundle, engine.value)
            counts = archive.run_batch(source, options, open_reader, archive.bundle_hash(bundle), _note)
            typer.echo(archive.summary(counts, out))
    except KeyboardInterrupt:
        _note("stopped; the same command goes on")
        raise typer.Exit(EXIT_STOPPED) from None
    raise typer.Exit(_exit_code(counts))


@app.command(short_help="What is installed and found; a timed self-test.")
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
    bundle: BundleOption = None,
    engine: EngineOption = EngineName.auto,
) -> None:
    """Say what is installed and found, check the model bundle, and read the demo photo against the clock.

    Exit code: 0 usable, 2 not, with what to do.
    """
    from edge_runtime.doctor import examine, lines

    report = examine(bundle, engine.value)
    if as_json:
        import json

        typer.echo(json.dumps(report, indent=2))
    else:
        for line in lines(report):
            typer.echo(line)
    raise typer.Exit(EXIT_READ if report["usable"] else EXIT_UNUSABLE)


@app.command(short_help="Render an example photo, read it, compare.")
def demo(
    out: OutOption = Path("ecgscan-out"),
    bundle: BundleOption = None,
    seed: Annotated[int, typer.Option(help="Another heart, page and photo.")] = 1,
) -> None:
    """Render an example photo, read it, and compare the result with the truth."""
    with one_line_errors():
        from edge_runtime.demo import run_demo

        for line in run_demo(out, bundle, seed):
            typer.echo(line)


@app.command(short_help="Guide a camera over the page and read it.")
def camera(
    device: Annotated[
        str, typer.Option(help="A number, /dev/videoN, rtsp://..., gstreamer:PIPELINE, a video or a picture.")
    ] = "0",
    out: OutOption = Path("ecgscan-out"),
    headless: Annotated[bool, typer.Option("--headless", help="No window; guidance in the terminal.")] = False,
    once: Annotated[bool, typer.Option("--once", help="End after the first page that was read.")] = False,
    loop: Annotated[bool, typer.Option("--loop", help="Start a video over at its end.")] = False,
    retries: Annotated[int, typer.Option(min=0, help="Tries after an unplugged or silent camera.")] = 6,
    seconds: Annotated[float, typer.Option(min=0, help="End after this time; 0 runs on.")] = 0.0,
    speed: Annotated[Speed | None, typer.Option(help="Paper speed in mm/s, instead of what the page says.")] = None,
    gain: Annotated[Gain | None, typer.Option(help="Gain in mm/mV, instead of what the page says.")] = None,
    layout: Annotated[str | None, typer.Option(help="Layout, instead of what the page says.")] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="Also write wfdb, edf, dicom, aecg, fhir or pdf (repeatable).")
    ] = None,
    bundle: BundleOption = None,
) -> None:
    """Guide a camera over the page, take the sharpest picture once all is well, and read it. Ctrl-C ends.

    Exit code: 0 something was read, 3 nothing was, 2 wrong usage or no camera.
    """
    from edge_runtime.exports import FORMATS

    for name in formats or ():
        if name not in FORMATS:
            raise typer.BadParameter(f"{name!r}: give one of {', '.join(FORMATS)}", param_hint="--format")
    overrides = _overrides(speed, gain, layout)
    with one_line_errors():
        from edge_runtime.camera import CameraOptions, run_camera
        from edge_runtime.reader import Reader

        options = CameraOptions(device, out, headless, once, loop, retries, seconds, tuple(formats or ()), overrides)
        run = run_camera(Reader.open(bundle), options, typer.echo)
        typer.echo(run.summary(), err=not run.n_read)
    raise typer.Exit(EXIT_READ if run.n_read else EXIT_UNREADABLE)


@app.command(short_help="The local page; a phone can be its camera.")
def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 takes any free one.")] = 8765,
    lan: Annotated[
        bool, typer.Option("--lan", help="Let a phone be the camera: shows a QR code that works once. Unencrypted.")
    ] = False,
    address: Annotated[
        str | None, typer.Option(help="This machine's address in the network, where it has several; implies --lan.")
    ] = None,
    store: Annotated[Path | None, typer.Option(help="Keep the results (not the photos) in this folder.")] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    keep_header: KeepHeaderOption = False,
    bundle: BundleOption = None,
    engine: EngineOption = EngineName.auto,
) -> None:
    """The local page: take or drop a photo, see and correct the reading, download it. Only this computer can open it.

    Nothing is stored unless --store says so; photos are forgotten after 15 minutes without use.
    """
    with one_line_errors():
        from edge_runtime.reader import Reader
        from edge_runtime.serve.command import serve_page

        reader = Reader.open(bundle, engine=engine.value)
        serve_page(reader, port, lan=lan, address=address, store=store, keep_header=keep_header,
                   open_browser=open_page, say=typer.echo)  # fmt: skip
