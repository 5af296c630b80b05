"""Samples: what is drawn, what the page prints of it, and what is said."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecg.errors import EcgscanError
from ecg.leads import LEAD_INDEX, LEADS
from ecg.records import EcgRecord, RecordRef
from ecg.synth.camera import photograph, random_shot
from ecg.synth.heart import beat, random_heart
from ecg.synth.printer import random_page
from teacher.config import TeacherConfig
from teacher.losses.soft_lead import RELATIONS
from teacher.samples import Clocks, Source, describe, make_sample, on_clock, printed_on, training_refs

DATA = Path(__file__).parents[3] / "shared" / "data"


def heart(seed: int = 0) -> EcgRecord:
    rng = np.random.default_rng(seed)
    return beat(random_heart(rng, ("AFIB",)), 10.0, rng=rng)


def test_a_sample_follows_from_its_number(tiny_run: TeacherConfig, clocks: Clocks) -> None:
    one, again = (make_sample(3, Source(tiny_run), tiny_run, clocks) for _ in range(2))
    assert one.page.shape == (32, 64, 3)
    assert one.page.dtype == np.uint8
    assert one.mv.shape == one.known.shape == (12, 1000)
    assert one.target_mv.shape == one.printed.shape == (12, 1000)
    for name, value in vars(one).items():
        assert np.array_equal(value, getattr(again, name)), name
    assert make_sample(4, Source(tiny_run), tiny_run, clocks).record != one.record
    assert np.isfinite(one.mv).all()
    assert (one.target_mv[~one.printed] == 0).all()


def test_the_report_stays_off_the_page(tiny_run, clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[EcgRecord] = []

    def spy(rng, record):
        seen.append(record)
        return random_page(rng, record)

    monkeypatch.setattr("teacher.samples.random_page", spy)
    make_sample(0, Source(tiny_run), tiny_run, clocks)
    assert [r.report for r in seen] == [""]


@pytest.mark.parametrize("layout", ["3x4+1", "6x2", "12x1", "3x4-cabrera", "1x1-V2"])
def test_printed_on_is_the_record_where_the_page_prints_it(layout: str) -> None:
    record = heart()
    rng = np.random.default_rng(1)
    page = random_page(rng, record, layout=layout, speed_mm_per_s=25.0, partial=False)
    mv, printed = printed_on(page, 100.0, 1000)
    assert set(np.flatnonzero(printed.any(axis=1))) == {LEAD_INDEX[t.strip.lead.lstrip("-")] for t in page.traces}
    if layout == "3x4+1":
        assert printed[LEAD_INDEX["II"]].all()
        assert printed[0, :250].all()
        assert not printed[0, 260:].any()
        assert not printed[LEAD_INDEX["V6"], :740].any()
    for trace in page.traces:
        lead = LEAD_INDEX[trace.strip.lead.lstrip("-")]
        at = np.flatnonzero(printed[lead])
        at = at[(at / 100 >= trace.strip.start_s) & (at / 100 < trace.strip.start_s + len(trace.mv) / 500 - 0.01)]
        want = trace.mv[np.round((at / 100 - trace.strip.start_s) * 500).astype(int)]
        error = np.abs(mv[lead, at] - want)
        assert np.median(error) < 0.02


def test_einthoven_holds_in_the_targets() -> None:
    page = random_page(np.random.default_rng(3), heart(), layout="12x1", partial=False)
    mv, printed = printed_on(page, 100.0, 1000)
    everywhere = printed[:6].all(axis=0)
    residual = np.array(RELATIONS) @ mv[:6, everywhere]
    residual -= residual.mean(axis=1, keepdims=True)  # some machines take each trace's mean off
    assert np.abs(residual).max() < 0.02


def test_what_the_photo_doesnt_show_isnt_printed() -> None:
    rng = np.random.default_rng(0)
    page = random_page(rng, heart(), layout="3x4+1", partial=False)
    close = photograph(page, random_shot(rng, condition="flat", long_side_px=400, px_per_mm=8.0), rng)
    whole, part = printed_on(page, 100.0, 1000)[1], printed_on(page, 100.0, 1000, close)[1]
    assert 0 < part.sum() < 0.6 * whole.sum()
    assert not (part & ~whole).any()


def test_on_clock() -> None:
    record = heart()
    mv, known = on_clock(record, 100.0, 1000)
    assert known.all()
    assert np.abs(mv[1] - record.mv[1, ::5]).mean() < 0.05
    short = EcgRecord(np.where(np.arange(12)[:, None] < 6, record.mv[:, :2500], np.nan).astype(np.float32), 500.0)
    mv, known = on_clock(short, 500.0, 5000)
    assert known[:6, :2500].all()
    assert not known[:, 2500:].any()
    assert not known[6:].any()
    assert (mv[~known] == 0).all()  # masked, never tiled


def test_describe() -> None:
    rng = np.random.default_rng(0)
    base = EcgRecord(np.zeros((12, 10), np.float32), 100.0)
    said, group = describe(replace(base, codes=("IMI", "AFIB", "unheard-of")), rng)
    assert group == "AFIB IMI"
    assert said.index("fibrillat") < said.index("infarct") if "infarct" in said else "q waves" in said
    assert describe(replace(base, report="Sinus  rhythm, \n normal."), rng) == (
        "Sinus rhythm, normal.",
        "sinus rhythm, normal.",
    )
    assert describe(base, rng) == ("", "")
    both = {describe(replace(base, codes=("NORM",)), rng)[0] for _ in range(20)}
    assert len(both) > 1


def test_sources_that_cant_train() -> None:
    for sources, match in (
        ((), "no data"),
        (("paired:x",), "only measure"),
        (("nowhere:x",), "expected KIND:DIR"),
        (("wfdb:/no/such/folder",), "no such folder"),
    ):
        with pytest.raises(EcgscanError, match=match):
            training_refs(sources)
    assert training_refs(("synthetic",)) == []


def test_unusable_records_are_named_and_others_drawn(tiny_run, monkeypatch, caplog: pytest.LogCaptureFixture) -> None:
    class Ref:
        fold = 1

        def __init__(self, name: str) -> None:
            self.name = name

        def read(self) -> EcgRecord:
            from ecg.errors import RecordError

            if self.name == "broken":
                raise RecordError("broken.hea: no such record")
            return replace(heart(), name=self.name, codes=() if self.name == "mute" else ("SR",), report="")

    refs = [Ref("broken"), Ref("mute"), Ref("good")]
    monkeypatch.setattr("teacher.samples.training_refs", lambda *_: refs)
    source = Source(replace(tiny_run, data=replace(tiny_run.data, sources=("wfdb:x",))))
    rng = np.random.default_rng(0)
    with caplog.at_level(logging.WARNING):
        drawn = {source.draw(rng).name for _ in range(12)}
    assert drawn == {"good"}
    assert set(source.skipped) == {"broken", "mute"}
    assert "no such record" in caplog.text
    refs.pop()
    with pytest.raises(EcgscanError, match="in a row"):
        source.draw(rng)


@pytest.mark.skipif(not (DATA / "ptbxl").is_dir(), reason="PTB-XL isn't beside the repository")
def test_ptbxl_trains_without_the_held_out_folds(tiny_run: TeacherConfig, clocks: Clocks) -> None:
    pytest.importorskip("wfdb")
    refs: list[RecordRef] = training_refs((f"ptbxl:{DATA / 'ptbxl'}",))
    assert refs
    assert not [r for r in refs if r.fold in (9, 10)]
    config = replace(tiny_run, data=replace(tiny_run.data, sources=(f"ptbxl:{DATA / 'ptbxl'}",)))
    sample = make_sample(0, Source(config), config, clocks)
    assert sample.sentence
    assert len(LEADS) == sample.known.any(axis=1).sum()
