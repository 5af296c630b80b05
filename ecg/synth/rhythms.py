"""When atria and ventricles beat: each rhythm as a timetable of P waves, QRS complexes and pacing spikes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

# How a ventricular beat is conducted.
NORMAL, ECTOPIC, PACED = 0, 1, 2

RHYTHMS: Final = (
    "sinus", "pac", "pvc", "bigeminy", "trigeminy", "fibrillation", "flutter", "supraventricular",
    "mobitz1", "mobitz2", "complete_block", "paced", "paced_atrial",
)  # fmt: skip
WITHOUT_P: Final = ("fibrillation", "flutter", "supraventricular")
_LEAD_IN_S: Final = 3.0  # beats before the record starts, so that its first beats have a history


@dataclass(frozen=True)
class Rhythm:
    """``kind`` is one of RHYTHMS; ``rate_bpm`` the ventricular rate (of sinus beats where ectopic ones are added;
    the escape's in complete block, where ``atrial_bpm`` is the atria's).

    ``breathing`` is the relative swing of the sinus interval with respiration, ``jitter`` its random part; ``every``
    how many beats lie between ectopic or dropped ones (0: at random, a few a record).
    """

    kind: str = "sinus"
    rate_bpm: float = 70.0
    breathing: float = 0.02
    jitter: float = 0.01
    breath_hz: float = 0.25
    atrial_bpm: float = 75.0
    every: int = 0
    prematurity: float = 0.65  # an ectopic beat comes after this share of the interval

    def __post_init__(self) -> None:
        if self.kind not in RHYTHMS:
            raise ValueError(f"kind must be one of {RHYTHMS}, got {self.kind!r}")
        if not 15 <= self.rate_bpm <= 320:
            raise ValueError(f"rate_bpm must lie in 15 to 320, got {self.rate_bpm}")


@dataclass(frozen=True, eq=False)
class Timetable:
    """P onsets (a,) s with ``p_ectopic`` (a,); QRS onsets (v,) s with ``conduction`` (v,) and the interval before each
    ``rr_s`` (v,); pacing spikes (s,) s with ``spike_atrial`` (s,)."""

    p_s: F64
    p_ectopic: NDArray[np.bool_]
    qrs_s: F64
    conduction: NDArray[np.int64]
    rr_s: F64
    spike_s: F64
    spike_atrial: NDArray[np.bool_]


def timetable(rhythm: Rhythm, pr_s: float, duration_s: float, rng: np.random.Generator) -> Timetable:
    """The beats from before 0 to past ``duration_s``; P onsets come ``pr_s`` before the QRS that they lead to."""
    end = duration_s + 1.0
    if rhythm.kind == "fibrillation":
        return _only_qrs(_fibrillation(rhythm, end, rng))
    if rhythm.kind == "flutter":
        return _only_qrs(_flutter(rhythm, end, rng))
    if rhythm.kind == "complete_block":
        p = _sinus(rhythm, rhythm.atrial_bpm, end, rng)
        qrs = _sinus(Rhythm("sinus", rhythm.rate_bpm, 0.0, 0.008), rhythm.rate_bpm, end, rng)
        return _timetable(p, np.zeros(len(p), bool), qrs, np.full(len(qrs), NORMAL))
    p = _sinus(rhythm, rhythm.rate_bpm, end, rng)
    if rhythm.kind in ("mobitz1", "mobitz2"):
        return _dropped(rhythm, p, pr_s, rng)
    if rhythm.kind in ("paced", "paced_atrial"):
        return _paced(rhythm, p, pr_s)
    if rhythm.kind == "pac":
        return _with_pac(rhythm, p, pr_s, rng)
    if rhythm.kind in ("pvc", "bigeminy", "trigeminy"):
        return _with_pvc(rhythm, p, pr_s, rng)
    if rhythm.kind == "supraventricular":
        return _only_qrs(p)
    return _timetable(p, np.zeros(len(p), bool), p + pr_s, np.full(len(p), NORMAL))


def _timetable(p_s: F64, p_ectopic: NDArray[np.bool_], qrs_s: F64, conduction: NDArray[np.int64],
               spike_s: F64 | None = None, spike_atrial: NDArray[np.bool_] | None = None) -> Timetable:  # fmt: skip
    order = np.argsort(qrs_s, kind="stable")
    qrs_s, conduction = qrs_s[order], conduction[order]
    gaps = np.diff(qrs_s)
    first = float(np.median(gaps)) if len(gaps) else 1.0
    spike_s = np.zeros(0) if spike_s is None else spike_s
    spike_atrial = np.zeros(len(spike_s), bool) if spike_atrial is None else spike_atrial
    return Timetable(p_s, p_ectopic, qrs_s, conduction, np.concatenate([[first], gaps]), spike_s, spike_atrial)


def _only_qrs(qrs_s: F64) -> Timetable:
    return _timetable(np.zeros(0), np.zeros(0, bool), qrs_s, np.full(len(qrs_s), NORMAL))


def _sinus(rhythm: Rhythm, bpm: float, end_s: float, rng: np.random.Generator) -> F64:
    """Times of a sinus node that follows breathing: from -3 s or so to end_s."""
    mean = 60.0 / bpm
    n = int((end_s + _LEAD_IN_S) / mean * 1.6) + 4
    phase = rng.uniform(0, 2 * np.pi)
    slow = rng.standard_normal(n)
    slow = np.convolve(slow, np.ones(4) / 2.0, "same")  # neighbouring intervals resemble each other
    noise = rhythm.jitter * slow
    start = -_LEAD_IN_S + rng.uniform(0, mean)
    t = start + mean * np.arange(n)
    interval = mean * np.clip(
        1 + rhythm.breathing * np.sin(2 * np.pi * rhythm.breath_hz * t + phase) + noise, 0.55, 1.7
    )
    times = start + np.concatenate([[0.0], np.cumsum(interval)])
    return np.asarray(times[times < end_s], dtype=np.float64)


def _fibrillation(rhythm: Rhythm, end_s: float, rng: np.random.Generator) -> F64:
    """Irregularly irregular: independent intervals, spread 15 to 28 %, none shorter than 0.28 s."""
    mean = 60.0 / rhythm.rate_bpm
    n = int((end_s + _LEAD_IN_S) / mean * 2) + 6
    cv = rng.uniform(0.15, 0.28)
    shape = 1.0 / cv**2
    interval = np.maximum(rng.gamma(shape, mean / shape, n), 0.28)
    times = -_LEAD_IN_S + np.cumsum(interval)
    return np.asarray(times[times < end_s], dtype=np.float64)


def flutter_ratio(rhythm: Rhythm) -> int:
    """How many flutter waves go with a beat."""
    return max(1, round(rhythm.atrial_bpm / rhythm.rate_bpm))


def _flutter(rhythm: Rhythm, end_s: float, rng: np.random.Generator) -> F64:
    """Every second to fourth flutter wave is conducted; ``every`` = 1 lets the ratio vary from beat to beat."""
    period = 60.0 / rhythm.atrial_bpm
    ratio = flutter_ratio(rhythm)
    n = int((end_s + _LEAD_IN_S) / period) + 8
    ratios = rng.choice([max(ratio - 1, 2), ratio, ratio + 1], n) if rhythm.every == 1 else np.full(n, ratio)
    times = -_LEAD_IN_S + rng.uniform(0, period * ratio) + np.cumsum(ratios) * period
    times = times + rng.normal(0, 0.003, n)
    return np.asarray(times[times < end_s], dtype=np.float64)


def _dropped(rhythm: Rhythm, p: F64, pr_s: float, rng: np.random.Generator) -> Timetable:
    """Second degree: every ``every``-th P is not conducted; in Mobitz I the PR grows until then."""
    every = max(rhythm.every, 2)
    place = (np.arange(len(p)) + int(rng.integers(every))) % every
    conducted = place < every - 1
    growth: F64 = np.zeros(len(p))
    if rhythm.kind == "mobitz1":  # the first step is the largest (Wenckebach)
        steps = 0.09 * 0.6 ** np.arange(every)
        growth = np.concatenate([[0.0], np.cumsum(steps)])[place]
    qrs = p + pr_s + growth
    return _timetable(p, np.zeros(len(p), bool), qrs[conducted], np.full(int(conducted.sum()), NORMAL))


def _paced(rhythm: Rhythm, p: F64, pr_s: float) -> Timetable:
    """Ventricular pacing: of atria that fibrillate or stand still ("paced"), or behind paced P waves."""
    qrs = p + pr_s
    spikes, atrial = qrs - 0.012, np.zeros(len(qrs), bool)
    kinds = np.full(len(qrs), PACED)
    if rhythm.kind == "paced":
        return _timetable(np.zeros(0), np.zeros(0, bool), qrs, kinds, spikes, atrial)
    spikes = np.concatenate([spikes, p - 0.012])
    atrial = np.concatenate([atrial, np.ones(len(p), bool)])
    return _timetable(p, np.zeros(len(p), bool), qrs, kinds, spikes, atrial)


def _ectopic_places(rhythm: Rhythm, p: F64, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which sinus beats are followed by an ectopic one; never two in a row, at least one within 1.5 to 8 s."""
    n = len(p)
    if rhythm.every >= 2:
        return np.arange(int(rng.integers(rhythm.every)) + 1, n - 1, rhythm.every)
    seen = np.flatnonzero((p > 1.5) & (p < 8.0))
    chosen = {int(rng.choice(seen))} if len(seen) else set()
    for i in range(1, n - 1):
        if rng.uniform() < 0.1 and not chosen & {i - 1, i, i + 1}:
            chosen.add(i)
    return np.array(sorted(chosen), dtype=np.int64)


def _with_pac(rhythm: Rhythm, p: F64, pr_s: float, rng: np.random.Generator) -> Timetable:
    """Early atrial beats that reset the sinus node: what follows moves forward."""
    gap = np.diff(p, append=p[-1] + 60.0 / rhythm.rate_bpm)
    ectopic = np.zeros(len(p), bool)
    shift = np.zeros(len(p))
    for i in _ectopic_places(rhythm, p, rng):
        early = gap[i] * (1 - np.clip(rhythm.prematurity + rng.normal(0, 0.03), 0.5, 0.85))
        ectopic[i + 1] = True
        shift[i + 1] -= early
        shift[i + 2 :] -= early - 0.08 * gap[i]
    p = p + shift
    delay = np.where(ectopic, rng.uniform(0.0, 0.03), 0.0)
    return _timetable(p, ectopic, p + pr_s + delay, np.full(len(p), NORMAL))


def _with_pvc(rhythm: Rhythm, p: F64, pr_s: float, rng: np.random.Generator) -> Timetable:
    """Early ventricular beats; the sinus node goes on, its next P isn't conducted (compensatory pause)."""
    places = _ectopic_places(rhythm, p, rng)
    gap = np.diff(p, append=p[-1] + 60.0 / rhythm.rate_bpm)
    share = np.clip(rhythm.prematurity + rng.normal(0, 0.02, len(places)), 0.45, 0.85)
    early = p[places] + pr_s + share * gap[places]
    conducted = np.ones(len(p), bool)
    conducted[places + 1] = False
    qrs = np.concatenate([(p + pr_s)[conducted], early])
    kinds = np.concatenate([np.full(int(conducted.sum()), NORMAL), np.full(len(early), ECTOPIC)])
    return _timetable(p, np.zeros(len(p), bool), qrs, kinds)
