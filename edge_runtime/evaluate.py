"""``python -m edge_runtime.evaluate``: read many photos, print them worst first, keep the figures in ``results/``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_runtime.cli import BundleOption, EngineName, EngineOption, one_line_errors
from edge_runtime.engines import chosen
from edge_runtime.evaluation import Row, by_group, figures, folder_rows, paired_rows, table, worst_first
from edge_runtime.reader import Reader
from edge_runtime.results_log import append_result, conditions, tidy

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)

ResultsOption = Annotated[Path | None, typer.Option("--results", help="Append a line of figures to this .jsonl file.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Write CSV, JSON and overlay of every photo here.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Another set of hearts, pages and photos.")]
SetsOption = Annotated[
    int,
    typer.Option(
        "--sets", min=1, help="Printed pages of each layout, speed and gain: of so many seeds, from --seed on."
    ),
]
ThreadsOption = Annotated[int | None, typer.Option("--threads", help="Threads of the nets; all cores if not given.")]


@app.callback()
def main() -> None:
    """Kept so that commands keep their names."""


@app.command()
def photos(
    folder: Annotated[Path, typer.Argument(help="Photos; with photos.csv and WFDB records they are scored.")],
    out: OutOption = None,
    results: ResultsOption = None,
    bundle: BundleOption = None,
    threads: ThreadsOption = None,
    engine: EngineOption = EngineName.auto,
) -> None:
    """Read every photo of a folder; scored where photos.csv names the signals."""
    with one_line_errors():
        reader = Reader.open(bundle, threads=threads, engine=engine.value)
        paired = (folder / "photos.csv").exists()
        rows = _followed((paired_rows if paired else folder_rows)(reader, folder, out))
        data, used = f"photos/{folder.resolve().name}", chosen(engine.value)
        task = data if used == "ort" else f"{data}/{used}"
        _report(rows, results, {"task": task, **conditions(data, bundle=reader.bundle), "engine": used})


@app.command()
def rendered(
    results: ResultsOption = None,
    bundle: BundleOption = None,
    seed: SeedOption = 1,
    count: Annotated[int, typer.Option(help="Photographed pages, and pictures of each kind to refuse.")] = 60,
    camera: Annotated[bool, typer.Option(help="Only photographed pages (--camera) or only printed ones.")] = False,
    plain: Annotated[
        bool,
        typer.Option(help="Pages that tell their scale, without handwriting, stamps, copies, traces off the sheet."),
    ] = False,
    layout: Annotated[list[str] | None, typer.Option(help="Only these layouts (printed pages).")] = None,
    sets: SetsOption = 1,
    condition: Annotated[str | None, typer.Option(help="Only this condition (photographed pages).")] = None,
    fine: Annotated[bool, typer.Option(help="Only paper whose 1 mm lines are all alike (photographed pages).")] = False,
    threads: ThreadsOption = None,
    engine: EngineOption = EngineName.auto,
) -> None:
    """Round trip of pages from ecg.synth: as printed in every layout, speed and gain, or as photographed."""
    from edge_runtime.rendered import LONG_SIDE_PX, ROUND_TRIP_LAYOUTS, photographed_rows, round_trip_rows

    with one_line_errors():
        reader = Reader.open(bundle, threads=threads, engine=engine.value)
        if camera:
            task, data = "rendered/camera", f"ecg.synth, {count} photos, long side {LONG_SIDE_PX} px"
            if plain:
                task, data = "rendered/camera-plain", f"{data}, pages with the machine's own print alone"
            elif fine:
                task, data = "rendered/camera-fine", f"{data}, paper with 1 mm lines alone"
            grid = "fine" if fine else None
            rows = _followed(photographed_rows(reader, seed, count, condition=condition, plain=plain, grid=grid))
        else:
            layouts = tuple(layout or ROUND_TRIP_LAYOUTS)
            task = "rendered/plain" if plain else "rendered/printed"
            data = _printed_data(layouts, sets, plain=plain)
            rows = _followed(round_trip_rows(reader, seed, layouts, plain=plain, sets=sets))
        _report(rows, results, {"task": task, **conditions(data, seed=seed, bundle=reader.bundle)})


@app.command()
def ink(
    results: ResultsOption = None,
    seed: SeedOption = 1,
    layout: Annotated[list[str] | None, typer.Option(help="Only these layouts.")] = None,
    sets: SetsOption = 1,
) -> None:
    """What the ink of the pages of `rendered --plain` leaves of their signals: the middle of the stroke, unread."""
    from edge_runtime.rendered import ROUND_TRIP_LAYOUTS, ink_rows

    with one_line_errors():
        layouts = tuple(layout or ROUND_TRIP_LAYOUTS)
        line = conditions(_printed_data(layouts, sets, plain=True), seed=seed)
        _report(_followed(ink_rows(seed, layouts, sets=sets)), results, {"task": "rendered/ink", **line})


def _printed_data(layouts: tuple[str, ...], sets: int, *, plain: bool) -> str:
    """What printed pages were measured on."""
    what = f"ecg.synth, {len(layouts)} layouts x speeds x gains x {sets}, 8 px/mm"
    return f"{what}, the machine's own print alone" if plain else what


@app.command()
def refusals(
    results: ResultsOption = None,
    bundle: BundleOption = None,
    seed: SeedOption = 1,
    count: Annotated[int, typer.Option(help="Pictures of each kind.")] = 10,
    threads: ThreadsOption = None,
    engine: EngineOption = EngineName.auto,
) -> None:
    """Pictures without an ECG (scenes, plain grid paper, other pages): none may be read."""
    from edge_runtime.rendered import refusal_rows

    with one_line_errors():
        reader = Reader.open(bundle, threads=threads, engine=engine.value)
        rows = _followed(refusal_rows(reader, seed, count))
        line = conditions(f"ecg.synth, {count} pictures of each kind", seed=seed, bundle=reader.bundle)
        _report(rows, results, {"task": "rendered/refusals", **line})


@app.command("table")
def readme_table(
    readme: Annotated[Path, typer.Option(help="File whose results block is rewritten.")] = Path("README.md"),
    results: Annotated[Path, typer.Option(help="Folder of the .jsonl files.")] = Path("results"),
) -> None:
    """Rewrite the README's results table from results/."""
    from edge_runtime.results_table import rewrite

    with one_line_errors():
        typer.echo(rewrite(readme, results))


def _followed(rows: Iterable[Row]) -> list[Row]:
    """All rows, with a dot of progress each."""
    out = []
    for row in rows:
        out.append(row)
        typer.echo("." if row.status == "read" else "x", nl=False, err=True)
    typer.echo("", err=True)
    return out


def _report(rows: list[Row], results: Path | None, line: dict[str, Any]) -> None:
    """Print the table and the figures, worst first; keep them."""
    ordered = worst_first(rows)
    typer.echo(table(ordered))
    groups = by_group(rows) if any(r.group for r in rows) else {}
    for name, group in groups.items():
        typer.echo(f"{name:16s} " + "  ".join(f"{k} {v:.4g}" for k, v in group.items()))
    line["figures"] = figures(rows)
    line["groups"] = groups
    line["photos"] = [r.as_json() for r in ordered]
    typer.echo("  ".join(f"{k} {v}" for k, v in tidy(line["figures"]).items()))
    if results:
        append_result(results, line)


if __name__ == "__main__":
    app()
