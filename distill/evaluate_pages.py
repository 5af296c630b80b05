"""What trained page encoders are worth, and cost: AUROC on held-out pages, beside and with the signal path.

python -m distill.evaluate_pages runs/mobilevit runs/repvit --data ptbxl:DIR --targets runs/targets.npz \
    --readings runs/readings.npz --signal-path runs/student --pages runs/teacher/pages --results results/findings.jsonl

Clean pages are printed and sampled exactly; photos are those of the readings, as the edge saw them.  How much of the
page's logits is added to the signal path's is chosen on fold 8; fold 9 is measured once.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch.nn import functional as F

from calibration.confidence_metrics import bootstrap, macro_auroc
from distill.page_train import CHECKPOINT, load_student, part_pages
from distill.signal_path import load_signal_net
from distill.signal_path_train import predict
from distill.students import PageStudent
from ecg.bundle import TensorSpec
from ecg.errors import EcgscanError, InputError
from ecg.findings import SUPERCLASSES
from ecg.page import F32
from ecg.readings import Readings, load_readings
from edge_runtime.results_log import append_result, conditions

FOLDS: Final = (8, 9)
SHARES: Final = (0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)  # of the page's logits, added to the signal path's
N_CLASSES: Final = len(SUPERCLASSES)
AT_ONCE: Final = 16
RUNS: Final = 15
CALIBRATING: Final = 12
JUDGED_EACH: Final = 3  # of fold 8's photographs, for what 8 bits cost

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@dataclass(frozen=True, eq=False)
class Pages:
    """n pages (n, 1, 768, 768) uint8 of one condition and fold; shown (n,) False where refused; true (n, 5); mv
    (n, 12, 1000) as read, empty where the pages weren't read from photos."""

    pages: NDArray[np.uint8]
    shown: NDArray[np.bool_]
    true: NDArray[np.bool_]
    mv: F32


def read_pages(readings: Readings, fold: int) -> Pages:
    """Photographed pages as the edge read them."""
    k = np.flatnonzero((readings.source == "ptbxl") & (readings.fold == fold) & (readings.condition == "photo"))
    if not len(k):
        raise InputError(f"the readings hold no photographs of PTB-XL's fold {fold}")
    pages = np.stack([readings.page(int(i))[None] for i in k])
    return Pages(pages, readings.read[k], _labels([readings.superclasses[int(i)] for i in k]), readings.mv[k])


def clean_pages(data: Sequence[str], fold: int, cache: Path) -> Pages:
    """Prints of the fold's records."""
    from teacher.config import TeacherConfig
    from teacher.eval_pages import eval_set, held_out_refs, read_refs
    from teacher.samples import Clocks

    config = TeacherConfig()
    clocks = Clocks(100.0, 1000, config.decoder.fs_hz, config.decoder.n_samples)
    found = eval_set(read_refs(held_out_refs(data, (fold,)), typer.echo), "clean", config, clocks, cache)
    return Pages(found.pages, found.shown, _labels(found.superclasses), np.zeros((0, 12, 1000), np.float32))


def _labels(said: Sequence[Sequence[str]]) -> NDArray[np.bool_]:
    return np.array([[c in one for c in SUPERCLASSES] for one in said])


@torch.no_grad()
def told(net: PageStudent, data: Pages) -> tuple[F32, F32]:
    """The superclasses' logits (n, 5) and unit embeddings (n, d)."""
    logits, vectors = [], []
    for k in range(0, len(data.pages), AT_ONCE):
        a, b = net(torch.from_numpy(data.pages[k : k + AT_ONCE]).float())
        logits.append(a[:, :N_CLASSES])
        vectors.append(F.normalize(b, dim=1))
    return torch.cat(logits).numpy(), torch.cat(vectors).numpy()


def _auroc(scores: F32, data: Pages) -> list[float]:
    """Macro over the superclasses with its interval; refused pages lie in the middle of the others."""
    filled = np.where(data.shown[:, None], scores, np.median(scores[data.shown], axis=0))
    return bootstrap(macro_auroc, (filled, data.true), draws=300)


def rows(name: str, net: PageStudent, concepts: F32, sets: dict[tuple[str, int], Pages]) -> Iterator[dict[str, Any]]:
    """A line for each condition and fold."""
    for (condition, fold), data in sets.items():
        logits, vectors = told(net, data)
        yield {"student": name, "condition": condition, "fold": fold, "n": len(data.pages),
               "refused": int((~data.shown).sum()), "findings_auroc": _auroc(logits, data),
               "zero_shot_auroc": _auroc(vectors @ concepts.T, data)}  # fmt: skip


def fused(net: PageStudent, run: Path, sets: dict[tuple[str, int], Pages]) -> dict[str, Any]:
    """Signal path and page together on photographs: the share that fold 8 prefers, and both folds without and with."""
    path = load_signal_net(run / "findings.ckpt")
    logits = {}
    for fold in FOLDS:
        data = sets["photo", fold]
        own = np.zeros((len(data.pages), N_CLASSES), np.float32)
        own[data.shown] = predict(path, data.mv[data.shown])[0][:, :N_CLASSES]
        logits[fold] = (own, told(net, data)[0])

    def at(fold: int, share: float) -> list[float]:
        return _auroc(logits[fold][0] + share * logits[fold][1], sets["photo", fold])

    share = max(SHARES, key=lambda s: at(8, s)[0])
    return {"share": share} | {f"fold_{f}_{n}": at(f, s) for f in FOLDS for n, s in (("alone", 0.0), ("fused", share))}


# --------------------------------------------------------------------------------------------------------------- 8 bits


def eight_bits(name: str, net: PageStudent, calibrating: NDArray[np.uint8], data: Pages) -> dict[str, Any]:
    """Float and 8 bits in onnxruntime: milliseconds of one page, and AUROC on a third of fold 8's photographs."""
    from export.build import build_net
    from export.jobs import NetJob

    some = np.flatnonzero(data.shown)[::JUDGED_EACH]
    pages, y = data.pages[some].astype(np.float32), data.true[some]

    def figures(run: Any) -> dict[str, float]:
        logits = np.concatenate([np.asarray(run({"page": p[None]})[0], np.float64)[:, :N_CLASSES] for p in pages])
        return {"loss": float((np.logaddexp(0, logits) - y * logits).mean()), "auroc": macro_auroc(logits, y)}

    shape = (1, 1, *data.pages.shape[2:])
    with torch.no_grad():
        outs = net(torch.zeros(shape))
    specs = [TensorSpec(n, tuple(o.shape), "NC") for n, o in zip(("logits", "embedding"), outs, strict=True)]
    feeds = [{"page": p[None].astype(np.float32)} for p in calibrating]
    job = NetJob(f"page_{name}", net, {"page": pages[:1]}, (TensorSpec("page", shape, "NCHW"),), tuple(specs),
                 calibration=lambda: feeds, figures=figures)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        spec = build_net(job, Path(folder), int8=True, keep_fp32=True)
        files = {"fp32": f"page_{name}.onnx", "int8": f"page_{name}.ort.onnx"}
        found: dict[str, Any] = {"parameters": spec.n_parameters}
        found |= latency({k: Path(folder) / v for k, v in files.items()}, feeds[0]["page"])
        found["mb"] = {k: (Path(folder) / v).stat().st_size / 1e6 for k, v in files.items()}
    kept = spec.quantisation["figures"]
    return found | {"fold_8_third_auroc": {k: kept[v]["auroc"] for k, v in (("fp32", "fp32"), ("int8", "ort"))}}


def latency(files: dict[str, Path], page: NDArray[np.float32]) -> dict[str, Any]:
    """Medians and least of interleaved runs."""
    import onnx

    from calibration.ranges import fed, session

    runs = {k: session(onnx.load(str(f))) for k, f in files.items()}
    took: dict[str, list[float]] = {k: [] for k in runs}
    for turn in range(RUNS + 1):
        for k, run in runs.items():
            start = time.perf_counter()
            run.run(None, fed(run, {"page": page}))
            if turn:
                took[k].append(1e3 * (time.perf_counter() - start))
    out: dict[str, Any] = {"ms": {k: float(np.median(v)) for k, v in took.items()}}
    out["least_ms"] = {k: min(v) for k, v in took.items()}
    return out | {"faster": out["least_ms"]["fp32"] / out["least_ms"]["int8"]}


def calibrating_pages(pool: Path, count: int) -> NDArray[np.uint8]:
    """Pages that trained, (count, 1, 768, 768)."""
    from teacher.pool import read_part

    out: list[NDArray[np.uint8]] = []
    for path in sorted(pool.glob("part-*.npz"))[::-1]:
        out += [page[None] for _, page in part_pages(read_part(path))][:4]
        if len(out) >= count:
            return np.stack(out[:count])
    raise InputError(f"{pool}: has fewer than {count} pages")


@app.command()
def main(
    runs: Annotated[list[Path], typer.Argument(help="Folders that --part encoder wrote.")],
    data: Annotated[list[str], typer.Option(help="Where the clean pages' records are: ptbxl:DIR.")],
    targets: Annotated[Path, typer.Option(help="What ecgscan-teacher embed wrote.")],
    readings: Annotated[Path, typer.Option(help="Photos of folds 8 and 9 (ecgscan-distill readings).")],
    signal_path: Annotated[Path, typer.Option(help="Folder with findings.ckpt.")],
    pages: Annotated[Path, typer.Option(help="The pool that trained: calibrates 8 bits.")],
    cache: Annotated[Path, typer.Option(help="Keeps the clean pages.")] = Path("runs/page-eval"),
    results: Annotated[Path | None, typer.Option(help="Append the lines to this file.")] = None,
) -> None:
    """Print the lines; write them where --results says so."""
    from teacher.embed import load_targets

    try:
        concepts = load_targets(targets).concept_vector[-N_CLASSES:]
        found = load_readings(readings)
        sets = {("clean", f): clean_pages(data, f, cache) for f in FOLDS}
        sets |= {("photo", f): read_pages(found, f) for f in FOLDS}
        for run in runs:
            net = load_student(run / CHECKPOINT)
            name, step = net.config.name, torch.load(run / CHECKPOINT, weights_only=True)["step"]
            lines = list(rows(name, net, concepts, sets))
            lines.append({"student": name, "with_signal_path": fused(net, signal_path, sets)})
            lines.append({"student": name, **eight_bits(name, net, calibrating_pages(pages, CALIBRATING),
                                                        sets["photo", 8])})  # fmt: skip
            for line in lines:
                typer.echo(str(line))
                if results:
                    taken = conditions(f"PTB-XL folds {FOLDS[0]} and {FOLDS[1]}")
                    append_result(results, taken | {"what": "page encoder", "steps": step, **line})
    except EcgscanError as error:
        typer.echo(f"evaluate_pages: {error}", err=True)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    app()
