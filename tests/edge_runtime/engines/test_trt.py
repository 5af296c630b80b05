"""TensorRT's engine at its seams, with stand-ins for TensorRT and the driver: never run on a GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_tensorrt import FakeCuda, fake_tensorrt

from ecg.bundle import DataSource, FileSpec, ModelBundle, NetSpec, TensorSpec, file_spec, write_bundle
from ecg.errors import BundleError, EcgscanError
from edge_runtime.engines import chosen, open_engine
from edge_runtime.engines import trt as engine_module
from edge_runtime.engines.cuda import Driver, Gpu
from edge_runtime.engines.trt import EngineKey, TrtEngine, build_engine, cache_dir, shapes

RGB = TensorSpec("rgb", (1, 3, "height", "width"), "NCHW")
OUT = TensorSpec("doubled", (1, 3, "height", "width"), "NCHW")
SIZES = {"height": (32, 64, 128), "width": (32, 96, 160)}


@pytest.fixture
def bundle(tmp_path: Path) -> ModelBundle:
    (tmp_path / "net.trt.onnx").write_bytes(b"a net")
    spec = NetSpec({"trt": file_spec(tmp_path / "net.trt.onnx", "int8")}, (RGB,), (OUT,), sizes=SIZES)
    return write_bundle(tmp_path, name="t", version="1", nets={"net": spec}, training_data=[DataSource("none", "none")])


def opened(bundle: ModelBundle, folder: Path, version: str = "10.3.0", cuda: FakeCuda | None = None, **options):
    """The engine, what the builder was asked, what was said."""
    trt, said = fake_tensorrt(version, **options), []
    engine = TrtEngine(bundle, "net", folder=folder, tensorrt=trt, driver=Driver(cuda or FakeCuda()), say=said.append)
    return engine, trt.asked, said


def test_runs_in_every_size(bundle: ModelBundle, tmp_path: Path) -> None:
    cuda = FakeCuda()
    engine, _, _ = opened(bundle, tmp_path / "kept", cuda=cuda)
    for size in (4, 9, 6):
        x = np.random.default_rng(size).random((1, 3, size, size + 1), dtype=np.float32)
        assert np.array_equal(engine(x)["doubled"], 2 * x)
        assert np.array_equal(engine({"rgb": (255 * x).astype(np.uint8)})["doubled"], 2.0 * (255 * x).astype(np.uint8))
    assert len(cuda.held) == 2  # grown once, kept for smaller pictures
    with pytest.raises(ValueError, match="lies outside"):
        engine(np.zeros((1, 3, 65, 4), np.float32))
    with pytest.raises(ValueError, match="has inputs"):
        engine({"bgr": np.zeros((1, 3, 4, 4), np.float32)})
    engine.close()
    assert cuda.held == {}
    assert cuda.calls[-1] == "cuDevicePrimaryCtxRelease_v2"


def test_built_once_for_this_tensorrt_and_gpu(bundle: ModelBundle, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    _, asked, said = opened(bundle, kept)
    assert ("build", str(tmp_path / "net.trt.onnx")) in asked
    assert said == ["net: building its engine for TensorRT 10.3.0 on Orin (SM87), once, minutes"]
    sha = bundle.nets["net"].files["trt"].sha256[:12]
    names = [f"net-{sha}-trt10.3.0-sm87-orin.engine", "timing-trt10.3.0-sm87-orin.cache"]
    assert sorted(p.name for p in kept.iterdir()) == names
    _, asked, said = opened(bundle, kept)
    assert asked == []
    assert said == []


@pytest.mark.parametrize(
    ("version", "cuda", "here"),
    [("10.7.0", FakeCuda(), "TensorRT 10.7.0 on Orin (SM87)"),
     ("10.3.0", FakeCuda(b"NVIDIA RTX A2000", (8, 6)), "TensorRT 10.3.0 on NVIDIA RTX A2000 (SM86)")],
)  # fmt: skip
def test_built_again_elsewhere(bundle: ModelBundle, tmp_path: Path, version: str, cuda: FakeCuda, here: str) -> None:
    kept = tmp_path / "kept"
    opened(bundle, kept)
    first = next(kept.glob("*.engine")).name
    _, _, said = opened(bundle, kept, version, cuda)
    assert said == [f"net: the kept engine {first} is another's; building it again for {here}, once, minutes"]
    assert len(list(kept.glob("*.engine"))) == 1
    assert "\n" not in said[0]


def test_a_damaged_engine_is_built_again(bundle: ModelBundle, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    opened(bundle, kept)
    next(kept.glob("*.engine")).write_bytes(b"cut off")
    _, _, said = opened(bundle, kept)
    assert len(said) == 1
    assert said[0].startswith("net: the kept engine can't be loaded; building it again")


def test_ten_takes_flags_and_eleven_is_strongly_typed(bundle: ModelBundle, tmp_path: Path) -> None:
    _, ten, _ = opened(bundle, tmp_path / "ten")
    assert ("network", 0) in ten
    assert [a for a in ten if a[0] == "flag"] == [("flag", "INT8"), ("flag", "FP16")]
    _, eleven, _ = opened(bundle, tmp_path / "eleven", "11.0.1")
    assert ("network", 2) in eleven
    assert not [a for a in eleven if a[0] == "flag"]
    least, usual, most = dict(a for a in eleven if a[0] == "profile")["profile"]["rgb"]
    assert (least, usual, most) == ((1, 3, 32, 32), (1, 3, 64, 96), (1, 3, 128, 160))


def test_kernels_timed_before_are_not_timed_again(bundle: ModelBundle, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    _, asked, _ = opened(bundle, kept)
    assert ("timings", b"") in asked
    next(kept.glob("*.engine")).unlink()
    _, asked, _ = opened(bundle, kept)
    assert ("timings", b"timings") in asked


def test_what_tensorrt_refuses_is_one_line(bundle: ModelBundle, tmp_path: Path) -> None:
    for refuses, match in (("parse", "can't read it .In node 3: unsupported by this"), ("build", "can't build it")):
        with pytest.raises(BundleError, match=match) as caught:
            opened(bundle, tmp_path / refuses, refuses=refuses)
        assert "\n" not in str(caught.value)
        assert "use --engine ort" in str(caught.value)
        assert not (tmp_path / refuses).exists()


def test_other_tensors_are_refused(bundle: ModelBundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="export the bundle again"):
        opened(bundle, tmp_path / "kept", outputs=("halved",))
    unsized = replace(bundle.nets["net"], sizes={})
    with pytest.raises(BundleError, match="names no sizes for height, width of rgb"):
        opened(replace(bundle, nets={"net": unsized}), tmp_path / "other")


def test_shapes_of_a_fixed_input() -> None:
    assert shapes(TensorSpec("x", (1, 36, 1000), "NCW"), {}) == ((1, 36, 1000),) * 3


def test_a_folder_that_cannot_be_written_costs_only_time(
    bundle: ModelBundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    engine, _, _ = opened(bundle, tmp_path / "file" / "kept")
    assert engine(np.ones((1, 3, 4, 4), np.float32))["doubled"].sum() == 96
    assert "set ECGSCAN_CACHE" in capsys.readouterr().err


def test_driver_tells_gpu_and_errors() -> None:
    assert Driver(FakeCuda()).gpu() == Gpu("Orin", 87)
    with pytest.raises(EcgscanError, match=r"finds no NVIDIA GPU .*cuInit gives error 100.*use --engine ort"):
        Driver(FakeCuda(broken="cuInit"))
    with pytest.raises(EcgscanError, match="cuMemAlloc_v2 gives error 100"):
        Driver(FakeCuda(broken="cuMemAlloc_v2")).allocate(4)


def test_without_a_driver_it_says_so(bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "driver_is_here", lambda: False)
    with pytest.raises(EcgscanError, match=r"needs an NVIDIA GPU and its driver.*use --engine ort"):
        open_engine(bundle, "net", "trt")


def test_where_engines_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ECGSCAN_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("ECGSCAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "ecgscan"
    key = EngineKey("decoder", "ab" * 32, "10.3.0", Gpu("NVIDIA GeForce RTX 4090", 89))
    assert key.file_name == "decoder-abababababab-trt10.3.0-sm89-nvidia_geforce_rtx_4090.engine"


def test_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    import edge_runtime.engines as engines

    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(engines, "driver_is_here", lambda: True)
    assert chosen() == "trt"
    monkeypatch.setattr(engines, "driver_is_here", lambda: False)
    assert chosen() == "ort"
    assert chosen("openvino") == "openvino"
    with pytest.raises(EcgscanError, match="give one of auto, ort, openvino, trt"):
        chosen("cuda")


def test_building_takes_the_file_of_the_wanted_kind(bundle: ModelBundle, tmp_path: Path) -> None:
    trt = fake_tensorrt()
    plan = build_engine(trt, tmp_path / "net.trt.onnx", bundle.nets["net"], None)
    assert plan == b"plan of 10.3.0"
    fp32 = replace(bundle.nets["net"], files={"ort": FileSpec("net.ort.onnx", "", 0)})
    with pytest.raises(BundleError, match="only as ort, not as trt or onnx"):
        opened(replace(bundle, nets={"net": fp32}), tmp_path)
