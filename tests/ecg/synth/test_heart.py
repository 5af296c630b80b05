"""Physics and criteria, measured on the signal, not read from the spec."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from ecg.findings import STATEMENTS, superclasses_of
from ecg.leads import LEAD_INDEX, einthoven_residual_mv, goldberger_residual_mv
from ecg.records import EcgRecord
from ecg.synth.anatomy import HeartSpec, cornell_mv, qrs_range_mv, sokolow_lyon_mv, with_axis
from ecg.synth.dipole import DOWER, FREE_FROM_ELECTRODES, bell, draw, place
from ecg.synth.heart import CONDITIONS, beat, draw_conditions, random_heart
from ecg.synth.noise import Filters, Noise
from ecg.synth.rhythms import ECTOPIC, RHYTHMS, Rhythm, timetable

QUIET = Noise(wander_mv=0.0, muscle_mv=0.0, mains_mv=0.0, modulation=0.0)
OPEN = Filters(high_pass_hz=0.05, low_pass_hz=150.0)
FS = 500.0


def heart(*conditions: str, seed: int = 0, quiet: bool = True) -> tuple[HeartSpec, EcgRecord]:
    rng = np.random.default_rng(seed)
    spec = random_heart(rng, conditions, QUIET if quiet else None, OPEN if quiet else None)
    return spec, beat(spec, rng=rng)


def qrs_times_s(record: EcgRecord) -> np.ndarray:
    """Where QRS complexes peak: maxima of the smoothed steepness of all leads."""
    steep = (np.gradient(record.mv, axis=1) ** 2).sum(axis=0)
    width = int(0.08 * record.fs_hz)
    energy = np.convolve(steep, np.ones(width) / width, "same")
    threshold, refractory, out, i = 0.2 * np.percentile(energy, 99), int(0.22 * record.fs_hz), [], 0
    while i < len(energy):
        if energy[i] > threshold:
            k = i + int(np.argmax(energy[i : i + refractory]))
            out.append(k / record.fs_hz)
            i = k + refractory
        else:
            i += 1
    return np.array(out)


def lead(record: EcgRecord, name: str) -> np.ndarray:
    return record.mv[LEAD_INDEX[name]]


# ------------------------------------------------------------------------------------------------------------- physics


@pytest.mark.parametrize("condition", ["", *CONDITIONS])
def test_einthoven_and_goldberger_hold_with_noise_and_filters(condition):
    _, record = heart(*[condition] if condition else [], seed=3, quiet=False)
    assert record.mv.shape == (12, 5000)
    assert np.isfinite(record.mv).all()
    assert np.abs(record.mv).max() < 12
    assert np.abs(einthoven_residual_mv(record.mv)).max() < 1e-4
    assert np.abs(goldberger_residual_mv(record.mv)).max() < 1e-4


def test_chest_leads_are_taken_against_wilsons_terminal():
    potentials = np.random.default_rng(0).standard_normal(9)
    free = FREE_FROM_ELECTRODES @ potentials
    ra, la, ll, *chest = potentials
    assert np.allclose(free[:2], [la - ra, ll - ra])
    assert np.allclose(free[2:], np.array(chest) - (ra + la + ll) / 3)
    assert np.allclose(FREE_FROM_ELECTRODES @ np.ones(9), 0)  # a common potential shows nowhere


def test_a_wave_is_drawn_where_and_as_large_as_it_is():
    wave = bell(0.1, 0.01, (1.0, -0.5, 0.2))
    dipole = draw(place((wave,), np.array([0.3, 0.9])), FS, 600)
    assert np.allclose(dipole[:, [200, 500]].T, wave.vector, atol=1e-9)
    assert abs(dipole[0, 205] - np.exp(-0.5)) < 1e-9
    assert np.abs(dipole[:, 300:400]).max() == 0


def test_the_first_chest_leads_look_forward_and_the_last_to_the_left():
    """A dipole to the front is positive in V2; one to the left in I, V5 and V6; one to the feet in II."""
    front, left, feet = DOWER @ [0, 0, -1], DOWER @ [1, 0, 0], DOWER @ [0, 1, 0]
    assert front[3] == front.max()
    assert min(left[0], left[6], left[7]) > 0.5
    assert feet[1] == feet.max()


@pytest.mark.parametrize("axis", [-60.0, 0.0, 45.0, 110.0])
def test_frontal_axis_is_what_the_leads_say(axis):
    spec, _ = heart(seed=5)
    spec = with_axis(spec, axis)
    low, high = qrs_range_mv(spec)
    assert abs((spec.axis_deg - axis + 180) % 360 - 180) < 3
    net = high + low
    if axis == 0.0:
        assert net[0] > 2.5 * abs(net[5])
    if axis == 110.0:
        assert net[0] < 0 < net[5]
    if axis == -60.0:
        assert net[5] < 0 < net[0]


def test_same_seed_same_bytes_and_other_seeds_differ():
    _, a = heart("IMI", seed=4, quiet=False)
    _, b = heart("IMI", seed=4, quiet=False)
    _, c = heart("IMI", seed=5, quiet=False)
    assert a.mv.tobytes() == b.mv.tobytes()
    assert (a.name, a.report) == (b.name, b.report)
    assert a.mv.tobytes() != c.mv.tobytes()


def test_noise_sits_at_the_electrodes_at_the_size_asked_for():
    rng = np.random.default_rng(0)
    spec = replace(random_heart(rng, (), QUIET, OPEN), noise=replace(QUIET, muscle_mv=0.05))
    levels = []
    for seed in range(6):
        clean = beat(replace(spec, noise=QUIET), rng=np.random.default_rng(seed)).mv
        assert np.abs(clean).max() > 0.5
        spectrum = np.abs(np.fft.rfft(beat(spec, rng=np.random.default_rng(seed)).mv, axis=1)) ** 2
        levels.append(np.sqrt(2 * spectrum[:, 500:1400].sum(axis=1)) / 5000)  # 50 to 140 Hz
    assert 0.02 < np.median(levels) < 0.08


def test_mains_hum_has_its_frequency_and_a_notch_removes_it():
    rng = np.random.default_rng(1)
    spec = random_heart(rng, (), replace(QUIET, mains_mv=0.05, mains_hz=60.0), OPEN)
    line = 600  # 60 Hz in 10 s
    hum = np.abs(np.fft.rfft(beat(spec, rng=np.random.default_rng(0)).mv[0]))
    assert hum[line] > 20 * np.median(hum[line - 50 : line - 10])
    notched = replace(spec, filters=replace(OPEN, notch_hz=60.0))
    assert np.abs(np.fft.rfft(beat(notched, rng=np.random.default_rng(0)).mv[0]))[line] < 0.1 * hum[line]


# ------------------------------------------------------------------------------------------------- rates and intervals


@pytest.mark.parametrize("condition", ["", "SBRAD", "STACH", "1AVB", "CLBBB", "CRBBB", "LVH", "SVTAC", "3AVB"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_measured_rate_agrees_with_the_spec(condition, seed):
    spec, record = heart(*[condition] if condition else [], seed=seed)
    measured = 60.0 / np.mean(np.diff(qrs_times_s(record)))
    assert measured == pytest.approx(spec.rhythm.rate_bpm, rel=0.06)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("condition", ["", "CLBBB", "CRBBB", "LVH", "IVCD"])
def test_qrs_lasts_as_long_as_the_spec_says(condition, seed):
    """From where the vector's speed first passes 4 % of its maximum to where it last does."""
    spec, _ = heart(*[condition] if condition else [], seed=seed)
    dipole = draw(place(spec.qrs, np.array([0.1])), 1000.0, 500)
    speed = np.linalg.norm(np.gradient(dipole, axis=1), axis=0)
    fast = np.flatnonzero(speed > 0.04 * speed.max())
    assert (fast[-1] - fast[0]) / 1000.0 == pytest.approx(spec.qrs_s, abs=0.022)
    assert 0.085 < fast[0] / 1000.0 < 0.125


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("condition", ["", "1AVB"])
def test_p_leads_the_qrs_by_pr(condition, seed):
    spec, record = heart(*[condition] if condition else [], seed=seed)
    p = draw(place(spec.atrial, np.array([0.1])), 1000.0, 400)
    size = np.linalg.norm(p, axis=0)
    onset = np.flatnonzero(size > 0.12 * size.max())[0] / 1000.0 - 0.1
    assert abs(onset) < 0.02  # P begins at its anchor
    table = timetable(spec.rhythm, spec.pr_s, 10.0, np.random.default_rng(0))
    lead_in = table.qrs_s[:, None] - table.p_s[None, :]
    assert np.allclose(np.where(lead_in > 0, lead_in, np.inf).min(axis=1), spec.pr_s)
    assert (spec.pr_s > 0.2) == (condition == "1AVB")
    assert record.mv.shape == (12, 5000)


@pytest.mark.parametrize(
    ("condition", "low", "high"), [("", 0.36, 0.445), ("LNGQT", 0.48, 0.6), ("STACH", 0.36, 0.445)]
)
@pytest.mark.parametrize("seed", range(3))
def test_t_ends_at_qt(condition, low, high, seed):
    """The tangent at T's steepest fall meets the zero line QT after QRS onset; QTc by Fridericia."""
    spec, _ = heart(*[condition] if condition else [], seed=seed)
    main = replace(spec, recovery=spec.recovery[:1])
    t = draw(place(main.recovery, np.array([0.2])), 1000.0, 1500)
    size = np.linalg.norm(t, axis=0)
    slope = np.gradient(size)
    steepest = int(np.argmin(slope))
    end = (steepest - size[steepest] / slope[steepest]) / 1000.0 - 0.2
    assert end == pytest.approx(spec.qt_s, abs=0.012)
    assert low < end / spec.rr_s ** (1 / 3) < high


def test_qt_follows_the_rate():
    slow, _ = heart("SBRAD", seed=1)
    fast, _ = heart("STACH", seed=1)
    assert slow.qt_s > fast.qt_s + 0.06


# ------------------------------------------------------------------------------------------------------------- rhythms


def rr(kind: str, seed: int = 0, **options: float) -> np.ndarray:
    table = timetable(Rhythm(kind, **options), 0.16, 60.0, np.random.default_rng(seed))
    return np.diff(table.qrs_s)


@pytest.mark.parametrize("kind", RHYTHMS)
def test_every_rhythm_covers_the_record(kind):
    table = timetable(Rhythm(kind, rate_bpm=70.0, every=3), 0.16, 10.0, np.random.default_rng(2))
    assert table.qrs_s[0] < 0.5
    assert table.qrs_s[-1] > 9.0
    assert (np.diff(table.qrs_s) > 0.2).all()
    assert len(table.qrs_s) == len(table.rr_s) == len(table.conduction)


def test_fibrillation_is_irregular_and_sinus_is_not():
    sinus, fibrillating = rr("sinus"), rr("fibrillation", rate_bpm=80.0)
    assert np.std(sinus) / np.mean(sinus) < 0.05
    assert np.std(fibrillating) / np.mean(fibrillating) > 0.12
    # Irregularly irregular: an interval says nothing of the next one.
    assert abs(np.corrcoef(fibrillating[:-1], fibrillating[1:])[0, 1]) < 0.35
    spec, record = heart("AFIB", seed=2)
    gaps = np.diff(qrs_times_s(record))
    assert np.std(gaps) / np.mean(gaps) > 0.08
    assert spec.atrial == ()
    assert spec.activity is not None


def test_sinus_arrhythmia_swings_with_breathing():
    swing = rr("sinus", breathing=0.15, jitter=0.0, breath_hz=0.2)
    assert 0.08 < np.std(swing) / np.mean(swing) < 0.14
    _, record = heart("SARRH", seed=1)
    gaps = np.diff(qrs_times_s(record))
    assert gaps.max() - gaps.min() > 0.1


def test_flutter_beats_every_nth_wave():
    for ratio in (2, 3, 4):
        gaps = rr("flutter", rate_bpm=300.0 / ratio, atrial_bpm=300.0)
        assert np.allclose(gaps, 0.2 * ratio, atol=0.02)
    spec, record = heart("AFLT", seed=3)
    spectrum = np.abs(np.fft.rfft(lead(record, "aVF") - lead(record, "aVF").mean()))
    at = round(spec.activity.hz * 10)
    assert spectrum[at - 2 : at + 3].max() > 3 * np.median(spectrum[at - 20 : at + 20])


def test_wenckebach_grows_until_a_beat_is_dropped():
    table = timetable(Rhythm("mobitz1", 75.0, every=4, breathing=0.0, jitter=0.0), 0.18, 30.0, np.random.default_rng(0))
    pr = np.array([q - table.p_s[table.p_s < q].max() for q in table.qrs_s])
    assert pr.max() - pr.min() == pytest.approx(0.09 * 1.6, abs=1e-6)
    assert len(table.qrs_s) == pytest.approx(0.75 * len(table.p_s), abs=2)
    gaps = np.diff(table.qrs_s)
    assert gaps.max() < 2 * 0.8  # shorter than two PP intervals


def test_mobitz_two_keeps_its_pr():
    table = timetable(Rhythm("mobitz2", 75.0, every=3), 0.2, 30.0, np.random.default_rng(0))
    pr = np.array([q - table.p_s[table.p_s < q].max() for q in table.qrs_s])
    assert np.allclose(pr, 0.2)
    assert len(table.qrs_s) == pytest.approx(2 / 3 * len(table.p_s), abs=2)


def test_complete_block_dissociates():
    rhythm = Rhythm("complete_block", rate_bpm=38.0, atrial_bpm=90.0)
    table = timetable(rhythm, 0.16, 60.0, np.random.default_rng(0))
    pr = np.array([q - table.p_s[table.p_s < q].max() for q in table.qrs_s])
    assert pr.max() - pr.min() > 0.4
    assert 60 / np.mean(np.diff(table.qrs_s)) == pytest.approx(38, rel=0.02)
    assert 60 / np.mean(np.diff(table.p_s)) == pytest.approx(90, rel=0.03)


def test_ventricular_ectopics_are_early_wide_and_followed_by_a_pause():
    rhythm = Rhythm("trigeminy", 70.0, every=3, breathing=0.0, jitter=0.0)
    table = timetable(rhythm, 0.16, 30.0, np.random.default_rng(0))
    at = np.flatnonzero(table.conduction[1:-1] == ECTOPIC) + 1
    before, after = table.qrs_s[at] - table.qrs_s[at - 1], table.qrs_s[at + 1] - table.qrs_s[at]
    assert (before < 0.75 * 60 / 70).all()
    assert np.allclose(before + after, 2 * 60 / 70, atol=0.01)  # fully compensated
    spec, record = heart("PVC", seed=6)
    assert max(w.at_s for w in spec.ectopic_qrs) > 0.08
    gaps = np.diff(qrs_times_s(record))
    assert gaps.min() < 0.8 * np.median(gaps)


def test_atrial_ectopics_are_early_and_reset_the_node():
    table = timetable(Rhythm("pac", 70.0, every=4, breathing=0.0, jitter=0.0), 0.16, 30.0, np.random.default_rng(0))
    at = np.flatnonzero(table.p_ectopic)
    at = at[at < len(table.p_s) - 2]
    assert len(at) >= 5
    before, after = table.p_s[at] - table.p_s[at - 1], table.p_s[at + 1] - table.p_s[at]
    assert (before < 0.87 * 60 / 70).all()
    assert (before + after < 1.95 * 60 / 70).all()  # less than a compensatory pause


def test_paced_beats_follow_impulses():
    spec, record = heart("PACE", seed=1)
    gaps = np.diff(qrs_times_s(record)[1:-1])  # a beat cut by the record's end peaks elsewhere
    assert np.std(gaps) < 0.01
    sharp = np.abs(np.diff(record.mv, n=2, axis=1)).max(axis=0)
    assert (sharp > 0.35 * sharp.max()).sum() < 200  # rare, narrow
    assert spec.qrs_s > 0.14


# ---------------------------------------------------------------------------------------------------------- conditions


@pytest.mark.parametrize("seed", range(6))
def test_hypertrophy_is_larger_than_health(seed):
    healthy, _ = heart(seed=seed)
    large, _ = heart("LVH", seed=seed)
    assert sokolow_lyon_mv(healthy) < 3.5
    assert sokolow_lyon_mv(large) >= 3.5 or cornell_mv(large) >= (2.8 if large.sex == "M" else 2.0)


@pytest.mark.parametrize("seed", range(6))
def test_low_voltage_is_low_in_the_limb_leads_of_the_record(seed):
    spec, record = heart("LVOLT", seed=seed)
    low, high = qrs_range_mv(spec)
    assert (high - low)[:6].max() < 0.5
    assert np.ptp(record.mv[:6], axis=1).max() < 0.75


@pytest.mark.parametrize("seed", range(6))
def test_bundle_branch_blocks(seed):
    left, _ = heart("CLBBB", seed=seed)
    low, high = qrs_range_mv(left)
    assert left.qrs_s >= 0.12
    assert -low[6] > 2 * high[6]  # V1 points down
    assert high[11] > 2 * -low[11]  # V6 up
    right, _ = heart("CRBBB", seed=seed)
    assert right.qrs_s >= 0.12
    dipole = draw(place(right.qrs, np.array([0.05])), 1000.0, 300)
    v1 = (right.field @ dipole)[2]
    assert np.argmax(v1) > 1000 * (0.05 + 0.55 * right.qrs_s)  # R' is late
    assert v1.max() > 0.15
    assert -35 < right.axis_deg < 105
    both, _ = heart("CRBBB", "LAFB", seed=seed)
    assert both.axis_deg < -35


@pytest.mark.parametrize("seed", range(4))
def test_fascicular_blocks_turn_the_axis(seed):
    assert -90 < heart("LAFB", seed=seed)[0].axis_deg < -44
    assert 95 < heart("LPFB", seed=seed)[0].axis_deg < 130
    assert heart("RVH", seed=seed)[0].axis_deg > 85


def median_beat(record: EcgRecord) -> np.ndarray:
    """(12, 400) from 0.2 s before to 0.6 s after the QRS."""
    at = [round(t * FS) for t in qrs_times_s(record)]
    return np.median([record.mv[:, k - 100 : k + 300] for k in at if 100 <= k < 4700], axis=0)


@pytest.mark.parametrize(
    ("code", "facing", "opposite"), [("IMI", "III", "aVL"), ("ASMI", "V2", None), ("LMI", "aVL", "III")]
)
def test_acute_infarction_raises_st_over_its_territory(code, facing, opposite):
    seeds = [s for s in range(40) if "acute" in heart(code, seed=s)[0].details][:4]
    assert len(seeds) == 4
    for seed in seeds:
        spec, record = heart(code, seed=seed)
        beat_mv = median_beat(record)
        level = beat_mv[:, 100 + 35] - beat_mv[:, 100 - 28]  # 70 ms after, 56 ms before the QRS
        assert level[LEAD_INDEX[facing]] > 0.07
        if opposite:
            assert level[LEAD_INDEX[opposite]] < 0
        assert "STE_" in spec.codes


@pytest.mark.parametrize(("code", "lead_name"), [("IMI", "III"), ("ASMI", "V2"), ("LMI", "aVL")])
def test_old_infarction_leaves_q_waves(code, lead_name):
    seeds = [s for s in range(40) if "old" in heart(code, seed=s)[0].details][:4]
    for seed in seeds:
        spec, _ = heart(code, seed=seed)
        field = {"III": spec.field[1] - spec.field[0], "V2": spec.field[3],
                 "aVL": spec.field[0] - spec.field[1] / 2}[lead_name]  # fmt: skip
        trace = field @ draw(place(spec.qrs, np.array([0.05])), 1000.0, 300)
        early = trace[50 : 50 + round(450 * spec.qrs_s)]
        assert early.min() < -0.05


@pytest.mark.parametrize("seed", range(4))
def test_atria(seed):
    healthy, right, left = (heart(*c, seed=seed)[0] for c in ((), ("RAO/RAE",), ("LAO/LAE",)))

    def p_wave(spec: HeartSpec) -> np.ndarray:
        return spec.field @ draw(place(spec.atrial, np.array([0.05])), 1000.0, 300)

    assert p_wave(right)[1].max() > max(0.2, p_wave(healthy)[1].max())  # II
    assert p_wave(left)[2].min() < -0.03  # V1 ends negative
    long_ms = [np.ptp(np.flatnonzero(np.abs(p).sum(axis=0) > 0.15 * np.abs(p).sum(axis=0).max()))
               for p in (p_wave(healthy), p_wave(left))]  # fmt: skip
    assert long_ms[1] > long_ms[0]


# -------------------------------------------------------------------------------------------- codes, reports, interface


@pytest.mark.parametrize("condition", CONDITIONS)
def test_codes_and_report_name_the_condition(condition):
    spec, record = heart(condition, seed=7)
    assert condition in record.codes
    assert set(record.codes) <= set(STATEMENTS)
    assert record.superclasses == superclasses_of(record.codes)
    assert record.report.endswith(".")
    assert record.report == record.report.lower()
    assert record.true_mv
    assert record.name.startswith("synthetic-")
    assert spec.report == record.report
    superclass = STATEMENTS[condition].superclass
    assert superclass in record.superclasses or not superclass


def test_health_is_normal():
    _, record = heart(seed=1)
    assert record.codes == ("SR", "NORM")
    assert record.superclasses == ("NORM",)
    assert "sinus rhythm" in record.report


def test_conditions_drawn_by_chance_go_together():
    rng = np.random.default_rng(0)
    drawn = [draw_conditions(rng) for _ in range(300)]
    assert 0.2 < np.mean([len(d) == 0 for d in drawn]) < 0.4
    assert {c for d in drawn for c in d} >= {"AFIB", "LVH", "IMI", "CLBBB", "1AVB", "PVC"}
    for conditions in drawn[:60]:
        assert beat(random_heart(rng, conditions), rng=rng).mv.shape == (12, 5000)


def test_what_cannot_be_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="no condition 'XYZ'"):
        random_heart(rng, ["XYZ"])
    with pytest.raises(ValueError, match="can't be seen beside"):
        random_heart(rng, ["AFIB", "1AVB"])
    with pytest.raises(ValueError, match="kind must be"):
        Rhythm("waltz")


@pytest.mark.parametrize(("duration", "fs"), [(10.0, 500.0), (2.5, 250.0), (30.0, 100.0)])
def test_other_lengths_and_rates(duration, fs):
    spec, _ = heart(seed=1)
    record = beat(spec, duration, fs, np.random.default_rng(0))
    assert record.mv.shape == (12, round(duration * fs))
    assert record.fs_hz == fs


def test_a_record_takes_milliseconds():
    rng = np.random.default_rng(0)
    beat(random_heart(rng), rng=rng)
    start = time.process_time()
    for _ in range(20):
        beat(random_heart(rng), rng=rng)
    assert (time.process_time() - start) / 20 < 0.06  # about 8 ms on a free core
