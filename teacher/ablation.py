"""What each loss gives: short trainings from one start, each with a term left out, on the same pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from teacher.config import LOSS_TERMS, LossConfig
from teacher.evaluate import Evaluation, page_features
from teacher.metrics import class_aurocs, fit_probe
from teacher.model import Teacher
from teacher.probe import lines, training_features
from teacher.train import HEADS, PAGES, SIGNAL, TEXT, Task, load_teacher, train

PROBE_PAGES = 640
PROBE_STRENGTH = 0.1


def ablation(one: Evaluation, steps: int) -> Iterator[dict[str, Any]]:
    """A row a variant: mean over seeds on clean validation pages of zero-shot and probe AUROC (the probe of fixed
    strength), error of what is drawn, and the limb leads' residual, each with the least and greatest seed."""
    variants = {"all": one.config.losses}
    variants |= {f"without {term}": replace(one.config.losses, **{term: 0.0}) for term in LOSS_TERMS}
    for name, losses in variants.items():
        yield _row(one, name, losses, steps)


def _row(one: Evaluation, name: str, losses: LossConfig, steps: int) -> dict[str, Any]:
    each = [_one_run(one, name, losses, steps, seed) for seed in range(one.task.seeds)]
    out: dict[str, Any] = {"task": "teacher/ablation", "variant": name, "steps": steps, "seeds": len(each),
                           "condition": "clean", "folds": list(one.task.valid_folds)}  # fmt: skip
    for key in each[0]:
        values = [e[key] for e in each]
        out |= {key: float(np.mean(values)), f"{key}_low": min(values), f"{key}_high": max(values)}
    return out


def _one_run(one: Evaluation, name: str, losses: LossConfig, steps: int, seed: int) -> dict[str, float]:
    out = one.task.run / "ablation" / f"{name.replace(' ', '-')}-{steps}-{seed}"
    optim = replace(one.config.optim, steps=steps, warmup=min(one.config.optim.warmup, steps // 4), save_every=steps)
    config = replace(one.config, losses=losses, optim=replace(optim, order_seed=seed + 1))
    if not (out / "teacher.safetensors").exists():
        shutil.rmtree(out, ignore_errors=True)
        start = out.parent / "start"
        if not start.exists():
            start.mkdir(parents=True)
            for file in (SIGNAL, HEADS, TEXT):
                if (one.task.run / file).exists():
                    shutil.copy(one.task.run / file, start / file)
        train(Task(config, out, pages_from=one.task.run / PAGES, start_from=start))
    net = load_teacher(out)
    data = one.pages("valid", "clean")
    labels = one.labels(data)
    features = page_features(net, data.pages)
    found: dict[str, float] = {}
    if hasattr(net, "text_projection"):
        found["zero_shot"] = float(np.nanmean(class_aurocs(features["shared"] @ one.class_vectors(net).T, labels)))
    train_part = training_features(one, net, PROBE_PAGES)
    probe = fit_probe(train_part.features["encoder"], train_part.labels[train_part.record], PROBE_STRENGTH)
    found["linear_probe"] = float(np.nanmean(class_aurocs(probe.scores(features["encoder"]), labels)))
    return found | _line_figures(one, net)


def _line_figures(one: Evaluation, net: Teacher) -> dict[str, float]:
    drawn = lines(one, "valid", net)
    keys = ("mean_absolute_error_uv", "einthoven_residual_uv")
    return {k: drawn[0][k] for k in keys} if drawn else {}
