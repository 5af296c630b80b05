"""Tables and plots of the teacher's figures, made from ``results/teacher.jsonl`` and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ecg.errors import InputError

Row = dict[str, Any]
_TAKEN = ("task", "date", "command", "data", "device", "cores", "bundle", "ecgscan", "commit")  # how, not what


def read_rows(path: Path) -> list[Row]:
    """All lines of a results file; InputError where there are none."""
    if not path.exists():
        raise InputError(f"{path}: no such file; ecgscan-teacher evaluate writes it")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def newest(rows: Sequence[Row]) -> list[Row]:
    """The last line of each table cell."""
    keys = ("task", "encoder", "condition", "column", "labels", "share", "to", "layout", "variant", "sheet")
    last = {tuple(str(r.get(k)) for k in keys): r for r in rows}
    return list(last.values())


def markdown(rows: Sequence[Row]) -> str:
    """One table a task: a line a cell, AUROC with its interval."""
    out = []
    rows = newest(rows)
    for task in dict.fromkeys(r["task"] for r in rows):
        mine = [r for r in rows if r["task"] == task]
        out += [f"### {task}", ""]
        if "auroc" in mine[0]:
            out += ["| encoder | condition | column | AUROC (95 %) | records | refused |", "|---|---|---|---|---|---|"]
            out += [f"| {r['encoder']}{_more(r)} | {r['condition']}{_sheet(r)} | {r['column']} | "
                    f"{_interval(r['auroc'])} | {r['records']} | {r['refused']} |" for r in mine]  # fmt: skip
        else:
            mine = [r | r.get("figures", {}) for r in mine]
            names = [k for k, v in mine[0].items() if isinstance(v, int | float | str) and k not in _TAKEN]
            out += ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
            out += ["| " + " | ".join(_short(r.get(k, "")) for k in names) + " |" for r in mine]
        out.append("")
    return "\n".join(out)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _more(row: Row) -> str:
    said = [f"{100 * row['share']:g} % of labels"] if "share" in row else []
    said += [f"{k} {row[k]}" for k in ("to", "seconds_a_lead", "variant") if k in row]
    return f" ({', '.join(said)})" if said else ""


def _sheet(row: Row) -> str:
    """How a photo's sheet was found; prints and signals need none."""
    return f" ({row['sheet']})" if row["condition"] == "photo" else ""


def _interval(value: Sequence[float | None]) -> str:
    said = ["?" if v is None else f"{v:.3f}" for v in value]
    return f"{said[0]} ({said[1]} to {said[2]})"


def plot(rows: Sequence[Row], path: Path) -> None:
    """Zero-shot and linear probe: a bar an encoder and condition, with intervals; InputError without matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise InputError("plots need matplotlib: pip install 'ecgscan[train]'") from None
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [r for r in newest(rows) if r["task"] in ("teacher/zero-shot", "teacher/linear-probe")
             and not r["column"].startswith("merl") and r.get("share", 1.0) == 1.0]  # fmt: skip
    if not shown:
        raise InputError("no zero-shot or linear-probe lines to plot")
    figure, axes = plt.subplots(1, 2, figsize=(10, 0.6 + 0.45 * len(shown)), sharex=True)
    for axis, task in zip(axes, ("teacher/zero-shot", "teacher/linear-probe"), strict=True):
        mine = [r for r in shown if r["task"] == task]
        values = [r["auroc"][0] for r in mine]
        low = [max(0.0, r["auroc"][0] - (r["auroc"][1] or r["auroc"][0])) for r in mine]
        high = [max(0.0, (r["auroc"][2] or r["auroc"][0]) - r["auroc"][0]) for r in mine]
        axis.barh(range(len(mine)), values, xerr=[low, high], color=["#3465a4" if r["encoder"] == "image" else "#999999"
                                                                      for r in mine])  # fmt: skip
        axis.set_yticks(range(len(mine)), [f"{r['encoder']}\n{r['condition']}" for r in mine], fontsize=7)
        axis.set_title(task.removeprefix("teacher/"))
        axis.set_xlabel("macro AUROC")
        axis.set_xlim(0.4, 1.0)
        axis.invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
