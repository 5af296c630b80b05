"""Nets by OpenVINO on the CPU: the fastest on x86 where it is installed (``pip install 'ecgscan[openvino]'``)."""

from __future__ import annotations

from queue import SimpleQueue
from typing import Any

import numpy as np

from ecg.bundle import ModelBundle
from ecg.errors import BundleError
from ecg.page import F32
from edge_runtime.engines.base import Tensors, Values, by_name, check_tensors, extra_module, usable_cores

# Unsigned activations first: without AMX its kernels for signed ones lose most of what 8 bits leave (the decoder's
# heights 12 dB above their error, unsigned 34, on an AMD EPYC with VNNI), and are no faster.
KINDS = ("ort", "onnx", "trt")


class OpenVinoEngine:
    """A net of a bundle, compiled for this processor."""

    def __init__(
        self, bundle: ModelBundle, net: str, *, threads: int | None = None, kinds: tuple[str, ...] | None = None,
        side_by_side: bool = False,
    ) -> None:  # fmt: skip
        """Open a net; raises ``BundleError`` where it can't be compiled or its tensors are not the bundle's.

        ``side_by_side``: for many calls, of which each runs on one core, as many at once as there are threads.
        """
        openvino: Any = extra_module("openvino", "openvino")
        self._path = bundle.net_path(net, *(kinds or KINDS))
        spec = bundle.spec(net)
        try:
            core = openvino.Core()
            model = core.read_model(str(self._path))
            found = {"inputs": _ranks(model.inputs), "outputs": _ranks(model.outputs)}
        except Exception as err:  # RuntimeError of whichever front end failed
            raise self._refused(openvino, err) from err
        check_tensors(self._path, "inputs", spec.inputs, found["inputs"])
        check_tensors(self._path, "outputs", spec.outputs, found["outputs"])
        self._inputs, self._outputs = list(found["inputs"]), list(found["outputs"])
        threads = threads or usable_cores()
        self.calls_at_once = threads if side_by_side else 1
        try:
            compiled = core.compile_model(model, "CPU", _settings(threads, self.calls_at_once))
            self._idle: Any = SimpleQueue()
            for _ in range(self.calls_at_once):
                self._idle.put(compiled.create_infer_request())
        except Exception as err:
            raise self._refused(openvino, err) from err

    def _refused(self, openvino: Any, err: Exception) -> BundleError:
        cause = (str(err).splitlines() or [type(err).__name__])[-1][:120]
        return BundleError(f"{self._path}: OpenVINO {openvino.__version__} can't load it ({cause}); use --engine ort")

    def __call__(self, inputs: Tensors | Values) -> dict[str, F32]:
        """Run once: the only input as an array, or inputs by name; outputs by name."""
        given = by_name(inputs, self._inputs, self._path.name)
        feed = {name: np.ascontiguousarray(given[name], dtype=np.float32) for name in self._inputs}
        request = self._idle.get()
        try:
            request.infer(feed, share_inputs=True)
            # Copies: the request's own memory is written again by the next run.
            return {n: np.array(request.get_tensor(n).data, np.float32) for n in self._outputs}
        finally:
            self._idle.put(request)

    def close(self) -> None:
        """Free the compiled net."""
        self._idle = None


def _ranks(tensors: Any) -> dict[str, int]:
    return {t.get_any_name(): len(t.get_partial_shape()) for t in tensors}


def _settings(threads: int, streams: int) -> dict[str, Any]:
    """One photo at a time; float where it isn't int8, so that results are those of other engines."""
    return {
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
