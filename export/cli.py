"""``ecgscan-export``: a run's nets to the bundle that the edge reads with, a bundle to what an engine wants."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from ecg import __version__
from ecg.errors import EcgscanError, InputError

# Few samples can't tell the methods of ranges apart: on 32 the one that cut a fourteenth of the marks' recall won.
HELD_OUT_TIMES: Final = 6

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


class Target(str, Enum):
    """What to export to."""

    onnx = "onnx"
    trt = "trt"
    openvino = "openvino"


class Precision(str, Enum):
    """What the nets of a bundle compute with."""

    int8 = "int8"
    fp32 = "fp32"
    both = "both"


@app.callback(invoke_without_command=True)
def main(
    run: Annotated[Path | None, typer.Option(help="Folder with a run's checkpoints (onnx: runs/student).")] = None,
    out: Annotated[Path, typer.Option(help="The bundle's folder, or the folder of the engines' files.")] = Path(
        "runs/bundle"
    ),
    target: Annotated[
        Target, typer.Option(help="onnx: a run to a bundle. trt, openvino: a bundle to what those engines load.")
    ] = Target.onnx,
    precision: Annotated[Precision, typer.Option(help="both: 8-bit files with the float one beside.")] = Precision.int8,
    shards: Annotated[Path, typer.Option(help="Rendered shards: the first hold out, others calibrate (int8).")] = Path(
        "runs/shards"
    ),
    patches: Annotated[
        Path | None, typer.Option(help="Patches that calibrate the mark reader; without them it stays in float.")
    ] = None,
    starts: Annotated[
        Path | None, typer.Option(help="Starts that calibrate the start reader; without them it stays in float.")
    ] = None,
    readings: Annotated[
        Path | None, typer.Option(help="Readings that calibrate the findings' net; without them it stays in float.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Pictures that calibrate; six times as many are held out.")] = 32,
    base: Annotated[
        Path | None, typer.Option(help="onnx: a bundle that nets come from, as they are, of which the run has none.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="trt, openvino: this bundle, not the shipped one.")] = None,
    extras: Annotated[
        Path | None, typer.Option(help="JSON whose entries go into bundle.json's extras; else the run's findings.json.")
    ] = None,
    file: Annotated[
        list[Path] | None, typer.Option(help="A file to put into the bundle (repeatable); else the run's prompts.npz.")
    ] = None,
    notes: Annotated[str, typer.Option(help="A line for bundle.json, such as how the nets were trained.")] = "",
) -> None:
    """Export nets, each held against torch and its task, as one bundle; or a bundle for TensorRT or OpenVINO."""
    try:
        held = {"shards": shards, "patches": patches, "starts": starts, "readings": readings}
        source = run or Path("runs/student")
        if target is Target.onnx or run is not None:
            text = {"extras": _extras(extras or _there(source / "findings.json")), "notes": notes,
                    "files": {f.stem: f for f in file or filter(None, [_there(source / "prompts.npz")])}}  # fmt: skip
        if target is Target.onnx:
            _to_bundle(source, held, samples, out, precision, text, base)
            return
        if run is not None:
            _to_bundle(source, held, samples, out / "bundle", Precision.int8, text, base)
            bundle = out / "bundle"
        from export.targets import to_openvino, to_trt

        for line in (to_trt if target is Target.trt else to_openvino)(bundle, out):
            typer.echo(line)
    except EcgscanError as e:
        typer.echo(f"ecgscan-export: {e}", err=True)
        raise typer.Exit(2) from e


def _to_bundle(
    run: Path, held: dict[str, Any], samples: int, out: Path, precision: Precision, text: dict[str, Any],
    base_folder: Path | None,
) -> None:  # fmt: skip
    """``held``: folders and files that calibrate and are held out, by what they are for."""
    int8 = precision is not Precision.fp32
    if int8 and not held["shards"].is_dir():
        raise InputError(
            f"{held['shards']}: no such folder; name rendered shards with --shards, or use --precision fp32"
        )
    from ecg.bundle import load_bundle
    from export.build import BundleText, build_bundle
    from export.jobs import JobSource
    from export.to_onnx import TRAINING_DATA, jobs

    source = JobSource(run, samples=samples, held_out=HELD_OUT_TIMES * samples, **held) if int8 else JobSource(run)
    base = load_bundle(base_folder) if base_folder else None
    if base:
        files = {name: base.info.path / file.file for name, file in base.files.items()}
        text = {"extras": {**base.extras, **text["extras"]}, "files": {**files, **text["files"]},
                "notes": text["notes"] or base.notes}  # fmt: skip
    told = BundleText(__version__, TRAINING_DATA, **text)
    made = build_bundle(jobs(source, based=base is not None), out, told, int8=int8,
                        keep_fp32=precision is Precision.both, base=base, say=typer.echo)  # fmt: skip
    size = sum(f.stat().st_size for f in out.glob("*")) / 1e6
    typer.echo(f"wrote {out}: {', '.join(made.nets)}, {precision.value}, {size:.1f} MB, {made.info.sha256[:12]}")


def _there(path: Path) -> Path | None:
    return path if path.exists() else None


def _extras(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise InputError(f"{path}: can't be read as JSON ({err}); name another file with --extras") from err
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no JSON object; name another file with --extras")
    return found


if __name__ == "__main__":
    app()
