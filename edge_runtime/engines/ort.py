"""Nets on the CPU by onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from ecg.bundle import ModelBundle, NetSpec, TensorSpec
from ecg.errors import BundleError
from ecg.page import F32
from edge_runtime.engines.base import Tensors

_ERRORS_ONLY = 3  # onnxruntime's log severity


class OrtEngine:
    """A net of a bundle, in an onnxruntime session."""

    def __init__(self, bundle: ModelBundle, net: str, *, threads: int | None = None) -> None:
        """Open a net; raises ``BundleError`` where its tensors are not those that the bundle names.

        ``threads`` None: every core that this process may use.
        """
        self._path = bundle.net_path(net)
        spec = bundle.spec(net)
        try:
            self._session: Any = ort.InferenceSession(
                self._path.read_bytes(), _options(threads), providers=["CPUExecutionProvider"]
            )
        except Exception as err:  # onnxruntime has a dozen exception types for a bad model
            cause = str(err).splitlines()[0][:120] if str(err) else type(err).__name__
            raise BundleError(f"{self._path}: onnxruntime {ort.__version__} can't load it ({cause}); "
                              "update onnxruntime or install ecgscan again") from err  # fmt: skip
        self._check(spec)
        self._inputs = [t.name for t in spec.inputs]
        self._outputs = [t.name for t in spec.outputs]

    def __call__(self, inputs: Tensors | F32) -> dict[str, F32]:
        """Run once: the only input as an array, or inputs by name; outputs by name."""
        if isinstance(inputs, np.ndarray):
            if len(self._inputs) != 1:
                raise ValueError(f"{self._path.name} has inputs {self._inputs}: give them by name")
            inputs = {self._inputs[0]: inputs}
        feed = {name: np.ascontiguousarray(value, dtype=np.float32) for name, value in inputs.items()}
        if set(feed) != set(self._inputs):
            raise ValueError(f"{self._path.name} has inputs {self._inputs}, got {sorted(feed)}")
        return dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))

    def close(self) -> None:
        """Free the session."""
        self._session = None

    def _check(self, spec: NetSpec) -> None:
        for what, told, found in (
            ("inputs", spec.inputs, self._session.get_inputs()),
            ("outputs", spec.outputs, self._session.get_outputs()),
        ):
            if _told(told) != {t.name: len(t.shape) for t in found}:
                got = ", ".join(f"{t.name} of rank {len(t.shape)}" for t in found)
                want = ", ".join(f"{name} of rank {rank}" for name, rank in _told(told).items())
                raise BundleError(f"{self._path}: has {what} {got}, bundle.json says {want}; export the bundle again")


def _told(tensors: Sequence[TensorSpec]) -> dict[str, int]:
    return {t.name: len(t.shape) for t in tensors}


def _options(threads: int | None) -> Any:
    """Session options: no arena (sizes differ from photo to photo, an arena would only grow), no spinning between."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_cpu_mem_arena = False
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def usable_cores() -> int:
    """Cores that this process may run on (a container may allow fewer than the machine has)."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
