"""What runs a net: one session interface, one module an engine, and the choice between them."""

from __future__ import annotations

import importlib.util
from typing import Final

from ecg.bundle import ModelBundle
from ecg.errors import EcgscanError
from edge_runtime.engines.base import Engine
from edge_runtime.engines.cuda import driver_is_here
from edge_runtime.engines.ort import OrtEngine

ENGINES: Final = ("auto", "ort", "openvino", "trt")


def chosen(engine: str = "auto") -> str:
    """The engine that ``auto`` stands for here, or the one named; raises ``EcgscanError`` for any other name.

    TensorRT where it and a driver are installed, else onnxruntime.  OpenVINO computes the nets faster but takes seconds
    to start, so it is used where it is named.
    """
    if engine not in ENGINES:
        raise EcgscanError(f"--engine {engine}: give one of {', '.join(ENGINES)}")
    if engine != "auto":
        return engine
    return "trt" if importlib.util.find_spec("tensorrt") and driver_is_here() else "ort"


def open_engine(
    bundle: ModelBundle,
    net: str,
    engine: str = "auto",
    *,
    threads: int | None = None,
    kinds: tuple[str, ...] | None = None,
    side_by_side: bool = False,
) -> Engine:
    """Load a net of a bundle.

    ``kinds``: which of its files (``ecg.bundle.KINDS``), best first; None: the engine's choice.
    ``side_by_side``: it will be called many times a photo, by several threads (``calls_at_once``) where it likes that.
    Raises ``EcgscanError`` where the engine is not installed, ``BundleError`` where it can't run the net.
    """
    name = chosen(engine)
    if name == "ort":
        return OrtEngine(bundle, net, threads=threads, kinds=kinds, side_by_side=side_by_side)
    if name == "openvino":
        from edge_runtime.engines.openvino import OpenVinoEngine

        return OpenVinoEngine(bundle, net, threads=threads, kinds=kinds, side_by_side=side_by_side)
    from edge_runtime.engines.trt import TrtEngine

    return TrtEngine(bundle, net, threads=threads, kinds=kinds)
