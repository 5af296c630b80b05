"""Stand-ins for TensorRT and NVIDIA's driver, small enough to see what an engine asks of them."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import numpy as np

DOUBLING = b"plan of "


class FakeCuda:
    """``libcuda.so.1``: memory is the host's own."""

    def __init__(self, name: bytes = b"Orin", sm: tuple[int, int] = (8, 7), broken: str = "") -> None:
        self.name, self.sm, self.broken = name, sm, broken
        self.held: dict[int, ctypes.Array] = {}
        self.calls: list[str] = []

    def __getattr__(self, function: str):
        if function.startswith("_"):
            raise AttributeError(function)

        def call(*arguments):
            self.calls.append(function)
            if function == self.broken:
                return 100
            return getattr(self, f"_{function}", lambda *a: 0)(*arguments)

        return call

    def _cuDeviceGetName(self, buffer, size, device) -> int:
        buffer.value = self.name
        return 0

    def _cuDeviceGetAttribute(self, out, attribute, device) -> int:
        out._obj.value = self.sm[attribute - 75]
        return 0

    def _cuMemAlloc_v2(self, out, size) -> int:
        block = ctypes.create_string_buffer(size.value)
        out._obj.value = ctypes.addressof(block)
        self.held[out._obj.value] = block
        return 0

    def _cuMemFree_v2(self, address) -> int:
        del self.held[address.value]
        return 0

    def _cuMemcpyHtoDAsync_v2(self, address, source, size, stream) -> int:
        ctypes.memmove(address.value, source.value, size.value)
        return 0

    def _cuMemcpyDtoHAsync_v2(self, target, address, size, stream) -> int:
        ctypes.memmove(target.value, address.value, size.value)
        return 0


def fake_tensorrt(
    version: str = "10.3.0", *, refuses: str = "", outputs: tuple[str, ...] = ("doubled",)
) -> SimpleNamespace:
    """A ``tensorrt`` whose engines double their input; ``asked`` records what the builder was told."""
    asked: list[tuple] = []

    class Flag:
        STRONGLY_TYPED = 1

    class Builder:
        def __init__(self, logger) -> None:
            asked.append(("builder",))

        def create_network(self, flags: int):
            asked.append(("network", flags))
            return SimpleNamespace(file="")

        def create_builder_config(self):
            cache = SimpleNamespace(serialize=lambda: b"timings")
            return SimpleNamespace(
                set_memory_pool_limit=lambda pool, n: asked.append(("workspace", n)),
                set_flag=lambda flag: asked.append(("flag", flag)),
                add_optimization_profile=lambda p: asked.append(("profile", dict(p.shapes))),
                create_timing_cache=lambda data: asked.append(("timings", data)) or cache,
                set_timing_cache=lambda c, ignore_mismatch: None,
                get_timing_cache=lambda: cache,
            )

        def create_optimization_profile(self):
            shapes: dict = {}
            return SimpleNamespace(shapes=shapes, set_shape=lambda n, *s: shapes.update({n: s}))

        def build_serialized_network(self, network, config):
            asked.append(("build", network.file))
            return None if refuses == "build" else DOUBLING + version.encode()

    class OnnxParser:
        num_errors = 1

        def __init__(self, network, logger) -> None:
            self.network = network

        def parse_from_file(self, file: str) -> bool:
            self.network.file = file
            return refuses != "parse"

        def get_error(self, k: int) -> str:
            return "In node 3: unsupported\nby this importer"

    class Context:
        def __init__(self) -> None:
            self.shape: tuple[int, ...] = ()
            self.addresses: dict[str, int] = {}

        def set_input_shape(self, name, shape) -> bool:
            self.shape = shape
            return max(shape) <= 64

        def get_tensor_shape(self, name):
            return self.shape

        def set_tensor_address(self, name, address) -> None:
            self.addresses[name] = address

        def execute_async_v3(self, stream) -> bool:
            n = int(np.prod(self.shape))
            given, out = (
                np.ctypeslib.as_array(ctypes.cast(self.addresses[k], ctypes.POINTER(ctypes.c_float)), (n,))
                for k in ("rgb", outputs[0])
            )
            out[:] = 2 * given
            return True

    names = ["rgb", *outputs]
    engine = SimpleNamespace(
        num_io_tensors=len(names), get_tensor_name=lambda k: names[k],
        get_tensor_mode=lambda n: "in" if n == "rgb" else "out", get_tensor_dtype=lambda n: "float",
        get_tensor_shape=lambda n: (1, 3, -1, -1), create_execution_context=Context,
    )  # fmt: skip

    class Runtime:
        def __init__(self, logger) -> None:
            pass

        def deserialize_cuda_engine(self, plan: bytes):
            return engine if plan == DOUBLING + version.encode() else None

    flags = SimpleNamespace(INT8="INT8", FP16="FP16") if int(version.split(".")[0]) < 11 else SimpleNamespace()
    logger = type("Logger", (), {"ERROR": 1, "WARNING": 2, "__init__": lambda self, level: None})
    return SimpleNamespace(
        __version__=version, asked=asked, Builder=Builder, OnnxParser=OnnxParser, Runtime=Runtime, Logger=logger,
        NetworkDefinitionCreationFlag=Flag, BuilderFlag=flags, MemoryPoolType=SimpleNamespace(WORKSPACE=0),
        TensorIOMode=SimpleNamespace(INPUT="in", OUTPUT="out"), nptype=lambda kind: np.float32,
    )  # fmt: skip
