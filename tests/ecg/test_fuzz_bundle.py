"""Broken bundles: loaded or refused in one line, never anything else."""

from __future__ import annotations

import copy
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecg.bundle import BUNDLE_FILE, TensorSpec, file_spec, load_bundle, net_spec, write_bundle
from ecg.errors import BundleError

SEED = 20261122
NETS = ("finder", "decoder")
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, 1.5, float("inf"), float("nan"), "", "x", "..", "a/b", "a\nb", "a\0b", "\ud800", [], {},
    [[]], [1], {"a": {}}, "finder.onnx", BUNDLE_FILE,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    nets = {}
    for name in NETS:
        (tmp_path / f"{name}.onnx").write_bytes(name.encode() * 50)
        nets[name] = net_spec(tmp_path / f"{name}.onnx", [TensorSpec("rgb", (1, 3, "h", "w"), "NCHW")],
                              [TensorSpec("maps", (1, 2, "h", "w"), "NCHW", channels=("a", "b"))],
                              settings={"px_per_mm": 4.0})  # fmt: skip
    (tmp_path / "prompts.txt").write_text("sinus rhythm")
    write_bundle(tmp_path, name="test", version="3", nets=nets, training_data=[], thresholds={"page": 0.5},
                 files={"prompts": file_spec(tmp_path / "prompts.txt")})  # fmt: skip
    return tmp_path


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything inside a document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for k, v in inside for p in places(v, (*path, k)))]


def odd_document(rng: np.random.Generator, document: dict) -> bytes:
    """Entries replaced, removed or moved elsewhere."""
    out = copy.deepcopy(document)
    for _ in range(int(rng.integers(1, 4))):
        known = places(out)[1:]
        if not known:
            break
        *way, last = known[int(rng.integers(0, len(known)))]
        parent = out
        for key in way:
            parent = parent[key]
        if rng.random() < 0.25:
            del parent[last]
        elif rng.random() < 0.2:
            other = out
            for key in known[int(rng.integers(0, len(known)))]:
                other = other[key]
            parent[last] = copy.deepcopy(other)
        else:
            parent[last] = copy.deepcopy(ODD[int(rng.integers(0, len(ODD)))])
    return json.dumps(out).encode()


def odd_bytes(rng: np.random.Generator, raw: bytes) -> bytes:
    """Bytes flipped, cut, repeated."""
    out = bytearray(raw)
    for _ in range(int(rng.integers(1, 6))):
        at, span, what = int(rng.integers(0, len(out) or 1)), int(rng.integers(1, 60)), int(rng.integers(0, 4))
        if what == 0 and out:
            out[at] = int(rng.integers(0, 256))
        elif what == 1:
            del out[at : at + span]
        elif what == 2:
            out[at:at] = out[at : at + span] * int(rng.integers(1, 2000))
        elif rng.random() < 0.3:
            del out[at:]
    return bytes(out)


def read_mutants(folder: Path, count: int) -> None:
    raw = (folder / BUNDLE_FILE).read_bytes()
    document = json.loads(raw)
    seen: Counter[str] = Counter()
    for k in range(count):
        rng = np.random.default_rng([SEED, k])
        (folder / BUNDLE_FILE).write_bytes(odd_bytes(rng, raw) if k % 3 == 0 else odd_document(rng, document))
        start = time.process_time()
        message = ""
        try:
            load_bundle(folder, NETS)
        except BundleError as err:
            message = str(err)
        except Exception as err:
            pytest.fail(f"mutant {k}: {type(err).__name__}: {err}")
        assert time.process_time() - start < 5.0, f"mutant {k}"
        assert message.isprintable(), f"mutant {k}: {message!r}"
        assert len(message) < 600, f"mutant {k}: {message}"
        seen["refused" if message else "loaded"] += 1
    assert seen["refused"] > count / 2
    assert seen["loaded"] > count / 50


def test_some_hundred_broken_bundles(folder: Path) -> None:
    read_mutants(folder, 600)


@pytest.mark.nightly
def test_ten_thousand_broken_bundles(folder: Path) -> None:
    read_mutants(folder, 10_000)


@pytest.mark.parametrize(
    "raw",
    [b"[" * 200_000, b'{"a":' * 100_000, b"\xff\xfe", b"9" * 10_000, b"\0" * 1000, b"{}" * 1000],
    ids=["nested lists", "nested objects", "no text", "a long number", "zeros", "many"],
)
def test_documents_that_break_parsers(folder: Path, raw: bytes) -> None:
    (folder / BUNDLE_FILE).write_bytes(raw)
    with pytest.raises(BundleError, match="not"):
        load_bundle(folder, NETS)
