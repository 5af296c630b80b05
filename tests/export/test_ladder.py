"""The ladder: each rung refuses what it is for, in one line, and a bundle is written only when all hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="torch is what exports are held against")

from calibration.choose import Limit  # noqa: E402
from ecg.bundle import DataSource, TensorSpec, load_bundle  # noqa: E402
from ecg.errors import BundleError  # noqa: E402
from edge_runtime.engines import open_engine  # noqa: E402
from export import ladder  # noqa: E402
from export.build import BundleText, build_bundle, to_onnx  # noqa: E402
from export.jobs import NetJob  # noqa: E402

TEXT = BundleText("0.0", (DataSource("none", "none"),), extras={"findings": {"NORM": 0.5}})


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one = torch.nn.Conv2d(3, 8, 3, 2, 1)
        self.two = torch.nn.Conv2d(8, 2, 1)

    def forward(self, rgb):
        return self.two(torch.relu(self.one(rgb * (1 / 64.0) - 2.0)))


def small_job(**changes) -> NetJob:
    rng = np.random.default_rng(0)
    net = Small().eval()
    data = [{"rgb": rng.integers(0, 256, (1, 3, 16, 24), dtype=np.uint8)} for _ in range(4)]

    def figures(run) -> dict[str, float]:
        with torch.no_grad():
            want = [net(torch.from_numpy(d["rgb"].astype(np.float32))).numpy() for d in data]
        got = [run(d)[0] for d in data]
        off = float(np.mean([np.abs(a - b).mean() for a, b in zip(want, got, strict=True)]))
        return {"loss": off, "db": 20 - off}

    job = NetJob(
        "small", net, {"rgb": rng.uniform(0, 255, (1, 3, 32, 32)).astype(np.float32)},
        (TensorSpec("rgb", (1, 3, "height", "width"), "NCHW"),), (TensorSpec("maps", (1, 2, "h", "w"), "NCHW"),),
        sizes={"height": (16, 32, 64), "width": (16, 32, 64)}, multiple={"height": 8, "width": 8},
        calibration=lambda: data, figures=figures, limits=(Limit("db", 0.1),),
    )  # fmt: skip
    return replace(job, **changes)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return to_onnx(small_job(), tmp_path_factory.mktemp("onnx") / "small.onnx")


def test_a_good_net_climbs(plain) -> None:
    ladder.climb(small_job(), "onnx", plain)
    sizes = [d.dim_param or d.dim_value for d in plain.graph.input[0].type.tensor_type.shape.dim]
    assert sizes[:2] == [1, 3]
    assert all(isinstance(d, str) for d in sizes[2:])


def refused(job: NetJob, model, match: str, kind: str = "onnx", pictures=()) -> None:
    with pytest.raises(BundleError, match=match) as caught:
        ladder.climb(job, kind, model, pictures)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("the bundle is not written")


def test_names(plain) -> None:
    heat = small_job(outputs=(TensorSpec("heat", (1, 2, "h", "w"), "NCHW"),))
    refused(heat, plain, r"small.onnx: rung names does not hold: outputs are .*maps.*, the bundle wants .*heat")
    newer = onnx.ModelProto()
    newer.CopyFrom(plain)
    newer.ir_version = 11
    refused(small_job(), newer, "opset 18 and IR 11, at most 20, 10")


def test_shapes(plain) -> None:
    refused(small_job(outputs=(TensorSpec("maps", (1, 3, "h", "w"), "NCHW"),)), plain,
            r"rung shapes does not hold: maps is \(1, 2, 16, 16\)")  # fmt: skip


def test_values(plain) -> None:
    other = onnx.ModelProto()
    other.CopyFrom(plain)
    for stored in other.graph.initializer:
        values = onnx.numpy_helper.to_array(stored)
        if values.ndim == 4:
            stored.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(1.01), stored.name))
    refused(small_job(), other, r"rung values does not hold: maps differs from torch by 0.\d+ of its spread")
    for stored in other.graph.initializer:
        values = onnx.numpy_helper.to_array(stored)
        if values.ndim == 4:
            stored.CopyFrom(onnx.numpy_helper.from_array(values[::-1].copy(), stored.name))
    refused(small_job(), other, r"small.ort.onnx: rung values does not hold: maps has -?\d", "ort",
            list(small_job().calibration()))  # fmt: skip


def test_rules_of_the_signed_graph(plain, tmp_path: Path) -> None:
    made = build_bundle([small_job], tmp_path / "b", TEXT, int8=True)
    unsigned = onnx.load(str(made.net_path("small", "ort")))
    found = ladder.problems(unsigned)
    assert "input rgb is not float" in found
    assert any("is not int8" in line for line in found)
    assert any("holds int32 constants" in line for line in found)
    assert ladder.problems(onnx.load(str(made.net_path("small", "trt")))) == []


def test_an_int8_bundle(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "prompts.txt").write_text("sinus rhythm")
    text = replace(TEXT, files={"prompts": tmp_path / "prompts.txt"})
    made = build_bundle([small_job], tmp_path / "b", text, int8=True, say=said.append)
    again = load_bundle(tmp_path / "b", ("small",))
    assert again == made
    assert again.info.precision == "int8"
    assert again.extras == {"findings": {"NORM": 0.5}}
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["bundle.json", "prompts.txt", "small.ort.onnx",
                                                                  "small.trt.onnx"]  # fmt: skip
    spec = again.nets["small"]
    for kind, method in spec.quantisation["method"].items():
        assert any(line.strip().startswith(f"{kind}:") and line.endswith(method) for line in said)
    assert spec.quantisation["float_nodes"] == []
    assert spec.quantisation["figures"]["ort"]["db"] > 19.9
    assert spec.sizes == {"height": (16, 32, 64), "width": (16, 32, 64)}
    x = np.random.default_rng(2).integers(0, 256, (1, 3, 24, 40), dtype=np.uint8)
    with torch.no_grad():
        want = small_job().net(torch.from_numpy(x.astype(np.float32))).numpy()
    for kinds in (("ort",), ("trt",)):
        got = open_engine(again, "small", "ort", threads=1, kinds=kinds)(x)["maps"]
        assert np.abs(got - want).mean() < 0.03 * want.std()


def test_a_task_that_suffers_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "b"
    build_bundle([small_job], out, TEXT, int8=False)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    worse = iter(range(100))

    def figures(run) -> dict[str, float]:
        return {"loss": 0.0, "db": 20.0 - next(worse)}

    with pytest.raises(BundleError, match=r"small.ort.onnx: rung task does not hold: db is \d+, in float 20"):
        build_bundle([lambda: small_job(figures=figures)], out, TEXT, int8=True)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_a_net_that_nothing_calibrates_stays_in_float(tmp_path: Path) -> None:
    said: list[str] = []
    made = build_bundle([lambda: small_job(calibration=None)], tmp_path / "b", TEXT, int8=True, say=said.append)
    assert list(made.nets["small"].files) == ["onnx"]
    assert any("stays in float" in line for line in said)


def test_nets_that_a_run_has_not_come_from_a_base(tmp_path: Path) -> None:
    base = build_bundle([small_job, lambda: small_job(name="other")], tmp_path / "base", TEXT, int8=False)
    made = build_bundle([small_job], tmp_path / "b", TEXT, int8=True, base=base)
    assert list(made.nets) == ["small", "other"]
    assert made.nets["other"] == base.nets["other"]
    assert made.nets["small"].files.keys() == {"ort", "trt"}
    names = ["bundle.json", "other.onnx", "small.ort.onnx", "small.trt.onnx"]
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == names
    load_bundle(tmp_path / "b", ("small", "other"))
