"""What disturbs a recording, at the electrodes, so that the leads' relations hold; and the cart's filters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecg.synth.dipole import FREE_FROM_ELECTRODES, N_ELECTRODES, N_FREE_LEADS

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """Root mean square at one electrode: baseline wander below 0.7 Hz, muscle noise 15 to 150 Hz, mains; how many
    electrode movements a record has, and their size in mV; breathing modulates the beats' size by ``modulation``."""

    wander_mv: float = 0.03
    muscle_mv: float = 0.01
    mains_mv: float = 0.002
    mains_hz: float = 50.0
    movements: int = 0
    movement_mv: float = 0.3
    modulation: float = 0.03


@dataclass(frozen=True)
class Filters:
    """The cart's band in Hz (second order at either end, zero phase) and whether it cuts out the mains."""

    high_pass_hz: float = 0.05
    low_pass_hz: float = 150.0
    notch_hz: float | None = None


def random_noise(rng: np.random.Generator, worst: bool = False) -> Noise:
    """Noise as PTB-XL's 433 records in true mV have it (medians and spread of the bands' powers); ``worst``: as in an
    emergency room."""
    loud = 4.0 if worst else 1.0
    return Noise(
        wander_mv=float(0.030 * np.exp(0.7 * rng.standard_normal()) * loud),
        muscle_mv=float(0.0095 * np.exp(0.5 * rng.standard_normal()) * loud),
        mains_mv=float(0.0025 * np.exp(0.7 * rng.standard_normal()) * loud),
        mains_hz=float(rng.choice([50.0, 60.0])),
        movements=int(rng.poisson(2.0 if worst else 0.15)),
        movement_mv=float(rng.uniform(0.1, 0.8)),
        modulation=float(rng.uniform(0.0, 0.06)),
    )


def random_filters(rng: np.random.Generator, mains_hz: float) -> Filters:
    """A cart's usual settings."""
    return Filters(
        high_pass_hz=float(rng.choice([0.05, 0.15, 0.5], p=[0.6, 0.25, 0.15])),
        low_pass_hz=float(rng.choice([35.0, 40.0, 100.0, 150.0], p=[0.1, 0.3, 0.3, 0.3])),
        notch_hz=mains_hz if rng.uniform() < 0.5 else None,
    )


def electrode_noise(noise: Noise, n: int, fs_hz: float, rng: np.random.Generator) -> F64:
    """Noise of leads I, II, V1 to V6 (8, n) in mV, from independent noise at the nine electrodes."""
    potentials = _coloured(noise, n, fs_hz, rng)
    t = np.arange(n) / fs_hz
    mains = noise.mains_mv * rng.uniform(0.3, 1.7, N_ELECTRODES)
    phase = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.4, N_ELECTRODES)
    # a sin(wt + p) from one sine and one cosine for all electrodes
    angle = 2 * np.pi * noise.mains_hz * t
    potentials += np.outer(np.sqrt(2) * mains * np.cos(phase), np.sin(angle))
    potentials += np.outer(np.sqrt(2) * mains * np.sin(phase), np.cos(angle))
    for _ in range(noise.movements):
        potentials[int(rng.integers(N_ELECTRODES))] += _movement(t, noise.movement_mv, rng)
    return FREE_FROM_ELECTRODES @ potentials


def _coloured(noise: Noise, n: int, fs_hz: float, rng: np.random.Generator) -> F64:
    """Baseline wander and muscle noise (9, n), shaped in frequency; muscle noise swells and ebbs."""
    f = np.fft.rfftfreq(n, 1 / fs_hz)
    slow = int(np.searchsorted(f, 2.0))
    wander_shape = np.zeros(len(f))
    wander_shape[1:slow] = 1.0 / (1.0 + (f[1:slow] / 0.2) ** 2)
    muscle_shape = np.sqrt(1.0 / (1.0 + (18.0 / np.maximum(f, 1e-3)) ** 4) / (1.0 + (f / 90.0) ** 4))
    white = rng.standard_normal((2, N_ELECTRODES, len(f)), dtype=np.float32)
    spectrum = white[0] + 1j * white[1]
    wander = np.zeros((N_ELECTRODES, len(f)), dtype=np.complex128)
    wander[:, :slow] = spectrum[:, :slow] * wander_shape[:slow] * _unit(wander_shape, n) * noise.wander_mv
    loud = noise.muscle_mv * rng.uniform(0.5, 1.5, (N_ELECTRODES, 1))
    muscle = np.fft.irfft(spectrum * (muscle_shape * _unit(muscle_shape, n)), n, axis=1) * loud
    knots = np.exp(0.4 * rng.standard_normal(max(int(n / fs_hz), 2)))
    muscle *= np.interp(np.arange(n), np.linspace(0, n - 1, len(knots)), knots)
    return np.fft.irfft(wander, n, axis=1) + muscle


def _unit(shape: F64, n: int) -> float:
    """The factor that gives noise of this spectral shape a root mean square of 1 (two unit normals a bin)."""
    return float(n / (2.0 * np.sqrt(max(float(np.sum(shape**2)), 1e-30))))


def _movement(t: F64, size_mv: float, rng: np.random.Generator) -> F64:
    """A jerk that decays, or a slow bump."""
    at = rng.uniform(t[0], t[-1])
    size = size_mv * rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 1.0)
    if rng.uniform() < 0.5:
        late = np.maximum(t - at, 0.0)
        return np.asarray(size * (t >= at) * np.exp(-late / rng.uniform(0.15, 0.8)), dtype=np.float64)
    return np.asarray(size * np.exp(-0.5 * ((t - at) / rng.uniform(0.08, 0.4)) ** 2), dtype=np.float64)


def filtered(leads: F64, filters: Filters, fs_hz: float) -> F64:
    """Leads (8, n) as the cart records them. The ends wrap around: give it a margin to cut off."""
    if leads.shape[0] != N_FREE_LEADS:
        raise ValueError(f"leads must be ({N_FREE_LEADS}, n), got {leads.shape}")
    n = leads.shape[1]
    f = np.fft.rfftfreq(n, 1 / fs_hz)
    gain = 1.0 / (1.0 + (f / filters.low_pass_hz) ** 4)
    gain *= 1.0 - 1.0 / (1.0 + (f / filters.high_pass_hz) ** 4) if filters.high_pass_hz > 0 else 1.0
    if filters.notch_hz:
        gain *= 1.0 - np.exp(-0.5 * ((f - filters.notch_hz) / 0.7) ** 2)
    gain[0] = 0.0
    return np.asarray(np.fft.irfft(np.fft.rfft(leads, axis=1) * gain, n, axis=1), dtype=np.float64)
