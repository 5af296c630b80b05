"""``ecgscan-teacher bench``: real optimisation steps of the paper preset, randomly initialised at the real sizes.

The weights of CLIP, D-BETA and MedCPT aren't needed for that; the sizes are theirs.  From the operations counted in a
step follows an estimate of GPU hours; its assumptions stand in ``GPUS`` and ``UTILISATION`` and in every result line.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from teacher.config import TeacherConfig, preset
from teacher.encoders.dbeta import DbetaSignalEncoder
from teacher.model import Batch, Teacher
from teacher.objective import terms, total
from teacher.train import resolved

# Dense bf16 peak, FLOP/s, as NVIDIA's data sheets give it: A100 SXM 312e12, H100 SXM 989e12 (without sparsity).
GPUS: Final = {"A100": 312e12, "H100": 989e12}
UTILISATION: Final = 0.35  # of the peak (est.): well-kept transformer trainings reach 0.3 to 0.5 (arXiv 2204.02311, B)
RENDER_CORE_S: Final = 0.17  # a page on one core of this project's machine, a third of them photographed (measured)
TEXT_WIDTH: Final = 768  # MedCPT's
TEXT_TOKENS: Final = 64


@dataclass(frozen=True)
class Estimate:
    """What a training costs: floating point operations a record, and GPU hours by GPU."""

    flop_per_record: float
    gpu_hours: dict[str, float]
    render_core_hours: float


def estimate(flop_per_record: float, records: int, epochs: int) -> Estimate:
    """GPU hours = records * epochs * FLOP / (peak * utilisation) / 3600."""
    hours = {gpu: records * epochs * flop_per_record / (peak * UTILISATION) / 3600 for gpu, peak in GPUS.items()}
    return Estimate(flop_per_record, hours, records * RENDER_CORE_S / 3600)


def paper_teacher() -> tuple[Teacher, TeacherConfig]:
    """The paper preset's teacher with random weights."""
    config = preset("paper")
    config = replace(config, image=replace(config.image, weights=""))
    torch.manual_seed(0)
    return Teacher(config, DbetaSignalEncoder(), TEXT_WIDTH), config


def random_batch(config: TeacherConfig, size: int) -> Batch:
    """A batch of the right shapes: what is in it doesn't change what a step costs."""
    g = torch.Generator().manual_seed(0)
    n = config.decoder.n_samples
    return Batch(
        pages=torch.randint(0, 256, (size, 3, config.image.height_px, config.image.width_px), generator=g,
                            dtype=torch.uint8),
        mv=0.3 * torch.randn(size, 12, 5000, generator=g), known=torch.ones(size, 12, 5000, dtype=torch.bool),
        text=torch.randn(size, TEXT_WIDTH, generator=g), target_mv=0.3 * torch.randn(size, 12, n, generator=g),
        printed=torch.ones(size, 12, n, dtype=torch.bool), record=torch.arange(size), sentence=torch.arange(size),
    )  # fmt: skip


def one_step(net: Teacher, batch: Batch, optimiser: torch.optim.Optimizer, bf16: bool) -> float:
    """A whole optimisation step; returns its loss."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = net(batch)
    loss = total(terms(out, batch, net.config.losses), net.config.losses)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return float(loss.item())


def sentence_cost() -> tuple[float, float]:
    """Seconds and FLOP of one sentence in a net of MedCPT's size (BERT base), random weights; made once a sentence."""
    from transformers import BertConfig, BertModel

    net = BertModel(BertConfig()).eval()
    ids: Tensor = torch.randint(0, 30000, (1, TEXT_TOKENS))
    with torch.no_grad():
        net(ids)
        start = time.perf_counter()
        with FlopCounterMode(display=False) as counter:
            net(ids)
    return time.perf_counter() - start, float(counter.get_total_flops())


def bench_paper(batch: int, steps: int, records: int, epochs: int, results: Path | None) -> Iterator[str]:
    """Run, tell, and append the figures to ``results``."""
    from edge_runtime.results_log import append_result, peak_rss_mb
    from teacher.measure import taken

    text_s, text_flop = sentence_cost()
    yield f"a sentence of {TEXT_TOKENS} tokens in a text encoder of MedCPT's size: {text_s:.2f} s"
    net, config = paper_teacher()
    net.train()
    trained = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=config.optim.lr, weight_decay=config.optim.weight_decay)
    data, bf16 = random_batch(config, batch), resolved("auto") == "bf16"
    with FlopCounterMode(display=False) as counter:
        losses = [one_step(net, data, optimiser, bf16)]
    flop = float(counter.get_total_flops()) / batch + text_flop / epochs
    yield f"{flop / 1e12:.2f} TFLOP a record and step, forward and backward, the frozen encoders forward only"
    start, cpu = time.perf_counter(), time.process_time()
    losses += [one_step(net, data, optimiser, bf16) for _ in range(steps)]
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    cost = estimate(flop, records, epochs)
    figures: dict[str, Any] = {
        "batch": batch, "steps": steps, "wall_s_per_step": wall / steps, "cpu_s_per_step": cpu / steps,
        "steps_per_s": steps / wall, "peak_rss_mb": peak_rss_mb(), "losses": losses,
        "parameters_m": sum(p.numel() for p in net.parameters()) / 1e6,
        "trained_parameters_m": sum(p.numel() for p in trained) / 1e6, "tflop_per_record": flop / 1e12,
        "records": records, "epochs": epochs, "gpu_hours": cost.gpu_hours, "utilisation_assumed": UTILISATION,
        "peak_flops_assumed": GPUS, "render_core_hours": cost.render_core_hours, "threads": torch.get_num_threads(),
    }  # fmt: skip
    if results is not None:
        line = {**taken("random", 0), "task": "teacher/bench", "figures": figures}
        append_result(results, line | {"precision": "bf16" if bf16 else "fp32"})
    yield (f"{figures['parameters_m']:.0f} M parameters, {figures['trained_parameters_m']:.1f} M trained; "
           f"batch {batch}: {wall / steps:.1f} s a step ({cpu / steps:.1f} s of processor), "
        f"{figures['peak_rss_mb']:.0f} MB")  # fmt: skip
    yield f"losses of the steps: {', '.join(f'{x:.3f}' for x in losses)}"
    hours = ", ".join(f"{h:.0f} h on {gpu}" for gpu, h in cost.gpu_hours.items())
    yield (f"estimate for {records} records, {epochs} epochs, at {100 * UTILISATION:.0f} % of the peak: {hours}; "
           f"printing and photographing each once: {cost.render_core_hours:.0f} core hours")  # fmt: skip
