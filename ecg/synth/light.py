"""Light on a bent sheet and on the table, computed at every fourth pixel: lamps, shadows, glare, stains, sleeves.

All fields live on the grid of a ``PixelMap``.  A field has ``gain`` (gh, gw, 3), what multiplies the picture, and
``add`` (gh, gw, 3), what is added in units of full white, both float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.page import F32
from ecg.synth.lens import STRIDE_PX, PixelMap
from ecg.synth.paper_shape import STEP_MM, smooth_noise

Tint = tuple[float, float, float]


@dataclass(frozen=True)
class Lamp:
    """A small light: where it stands seen from the middle of the frame, how strong, which colour (green = 1)."""

    azimuth_deg: float
    elevation_deg: float
    distance_mm: float
    strength: float
    tint: Tint = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Shadow:
    """A shadow's shape ("edge", "bar", "blob", "phone", "blinds"), its middle and size in frame widths, its edge's
    blur in frame widths, and the share of the light that it takes (0..1)."""

    shape: str
    x: float
    y: float
    size: float
    angle_deg: float
    penumbra: float
    depth: float


@dataclass(frozen=True)
class Stain:
    """ "coffee" (a ring), "ink" (a blot) or "water" (a wavy edge), in page widths, heights and mm."""

    kind: str
    x: float
    y: float
    radius_mm: float
    depth: float


@dataclass(frozen=True)
class Lighting:
    """All light on one photo; ``ambient`` is the share of light without direction, ``gloss`` the paper's shine,
    ``sleeve`` the strength of a plastic sleeve's reflections, ``wear`` how much creases whiten."""

    lamps: tuple[Lamp, ...] = ()
    ambient: float = 0.5
    ambient_tint: Tint = (1.0, 1.0, 1.0)
    shadows: tuple[Shadow, ...] = ()
    stains: tuple[Stain, ...] = ()
    uneven: float = 0.0
    vignette: float = 0.0
    gloss: float = 0.0
    glare: int = 0
    sleeve: float = 0.0
    wear: float = 0.3


@dataclass(frozen=True, eq=False)
class LightField:
    """``gain`` and ``add`` (gh, gw, 3) float32 on the grid of a pixel map; ``add`` is None where nothing is added."""

    gain: F32
    add: F32 | None


def _lamp_at(lamp: Lamp, centre_mm: tuple[float, float]) -> tuple[float, float, float]:
    az, el = np.deg2rad([lamp.azimuth_deg, lamp.elevation_deg])
    flat = lamp.distance_mm * np.cos(el)
    return (
        float(centre_mm[0] + flat * np.cos(az)),
        float(centre_mm[1] + flat * np.sin(az)),
        float(lamp.distance_mm * np.sin(el)),
    )


@dataclass(frozen=True, eq=False)
class _Relief:
    """The visible surface at the nodes: slopes (gh, gw) and the normal's height; None where the sheet is flat."""

    sx: F32
    sy: F32
    nz: F32

    def facing(self, rays: F32) -> F32:
        """Normal times coarse vectors (h, w, 3), where that is positive (gh, gw)."""
        x, y, z = (_upsampled(rays, axis, self.nz.shape) for axis in range(3))
        z *= self.nz
        x *= self.sx
        z -= x
        y *= self.sy
        z -= y
        return np.maximum(z, 0, out=z)


def _coarse_mm(pm: PixelMap) -> F32:
    """Page mm at every eighth node, for what varies slowly."""
    size = (max(pm.page_mm.shape[1] // 8, 4), max(pm.page_mm.shape[0] // 8, 4))
    return np.asarray(cv2.resize(pm.page_mm, size, interpolation=cv2.INTER_LINEAR))


def _rays(pm: PixelMap, at_mm: tuple[float, float, float]) -> tuple[F32, F32]:
    """Unit rays (h, w, 3) from the table to a point, and 1 / distance (h, w), at every eighth node."""
    mm = _coarse_mm(pm)
    dx, dy = np.float32(at_mm[0]) - mm[..., 0], np.float32(at_mm[1]) - mm[..., 1]
    inv = np.float32(1) / np.sqrt(dx * dx + dy * dy + np.float32(at_mm[2] ** 2))
    return np.dstack([dx * inv, dy * inv, inv * np.float32(at_mm[2])]), np.asarray(inv)


def _upsampled(coarse: F32, axis: int, shape: tuple[int, ...]) -> F32:
    """One of the axes (0 x, 1 y, 2 z) of coarse vectors at all nodes."""
    plane = np.ascontiguousarray(coarse[..., axis])
    return np.asarray(cv2.resize(plane, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR))


def _lit(pm: PixelMap, lamp: Lamp, relief: _Relief | None, centre_mm: tuple[float, float]) -> F32:
    """Lambert's law for a point light (gh, gw): its strength on flat paper in the middle of the frame."""
    at = _lamp_at(lamp, centre_mm)
    rays, inv = _rays(pm, at)
    rays = rays * (inv * inv * np.float32(lamp.strength * lamp.distance_mm**3 / at[2]))[..., None]
    return _upsampled(rays, 2, pm.page_mm.shape) if relief is None else relief.facing(rays)


def _on_mesh(pm: PixelMap, field: F32) -> F32:
    """A field of the surface's mesh seen at the nodes of the pixel map."""
    k = 1 / STEP_MM
    to_mesh = np.array([[k, 0, -k * pm.surface.x0_mm], [0, k, -k * pm.surface.y0_mm]])
    uv: Any = cv2.transform(pm.page_mm, to_mesh)
    none: Any = None  # the first map holds u and v
    return np.asarray(cv2.remap(field, uv, none, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))


def _crease_wear(pm: PixelMap, rng: np.random.Generator) -> F32:
    """What sharp creases do to the paper's own brightness: broken fibres, rubbed ink; (Ny, Nx) about -1..1."""
    bend = cv2.Laplacian(pm.surface.z_mm, cv2.CV_32F, ksize=3, scale=0.25 / STEP_MM**2)
    sharp = np.clip(np.abs(bend) * 5 - np.float32(0.3), 0, 1)
    return np.asarray(sharp * (smooth_noise(sharp.shape, 6, rng) + np.float32(0.3)))


def _blinds(canvas: NDArray[np.uint8], shadow: Shadow, width: int) -> None:
    period = max(shadow.size * width * 0.25, 4)
    a = np.deg2rad(shadow.angle_deg)
    n = np.array([-np.sin(a), np.cos(a)])
    d = np.array([np.cos(a), np.sin(a)]) * 3 * width
    origin = np.array([shadow.x, shadow.y]) * width
    for k in range(-14, 15):
        c, half = origin + n * period * k, n * period * 0.27
        cv2.fillPoly(canvas, [np.array([c - d - half, c + d - half, c + d + half, c - d + half], np.int32)], 255)


# Corners along and across a shadow's angle, in its size; "phone" is a phone and the arm that holds it.
_OUTLINES: dict[str, tuple[tuple[float, float], ...]] = {
    "edge": ((-9, 0), (9, 0), (9, 9), (-9, 9)),
    "bar": ((-9, -0.12), (9, -0.2), (9, 0.2), (-9, 0.12)),
    "phone": ((-0.5, -0.28), (0.5, -0.28), (0.5, 0.05), (3, 0.2), (3, 0.7), (0.5, 0.28), (-0.5, 0.28)),
}


def _shadow(shape: tuple[int, int], shadow: Shadow, rng: np.random.Generator) -> F32:
    """What a shadow leaves of the light, 0..1 (gh, gw), at half the grid's resolution: each has a penumbra."""
    small = (max(shape[1] // 2, 8), max(shape[0] // 2, 8))
    width = max(small)
    canvas = np.zeros(small[::-1], np.uint8)
    a = np.deg2rad(shadow.angle_deg)
    along, across = np.array([np.cos(a), np.sin(a)]), np.array([-np.sin(a), np.cos(a)])
    centre, size = np.array([shadow.x, shadow.y]) * width, shadow.size * width
    if shadow.shape == "blinds":
        _blinds(canvas, shadow, width)
    else:
        if shadow.shape in _OUTLINES:
            outline = np.array(_OUTLINES[shadow.shape])
        else:
            t = np.linspace(0, 2 * np.pi, 14, endpoint=False)
            outline = rng.uniform(0.3, 0.75, 14)[:, None] * np.stack([1.4 * np.cos(t), np.sin(t)], axis=1)
        points = centre + size * (outline[:, :1] * along + outline[:, 1:] * across)
        cv2.fillPoly(canvas, [np.round(points).astype(np.int32)], 255)
    sigma = max(shadow.penumbra * width, 0.6)
    # A wide blur of a small picture is a cheap blur.
    shrink = max(int(sigma / 3), 1)
    if shrink > 1:
        canvas = cv2.resize(canvas, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
    soft = cv2.GaussianBlur(canvas.astype(np.float32), (0, 0), sigma / shrink)
    left = 1 - soft * np.float32(shadow.depth / 255)
    return np.asarray(cv2.resize(left, shape[::-1], interpolation=cv2.INTER_LINEAR))


def _contact_shadow(pm: PixelMap, lighting: Lighting, on: F32) -> F32:
    """What the sheet leaves of the light on the table beside it (gh, gw): the edge's own height throws a shadow."""
    small = (on.shape[1] // 2, on.shape[0] // 2)
    cover = cv2.resize(on, small, interpolation=cv2.INTER_AREA)
    scale = pm.scale_px_per_mm / (2 * STRIDE_PX)  # pixels of the small picture a millimetre
    out = cv2.GaussianBlur(cover, (0, 0), float(np.clip(2.0 * scale, 0.8, 8))) * np.float32(0.35)
    if lighting.lamps:
        lamp = lighting.lamps[0]
        el, az = np.deg2rad([max(lamp.elevation_deg, 15), lamp.azimuth_deg])
        lift = 0.6 + 0.5 * float(np.median(np.abs(pm.surface.z_mm[::8, ::8])))  # mm above the table, roughly
        h = pm.pinhole.homography
        c = np.array([*_middle_mm(pm), 1.0])
        step = min(lift / np.tan(el), 25.0)
        a, b = h @ c, h @ (c - [step * np.cos(az), step * np.sin(az), 0])
        dx, dy = (b[:2] / b[2] - a[:2] / a[2]) / (2 * STRIDE_PX)
        moved = cv2.warpAffine(cover, np.array([[1, 0, dx], [0, 1, dy]]), small)
        blurred = cv2.GaussianBlur(moved, (0, 0), float(np.clip(0.35 * step * scale, 0.8, 8)))
        out = np.maximum(out, blurred * np.float32(0.35 * (1 - lighting.ambient) + 0.2))
    return np.asarray(cv2.resize(1 - out, on.shape[::-1], interpolation=cv2.INTER_LINEAR))


def _middle_mm(pm: PixelMap) -> tuple[float, float]:
    """The table point in the middle of the frame, mm."""
    w, h = pm.size_px
    p = np.linalg.inv(pm.pinhole.homography) @ np.array([w / 2, h / 2, 1.0])
    return float(p[0] / p[2]), float(p[1] / p[2])


def _sleeve(shape: tuple[int, int], strength: float, rng: np.random.Generator) -> F32:
    """Reflections of a clear plastic sleeve: bright bands with soft and sharp sides."""
    out = np.zeros(shape, np.float32)
    width = max(shape)
    for _ in range(int(rng.integers(2, 7))):
        a, w = rng.uniform(0, np.pi), rng.uniform(0.01, 0.12) * width
        y, x = np.float32(rng.uniform(0, shape[0])), np.float32(rng.uniform(0, shape[1]))
        gy = np.arange(shape[0], dtype=np.float32)[:, None] - y
        gx = np.arange(shape[1], dtype=np.float32)[None, :] - x
        t = gy * np.float32(np.cos(a)) - gx * np.float32(np.sin(a))
        t = t + smooth_noise(shape, width / 5, rng) * np.float32(0.05 * width)
        band = np.clip(1 - np.abs(t) / np.float32(w), 0, 1)
        out += (
            band
            * np.clip(smooth_noise(shape, width / 4, rng) + np.float32(0.4), 0, 1)
            * np.float32(rng.uniform(0.3, 1))
        )
    haze = np.float32(0.05)
    return np.asarray((out * np.float32(0.6) + haze) * np.float32(strength))


def _stain(pm: PixelMap, stain: Stain, rng: np.random.Generator) -> F32:
    """What the stain leaves of the light (gh, gw, 3)."""
    dx = pm.page_mm[..., 0] - np.float32(stain.x * pm.size_mm[0])
    dy = pm.page_mm[..., 1] - np.float32(stain.y * pm.size_mm[1])
    r = np.sqrt(dx * dx + dy * dy) + smooth_noise(dx.shape, 24, rng) * np.float32(0.16 * stain.radius_mm)
    r = (r - np.float32(stain.radius_mm)) / np.float32(max(0.06 * stain.radius_mm, 1.2))
    ring = np.exp(-r * r) * np.float32(0.9 if stain.kind != "ink" else 0)
    inside = 1 / (1 + np.exp(np.clip(r * 3, -30, 30)))
    colour = {"coffee": (0.35, 0.55, 0.85), "ink": (0.95, 0.9, 0.55), "water": (0.25, 0.3, 0.4)}[stain.kind]
    fill = {"coffee": 0.35, "ink": 1.0, "water": 0.2}[stain.kind]
    amount = (ring + inside * np.float32(fill)) * (1 + np.float32(0.3) * smooth_noise(dx.shape, 12, rng))
    amount = np.clip(amount * np.float32(stain.depth), 0, 0.95)
    return np.asarray(1 - amount[..., None] * np.array(colour, np.float32))


def _uneven(lighting: Lighting, shape: tuple[int, int], rng: np.random.Generator) -> F32:
    """Slow variation of the light and the lens's darker corners (gh, gw)."""
    small = (shape[0] // 4, shape[1] // 4)
    out = np.ones(small, np.float32)
    if lighting.uneven:
        out += smooth_noise(small, max(small) * rng.uniform(0.35, 1.0), rng) * np.float32(lighting.uneven)
    if lighting.vignette:
        y = np.linspace(-1, 1, small[0], dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, small[1], dtype=np.float32)[None, :]
        out *= 1 - np.float32(lighting.vignette / 2) * (x * x + y * y)
    out = np.maximum(out, np.float32(0.1))
    return np.asarray(cv2.resize(out, shape[::-1], interpolation=cv2.INTER_LINEAR))


def _relief(pm: PixelMap, on: F32, wear: float, rng: np.random.Generator) -> tuple[_Relief | None, F32 | None]:
    """The visible relief, and by what creases change the paper's own brightness (gh, gw)."""
    if not pm.surface.z_mm.any():
        return None, None
    sx, sy = pm.surface.slope[..., 0], pm.surface.slope[..., 1]
    lower = np.sqrt(np.maximum(1 - sx * sx - sy * sy, np.float32(0.05))) - 1  # the normal's height, less the table's
    worn = _crease_wear(pm, rng) * np.float32(0.25 * wear)
    fields = np.asarray(cv2.merge([sx, sy, lower, worn]), np.float32)
    seen = [np.asarray(c, np.float32) for c in cv2.split(_on_mesh(pm, fields))]
    for plane in seen:
        plane *= on
    for plane in seen[2:]:
        plane += 1
    return _Relief(*seen[:3]), seen[3]


def light_field(pm: PixelMap, lighting: Lighting, rng: np.random.Generator) -> LightField:
    """The light on everything that the photo shows, 1 on average on the visible sheet."""
    shape = (pm.page_mm.shape[0], pm.page_mm.shape[1])
    on = pm.on_sheet.astype(np.float32)
    relief, worn = _relief(pm, on, lighting.wear, rng)
    centre = _middle_mm(pm)
    # A slope sees less of the sky.
    sky = np.ones(shape, np.float32) if relief is None else relief.nz * np.float32(0.5) + np.float32(0.5)
    planes = [sky * np.float32(lighting.ambient * t) for t in lighting.ambient_tint]
    shine = None
    for k, lamp in enumerate(lighting.lamps):
        lit = _lit(pm, lamp, relief, centre)
        for shadow in lighting.shadows if k == 0 else ():  # cast by the strongest lamp
            lit *= _shadow(shape, shadow, rng)
        for plane, t in zip(planes, lamp.tint, strict=True):
            cv2.scaleAdd(lit, t, plane, dst=plane)
        if lighting.gloss and k == 0:
            shine = _gloss(pm, lamp, relief, centre) * np.float32(lighting.gloss * lamp.strength) * on
    common = _uneven(lighting, shape, rng)
    if not on.all():
        common *= np.maximum(_contact_shadow(pm, lighting, on), on)
    if worn is not None:
        common *= worn
    common *= np.float32(1 / _mean_light(planes, common, pm.on_sheet))
    for plane in planes:
        plane *= common
    gain = np.asarray(cv2.merge(planes), np.float32)
    for stain in lighting.stains:
        gain *= np.where(pm.on_sheet[..., None], _stain(pm, stain, rng), 1)
    return LightField(gain, _added(shine, lighting, on, rng))


def _mean_light(planes: list[F32], common: F32, on_sheet: NDArray[np.bool_]) -> float:
    """Mean of the light on the visible sheet, or on the whole picture where none is seen."""
    luma = sum(p[::4, ::4] for p in planes) * common[::4, ::4] / 3
    seen = luma[on_sheet[::4, ::4]]
    return max(float(np.mean(seen if seen.size else luma)), 0.02)


def _gloss(pm: PixelMap, lamp: Lamp, relief: _Relief | None, centre_mm: tuple[float, float]) -> F32:
    """Blinn's highlight: the normal against the bisector of the rays to lamp and eye, to the 32nd power."""
    ex, ey, ez = (float(c) for c in pm.pinhole.eye_mm)
    half = _rays(pm, _lamp_at(lamp, centre_mm))[0] + _rays(pm, (ex, ey, ez))[0]
    half /= np.sqrt((half * half).sum(axis=2, keepdims=True))
    cos = _upsampled(half, 2, pm.page_mm.shape) if relief is None else relief.facing(half)
    for _ in range(5):
        cos *= cos
    return cos


def _added(shine: F32 | None, lighting: Lighting, on: F32, rng: np.random.Generator) -> F32 | None:
    """Light that the surface reflects without looking at the print: shine, glare spots, a sleeve (gh, gw, 3)."""
    shape = on.shape
    if shine is None and not (lighting.glare or lighting.sleeve):
        return None
    add = np.zeros_like(on) if shine is None else shine
    y = np.arange(shape[0], dtype=np.float32)[:, None]
    x = np.arange(shape[1], dtype=np.float32)[None, :]
    for _ in range(lighting.glare):
        cx, cy, r = rng.uniform(0, shape[1]), rng.uniform(0, shape[0]), rng.uniform(0.04, 0.22) * max(shape)
        a, squeeze = rng.uniform(0, np.pi), rng.uniform(1, 3)
        c, s = np.float32(np.cos(a)), np.float32(np.sin(a))
        u = ((x - np.float32(cx)) * c + (y - np.float32(cy)) * s) / np.float32(r)
        v = ((y - np.float32(cy)) * c - (x - np.float32(cx)) * s) / np.float32(r) * np.float32(squeeze)
        add = np.asarray(add + np.exp(-(u * u + v * v)) * np.float32(rng.uniform(0.15, 0.7)), np.float32)
    if lighting.sleeve:
        add = add + _sleeve((shape[0], shape[1]), lighting.sleeve, rng) * cv2.GaussianBlur(on, (0, 0), 3)
    return np.asarray(np.dstack([add, add, add]), np.float32)
