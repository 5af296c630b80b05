"""The findings' part of a run: train the signal path, calibrate it on readings, write what the export takes.

``findings.ckpt`` the net, ``findings.json`` the bundle's extras (rules), ``prompts.npz`` what zero-shot compares with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calibration.confidence import fitted_rules
from calibration.confidence_metrics import calibration_error, macro_auroc
from distill.signal_path import SignalNetConfig, load_signal_net
from distill.signal_path_train import SignalTrainConfig, predict, train_signal_path
from distill.text_space import (
    TextSpace,
    load_space,
    minilm_space,
    prompt_table,
    read_prompts,
    save_space,
    teacher_space,
    with_prompts,
)
from ecg.errors import InputError
from ecg.findings import SUPERCLASSES, finding_labels
from ecg.page import F32
from ecg.readings import QUALITY, Readings, load_readings
from edge_runtime.findings import FINDINGS_KEY

TRAINING_FOLDS = (1, 2, 3, 4, 5, 6, 7)
VALIDATION_FOLD = 8
FINDINGS_JSON, PROMPTS_NPZ, SPACE_NPZ = "findings.json", "prompts.npz", "space.npz"
GATED = ("coverage", "confidence")  # figures of quality that may leave a reading out


def train_run(
    specs: Sequence[str], out: Path, targets: Path | None = None, seed: int = 0, copies: int = 12, synthetic: int = 2400
) -> Path:
    """Train the signal path on the training folds; returns its checkpoint.

    With ``targets`` (``ecgscan-teacher embed``) its embedding lives in the teacher's space, without in MiniLM's.
    """
    out.mkdir(parents=True, exist_ok=True)
    space, taught = (minilm_space(), None) if targets is None else _taught(targets)
    save_space(space, out / SPACE_NPZ)
    net = SignalNetConfig(embedding=space.width, seed=seed)
    config = SignalTrainConfig(net=net, copies=copies, synthetic=synthetic, seed=seed)
    return train_signal_path(specs, out, space, config, TRAINING_FOLDS, taught)


def _taught(path: Path) -> tuple[TextSpace, dict[str, F32]]:
    """The teacher's space, and each training record's vector: between its whole signal and what a page prints of it."""
    from teacher.embed import load_targets

    targets = load_targets(path)
    both = targets.signal + targets.printed
    both /= np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-6)
    trains = np.isin(targets.fold, (0, *TRAINING_FOLDS))
    return teacher_space(targets), {str(n): v for n, v in zip(targets.record[trains], both[trains], strict=True)}


def calibrate_run(
    run: Path, readings: Path, prompts: Path | None = None, fold: int = VALIDATION_FOLD
) -> dict[str, Any]:
    """Fit rules on the readings of the validation fold and write them, and the prompts, into ``run``.

    Returns what the fit gave on those readings.  ``InputError`` where the run or the readings lack what is needed.
    """
    if not (run / "findings.ckpt").exists():
        raise InputError(f"{run}: no findings.ckpt; train with ecgscan-distill findings")
    found = load_readings(readings)
    chosen = (found.fold == fold) & found.read & (found.source == "ptbxl")
    if not chosen.any():
        raise InputError(f"{readings}: holds no reading of PTB-XL's fold {fold}, which calibrates")
    rules = calibrated(run, found.part(chosen))
    (run / FINDINGS_JSON).write_text(json.dumps({FINDINGS_KEY: rules}, indent=1) + "\n", encoding="utf-8")
    write_prompts(run, prompts)
    return dict(rules["fitted_on"])


def calibrated(run: Path, held: Readings) -> dict[str, Any]:
    """The rules from these readings."""
    net = load_signal_net(run / "findings.ckpt")
    prevalence = torch.load(run / "findings.ckpt", weights_only=True)["prevalence"].numpy()
    logits, _ = predict(net, held.mv)
    rows = [finding_labels(c, s) for c, s in zip(held.codes, held.superclasses, strict=True)]
    target = np.array([[float(bool(v)) for v in row] for row in rows], np.float32)
    quality = {name: held.quality[:, QUALITY.index(name)] for name in GATED}
    rules = fitted_rules(logits, target, prevalence, quality)
    n = len(SUPERCLASSES)
    raw = 1 / (1 + np.exp(-logits[:, :n]))
    rules["fitted_on"] |= {
        "fold": VALIDATION_FOLD, "macro_auroc": round(macro_auroc(logits[:, :n], target[:, :n] > 0.5), 4),
        "ece_before": round(calibration_error(raw.ravel(), target[:, :n].ravel() > 0.5), 4),
    }  # fmt: skip
    return rules


def write_prompts(run: Path, prompts: Path | None = None) -> Path:
    """``prompts.npz`` of the run's text space, with the user's own sentences where a file of them is given."""
    space: TextSpace = load_space(run / SPACE_NPZ)
    own = read_prompts(prompts) if prompts else {}
    if own:
        space = with_prompts(space, own)
    np.savez(run / PROMPTS_NPZ, allow_pickle=False, **prompt_table(space, tuple(own)))
    return run / PROMPTS_NPZ
