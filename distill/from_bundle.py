"""Weights of a bundle's 8-bit nets back in torch: what training goes on from where only the bundle is left.

The bundle's files have batch norms folded into the convolutions before them; folded they come back, as norms that add
the bias and change nothing else.  What 8 bits rounded off stays lost until training finds it again.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, numpy_helper
from torch import Tensor, nn

from ecg.bundle import load_bundle
from ecg.errors import InputError

NET_OF: Final = {
    "coarse": "finder_coarse", "fine": "finder_fine", "strip": "decoder", "marks": "mark_reader",
    "starts": "start_reader",
}  # fmt: skip
FLOAT_BIAS_KINDS: Final = ("trt", "onnx")  # kinds of files that keep biases in float, under their layers' names
Arrays = dict[str, NDArray[np.float32]]


def begin_with_bundle(net: nn.Module, what: str, folder: Path) -> None:
    """Give ``net`` (of kind ``what``, a key of ``NET_OF``) the weights of a bundle's net.

    Input channels that the bundle's net didn't have begin silent.  Raises ``InputError`` where it is another net.
    """
    path = load_bundle(folder).net_path(NET_OF[what], *FLOAT_BIAS_KINDS)
    told = folded_weights(onnx.load(str(path)).graph)
    try:
        for name, module in net.named_modules():
            if isinstance(module, (nn.Conv1d, nn.Conv2d)):
                _fill(net, name, module, told)
            elif isinstance(module, nn.Linear):
                _copy(module, name, told)
    except (KeyError, RuntimeError) as err:
        raise InputError(f"{path}: of another net ({str(err).splitlines()[0]}); give a bundle of this version") from err


def folded_weights(graph: GraphProto) -> Arrays:
    """Weights by their layers' names, 8-bit ones multiplied out, and biases as ``LAYER.bias``."""
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in values:
            q, scale, *zero = (values[name] for name in node.input if name)
            shape = (-1,) + (1,) * (q.ndim - 1) if scale.ndim and scale.size > 1 else ()
            offset = zero[0].astype(np.float32).reshape(shape) if zero else 0.0
            values[node.output[0]] = (q.astype(np.float32) - offset) * scale.reshape(shape)
    out: Arrays = {}
    for node in graph.node:
        if node.op_type == "Conv" or (node.op_type == "Gemm" and _transposed(node)):
            layer = node.input[1].removesuffix("_dq").removesuffix(".weight")
            out[f"{layer}.weight"] = np.asarray(values[node.input[1]], np.float32)
            if len(node.input) > 2:
                out[f"{layer}.bias"] = np.asarray(values[node.input[2]], np.float32)
    return out


def _transposed(node: NodeProto) -> bool:
    """Whether a Gemm's weights lie as those of a linear layer do."""
    return any(a.name == "transB" and a.i == 1 for a in node.attribute)


@torch.no_grad()
def _copy(module: nn.Linear, name: str, told: Arrays) -> None:
    module.weight.copy_(torch.from_numpy(told[f"{name}.weight"].copy()))
    module.bias.copy_(torch.from_numpy(told[f"{name}.bias"].copy()))


@torch.no_grad()
def _fill(net: nn.Module, name: str, module: nn.Conv1d | nn.Conv2d, told: Arrays) -> None:
    weight = torch.from_numpy(told[f"{name}.weight"].copy())
    module.weight.zero_()
    module.weight[:, : weight.shape[1]].copy_(weight)
    bias = torch.from_numpy(told[f"{name}.bias"].copy())
    if module.bias is not None:
        module.bias.copy_(bias)
        return
    parent, _, place = name.rpartition(".")
    norm = net.get_submodule(f"{parent}.{int(place) + 1}")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.weight.fill_(1.0)
    norm.bias.copy_(bias)
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0 - norm.eps)


@torch.no_grad()
def unfold_norms(net: nn.Module, inputs: Iterable[Tensor]) -> None:
    """Give folded norms the means and variances of what flows through them, and change nothing else by it.

    In training a norm goes by its batch: without this the net's first batch would come out as another net's.
    """
    sums: dict[nn.BatchNorm2d, list[Tensor]] = {}
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    handles = [norm.register_forward_pre_hook(lambda m, x: _count(sums, m, x[0])) for norm in norms]
    was_training = net.training
    net.eval()
    for x in inputs:
        net(x)
    for handle in handles:
        handle.remove()
    net.train(was_training)
    for norm, (n, total, squares) in sums.items():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        mean = total / n
        variance = squares / n - mean**2
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.add_(mean)


def _count(sums: dict[nn.BatchNorm2d, list[Tensor]], norm: nn.Module, x: Tensor) -> None:
    assert isinstance(norm, nn.BatchNorm2d)
    x = x.double()
    now = [torch.tensor(float(x.numel() // x.shape[1])), x.sum(dim=(0, 2, 3)), (x**2).sum(dim=(0, 2, 3))]
    sums[norm] = [a + b for a, b in zip(sums[norm], now, strict=True)] if norm in sums else now
