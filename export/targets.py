"""A bundle to what TensorRT or OpenVINO load: engines where there is a GPU, else sources and how to build them."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ecg.bundle import ModelBundle, NetSpec, load_bundle
from ecg.errors import BundleError, InputError
from edge_runtime.engines.base import extra_module
from edge_runtime.engines.cuda import driver_is_here
from edge_runtime.engines.trt import KINDS, cache_dir, shapes
from edge_runtime.reader import SHIPPED

COMMANDS = "trtexec.txt"


def to_trt(bundle_dir: Path | None, out: Path) -> Iterator[str]:
    """Engines of every net, built and kept where ``--engine trt`` finds them; without TensorRT or GPU the signed Q/DQ
    ONNX in ``out`` with the ``trtexec`` line for each. Yields what to tell."""
    bundle = _signed(bundle_dir)
    out = _made(out)
    lines = []
    for net, spec in bundle.nets.items():
        source = bundle.net_path(net, *KINDS)
        shutil.copyfile(source, out / source.name)
        lines += trtexec(spec, source.name)
    (out / COMMANDS).write_text("\n".join(["# TensorRT 10 (JetPack 6 and 7); from 11 on leave out --int8 --fp16",
                                           *lines]) + "\n", encoding="utf-8")  # fmt: skip
    if not (importlib.util.find_spec("tensorrt") and driver_is_here()):
        why = "no NVIDIA driver" if importlib.util.find_spec("tensorrt") else "no TensorRT"
        yield f"{why} on this machine: no engine was built. On the machine that runs it: ecgscan-export --target trt,"
        yield f"or in {out} (also in {COMMANDS}; from TensorRT 11 on without --int8 --fp16):"
        yield from lines
        return
    from edge_runtime.engines.trt import TrtEngine

    for net in bundle.nets:
        TrtEngine(bundle, net).close()
    yield f"engines of {', '.join(bundle.nets)} are in {cache_dir()}; ecgscan-edge scan --engine trt uses them"


def trtexec(spec: NetSpec, file: str) -> list[str]:
    """The command that builds a net's engine, with the free sizes of its inputs."""
    engine = file.removesuffix(".onnx").removesuffix(".trt") + ".engine"
    parts = ["trtexec", f"--onnx={file}", f"--saveEngine={engine}", "--int8", "--fp16",
             "--memPoolSize=workspace:1024", "--timingCacheFile=timing.cache"]  # fmt: skip
    free = [t for t in spec.inputs if any(isinstance(d, str) for d in t.shape)]
    by_input = [(t.name, shapes(t, spec.sizes)) for t in free]
    for k, what in enumerate(("min", "opt", "max") if free else ()):
        parts.append(f"--{what}Shapes=" + ",".join(f"{n}:{'x'.join(map(str, s[k]))}" for n, s in by_input))
    return [" ".join(parts)]


def to_openvino(bundle_dir: Path | None, out: Path) -> Iterator[str]:
    """Every net as OpenVINO's own ``.xml`` and ``.bin`` in ``out``, compiled once first. Yields what to tell."""
    bundle = _signed(bundle_dir)
    openvino: Any = extra_module("openvino", "openvino")
    from edge_runtime.engines.openvino import KINDS as UNSIGNED_FIRST
    from edge_runtime.engines.openvino import OpenVinoEngine

    out = _made(out)
    for net in bundle.nets:
        OpenVinoEngine(bundle, net).close()
        model = openvino.Core().read_model(str(bundle.net_path(net, *UNSIGNED_FIRST)))
        openvino.save_model(model, str(out / f"{net}.xml"), compress_to_fp16=False)
    names = ", ".join(f"{net}.xml and .bin" for net in bundle.nets)
    yield f"wrote {names} to {out}, for programs that load OpenVINO's files;"
    yield "ecgscan-edge scan --engine openvino compiles the bundle's own files and needs none of these"


def _signed(bundle_dir: Path | None) -> ModelBundle:
    """The bundle, where it has nets for these engines on 8 bits (one that nothing calibrates may stay in float)."""
    bundle = load_bundle(bundle_dir or SHIPPED, ())
    if not any("trt" in spec.files for spec in bundle.nets.values()):
        raise BundleError(f"{bundle.info.path}: has no 8-bit nets; export the bundle again with ecgscan-export "
                          "--precision int8, or name another with --bundle")  # fmt: skip
    return bundle


def _made(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise InputError(f"{out}: can't be made ({err.strerror}); name another folder with --out") from err
    return out
