"""``python -m edge_runtime.measure_eval``: intervals measured on LUDB's signals, or from pages of them, against its
cardiologists' marks; rhythm and axis against what its table says.

Thresholds of the delineation were chosen on the records at even places of the sorted folder; "odd" are held out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
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
from edge_runtime.cli import BundleOption, one_line_errors
from edge_runtime.evaluate import SeedOption
from edge_runtime.measure_pages import LAYOUT, PAGES, measured_pages
from edge_runtime.reader import Reader
from edge_runtime.results_log import append_result, conditions, tidy
from edge_runtime.scan import PhotoReader

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)

F64 = NDArray[np.float64]
ALL: Final = "all"  # every lead over the whole record
LAYOUTS_SEEN: Final = (ALL, "3x4+1", "3x4")
QUANTITIES: Final = ("heart_rate", "p_duration", "pr", "qrs", "qt")
# Words of LUDB's table, the first that is found counts; what may be either (flutter, wandering pacemaker) is left out.
RHYTHMS: Final = {
    "wandering": "", "flutter": "", "fibrillation": "irregular", "sinus arrhythmia": "irregular",
    "irregular sinus": "irregular", "sinus rhythm": "regular", "sinus bradycardia": "regular",
    "sinus tachycardia": "regular",
}  # fmt: skip
# LUDB's cardiologists name sectors without saying their bounds; these are the usual ones, degrees.  Of axes taken from
# the marks of the same cardiologists, 70 % lie in the named sector by net deflections in I and aVF, 64 % by net areas.
SECTORS_DEG: Final = {
    "normal": (30.0, 70.0), "left axis": (-120.0, 0.0), "vertical": (70.0, 90.0), "horizontal": (0.0, 30.0),
    "right axis": (90.0, 180.0),
}  # fmt: skip
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
    rhythm: str = ""  # "regular", "irregular", "" where not measured
    axis_deg: float = float("nan")
    report: str = ""  # what LUDB's table says of the record


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
    return replace(record, mv=mv)


def row(ref: RecordRef, layout: str) -> Row:
    """Measure one record."""
    record = as_printed(ref.read(), layout)
    start = perf_counter()
    found = delineate(record.mv, record.fs_hz)
    figures = measured(found, 1.0 / record.fs_hz)
    return _row(ref, record, figures, found, 1e3 * (perf_counter() - start))


def page_rows(reader: PhotoReader, refs: list[RecordRef], kind: str, seed: int) -> Iterator[Row]:
    """Read records from pages of them (``measure_pages.PAGES``) and measure; a page that is refused has no figure.

    The truth has a further definition, "signal": what is measured on the same leads' signal without a page between.
    """
    records = [ref.read() for ref in refs]
    for ref, (record, reading, milliseconds) in zip(refs, measured_pages(reader, records, kind, seed), strict=True):
        bare = row(ref, LAYOUT)
        mv = reading.signal.mv if reading else np.full((12, 0), np.nan, np.float32)
        figures = reading.measurements if reading else ()
        found = delineate(mv, reading.signal.fs_hz if reading else record.fs_hz)
        one = _row(ref, record, figures, found, milliseconds)
        yield replace(one, truth={**one.truth, "signal": bare.ours})


def _row(
    ref: RecordRef, record: EcgRecord, figures: tuple[Measurement, ...], found: Delineation, milliseconds: float
) -> Row:
    nothing = Measurement("", None, "")
    ours = {m.name: m for m in figures}
    chosen = [ours.get(q, nothing) for q in QUANTITIES]
    truth = {kind: _of_reference(r) for kind, r in references(read_marks(ref.path, record.fs_hz)).items()}
    return Row(
        ref.name, np.array([_value(m) for m in chosen]), np.array([m.error or np.nan for m in chosen]),
        _lead_medians(found, _value(chosen[0])), truth, milliseconds,
        str(ours.get("rhythm", nothing).value or ""), _value(ours.get("axis", nothing)), record.report,
    )  # fmt: skip


def opinions(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Against LUDB's table: how many rhythms are called regular or irregular as it does, how far axes lie outside the
    sector that it names (degrees, 0 inside)."""
    said = [(r, next((v for k, v in RHYTHMS.items() if k in r.report.lower()), "")) for r in rows]
    rhythms = [r.rhythm == want for r, want in said if want and r.rhythm]
    axes = [(r, s) for r in rows for k, s in SECTORS_DEG.items() if f"axis of the heart: {k}" in r.report.lower()]
    measured_axes = [(r.axis_deg, *sector) for r, sector in axes if np.isfinite(r.axis_deg)]
    off = np.array([max(low - deg, deg - high, 0.0) for deg, low, high in measured_axes])
    known = sum(bool(want) for _, want in said)
    agree = float(np.mean(rhythms)) if rhythms else float("nan")
    return {
        "rhythm": {"n": float(known), "share": len(rhythms) / max(1, known), "agree": agree},
        "axis": {"n": float(len(axes)), "share": len(off) / max(1, len(axes)),
                 "inside": float((off <= 0).mean()) if len(off) else float("nan"),
                 "p90_off": float(np.quantile(off, 0.9)) if len(off) else float("nan")},
    }  # fmt: skip


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
                marked = np.isfinite(truth[:, k])
                line |= {"share": float(good.sum() / max(1, marked.sum()))}
                line |= {"missed": float((marked & ~np.isfinite(ours[:, k])).sum())}
                line |= {"unmarked": float((~marked & np.isfinite(ours[:, k])).sum())}
            out[kind][quantity] = line
    return out


def table(by_half: dict[str, dict[str, dict[str, dict[str, float]]]], layout: str) -> Iterator[str]:
    """Lines to print for one layout."""
    yield f"{layout:8s}{'':12s}{'':11s}{'n':>4s}{'bias':>8s}{'median':>8s}{'p90':>8s}{'in bar':>8s}"
    for kind in by_half["all"]:
        for quantity in QUANTITIES:
            for half in (h for h in HALVES if h in by_half) if kind == "global" else ("all",):
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
    printed: Annotated[bool, typer.Option("--printed", help="From rendered pages instead, 3x4+1.")] = False,
    photographed: Annotated[bool, typer.Option("--photographed", help="From rendered photos of such pages.")] = False,
    count: Annotated[int, typer.Option(help="Pages of each kind, of held-out records.")] = 25,
    seed: SeedOption = 1,
    bundle: BundleOption = None,
) -> None:
    """Measure every record of LUDB from its signal, whole and as 3x4 pages show it, and compare with the marks.

    With --printed or --photographed: from pages of them, read as any photo is.
    """
    with one_line_errors():
        refs = sorted(list_records(f"ludb:{folder}"), key=lambda r: int(r.name))
        kinds = [kind for kind, wanted in zip(PAGES, (printed, photographed), strict=True) if wanted]
        if kinds:
            held_out = refs[1::2]
            chosen = held_out[:: max(1, len(held_out) // count)][:count]
            _from_pages(Reader.open(bundle), chosen, kinds, seed, worst, results)
            return
        groups: dict[str, Any] = {}
        for name in layout or LAYOUTS_SEEN:
            rows = [row(ref, name) for ref in refs]
            groups[name] = {
                half: figures(part) for half, part in {"even": rows[::2], "odd": rows[1::2], "all": rows}.items()
            }
            groups[name]["milliseconds"] = float(np.median([r.milliseconds for r in rows]))
            groups[name]["opinions"] = opinions(rows)
            typer.echo("\n".join(table(groups[name], name)))
            typer.echo("\n".join(_worst(rows, worst)))
            typer.echo(_spoken(groups[name]["opinions"]))
        if results:
            first = groups[next(iter(groups))]["all"]["global"]
            line = {"task": "measurements/ludb", **conditions(f"LUDB 1.0.1, {len(refs)} records, signals")}
            append_result(results, tidy({**line, "figures": _medians(first), "groups": groups}))


def _from_pages(
    reader: Reader, refs: list[RecordRef], kinds: list[str], seed: int, worst: int, results: Path | None
) -> None:
    """One result line for each kind of page."""
    for kind in kinds:
        rows = list(page_rows(reader, refs, kind, seed))
        found: dict[str, Any] = {"all": figures(rows)}
        typer.echo("\n".join(table(found, kind)))
        typer.echo("\n".join(_worst(rows, worst)))
        found["opinions"] = opinions(rows)
        typer.echo(_spoken(found["opinions"]))
        if results:
            data = f"LUDB 1.0.1, {len(refs)} held-out records, {kind} 3x4+1 at 25 mm/s and 10 mm/mV"
            line = {"task": f"measurements/ludb-{kind}", **conditions(data, seed=seed, bundle=reader.bundle)}
            main = found["all"]["global"]
            shares = {f"{q}_measured": main[q]["share"] for q in QUANTITIES if "share" in main[q]}
            append_result(results, tidy({**line, "figures": {**_medians(main), **shares}, "groups": found}))


def _medians(found: dict[str, dict[str, float]]) -> dict[str, float]:
    return {f"{q}_{UNITS[q]}": found[q].get("median_abs", float("nan")) for q in QUANTITIES}


def _spoken(said: dict[str, dict[str, float]]) -> str:
    rhythm, axis = said["rhythm"], said["axis"]
    return (
        f"  rhythm as the table says: {100 * rhythm['agree']:.0f} % of {rhythm['share'] * rhythm['n']:.0f}; "
        f"axis in the table's sector: {100 * axis['inside']:.0f} % of {axis['share'] * axis['n']:.0f}, "
        f"p90 {axis['p90_off']:.0f} deg off"
    )


def _worst(rows: list[Row], n: int) -> Iterator[str]:
    """The records with the largest errors of each quantity."""
    for k, quantity in enumerate(QUANTITIES):
        off = {r.name: float(r.ours[k] - r.truth["global"][k]) for r in rows}
        order = sorted((name for name in off if np.isfinite(off[name])), key=lambda name: -abs(off[name]))
        yield f"  worst {quantity}: " + ", ".join(f"{name} {off[name]:+.0f}" for name in order[:n])


if __name__ == "__main__":
    app()
