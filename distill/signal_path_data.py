"""Records as the signal path learns from them: twelve leads cut, jittered and left out as readings of pages come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ecg.findings import FINDINGS, SUPERCLASSES, finding_labels
from ecg.layouts import LAYOUTS, LayoutSpec
from ecg.leads import LEAD_INDEX, N_LEADS, base_lead
from ecg.page import F32
from ecg.records import EcgRecord, iter_records, resample, with_plausible_gain
from ecg.signal_input import SIGNAL_HZ, SIGNAL_SAMPLES, on_signal_clock
from ecg.synth.heart import beat, random_heart

Rng = np.random.Generator
Flags = NDArray[np.bool_]
_SECONDS: Final = SIGNAL_SAMPLES / SIGNAL_HZ
_TWELVE: Final = tuple(spec for spec in LAYOUTS.values() if sum(len(r) for r in spec.rows) == N_LEADS)
_FEW: Final = tuple(spec for spec in LAYOUTS.values() if sum(len(r) for r in spec.rows) < N_LEADS)


@dataclass(frozen=True, eq=False)
class Signals:
    """n records: mv (n, 12, 1000) at 100 Hz; target (n, findings) 0 or 1, known (n, findings) False where the source
    doesn't say; true_mv (n,); fold (n,); names and codes."""

    mv: F32
    target: F32
    known: Flags
    true_mv: Flags
    fold: NDArray[np.int64]
    name: NDArray[np.str_]
    codes: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.mv)

    def part(self, chosen: NDArray[Any]) -> Signals:
        """Some of the records."""
        k = np.flatnonzero(chosen) if chosen.dtype == bool else chosen
        codes = tuple(self.codes[int(i)] for i in k)
        return Signals(self.mv[k], self.target[k], self.known[k], self.true_mv[k], self.fold[k], self.name[k], codes)


def signals_of(records: Sequence[EcgRecord]) -> Signals:
    """The first 10 s of records as one table."""
    labels = [finding_labels(r.codes, r.superclasses) for r in records]
    return Signals(
        mv=np.stack([on_signal_clock(resample(r, 500.0).mv, 500.0) for r in records]),
        target=np.array([[float(bool(v)) for v in row] for row in labels], np.float32),
        known=np.array([[v is not None for v in row] for row in labels], bool),
        true_mv=np.array([r.true_mv for r in records], bool),
        fold=np.array([r.fold for r in records], np.int64),
        name=np.array([r.name for r in records]),
        codes=tuple(r.codes for r in records),
    )


def real_signals(specs: Sequence[str], folds: tuple[int, ...]) -> Signals:
    """The records of these sources and folds, each in volts that don't depend on its labels."""
    rng = np.random.default_rng(0)
    records = [r for spec in specs for r in iter_records(spec) if not folds or r.fold in folds or r.fold == 0]
    sized = []
    for r in records:
        bare = replace(r, codes=(), superclasses=(), report="")
        sized.append(replace(r, mv=np.array(with_plausible_gain(bare, rng).mv)))
    return signals_of(sized)


def synthetic_signals(n: int, seed: int) -> Signals:
    """Records of synthetic hearts with the codes that they were made with."""
    rng = np.random.default_rng([seed, n])
    return signals_of([beat(random_heart(rng), _SECONDS, rng=rng) for _ in range(n)])


def save_signals(signals: Signals, path: Path) -> None:
    """Keep a table; read again with ``load_signals``."""
    codes = np.array([" ".join(c) for c in signals.codes])
    np.savez(
        path, mv=signals.mv.astype(np.float16), target=signals.target, known=signals.known, fold=signals.fold,
        true_mv=signals.true_mv, name=signals.name, codes=codes,
    )  # fmt: skip


def load_signals(path: Path) -> Signals:
    """A table that was kept."""
    with np.load(path, allow_pickle=False) as f:
        codes = tuple(tuple(c.split()) for c in f["codes"].tolist())
        return Signals(f["mv"].astype(np.float32), f["target"], f["known"], f["true_mv"], f["fold"], f["name"], codes)


# ------------------------------------------------------------------------------------------------------- as pages print


def random_mask(rng: Rng) -> Flags:
    """Which samples a random page prints (12, 1000): mostly 3x4 with a rhythm strip, the printed start at 0."""
    pick = rng.random()
    if pick < 0.6:
        spec = LAYOUTS["3x4+1"]
    else:
        pool = _TWELVE if pick < 0.97 else _FEW
        spec = pool[int(rng.integers(len(pool)))]
    total = 10.0 if rng.random() < 0.82 else float(rng.choice([5.0, 7.5, 8.0, 9.0, 9.6]))
    return layout_mask(spec, total)


def layout_mask(spec: LayoutSpec, total_s: float) -> Flags:
    """Which samples a layout over ``total_s`` prints."""
    out = np.zeros((N_LEADS, SIGNAL_SAMPLES), bool)
    column = total_s / spec.n_columns * SIGNAL_HZ
    for lead, _, first, span in spec.cells():
        out[LEAD_INDEX[base_lead(lead)[0]], round(first * column) : round((first + span) * column)] = True
    return out


def as_read(mv: F32, true_mv: bool, rng: Rng) -> F32:
    """One record (12, 1000) as a reading of a random page might give it, NaN where not printed or not read."""
    out = mv
    late = int(rng.integers(0, 150)) if rng.random() < 0.3 else 0
    out = np.concatenate([out[:, late:], np.full((N_LEADS, late), np.nan, np.float32)], axis=1)
    out = _warped(out, rng)
    out = out * _gains(true_mv, rng)
    out = out + _noise(out, rng)
    out = np.where(random_mask(rng), out, np.nan)
    return _pieces_lost(out, rng).astype(np.float32)


def _warped(mv: F32, rng: Rng) -> F32:
    """Time as the sheet's lattice gives it: a rate wrong by up to a percent, and leads out of step by 2.4 ms."""
    at = np.arange(SIGNAL_SAMPLES) * (1 + rng.normal(0, 0.003)) + rng.normal(0, 0.24, (N_LEADS, 1))
    # Hearts at other rates look alike: the clock may run a little faster or slower than that.
    at = np.clip(at * np.exp(rng.normal(0, 0.03)), 1, SIGNAL_SAMPLES - 2.001)
    k = at.astype(np.int64)
    w = (at - k).astype(np.float32)
    before, here, after, then = (np.take_along_axis(mv, k + j, 1) for j in (-1, 0, 1, 2))
    # Catmull-Rom: straight lines would take away what lies above 25 Hz.
    slope, bend = after - before, 2 * before - 5 * here + 4 * after - then
    return here + 0.5 * w * (slope + w * (bend + w * (3 * (here - after) + then - before)))


def _gains(true_mv: bool, rng: Rng) -> NDArray[np.floating]:
    """Errors of the page's gain; leads whose true size nobody knows vary far more."""
    all_leads = rng.normal(0, 0.04 if true_mv else 0.2)
    one = rng.normal(0, 0.03 if true_mv else 0.2, N_LEADS)
    one[:6] = one[0] if not true_mv else one[:6]  # the limb leads' relations are known
    return np.asarray(np.exp(all_leads + one)[:, None])


def _noise(mv: F32, rng: Rng) -> F32:
    """Wander and the reader's jitter, of one size over the page, and each lead a little off its baseline."""
    t = np.arange(SIGNAL_SAMPLES, dtype=np.float32) / np.float32(SIGNAL_HZ)
    turns = rng.uniform(0.05, 0.5, (N_LEADS, 1)) * t + rng.random((N_LEADS, 1))
    wander = np.exp(rng.normal(np.log(0.02), 0.8)) * np.sin((2 * np.pi * turns).astype(np.float32))
    white = rng.standard_normal((N_LEADS, SIGNAL_SAMPLES + 2), dtype=np.float32)
    slow = (white[:, 2:] + white[:, 1:-1] + white[:, :-2]) * np.float32(1 / np.sqrt(3))
    jitter = np.exp(rng.normal(np.log(0.012), 0.6)) * slow
    return np.asarray(wander + jitter + rng.normal(0, 0.03, (N_LEADS, 1)), np.float32)


def _pieces_lost(mv: NDArray[np.floating], rng: Rng) -> NDArray[np.floating]:
    """At times a lead, a stretch of a lead or the page's end is missing."""
    out = mv.copy()
    if rng.random() < 0.15:
        out[rng.integers(N_LEADS, size=int(rng.integers(1, 4)))] = np.nan
    for _ in range(int(rng.integers(0, 4)) if rng.random() < 0.4 else 0):
        first = int(rng.integers(0, SIGNAL_SAMPLES))
        out[int(rng.integers(N_LEADS)), first : first + int(rng.integers(10, 120))] = np.nan
    if rng.random() < 0.1:
        first = int(rng.integers(0, SIGNAL_SAMPLES - 200))
        out[:, first : first + int(rng.integers(10, 200))] = np.nan
    return out


N_FINDINGS: Final = len(FINDINGS)
N_CLASSES: Final = len(SUPERCLASSES)
