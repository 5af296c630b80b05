"""Training of finder and decoder: resumable, seeded, one JSONL line every so often."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distill import losses, targets
from distill.checkpoints import save_whole
from distill.from_bundle import begin_with_bundle, unfold_norms
from distill.narrow import narrow, wide_decoder
from distill.nets import FinderCoarse, FinderFine, StripDecoder, expected_row
from distill.precision import training_precision
from distill.shards import Shard
from ecg.errors import InputError

NETS: dict[str, type[nn.Module]] = {"coarse": FinderCoarse, "fine": FinderFine, "strip": StripDecoder}
PARTS = {"finder": ("coarse", "fine"), "finder-coarse": ("coarse",), "finder-fine": ("fine",), "decoder": ("strip",)}
VALIDATION_SHARDS = 4
UNFOLD_BATCHES = 12


@dataclass(frozen=True)
class TrainConfig:
    """One net's training. ``what``: coarse, fine or strip; ``shards``: a folder that may still be growing."""

    what: str
    shards: Path
    out: Path
    steps: int = 12000
    batch: int = 12
    lr: float = 2e-3
    warmup: int = 200
    weight_decay: float = 0.02
    ema: float = 0.998
    threads: int = 1
    seed: int = 0
    log_every: int = 50
    save_every: int = 250
    cached_shards: int = 400
    budget_s: float = 0.0  # with it the schedule follows the clock and ends there
    begin: Path | None = None  # another run's checkpoint or a bundle's folder: the weights that a new run begins with
    teacher: Path | None = None  # strip: a bundle whose decoder teaches, and gives a new run its channels that matter


class Pool:
    """Random samples out of a folder of shards; looks for new ones as it goes."""

    def __init__(self, config: TrainConfig, rng: np.random.Generator) -> None:
        self.config, self.rng = config, rng
        self.loaded: dict[Path, Shard] = {}
        self.refresh(config.cached_shards // 2)

    def paths(self) -> list[Path]:
        """All shards but the first few, which validate."""
        return sorted(self.config.shards.glob("shard-*.npz"))[VALIDATION_SHARDS:]

    def refresh(self, limit: int = 24) -> None:
        """Load up to ``limit`` shards not in memory; beyond the cache's size old ones make room."""
        paths = [p for p in self.paths() if p not in self.loaded]
        for k in self.rng.permutation(len(paths))[:limit]:
            path = paths[int(k)]
            if len(self.loaded) >= self.config.cached_shards:
                self.loaded.pop(next(iter(self.loaded)))
            self.loaded[path] = Shard(path, (self.config.what,))
        if not self.loaded:
            raise InputError(
                f"{self.config.shards}: has {len(self.paths())} shards beside the {VALIDATION_SHARDS} that validate; "
                "run ecgscan-distill render first"
            )

    def batch(self) -> dict[str, NDArray[np.generic]]:
        """A random batch, recoloured."""
        shards = list(self.loaded.values())
        odds = [s.odds(self.config.what) for s in shards]
        weights = np.array([o.sum() for o in odds])
        rng = np.random.default_rng(self.rng.integers(2**63))
        picked = []
        for k in rng.choice(len(shards), self.config.batch, p=weights / weights.sum()):
            sample = getattr(shards[k], self.config.what)(int(rng.choice(len(odds[k]), p=odds[k] / weights[k])))
            picked.append(targets.varied(sample, rng))
        return _collate(self.config.what, picked)


def _collate(what: str, samples: list[Any]) -> dict[str, NDArray[np.generic]]:
    if what == "coarse":
        return targets.coarse_batch(samples)
    return targets.fine_batch(samples) if what == "fine" else targets.strip_batch(samples)


def _tensors(batch: dict[str, NDArray[np.generic]]) -> losses.Batch:
    out = {k: torch.from_numpy(v) for k, v in batch.items()}
    out["rgb"] = out["rgb"].float().contiguous(memory_format=torch.channels_last)
    return out


def _loss(what: str, out: Tensor | tuple[Tensor, ...], batch: losses.Batch) -> dict[str, Tensor]:
    function: Any = {"coarse": losses.coarse_loss, "fine": losses.fine_loss, "strip": losses.strip_loss}[what]
    terms: dict[str, Tensor] = function(_floats(out), batch)
    return terms


def _floats(out: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    return tuple(x.float() for x in out) if isinstance(out, tuple) else out.float()


def _batches(pool: Pool, ahead: int = 3) -> Iterator[dict[str, NDArray[np.generic]]]:
    """Batches made one thread ahead of the training."""
    with ThreadPoolExecutor(1) as worker:
        queue = [worker.submit(pool.batch) for _ in range(ahead)]
        while True:
            yield queue.pop(0).result()
            queue.append(worker.submit(pool.batch))


@torch.no_grad()
def validate(what: str, net: nn.Module, shards: list[Shard], batch: int = 12, limit: int = 96) -> dict[str, float]:
    """Mean loss terms, and the figures that matter, over the validation shards."""
    net.eval()
    sums: dict[str, list[float]] = {}
    samples = [getattr(s, what)(i) for s in shards for i in range(s.count(what))][:limit]
    for k in range(0, len(samples), batch):
        data = _tensors(_collate(what, samples[k : k + batch]))
        with training_precision():
            out = net(data["rgb"])
        for name, value in {**_loss(what, out, data), **_figures(what, _floats(out), data)}.items():
            sums.setdefault(name, []).append(float(value))
    net.train()
    return {name: round(float(np.nanmean(v)), 4) for name, v in sums.items()}


def _figures(what: str, out: Tensor | tuple[Tensor, ...], batch: losses.Batch) -> dict[str, Tensor]:
    """Degrees and percent for coarse, mm of the phases for fine, dB of the strips' heights for the decoder."""
    if what == "coarse":
        maps, true = out, batch["maps"]
        on = true[:, 1] > 0
        angle = torch.atan2(maps[:, 3], maps[:, 2]) - torch.atan2(true[:, 3], true[:, 2])  # type: ignore[call-overload]
        angle = (angle + math.pi) % (2 * math.pi) - math.pi
        if not on.any():
            return {}
        return {"deg_median": angle[on].abs().median() * 180 / math.pi,
                "flipped": (angle[on].abs() > math.pi / 2).float().mean()}  # fmt: skip
    if what == "fine":
        grid, area, marks, _ = out
        d = torch.atan2(grid[:, 1::2], grid[:, ::2]) - torch.atan2(batch["phase"][:, 1::2], batch["phase"][:, ::2])
        d = ((d + math.pi) % (2 * math.pi) - math.pi).abs() * 5 / (2 * math.pi)
        on = (batch["grid"] > 0)[:, None].expand_as(d)
        at = batch["heat"] >= 1
        right = (marks.sigmoid()[at] > 0.3).float().mean() if at.any() else torch.tensor(float("nan"))
        return {"phase_mm_median": d[on].median(), "phase_over_1mm": (d[on] > 1).float().mean(), "recall": right}
    height, presence = out
    error, present = expected_row(height) - batch["bin"], batch["present"]
    n = present.sum(1).clamp(min=1)
    error = error - ((error * present).sum(1) / n)[:, None]
    mean = (batch["bin"] * present).sum(1) / n
    power = (((batch["bin"] - mean[:, None]) ** 2) * present).sum(1)
    ratio = power / ((error**2) * present).sum(1).clamp(min=1e-3)
    seen = n > 100
    return {"db_median": 10 * torch.log10(ratio[seen].clamp(1e-2, 384)).median(),
            "db_mean": 10 * torch.log10(ratio[seen].clamp(1e-2, 384)).mean(),
            "presence_wrong": ((presence > 0).float() - present).abs().mean()}  # fmt: skip


def _running_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """Exponential average that forgets its beginning: n updates in, at most the last n / 10 count."""

    @torch.no_grad()
    def update(mean: Any, now: Any, n: Any) -> None:
        if not torch.is_floating_point(mean[0]):  # batch norm's step counts
            for m, x in zip(mean, now, strict=True):
                m.copy_(x)
            return
        n = float(n)
        torch._foreach_lerp_(mean, now, 1 - min(decay, (1 + n) / (10 + n)))

    return update


class _Run:
    """Net, its running average, optimiser and progress; saved together, atomically."""

    def __init__(self, config: TrainConfig) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.net = NETS[config.what]().to(memory_format=torch.channels_last)
        average = _running_average(config.ema)
        self.mean = torch.optim.swa_utils.AveragedModel(self.net, multi_avg_fn=average, use_buffers=True)
        self.optimiser = torch.optim.AdamW(self.net.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        self.step, self.spent_s = 0, 0.0
        self.path = config.out / f"{config.what}.ckpt"
        self.teacher: StripDecoder | None = None
        if config.teacher is not None:
            if not isinstance(self.net, StripDecoder):
                raise InputError("only a decoder has a teacher; leave it out")
            self.teacher = wide_decoder(config.teacher).to(memory_format=torch.channels_last)

    def resume(self) -> bool:
        """Go on from the run's checkpoint; False where there is none."""
        if not self.path.exists():
            return False
        state = torch.load(self.path, weights_only=True)
        self.net.load_state_dict(state["net"])
        self.mean.load_state_dict(state["mean"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.spent_s = state["step"], state["spent_s"]
        return True

    def begin(self, source: Path, pool: Pool) -> None:
        """Begin with the weights of another run or of a bundle."""
        if source.is_dir():
            begin_with_bundle(self.net, self.config.what, source)
            unfold_norms(self.net, (_tensors(pool.batch())["rgb"] for _ in range(UNFOLD_BATCHES)))
        else:
            begin_with(self.net, source)
        self.mean.module.load_state_dict(self.net.state_dict())

    def begin_taught(self, pool: Pool) -> None:
        """Begin with the channels of the teacher that matter most."""
        assert self.teacher is not None
        assert isinstance(self.net, StripDecoder)
        inputs = [_tensors(pool.batch())["rgb"] for _ in range(UNFOLD_BATCHES)]
        narrow(self.teacher, self.net, inputs)
        unfold_norms(self.net, inputs)
        self.mean.module.load_state_dict(self.net.state_dict())

    def save(self) -> None:
        """Checkpoint, whole or not at all."""
        save_whole({"net": self.net.state_dict(), "mean": self.mean.state_dict(), "step": self.step,
                    "optimiser": self.optimiser.state_dict(), "spent_s": self.spent_s}, self.path)  # fmt: skip

    def rate(self) -> float:
        """Learning rate now: linear warm-up, then a half cosine over steps, or over the time budget."""
        c = self.config
        done = self.spent_s / c.budget_s if c.budget_s else self.step / c.steps
        return (
            c.lr * min(1.0, (self.step + 1) / c.warmup) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1, done))))
        )

    def finished(self) -> bool:
        """True once the budget or the steps are used up."""
        return self.spent_s >= self.config.budget_s if self.config.budget_s else self.step >= self.config.steps


def train(config: TrainConfig) -> Path:
    """Train one net, going on from its checkpoint; returns the checkpoint."""
    torch.set_num_threads(config.threads)
    config.out.mkdir(parents=True, exist_ok=True)
    run = _Run(config)
    resumed = run.resume()
    (config.out / f"{config.what}.json").write_text(json.dumps(asdict(config), default=str, indent=1))
    pool = Pool(config, np.random.default_rng([config.seed, run.step]))
    if config.begin is not None and not resumed:
        run.begin(config.begin, pool)
    elif run.teacher is not None and not resumed:
        run.begin_taught(pool)
    held = [Shard(p, (config.what,)) for p in sorted(config.shards.glob("shard-*.npz"))[:VALIDATION_SHARDS]]
    log = (config.out / f"{config.what}.jsonl").open("a")
    clock, recent = time.perf_counter(), []
    for batch in _batches(pool):
        if run.finished():
            break
        terms = _step(run, _tensors(batch))
        recent.append({k: float(v.detach()) for k, v in terms.items()})
        now = time.perf_counter()
        run.spent_s, clock = run.spent_s + now - clock, now
        run.step += 1
        if run.step % config.log_every == 0:
            _report(run, recent, log)
            recent = []
        if run.step % config.save_every == 0:
            run.save()
            pool.refresh()
        if run.step % (config.save_every * 2) == 0:
            figures = validate(config.what, run.mean.module, held)
            print(f"  validation {figures}", flush=True)
            log.write(json.dumps({"step": run.step, "validation": figures}) + "\n")
    run.save()
    log.close()
    return run.path


def _step(run: _Run, data: losses.Batch) -> dict[str, Tensor]:
    for group in run.optimiser.param_groups:
        group["lr"] = run.rate()
    with training_precision():
        out = run.net(data["rgb"])
    terms = _loss(run.config.what, out, data)
    if run.teacher is not None:
        with torch.no_grad(), training_precision():
            told = run.teacher(data["rgb"])
        terms |= losses.taught_loss(tuple(_floats(out)), tuple(_floats(told)))
    total = torch.stack(list(terms.values())).sum()
    if not torch.isfinite(total):
        raise RuntimeError(f"step {run.step}: loss is not finite ({ {k: float(v) for k, v in terms.items()} }); "
                           "lower --lr and resume from the last checkpoint")  # fmt: skip
    run.optimiser.zero_grad()
    total.backward()
    nn.utils.clip_grad_norm_(run.net.parameters(), 2.0)
    run.optimiser.step()
    run.mean.update_parameters(run.net)
    return terms


def _report(run: _Run, recent: list[dict[str, float]], log) -> None:
    mean = {k: round(float(np.mean([r[k] for r in recent])), 4) for k in recent[0]}
    line = {"step": run.step, "spent_s": round(run.spent_s, 1), "lr": round(run.rate(), 6), **mean}
    log.write(json.dumps(line) + "\n")
    log.flush()
    print(f"{run.config.what} {line}", flush=True)


def begin_with(net: nn.Module, checkpoint: Path) -> None:
    """Give the net the running average of another run; layers that it didn't have must be silent ones."""
    if not checkpoint.exists():
        raise InputError(f"{checkpoint}: no such checkpoint to begin with; give one of an earlier run")
    state = torch.load(checkpoint, weights_only=True)["mean"]
    told = {k.removeprefix("module."): v for k, v in state.items() if k != "n_averaged"}
    missing, unknown = net.load_state_dict(told, strict=False)
    if unknown or any(".refine." not in k for k in missing):
        raise InputError(f"{checkpoint}: of another net (not there: {', '.join(missing[:3]) or '-'}; too many: "
                         f"{', '.join(unknown[:3]) or '-'}); give one of the same part")  # fmt: skip


def load_net(what: str, checkpoint: Path) -> nn.Module:
    """The running average of a run's net, in eval mode."""
    net = NETS[what]()
    state = torch.load(checkpoint, weights_only=True)["mean"]
    net.load_state_dict({k.removeprefix("module."): v for k, v in state.items() if k != "n_averaged"})
    return net.eval()
