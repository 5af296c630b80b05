"""``python -m edge_runtime.measure_eval``: intervals measured on LUDB's signals against its cardiologists' marks.

Thresholds of the delineation were chosen on the records at even places of the sorted folder; "odd" are held out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, Final

import numpy as np
import typer
from numpy.typing import NDArray

from ecg.delineation import Delineation, delineate
from ecg.delineation_leads import P_OFF, P_ON, QRS_OFF, QRS_ON, T_OFF
from ecg.delineation_waves import nan_median
from ecg.layouts import LAYOUTS
from ecg.leads import LEAD_INDEX, base_lead
from ecg.ludb import Reference, read_marks, references
from ecg.measurements import Measurement, measured
from ecg.records import EcgRecord, RecordRef, list_records
from edge_runtime.cli import one_line_errors
from edge_runtime.results_log import append_result, conditions, tidy

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)

F64 = NDArray[np.float64]
ALL: Final = "all"  # every lead over the whole record
LAYOUTS_SEEN: Final = (ALL, "3x4+1", "3x4")
QUANTITIES: Final = ("heart_rate", "p_duration", "pr", "qrs", "qt")
UNITS: Final = {"heart_rate": "bpm", "p_duration": "ms", "pr": "ms", "qrs": "ms", "qt": "ms"}
_SPANS: Final = {"p_duration": (P_ON, P_OFF), "pr": (P_ON, QRS_ON), "qrs": (QRS_ON, QRS_OFF), "qt": (QRS_ON, T_OFF)}
HALVES: Final = ("even", "odd", "all")


@dataclass(frozen=True, eq=False)
class Row:
    """One record as one layout shows it: ours (5,) and its errors (5,) in the order of QUANTITIES, the leads' medians
    (5,), and what each definition of the reference says (5,); NaN where not measured or not marked."""

    name: str
    ours: F64
    error: F64
    lead_median: F64
    truth: dict[str, F64]
    milliseconds: float


def as_printed(record: EcgRecord, layout: str) -> EcgRecord:
    """The part of a record that a page of this layout shows; ``all`` shows everything."""
    if layout == ALL:
        return record
    spec = LAYOUTS[layout]
    mv = np.full_like(record.mv, np.nan)
    edges = np.round(np.linspace(0, mv.shape[1], spec.n_columns + 1)).astype(int)
    for printed, _, column, span in spec.cells():
        lead = LEAD_INDEX[base_lead(printed)[0]]
        part = slice(edges[column], edges[column + span])
        mv[lead, part] = record.mv[lead, part]
    return EcgRecord(mv, record.fs_hz, name=record.name)


def row(ref: RecordRef, layout: str) -> Row:
    """Measure one record."""
    record = as_printed(ref.read(), layout)
    start = perf_counter()
    found = delineate(record.mv, record.fs_hz)
    ours = {m.name: m for m in measured(found, 1.0 / record.fs_hz)}
    milliseconds = 1e3 * (perf_counter() - start)
    chosen = [ours[q] for q in QUANTITIES]
    truth = {kind: _of_reference(r) for kind, r in references(read_marks(ref.path, record.fs_hz)).items()}
    return Row(
        ref.name, np.array([_value(m) for m in chosen]), np.array([m.error or np.nan for m in chosen]),
        _lead_medians(found, _value(ours["heart_rate"])), truth, milliseconds,
    )  # fmt: skip


def _value(m: Measurement) -> float:
    return m.value if isinstance(m.value, float) else float("nan")


def _of_reference(r: Reference) -> F64:
    return np.array([r.hr_bpm, 1e3 * r.p_s, 1e3 * r.pr_s, 1e3 * r.qrs_s, 1e3 * r.qt_s])


def _lead_medians(found: Delineation, hr_bpm: float) -> F64:
    """Medians over leads of each lead's own intervals, as the reference "median" takes them."""
    spans = [found.lead_marks_s[:, b] - found.lead_marks_s[:, a] for a, b in _SPANS.values()]
    return np.array([hr_bpm, *(1e3 * float(nan_median(s[:, None], 0)[0]) for s in spans)])


def figures(rows: list[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """By definition of the reference and quantity: n, bias, median and 90th percentile of the absolute error; for
    the main definition also the share of errors within one error bar, and P waves missed or seen where none is."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    for kind in rows[0].truth if rows else ():
        truth = np.array([r.truth[kind] for r in rows])
        ours = np.array([r.lead_median if kind == "median" else r.ours for r in rows])
        bars = np.array([r.error for r in rows])
        out[kind] = {}
        for k, quantity in enumerate(QUANTITIES):
            off = ours[:, k] - truth[:, k]
            good = np.isfinite(off)
            line = {"n": float(good.sum())}
            if good.any():
                size = np.abs(off[good])
                line |= {"bias": float(np.median(off[good])), "median_abs": float(np.median(size))}
                line |= {"p90_abs": float(np.quantile(size, 0.9))}
            if good.any() and kind == "global":
                line |= {"within_error": float((size <= bars[good, k]).mean())}
                line |= {"missed": float((np.isfinite(truth[:, k]) & ~np.isfinite(ours[:, k])).sum())}
                line |= {"unmarked": float((~np.isfinite(truth[:, k]) & np.isfinite(ours[:, k])).sum())}
            out[kind][quantity] = line
    return out


def table(by_half: dict[str, dict[str, dict[str, dict[str, float]]]], layout: str) -> Iterator[str]:
    """Lines to print for one layout."""
    yield f"{layout:8s}{'':12s}{'':11s}{'n':>4s}{'bias':>8s}{'median':>8s}{'p90':>8s}{'in bar':>8s}"
    for kind in by_half["all"]:
        for quantity in QUANTITIES:
            for half in HALVES if kind == "global" else ("all",):
                f = by_half[half][kind][quantity]
                share = f"{100 * f['within_error']:7.0f}%" if "within_error" in f else ""
                values = "".join(f"{f.get(x, float('nan')):8.1f}" for x in ("bias", "median_abs", "p90_abs"))
                yield f"  {kind:10s}{quantity:11s}{half:>6s}{f['n']:5.0f}{values}{share}  {UNITS[quantity]}"


@app.command()
def main(
    folder: Annotated[Path, typer.Argument(help="LUDB: records, marks (.i, .ii, ...) and ludb.csv.")],
    results: Annotated[Path | None, typer.Option("--results", help="Append a line to this .jsonl file.")] = None,
    layout: Annotated[list[str] | None, typer.Option(help="Only what this layout prints (or all); repeatable.")] = None,
    worst: Annotated[int, typer.Option(help="Name this many of the worst records.")] = 5,
) -> None:
    """Measure every record of LUDB from its signal, whole and as 3x4 pages show it, and compare with the marks."""
    with one_line_errors():
        refs = sorted(list_records(f"ludb:{folder}"), key=lambda r: int(r.name))
        groups: dict[str, Any] = {}
        for name in layout or LAYOUTS_SEEN:
            rows = [row(ref, name) for ref in refs]
            halves = {"even": rows[::2], "odd": rows[1::2], "all": rows}
            groups[name] = {half: figures(part) for half, part in halves.items()}
            groups[name]["milliseconds"] = float(np.median([r.milliseconds for r in rows]))
            typer.echo("\n".join(table(groups[name], name)))
            typer.echo("\n".join(_worst(rows, worst)))
        if results:
            first = groups[next(iter(groups))]["all"]["global"]
            line = {"task": "measurements/ludb", **conditions(f"LUDB 1.0.1, {len(refs)} records, signals")}
            line["figures"] = {f"{q}_{UNITS[q]}": first[q].get("median_abs", float("nan")) for q in QUANTITIES}
            append_result(results, tidy({**line, "groups": groups}))


def _worst(rows: list[Row], n: int) -> Iterator[str]:
    """The records with the largest errors of each quantity."""
    for k, quantity in enumerate(QUANTITIES):
        off = {r.name: float(r.ours[k] - r.truth["global"][k]) for r in rows}
        order = sorted((name for name in off if np.isfinite(off[name])), key=lambda name: -abs(off[name]))
        yield f"  worst {quantity}: " + ", ".join(f"{name} {off[name]:+.0f}" for name in order[:n])


if __name__ == "__main__":
    app()
