from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from distill.findings_run import calibrated, write_prompts
from distill.readings import gather, printed, reading_arrays, whole_page_shot
from distill.signal_path import EXAMPLE_SHAPE, SignalNet, SignalNetConfig, filter_bank, load_signal_net
from distill.signal_path_data import Signals, as_read, layout_mask, load_signals, random_mask, save_signals, signals_of
from distill.signal_path_train import (
    DistilLoss,
    SignalTrainConfig,
    count_prompts,
    features_of,
    figures,
    predict,
    predict_features,
    save_run,
    simulated,
    table,
    train_heads,
)
from distill.text_space import (
    TextSpace,
    embedded,
    load_space,
    prompt_table,
    read_prompts,
    save_space,
    teacher_space,
    with_prompts,
)
from ecg.errors import InputError
from ecg.findings import FINDING_CODES, FINDINGS, SUPERCLASSES
from ecg.layouts import LAYOUTS
from ecg.page import Unreadable
from ecg.readings import Readings, load_readings
from ecg.records import EcgRecord
from ecg.synth.heart import beat, random_heart
from teacher.embed import Targets

NET = SignalNetConfig(banks=((4, 1, 1), (4, 4, 4)), hidden=8, embedding=16)


@pytest.fixture(scope="module")
def signals() -> Signals:
    rng = np.random.default_rng(0)
    return signals_of([beat(random_heart(rng), 10.0, rng=rng) for _ in range(24)])


@pytest.fixture(scope="module")
def space() -> TextSpace:
    rng = np.random.default_rng(1)
    sets = {c: (c, f"{c} again") for c in (*FINDING_CODES, *(f"class:{s}" for s in SUPERCLASSES))}
    return embedded("made up", sets, lambda s: rng.normal(size=(len(s), 16)).astype(np.float32), centred=True)


def test_masks_print_what_layouts_say() -> None:
    mask = layout_mask(LAYOUTS["3x4+1"], 10.0)
    assert mask[1].all()
    assert mask[0, :250].all()
    assert not mask[0, 250:].any()
    assert mask[11, 750:].all()
    rng = np.random.default_rng(0)
    assert all(random_mask(rng).any() for _ in range(50))


def test_as_read_keeps_shape_and_leaves_out(signals: Signals) -> None:
    out = as_read(signals.mv[0], True, np.random.default_rng(4))
    known = np.isfinite(out)
    assert out.shape == (12, 1000)
    assert out.dtype == np.float32
    assert 0.05 < known.mean() < 1
    assert np.corrcoef(out[1][known[1]], signals.mv[0, 1][known[1]])[0, 1] > 0.3


def test_what_is_unknown_does_not_matter_to_the_net() -> None:
    net = SignalNet(NET).eval()
    x = torch.zeros(EXAMPLE_SHAPE)
    x[0, 3, :500], x[0, 15, :500] = torch.randn(500), 1.0
    logits, embedding = net(x)
    assert logits.shape == (1, len(FINDINGS))
    assert embedding.shape == (1, 16)
    features = net.features(x)
    assert features.shape == (1, NET.n_features)
    longer = torch.cat([x[:, :, 100:], torch.zeros(1, 36, 100)], dim=2)
    assert torch.isfinite(net.features(longer)).all()


def test_a_bank_of_groups_is_the_plain_filter() -> None:
    bank = filter_bank(3, 0.5, torch.Generator().manual_seed(1))
    x = torch.randn(1, 40)
    laid = bank(x.reshape(1, 1, 10, 4).permute(0, 3, 1, 2))
    own = bank.weight[::4].reshape(3, 4, 3).permute(0, 2, 1).reshape(3, 1, 12)[..., :9]
    plain = torch.nn.functional.conv1d(x[None], own, bank.bias[::4], padding=4)
    woven = laid.reshape(3, 4, 10).permute(0, 2, 1).reshape(3, 40)
    np.testing.assert_allclose(woven.detach(), plain[0].detach(), atol=1e-5)


def test_nets_of_another_version_are_refused(tmp_path: Path) -> None:
    torch.save({"config": {"length": 9}, "net": {}}, tmp_path / "findings.ckpt")
    with pytest.raises(InputError, match="train it anew"):
        load_signal_net(tmp_path / "findings.ckpt")


def test_default_net_stays_small() -> None:
    assert sum(p.numel() for p in SignalNet().parameters()) < 2e6


def test_training_fits_and_the_run_comes_back(signals: Signals, space: TextSpace, tmp_path: Path) -> None:
    config = SignalTrainConfig(net=NET, epochs=60, batch=16)
    net = SignalNet(NET)
    mv = simulated(signals, 0)
    heads = train_heads(table([features_of(net.features, mv)], signals, space), space, config)
    path = save_run(heads, config, space, signals, tmp_path)
    loaded = load_signal_net(path)
    logits, embedding = predict(loaded, mv)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-5)
    again, _ = predict(loaded, mv[:1])
    np.testing.assert_allclose(again, logits[:1], atol=1e-4)
    assert figures(logits, embedding, signals.target, space)["NORM"] > 0.8


def test_signals_and_spaces_come_back(signals: Signals, space: TextSpace, tmp_path: Path) -> None:
    save_signals(signals, tmp_path / "s.npz")
    loaded = load_signals(tmp_path / "s.npz")
    assert loaded.codes == signals.codes
    np.testing.assert_allclose(loaded.mv, signals.mv, atol=2e-3)
    save_space(space, tmp_path / "t.npz")
    np.testing.assert_array_equal(load_space(tmp_path / "t.npz").of("AFIB"), space.of("AFIB"))
    assert prompt_table(space)["codes"].tolist() == list(FINDINGS)
    with pytest.raises(InputError, match="text space"):
        load_space(tmp_path / "s.npz")


def test_own_prompts_are_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("# mine\n\nbrugada: coved st elevation in v1 | brugada pattern\n", encoding="utf-8")
    assert read_prompts(path) == {"brugada": ("coved st elevation in v1", "brugada pattern")}
    path.write_text("no colon here\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 1"):
        read_prompts(path)


def test_the_embedding_comes_to_the_teachers(signals: Signals, space: TextSpace) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(4, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"r{k}" for k in range(len(signals))]
    named = replace(signals, name=np.array(names))
    taught = {name: vectors[k % 4] for k, name in enumerate(names) if k}
    net = SignalNet(NET)
    rows = table([features_of(net.features, simulated(named, 0))], named, space, taught=taught)
    assert not rows.taught[0].any()
    config = SignalTrainConfig(net=NET, epochs=150, batch=24, lr=3e-3, cosine=5.0)
    loss = DistilLoss(space, config)
    assert float(loss(torch.from_numpy(rows.taught[1:]), torch.from_numpy(rows.taught[1:]))) < 1e-4
    assert float(loss(torch.randn(2, 16), torch.zeros(2, 16))) == 0

    def near(chosen: SignalTrainConfig) -> float:
        out = predict_features(train_heads(rows, space, chosen), rows.features)[1]
        return float((out * rows.taught)[1:].sum(axis=1).mean())

    assert near(config) > 0.3
    assert near(config) > near(replace(config, cosine=0.0, relational=0.0, scores=0.0)) + 0.2


def test_prompts_count_in_the_superclasses_logits(space: TextSpace) -> None:
    heads = SignalNet(NET).eval().heads
    features = torch.randn(3, NET.n_features)
    before, embedding = predict_features(heads, features.numpy())
    count_prompts(heads, space, 2.0)
    after, _ = predict_features(heads, features.numpy())
    text = np.stack([space.of(f"class:{c}") for c in SUPERCLASSES])
    np.testing.assert_allclose((after - before)[:, :5], 2 * embedding @ text.T, atol=1e-4)
    np.testing.assert_array_equal(after[:, 5:], before[:, 5:])


def _targets(space: TextSpace) -> Targets:
    head = torch.nn.Sequential(torch.nn.LayerNorm(8), torch.nn.Linear(8, 6), torch.nn.GELU(), torch.nn.Linear(6, 16))
    concepts = [c.removeprefix("class:") for c in space.vectors]
    return Targets(
        record=np.array(["a"]), source=np.array(["ptbxl"]), fold=np.array([1]), codes=((),), superclasses=((),),
        image=np.zeros((1, 1, 16), np.float32), signal=np.zeros((1, 16), np.float32),
        printed=np.zeros((1, 16), np.float32), sentence=np.array(["?"] * 2 * len(concepts)),
        sentence_concept=np.repeat(concepts, 2), text=np.concatenate(list(space.vectors.values())),
        concept=np.array(concepts), concept_vector=np.zeros((len(concepts), 16), np.float32),
        teacher="0123456789abcdef", text_head={k: v.numpy() for k, v in head.state_dict().items()},
    )  # fmt: skip


def test_the_teachers_space_takes_sentences_of_ones_own(
    space: TextSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = _targets(space)
    save_space(teacher_space(targets), tmp_path / "t.npz")
    loaded = load_space(tmp_path / "t.npz")
    assert loaded.name == "teacher 0123456789ab"
    np.testing.assert_array_equal(loaded.vectors["class:MI"], space.vectors["class:MI"])
    said = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    encoder = SimpleNamespace(embed=lambda sentences: said[: len(sentences)])
    monkeypatch.setattr("teacher.encoders.text.load_minilm", lambda: encoder)
    own = with_prompts(loaded, {"brugada": ("one", "two")}).vectors["brugada"]
    head = torch.nn.Sequential(torch.nn.LayerNorm(8), torch.nn.Linear(8, 6), torch.nn.GELU(), torch.nn.Linear(6, 16))
    head.load_state_dict({k: torch.from_numpy(v) for k, v in targets.text_head.items()})
    wanted = torch.nn.functional.normalize(head(said), dim=1).detach().numpy()
    np.testing.assert_allclose(own, wanted, atol=1e-5)
    with pytest.raises(InputError, match="of your own need"):
        with_prompts(replace(loaded, head={}), {"brugada": ("one",)})
    with pytest.raises(InputError, match="order"):
        teacher_space(replace(targets, sentence_concept=targets.sentence_concept[:-2]))


def _readings(signals: Signals, tmp_path: Path) -> Readings:
    mv, paths = simulated(signals, 0), []
    for k in range(len(signals)):
        row = reading_arrays(Unreadable("layout", "layout_unknown", ""), np.zeros((4, 4, 3), np.uint8))
        row |= {"mv": mv[k].astype(np.float16), "status": np.array("read" if k else "layout/layout_unknown"),
                "codes": np.array(" ".join(signals.codes[k])), "superclasses": np.array(""),
                "record": signals.name[k], "source": np.array("ptbxl"), "fold": np.array(8),
                "condition": np.array("photo"), "true_mv": np.array(True)}  # fmt: skip
        paths.append(tmp_path / f"{k}.npz")
        np.savez(paths[-1], **row)
    return load_readings(gather(paths, tmp_path / "all.npz", lambda line: None))


def test_run_is_calibrated_on_readings(signals: Signals, space: TextSpace, tmp_path: Path) -> None:
    readings = _readings(signals, tmp_path)
    assert readings.read.sum() == len(signals) - 1
    assert not readings.page(0).any()
    config = SignalTrainConfig(net=NET, epochs=1)
    rows = table([features_of(SignalNet(NET).features, readings.mv)], signals, space)
    save_run(train_heads(rows, space, config), config, space, signals, tmp_path)
    rules = calibrated(tmp_path, readings.part(readings.read))
    assert [r["code"] for r in rules["findings"]] == list(FINDINGS)
    save_space(space, tmp_path / "space.npz")
    with np.load(write_prompts(tmp_path)) as file:
        assert file["vectors"].shape == (len(FINDINGS), 16)


def test_what_is_printed_does_not_depend_on_labels() -> None:
    mv = np.random.default_rng(0).normal(size=(12, 5000)).astype(np.float32)
    plain = EcgRecord(mv, 500.0, name="a", true_mv=False)
    coded = EcgRecord(mv, 500.0, name="a", codes=("LVH", "CLBBB"), superclasses=("HYP",), report="lvh", true_mv=False)
    one, two = (printed(r, np.random.default_rng(7)) for r in (plain, coded))
    np.testing.assert_array_equal(one.rgb, two.rgb)


def test_shots_show_the_whole_page() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        x0, _, x1, _ = whole_page_shot(rng, 1000).view.window
        assert x1 - x0 > 0.86
