"""From light to a file: blur, noise, tone, sharpening and JPEG as phones, scanners and copiers do them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from ecg.page import F32, U8
from ecg.synth.paper_shape import bell_noise

_TILE_ROWS, _TILE_COLS = 512, 1536


@dataclass(frozen=True)
class Development:
    """What the camera and its software do after the light has come in.

    Blurs in px; ``noise`` and ``colour_noise`` are standard deviations in 8-bit levels; ``coarse`` mixes in grain of
    2 to 3 px as denoisers leave it; ``resample`` < 1 loses detail by shrinking and enlarging; ``exposure`` is the
    level of white paper (1 = 255); ``contrast`` > 1 steepens the curve, ``shoulder`` bends it before white as cameras
    do; ``moire_mm`` is the pixel pitch of a monitor (0: none); ``jpeg`` 0 means no JPEG; ``mono`` is "grey", "copy"
    (high contrast), "bilevel" (fax) or "".
    """

    defocus_px: float = 0.0
    motion_px: float = 0.0
    motion_deg: float = 0.0
    noise: float = 0.0
    colour_noise: float = 0.0
    coarse: float = 0.3
    smear: bool = False
    resample: float = 1.0
    sharpen: float = 0.0
    sharpen_px: float = 1.0
    exposure: float = 0.85
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    contrast: float = 1.0
    gamma: float = 1.0
    black: float = 0.0
    shoulder: bool = True
    saturation: float = 1.0
    moire_mm: float = 0.0
    jpeg: int = 90
    jpeg_full_chroma: bool = False
    jpeg_again: int = 0
    mono: str = ""


@lru_cache(maxsize=1)
def _noise_parts() -> tuple[F32, F32]:
    """White noise and grain, mostly brightness, some colour; both with standard deviation 24."""
    rng, shape = np.random.default_rng(20240501), (_TILE_ROWS, _TILE_COLS, 3)
    fine, grain = bell_noise(shape, rng), bell_noise(shape, rng)
    grain = np.asarray(cv2.GaussianBlur(grain, (0, 0), 1.1), np.float32)
    fine = fine * np.float32(0.75) + fine[..., 1:2] * np.float32(0.65)
    grain = grain * np.float32(0.6) + grain[..., 1:2] * np.float32(0.8)
    return fine * np.float32(24 / fine.std()), grain * np.float32(24 / grain.std())


@lru_cache(maxsize=4)
def _noise_tile(coarse: int) -> U8:
    """A tile of noise around 128 with standard deviation 24, drawn once a process; ``coarse`` 0 (white) to 3."""
    fine, grain = _noise_parts()
    norm = float(np.hypot(3 - coarse, coarse))  # they're independent
    return np.asarray(cv2.addWeighted(fine, (3 - coarse) / norm, grain, coarse / norm, 128, dtype=cv2.CV_8U), np.uint8)


def add_noise(rgb: U8, dev: Development, rng: np.random.Generator) -> U8:
    """Sensor noise: pieces of a tile laid side by side, each from its own place."""
    level = float(np.hypot(dev.noise, dev.colour_noise))
    if level < 0.2:
        return rgb
    share = (dev.noise * dev.coarse + dev.colour_noise) / (dev.noise + dev.colour_noise)
    tile = _noise_tile(round(3 * min(share, 1.0)))
    k = level / 24
    h, w = rgb.shape[:2]
    out = np.empty_like(rgb)
    rows, cols = 192, 1024
    for y in range(0, h, rows):
        for x in range(0, w, cols):
            ny, nx = min(rows, h - y), min(cols, w - x)
            oy, ox = int(rng.integers(_TILE_ROWS - ny + 1)), int(rng.integers(_TILE_COLS - nx + 1))
            piece, under = tile[oy : oy + ny, ox : ox + nx], rgb[y : y + ny, x : x + nx]
            cv2.addWeighted(under, 1.0, piece, k, -128 * k, dst=out[y : y + ny, x : x + nx])
    return out


def _motion_kernel(length_px: float, angle_deg: float) -> F32:
    """A straight, symmetric streak: it must not move what it blurs."""
    n = int(np.ceil(length_px / 2)) * 2 + 3
    c = (n - 1) / 2
    y, x = np.mgrid[:n, :n] - c
    a = np.deg2rad(angle_deg)
    along, across = x * np.cos(a) + y * np.sin(a), y * np.cos(a) - x * np.sin(a)
    k = np.clip(length_px / 2 + 0.5 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1)
    return np.asarray(k / k.sum(), np.float32)


def _soft(rgb: U8, sigma_px: float) -> U8:
    """Blurred by a bell cut off at two and a half standard deviations: nobody sees the rest, and it costs as much."""
    side = 2 * max(round(2.5 * sigma_px), 1) + 1
    return np.asarray(cv2.GaussianBlur(rgb, (side, side), sigma_px), np.uint8)


def blur(rgb: U8, dev: Development) -> U8:
    """The lens's and the hand's blur."""
    if dev.motion_px > 0.7:
        rgb = np.asarray(cv2.filter2D(rgb, -1, _motion_kernel(dev.motion_px, dev.motion_deg)), np.uint8)
    if dev.defocus_px > 0.25:
        rgb = _soft(rgb, dev.defocus_px)
    return rgb


def resample(rgb: U8, dev: Development) -> U8:
    """Detail lost to a smaller copy of the picture."""
    if dev.resample >= 0.98:
        return rgb
    h, w = rgb.shape[:2]
    # Down to a half two neighbours make a pixel anyway, and that is several times quicker than areas are.
    how = cv2.INTER_LINEAR if dev.resample >= 0.5 else cv2.INTER_AREA
    small = cv2.resize(rgb, (round(w * dev.resample), round(h * dev.resample)), interpolation=how)
    return np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR), np.uint8)


def sharpen(rgb: U8, dev: Development) -> U8:
    """Phones smear noise away, then sharpen: flat patches, halos around lines."""
    if dev.smear:
        rgb = np.asarray(cv2.medianBlur(rgb, 3), np.uint8)
    if dev.sharpen > 0.05:
        soft = _soft(rgb, dev.sharpen_px)
        rgb = np.asarray(cv2.addWeighted(rgb, 1 + dev.sharpen, soft, -dev.sharpen, 0, dst=soft), np.uint8)
    return rgb


def tone_table(dev: Development) -> U8:
    """Gamma, contrast (an S around the middle) and lifted black as one table (256,)."""
    t = (np.arange(256, dtype=np.float64) / 255) ** dev.gamma
    t = 0.55 + (t - 0.55) * dev.contrast
    if dev.shoulder:
        t = np.where(t > 0.85, 0.85 + 0.15 * np.tanh((t - 0.85) / 0.15), t)
    return np.asarray(np.clip((dev.black + (1 - dev.black) * t) * 255 + 0.5, 0, 255), np.uint8)


def tone(rgb: U8, dev: Development) -> U8:
    """White balance and saturation, which are one matrix as in a camera, and then the tone table."""
    s, grey = dev.saturation, np.array([0.299, 0.587, 0.114])
    m = (np.eye(3) * s + (1 - s) * grey[None, :]) * np.array(dev.white_balance)
    if np.abs(m - np.eye(3)).max() > 0.004:
        rgb = np.asarray(cv2.transform(rgb, m), np.uint8)
    table = tone_table(dev)
    return rgb if (table == np.arange(256)).all() else np.asarray(cv2.LUT(rgb, table), np.uint8)


_READ_RGB: int | None = getattr(cv2, "IMREAD_COLOR_RGB", None)  # since OpenCV 4.11


def compress(rgb: U8, quality: int, full_chroma: bool) -> U8:
    """Through JPEG and back."""
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if full_chroma else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    if not ok:
        raise RuntimeError("JPEG encoding failed")
    picture = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR if _READ_RGB is None else _READ_RGB), np.uint8)
    return picture if _READ_RGB is not None else np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)


def monochrome(rgb: U8, dev: Development, rng: np.random.Generator) -> U8:
    """A grey scan, a photocopy with burnt-out paper and toner specks, or a fax with two levels."""
    if not dev.mono:
        return rgb
    grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    if dev.mono != "grey":
        # The copier's drum sees red badly or well: the grid is kept or lost with it.
        weights = rng.dirichlet((2.0, 2.0, 2.0))
        grey = np.asarray(cv2.transform(rgb, weights[None]), np.uint8)
        paper = float(np.quantile(grey[::8, ::8], 0.75))
        cut = paper * rng.uniform(0.6, 0.93)
        soft = paper * (rng.uniform(0.06, 0.25) if dev.mono == "copy" else 0.006)
        ramp = np.clip((np.arange(256) - cut) / max(soft, 1e-3) * 0.5 + 0.5, 0, 1)
        grey = np.asarray(cv2.LUT(grey, (ramp * rng.uniform(235, 255)).astype(np.uint8)), np.uint8)
        specks = rng.integers(0, 2**31, 2)
        n = int(specks[0] % 250)
        y, x = rng.integers(0, grey.shape[0], n), rng.integers(0, grey.shape[1], n)
        grey[y, x] = 0
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)


def monitor(rng: np.random.Generator) -> tuple[U8, U8]:
    """How a monitor's pixel shines, by place in 1/256 of it: its red, green and blue stripes (256, 3), and across
    them (256,)."""
    depth = rng.uniform(0.05, 0.3)
    phase = np.arange(256) / 256 * 2 * np.pi
    stripes = np.stack([1 - depth * (0.5 + 0.5 * np.cos(phase - 2.1 * c)) for c in range(3)], axis=1)
    rows = 1 - 0.6 * depth * (0.5 + 0.5 * np.cos(phase))
    return (stripes * 255).astype(np.uint8), (rows * 255).astype(np.uint8)


def moire(rgb: U8, place: F32, shine: tuple[U8, U8]) -> None:
    """A monitor's pixels seen through the camera's own; ``place`` (H, W, 2): x and y in 1/256 monitor pixels.

    Sampling the stripes without a low-pass is what makes the bands; their depth stands for the lens's. Changes rgb.
    """
    phase = place.astype(np.int32).astype(np.uint8)  # the lowest byte: where in the monitor's pixel
    x, y = (cv2.extractChannel(phase, k) for k in (0, 1))
    cv2.multiply(rgb, cv2.LUT(cv2.cvtColor(x, cv2.COLOR_GRAY2RGB), shine[0][None]), dst=rgb, scale=1 / 255)
    cv2.multiply(rgb, cv2.cvtColor(cv2.LUT(y, shine[1]), cv2.COLOR_GRAY2RGB), dst=rgb, scale=1 / 255)


def develop(rgb: U8, dev: Development, rng: np.random.Generator) -> U8:
    """The whole chain after the light: blur, noise, sharpening, tone, two levels, JPEG."""
    rgb = blur(rgb, dev)
    rgb = add_noise(rgb, dev, rng)
    rgb = resample(rgb, dev)
    rgb = sharpen(rgb, dev)
    rgb = tone(rgb, dev)
    rgb = monochrome(rgb, dev, rng)
    for quality in (dev.jpeg, dev.jpeg_again):
        if quality:
            rgb = compress(rgb, quality, dev.jpeg_full_chroma)
    return rgb
