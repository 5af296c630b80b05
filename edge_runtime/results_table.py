"""The README's table of results, made from ``results/*.jsonl``: no figure is typed by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

from ecg.errors import InputError
from edge_runtime.results_log import read_results

START: Final = "<!-- results: written by `python -m edge_runtime.evaluate table` -->"
END: Final = "<!-- end of results -->"
GOOD_DB: Final = 22
Line = dict[str, Any]


def rewrite(readme: Path, results: Path) -> str:
    """Replace the block between the markers; returns the block."""
    try:
        text = readme.read_text(encoding="utf-8")
    except OSError as err:
        raise InputError(f"{readme}: can't be read ({err.strerror}); name it with --readme") from err
    if text.count(START) != 1 or text.count(END) != 1:
        raise InputError(f"{readme}: has not exactly one results block; put the two markers back")
    before, rest = text.split(START)
    _, after = rest.split(END)
    block = results_block(results)
    readme.write_text(f"{before}{START}\n{block}\n{END}{after}", encoding="utf-8")
    return block


def results_block(results: Path) -> str:
    """The newest measurement of each task as Markdown."""
    newest: dict[str, Line] = {}
    for path in sorted(results.glob("*.jsonl")):
        for line in read_results(path):
            task = _task(line)
            if task and str(line.get("date", "")) >= str(newest.get(task, {}).get("date", "")):
                newest[task] = line
    rows = [text(newest[key]) for task, text in _ROWS.items() for key in sorted(newest) if key.split("@")[0] == task]
    if not rows:
        return "No measurement is committed yet."
    head = "| measured on | result | device | nets, commit |\n|---|---|---|---|"
    return "\n".join([head, *rows])


def _task(line: Line) -> str:
    """What a line measures: tasks of one name that differ in data or encoder apart, and times of a photo by device."""
    if line.get("what") == "findings":
        return f"findings/{line['data']}/{line['condition']}"
    task = str(line.get("task", ""))
    if task in ("bench/photo", "bench/synth"):
        return f"{task}@{line['device']}"
    if task in ("teacher/zero-shot", "teacher/linear-probe"):
        usual = line.get("column") in ("own prompts", "chosen on the validation fold")
        all_labels = line.get("share", 1.0) == 1.0
        return f"{task}/{line['encoder']}/{line['condition']}" if usual and all_labels else ""
    return f"{task}/accuracy" if task == "engines" and line.get("accuracy") else task


def _row(what: str, result: str, line: Line) -> str:
    nets = f"{line['bundle']}, " if line.get("bundle") else ""
    return f"| {what} | {result} | {line['device']}, {line['cores']} cores | {nets}{line.get('commit') or '?'} |"


def _paired(line: Line) -> str:
    f = line["figures"]
    result = (
        f"{f['n_read']} of {f['n']} read; **{_n(f['kaggle_db'])} dB** kaggle, median {_n(f['median_db'])} dB, "
        f"10th percentile {_n(f['p10_db'])} dB, clock median {_n(f['clock_median_db'])} dB, "
        f"coverage {_n(f['coverage'], 3)}, RMSE {_n(f['rmse_uv'], 0)} µV, {f['under_6db']} under 6 dB"
    )
    if line.get("engine", "ort") == "ort":
        through, result = "", f"{result}; {_n(f['seconds_median'], 2)} s a photo"
    else:  # times are compared in the line of the engines
        through = f", nets by {line['engine']}"
    return _row(f"25 phone photos of printed PTB-XL records (ECG-Paper-1K preview){through}", result, line)


def _clinic(line: Line) -> str:
    f = line["figures"]
    return _row("23 clinic scans and photos (ECG-Image-Kit), no signals", f"{f['n_read']} of {f['n']} read", line)


def _printed(line: Line) -> str:
    layouts = len(line["groups"])
    each = round(line["figures"]["n"] / (layouts * 6))
    what = f"rendered pages, no camera: {layouts} layouts x 2 speeds x 3 gains, {each} of each"
    return _row(what, _pages(line), line)


def _plain(line: Line) -> str:
    what = "the same without handwriting, stamps, photocopies, traces off the sheet and missing lead names"
    return _row(what, _pages(line), line)


def _ink(line: Line) -> str:
    what = "the middle of those pages' ink, seen without error: what a pen's width leaves, whoever reads"
    return _row(what, _decibels(line), line)


def _pages(line: Line) -> str:
    """How many printed pages were read, and how well."""
    f = line["figures"]
    return f"{f['n_read']} of {f['n']} read, {_decibels(line)}"


def _decibels(line: Line) -> str:
    """How well printed pages came back, by layout, speed and gain, which make up a page's name, too."""
    db = {p["name"]: max(p["db"], 0.0) for p in line["photos"]}
    layouts, speeds, gains = (_medians(db, k) for k in range(3))
    worst = min(layouts, key=lambda name: layouts[name])
    parts = [f"of a layout at least {_n(layouts[worst])} ({worst})"]
    parts += [f"{speed} mm/s {_n(v)}" for speed, v in speeds.items()]
    parts += [f"{gain} mm/mV {_n(v)}" for gain, v in gains.items()]
    apart = [db[p["name"]] for p in line["photos"] if p.get("traces") == "apart"]
    free = (f"; where no trace runs through another: {len(apart)} pages, median {_n(median(apart))} dB, "
            f"{sum(v >= GOOD_DB for v in apart)} with {GOOD_DB} dB or more") if apart else ""  # fmt: skip
    good = sum(v >= GOOD_DB for v in db.values())
    return (f"median {_n(line['figures']['median_db'])} dB ({', '.join(parts)}), {good} with {GOOD_DB} dB or more, "
            f"worst {_n(min(db.values()))} dB{free}")  # fmt: skip


def _medians(db: dict[str, float], part: int) -> dict[str, float]:
    """Median of the pages of each layout (0), speed (1) or gain (2), in rising order of the numbers."""
    values = {name.split()[part] for name in db}
    ordered = sorted(values, key=float) if part else sorted(values)
    return {v: median(x for name, x in db.items() if name.split()[part] == v) for v in ordered}


def _camera(line: Line) -> str:
    f = line["figures"]
    parts = ", ".join(f"{name} {_n(g['median_db'])}" for name, g in line["groups"].items())
    result = f"{f['n_read']} of {f['n']} read, median {_n(f['median_db'])} dB ({parts})"
    kinds = {"rendered/camera-plain": " of the plain kind that tell their scale",
             "rendered/camera-fine": " whose 1 mm lines are all alike"}  # fmt: skip
    return _row(f"rendered pages{kinds.get(line['task'], ' of any kind')}, photographed", result, line)


def _refusals(line: Line) -> str:
    f = line["figures"]
    return _row("pictures without an ECG (scenes, grid paper, other pages)", f"{f['n_read']} of {f['n']} read", line)


def _photo(line: Line) -> str:
    f = line["figures"]
    result = (
        f"{_n(f['total_ms'], 0)} ms a photo of {_n(f['megapixels'], 0)} MP on {line['threads']} threads, start-up "
        f"{_n(f['startup_ms'], 0)} ms, peak memory {_n(f['peak_rss_mb'], 0)} MB"
    )
    return _row("`python -m edge_runtime.bench photo`", result, line)


def _synth(line: Line) -> str:
    f = line["figures"]
    result = f"{_n(f['photos_per_s_per_core'])} photos of 1,600 px a second and core"
    return _row("`python -m edge_runtime.bench synth`", result, line)


def _measurements(line: Line) -> str:
    f = line["figures"]
    result = (
        f"median error: heart rate {_n(f['heart_rate_bpm'])} bpm, P {_n(f['p_duration_ms'])} ms, "
        f"PR {_n(f['pr_ms'])} ms, QRS {_n(f['qrs_ms'])} ms, QT {_n(f['qt_ms'])} ms"
    )
    if "qt_measured" in f:
        result += f"; QRS of {_n(100 * f['qrs_measured'], 0)} %, PR of {_n(100 * f['pr_measured'], 0)} % measured"
    return _row(f"cardiologists' marks: {line['data']}", result, line)


def _archive(line: Line) -> str:
    f = line["figures"]
    result = (
        f"{_n(f['pages_per_s'])} files a second, {line['workers']} workers; between pages the parent holds "
        f"{_n(f['parent_rss_mb'], 0)} MB, the workers {_n(f['workers_rss_mb'], 0)} MB, "
        f"{_n(f['parent_rss_growth_pct'])} % and {_n(f['workers_rss_growth_pct'])} % more at the end than after a "
        f"tenth; the workers' peak is {_n(f['workers_peak_mb'], 0)} MB"
    )
    return _row(f"`batch`: {line['data']}", result, line)


def _findings(line: Line) -> str:
    auroc, zero = line["macro_auroc"], line["zero_shot_macro_auroc"]
    result = (
        f"macro AUROC {_n(auroc[0], 3)} ({_n(auroc[1], 3)} to {_n(auroc[2], 3)}) over {', '.join(line['macro_over'])}; "
        f"zero-shot {_n(zero[0], 3)}; calibration error {_n(line['ece'], 3)}; {line['refused']} of {line['n']} pages "
        f"refused, {_n(100 * line['not_assessed'], 0)} % not assessed"
    )
    return _row(f"findings: {line['data']}, printed, photographed, read", result, line)


def _engines(line: Line) -> str:
    parts = []
    for name, f in line["figures"]["threads_2"].items():
        best = f["best int8 against best fp32"]
        parts.append(f"{name} {_n(f['ort int8']['faster'], 1)}x, best engine {_n(best['faster'], 1)}x")
    return _row("8 bits against fp32, two threads, onnxruntime and best of all engines", "; ".join(parts), line)


def _paint(line: Line) -> str:
    f = line["figures"]
    result = f"first paint {_n(f['first_contentful_paint_ms'], 0)} ms, {_n(f['assets_kb'], 0)} kB"
    return _row(f"`serve`: {line['data']}", result, line)


def _soak(line: Line) -> str:
    f = line["figures"]
    result = f"{f['uploads']} uploads, {f['wrong_answers']} wrong answers, memory {_n(100 * f['rss_change'])} % up"
    return _row(f"`serve`: {line['data']}", result, line)


def _teacher(line: Line) -> str:
    value, low, high = line["auroc"]
    result = f"macro AUROC {_n(value, 3)} ({_n(low, 3)} to {_n(high, 3)}), {line['refused']} refused"
    what = f"{line['task'].replace('/', ', ')}: {line['encoder']}, {line['condition']}"
    return _row(f"{what}, PTB-XL fold 9", result, line)


def _n(value: float | None, digits: int = 1) -> str:
    return "?" if value is None else f"{value:.{digits}f}"


_ROWS: Final[dict[str, Callable[[Line], str]]] = {
    "photos/paired": _paired,
    "photos/paired/openvino": _paired,
    "photos/clinic": _clinic,
    "rendered/printed": _printed,
    "rendered/plain": _plain,
    "rendered/ink": _ink,
    "rendered/camera": _camera,
    "rendered/camera-plain": _camera,
    "rendered/camera-fine": _camera,
    "rendered/refusals": _refusals,
    "bench/photo": _photo,
    "bench/synth": _synth,
    "measurements/ludb": _measurements,
    "measurements/ludb-printed": _measurements,
    "measurements/ludb-photographed": _measurements,
    "bench/batch": _archive,
    "bench/batch-all": _archive,
    "engines": _engines,
    "findings/PTB-XL fold 9/photo": _findings,
    "findings/PhysioNet/CinC/photo": _findings,
    "teacher/zero-shot/image/photo": _teacher,
    "teacher/zero-shot/random image encoder/photo": _teacher,
    "teacher/linear-probe/image/photo": _teacher,
    "teacher/linear-probe/random image encoder/photo": _teacher,
    "serve/paint": _paint,
    "soak/serve": _soak,
}
