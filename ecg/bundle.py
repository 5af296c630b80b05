"""The model bundle: a folder with ``bundle.json`` and the nets that it names, checked before anything runs.

``bundle.json`` holds the format version, name and version; per net its files (one a kind of engine) with size, sha256
and precision, its parameters and tensors (name, shape, layout, scaling); thresholds; other files and what else a user
of the nets needs (``extras``: prompts, calibration of findings); the training data with licences; the licence of the
weights.  The bundle's own hash is the sha256 of ``bundle.json``, which covers every file through its hash.

Kinds of files: ``onnx`` in float, for any engine; ``ort`` Q/DQ with unsigned activations, which onnxruntime and
OpenVINO run on 8 bits; ``trt`` Q/DQ symmetric and signed, which TensorRT runs on 8 bits.
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
FORMAT_VERSION: Final = 2
BUNDLE_FILE: Final = "bundle.json"
KINDS: Final = ("onnx", "ort", "trt")
READER_NETS: Final = ("finder_coarse", "finder_fine", "decoder")
MAX_DOCUMENT_BYTES: Final = 20_000_000
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
class FileSpec:
    """A file inside the bundle; of a net's file also the precision that it computes with."""

    file: str
    sha256: str
    n_bytes: int
    precision: str = ""


@dataclass(frozen=True)
class NetSpec:
    """One net: its files by kind, its tensors; ``settings`` are figures its user needs (px per mm, ...).

    ``sizes``: least, usual and largest value of each free size.  ``quantisation``: how the 8-bit files came about
    (method, nodes kept in float, what it cost on held-out samples).
    """

    files: dict[str, FileSpec]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    n_parameters: int = 0
    settings: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    quantisation: dict[str, Any] = field(default_factory=dict)

    @property
    def n_bytes(self) -> int:
        """All its files together."""
        return sum(f.n_bytes for f in self.files.values())


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
    extras: dict[str, Any] = field(default_factory=dict)
    files: dict[str, FileSpec] = field(default_factory=dict)

    def net_path(self, net: str, *kinds: str) -> Path:
        """The file of a net in the first of ``kinds`` that it has (of ``KINDS`` if none is named).

        Raises ``BundleError`` where the bundle has no such net, or not in one of the kinds.
        """
        spec = self.spec(net)
        found = [spec.files[k].file for k in (kinds or KINDS) if k in spec.files]
        if not found:
            raise BundleError(f"{self.info.path}: has {net!r} only as {', '.join(spec.files)}, not as "
                              f"{' or '.join(kinds)}; use another --engine or export the bundle again")  # fmt: skip
        return self.info.path / found[0]

    def spec(self, net: str) -> NetSpec:
        """What the bundle says of a net; raises ``BundleError`` where it has no such net."""
        if net not in self.nets:
            there = _short(", ".join(sorted(self.nets)))
            raise BundleError(f"{self.info.path}: has no net {net!r}, only {there}; {_AGAIN}")
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
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as err:
        cause = f"no entry {err}" if isinstance(err, KeyError) else str(err)
        raise BundleError(f"{path / BUNDLE_FILE}: incomplete ({_short(cause)}); {_AGAIN}") from err
    for name in nets:
        bundle.spec(name)
    for spec in bundle.nets.values():
        for file in spec.files.values():
            _check_file(path, file)
    for file in bundle.files.values():
        _check_file(path, file)
    return bundle


def _short(value: object) -> str:
    """What a document says, for a message: one line, printable, not long."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    return text if len(text) <= 120 else text[:117] + "..."


def _read(path: Path) -> bytes:
    try:
        if (path / BUNDLE_FILE).stat().st_size > MAX_DOCUMENT_BYTES:
            raise BundleError(f"{path / BUNDLE_FILE}: larger than any bundle's; {_AGAIN}")
        return (path / BUNDLE_FILE).read_bytes()
    except OSError as err:
        raise BundleError(f"{path}: no {BUNDLE_FILE} there ({err.strerror or err}); {_AGAIN}") from err


def _document(raw: bytes, path: Path) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as err:
        raise BundleError(f"{path / BUNDLE_FILE}: not JSON; {_AGAIN}") from err
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BundleError(f"{path / BUNDLE_FILE}: not an ecgscan bundle; {_AGAIN}")
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        newer = isinstance(version, int) and version > FORMAT_VERSION
        todo = "update ecgscan" if newer else "export the bundle again with ecgscan-export"
        got = _short(version)
        raise BundleError(f"{path / BUNDLE_FILE}: bundle format {got}, this ecgscan reads {FORMAT_VERSION}; {todo}")
    return document


def _parsed(document: Mapping[str, Any], path: Path, sha256: str) -> ModelBundle:
    nets = {str(name): _net(entry) for name, entry in document["nets"].items()}
    precisions = {f.precision for spec in nets.values() for f in spec.files.values()}
    return ModelBundle(
        info=BundleInfo(path, str(document["version"]), sha256, "int8" if "int8" in precisions else "fp32"),
        name=str(document["name"]),
        nets=nets,
        thresholds={str(k): float(v) for k, v in document["thresholds"].items()},
        training_data=tuple(DataSource(**entry) for entry in document["training_data"]),
        licence=str(document["licence"]),
        notes=str(document.get("notes", "")),
        extras=dict(document["extras"]),
        files={str(name): _file(entry) for name, entry in document["files"].items()},
    )


def _net(entry: Mapping[str, Any]) -> NetSpec:
    files = {str(kind): _file(f) for kind, f in entry["files"].items()}
    if not files:
        raise ValueError("a net without files")
    return NetSpec(
        files=files,
        inputs=tuple(_tensor(t) for t in entry["inputs"]),
        outputs=tuple(_tensor(t) for t in entry["outputs"]),
        n_parameters=int(entry["n_parameters"]),
        settings={str(k): float(v) for k, v in entry["settings"].items()},
        sizes={str(k): (int(v[0]), int(v[1]), int(v[2])) for k, v in entry["sizes"].items()},
        quantisation=dict(entry["quantisation"]),
    )


def _file(entry: Mapping[str, Any]) -> FileSpec:
    file = str(entry["file"])
    if Path(file).name != file or file in ("", "..") or not file.isprintable() or len(file) > 200:
        raise ValueError(f"file {file!r} lies outside the bundle or is no name")
    return FileSpec(file, str(entry["sha256"]), int(entry["n_bytes"]), str(entry.get("precision", "")))


def _tensor(entry: Mapping[str, Any]) -> TensorSpec:
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    return TensorSpec(**fields)


def _check_file(path: Path, spec: FileSpec) -> None:
    file = path / spec.file
    try:
        n_bytes, sha256 = file_hash(file) if file.stat().st_size == spec.n_bytes else (file.stat().st_size, "")
    except OSError as err:
        raise BundleError(f"{file}: named in {BUNDLE_FILE} but missing ({err.strerror or err}); {_AGAIN}") from err
    if (n_bytes, sha256) != (spec.n_bytes, spec.sha256):
        raise BundleError(
            f"{file}: differs from {BUNDLE_FILE} ({n_bytes} bytes, sha256 {sha256[:12] or '?'}, expected "
            f"{_short(spec.n_bytes)}, {_short(spec.sha256[:12])}); {_AGAIN}"
        )


def file_hash(file: Path) -> tuple[int, str]:
    """Size in bytes and sha256 of a file."""
    data = file.read_bytes()
    return len(data), hashlib.sha256(data).hexdigest()


def file_spec(file: Path, precision: str = "") -> FileSpec:
    """The entry of a file that already lies in the bundle's folder."""
    n_bytes, sha256 = file_hash(file)
    return FileSpec(file.name, sha256, n_bytes, precision)


def net_spec(
    file: Path,
    inputs: Iterable[TensorSpec],
    outputs: Iterable[TensorSpec],
    *,
    precision: str = "fp32",
    n_parameters: int = 0,
    settings: Mapping[str, float] | None = None,
) -> NetSpec:
    """The entry of a net in float whose one file already lies in the bundle's folder."""
    files = {"onnx": file_spec(file, precision)}
    return NetSpec(files, tuple(inputs), tuple(outputs), n_parameters, dict(settings or {}))


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
    extras: Mapping[str, Any] | None = None,
    files: Mapping[str, FileSpec] | None = None,
) -> ModelBundle:
    """Write ``bundle.json`` beside the nets, whole or not at all, and load it back as its user will.

    ``extras``: anything JSON holds.  ``files``: by name, files in the folder beside the nets' own.
    """
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
        "extras": dict(extras or {}),
        "files": {key: asdict(spec) for key, spec in (files or {}).items()},
    }
    temporary = path / f".{BUNDLE_FILE}-{secrets.token_hex(6)}"
    try:
        temporary.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(temporary, path / BUNDLE_FILE)
    finally:
        temporary.unlink(missing_ok=True)
    return load_bundle(path, nets)
