"""Trained students to an fp32 bundle: ONNX with named axes, each net held against torch before it is written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import nn

from distill.train import load_net
from ecg.bundle import DataSource, ModelBundle, NetSpec, TensorSpec, net_spec, write_bundle
from ecg.errors import BundleError
from ecg.geometry import VIEW_PX_PER_MM
from ecg.marks import (
    AREA_CHANNELS,
    COARSE_CHANNELS,
    COARSE_PX,
    FINE_STRIDE,
    GRID_CHANNELS,
    MARK_KINDS,
    PLACE_CHANNELS,
    STRIP_COLUMNS,
    STRIP_ROWS,
)

OPSET = 18
TOLERANCE = 2e-3  # largest difference of fp32 outputs between torch and onnxruntime, relative to their spread
RGB = ("red", "green", "blue")
TRAINING_DATA = (
    DataSource("ecg.synth: synthetic hearts, pages and photographs", "Apache-2.0", "pages with exact truth"),
    DataSource("PTB-XL 1.0.3, folds 1 to 8, a sample", "CC BY 4.0", "signals printed on synthetic pages"),
    DataSource("PhysioNet/CinC Challenges 2020 and 2021, a sample", "CC BY 4.0", "signals printed on synthetic pages"),
    DataSource("Lobachevsky University Database 1.0.1, a sample", "ODC-By 1.0", "signals printed on synthetic pages"),
)


def _rgb(shape: tuple[int | str, ...]) -> TensorSpec:
    return TensorSpec("rgb", shape, "NCHW", channels=RGB)


def _out(name: str, shape: tuple[int | str, ...], layout: str, channels: tuple[str, ...] = ()) -> TensorSpec:
    return TensorSpec(name, shape, layout, channels=channels)


NETS: dict[str, tuple[str, tuple[int, ...], TensorSpec, tuple[TensorSpec, ...], dict[str, float]]] = {
    # net: (checkpoint, example shape, input, outputs, settings)
    "finder_coarse": (
        "coarse", (1, 3, COARSE_PX, COARSE_PX), _rgb((1, 3, COARSE_PX, COARSE_PX)),
        (_out("maps", (1, len(COARSE_CHANNELS), 32, 32), "NCHW", COARSE_CHANNELS),), {},
    ),
    "finder_fine": (
        "fine", (1, 3, 416, 512), _rgb((1, 3, "height", "width")),
        (_out("grid", (1, 4, "h", "w"), "NCHW", GRID_CHANNELS), _out("area", (1, 2, "h", "w"), "NCHW", AREA_CHANNELS),
         _out("marks", (1, len(MARK_KINDS), "h", "w"), "NCHW", MARK_KINDS),
         _out("place", (1, 6, "h", "w"), "NCHW", PLACE_CHANNELS)),
        {"px_per_mm": VIEW_PX_PER_MM, "stride": FINE_STRIDE},
    ),
    "decoder": (
        "strip", (2, 3, STRIP_ROWS, STRIP_COLUMNS), _rgb(("batch", 3, STRIP_ROWS, STRIP_COLUMNS)),
        (_out("height", ("batch", STRIP_ROWS // 2, STRIP_COLUMNS), "NHW"),
         _out("presence", ("batch", STRIP_COLUMNS), "NW")), {},
    ),
}  # fmt: skip


def export_net(net: nn.Module, name: str, file: Path) -> NetSpec:
    """Write one net and compare it with torch; raises ``BundleError`` where values differ."""
    _, shape, given, results, settings = NETS[name]
    x = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32))
    # Sizes divide by 32, the nets' coarsest stride, whatever the page's size.
    free = {2: 32 * torch.export.Dim("h32", min=2, max=90), 3: 32 * torch.export.Dim("w32", min=2, max=90)}
    axes = {"decoder": {0: torch.export.Dim("batch", min=1, max=64)}, "finder_fine": free}.get(name)
    torch.onnx.export(net, (x,), str(file), dynamo=True, opset_version=OPSET, external_data=False, verbose=False,
                      input_names=[given.name], output_names=[r.name for r in results],
                      dynamic_shapes=({**axes},) if axes else None)  # fmt: skip
    _compare(net, name, file, x)
    count = sum(p.numel() for p in net.parameters())
    return net_spec(file, [given], results, precision="fp32", n_parameters=count, settings=settings)


def _compare(net: nn.Module, name: str, file: Path, x: torch.Tensor) -> None:
    with torch.no_grad():
        want = net(x)
    want = want if isinstance(want, tuple) else (want,)
    got = ort.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"]).run(None, {"rgb": x.numpy()})
    for spec, a, b in zip(NETS[name][3], want, got, strict=True):
        off = float(np.abs(a.numpy() - b).max() / (a.numpy().std() + 1e-6))
        if a.shape != b.shape or off > TOLERANCE:
            raise BundleError(f"{file.name}: output {spec.name} differs from torch by {off:.2g} of its spread (limit "
                              f"{TOLERANCE}); the export is not written")  # fmt: skip


def export_bundle(run: Path, out: Path, version: str, data: Iterable[DataSource], notes: str = "") -> ModelBundle:
    """Export coarse, fine and strip checkpoints of ``run`` as a bundle in ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    missing = [f"{NETS[n][0]}.ckpt" for n in NETS if not (run / f"{NETS[n][0]}.ckpt").exists()]
    if missing:
        raise BundleError(
            f"{run}: no {', '.join(missing)}; train with ecgscan-distill --part finder and --part decoder"
        )
    with tempfile.TemporaryDirectory() as folder:
        made = {}
        for name, (checkpoint, *_) in NETS.items():
            file = Path(folder) / f"{name}.onnx"
            made[name] = export_net(load_net(checkpoint, run / f"{checkpoint}.ckpt"), name, file)
        for name in NETS:  # all exported and compared: only now touch the bundle
            (out / f"{name}.onnx").write_bytes((Path(folder) / f"{name}.onnx").read_bytes())
    return write_bundle(out, name="ecgscan", version=version, nets=made, training_data=data, notes=notes)
