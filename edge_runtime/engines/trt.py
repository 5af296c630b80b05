"""Nets by TensorRT 10 (JetPack 6 and 7) and 11: engines are built on the device that runs them, and kept there.

An engine serves one version of TensorRT on one kind of GPU; both stand in its file's name with the net's hash, and it
is built anew where they differ.  The source is the signed Q/DQ ONNX: INT8 is in the graph.  TensorRT 10 may use FP16
for the rest; from 11 on networks are strongly typed and the rest is what the graph says, float.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg.bundle import ModelBundle, NetSpec, TensorSpec
from ecg.errors import BundleError, EcgscanError
from ecg.page import F32
from edge_runtime.engines.base import Tensors, Values, by_name, check_tensors, extra_module
from edge_runtime.engines.cuda import Driver, Gpu, driver_is_here

KINDS = ("trt", "onnx")
WORKSPACE_BYTES = 1 << 30
SUFFIX = ".engine"


def cache_dir() -> Path:
    """Where engines and what speeds up building them are kept: ``ECGSCAN_CACHE``, or the user's cache."""
    given = os.environ.get("ECGSCAN_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ecgscan"


@dataclass(frozen=True)
class EngineKey:
    """What an engine file is for."""

    net: str
    sha256: str
    tensorrt: str
    gpu: Gpu

    @property
    def file_name(self) -> str:
        """``decoder-0123456789ab-trt10.3.0-sm87-orin.engine``."""
        return f"{self.net}-{self.sha256[:12]}-{self.device}{SUFFIX}"

    @property
    def device(self) -> str:
        """TensorRT and GPU, as file names say them."""
        name = re.sub(r"[^a-z0-9]+", "_", self.gpu.name.lower()).strip("_")
        return f"trt{self.tensorrt}-sm{self.gpu.sm}-{name}"


class TrtEngine:
    """A net of a bundle as a TensorRT engine on the first GPU."""

    def __init__(
        self,
        bundle: ModelBundle,
        net: str,
        *,
        threads: int | None = None,
        kinds: tuple[str, ...] | None = None,
        folder: Path | None = None,
        tensorrt: Any = None,
        driver: Driver | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Load the net's engine, building it first where there is none for this TensorRT and GPU (minutes, once).

        Raises ``EcgscanError`` without TensorRT or GPU, ``BundleError`` where TensorRT refuses the net.
        """
        if tensorrt is None and driver is None and not driver_is_here():
            raise EcgscanError("--engine trt needs an NVIDIA GPU and its driver, not found here; use --engine ort")
        self._trt: Any = tensorrt or extra_module("tensorrt", "trt")
        self._driver = driver or Driver()
        self._path = bundle.net_path(net, *(kinds or KINDS))
        spec = bundle.spec(net)
        sha256 = next(f.sha256 for f in spec.files.values() if f.file == self._path.name)
        key = EngineKey(net, sha256, str(self._trt.__version__), self._driver.gpu())
        logger = self._trt.Logger(self._trt.Logger.ERROR)
        self._runtime = self._trt.Runtime(logger)
        self._engine = self._load(key, spec, logger, folder or cache_dir(), say or _to_stderr)
        modes = {n: self._engine.get_tensor_mode(n) for n in map(self._engine.get_tensor_name, range(self._count()))}
        self._inputs = [n for n, mode in modes.items() if mode == self._trt.TensorIOMode.INPUT]
        self._outputs = [n for n in modes if n not in self._inputs]
        for what, told, names in (("inputs", spec.inputs, self._inputs), ("outputs", spec.outputs, self._outputs)):
            check_tensors(self._path, what, told, {n: len(self._engine.get_tensor_shape(n)) for n in names})
        self._types = {n: np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(n))) for n in modes}
        self._context = self._engine.create_execution_context()
        self._memory: dict[str, tuple[int, int]] = {}  # address and bytes by tensor, grown as sizes ask for it

    def _count(self) -> int:
        return int(self._engine.num_io_tensors)

    def _load(self, key: EngineKey, spec: NetSpec, logger: Any, folder: Path, say: Callable[[str], None]) -> Any:
        file = folder / key.file_name
        if file.exists():
            engine = self._runtime.deserialize_cuda_engine(file.read_bytes())
            if engine is not None:
                return engine
        say(rebuild_line(key, folder))
        plan = build_engine(self._trt, self._path, spec, logger, folder / f"timing-{key.device}.cache")
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise BundleError(f"{self._path}: TensorRT {key.tensorrt} can't load the engine that it built; "
                              "use --engine ort")  # fmt: skip
        _write(file, plan)
        for old in _others(key, folder):
            old.unlink(missing_ok=True)
        return engine

    def __call__(self, inputs: Tensors | Values) -> dict[str, F32]:
        """Run once: the only input as an array, or inputs by name; outputs by name."""
        given = by_name(inputs, self._inputs, self._path.name)
        self._driver.make_current()
        arrays = {n: np.ascontiguousarray(given[n], dtype=self._types[n]) for n in self._inputs}
        for name, values in arrays.items():
            if not self._context.set_input_shape(name, tuple(values.shape)):
                raise ValueError(f"{self._path.name}: input {name} of shape {values.shape} lies outside what the "
                                 "engine was built for")  # fmt: skip
            address = self._room(name, values.nbytes)
            self._context.set_tensor_address(name, address)
            self._driver.upload(values, address)
        shapes = {n: tuple(int(d) for d in self._context.get_tensor_shape(n)) for n in self._outputs}
        for name, shape in shapes.items():
            room = self._room(name, int(np.prod(shape)) * self._types[name].itemsize)
            self._context.set_tensor_address(name, room)
        if not self._context.execute_async_v3(self._driver.stream):
            raise RuntimeError(f"{self._path.name}: TensorRT could not run it")
        out = {n: self._driver.download(self._memory[n][0], shapes[n], self._types[n]) for n in self._outputs}
        self._driver.wait()
        return {n: np.asarray(v, dtype=np.float32) for n, v in out.items()}

    def _room(self, name: str, n_bytes: int) -> int:
        address, had = self._memory.get(name, (0, -1))
        if had < n_bytes:
            if had >= 0:
                self._driver.free(address)
            address = self._driver.allocate(n_bytes)
            self._memory[name] = (address, n_bytes)
        return address

    def close(self) -> None:
        """Free the GPU's memory, the engine, and the context."""
        for address, _ in self._memory.values():
            self._driver.free(address)
        self._memory = {}
        self._context = self._engine = self._runtime = None
        self._driver.close()


def build_engine(trt: Any, onnx: Path, spec: NetSpec, logger: Any, timings: Path | None = None) -> bytes:
    """Parse a net and build its engine for this machine's GPU.

    Raises ``BundleError`` with TensorRT's own words where it refuses the net.  ``timings``: the file of measured
    kernels, which makes the next build quick.
    """
    builder = trt.Builder(logger)
    network = builder.create_network(network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        told = "; ".join(str(parser.get_error(k)).replace("\n", " ")[:160] for k in range(parser.num_errors))
        raise BundleError(f"{onnx}: TensorRT {trt.__version__} can't read it ({told}); use --engine ort")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    if not strongly_typed_only(trt):
        for flag in ("INT8", "FP16"):
            config.set_flag(getattr(trt.BuilderFlag, flag))
    _profile(builder, config, spec)
    cache = _timing_cache(config, timings)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BundleError(f"{onnx}: TensorRT {trt.__version__} can't build it for this GPU; use --engine ort")
    if timings is not None and cache is not None:
        _write(timings, bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def strongly_typed_only(trt: Any) -> bool:
    """From 11 on every network is strongly typed and the builder's INT8 and FP16 flags are gone."""
    return int(str(trt.__version__).split(".")[0]) >= 11 or not hasattr(trt.BuilderFlag, "INT8")


def network_flags(trt: Any) -> int:
    """Creation flags: strongly typed where that is the rule and still has to be said."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 1 << int(flag) if strongly_typed_only(trt) and flag is not None else 0


def _profile(builder: Any, config: Any, spec: NetSpec) -> None:
    """One profile over the free sizes of the inputs."""
    free = [t for t in spec.inputs if any(isinstance(d, str) for d in t.shape)]
    if not free:
        return
    profile = builder.create_optimization_profile()
    for tensor in free:
        profile.set_shape(tensor.name, *shapes(tensor, spec.sizes))
    config.add_optimization_profile(profile)


def shapes(tensor: TensorSpec, sizes: Mapping[str, tuple[int, int, int]]) -> tuple[tuple[int, ...], ...]:
    """Least, usual and largest shape of an input; raises ``BundleError`` where the bundle names no sizes."""
    missing = [d for d in tensor.shape if isinstance(d, str) and d not in sizes]
    if missing:
        raise BundleError(f"bundle.json names no sizes for {', '.join(missing)} of {tensor.name}; "
                          "export the bundle again")  # fmt: skip
    return tuple(tuple(sizes[d][k] if isinstance(d, str) else d for d in tensor.shape) for k in range(3))


def _timing_cache(config: Any, timings: Path | None) -> Any:
    if timings is None or not hasattr(config, "create_timing_cache"):
        return None
    cache = config.create_timing_cache(timings.read_bytes() if timings.exists() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def rebuild_line(key: EngineKey, folder: Path) -> str:
    """Why an engine is being built, in one line."""
    here = f"TensorRT {key.tensorrt} on {key.gpu.name} (SM{key.gpu.sm})"
    if (folder / key.file_name).exists():
        return f"{key.net}: the kept engine can't be loaded; building it again for {here}, once, minutes"
    others = sorted(_others(key, folder))
    if not others:
        return f"{key.net}: building its engine for {here}, once, minutes"
    return f"{key.net}: the kept engine {others[0].name} is another's; building it again for {here}, once, minutes"


def _others(key: EngineKey, folder: Path) -> list[Path]:
    """Engines of the same net that can't serve here."""
    return [p for p in folder.glob(f"{key.net}-*{SUFFIX}") if p.name != key.file_name]


def _write(file: Path, data: bytes) -> None:
    """Whole or not at all; a cache that can't be written costs time, not the reading."""
    temporary = file.with_name(f".{file.name}-{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, file)
    except OSError as err:
        _to_stderr(f"{file}: can't be kept ({err.strerror}); set ECGSCAN_CACHE to a folder that can be written")
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _to_stderr(line: str) -> None:
    print(f"ecgscan: {line}", file=sys.stderr)
