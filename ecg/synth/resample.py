"""A record's signal on the printer's clock."""

from __future__ import annotations

from typing import Final

import numpy as np

from ecg.page import F32
from ecg.records import EcgRecord
from ecg.synth.style import Preparation
from ecg.synth.truth import F64

PRINT_HZ: Final = 500.0


def _filled(lead: F64) -> F64:
    """Gaps bridged by straight lines, so that filters don't spread them; an empty lead becomes zero."""
    ok = np.isfinite(lead)
    if ok.all():
        return lead
    if not ok.any():
        return np.zeros_like(lead)
    at = np.arange(len(lead))
    return np.asarray(np.interp(at, at[ok], lead[ok]))


def upsampled(mv: F64, factor: int) -> F64:
    """Band-limited interpolation of (leads, n) to (leads, n * factor) by zero-padding the spectrum.

    Both ends are continued point-symmetrically, which leaves neither a step nor a corner for the FFT to ring on.
    """
    n = mv.shape[1]
    pad = min(n - 1, 256)
    head = 2 * mv[:, :1] - mv[:, pad:0:-1]
    tail = 2 * mv[:, -1:] - mv[:, -2 : -pad - 2 : -1]
    longer = np.concatenate([head, mv, tail], axis=1)
    trend = np.linspace(longer[:, 0], longer[:, -1], longer.shape[1], axis=1)  # the FFT's circle closes without a step
    m = longer.shape[1]
    spectrum = np.fft.rfft(longer - trend, axis=1)
    if m % 2 == 0:
        spectrum[:, -1] *= 0.5  # what lies at the old Nyquist frequency is shared by its two signs
    fine = np.fft.irfft(spectrum, m * factor, axis=1) * factor
    at = np.arange(m * factor) / factor
    fine += longer[:, :1] + (longer[:, -1:] - longer[:, :1]) * (at / (m - 1))
    return np.asarray(fine[:, pad * factor : (pad + n) * factor])


def printed_signal(record: EcgRecord, prep: Preparation, duration_s: float) -> F32:
    """The 12 leads (12, n) in mV at ``PRINT_HZ`` from the printed start, NaN where the record has nothing.

    Between samples of a record below 500 Hz the curve is band-limited, above it is straight.
    """
    n = int(np.ceil(duration_s * PRINT_HZ - 1e-6))
    mv = record.mv.astype(np.float64)
    if prep.mv_scale:
        mv = mv * np.asarray(prep.mv_scale)[:, None]
    if prep.detrend == "lead":
        some = np.isfinite(mv).any(axis=1)
        mv[some] -= np.nanmean(mv[some], axis=1, keepdims=True)
    gone = ~np.isfinite(mv)
    fs = record.fs_hz
    whole = np.stack([_filled(lead) for lead in mv])
    if fs < PRINT_HZ and mv.shape[1] > 2:
        factor = int(np.ceil(2 * PRINT_HZ / fs)) if PRINT_HZ % fs else int(PRINT_HZ / fs)
        whole, fs = upsampled(whole, factor), fs * factor
    at_s = prep.start_s + np.arange(n) / PRINT_HZ
    fine = np.arange(whole.shape[1]) / fs
    out = np.stack([np.interp(at_s, fine, lead) for lead in whole])
    out[:, at_s > (mv.shape[1] - 1) / record.fs_hz + 1e-9] = np.nan
    before = np.clip((at_s * record.fs_hz + 1e-6).astype(int), 0, mv.shape[1] - 1)
    after = np.minimum(before + (at_s * record.fs_hz - before > 1e-6), mv.shape[1] - 1)
    out[gone[:, before] | gone[:, after]] = np.nan
    return out.astype(np.float32)
