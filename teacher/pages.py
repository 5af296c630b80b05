"""Pages as the image encoder wants them: fitted into a box and padded, never cropped."""

from __future__ import annotations

import cv2
import numpy as np

from ecg.page import U8

PAD_GREY = 128


def fit_page(rgb: U8, height_px: int, width_px: int) -> U8:
    """The whole picture (H, W, 3) inside (height_px, width_px, 3): aspect kept, centred, the rest ``PAD_GREY``."""
    h, w = rgb.shape[:2]
    scale = min(height_px / h, width_px / w)
    inner_h, inner_w = max(1, min(height_px, round(h * scale))), max(1, min(width_px, round(w * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    top, left = (height_px - inner_h) // 2, (width_px - inner_w) // 2
    out = np.full((height_px, width_px, 3), PAD_GREY, np.uint8)
    out[top : top + inner_h, left : left + inner_w] = cv2.resize(rgb, (inner_w, inner_h), interpolation=how)
    return out
