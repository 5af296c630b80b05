"""Lattices as wrong as a reader's, for nets that must put up with them."""

from __future__ import annotations

import cv2
import numpy as np

from ecg.page import Sheet


def shaken_sheet(sheet: Sheet, rng: np.random.Generator, sigma_mm: float) -> Sheet:
    """The lattice with smooth errors; their size is drawn anew each time, normal with ``sigma_mm``."""
    nodes = np.asarray(sheet.node_px)
    px_per_mm = float(np.nanmedian(np.linalg.norm(np.diff(nodes, axis=1), axis=-1))) / sheet.step_mm
    sigma = abs(rng.normal(0, sigma_mm)) * px_per_mm
    coarse = rng.normal(0, sigma, (max(2, nodes.shape[0] // 4), max(2, nodes.shape[1] // 4), 2)).astype(np.float32)
    noise = cv2.resize(coarse, (nodes.shape[1], nodes.shape[0]), interpolation=cv2.INTER_CUBIC)
    return Sheet((nodes + noise).astype(np.float32), sheet.x0_mm, sheet.y0_mm, 0.0, sheet.step_mm)
