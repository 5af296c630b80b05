"""``ecgscan-export``: a run's nets to the bundle that the edge reads with."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from ecg import __version__
from ecg.errors import EcgscanError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


class Target(str, Enum):
    """What to export to."""

    onnx = "onnx"
    trt = "trt"


@app.callback(invoke_without_command=True)
def main(
    run: Annotated[Path, typer.Option(help="Folder with coarse.ckpt, fine.ckpt and strip.ckpt.")] = Path(
        "runs/student"
    ),
    out: Annotated[Path, typer.Option(help="The bundle's folder.")] = Path("runs/bundle"),
    target: Annotated[Target, typer.Option(help="onnx: fp32 nets and bundle.json.")] = Target.onnx,
    notes: Annotated[str, typer.Option(help="A line for bundle.json, such as how the nets were trained.")] = "",
) -> None:
    """Export finder and decoder, each held against torch, as one bundle."""
    if target is Target.trt:
        typer.echo("ecgscan-export: TensorRT engines are not built yet in this version; use --target onnx", err=True)
        raise typer.Exit(2)
    from export.to_onnx import TRAINING_DATA, export_bundle

    try:
        bundle = export_bundle(run, out, __version__, TRAINING_DATA, notes)
    except EcgscanError as e:
        typer.echo(f"ecgscan-export: {e}", err=True)
        raise typer.Exit(2) from e
    size = sum(net.n_bytes for net in bundle.nets.values()) / 1e6
    typer.echo(f"wrote {out}: {', '.join(bundle.nets)}, {size:.1f} MB, {bundle.info.sha256[:12]}")


if __name__ == "__main__":
    app()
