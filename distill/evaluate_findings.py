"""How good findings are on readings of printed and photographed records: AUROC, calibration, what is left out.

python -m distill.evaluate_findings runs/readings.npz --bundle runs/bundle --results results/findings.jsonl
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from numpy.typing import NDArray

from calibration.confidence_metrics import bootstrap, brier, calibration_error, macro_auroc, reliability
from ecg.bundle import ModelBundle, load_bundle
from ecg.errors import BundleError, EcgscanError
from ecg.findings import FINDINGS, SUPERCLASSES, finding_labels
from ecg.metrics import auroc
from ecg.readings import QUALITY, Readings, load_readings
from ecg.signal_input import signal_input
from edge_runtime.engines import open_engine
from edge_runtime.findings import FINDINGS_KEY, FINDINGS_NET, Prompts, Rules, probability, prompts_of, rules_of, told_by
from edge_runtime.findings import seconds_read as _seconds
from edge_runtime.reader import SHIPPED
from edge_runtime.results_log import append_result, conditions

TEST_FOLD: Final = 9
MIN_POSITIVES: Final = 10
N_CLASSES: Final = len(SUPERCLASSES)
F64 = NDArray[np.float64]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@dataclass(frozen=True, eq=False)
class Told:
    """What was said of n readings: logits and probability (n, findings), zero_shot (n, findings) NaN where there is no
    prompt, decision (n, findings) 1 present, 0 absent, -1 not assessed; refused pages have the prior's probability."""

    logits: F64
    probability: F64
    zero_shot: F64
    decision: NDArray[np.int64]


def priors_of(document: Mapping[str, Any]) -> F64:
    """What a refused page counts with: each finding's share of the training records."""
    return np.array([float(r["prevalence"]) for r in document["findings"]])


Net = Callable[[Any], Mapping[str, NDArray[Any]]]


def tell(readings: Readings, net: Net, rules: Rules, prior: F64, prompts: Prompts | None) -> Told:
    """Every reading through the net and the rules, as the reader does it."""
    n, k = len(readings), len(rules.rules)
    shot, decision = np.full((n, k), np.nan), np.full((n, k), -1, np.int64)
    logits = np.tile(np.log(prior / (1 - prior)), (n, 1))
    p = np.tile(prior, (n, 1))
    for i in np.flatnonzero(readings.read):
        out = net(signal_input(readings.mv[i])[None])
        logits[i] = out["logits"][0]
        p[i] = [probability(v, r) for v, r in zip(logits[i], rules.rules, strict=True)]
        like: dict[str, float] = {}
        if prompts:
            e = np.asarray(out["embedding"][0], np.float32)
            like = prompts.likeness(e / max(float(np.linalg.norm(e)), 1e-6))
            shot[i] = [like.get(r.code, np.nan) for r in rules.rules]
        quality = dict(zip(QUALITY, (float(q) for q in readings.quality[i]), strict=True))
        seconds = _seconds(readings.mv[i])
        for j, rule in enumerate(rules.rules):
            said = told_by(rule, float(logits[i, j]), like.get(rule.code), seconds, quality, rules.limits).decision
            decision[i, j] = {"present": 1, "absent": 0}.get(said, -1)
    # A refused page says nothing: it lies in the middle of the others.
    middle = np.nanmedian(shot, axis=0) if np.isfinite(shot).any() else 0.0
    return Told(logits, p, np.where(np.isfinite(shot), shot, middle), decision)


def labels_of(readings: Readings) -> NDArray[np.bool_]:
    """(n, findings)."""
    rows = [finding_labels(c, s) for c, s in zip(readings.codes, readings.superclasses, strict=True)]
    return np.array([[bool(v) for v in row] for row in rows])


def figures(told: Told, true: NDArray[np.bool_], readings: Readings) -> dict[str, Any]:
    """All figures of one group of readings."""
    p, y, s = told.probability[:, :N_CLASSES], true[:, :N_CLASSES], told.zero_shot[:, :N_CLASSES]
    common = [k for k in range(len(FINDINGS)) if MIN_POSITIVES <= true[:, k].sum() <= len(true) - MIN_POSITIVES]
    assessed = told.decision >= 0
    classes = [k for k in range(N_CLASSES) if y[:, k].sum() >= MIN_POSITIVES]
    return {
        "n": len(true),
        "refused": int((~readings.read).sum()),
        "macro_auroc": bootstrap(macro_auroc, (p[:, classes], y[:, classes])),
        "macro_over": [SUPERCLASSES[k] for k in classes],
        "zero_shot_macro_auroc": bootstrap(macro_auroc, (s[:, classes], y[:, classes])),
        "ece": calibration_error(p.ravel(), y.ravel()),
        "ece_classes": {SUPERCLASSES[k]: calibration_error(p[:, k], y[:, k]) for k in range(N_CLASSES)},
        "brier": brier(p, y),
        "reliability": reliability(p.ravel(), y.ravel()),
        "not_assessed": float((~assessed[:, :N_CLASSES]).mean()),
        "findings": {FINDINGS[k]: _one(told, true, k) for k in common},
    }


def _one(told: Told, true: NDArray[np.bool_], k: int) -> dict[str, Any]:
    y, decided = true[:, k], told.decision[:, k]
    present, absent = decided == 1, decided == 0
    return {
        "positives": int(y.sum()),
        "auroc": bootstrap(auroc, (told.probability[:, k], y), draws=300),
        "zero_shot": auroc(told.zero_shot[:, k], y) if np.ptp(told.zero_shot[:, k]) > 0 else None,
        "sensitivity": float(present[y & (decided >= 0)].mean()) if (y & (decided >= 0)).any() else None,
        "specificity": float(absent[~y & (decided >= 0)].mean()) if (~y & (decided >= 0)).any() else None,
        "not_assessed": float((decided < 0).mean()),
    }


def groups(readings: Readings) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """(data, condition) to which readings: PTB-XL's test fold, and other hospitals."""
    out = {}
    for condition in sorted(set(readings.condition.tolist())):
        here = readings.condition == condition
        for name, chosen in (
            (f"PTB-XL fold {TEST_FOLD}", (readings.source == "ptbxl") & (readings.fold == TEST_FOLD)),
            ("PhysioNet/CinC", readings.source == "cinc"),
        ):
            if (here & chosen).any():
                out[name, condition] = here & chosen
    return out


def part(told: Told, chosen: NDArray[np.bool_]) -> Told:
    """Some of the readings."""
    return Told(told.logits[chosen], told.probability[chosen], told.zero_shot[chosen], told.decision[chosen])


def evaluate(readings: Readings, bundle: ModelBundle) -> list[dict[str, Any]]:
    """A line a group."""
    if FINDINGS_NET not in bundle.nets or FINDINGS_KEY not in bundle.extras:
        raise BundleError(f"{bundle.info.path}: has no findings; export one from a run with findings.ckpt")
    document = bundle.extras[FINDINGS_KEY]
    told = tell(
        readings, open_engine(bundle, FINDINGS_NET), rules_of(document), priors_of(document), prompts_of(bundle)
    )
    true, lines = labels_of(readings), []
    for (data, condition), chosen in groups(readings).items():
        line = {"data": data, "condition": condition}
        lines.append(line | figures(part(told, chosen), true[chosen], readings.part(chosen)))
    return lines


@app.command()
def main(
    readings: Annotated[Path, typer.Argument(help="What ecgscan-distill readings wrote.")],
    bundle: Annotated[Path | None, typer.Option(help="The bundle; the shipped one by default.")] = None,
    results: Annotated[Path | None, typer.Option(help="Append a line a group to this file.")] = None,
) -> None:
    """Print the figures; write them where --results says so."""
    try:
        checked = load_bundle(bundle or SHIPPED, nets=(FINDINGS_NET,))
        for line in evaluate(load_readings(readings), checked):
            macro, shot = line["macro_auroc"], line["zero_shot_macro_auroc"]
            typer.echo(
                f"{line['data']}, {line['condition']}: {line['n']} records, {line['refused']} refused; macro AUROC "
                f"{macro[0]:.3f} ({macro[1]:.3f} to {macro[2]:.3f}), zero-shot {shot[0]:.3f}, ECE {line['ece']:.3f}, "
                f"not assessed {100 * line['not_assessed']:.1f} %"
            )
            for code, one in line["findings"].items():
                a = one["auroc"]
                typer.echo(f"  {code:8s} {one['positives']:4d}  {a[0]:.3f} ({a[1]:.3f} to {a[2]:.3f})")
            if results:
                append_result(results, {**conditions(line["data"], bundle=checked.info), "what": "findings", **line})
    except EcgscanError as error:
        typer.echo(f"evaluate_findings: {error}", err=True)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    app()
