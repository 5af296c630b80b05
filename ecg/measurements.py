"""Heart rate, rhythm, P, PR, QRS, QT, QTc and axis, each with its error bar or the reason why it isn't measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from ecg.delineation import Delineation, delineate
from ecg.delineation_beats import F64, Flags
from ecg.delineation_leads import P_OFF, P_ON, QRS_OFF, QRS_ON, T_OFF
from ecg.leads import LIMB_FROM_I_II
from ecg.page import EcgSignal

IRREGULAR: Final = 0.10  # standard deviation of RR over its mean, ectopic beats left out
REGULAR_BUT_FOR_ECTOPICS: Final = 0.06
MAX_ECTOPIC_SHARE: Final = 0.4
P_LIKE_IF_IRREGULAR: Final = 0.7  # an irregular rhythm needs surer P waves: fibrillation may look like some
MIN_BEATS: Final = 2
MIN_INTERVALS: Final = 3  # for the rhythm
FIDUCIAL_S: Final = 0.003  # one standard deviation of a beat's place in time
BASELINE_MV: Final = 0.02  # of the level that deflections and areas are counted from
MAX_AXIS_ERROR_DEG: Final = 40.0

# One standard deviation of what remains between these intervals and cardiologists' marks with all leads and clean
# signals: about 1.4826 times the median absolute error on LUDB's records at hand (edge_runtime.measure_eval).
METHOD_S: Final = {"p_duration": 0.012, "pr": 0.008, "qrs": 0.011, "qt": 0.012}
# What noise adds: measured with noise of 0.01 and 0.03 mV at 150 columns/s added to the even half.
NOISE_S_PER_MV: Final = 1.2
FEW_LEADS: Final = 3  # with fewer, waves may begin and end in leads that weren't seen
FEW_LEADS_S: Final = 0.010
NOT_MEASURED: Final = "not measured: "
# What a reader of ECGs calls them.
LABELS: Final = {
    "heart_rate": "heart rate", "rhythm": "rhythm", "rr_sd": "SD of RR", "ectopic_share": "ectopic beats",
    "p_duration": "P", "pr": "PR", "qrs": "QRS", "qt": "QT", "qtc_bazett": "QTc (Bazett)",
    "qtc_fridericia": "QTc (Fridericia)", "qtc_framingham": "QTc (Framingham)", "axis": "axis",
}  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """One figure of a reading; ``value`` None has its ``reason`` ("not measured: ...").

    ``error`` is one standard deviation of what ``value`` may be off by, in the same unit: of method, time resolution,
    scatter of the leads, spread of the beats, raised where the signal was read with little confidence. ``n_beats`` is
    how many beats (for rates: intervals) it rests on.
    """

    name: str
    value: float | str | None
    unit: str
    error: float | None = None
    n_beats: int = 0
    reason: str = ""


def in_words(m: Measurement) -> str:
    """One figure for people: "PR 160 ± 9 ms", "rhythm regular", "P not measured: no P waves"."""
    label = LABELS.get(m.name, m.name)
    if m.value is None:
        return f"{label} {m.reason or NOT_MEASURED.rstrip(': ')}"
    if isinstance(m.value, str):
        return f"{label} {m.value}"
    error = "" if m.error is None else f" ± {max(1.0, m.error):.0f}"
    return f"{label} {m.value:.0f}{error}{'°' if m.unit == 'deg' else ' ' + m.unit}"


def measure(signal: EcgSignal, resolution_s: float | None = None) -> tuple[Measurement, ...]:
    """All measurements of a signal, in a fixed order; none is left out.

    ``resolution_s`` is what one pixel or sample of the source is long, one sample of the signal if not given.
    """
    found = delineate(signal.mv, signal.fs_hz, signal.confidence)
    return measured(found, resolution_s or 1.0 / signal.fs_hz, _mean_confidence(signal))


def _mean_confidence(signal: EcgSignal) -> float:
    known = np.isfinite(signal.mv)
    return float(signal.confidence[known].mean()) if known.any() else 0.0


def measured(found: Delineation, resolution_s: float, confidence: float = 1.0) -> tuple[Measurement, ...]:
    """The measurements of a delineation; ``confidence`` 0..1 is the mean of its signal's."""
    doubt = float(1.0 / np.sqrt(np.clip(confidence, 0.1, 1.0)))
    rate = heart_rate(found, resolution_s)
    rhythm = _rhythm(found)
    waves = _intervals(found, resolution_s, doubt)
    return (rate, *rhythm, *waves, *_corrected(found, waves[-1]), axis(found, doubt))


# --------------------------------------------------------------------------------------------------------------- rhythm


def _none(name: str, unit: str, why: str, n: int = 0) -> Measurement:
    return Measurement(name, None, unit, None, n, NOT_MEASURED + why)


def heart_rate(found: Delineation, resolution_s: float) -> Measurement:
    """60 over the mean of all RR intervals seen; its error has the spread of RR and the beats' places in time."""
    rr = np.diff(found.beat_s)
    if not len(rr):
        return _none("heart_rate", "bpm", "fewer than two QRS complexes found", len(rr))
    mean = float(rr.mean())
    place = np.sqrt(2) * np.hypot(FIDUCIAL_S, resolution_s / np.sqrt(12)) / len(rr)
    spread = float(rr.std(ddof=1)) / len(rr) ** 0.5 if len(rr) > 1 else 0.05 * mean
    return Measurement("heart_rate", 60.0 / mean, "bpm", 60.0 / mean**2 * float(np.hypot(place, spread)), len(rr))


def ectopic(found: Delineation) -> Flags:
    """Beats (b,) of another shape than most, and those that come early in an otherwise regular rhythm."""
    other = found.whole & ~found.usual
    early = found.premature & ~other
    steady = _variation(_intervals_between(found, other | early)) <= REGULAR_BUT_FOR_ECTOPICS
    return other | early if steady and early.mean() <= MAX_ECTOPIC_SHARE else other


def _intervals_between(found: Delineation, left_out: Flags) -> F64:
    """RR intervals (s) between neighbours that both count, without the pauses after beats that don't."""
    rr = np.diff(found.beat_s)
    return np.asarray(rr[~(left_out[1:] | left_out[:-1])])


def _variation(rr: F64) -> float:
    return float(rr.std(ddof=1) / rr.mean()) if len(rr) > 1 else 0.0


def _rhythm(found: Delineation) -> tuple[Measurement, Measurement, Measurement]:
    """Regular or irregular; the SD of RR in ms; the share of ectopic beats in %."""
    n = len(found.beat_s)
    out = ectopic(found) if n else np.zeros(0, bool)
    rr = _intervals_between(found, out) if n else np.zeros(0)
    if len(rr) < MIN_INTERVALS:
        why = f"{len(rr)} RR intervals between normal beats, {MIN_INTERVALS} are needed"
        regular, sd = _none("rhythm", "", why, len(rr)), _none("rr_sd", "ms", why, len(rr))
    else:
        spread = float(rr.std(ddof=1))
        regular = Measurement("rhythm", "irregular" if is_irregular(found) else "regular", "", None, len(rr))
        sd = Measurement("rr_sd", 1e3 * spread, "ms", 1e3 * spread / (2 * (len(rr) - 1)) ** 0.5, len(rr))
    counted = found.whole
    m = int(counted.sum())
    if m < MIN_BEATS:
        return regular, sd, _none("ectopic_share", "%", f"{m} whole beats seen, {MIN_BEATS} are needed", m)
    share = float((out & counted).sum()) / m
    error = np.sqrt((share * (1 - share) + 0.25 / m) / m)  # binomial, not zero at the ends
    return regular, sd, Measurement("ectopic_share", 100 * share, "%", 100 * float(error), m)


def is_irregular(found: Delineation) -> bool:
    """True where RR, ectopic beats left out, varies by more than IRREGULAR."""
    if len(found.beat_s) < MIN_INTERVALS + 1:
        return False
    return _variation(_intervals_between(found, ectopic(found))) > IRREGULAR


# ------------------------------------------------------------------------------------------------------------ intervals


def _intervals(found: Delineation, resolution_s: float, doubt: float) -> tuple[Measurement, ...]:
    """P duration, PR, QRS and QT in ms."""
    spans = (("p_duration", P_ON, P_OFF), ("pr", P_ON, QRS_ON), ("qrs", QRS_ON, QRS_OFF), ("qt", QRS_ON, T_OFF))
    return tuple(_interval(found, name, a, b, resolution_s, doubt) for name, a, b in spans)


def _interval(found: Delineation, name: str, first: int, last: int, resolution_s: float, doubt: float) -> Measurement:
    """One interval between two global marks, in ms."""
    n = int(found.used.sum())
    why = _missing(found, n, first, last)
    if why:
        return _none(name, "ms", why, n)
    each = found.beat_marks_s[:, last] - found.beat_marks_s[:, first]
    each = each[np.isfinite(each) & found.used]
    spread = 1.4826 * float(np.median(np.abs(each - np.median(each)))) / np.sqrt(len(each)) if len(each) > 2 else 0.008
    scatter = 0.5 * float(np.hypot(*np.nan_to_num(found.scatter_s[[first, last]])))
    few = FEW_LEADS_S if int((found.lead_beats > 0).sum()) <= FEW_LEADS else 0.0
    sampling = resolution_s / np.sqrt(6)  # two ends, each even over one step
    noise = NOISE_S_PER_MV * found.noise_mv
    parts = (METHOD_S[name], spread, scatter, few, sampling, noise)
    error = doubt * float(np.sqrt(sum(p**2 for p in parts)))
    return Measurement(name, 1e3 * found.interval_s(first, last), "ms", 1e3 * error, n)


def _missing(found: Delineation, n: int, first: int, last: int) -> str:
    """Why an interval can't be measured; empty where it can."""
    if n < MIN_BEATS:
        return f"{n} whole beats of one shape, {MIN_BEATS} are needed"
    if not np.isfinite(found.marks_s[[QRS_ON, QRS_OFF]]).all():
        return "no lead shows where QRS begins and ends"
    if P_ON in (first, last):
        if found.no_p:
            return found.no_p
        if is_irregular(found) and found.p_likeness < P_LIKE_IF_IRREGULAR:
            return "irregular rhythm without clear P waves"
    if T_OFF in (first, last) and not np.isfinite(found.marks_s[T_OFF]):
        return "no lead shows where T ends"
    if T_OFF in (first, last) and found.interval_s(first, last) > _following_s(found):
        return "the next beat comes before T ends"
    return "" if found.interval_s(first, last) > 0 else "its marks contradict each other"


def _following_s(found: Delineation) -> float:
    """How soon the next beat, whatever its shape, follows the beats that are measured; infinite if none does."""
    following = np.diff(found.beat_s)[found.used[:-1]]
    return float(np.median(following)) if len(following) else float("inf")


def bazett(qt_s: float, rr_s: float) -> float:
    """QT / sqrt(RR). Bazett HC: An analysis of the time-relations of electrocardiograms. Heart 1920;7:353-370."""
    return float(qt_s / np.sqrt(rr_s))


def fridericia(qt_s: float, rr_s: float) -> float:
    """QT / cbrt(RR). Fridericia LS: Die Systolendauer im Elektrokardiogramm. Acta Med Scand 1920;53:469-486."""
    return float(qt_s / np.cbrt(rr_s))


def framingham(qt_s: float, rr_s: float) -> float:
    """QT + 0.154 (1 - RR). Sagie A et al. (the Framingham Heart Study). Am J Cardiol 1992;70:797-801."""
    return qt_s + 0.154 * (1.0 - rr_s)


_FORMULAS: Final[tuple[tuple[str, Callable[[float, float], float]], ...]] = (
    ("qtc_bazett", bazett), ("qtc_fridericia", fridericia), ("qtc_framingham", framingham),
)  # fmt: skip


def _corrected(found: Delineation, qt: Measurement) -> tuple[Measurement, ...]:
    """QTc by three formulas, in ms, at the mean RR of all beats but ectopic ones."""
    if not isinstance(qt.value, float) or qt.error is None:
        return tuple(Measurement(name, None, "ms", None, qt.n_beats, qt.reason) for name, _ in _FORMULAS)
    rr = _intervals_between(found, ectopic(found))
    rr = rr if len(rr) else np.diff(found.beat_s)
    if not len(rr):
        return tuple(_none(name, "ms", "no RR interval seen", qt.n_beats) for name, _ in _FORMULAS)
    mean, qt_s = float(rr.mean()), qt.value / 1e3
    mean_error = float(rr.std(ddof=1)) / len(rr) ** 0.5 if len(rr) > 1 else 0.05 * mean
    out = []
    for name, formula in _FORMULAS:
        by_rr = (formula(qt_s, 1.01 * mean) - formula(qt_s, mean)) / (0.01 * mean) * mean_error
        by_qt = (formula(1.01 * qt_s, mean) - formula(qt_s, mean)) / (0.01 * qt_s) * qt.error / 1e3
        out.append(Measurement(name, 1e3 * formula(qt_s, mean), "ms", 1e3 * float(np.hypot(by_rr, by_qt)), qt.n_beats))
    return tuple(out)


# ----------------------------------------------------------------------------------------------------------------- axis


def axis(found: Delineation, doubt: float = 1.0) -> Measurement:
    """The frontal QRS axis in degrees (0 left, 90 feet, -180 to 180) from the net deflections in I and aVF.

    A lead's net deflection is its tallest R minus its deepest Q or S, as cardiologists read an axis; aVF counts
    2 / sqrt(3) times, since an augmented lead is that much smaller.  Where I or aVF is not seen, the deflections of the
    limb leads that are seen are fitted.  Net areas give an axis of their own: half its distance is part of the error,
    like leads that contradict each other.
    """
    n = int(found.used.sum())
    span = found.marks_s[[QRS_ON, QRS_OFF]]
    if n < 1 or not np.isfinite(span).all():
        return _none("axis", "deg", "no lead shows where QRS begins and ends", n)
    a, b = (round((float(v) - found.median_start_s) * found.fs_hz) for v in span)
    limb = found.median_mv[:6, a : b + 1]
    seen = np.isfinite(limb).all(axis=1) & (found.lead_beats[:6] > 0)
    model = LIMB_FROM_I_II[seen]
    if seen.sum() < 2 or np.linalg.matrix_rank(model) < 2:
        return _none("axis", "deg", "two limb leads are needed", n)
    wave = limb - limb[:, :1]
    net = np.maximum(wave.max(axis=1), 0.0) + np.minimum(wave.min(axis=1), 0.0)  # NaN where not seen
    inverse = np.linalg.pinv(model)
    mean = wave[seen].mean(axis=1)
    by_area = _frontal(inverse @ mean)
    side = np.array([net[0], 2 / np.sqrt(3) * net[5]]) if seen[[0, 5]].all() else _frontal(inverse @ net[seen])
    misfit = float(np.sqrt(np.mean((model @ (inverse @ mean) - mean) ** 2)))  # leads that contradict each other
    off = np.hypot(BASELINE_MV, misfit) * doubt / max(float(np.hypot(*by_area)), 1e-9)
    apart = np.arctan2(side[0] * by_area[1] - side[1] * by_area[0], side @ by_area)
    error = float(np.degrees(np.hypot(np.arctan(off), apart / 2)))
    if error > MAX_AXIS_ERROR_DEG:
        return _none("axis", "deg", "QRS has no clear net deflection in the limb leads", n)
    return Measurement("axis", float(np.degrees(np.arctan2(side[1], side[0]))), "deg", error, n)


def _frontal(one_two: F64) -> F64:
    """Leads I and II to the axes 0 and 90 degrees."""
    one, two = one_two
    return np.array([one, (two - one / 2) * 2 / np.sqrt(3)])
