"""The few calls of NVIDIA's driver that running an engine needs, by ctypes: nothing to install beside the driver."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg.errors import EcgscanError

LIBRARY = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR


@dataclass(frozen=True)
class Gpu:
    """What an engine is built for."""

    name: str
    sm: int


class Driver:
    """The first GPU, its primary context made current, a stream, and memory on it.

    Raises ``EcgscanError`` where there is no driver or no GPU.
    """

    def __init__(self, library: Any = None) -> None:
        """``library``: what stands for the driver's library (tests)."""
        try:
            self._cuda: Any = library or ctypes.CDLL(LIBRARY)
        except OSError as err:
            raise EcgscanError(f"--engine trt needs an NVIDIA GPU ({LIBRARY} is not here); use --engine ort") from err
        self._context, self._stream = ctypes.c_void_p(), ctypes.c_void_p()
        self._device = ctypes.c_int()
        try:
            self._call("cuInit", 0)
            self._call("cuDeviceGet", ctypes.byref(self._device), 0)
        except EcgscanError as err:
            raise EcgscanError(f"--engine trt finds no NVIDIA GPU that it can use ({err}); use --engine ort") from err
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self.make_current()
        self._call("cuStreamCreate", ctypes.byref(self._stream), 0)

    def make_current(self) -> None:
        """Work on the GPU from the calling thread."""
        self._call("cuCtxSetCurrent", self._context)

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return self._stream.value or 0

    def gpu(self) -> Gpu:
        """Name and compute capability (87 for 8.7)."""
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, 256, self._device)
        parts = []
        for attribute in (_MAJOR, _MINOR):
            value = ctypes.c_int()
            self._call("cuDeviceGetAttribute", ctypes.byref(value), attribute, self._device)
            parts.append(value.value)
        return Gpu(name.value.decode(errors="replace").strip(), 10 * parts[0] + parts[1])

    def allocate(self, n_bytes: int) -> int:
        """Memory on the GPU; its address."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(1, n_bytes)))
        return int(address.value)

    def free(self, address: int) -> None:
        """Give memory back."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def upload(self, values: NDArray[Any], address: int) -> None:
        """A contiguous array to the GPU, in the stream's order."""
        self._call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), ctypes.c_void_p(values.ctypes.data),
                   ctypes.c_size_t(values.nbytes), self._stream)  # fmt: skip

    def download(self, address: int, shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
        """An array from the GPU, there when the stream has been waited for."""
        out = np.empty(shape, kind)
        self._call("cuMemcpyDtoHAsync_v2", ctypes.c_void_p(out.ctypes.data), ctypes.c_uint64(address),
                   ctypes.c_size_t(out.nbytes), self._stream)  # fmt: skip
        return out

    def wait(self) -> None:
        """Until all that was asked of the stream is done."""
        self._call("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """Let go of stream and context."""
        self._call("cuStreamDestroy_v2", self._stream)
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)

    def _call(self, name: str, *arguments: Any) -> None:
        code = int(getattr(self._cuda, name)(*arguments))
        if code:
            raise EcgscanError(f"CUDA: {name} gives error {code}")


def driver_is_here() -> bool:
    """Does this machine have NVIDIA's driver? Asked first: TensorRT without it can end the process."""
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True
