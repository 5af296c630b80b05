"""How ECGs get photographed: random views, sheets, lights and cameras for each condition."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from ecg.synth.develop import Development
from ecg.synth.lens import View
from ecg.synth.light import Lamp, Lighting, Shadow, Stain, Tint
from ecg.synth.paper_shape import PaperShape
from ecg.synth.random_paper import Rng, pick, random_folds, random_paper

# How often each condition comes up; three quarters are phone photos of paper.
CONDITIONS: Final = {
    "flat": 0.20,
    "curled": 0.15,
    "folded": 0.20,
    "crumpled": 0.20,
    "scan": 0.08,
    "screenshot": 0.08,
    "copy": 0.05,
    "screen": 0.04,
}
PHONE: Final = ("flat", "curled", "folded", "crumpled")


@dataclass(frozen=True)
class Shot:
    """Everything about one photo except the page and the grain of chance in textures and noise.

    ``condition`` is a key of ``CONDITIONS``; ``background`` one of ``backgrounds.KINDS`` with ``things`` lying about,
    ``sheets`` of other paper and ``fingers`` holding the page; ``show_through`` is how much of the back shines through.
    """

    condition: str
    long_side_px: int
    view: View
    paper: PaperShape = field(default_factory=PaperShape)
    lighting: Lighting = field(default_factory=Lighting)
    development: Development = field(default_factory=Development)
    background: str = "flat"
    things: int = 0
    sheets: int = 0
    fingers: int = 0
    show_through: float = 0.0


def _maybe(rng: Rng, probability: float, low: float, high: float) -> float:
    """A number between low and high, or 0 with 1 - probability."""
    return float(rng.uniform(low, high)) if rng.random() < probability else 0.0


def _window(rng: Rng, long_side_px: int, px_per_mm: float | None) -> tuple[float, float, float, float]:
    """The part of an A4-like page that fills the frame: all of it with a margin, cut tightly, or zoomed in on."""
    if px_per_mm is None:
        framing = rng.random()
        if framing < 0.62:  # all of the page, and some table
            m = rng.uniform(0.0, 0.22) * rng.uniform(0.3, 1, 4)
            return float(-m[0]), float(-m[1]), float(1 + m[2]), float(1 + m[3])
        if framing < 0.84:  # the page's edges cut off, as people crop
            m = rng.uniform(-0.03, 0.07, 4)
            return float(m[0]), float(m[1]), float(1 - m[2]), float(1 - m[3])
        px_per_mm = rng.uniform(3.5, 12)
    size = float(np.clip(long_side_px / (px_per_mm * 297), 0.12, 1.6))
    high = min(size * rng.uniform(0.9, 1.3), 1.6)
    x0, y0 = (rng.uniform(min(0, 1 - s) - 0.03, max(0, 1 - s) + 0.03) for s in (size, high))
    return float(x0), float(y0), float(x0 + size), float(y0 + high)


def _roll_deg(rng: Rng, upright: bool) -> float:
    kind = rng.random()
    if upright or kind < 0.66:
        return float(np.clip(rng.normal(0, 7), -25, 25))
    if kind < 0.87:
        return float(rng.choice([90, 180, 270]) + rng.normal(0, 5))
    return float(rng.uniform(-180, 180))


def _phone_view(rng: Rng, long_side_px: int, upright: bool, px_per_mm: float | None) -> View:
    aspects = {"1.333": 0.5, "1.778": 0.2, "1.5": 0.1, "1.0": 0.05, "free": 0.15}
    aspect = pick(rng, aspects)
    return View(
        window=_window(rng, long_side_px, px_per_mm),
        aspect=None if aspect == "free" else float(aspect),
        turned_frame=bool(rng.random() < 0.12),
        roll_deg=_roll_deg(rng, upright),
        tilt_deg=float(min(abs(rng.normal(0, 13)), 35)),
        azimuth_deg=float(rng.uniform(0, 360)),
        distance=float(rng.uniform(0.95, 2.2)),
        k1=float(rng.normal(0, 0.025)),
        k2=float(rng.normal(0, 0.008)),
    )


def _tint(rng: Rng, strength: float) -> Tint:
    """From warm lamp to blue sky, with a little green or magenta."""
    warm, green = rng.normal(0, strength), rng.normal(0, strength * 0.25)
    return float(np.exp(warm)), float(np.exp(green)), float(np.exp(-warm))


def _shadows(rng: Rng) -> tuple[Shadow, ...]:
    out = []
    for _ in range(int(rng.choice([0, 1, 2], p=[0.5, 0.38, 0.12]))):
        shape = pick(rng, {"edge": 0.3, "bar": 0.15, "blob": 0.25, "phone": 0.22, "blinds": 0.08})
        x, y = rng.uniform(0, 1), rng.uniform(0, 0.75)
        size = rng.uniform(0.15, 0.6)
        penumbra = float(np.exp(rng.uniform(np.log(0.004), np.log(0.09))))
        out.append(
            Shadow(
                shape,
                float(x),
                float(y),
                float(size),
                float(rng.uniform(0, 360)),
                penumbra,
                float(rng.uniform(0.25, 0.95)),
            )
        )
    return tuple(out)


def _phone_lighting(rng: Rng) -> Lighting:
    key = Lamp(
        float(rng.uniform(0, 360)),
        float(rng.uniform(14, 75)),
        float(np.exp(rng.uniform(np.log(450), np.log(4000)))),
        float(rng.uniform(0.4, 1.0)),
        _tint(rng, 0.035),
    )
    lamps = [key]
    if rng.random() < 0.6:
        lamps.append(
            Lamp(
                float(rng.uniform(0, 360)),
                float(rng.uniform(12, 60)),
                2000.0,
                float(rng.uniform(0.1, 0.5)),
                _tint(rng, 0.08),
            )
        )
    stains = []
    if rng.random() < 0.08:
        kind = pick(rng, {"coffee": 0.5, "ink": 0.2, "water": 0.3})
        radius = {"coffee": rng.uniform(15, 45), "ink": rng.uniform(1.5, 6), "water": rng.uniform(15, 70)}[kind]
        stains.append(
            Stain(kind, float(rng.random()), float(rng.random()), float(radius), float(rng.uniform(0.2, 0.75)))
        )
    sleeve = _maybe(rng, 0.05, 0.2, 0.9)
    return Lighting(
        lamps=tuple(lamps),
        ambient=float(rng.uniform(0.15, 0.9)),
        ambient_tint=_tint(rng, 0.035),
        shadows=_shadows(rng),
        stains=tuple(stains),
        uneven=_maybe(rng, 0.5, 0.02, 0.2),
        vignette=_maybe(rng, 0.6, 0.02, 0.35),
        gloss=max(_maybe(rng, 0.15, 0.05, 0.35), sleeve * 0.4),
        glare=int(rng.integers(1, 3)) if rng.random() < 0.07 else 0,
        sleeve=sleeve,
        wear=float(rng.uniform(0, 0.8)),
    )


def _phone_development(rng: Rng, long_side_px: int) -> Development:
    fine = max(long_side_px / 1600, 0.7)  # blurs and grain grow with the picture
    hard = rng.random() ** 2
    tint = _tint(rng, 0.035)
    exposure = float(np.clip(rng.normal(0.76, 0.1), 0.4, 1.0))
    return Development(
        defocus_px=float(rng.uniform(0.25, 0.75) + 1.1 * hard * rng.random()) * fine,
        motion_px=_maybe(rng, 0.12, 1, 4.5) * fine,
        motion_deg=float(rng.uniform(0, 180)),
        noise=float(rng.uniform(0.5, 3.5) + 9 * hard * rng.random()),
        colour_noise=_maybe(rng, 0.4, 0.5, 4),
        coarse=float(rng.uniform(0, 0.8)),
        smear=bool(rng.random() < 0.1),
        resample=float(rng.uniform(0.5, 1)) if rng.random() < 0.18 else 1.0,
        sharpen=_maybe(rng, 0.55, 0.2, 1.3),
        sharpen_px=float(rng.uniform(0.8, 1.8)),
        exposure=exposure,
        white_balance=tint,
        contrast=float(np.clip(rng.normal(1.05, 0.12), 0.75, 1.4)),
        gamma=float(np.exp(rng.normal(0, 0.12))),
        black=_maybe(rng, 0.3, 0, 0.1),
        saturation=float(np.clip(rng.normal(1.0, 0.2), 0.3, 1.6)),
        jpeg=int(rng.integers(30, 96)) if rng.random() < 0.5 else int(rng.integers(75, 96)),
        jpeg_full_chroma=bool(rng.random() < 0.25),
        jpeg_again=int(rng.integers(40, 90)) if rng.random() < 0.06 else 0,
    )


def _phone_shot(rng: Rng, condition: str, long_side_px: int, upright: bool, px_per_mm: float | None) -> Shot:
    kinds = {
        "wood": 0.36,
        "desk": 0.22,
        "cloth": 0.1,
        "stone": 0.06,
        "dark": 0.12,
        "paper": 0.04,
        "mat": 0.03,
        "flat": 0.07,
    }
    return Shot(
        condition,
        long_side_px,
        _phone_view(rng, long_side_px, upright, px_per_mm),
        random_paper(rng, condition),
        _phone_lighting(rng),
        _phone_development(rng, long_side_px),
        pick(rng, kinds),
        things=int(rng.integers(1, 6)) if rng.random() < 0.25 else 0,
        sheets=int(rng.integers(1, 3)) if rng.random() < 0.12 else 0,
        fingers=int(rng.integers(1, 4)) if rng.random() < 0.1 else 0,
        show_through=_maybe(rng, 0.08, 0.03, 0.12),
    )


def _flatbed_window(
    rng: Rng, long_side_px: int, px_per_mm: float | None, bare: float
) -> tuple[float, float, float, float]:
    if px_per_mm is not None:
        return _window(rng, long_side_px, px_per_mm)
    if rng.random() < bare:
        m = rng.uniform(-0.02, 0.08, 4)
        return float(-m[0]), float(-m[1]), float(1 + m[2]), float(1 + m[3])
    m = rng.uniform(0, [0.06, 0.25, 0.06, 0.15])
    return float(m[0]), float(m[1]), float(1 - m[2]), float(1 - m[3])


def _scan(rng: Rng, long_side_px: int, upright: bool, px_per_mm: float | None, copy: bool) -> Shot:
    roll = rng.normal(0, 1.2) + (0 if upright or rng.random() < 0.85 else rng.choice([90, 180, 270]))
    stretch = float(np.exp(rng.normal(0, 0.006 if copy else 0.002)))
    window = _flatbed_window(rng, long_side_px, px_per_mm, 0.55)
    view = View(window, None, False, float(roll), 0.0, 0.0, 40.0, stretch=stretch)
    crease = PaperShape(folds=random_folds(rng)) if rng.random() < 0.25 else PaperShape()
    flat = tuple(replace(f, slope=f.slope * 0.15, reach_mm=8.0) for f in crease.folds)  # pressed by the lid
    mono = pick(rng, {"copy": 0.65, "bilevel": 0.35}) if copy else ("grey" if rng.random() < 0.25 else "")
    faint = 0.5 if mono == "bilevel" else 1.0
    development = Development(
        defocus_px=float(rng.uniform(0.2, 0.7)),
        noise=float(rng.uniform(0.2, 3) * faint),
        colour_noise=_maybe(rng, 0.3, 0.2, 2),
        resample=float(rng.uniform(0.4, 0.75)) if copy and rng.random() < 0.4 else 1.0,
        sharpen=_maybe(rng, 0.5, 0.2, 1.0),
        exposure=float(rng.uniform(0.9, 1.05)),
        shoulder=False,
        white_balance=_tint(rng, 0.012),
        contrast=float(rng.uniform(0.95, 1.25)),
        gamma=float(np.exp(rng.normal(0, 0.12))),
        saturation=float(rng.uniform(0.7, 1.3)),
        jpeg=int(rng.integers(50, 96)) if rng.random() < 0.75 else 0,
        jpeg_full_chroma=bool(rng.random() < 0.5),
        mono=mono,
    )
    lamp = Lamp(float(rng.choice([0, 90, 180, 270])), 50.0, 30000.0, 0.5)
    lighting = Lighting((lamp,), 0.5, uneven=_maybe(rng, 0.3, 0.005, 0.03), wear=float(rng.uniform(0, 0.5)))
    lid = "lid" if rng.random() < 0.8 else "paper"
    return Shot("copy" if copy else "scan", long_side_px, view, PaperShape(folds=flat), lighting, development, lid,
                show_through=_maybe(rng, 0.12, 0.02, 0.1))  # fmt: skip


def _screenshot(rng: Rng, long_side_px: int, px_per_mm: float | None) -> Shot:
    stretch = float(np.exp(rng.normal(0, 0.01))) if rng.random() < 0.25 else 1.0
    window = _flatbed_window(rng, long_side_px, px_per_mm, 0.3)
    development = Development(
        defocus_px=0.0,
        resample=float(rng.uniform(0.45, 0.95)) if rng.random() < 0.4 else 1.0,
        sharpen=_maybe(rng, 0.15, 0.2, 0.8),
        exposure=1.0,
        shoulder=False,
        jpeg=int(rng.integers(40, 96)) if rng.random() < 0.45 else 0,
        jpeg_full_chroma=bool(rng.random() < 0.5),
    )
    view = View(window, None, distance=40.0, stretch=stretch)
    return Shot("screenshot", long_side_px, view, lighting=Lighting(), development=development, background="flat")


def _screen(rng: Rng, long_side_px: int, upright: bool, px_per_mm: float | None) -> Shot:
    shot = _phone_shot(rng, "screen", long_side_px, upright, px_per_mm)
    lighting = Lighting(
        ambient=1.0,
        ambient_tint=_tint(rng, 0.04),
        uneven=float(rng.uniform(0.02, 0.2)),
        vignette=float(rng.uniform(0, 0.4)),
        glare=int(rng.integers(0, 3)),
        sleeve=_maybe(rng, 0.3, 0.1, 0.5),
    )
    development = replace(
        shot.development,
        moire_mm=float(rng.uniform(0.16, 0.5)),
        white_balance=(lambda t: (t[0] * 0.94, t[1], t[2] * 1.06))(shot.development.white_balance),
        saturation=float(rng.uniform(0.9, 1.5)),
    )
    view = replace(shot.view, roll_deg=float(rng.normal(0, 4)))  # monitors stand upright, and fill the picture
    if px_per_mm is None and rng.random() < 0.75:
        m = rng.uniform(-0.04, 0.1, 4)
        view = replace(view, window=(float(m[0]), float(m[1]), float(1 - m[2]), float(1 - m[3])))
    return replace(
        shot,
        view=view,
        paper=PaperShape(),
        lighting=lighting,
        development=development,
        background=pick(rng, {"dark": 0.5, "lid": 0.5}),
        things=0,
        sheets=0,
        fingers=0,
        show_through=0.0,
    )


def random_shot(
    rng: Rng,
    *,
    condition: str | None = None,
    long_side_px: int | None = None,
    upright: bool = False,
    px_per_mm: float | None = None,
) -> Shot:
    """A shot drawn as such photos come: any condition (or the one named), any strength.

    ``long_side_px`` None draws 1000 to 2400; ``upright`` keeps the page within 25 degrees of upright;
    ``px_per_mm`` asks for about this scale (the frame then shows a part of an A4 page, or all and the table around).
    Raises ValueError for an unknown condition.
    """
    if condition is None:
        condition = pick(rng, CONDITIONS)
    if condition not in CONDITIONS:
        raise ValueError(f"condition must be one of {', '.join(CONDITIONS)}, got {condition!r}")
    if long_side_px is None:
        long_side_px = int(np.exp(rng.uniform(np.log(1000), np.log(2400))) / 2) * 2
    if condition in ("scan", "copy"):
        return _scan(rng, long_side_px, upright, px_per_mm, condition == "copy")
    if condition == "screenshot":
        return _screenshot(rng, long_side_px, px_per_mm)
    if condition == "screen":
        return _screen(rng, long_side_px, upright, px_per_mm)
    return _phone_shot(rng, condition, long_side_px, upright, px_per_mm)
