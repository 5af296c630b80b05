"""The training records' signals in memory, for the signal encoder's own training: no page is printed for it.

Every batch draws lost gains anew, and what a page would print: whole recordings, columns, single rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecg.findings import SUPERCLASSES
from ecg.layouts import LAYOUTS, LayoutSpec
from ecg.leads import LEAD_INDEX, N_LEADS, base_lead
from ecg.page import F32
from ecg.records import EcgRecord, with_plausible_gain
from ecg.synth.heart import beat, random_heart
from teacher.config import TeacherConfig
from teacher.prompts import PROMPTS
from teacher.samples import RECORD_S, Source, on_clock

CONCEPTS: Final = (*PROMPTS, *SUPERCLASSES)  # what a record is contrasted with: each has a set of sentences
GAIN_DRAWS: Final = 6
USUAL: Final = ("3x4+1", "3x4", "6x2", "12x1", "3x4+2", "4x3")
USUAL_ODDS: Final = (0.55, 0.1, 0.13, 0.1, 0.06, 0.06)
_BOOLS = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SignalSet:
    """n records: mv (n, 12, samples) float16, 0 where not known; known alike; gains (n, draws, 12), factors that make
    their voltages plausible (1 where they are true); concepts (n, len(CONCEPTS)), what is said of each."""

    mv: NDArray[np.float16]
    known: _BOOLS
    gains: F32
    concepts: _BOOLS
    fs_hz: float

    def __len__(self) -> int:
        return len(self.mv)

    def draw(self, at: NDArray[np.int64], rng: np.random.Generator) -> tuple[F32, _BOOLS]:
        """mV and known (b, 12, samples) of these records as pages would show them: some gain, cuts, noise."""
        b, _, n = len(at), N_LEADS, self.mv.shape[2]
        gain = self.gains[at, rng.integers(self.gains.shape[1], size=b)]
        gain = gain * np.exp(0.1 * rng.standard_normal((b, 1)) + 0.03 * rng.standard_normal((b, N_LEADS)))
        mv = self.mv[at].astype(np.float32) * gain[..., None].astype(np.float32)
        known = self.known[at] & np.stack([printed_mask(n, self.fs_hz, rng) for _ in range(b)])
        mv += (0.02 * rng.random((b, 1, 1)) * rng.standard_normal(mv.shape)).astype(np.float32)
        mv += _wander((b, N_LEADS), n, self.fs_hz, rng)
        return np.where(known, mv, np.float32(0)), known


def printed_mask(n: int, fs_hz: float, rng: np.random.Generator) -> _BOOLS:
    """Where a page shows something of a recording, (12, n): all of it at times, some layout's columns mostly."""
    kind = rng.random()
    if kind < 0.15:
        return np.ones((N_LEADS, n), bool)
    if kind < 0.95:
        name = USUAL[int(rng.choice(len(USUAL), p=USUAL_ODDS))]
    else:
        name = list(LAYOUTS)[int(rng.integers(len(LAYOUTS)))]
    seconds = n / fs_hz * float(rng.choice([1.0, 0.5], p=[0.9, 0.1])) * float(rng.uniform(0.93, 1.0))
    mask = layout_mask(LAYOUTS[name], n, fs_hz, seconds)
    mask[rng.random(N_LEADS) < rng.choice([0.0, 0.1])] = False
    return mask


def layout_mask(spec: LayoutSpec, n: int, fs_hz: float, seconds: float) -> _BOOLS:
    """What a layout prints of the recording's first ``seconds``: (12, n)."""
    mask = np.zeros((N_LEADS, n), bool)
    for lead, _, column, span in spec.cells():
        width = seconds / spec.n_columns * fs_hz
        mask[LEAD_INDEX[base_lead(lead)[0]], round(column * width) : round((column + span) * width)] = True
    return mask


def concepts_of(record: EcgRecord) -> _BOOLS:
    """Which concepts the record's codes and superclasses name, (len(CONCEPTS),)."""
    said = {*record.codes, *record.superclasses}
    return np.array([c in said for c in CONCEPTS])


def read_signals(
    config: TeacherConfig, fs_hz: float, n: int, each: Callable[[int, int], None] | None = None
) -> SignalSet:
    """All training records of the config and its synthetic hearts; records that can't be used are left out."""
    source = Source(config)
    rng = np.random.default_rng([config.optim.seed, 7])
    records: list[EcgRecord] = []
    total = len(source.refs) + (config.data.hearts if source.synthetic_share else 0)
    for ref in source.refs:
        record = source.read(ref)
        if record is not None:
            records.append(record)
        if each:
            each(len(records), total)
    if source.synthetic_share:
        for _ in range(config.data.hearts):
            records.append(beat(random_heart(rng), RECORD_S, rng=rng))
            if each:
                each(len(records), total)
    return signal_set(records, fs_hz, n, rng)


def signal_set(records: Iterable[EcgRecord], fs_hz: float, n: int, rng: np.random.Generator) -> SignalSet:
    """The records at one rate and length."""
    mv, known, gains, concepts = [], [], [], []
    for raw in records:
        record = with_plausible_gain(raw, rng)  # before it is clipped
        one, there = on_clock(record, fs_hz, n)
        mv.append(one.astype(np.float16))
        known.append(there)
        gains.append(_gain_draws(record, rng))
        concepts.append(concepts_of(record))
    return SignalSet(np.stack(mv), np.stack(known), np.stack(gains), np.stack(concepts), fs_hz)


def _gain_draws(record: EcgRecord, rng: np.random.Generator) -> F32:
    """(draws, 12): factors to plausible voltages."""
    if record.true_mv:
        return np.ones((GAIN_DRAWS, N_LEADS), np.float32)
    peak = np.nan_to_num(np.nanmax(np.abs(record.mv), axis=1))
    out = np.ones((GAIN_DRAWS, N_LEADS), np.float32)
    for k in range(GAIN_DRAWS):
        drawn = np.nan_to_num(np.nanmax(np.abs(with_plausible_gain(record, rng).mv), axis=1))
        out[k] = np.where(peak > 0, drawn / np.maximum(peak, 1e-9), 1.0)
    return out


def _wander(shape: tuple[int, int], n: int, fs_hz: float, rng: np.random.Generator) -> F32:
    """Slow waves of up to some tenths of a millivolt, (*shape, n)."""
    hz = rng.uniform(0.05, 0.4, (*shape, 1))
    size = np.abs(rng.normal(0, 0.06, (shape[0], 1, 1))) * rng.random((*shape, 1))
    return np.asarray(size * np.sin(2 * np.pi * (hz * np.arange(n) / fs_hz + rng.random((*shape, 1)))), np.float32)
