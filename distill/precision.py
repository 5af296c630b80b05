"""In which precision training computes: bfloat16 where the CPU has instructions for it, else float32.

Where it has none, torch computes bfloat16 step by step in software: a step of the decoder took 36 s instead of 4.7 s on
an AVX2 CPU, one of the mark reader 6.1 s instead of .6 s.
"""

from __future__ import annotations

import torch


def training_precision() -> torch.autocast:
    """What training's forward passes run under on the CPU."""
    ops = torch.ops.mkldnn
    fast = torch.backends.mkldnn.is_available() and bool(ops._is_mkldnn_bf16_supported())
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast)
