"""``python -m edge_runtime.soak PART``: long use in a loop, good and bad input mixed; fails where something grows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edge_runtime.cli import BundleOption, one_line_errors
from edge_runtime.results_log import append_result, conditions

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)

ResultsOption = Annotated[Path | None, typer.Option("--results", help="Append a line of figures to this .jsonl file.")]
EXIT_GREW = 1


@app.callback()
def main() -> None:
    """Kept so that commands keep their names."""


@app.command()
def camera(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long.")] = 30.0,
    results: ResultsOption = None,
    bundle: BundleOption = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the nets; all cores if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Another video.")] = 1,
) -> None:
    """The camera on a looped video of pages, black, blurred and overexposed stretches, with a device that fails."""
    with one_line_errors():
        from edge_runtime.reader import Reader
        from edge_runtime.soak_camera import soak_camera

        reader = Reader.open(bundle, threads=threads)
        figures = soak_camera(reader, minutes, typer.echo, seed=seed)
        told = conditions(f"looped video, {minutes:g} min", seed=seed, bundle=reader.bundle)
        finish({"task": "soak/camera", **told, "figures": figures}, results)


def finish(line: dict[str, Any], results: Path | None) -> None:
    """Print the figures, keep them, and exit with 1 where the part's ``ok`` is False."""
    for name, value in line["figures"].items():
        typer.echo(f"{name}: {value}")
    if results:
        append_result(results, line)
    if not line["figures"]["ok"]:
        raise typer.Exit(EXIT_GREW)


if __name__ == "__main__":
    app()
