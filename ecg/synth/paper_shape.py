"""The shape of a sheet of paper in three dimensions: folds, curls, lifted corners and crumples.

A sheet bends but hardly stretches.  A shape is a height z(u, v) over the page's own millimetres (arc length), and the
sheet's points move sideways so that its lengths stay what they were as well as they can (``_relax``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from ecg.page import F32

STEP_MM = 1.0  # distance of two mesh nodes
MARGIN_MM = 14.0  # the mesh goes on that far beyond the sheet, so that its edge is an inner point
MAX_SLOPE = 0.85  # sine of the steepest angle
_STEEP = 0.42  # crumples are rounded off where they are steeper
_TILE, _CELL, _FACET_TILES = 1024, 32, 3


@dataclass(frozen=True)
class Fold:
    """A crease: a line at ``angle_deg`` through the page's centre shifted by ``offset`` of the page's extent across it.

    ``slope`` is the sine of the angle between a panel and the table, negative for a mountain; ``reach_mm`` tells how
    far from the crease the panels lie flat on the table again (infinite: planar panels).
    """

    angle_deg: float
    offset: float
    slope: float
    radius_mm: float = 1.0
    reach_mm: float = float("inf")


@dataclass(frozen=True)
class Curl:
    """A bend without crease across the direction ``angle_deg``.

    ``kind`` "roll": a cylinder of half-width ``width_mm`` whose flanks reach ``slope``; "wave": a wave of length
    ``width_mm``; "edge": flat up to ``offset``, then rising to ``slope`` within ``width_mm``.
    """

    kind: str
    angle_deg: float
    offset: float
    slope: float
    width_mm: float


@dataclass(frozen=True)
class Crumple:
    """Facets with sharp ridges: the largest ``facet_mm`` wide, root mean square ``slope``, ridges ``ridge_mm`` round.

    ``patchy`` 0..1: 0 is crumpled everywhere alike, 1 only in places; ``lines`` adds short creases.
    """

    slope: float
    facet_mm: float = 35.0
    ridge_mm: float = 0.7
    patchy: float = 0.5
    lines: int = 4
    octaves: int = 3


@dataclass(frozen=True)
class PaperShape:
    """All that bends one sheet; none of it is a flat sheet."""

    folds: tuple[Fold, ...] = ()
    curls: tuple[Curl, ...] = ()
    crumples: tuple[Crumple, ...] = ()

    @property
    def flat(self) -> bool:
        """True where nothing bends the sheet."""
        return not (self.folds or self.curls or self.crumples)


@dataclass(frozen=True, eq=False)
class Surface:
    """The bent sheet on a mesh of the page: node (i, j) is page mm (x0_mm + j, y0_mm + i) * STEP_MM apart.

    ``shift_mm`` (Ny, Nx, 2): how far it moved sideways; ``z_mm`` (Ny, Nx): its height; ``slope`` (Ny, Nx, 2): dz / dx
    and dz / dy along the sheet (sines); all float32.
    """

    x0_mm: float
    y0_mm: float
    size_mm: tuple[float, float]
    shift_mm: F32
    z_mm: F32
    slope: F32

    def damped(self, factor: float) -> Surface:
        """The same shape, ``factor`` times as high (sideways shifts go with the square)."""
        return Surface(
            self.x0_mm,
            self.y0_mm,
            self.size_mm,
            self.shift_mm * np.float32(factor**2),
            self.z_mm * np.float32(factor),
            self.slope * np.float32(factor),
        )


def smooth_noise(shape: tuple[int, int], cell: float, rng: np.random.Generator) -> F32:
    """Noise (H, W) float32 in about -1..1 that varies over ``cell`` samples."""
    ny, nx = (max(int(np.ceil(s / cell)), 1) + 3 for s in shape)
    coarse = rng.uniform(-1, 1, (ny, nx)).astype(np.float32)
    # Sample at a random phase, so that the lattice of the noise never lies on the frame.
    phase = rng.uniform(0.5, 1.5, 2)
    # What varies slowly is sampled at every ``f``-th place (four or more a cell), then enlarged: that is quick.
    f = min(max(int(cell / 4), 1), 16)
    pad = 2 if f > 1 else 0
    first = (f - 1) / 2 - pad * f
    m = np.array([[f / cell, 0, phase[0] + first / cell], [0, f / cell, phase[1] + first / cell]], np.float64)
    size = (-(-shape[1] // f) + 2 * pad, -(-shape[0] // f) + 2 * pad)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    noise = cv2.warpAffine(coarse, m, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    if f > 1:
        noise = cv2.resize(noise, (size[0] * f, size[1] * f), interpolation=cv2.INTER_CUBIC)
        noise = noise[pad * f : pad * f + shape[0], pad * f : pad * f + shape[1]]
    return np.asarray(noise, np.float32)


def bell_noise(shape: tuple[int, ...], rng: np.random.Generator) -> F32:
    """White noise float32 with mean 0 and standard deviation 1, near enough normal: sums of four bytes are quick."""
    r = rng.integers(0, 1 << 32, shape, dtype=np.uint32)
    pairs = (r >> np.uint32(8)) & np.uint32(0x00FF00FF)
    pairs += r & np.uint32(0x00FF00FF)
    z = ((pairs & np.uint32(0xFFFF)) + (pairs >> np.uint32(16))).astype(np.float32)
    z -= np.float32(4 * 127.5)
    z *= np.float32(1 / np.sqrt(4 * (256**2 - 1) / 12))
    return z


def _across(x: F32, y: F32, size_mm: tuple[float, float], angle_deg: float, offset: float) -> F32:
    """Signed distance of the page points from a line, mm."""
    a = np.deg2rad(angle_deg)
    nx, ny = float(-np.sin(a)), float(np.cos(a))
    extent = abs(nx) * size_mm[0] + abs(ny) * size_mm[1]
    return np.asarray(x * np.float32(nx) + y * np.float32(ny) - np.float32(offset * extent))


def _fold_height(t: F32, fold: Fold) -> F32:
    d = np.sqrt(t * t + np.float32(fold.radius_mm**2))
    if np.isinf(fold.reach_mm):
        return np.asarray(d * np.float32(fold.slope))
    return np.asarray(np.float32(fold.slope * fold.reach_mm) * (1 - np.exp(d * np.float32(-1 / fold.reach_mm))))


def _curl_height(t: F32, curl: Curl, rng: np.random.Generator) -> F32:
    w = np.float32(curl.width_mm)
    if curl.kind == "wave":
        k = np.float32(2 * np.pi / curl.width_mm)
        return np.asarray(np.sin(t * k + np.float32(rng.uniform(0, 6.28))) * np.float32(curl.slope / k))
    if curl.kind == "edge":
        t = np.maximum(t, 0)
    return np.asarray((np.sqrt(t * t + w * w) - w) * np.float32(curl.slope))


@lru_cache(maxsize=_FACET_TILES)
def _facet_tile(variant: int) -> F32:
    """Planar triangles between scattered points of random height, points ``_CELL`` samples apart: (_TILE, _TILE).

    Drawn once a process from a fixed seed; root mean square slope 1 for a cell of length 1.
    """
    rng = np.random.default_rng([7001, variant])
    n, rim = _TILE // _CELL, 2 * _CELL
    lattice = np.stack(np.meshgrid(np.arange(-1, n + 2), np.arange(-1, n + 2)), axis=-1).reshape(-1, 2)
    points = ((lattice + rng.uniform(-0.36, 0.36, lattice.shape)) * _CELL).astype(np.float32)
    heights = rng.uniform(-1, 1, len(points))
    subdiv = cv2.Subdiv2D((-rim, -rim, _TILE + 3 * rim, _TILE + 3 * rim))
    subdiv.insert([(float(x), float(y)) for x, y in points])
    index = {(float(x), float(y)): h for (x, y), h in zip(points, heights, strict=True)}
    triangles = np.asarray(subdiv.getTriangleList(), np.float32).reshape(-1, 3, 2)
    corners = [[index.get((float(x), float(y))) for x, y in t] for t in triangles]
    inner = [all(h is not None for h in z) for z in corners]  # the others have a corner of the frame
    triangles = triangles[inner]
    z = np.array([c for c, ok in zip(corners, inner, strict=True) if ok], np.float64)
    equations = np.concatenate([triangles, np.ones((len(triangles), 3, 1))], axis=2, dtype=np.float64)
    planes = np.vstack([np.zeros(3), np.linalg.solve(equations, z[..., None])[..., 0]])
    label = np.zeros((_TILE, _TILE), np.int32)
    for k, t in enumerate(np.round(triangles).astype(np.int32), start=1):
        cv2.fillConvexPoly(label, t, k)
    area = np.bincount(label.reshape(-1), minlength=len(planes))
    rms = np.sqrt((area * (planes[:, :2] ** 2).sum(axis=1)).sum() / label.size)
    p = (planes / (rms * _CELL)).astype(np.float32)
    at = np.arange(_TILE, dtype=np.float32)
    tile = p[:, 0][label] * at + p[:, 1][label] * at[:, None] + p[:, 2][label]
    return np.asarray(tile, np.float32)


def _facets(x: F32, y: F32, cell_mm: float, rng: np.random.Generator) -> F32:
    """Triangular facets about ``cell_mm`` wide, root mean square slope about 1."""
    tile = _facet_tile(int(rng.integers(_FACET_TILES)))
    a, k = rng.uniform(0, 2 * np.pi), _CELL / cell_mm
    c, s = np.float32(np.cos(a) * k), np.float32(np.sin(a) * k)
    ox, oy = (np.float32(v) for v in rng.uniform(0, _TILE, 2))
    warp = smooth_noise(x.shape, 1.5 * cell_mm / STEP_MM, rng) * np.float32(0.3 * _CELL)  # ridges are a little curved
    u, v = x * c + y * s + warp + ox, y * c - x * s - warp + oy
    z = cv2.remap(tile, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(z * np.float32(cell_mm))


def _crumple_height(x: F32, y: F32, size_mm: tuple[float, float], crumple: Crumple, rng: np.random.Generator) -> F32:
    z = np.zeros_like(x)
    slope, cell = 1.0, crumple.facet_mm
    for octave in range(crumple.octaves):
        # Fine facets come in clusters beside coarse ones.
        where = np.clip(smooth_noise(x.shape, 2.2 * crumple.facet_mm, rng) * np.float32(1.3) + np.float32(0.5), 0, 1.4)
        keep = np.float32(crumple.patchy if octave == 0 else max(crumple.patchy, 0.85))
        z += _facets(x, y, cell, rng) * (where * keep + (1 - keep)) * np.float32(slope)
        slope, cell = slope * 0.8, cell * 0.47
    wander = smooth_noise(x.shape, 40, rng) if crumple.lines else z
    short = smooth_noise(x.shape, 50, rng) if crumple.lines else z
    for k in range(crumple.lines):
        t = _across(x, y, size_mm, rng.uniform(0, 180), rng.uniform(-0.45, 0.45))
        t += wander * np.float32(rng.uniform(-4, 4))
        reach = float(rng.uniform(3, 15))
        z += _fold_height(t, Fold(0, 0, rng.choice([-1, 1]) * rng.uniform(0.7, 2.2), 0.4, reach)) * np.clip(
            short * (2 if k % 2 else -2) + np.float32(0.6), 0, 1
        )
    z = np.asarray(cv2.GaussianBlur(z, (0, 0), crumple.ridge_mm / STEP_MM))
    gx, gy = _gradient(z)
    rms = float(np.sqrt(np.mean(gx * gx + gy * gy)))
    return _eased(np.asarray(z * np.float32(crumple.slope / max(rms, 1e-6))))


def _gradient(z: F32) -> tuple[F32, F32]:
    # No smoothing across: ridges must stay sharp.
    gx = cv2.Sobel(z, cv2.CV_32F, 1, 0, ksize=1, scale=1 / (2 * STEP_MM), borderType=cv2.BORDER_REPLICATE)
    gy = cv2.Sobel(z, cv2.CV_32F, 0, 1, ksize=1, scale=1 / (2 * STEP_MM), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(gx), np.asarray(gy)


def _relax(slope: F32) -> F32:
    """Sideways shift (Ny, Nx, 2) mm that keeps the sheet's lengths best in the sense of least squares.

    A piece of sheet that rises by sine s along its steepest direction covers only cos of its length on the table: the
    plane strain wanted is e = -(1 - sqrt(1 - s^2)) g g^T.  Minimising |sym grad d - e|^2 gives, in Fourier space,
    d = -2i / |k|^2 (e k - k (k.e k) / (2 |k|^2)); the mean strain is a plain stretch.
    """
    s2 = np.minimum((slope * slope).sum(axis=2), np.float32(MAX_SLOPE**2))
    f = -1 / (1 + np.sqrt(1 - s2))  # -(1 - sqrt(1 - s2)) / s2 without the division by zero
    ny, nx = s2.shape
    half = (nx // 2, ny // 2)
    e = [f * slope[..., i] * slope[..., j] for i, j in ((0, 0), (0, 1), (1, 1))]
    e = [np.asarray(cv2.resize(c, half, interpolation=cv2.INTER_AREA), np.float32) for c in e]
    mean = [float(c.mean()) for c in e]
    exx, exy, eyy = (np.fft.rfft2(c) for c in e)
    kx = (2 * np.pi * np.fft.rfftfreq(half[0], nx * STEP_MM / half[0])).astype(np.float32)[None, :]
    ky = (2 * np.pi * np.fft.fftfreq(half[1], ny * STEP_MM / half[1])).astype(np.float32)[:, None]
    k2 = kx * kx + ky * ky
    k2[0, 0] = 1
    bx, by = exx * kx + exy * ky, exy * kx + eyy * ky
    along = (kx * bx + ky * by) / (2 * k2)
    out = []
    for b, k in ((bx, kx), (by, ky)):
        d = -2j / k2 * (b - k * along)
        d[0, 0] = 0
        out.append(np.fft.irfft2(d, s=(half[1], half[0])).astype(np.float32))
    shift = np.asarray(cv2.resize(np.dstack(out), (nx, ny), interpolation=cv2.INTER_CUBIC))
    x = (np.arange(nx, dtype=np.float32) - np.float32(nx / 2))[None, :] * np.float32(STEP_MM)
    y = (np.arange(ny, dtype=np.float32) - np.float32(ny / 2))[:, None] * np.float32(STEP_MM)
    shift[..., 0] += mean[0] * x + mean[1] * y
    shift[..., 1] += mean[1] * x + mean[2] * y
    return np.asarray(shift, np.float32)


def _eased(z: F32) -> F32:
    """Steep places rounded off: paper that has been pressed flat again has none, and they would hide others."""
    for _ in range(3):
        gx, gy = _gradient(z)
        slope = cv2.magnitude(gx, gy)
        if float(slope.max()) < _STEEP + 0.1:
            break
        steep = np.clip((slope - np.float32(_STEEP)) * 8, 0, 1)
        where = np.minimum(cv2.GaussianBlur(steep, (0, 0), 2.5) * 3, 1)
        z = z + (cv2.GaussianBlur(z, (0, 0), 3.0) - z) * where
    return np.asarray(z)


def _level(z: F32, x: F32, y: F32) -> F32:
    """Lay the sheet down: take its best plane away and let its lowest part touch the table."""
    zs, xs, ys = (a[::8, ::8].reshape(-1).astype(np.float64) for a in (z, x, y))
    plane, *_ = np.linalg.lstsq(np.stack([xs, ys, np.ones_like(xs)], axis=1), zs, rcond=None)
    z = z - (x * np.float32(plane[0]) + y * np.float32(plane[1]))
    return np.asarray(z - np.quantile(z[::8, ::8], 0.02).astype(np.float32))


def bend(paper: PaperShape, size_mm: tuple[float, float], rng: np.random.Generator) -> Surface:
    """The surface of a sheet ``size_mm`` (width, height) bent into ``paper``."""
    nx, ny = (2 * cv2.getOptimalDFTSize(int(np.ceil((s + 2 * MARGIN_MM) / (2 * STEP_MM)))) for s in size_mm)
    x0, y0 = (s / 2 - STEP_MM * (n - 1) / 2 for s, n in zip(size_mm, (nx, ny), strict=True))
    if paper.flat:
        zero = np.zeros((ny, nx), np.float32)
        return Surface(x0, y0, size_mm, np.dstack([zero, zero]), zero, np.dstack([zero, zero]))
    x = np.tile((np.arange(nx, dtype=np.float32) * STEP_MM + np.float32(x0 - size_mm[0] / 2))[None], (ny, 1))
    y = np.broadcast_to(
        (np.arange(ny, dtype=np.float32) * STEP_MM + np.float32(y0 - size_mm[1] / 2))[:, None], (ny, nx)
    )
    z = np.zeros((ny, nx), np.float32)
    for crumple in paper.crumples:
        z += _crumple_height(x, y, size_mm, crumple, rng)
    for fold in paper.folds:
        t = _across(x, y, size_mm, fold.angle_deg, fold.offset)
        t += smooth_noise(t.shape, 60, rng) * np.float32(0.5)  # nobody folds along a ruler
        z += _fold_height(t, fold)
    for curl in paper.curls:
        z += _curl_height(_across(x, y, size_mm, curl.angle_deg, curl.offset), curl, rng)
    z = _level(z, x, y)
    slope = np.dstack(_gradient(z))
    return Surface(x0, y0, size_mm, _relax(slope), z, slope)
