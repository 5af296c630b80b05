"""The model bundle: a folder with ``bundle.json`` and the nets that it names, checked before anything runs.

``bundle.json`` holds the format version, name and version; per net its file, size, sha256, precision, parameters and
tensors (name, shape, layout, scaling); thresholds; the training data with licences; the licence of the weights.  The
bundle's own hash is the sha256 of ``bundle.json``, which covers every file through its hash.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from ecg.errors import BundleError
from ecg.page import BundleInfo

FORMAT: Final = "ecgscan.bundle"
FORMAT_VERSION: Final = 1
BUNDLE_FILE: Final = "bundle.json"
READER_NETS: Final = ("finder_coarse", "finder_fine", "decoder")
_AGAIN: Final = "install ecgscan again or name another folder with --bundle"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a net.

    ``shape`` has a number, or a name where the size is free ("height").  ``layout`` names the axes ("NCHW").
    An input pixel or value v enters the net as ``(v * scale - mean) / std``, per channel.
    """

    name: str
    shape: tuple[int | str, ...]
    layout: str
    dtype: str = "float32"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channels: tuple[str, ...] = ()  # what each channel of an output says


@dataclass(frozen=True)
class NetSpec:
    """One net: its file inside the bundle and its tensors; ``settings`` are figures its user needs (px per mm, ...)."""

    file: str
    sha256: str
    n_bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    precision: str = "fp32"
    n_parameters: int = 0
    settings: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class DataSource:
    """What the nets were trained on."""

    name: str
    licence: str
    use: str = ""


@dataclass(frozen=True)
class ModelBundle:
    """A checked bundle. ``nets`` by name; ``thresholds`` by the name of what they decide."""

    info: BundleInfo
    name: str
    nets: dict[str, NetSpec]
    thresholds: dict[str, float]
    training_data: tuple[DataSource, ...]
    licence: str
    notes: str = ""

    def net_path(self, net: str) -> Path:
        """The file of a net; raises ``BundleError`` where the bundle has no such net."""
        return self.info.path / self.spec(net).file

    def spec(self, net: str) -> NetSpec:
        """What the bundle says of a net; raises ``BundleError`` where it has no such net."""
        if net not in self.nets:
            raise BundleError(f"{self.info.path}: has no net {net!r}, only {', '.join(sorted(self.nets))}; {_AGAIN}")
        return self.nets[net]


def load_bundle(path: Path, nets: Iterable[str] = READER_NETS) -> ModelBundle:
    """Read ``bundle.json`` and check every file against it.

    Raises ``BundleError`` in one line: no bundle, another or a newer format, a net of ``nets`` missing, a file
    missing or changed.
    """
    raw = _read(path)
    document = _document(raw, path)
    try:
        bundle = _parsed(document, path, hashlib.sha256(raw).hexdigest())
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        cause = f"no entry {err}" if isinstance(err, KeyError) else str(err)
        raise BundleError(f"{path / BUNDLE_FILE}: incomplete ({cause}); {_AGAIN}") from err
    for name in nets:
        bundle.spec(name)
    for spec in bundle.nets.values():
        _check_file(path, spec)
    return bundle


def _read(path: Path) -> bytes:
    try:
        return (path / BUNDLE_FILE).read_bytes()
    except OSError as err:
        raise BundleError(f"{path}: no {BUNDLE_FILE} there ({err.strerror or err}); {_AGAIN}") from err


def _document(raw: bytes, path: Path) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except ValueError as err:
        raise BundleError(f"{path / BUNDLE_FILE}: not JSON; {_AGAIN}") from err
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BundleError(f"{path / BUNDLE_FILE}: not an ecgscan bundle; {_AGAIN}")
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        todo = "update ecgscan" if newer else "export the bundle again with ecgscan-export"
        raise BundleError(f"{path / BUNDLE_FILE}: bundle format {version}, this ecgscan reads {FORMAT_VERSION}; {todo}")
    return document


def _parsed(document: Mapping[str, Any], path: Path, sha256: str) -> ModelBundle:
    return ModelBundle(
        info=BundleInfo(path, str(document["version"]), sha256),
        name=str(document["name"]),
        nets={str(name): _net(entry) for name, entry in document["nets"].items()},
        thresholds={str(k): float(v) for k, v in document["thresholds"].items()},
        training_data=tuple(DataSource(**entry) for entry in document["training_data"]),
        licence=str(document["licence"]),
        notes=str(document.get("notes", "")),
    )


def _net(entry: Mapping[str, Any]) -> NetSpec:
    file = str(entry["file"])
    if Path(file).name != file:
        raise ValueError(f"net file {file!r} lies outside the bundle")
    return NetSpec(
        file=file,
        sha256=str(entry["sha256"]),
        n_bytes=int(entry["n_bytes"]),
        inputs=tuple(_tensor(t) for t in entry["inputs"]),
        outputs=tuple(_tensor(t) for t in entry["outputs"]),
        precision=str(entry["precision"]),
        n_parameters=int(entry["n_parameters"]),
        settings={str(k): float(v) for k, v in entry.get("settings", {}).items()},
    )


def _tensor(entry: Mapping[str, Any]) -> TensorSpec:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    return TensorSpec(**fields)


def _check_file(path: Path, spec: NetSpec) -> None:
    file = path / spec.file
    try:
        n_bytes, sha256 = file_hash(file)
    except OSError as err:
        raise BundleError(f"{file}: named in {BUNDLE_FILE} but missing ({err.strerror or err}); {_AGAIN}") from err
    if (n_bytes, sha256) != (spec.n_bytes, spec.sha256):
        raise BundleError(
            f"{file}: differs from {BUNDLE_FILE} ({n_bytes} bytes, sha256 {sha256[:12]}, expected {spec.n_bytes}, "
            f"{spec.sha256[:12]}); {_AGAIN}"
        )


def file_hash(file: Path) -> tuple[int, str]:
    """Size in bytes and sha256 of a file."""
    data = file.read_bytes()
    return len(data), hashlib.sha256(data).hexdigest()


def net_spec(
    file: Path,
    inputs: Iterable[TensorSpec],
    outputs: Iterable[TensorSpec],
    *,
    precision: str = "fp32",
    n_parameters: int = 0,
    settings: Mapping[str, float] | None = None,
) -> NetSpec:
    """The entry of a net whose file already lies in the bundle's folder."""
    n_bytes, sha256 = file_hash(file)
    return NetSpec(
        file.name, sha256, n_bytes, tuple(inputs), tuple(outputs), precision, n_parameters, dict(settings or {})
    )  # fmt: skip


def write_bundle(
    path: Path,
    *,
    name: str,
    version: str,
    nets: Mapping[str, NetSpec],
    training_data: Iterable[DataSource],
    licence: str = "Apache-2.0",
    thresholds: Mapping[str, float] | None = None,
    notes: str = "",
) -> ModelBundle:
    """Write ``bundle.json`` beside the nets, whole or not at all, and load it back as its user will."""
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": name,
        "version": version,
        "licence": licence,
        "nets": {net: asdict(spec) for net, spec in nets.items()},
        "thresholds": dict(thresholds or {}),
        "training_data": [asdict(source) for source in training_data],
        "notes": notes,
    }
    temporary = path / f".{BUNDLE_FILE}-{secrets.token_hex(6)}"
    try:
        temporary.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(temporary, path / BUNDLE_FILE)
    finally:
        temporary.unlink(missing_ok=True)
    return load_bundle(path, nets)
