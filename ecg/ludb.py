"""The marks that cardiologists set in LUDB, lead by lead, and the intervals that follow from them.

LUDB: Kalyakulina AI et al., LUDB: a new open-access validation tool for electrocardiogram delineation algorithms, IEEE
Access 2020;8:186181-186190. Each lead was marked on its own, in the inner part of the ten seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ecg.errors import RecordError
from ecg.leads import LEADS

F64 = NDArray[np.float64]
WAVES: Final = ("p", "N", "t")  # as LUDB writes them
SAME_BEAT_S: Final = 0.12
LONGEST_PR_S: Final = 0.4
LONGEST_QT_S: Final = 0.75
MIN_LEADS: Final = 4  # fewer leads with a wave: too few to say what holds for the heart
LOCKED_PR_S: Final = 0.03  # PR that varies more from beat to beat is none

_SYMBOLS: Final = {1: "N", 24: "p", 27: "t", 39: "(", 40: ")"}  # codes of the MIT format
_SKIP: Final = 59
_AUX: Final = 63


@dataclass(frozen=True, eq=False)
class Marks:
    """Per lead in the order of LEADS, the waves of one record: arrays (m, 3) of onset, peak, end in s; NaN unmarked."""

    p: tuple[F64, ...]
    qrs: tuple[F64, ...]
    t: tuple[F64, ...]


@dataclass(frozen=True)
class Reference:
    """What the marks of one record say; NaN where they don't. ``kind`` names the definition (see ``references``)."""

    kind: str
    hr_bpm: float
    p_s: float
    pr_s: float
    qrs_s: float
    qt_s: float
    n_beats: int


def read_marks(path: str | Path, fs_hz: float = 500.0) -> Marks:
    """The marks of a record (path without extension); RecordError where a lead's file is missing or broken."""
    found = [waves_of(*read_symbols(Path(f"{path}.{lead.lower()}"), fs_hz)) for lead in LEADS]
    p, qrs, t = (tuple(lead[k] for lead in found) for k in range(3))
    return Marks(p, qrs, t)


def read_symbols(file: Path, fs_hz: float) -> tuple[F64, list[str]]:
    """Times in s and symbols of a file in MIT annotation format (WFDB Applications Guide, annot(5)); marks that LUDB
    doesn't use are left out. wfdb reads the same at forty times the time, which counts for 1,200 files."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise RecordError(f"{file}: can't be read ({error.strerror})") from error
    words = np.frombuffer(raw[: len(raw) // 2 * 2], dtype="<u2").tolist()
    times, symbols, sample, k = [], [], 0, 0
    while k < len(words) and words[k]:
        code, step = words[k] >> 10, words[k] & 0x3FF
        k += 1
        if code == _SKIP:
            if k + 2 > len(words):
                raise RecordError(f"{file}: ends in the middle of a mark")
            step = (words[k] << 16) + words[k + 1]  # the high word comes first
            sample += step - (1 << 32) * (step >> 31)
            k += 2
        elif code == _AUX:
            k += (step + 1) // 2
        elif code < _SKIP:
            sample += step
            if code in _SYMBOLS:
                times.append(sample / fs_hz)
                symbols.append(_SYMBOLS[code])
    return np.array(times, dtype=np.float64), symbols


def waves_of(times_s: F64, symbols: list[str]) -> list[F64]:
    """P, QRS and T (m, 3) from a lead's row of marks: "(", the wave's letter at its peak, ")"."""
    out: dict[str, list[tuple[float, float, float]]] = {w: [] for w in WAVES}
    for k, symbol in enumerate(symbols):
        if symbol in out:
            onset = times_s[k - 1] if k and symbols[k - 1] == "(" else np.nan
            end = times_s[k + 1] if k + 1 < len(symbols) and symbols[k + 1] == ")" else np.nan
            out[symbol].append((float(onset), float(times_s[k]), float(end)))
    return [np.array(out[w], dtype=np.float64).reshape(-1, 3) for w in WAVES]


def beat_onsets(marks: Marks) -> F64:
    """QRS onsets (b,) in s: medians over the leads, of beats that at least half of the marked leads have."""
    onsets = np.sort(np.concatenate([w[np.isfinite(w[:, 0]), 0] for w in marks.qrs]))
    if not len(onsets):
        return onsets
    beats = np.split(onsets, np.flatnonzero(np.diff(onsets) > SAME_BEAT_S) + 1)
    n_leads = sum(1 for w in marks.qrs if len(w))
    return np.array([float(np.median(b)) for b in beats if len(b) >= 0.5 * n_leads])


def _lead_marks(marks: Marks, beats: F64) -> F64:
    """Onset and end of P, QRS, T of each beat in each lead (b, 12, 6), in s from the beat's QRS onset; NaN unmarked."""
    out = np.full((len(beats), len(LEADS), 6), np.nan)
    following = np.append(beats[1:], np.inf) if len(beats) else beats
    for lead in range(len(LEADS)):
        for b, (onset, following_onset) in enumerate(zip(beats, following, strict=True)):
            p, qrs, t = (w[lead] - onset for w in (marks.p, marks.qrs, marks.t))
            p = p[(p[:, 1] < 0) & (p[:, 0] > -LONGEST_PR_S)][-1:]
            qrs = qrs[np.abs(qrs[:, 0]) < SAME_BEAT_S][:1]
            t = t[(t[:, 1] > 0.05) & (t[:, 2] < min(LONGEST_QT_S, following_onset - onset))][:1]
            for k, wave in enumerate((p, qrs, t)):
                if len(wave):
                    out[b, lead, 2 * k : 2 * k + 2] = wave[0, [0, 2]]
    return out


def references(marks: Marks) -> dict[str, Reference]:
    """Intervals by three definitions.

    In each, a lead's own mark is the median over its beats, counted from the beat's QRS onset (the median over leads).

    * ``global``: from the earliest onset to the latest end that a second lead bears out, i.e. the second of the sorted
      marks. It is what AHA/ACCF/HRS 2009 ask of carts (global intervals), without the luck of the outermost of twelve
      marks that were set by hand one by one; the figures to meet are taken against it.
    * ``outermost``: from the earliest to the latest mark of any lead.
    * ``median``: the median over the leads of each lead's own interval: shorter, since no lead shows all of a wave.
    """
    beats = beat_onsets(marks)
    each = _lead_marks(marks, beats)
    hr = 60.0 * (len(beats) - 1) / float(beats[-1] - beats[0]) if len(beats) > 1 else float("nan")
    typical = _nan_median(each, 0)  # (12, 6)
    if not _locked(each):
        typical[:, :2] = np.nan
    out = {}
    for kind, nth in (("global", 1), ("outermost", 0)):
        p_on, p_off, on, off, _, t_off = (_nth(typical[:, k], nth, from_end=bool(k % 2)) for k in range(6))
        out[kind] = Reference(kind, hr, p_off - p_on, on - p_on, off - on, t_off - on, len(beats))
    lead = typical[:, [1, 2, 3, 5]] - typical[:, [0, 0, 2, 2]]
    enough = np.isfinite(lead).sum(axis=0) >= MIN_LEADS
    p, pr, qrs, qt = np.where(enough, _nan_median(lead, 0), np.nan)
    out["median"] = Reference("median", hr, float(p), float(pr), float(qrs), float(qt), len(beats))
    return out


def _locked(each: F64) -> bool:
    """True where P comes a steady time before QRS, (b, 12, 6)."""
    per_beat = _nan_median(each[:, :, 0], 1)
    per_beat = per_beat[np.isfinite(per_beat)]
    return len(per_beat) >= 2 and float(np.median(np.abs(per_beat - np.median(per_beat)))) * 1.4826 < LOCKED_PR_S


def _nth(values: F64, nth: int, from_end: bool) -> float:
    values = np.sort(values[np.isfinite(values)])
    if len(values) < MIN_LEADS:
        return float("nan")
    return float(values[-1 - nth] if from_end else values[nth])


def _nan_median(x: F64, axis: int) -> F64:
    """Median of what is finite; NaN where nothing is, without a warning."""
    empty = ~np.isfinite(x).any(axis=axis, keepdims=True)
    return np.where(np.squeeze(empty, axis=axis), np.nan, np.nanmedian(np.where(empty, 0.0, x), axis=axis))
