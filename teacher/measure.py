"""One evaluation's protocols, line by line into the results file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from teacher.ablation import ablation
from teacher.evaluate import EvalTask, Evaluation, zero_shot
from teacher.probe import durations, linear_probe, lines, shift
from teacher.tables import markdown, plot, read_rows

_PROTOCOLS: Final[dict[str, Callable[[Evaluation], Iterable[dict[str, Any]]]]] = {
    "zero-shot": zero_shot, "linear-probe": linear_probe, "shift": shift, "durations": durations,
    "reconstruction": lines,
}  # fmt: skip


def measure(
    run: Path, protocols: Sequence[str], given: dict[str, Any], steps: int, results: Path | None
) -> Iterator[str]:
    """Run the protocols and yield a line for each figure; ``given`` are fields of ``EvalTask``."""
    from edge_runtime.results_log import append_result

    one = Evaluation(EvalTask(run=run, **given))
    data = ", ".join(spec.partition(":")[0] for spec in one.task.data)
    for protocol in protocols:
        rows = ablation(one, steps) if protocol == "ablation" else _PROTOCOLS[protocol](one)
        for row in rows:
            if results is not None:
                append_result(results, {**taken(data, one.config.optim.seed), **row})
            yield said(row)


def taken(data: str, seed: int) -> dict[str, Any]:
    """The conditions of a figure, under this package's command."""
    from edge_runtime.results_log import conditions

    found = conditions(data, seed=seed)
    return found | {"command": found["command"].replace("edge_runtime.cli", "teacher.cli", 1)}


def said(row: dict[str, Any]) -> str:
    """A figure in one line."""
    if "auroc" in row:
        value, low, high = row["auroc"]
        share = f", {100 * row['share']:g} % of labels" if "share" in row else ""
        more = "".join(f", {row[k]}" for k in ("variant", "to", "layout") if k in row)
        return (f"{row['task']}: {row['encoder']}, {row['condition']}, {row['column']}{share}{more}: "
                f"{value:.3f} ({low:.3f} to {high:.3f})")  # fmt: skip
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())


def write_tables(results: Path, table: Path | None, picture: Path | None) -> None:
    """Tables and plot of a results file."""
    rows = read_rows(results)
    if table is not None:
        table.write_text(markdown(rows), encoding="utf-8")
    if picture is not None:
        plot(rows, picture)
