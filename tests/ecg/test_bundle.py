"""A bundle loads as it was written, and every way of being wrong is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ecg.bundle import (
    BUNDLE_FILE,
    DataSource,
    ModelBundle,
    TensorSpec,
    file_hash,
    file_spec,
    load_bundle,
    net_spec,
    write_bundle,
)
from ecg.errors import BundleError

NETS = ("finder", "decoder")


@pytest.fixture
def bundle(tmp_path: Path) -> ModelBundle:
    nets = {}
    for name in NETS:
        (tmp_path / f"{name}.onnx").write_bytes(name.encode() * 100)
        nets[name] = net_spec(
            tmp_path / f"{name}.onnx",
            [TensorSpec("rgb", (1, 3, "height", "width"), "NCHW", scale=1 / 255, mean=(0.5,) * 3, std=(0.25,) * 3)],
            [TensorSpec("maps", (1, 2, "height", "width"), "NCHW", channels=("paper", "trace"))],
            n_parameters=7,
            settings={"px_per_mm": 4.0},
        )
    data = [DataSource("PTB-XL 1.0.3", "CC BY 4.0", "training")]
    (tmp_path / "prompts.txt").write_text("sinus rhythm")
    return write_bundle(tmp_path, name="test", version="3", nets=nets, training_data=data, thresholds={"page": 0.5},
                        extras={"findings": {"NORM": 0.4}},
                        files={"prompts": file_spec(tmp_path / "prompts.txt")})  # fmt: skip


def test_round_trip(bundle: ModelBundle, tmp_path: Path) -> None:
    again = load_bundle(tmp_path, NETS)
    assert again == bundle
    assert again.info.version == "3"
    assert again.info.sha256 == file_hash(tmp_path / BUNDLE_FILE)[1]
    assert again.nets["finder"].inputs[0].shape == (1, 3, "height", "width")
    assert again.net_path("decoder").read_bytes() == b"decoder" * 100
    assert again.thresholds == {"page": 0.5}
    assert sorted(p.name for p in tmp_path.iterdir()) == [BUNDLE_FILE, "decoder.onnx", "finder.onnx", "prompts.txt"]
    assert again.extras == {"findings": {"NORM": 0.4}}
    assert again.info.precision == "fp32"


def fails(path: Path, match: str, nets: tuple[str, ...] = NETS) -> None:
    with pytest.raises(BundleError, match=match) as caught:
        load_bundle(path, nets)
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value)


def edited(path: Path, **changes: object) -> None:
    document = json.loads((path / BUNDLE_FILE).read_text())
    document.update(changes)
    (path / BUNDLE_FILE).write_text(json.dumps(document))


def test_a_changed_byte(bundle: ModelBundle, tmp_path: Path) -> None:
    raw = bytearray((tmp_path / "decoder.onnx").read_bytes())
    raw[17] ^= 1
    (tmp_path / "decoder.onnx").write_bytes(raw)
    fails(tmp_path, "differs from bundle.json")


def test_a_changed_file_beside_the_nets(bundle: ModelBundle, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("sinus rhytm")
    fails(tmp_path, "differs from bundle.json")


def test_a_kind_that_a_net_has_not(bundle: ModelBundle) -> None:
    assert bundle.net_path("finder", "trt", "onnx").name == "finder.onnx"
    with pytest.raises(BundleError, match="only as onnx, not as trt; use another --engine"):
        bundle.net_path("finder", "trt")


def test_missing_pieces(bundle: ModelBundle, tmp_path: Path) -> None:
    fails(tmp_path, "has no net 'encoder'", (*NETS, "encoder"))
    (tmp_path / "finder.onnx").unlink()
    fails(tmp_path, "missing")
    (tmp_path / BUNDLE_FILE).unlink()
    fails(tmp_path, "no bundle.json")


def test_other_formats(bundle: ModelBundle, tmp_path: Path) -> None:
    edited(tmp_path, format_version=3)
    fails(tmp_path, "bundle format 3, this ecgscan reads 2; update ecgscan")
    edited(tmp_path, format_version=1)
    fails(tmp_path, "export the bundle again")
    edited(tmp_path, format="else")
    fails(tmp_path, "not an ecgscan bundle")
    (tmp_path / BUNDLE_FILE).write_text("{")
    fails(tmp_path, "not JSON")
    (tmp_path / BUNDLE_FILE).write_text("[1]")
    fails(tmp_path, "not an ecgscan bundle")


@pytest.mark.parametrize(
    "key", ["name", "version", "nets", "thresholds", "training_data", "licence", "extras", "files"]
)
def test_an_entry_that_is_not_there(bundle: ModelBundle, tmp_path: Path, key: str) -> None:
    document = json.loads((tmp_path / BUNDLE_FILE).read_text())
    del document[key]
    (tmp_path / BUNDLE_FILE).write_text(json.dumps(document))
    fails(tmp_path, f"incomplete .*{key}")


def test_a_file_outside_the_bundle(bundle: ModelBundle, tmp_path: Path) -> None:
    nets = json.loads((tmp_path / BUNDLE_FILE).read_text())["nets"]
    nets["finder"]["files"]["onnx"]["file"] = "../finder.onnx"
    edited(tmp_path, nets=nets)
    fails(tmp_path, "outside the bundle")
