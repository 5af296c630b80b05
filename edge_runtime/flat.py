"""What the paper does between the measured lines: lies flat, bends as a whole, or folds here and there.

A flat sheet under a pinhole camera is a homography, with the lens a little radial distortion: ten numbers, which some
thousand measured stretches of line give to a thousandth of a millimetre.  A curl is a polynomial, a fold or crumple
neither.  Which of them holds is asked of the lines themselves, place by place: each candidate predicts every stretch
from the others (leave-one-out), and counts by the likelihood of what it missed by (stacking by predictive likelihood:
Geisser and Eddy, J. Am. Stat. Assoc. 74, 153, 1979).
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ecg.page import LATTICE_MM

F64 = NDArray[np.float64]
ROBUST_ROUNDS: Final = 6
LEAST_SPREAD_MM: Final = 0.03  # robust fits take no less for noise: lines are printed on whole dots
DEGREE: Final = 5  # of the polynomial that follows curls
BEND_NODES: Final = (1.0, 2.0, 4.0)  # widths over which what the polynomial leaves is averaged
AROUND_NODES: Final = 1.5  # width of the neighbourhood that a candidate is judged by
PAGE_NODES: Final = 2.0  # stretches that the page as a whole counts for beside the neighbourhood
ALONG_NODES: Final = (1, 3, 21)  # lengths of line over which what the finder left is averaged
USUAL_MM: Final = 0.03  # misses beyond this count by their logarithm
AGREE_MM: Final = 0.08  # neighbours along and across that differ by more count for little
EVEN_LINES: Final = 2.5  # printers put each line on a whole dot: positions are evened out over so many beside it
EVEN_WEIGHT: Final = 20.0  # contrast summed along a line from which its own offset is half believed
CHANCE: Final = 2.0  # standard errors by which another candidate must be better for the sheet not to be flat
FEW: Final = 3.0  # stretches in the neighbourhood below which only flat paper and the lattice as found are asked


def _flat_nodes(nodes: F64) -> F64 | None:
    """Nodes (Ny, Nx, 2) px of the homography that most of the known ``nodes`` follow; None where none does."""
    known = np.isfinite(nodes[..., 0])
    if known.sum() < 16:
        return None
    u, v = _plane(known.shape)
    px = nodes[known]
    middle, size = px.mean(axis=0), float(px.std())
    a, b = u[known], v[known]
    x, y = ((px - middle) / size).T
    one, zero = np.ones_like(a), np.zeros_like(a)
    top = np.stack([a, b, one, zero, zero, zero, -a * x, -b * x], axis=1)
    low = np.stack([zero, zero, zero, a, b, one, -a * y, -b * y], axis=1)
    weight = depth = one
    for _ in range(ROBUST_ROUNDS):
        k = weight / depth**2
        normal = top.T @ (top * k[:, None]) + low.T @ (low * k[:, None]) + 1e-12 * np.eye(8)
        h = np.linalg.solve(normal, top.T @ (x * k) + low.T @ (y * k))
        depth = h[6] * a + h[7] * b + 1
        off = np.hypot((top[:, :3] @ h[:3]) / depth - x, (low[:, 3:6] @ h[3:6]) / depth - y)
        weight = 1 / (1 + (off / max(3 * float(np.median(off)), 1e-9)) ** 2)
    depth = h[6] * u + h[7] * v + 1
    if depth.min() < 0.2 or depth.max() > 5:
        return None
    plane = np.stack([u, v, np.ones_like(u)], axis=-1) @ h[:6].reshape(2, 3).T
    return np.asarray(plane / depth[..., None] * size + middle)


def _plane(shape: tuple[int, ...]) -> tuple[F64, F64]:
    """Node indices centred, the longer side of length 2: u (Ny, Nx) along time, v across."""
    ny, nx = shape
    n = max(ny, nx) / 2
    u, v = np.meshgrid((np.arange(nx) - nx / 2) / n, (np.arange(ny) - ny / 2) / n)
    return u, v


def _px_per_mm(nodes: F64) -> F64:
    """Jacobian (Ny, Nx, 2, 2): how photo x, y (first) grow with page x, y (second)."""
    gy, gx = np.gradient(nodes, axis=(0, 1))
    return np.stack([gx, gy], axis=-1) / LATTICE_MM


def settled(nodes: F64, shift_mm: F64, weight: F64, photo_size: tuple[int, int]) -> F64:
    """The nodes (Ny, Nx, 2) px moved to where they lie by all that was measured beside them.

    ``shift_mm`` (2, Ny, Nx): along time for vertical lines, across for horizontal ones; ``weight`` the same, 0 where no
    line is seen; ``photo_size``: width, height.  Unknown nodes stay unknown.
    """
    plane = _flat_nodes(nodes)
    if plane is None:
        return nodes
    px_a_mm = _px_per_mm(plane)
    to_mm: F64 = np.asarray(np.linalg.inv(px_a_mm), dtype=np.float64)
    found = np.nan_to_num(np.einsum("yxij,yxj->yxi", to_mm, nodes - plane)).transpose(2, 0, 1)
    weight = weight * np.isfinite(nodes[..., 0])
    seen = found + shift_mm
    flat = _fit_flat(plane, to_mm, seen, weight, photo_size)
    along_time = _chosen(found[0].T, seen[0].T, weight[0].T, flat[0].T).T
    across = _chosen(found[1], seen[1], weight[1], flat[1])
    moved = np.stack([along_time - found[0], across - found[1]], axis=-1)
    return np.asarray(nodes + np.einsum("yxij,yxj->yxi", px_a_mm, moved))


def _fit_flat(plane: F64, to_mm: F64, seen: F64, weight: F64, photo_size: tuple[int, int]) -> F64:
    """What is seen (2, Ny, Nx) mm beside the plane, as a small change of homography and lens: (2, Ny, Nx)."""
    u, v = _plane(plane.shape[:2])
    one, zero = np.ones_like(u), np.zeros_like(u)
    parts = [np.stack(p) for f in (one, u, v) for p in ((f, zero), (zero, f))]
    parts += [np.stack([u * u, u * v]), np.stack([u * v, v * v])]
    off = (plane - np.array(photo_size) / 2) / (max(photo_size) / 2)
    squared = (off**2).sum(axis=-1, keepdims=True)
    for radial in (squared, squared**2):
        push = np.einsum("yxij,yxj->yxi", to_mm, off * radial).transpose(2, 0, 1)
        parts.append(push / max(1e-9, float(np.abs(push).max())))
    basis = np.stack(parts)
    return np.asarray(np.tensordot(_robust(basis.reshape(len(parts), -1).T, seen.ravel(), weight.ravel()), basis, 1))


def _robust(a: F64, b: F64, weight: F64) -> F64:
    """Least squares of a c = b by weight, what lies far off counting less and less (Cauchy, then Welsch)."""
    use = weight > 0
    a, b, weight = a[use], b[use], weight[use]
    c: F64 = np.zeros(a.shape[1])
    k = weight
    for n in range(ROBUST_ROUNDS):
        aw = a * k[:, None]
        c = np.asarray(np.linalg.solve(aw.T @ a + 1e-6 * np.eye(a.shape[1]), aw.T @ b), dtype=np.float64)
        off = b - a @ c
        spread = max(1.4826 * float(np.median(np.abs(off))) if len(off) else 0.0, LEAST_SPREAD_MM)
        k = weight / (1 + (off / spread) ** 2) if n < 2 else weight * np.exp(-((off / spread) ** 2) / 8)
    return np.asarray(c, dtype=np.float64)


def _chosen(found: F64, seen: F64, weight: F64, flat: F64) -> F64:
    """Where lines lie beside the plane, mm (lines, nodes along them): the candidates by how well they foretell it."""
    bent = _bent(seen, weight)
    candidates, trusted = [(flat, flat), (bent, bent)], []
    for start, kernels in (
        (bent, [(_bell(s), _bell(s)) for s in BEND_NODES]),
        (found, [(_box(1, n), _box(3, n)) for n in ALONG_NODES]),
    ):
        level = seen - _line_offsets(seen - start, weight)[:, None]
        agree = weight * _agreement(level - start, weight)
        trusted.append(agree)
        candidates += [_averaged(start, level, agree, *pair) for pair in kernels]
    weight = np.maximum(*trusted)
    if not (weight > 0).any():
        return found
    full, foretold = (np.stack(x) for x in zip(*candidates, strict=True))
    share = weight / float(weight[weight > 0].mean())
    miss = USUAL_MM**2 * np.log1p(((foretold - seen) / USUAL_MM) ** 2)
    if _holds(share * (miss[0] - miss[1:])):
        return flat
    around = _bell(AROUND_NODES)
    count = _sums(share, around)
    page = (share * miss).sum(axis=(1, 2), keepdims=True) / float(share.sum())
    lost = np.stack([_sums(share * m, around) for m in miss]) + PAGE_NODES * page
    n = count + PAGE_NODES
    evidence = -0.5 * n * np.log(lost / n + 1e-8)
    evidence[1 : 2 + len(BEND_NODES), count < FEW] = -np.inf  # a polynomial says nothing beyond what it was fitted to
    likely = np.exp(evidence - evidence.max(axis=0))
    return np.asarray((likely * full).sum(axis=0) / likely.sum(axis=0))


def _holds(worse: F64) -> bool:
    """Whether no other candidate (k, lines, nodes) foretells the lines better than the flat sheet, but by chance.

    Line by line, since a line's stretches share what it is drawn with: the mean stays below ``CHANCE`` standard errors.
    """
    by_line = worse.sum(axis=2)[:, worse.any(axis=(0, 2))]
    error = by_line.std(axis=1) / np.sqrt(by_line.shape[1]) + 1e-12
    return bool((by_line.mean(axis=1) < CHANCE * error).all())


def _agreement(off: F64, weight: F64) -> F64:
    """0..1: how far stretches agree with those beside them, along the line first."""
    agree = np.ones_like(off)
    for lines, along in ((3, 7), (1, 5)):
        kernel, w = _box(lines, along), weight * agree
        agree = agree * np.exp(-(((off - _sums(off * w, kernel) / (_sums(w, kernel) + 0.5)) / AGREE_MM) ** 2))
    return agree


def _line_offsets(off: F64, weight: F64) -> F64:
    """How far each whole line was printed beside its place, mm: what is constant along it and not smooth across.

    Printers and plotting programs round a line to whole dots, 0.1 to 0.2 mm wide, the trace runs between them: a
    lattice that followed every line would hand its error on to the clock of all traces that cross it.  Lines beside
    each other are rounded differently, so that a local parabola through them takes it out (Cleveland, JASA 74, 829,
    1979); what bends the paper moves neighbours alike and stays.
    """
    own = (weight * off).sum(axis=1, keepdims=True) / np.maximum(weight.sum(axis=1, keepdims=True), 1e-6)
    for _ in range(4):  # creases and handwriting count little
        agree = weight * np.exp(-(((off - own) / AGREE_MM) ** 2))
        own = (agree * off).sum(axis=1, keepdims=True) / np.maximum(agree.sum(axis=1, keepdims=True), 1e-6)
    sure = agree.sum(axis=1)
    apart = (np.arange(len(own)) - np.arange(len(own))[:, None]) / EVEN_LINES  # of line j from line i
    powers = apart[..., None] ** np.arange(3)
    near = (np.exp(-0.5 * apart**2) * sure)[..., None] * powers
    normal = near.swapaxes(1, 2) @ powers + 1e-3 * np.eye(3)
    even = np.linalg.solve(normal, (near * own).sum(axis=1)[..., None])[:, 0, 0]
    return np.asarray((own[:, 0] - even) * sure / (sure + EVEN_WEIGHT), dtype=np.float64)


def _bent(seen: F64, weight: F64) -> F64:
    """A polynomial through what is seen."""
    u, v = _plane(seen.shape)
    basis = np.stack([u**i * v**j for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i)])
    return np.asarray(np.tensordot(_robust(basis.reshape(len(basis), -1).T, seen.ravel(), weight.ravel()), basis, 1))


def _averaged(start: F64, seen: F64, weight: F64, kernel: F64, judged: F64) -> tuple[F64, F64]:
    """``start`` moved by the neighbourhood's mean of what is seen beside it: of all lines, and of other lines only."""
    held = judged.copy()
    held[held.shape[0] // 2] = 0.0
    full, foretold = (start + _sums((seen - start) * weight, k) / (_sums(weight, k) + 0.5) for k in (kernel, held))
    return full, foretold


def _bell(sigma: float) -> F64:
    """Gaussian of height 1."""
    reach = int(np.ceil(2.5 * sigma))
    one = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.outer(one, one)


def _box(rows: int, columns: int) -> F64:
    """Triangle of height 1 over (rows, columns) nodes."""
    up, across = (np.bartlett(n + 2)[1:-1] if n > 1 else np.ones(1) for n in (rows, columns))
    return np.outer(up, across)


def _sums(values: F64, kernel: F64) -> F64:
    return np.asarray(cv2.filter2D(values, -1, kernel, borderType=cv2.BORDER_CONSTANT), dtype=np.float64)
