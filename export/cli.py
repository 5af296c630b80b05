"""``ecgscan-export``: the command's place; its work is not built yet."""

from __future__ import annotations

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def main() -> None:
    """Export students to ONNX, quantize and verify them. Not built yet: this version says so and exits with 2."""
    typer.echo("ecgscan-export: not built yet in this version; the README says what is", err=True)
    raise typer.Exit(2)
