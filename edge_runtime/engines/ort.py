"""Nets by onnxruntime: on the CPU, or through its CUDA and TensorRT providers where they are installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort

from ecg.bundle import ModelBundle
from ecg.errors import BundleError
from ecg.page import F32
from edge_runtime.engines.base import Tensors, Values, by_name, check_tensors, usable_cores

__all__ = ["OrtEngine", "usable_cores"]

CPU = "CPUExecutionProvider"
GPU = ("TensorrtExecutionProvider", "CUDAExecutionProvider")
# Unsigned activations are what onnxruntime has 8-bit kernels for on the CPU; TensorRT wants signed ones.
CPU_KINDS, GPU_KINDS = ("ort", "onnx", "trt"), ("trt", "onnx", "ort")
_ERRORS_ONLY = 3  # onnxruntime's log severity
_TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}


class OrtEngine:
    """A net of a bundle, in an onnxruntime session."""

    def __init__(
        self, bundle: ModelBundle, net: str, *, threads: int | None = None, kinds: tuple[str, ...] | None = None,
        side_by_side: bool = False,
    ) -> None:  # fmt: skip
        """Open a net; raises ``BundleError`` where its tensors are not those that the bundle names.

        ``threads`` None: every core that this process may use.  ``kinds``: which of the net's files, best first.
        ``side_by_side``: for many calls, of which each runs on one core, as many at once as there are threads; on two
        cores that is a tenth faster than one call on both, and what callers do between their calls costs nothing.
        """
        given = providers()
        threads = threads or usable_cores()
        self.calls_at_once = threads if side_by_side and given == [CPU] else 1
        threads //= self.calls_at_once
        self._path = bundle.net_path(net, *(kinds or (CPU_KINDS if given == [CPU] else GPU_KINDS)))
        spec = bundle.spec(net)
        try:
            options = _options(threads, arena=side_by_side)
            self._session: Any = ort.InferenceSession(self._path.read_bytes(), options, providers=given)
        except Exception as err:  # onnxruntime has a dozen exception types for a bad model
            cause = str(err).splitlines()[0][:120] if str(err) else type(err).__name__
            raise BundleError(f"{self._path}: onnxruntime {ort.__version__} can't load it ({cause}); "
                              "update onnxruntime or install ecgscan again") from err  # fmt: skip
        self._types = {t.name: _TYPES.get(t.type, np.float32) for t in self._session.get_inputs()}
        for what, told, found in (
            ("inputs", spec.inputs, self._session.get_inputs()),
            ("outputs", spec.outputs, self._session.get_outputs()),
        ):
            check_tensors(self._path, what, told, {t.name: len(t.shape) for t in found})
        self._outputs = [t.name for t in spec.outputs]

    def __call__(self, inputs: Tensors | Values) -> dict[str, F32]:
        """Run once: the only input as an array, or inputs by name; outputs by name."""
        given = by_name(inputs, list(self._types), self._path.name)
        feed = {name: np.ascontiguousarray(given[name], dtype=kind) for name, kind in self._types.items()}
        return dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))

    def close(self) -> None:
        """Free the session."""
        self._session = None


def providers() -> list[str]:
    """onnxruntime's providers that this installation has, fastest first, the CPU last."""
    present = set(ort.get_available_providers())
    return [p for p in GPU if p in present] + [CPU]


def _options(threads: int, *, arena: bool) -> Any:
    """Session options: no spinning between calls; an arena only where all calls are of one size, it would grow else."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_cpu_mem_arena = arena
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
