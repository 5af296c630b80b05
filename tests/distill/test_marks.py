import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from distill.cli import app
from distill.from_bundle import begin_with_bundle
from distill.mark_samples import LEAST_ON_TRACES, OTHER, PatchConfig, cut_patch, page_patches, spots, write_file
from distill.mark_train import MarkConfig, load_marks, train_marks
from distill.nets import MarkReader, StartReader
from ecg.bundle import load_bundle
from ecg.errors import InputError
from ecg.marks import PATCH_HEIGHT, PATCH_WIDTH, READ_KINDS, START_SIDE
from ecg.synth.heart import beat, random_heart
from ecg.synth.printer import random_page
from edge_runtime.engines import open_engine
from edge_runtime.reader import SHIPPED


def _page(seed: int, **given):
    rng = np.random.default_rng(seed)
    return random_page(rng, beat(random_heart(rng), 10.0, rng=rng), partial=False, **given), rng


def test_every_name_and_text_of_a_page_is_a_spot_at_its_place():
    page, rng = _page(3, layout="3x4+1", speed_mm_per_s=50.0, gain_mm_per_mv=5.0)
    found = spots(page, rng)
    for box in page.marks:
        kind = f"{box.kind}:{box.text}"
        if kind in READ_KINDS:
            centre = (box.x0_mm + box.x1_mm) / 2, (box.y0_mm + box.y1_mm) / 2
            assert (READ_KINDS.index(kind), *centre) in [s[:3] for s in found]
    assert any(s[0] == OTHER for s in found)


def test_long_texts_are_cut_out_anywhere_along_them():
    page, rng = _page(3, layout="3x4+1", speed_mm_per_s=50.0, gain_mm_per_mv=5.0)
    texts = [b for b in page.marks if b.kind in ("speed", "gain")]
    assert texts
    spread = {s[:3]: s[3] for s in spots(page, rng)}
    for box in texts:
        at = READ_KINDS.index(f"{box.kind}:{box.text}"), (box.x0_mm + box.x1_mm) / 2, (box.y0_mm + box.y1_mm) / 2
        assert spread[at] == pytest.approx(max(1.2, 0.2 * (box.x1_mm - box.x0_mm)))


def test_a_patch_shows_what_lies_in_its_middle():
    rgb = np.full((400, 1600, 3), 230, np.uint8)
    rgb[195:205, 795:805] = 0  # 1 mm of ink at (100, 25) mm
    dark = np.zeros((PATCH_HEIGHT, PATCH_WIDTH))
    rng = np.random.default_rng(0)
    for _ in range(24):
        patch = cut_patch(rgb, 8.0, 100.06, 25.06, rng).astype(float)
        dark += patch < np.median(patch) - 60
    y, x = (np.average(np.arange(n), weights=dark.sum(axis=a)) for n, a in ((PATCH_HEIGHT, 1), (PATCH_WIDTH, 0)))
    assert abs(y - (PATCH_HEIGHT - 1) / 2) < 1.5
    assert abs(x - (PATCH_WIDTH - 1) / 2) < 1.5


def test_a_place_beside_a_narrow_page_is_cut_out_too():
    page = np.full((200, 300, 3), 230, np.uint8)
    rng = np.random.default_rng(1)
    assert all((cut_patch(page, 8.0, 90.0, 10.0, rng) > 0).all() for _ in range(12))


def test_rendering_is_repeatable_and_training_goes_on_from_its_checkpoint(tmp_path):
    config = PatchConfig(tmp_path / "patches", files=1, pages=2, seed=5)
    config.out.mkdir()
    first = np.load(write_file(0, ([], []), config))["patch"]
    (config.out / "patches-00000.npz").unlink()
    assert np.array_equal(first, np.load(write_file(0, ([], []), config))["patch"])
    small = MarkConfig(config.out, tmp_path / "run", steps=2, batch=4, held_out=8)
    train_marks(small)
    before = load_marks(tmp_path / "run" / "marks.ckpt").head.weight.clone()
    train_marks(MarkConfig(config.out, tmp_path / "run", steps=4, batch=4, held_out=8))
    assert not torch.equal(before, load_marks(tmp_path / "run" / "marks.ckpt").head.weight)
    with pytest.raises(InputError, match="too few"):
        train_marks(MarkConfig(config.out, tmp_path / "other", steps=1))


def test_the_net_gives_a_score_for_each_kind_and_is_small():
    net = MarkReader().eval()
    assert net(torch.rand(2, 1, PATCH_HEIGHT, PATCH_WIDTH) * 255).shape == (2, len(READ_KINDS))
    assert sum(p.numel() for p in net.parameters()) < 300_000


@pytest.mark.parametrize(("name", "what", "net", "shape"), [
    ("mark_reader", "marks", MarkReader, (3, 1, PATCH_HEIGHT, PATCH_WIDTH)),
    ("start_reader", "starts", StartReader, (3, 3, START_SIDE, START_SIDE)),
])  # fmt: skip
def test_readers_of_patches_begin_as_the_bundle_has_them(name, what, net, shape):
    """Their linear layers too come back from the bundle's 8 bits."""
    made = net().eval()
    begin_with_bundle(made, what, SHIPPED)
    seen = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    (told,) = open_engine(load_bundle(SHIPPED), name, "ort", threads=1)(seen).values()
    with torch.no_grad():
        said = made(torch.from_numpy(seen)).numpy()
    assert np.corrcoef(said.ravel(), told.ravel())[0, 1] > 0.99


def test_a_run_begins_with_a_bundle(tmp_path):
    config = PatchConfig(tmp_path / "patches", files=1, pages=3, seed=5, lone_share=1.0)
    config.out.mkdir()
    write_file(0, ([], []), config)
    train_marks(MarkConfig(config.out, tmp_path / "run", steps=1, batch=4, lr=0.0, held_out=8, begin=SHIPPED))
    bundles = MarkReader()
    begin_with_bundle(bundles, "marks", SHIPPED)
    assert torch.allclose(bundles.head.weight, load_marks(tmp_path / "run" / "marks.ckpt").head.weight)


def test_many_strokes_of_a_lone_row_are_shown_as_no_names():
    page, rng = _page(4, layout="1x1-II")
    on_trace = [s for s in spots(page, rng) if s[0] == OTHER]
    assert len(on_trace) >= LEAST_ON_TRACES


def test_rare_texts_are_cut_several_times():
    page, rng = _page(8, layout="3x4+1", speed_mm_per_s=50.0, gain_mm_per_mv=20.0)
    _, kinds = page_patches(page, rng)
    texts = sum(f"{b.kind}:{b.text}" in ("speed:50", "gain:20") for b in page.marks)
    assert sum(READ_KINDS[k] in ("speed:50", "gain:20") for k in kinds) == 4 * texts


def test_no_patches_end_in_one_line(tmp_path):
    empty = tmp_path / "none"
    empty.mkdir()
    result = CliRunner().invoke(app, ["--part", "mark-reader", "--shards", str(empty), "--out", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert "run ecgscan-distill render-marks first" in result.output
