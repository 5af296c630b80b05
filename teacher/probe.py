"""Linear probes of a run's encoders, and what else is measured with them: shift, durations, what is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecg.errors import InputError
from teacher.eval_pages import EvalSet, eval_set, held_out_refs, plausible, read_refs
from teacher.evaluate import (
    AT_ONCE,
    Bools,
    Evaluation,
    Features,
    Floats,
    page_features,
    row,
    signal_features,
    with_prior,
)
from teacher.losses.soft_lead import RELATIONS, applicable
from teacher.metrics import STRENGTHS, Probe, class_aurocs, fit_probe
from teacher.model import Teacher
from teacher.pool import PART_SAMPLES, Arrays, page_of, read_part
from teacher.samples import on_clock
from teacher.tars import ShardPool, holds_shards
from teacher.train import PAGES

SHARES: Final = (0.01, 0.1, 1.0)
DURATION_LAYOUTS: Final = {"3x4": 2.5, "6x2": 5.0, "12x1": 10.0}  # seconds a lead


@dataclass(frozen=True, eq=False)
class TrainFeatures:
    """Features of training pages, each with the record that it shows, and the records' labels."""

    features: Features
    record: NDArray[np.int64]  # (pages,) index into labels
    labels: Bools  # (records, classes)
    fits: dict[tuple[float, int], list[tuple[str, float, Probe]]] = field(default_factory=dict)  # made once


def training_features(one: Evaluation, net: Teacher, limit: int | None = None) -> TrainFeatures:
    """Features of the run's own training pages: those of records of the evaluated sources."""
    found, labels = _training_pages(one, limit)
    parts = [page_features(net, pages) for pages, _ in found]
    features = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    return TrainFeatures(features, np.concatenate([at for _, at in found]), labels)


def _training_pages(one: Evaluation, limit: int | None) -> tuple[list[tuple[NDArray[np.uint8], Any]], Bools]:
    refs = [r for r in held_out_refs(one.task.data, ()) if r.fold not in one.config.data.held_out]
    index = {r.name: k for k, r in enumerate(refs)}
    folder = one.task.run / PAGES
    out = []
    for arrays in _stored_parts(one, folder, limit):
        mine = [(i, index[str(n)]) for i, n in enumerate(arrays["record"]) if str(n) in index]
        if mine:
            out.append((np.stack([page_of(arrays, i) for i, _ in mine]), np.array([k for _, k in mine])))
    if not out:
        raise InputError(f"{folder}: shows no training records of {', '.join(one.task.data)}: a probe needs some")
    names = one.classes()
    said = [r.labels["superclasses" if one.task.labels == "super" else "codes"] for r in refs]
    return out, np.array([[c in s for c in names] for s in said])


def _stored_parts(one: Evaluation, folder: Path, limit: int | None) -> Iterator[Arrays]:
    """The run's parts or shards, all that are there or as many as hold ``limit`` pages."""
    if holds_shards(folder):
        pool = ShardPool(folder, one.config)
        yield from (pool.part(k) for k in range(pool.parts if limit is None else -(-limit // pool.size)))
        return
    paths = sorted(folder.glob("part-*.npz"))
    yield from (read_part(path) for path in (paths if limit is None else paths[: -(-limit // PART_SAMPLES)]))


def linear_probe(one: Evaluation) -> list[dict[str, Any]]:
    """A row for each encoder, condition and share of the labels (seeds of the smaller shares averaged)."""
    rows = []
    pages, labels = _training_pages(one, None)
    at = np.concatenate([k for _, k in pages])
    for name, net in (("image", one.net), ("random image encoder", one.random)):
        parts = [page_features(net, p) for p, _ in pages]
        train = TrainFeatures({k: np.concatenate([p[k] for p in parts]) for k in parts[0]}, at, labels)
        for condition in one.task.conditions:
            valid, test = one.pages("valid", condition), one.pages("test", condition)
            got = (page_features(net, valid.pages), page_features(net, test.pages))
            rows += _probe_rows(one, name, condition, train, (got[0], valid), (got[1], test))
    if hasattr(one.net, "signal"):
        rows += _signal_probe(one, labels, at)
    return rows


def _signal_probe(one: Evaluation, labels: Bools, shown: NDArray[np.int64]) -> list[dict[str, Any]]:
    """The signal encoder's own probe, on the records whose pages the others learn from."""
    refs = [r for r in held_out_refs(one.task.data, ()) if r.fold not in one.config.data.held_out]
    records = read_refs([refs[k] for k in np.unique(shown)], one.task.tell)
    both = [on_clock(plausible(r), one.clocks.signal_hz, one.clocks.signal_samples) for r in records]
    features = signal_features(one.net, np.stack([b[0] for b in both]), np.stack([b[1] for b in both]))
    where = {r.name: k for k, r in enumerate(refs)}
    train = TrainFeatures(features, np.array([where[r.name] for r in records]), labels)
    valid, test = one.pages("valid", "clean"), one.pages("test", "clean")
    got = [signal_features(one.net, d.mv, d.known) for d in (valid, test)]
    return _probe_rows(one, "signal encoder", "true signal, 10 s", train, (got[0], valid), (got[1], test))


def _probe_rows(
    one: Evaluation, name: str, condition: str, train: TrainFeatures, valid: tuple[Features, EvalSet],
    test: tuple[Features, EvalSet],
) -> list[dict[str, Any]]:  # fmt: skip
    """Own column: chosen on the validation fold; MERL's column: chosen on the test fold, at all labels only."""
    rows = []
    labels, valid_labels = one.labels(test[1]), one.labels(valid[1])
    for share in SHARES:
        seeds = range(one.task.seeds if share < 1 else 1)
        tried = [_probes(train, valid[0], test[0], share, seed) for seed in seeds]
        best = [max(t, key=lambda p: _valid_auroc(p, valid[1], valid_labels)) for t in tried]
        each = [float(np.nanmean(class_aurocs(with_prior(b.test, test[1].shown, b.prior), labels))) for b in best]
        found = row(one, "linear-probe", name, condition, "chosen on the validation fold",
                   with_prior(best[0].test, test[1].shown, best[0].prior), labels, test[1], share=share,
                   vector=best[0].vector, strength=best[0].strength, seeds=len(best),
                   auroc_each_seed=each, training_records=len(np.unique(train.record)))  # fmt: skip
        rows.append(found)
        if share == 1.0:
            merl = max(tried[0], key=lambda p: float(np.nanmean(class_aurocs(p.test, labels))))
            rows.append(row(one, "linear-probe", name, condition, "merl: chosen on the test fold",
                            with_prior(merl.test, test[1].shown, merl.prior), labels,
                             test[1], share=share, vector=merl.vector, strength=merl.strength, seeds=1))  # fmt: skip
    return rows


@dataclass(frozen=True, eq=False)
class _Tried:
    vector: str
    strength: float
    valid: Floats
    test: Floats
    prior: Floats


def _probes(train: TrainFeatures, valid: Features, test: Features, share: float, seed: int) -> list[_Tried]:
    """Probes of all strengths on each of the encoder's vectors, fitted on a share of the training records."""
    key = (share, seed)
    if key not in train.fits:
        train.fits[key] = _fits(train, share, seed)
    return [_Tried(vector, strength, probe.scores(valid[vector]), probe.scores(test[vector]), probe.bias.numpy())
            for vector, strength, probe in train.fits[key]]  # fmt: skip


def _fits(train: TrainFeatures, share: float, seed: int) -> list[tuple[str, float, Probe]]:
    rng = np.random.default_rng([seed, round(1000 * share)])
    shown = np.unique(train.record)
    kept = shown if share == 1.0 else rng.choice(shown, max(len(STRENGTHS), round(share * len(shown))), replace=False)
    use = np.isin(train.record, kept)
    y = train.labels[train.record[use]]
    return [(vector, strength, fit_probe(x[use], y, strength))
            for vector, x in train.features.items() for strength in STRENGTHS]  # fmt: skip


def _valid_auroc(tried: _Tried, valid: EvalSet, labels: Bools) -> float:
    return float(np.nanmean(class_aurocs(tried.valid[valid.shown], labels[valid.shown])))


# ---------------------------------------------------------------------------------------------- shift, durations, lines


def shift(one: Evaluation) -> list[dict[str, Any]]:
    """The PTB-XL probe and the prompts on other sources, clean pages; a source that trained the teacher says so."""
    if not one.task.to:
        raise InputError("shift needs other data: name it with --to, such as --to cinc:DIR")
    rows = []
    train = training_features(one, one.net)
    valid = one.pages("valid", "clean")
    tried = _probes(train, page_features(one.net, valid.pages), page_features(one.net, valid.pages), 1.0, 0)
    best = max(tried, key=lambda p: _valid_auroc(p, valid, one.labels(valid)))
    probe = fit_probe(train.features[best.vector], train.labels[train.record], best.strength)
    for spec in one.task.to:
        records = [r for r in read_refs(held_out_refs([spec], ()), one.task.tell) if r.superclasses]
        data = eval_set(records, "clean", one.config, one.clocks, one.task.run / "eval", each=one.task.each)
        features, kind = page_features(one.net, data.pages), spec.partition(":")[0]
        seen = any(s.partition(":")[0] == kind for s in one.config.data.sources)
        for column, scores in (("linear probe of the training source", probe.scores(features[best.vector])),
                               ("own prompts", features["shared"] @ one.class_vectors(one.net).T)):  # fmt: skip
            rows.append(row(one, "shift", "image", "clean", column, scores, one.labels(data), data, to=kind,
                             pages_of_it_trained_the_teacher=seen))  # fmt: skip
    return rows


def durations(one: Evaluation) -> list[dict[str, Any]]:
    """Zero-shot on clean pages whose columns show 2.5, 5 and 10 s of each lead, without rhythm strips."""
    rows = []
    vectors = one.class_vectors(one.net)
    for layout, seconds in DURATION_LAYOUTS.items():
        data = one.pages("test", "clean", layout)
        scores = page_features(one.net, data.pages)["shared"] @ vectors.T
        rows.append(row(one, "durations", "image", "clean", "own prompts", scores, one.labels(data), data,
                         layout=layout, seconds_a_lead=seconds))  # fmt: skip
    return rows


@torch.no_grad()
def lines(one: Evaluation, part: str = "test", net: Teacher | None = None) -> list[dict[str, Any]]:
    """What the decoder draws of clean pages: error where printed, and the limb leads' residual, µV."""
    net = net or one.net
    if not hasattr(net, "decoder"):
        return []
    data = one.pages(part, "clean")
    drawn = np.concatenate([_drawn(net, data.pages[k : k + AT_ONCE]) for k in range(0, len(data), AT_ONCE)])
    error = np.abs(drawn - data.target_mv)
    each = np.array([1e3 * e[p].mean() for e, p in zip(error, data.printed, strict=True)])
    where = applicable(torch.from_numpy(data.printed)).numpy()
    residual = np.abs(np.einsum("rl,blt->brt", np.array(RELATIONS), drawn[:, :6]))
    true = np.abs(np.einsum("rl,blt->brt", np.array(RELATIONS), data.target_mv[:, :6]))
    return [{
        "task": "teacher/reconstruction", "encoder": "image", "condition": "clean", "records": len(data),
        "folds": list(one.task.test_folds if part == "test" else one.task.valid_folds),
        "mean_absolute_error_uv": float(each.mean()),
        "median_of_records_uv": float(np.median(each)), "p90_of_records_uv": float(np.quantile(each, 0.9)),
        "einthoven_residual_uv": float(1e3 * residual[where].mean()),
        "einthoven_residual_of_truth_uv": float(1e3 * true[where].mean()),
        "soft_lead_weight": net.config.losses.soft_lead,
    }]  # fmt: skip


def _drawn(net: Teacher, pages: NDArray[np.uint8]) -> Floats:
    tokens: Tensor = net.image(torch.from_numpy(pages).float() / 255)[1]
    return net.decoder(tokens).float().numpy()
