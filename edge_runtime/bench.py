"""``python -m edge_runtime.bench``: start-up, a photo stage by stage, memory; and how fast ``ecg.synth`` is."""

from __future__ import annotations

import multiprocessing as mp
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import cv2
import numpy as np
import typer
from threadpoolctl import threadpool_limits

from ecg.bundle import load_bundle
from edge_runtime.cli import BundleOption, EngineName, EngineOption, one_line_errors
from edge_runtime.evaluate import ResultsOption
from edge_runtime.images import load_photos
from edge_runtime.outputs import write_result
from edge_runtime.reader import SHIPPED
from edge_runtime.results_log import append_result, conditions, peak_rss_mb, tidy

PHOTO_PX: Final = 4000  # long side of a 12 MP phone photo
SYNTH_PX: Final = 1600
SEED: Final = 12

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__)


@app.callback(invoke_without_command=True)
def main(context: typer.Context) -> None:
    """Without a command: ``photo`` with its defaults."""
    if context.invoked_subcommand is None:
        photo()


@app.command()
def photo(
    path: Annotated[Path | None, typer.Argument(help="A photo; a 12 MP one is rendered if none is given.")] = None,
    runs: Annotated[int, typer.Option(help="Readings to take the median of.")] = 5,
    threads: Annotated[int, typer.Option(help="Threads of nets and OpenCV.")] = 2,
    results: ResultsOption = None,
    bundle: BundleOption = None,
    engine: EngineOption = EngineName.auto,
) -> None:
    """Start-up, a table of stages, and peak memory of one photo."""
    with one_line_errors(), tempfile.TemporaryDirectory() as folder:
        made = path or _in_a_process(render_photo, Path(folder) / "photo.jpg")
        figures = measure(made, runs, threads, bundle, Path(folder) / "out", engine.value)
        data = "a photo given" if path else f"ecg.synth, folded page, long side {PHOTO_PX} px, JPEG"
        _print(figures)
        if results:
            told = conditions(data, seed=None if path else SEED, bundle=load_bundle(bundle or SHIPPED).info)
            line = {"task": "bench/photo", **told, "threads": threads, "engine": engine.value}
            append_result(results, {**line, "figures": figures})


@app.command()
def synth(
    count: Annotated[int, typer.Option(help="Photos to render.")] = 40,
    results: ResultsOption = None,
) -> None:
    """Photos of 1,600 px that one core renders in a second of its own time: heart, printer and camera together."""
    with one_line_errors():
        figures = _in_a_process(synth_speed, count)
        line = {"task": "bench/synth", **conditions(f"{count} random photos, {SYNTH_PX} px", seed=SEED), "threads": 1}
        _print(figures)
        if results:
            append_result(results, {**line, "figures": figures})


def measure(
    photo_path: Path, runs: int, threads: int, bundle: Path | None, out: Path, engine: str = "auto"
) -> dict[str, Any]:
    """Milliseconds a stage (medians after one warm-up), start-up, peak memory of this process.

    ``cpu``: processor time of all threads, which tells how much work a photo is whatever else the machine is doing;
    ``total_min`` comes nearest to the wall time on an idle machine, ``machine_load`` says how idle it was.
    """
    from edge_runtime.reader import Reader

    cv2.setNumThreads(threads)
    start_ms = startup_ms(bundle, engine)
    reader = Reader.open(bundle, threads=threads, engine=engine)
    stages: list[dict[str, float]] = []
    for _ in range(runs + 1):
        cpu_s, times = time.process_time(), [time.perf_counter()]
        loaded = next(iter(load_photos(photo_path)))
        times.append(time.perf_counter())
        result = reader.read(loaded)
        times.append(time.perf_counter())
        write_result(result, loaded, reader.bundle, out, "bench")
        times.append(time.perf_counter())
        load, _, write = (1000 * np.diff(times)).tolist()
        total, cpu = 1000 * (times[-1] - times[0]), 1000 * (time.process_time() - cpu_s)
        stages.append({"load": load, **result.timings_ms, "write": write, "total": total, "cpu": cpu})
    stages = stages[1:] or stages
    height, width = loaded.rgb.shape[:2]
    return {
        "startup_ms": start_ms,
        **{f"{k}_ms": float(np.median([s[k] for s in stages])) for k in stages[0]},
        "total_min_ms": min(s["total"] for s in stages),
        "total_max_ms": max(s["total"] for s in stages),
        "machine_load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "peak_rss_mb": peak_rss_mb(),
        "megapixels": width * height / 1e6,
        "status": type(result).__name__,
    }


def startup_ms(bundle: Path | None, engine: str = "auto") -> float:
    """A new process from its start until the nets are loaded and checked: the median of three."""
    code = "import sys; from pathlib import Path; from edge_runtime.reader import Reader; import edge_runtime.images;"
    code += "Reader.open(Path(sys.argv[2]) if len(sys.argv) > 2 else None, engine=sys.argv[1])"
    took = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code, engine, *([str(bundle)] if bundle else [])], check=True)
        took.append(1000 * (time.perf_counter() - start))
    return float(np.median(took))


def render_photo(path: Path) -> Path:
    """A 12 MP JPEG of a folded page, as a phone writes it."""
    from ecg.synth.camera import photograph, random_shot
    from ecg.synth.printer import random_page
    from edge_runtime.rendered import random_record

    rng = np.random.default_rng(SEED)
    page = random_page(rng, random_record(rng), layout="3x4+1", speed_mm_per_s=25.0, gain_mm_per_mv=10.0, partial=False)
    shot = photograph(page, random_shot(rng, condition="folded", long_side_px=PHOTO_PX, upright=True), rng)
    cv2.imwrite(str(path), cv2.cvtColor(shot.rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    return path


def synth_speed(count: int) -> dict[str, Any]:
    """Photos per second of one core's own time, textures' first use included; and that the same seed gives the same
    bytes. What else the machine was doing shows in its load and in the photos per second by the clock."""
    cv2.setNumThreads(1)
    took = {"heart": 0.0, "printer": 0.0, "camera": 0.0}
    first = _one_photo(0, took)
    took = dict.fromkeys(took, 0.0)  # the first also imports
    with threadpool_limits(limits=1, user_api="blas"):  # one core, as where several processes render
        start = time.perf_counter()
        for k in range(1, count + 1):
            _one_photo(k, took)
        elapsed = time.perf_counter() - start
    same = np.array_equal(first, _one_photo(0, dict(took)))
    return {
        "photos_per_s_per_core": count / sum(took.values()),
        **{f"{stage}_ms": 1000 * s / count for stage, s in took.items()},
        "photos_per_s_by_clock": count / elapsed,
        "machine_load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "same_seed_same_bytes": bool(same),
    }


def _one_photo(k: int, took: dict[str, float]) -> Any:
    """Photo number k; adds the processor's seconds for each stage to ``took``."""
    from ecg.synth.camera import photograph, random_shot
    from ecg.synth.printer import random_page
    from edge_runtime.rendered import random_record

    rng = np.random.default_rng([SEED, k])
    times = [time.process_time()]
    record = random_record(rng)
    times.append(time.process_time())
    page = random_page(rng, record)
    times.append(time.process_time())
    shot = photograph(page, random_shot(rng, long_side_px=SYNTH_PX), rng)
    times.append(time.process_time())
    for stage, seconds in zip(took, np.diff(times).tolist(), strict=True):
        took[stage] += seconds
    return shot.rgb


def _in_a_process(work: Callable[[Any], Any], argument: Any) -> Any:
    """Run elsewhere, so that rendering counts neither to this process's memory nor to its warm caches."""
    with mp.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, (argument,))


def _print(figures: dict[str, Any]) -> None:
    for name, value in tidy(figures).items():
        typer.echo(f"{name:24s} {value}")


if __name__ == "__main__":
    app()
