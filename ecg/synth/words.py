"""What carts, hospitals and doctors write around an ECG. All names are made up from common ones."""

from __future__ import annotations

from typing import Final

import numpy as np

from ecg.records import EcgRecord

_FIRST: Final = (
    "Anna", "Maria", "John", "Wei", "Fatima",
    "Carlos", "Olga", "Peter", "Linh", "Amit", "Grace", "Hans", "Sofia", "Omar", "Lucy", "Ivan", "Mei",
)  # fmt: skip
_LAST: Final = (
    "Smith", "Meier", "Nguyen", "Garcia", "Khan", "Ivanova", "Brown",
    "Lopez", "Chen", "Patel", "Rossi",
    "Kim", "Okafor", "Dubois",
)  # fmt: skip
_SENTENCES: Final = (
    "Normal sinus rhythm", "Sinus bradycardia", "Sinus tachycardia", "Atrial fibrillation", "Left axis deviation",
    "Nonspecific ST and T wave abnormality", "Incomplete right bundle branch block", "Left ventricular hypertrophy",
    "Possible left atrial enlargement", "Borderline ECG", "Abnormal ECG", "Normal ECG", "Otherwise normal ECG",
    "Prolonged QT", "Sinusrhythmus, Linkstyp", "Unbestaetigter Bericht", "Premature ventricular complexes",
    "Inferior infarct, age undetermined", "No previous ECGs available", "*** Poor data quality ***", "UNCONFIRMED",
)  # fmt: skip
_NOTES: Final = (
    "No acute changes", "Normal ECG", "NSR", "Rhythm stays unchanged", "ok", "seen by Dr Lee", "STEMI?", "AF, fast",
    "repeat in 1 h", "chest pain 2h", "old LBBB", "cardiology", "pre-op", "K+ 5.9", "compare old ECG", "rate 74",
    "bed 12", "discuss", "normal axis", "LVH", "bp 140/90", "?inferior MI", "copy", "ED", "12-lead", "no pain now",
)  # fmt: skip
_STAMPS: Final = (
    "REVIEWED", "COPY", "CARDIOLOGY DEPT", "EMERGENCY", "CONFIRMED", "12 MAR 2021", "RECEIVED", "Dr. med. H. Wolf",
    "FILE", "VALIDATED",
)  # fmt: skip
_PLACES: Final = ("St. Mary Hospital", "City Clinic", "Cardiology Ward 3", "Emergency Dept", "Praxis Dr. Wolf", "ICU")
_SPEED: Final = ("{s}mm/s", "{s} mm/s", "{s} mm/sec", "{s}mm/sec", "{s},0 mm/s", "Speed: {s} mm/s", "{s}MM/S")
_GAIN: Final = ("{g}mm/mV", "{g} mm/mV", "{g}.0 mm/mV", "Gain: {g} mm/mV", "{g}MM/MV", "{g},0mm/mV", "{g} mm / mV")
_SPLIT: Final = ("Limb: {g} mm/mV Chest: {c} mm/mV", "{g}/{c} mm/mV", "Limb {g}mm/mV  Chest {c}mm/mV", "{g}-{c}mm/mV")
_FILTER: Final = ("0.05-150Hz", "~ 0.05 - 40 Hz", "0.15-100 Hz", "F 60~ 0.5-40 Hz W", "50Hz 35Hz", "40Hz", "100Hz", "")


def pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    """One of some strings."""
    return options[int(rng.integers(len(options)))]


def person(rng: np.random.Generator) -> str:
    """A name as headers write it."""
    first, last = pick(rng, _FIRST), pick(rng, _LAST)
    return (f"{last}, {first}", f"{first} {last}", f"{last.upper()} {first.upper()}", "")[int(rng.integers(4))]


def date(rng: np.random.Generator) -> str:
    """A date, often with a time."""
    y, m, d = int(rng.integers(1985, 2026)), int(rng.integers(1, 13)), int(rng.integers(1, 29))
    hh, mm, ss = int(rng.integers(24)), int(rng.integers(60)), int(rng.integers(60))
    month = "JanFebMarAprMayJunJulAugSepOctNovDec"[3 * m - 3 : 3 * m]
    day = (f"{y}-{m:02d}-{d:02d}", f"{d:02d}.{m:02d}.{y}", f"{m}/{d}/{y}", f"{d:02d}-{month.upper()}-{y}")
    return pick(rng, day) + pick(rng, ("", f", {hh:02d}:{mm:02d}:{ss:02d}", f" {hh:02d}:{mm:02d}"))


def patient_lines(rng: np.random.Generator, record: EcgRecord | None) -> tuple[str, ...]:
    """Name, number, age, sex: the left of a header."""
    age = int(rng.integers(1, 99)) if record is None or record.age_years is None else int(record.age_years)
    sex = pick(rng, ("Male", "Female", "M", "F")) if record is None or not record.sex else record.sex
    lines = [
        pick(rng, ("ID: ", "ID:", "Pat. ID ", "MRN ", "")) + str(int(rng.integers(1000, 10**8))),
        pick(rng, ("Name: ", "", "Patient: ")) + person(rng),
        pick(rng, (f"Age: {age} yrs", f"{age} years", f"{age}yr", f"Age: {age}")),
        pick(rng, (f"Sex: {sex}", sex, f"Gender: {sex}")),
        f"Height: {int(rng.integers(140, 200))}cm",
        f"Weight: {int(rng.integers(40, 130))} kg",
        f"DOB {date(rng)}",
        pick(rng, _PLACES),
    ]
    keep = [line for k, line in enumerate(lines) if rng.random() < (0.85 if k < 4 else 0.3)]
    return tuple(line for line in keep if line.strip())


def measurement_lines(rng: np.random.Generator) -> tuple[str, ...]:
    """Rate, intervals, axes: the middle of a header."""
    hr, pr, qrs = int(rng.integers(40, 160)), int(rng.integers(110, 240)), int(rng.integers(70, 170))
    qt, ax = int(rng.integers(320, 480)), rng.integers(-60, 110, 3)
    style = int(rng.integers(3))
    if style == 0:
        rows = [("Vent. rate", hr, "BPM"), ("PR interval", pr, "ms"), ("QRS duration", qrs, "ms")]
        lines = [f"{name:<14}{value:>6} {unit}" for name, value, unit in rows]
        lines += [f"QT/QTc       {qt}/{qt + 30} ms", f"P-R-T axes   {ax[0]} {ax[1]} {ax[2]}"]
    elif style == 1:
        lines = [f"HR {hr} /min", f"P {qrs} ms", f"PQ {pr} ms", f"QRS {qrs} ms", f"QT {qt} ms", f"QTc {qt + 24} ms"]
    else:
        lines = [f"HR: {hr} bpm   PR: {pr} ms", f"QRS: {qrs} ms", f"QT/QTcB: {qt}/{qt + 18} ms"]
        lines += [f"RV5/SV1: {hr / 50:.2f} mV"]
    return tuple(lines[: int(rng.integers(2, len(lines) + 1))])


def report_lines(rng: np.random.Generator, record: EcgRecord | None) -> tuple[str, ...]:
    """What the machine says it sees."""
    lines = [pick(rng, _SENTENCES) for _ in range(int(rng.integers(1, 5)))]
    if record is not None and record.report and rng.random() < 0.6:
        lines = [record.report[i : i + 48] for i in range(0, min(len(record.report), 144), 48)]
    return tuple(lines)


def speed_text(rng: np.random.Generator, speed: float) -> str:
    """The paper speed as a footer states it."""
    return pick(rng, _SPEED).format(s=f"{speed:g}")


def gain_text(rng: np.random.Generator, gain: float, chest: float | None) -> str:
    """The gain as a footer states it."""
    options = _GAIN if chest is None else _SPLIT
    return pick(rng, options).format(g=f"{gain:g}", c=f"{chest:g}" if chest is not None else "")


def filter_text(rng: np.random.Generator) -> str:
    """The filter setting, or nothing."""
    return pick(rng, _FILTER)


def note(rng: np.random.Generator) -> str:
    """What a doctor writes on the page."""
    return pick(rng, _NOTES)


def stamp(rng: np.random.Generator) -> str:
    """What a rubber stamp says."""
    return pick(rng, _STAMPS)


def place(rng: np.random.Generator) -> str:
    """A department."""
    return pick(rng, _PLACES)
