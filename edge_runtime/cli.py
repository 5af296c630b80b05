"""``ecgscan-edge``: photos of paper ECGs to signals. Parses, imports late, calls once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated, Final

import typer

import ecg
from ecg.errors import EcgscanError
from ecg.layouts import LAYOUTS

EXIT_READ: Final = 0
EXIT_FAULT: Final = 1
EXIT_UNUSABLE: Final = 2
EXIT_UNREADABLE: Final = 3

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


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A fault that has a message ends the command with that line and exit code 2."""
    try:
        yield
    except EcgscanError as err:
        typer.echo(f"ecgscan-edge: {err}", err=True)
        raise typer.Exit(EXIT_UNUSABLE) from None


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


@app.command()
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
    bundle: BundleOption = None,
    engine: EngineOption = EngineName.auto,
) -> None:
    """Read photos into STEM.csv, STEM.json and STEM.png.

    Exit code: 0 all were read, 3 some could not be read (their JSON says why), 2 wrong usage or unusable files.
    """
    if layout is not None and layout not in LAYOUTS:
        raise typer.BadParameter(f"{layout!r}: give one of {', '.join(LAYOUTS)}", param_hint="--layout")
    from ecg.page import Overrides
    from edge_runtime.exports import FORMATS

    for name in formats or ():
        if name not in FORMATS:
            raise typer.BadParameter(f"{name!r}: give one of {', '.join(FORMATS)}", param_hint="--format")
    overrides = Overrides(
        paper_speed_mm_per_s=float(speed.value) if speed else None,
        gain_mm_per_mv=float(gain.value) if gain else None,
        layout=layout,
    )
    with one_line_errors():
        from edge_runtime.reader import Reader
        from edge_runtime.scan import Outcome, scan_files

        reader = Reader.open(bundle, engine=engine.value)
        outcomes = set()
        for line in scan_files(reader, photos, out, overrides, formats or ()):
            outcomes.add(line.outcome)
            typer.echo(line.text, err=line.outcome in (Outcome.UNUSABLE, Outcome.FAULT))
    codes = {Outcome.FAULT: EXIT_FAULT, Outcome.UNUSABLE: EXIT_UNUSABLE, Outcome.UNREADABLE: EXIT_UNREADABLE}
    raise typer.Exit(next((code for outcome, code in codes.items() if outcome in outcomes), EXIT_READ))


@app.command()
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


@app.command()
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
    with one_line_errors():
        from edge_runtime.camera import CameraOptions, run_camera
        from edge_runtime.reader import Reader

        options = CameraOptions(device, out, headless, once, loop, retries, seconds, tuple(formats or ()))
        run = run_camera(Reader.open(bundle), options, typer.echo)
        typer.echo(run.summary(), err=not run.n_read)
    raise typer.Exit(EXIT_READ if run.n_read else EXIT_UNREADABLE)


@app.command()
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
    bundle: BundleOption = None,
) -> None:
    """The local page: take or drop a photo, see and correct the reading, download it. Only this computer can open it.

    Nothing is stored unless --store says so; photos are forgotten after 15 minutes without use.
    """
    with one_line_errors():
        from edge_runtime.reader import Reader
        from edge_runtime.serve.command import serve_page

        serve_page(
            Reader.open(bundle), port, lan=lan, address=address, store=store, open_browser=open_page, say=typer.echo
        )
