"""One line of JSON for each measurement, with the conditions that it was taken under."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import ecg
from ecg.page import BundleInfo
from edge_runtime.engines.base import usable_cores

REPO = Path(__file__).resolve().parents[1]
INSTRUCTIONS = (  # for 8-bit nets, the fastest first
    ("amx_int8", "AMX"), ("avx512_vnni", "VNNI"), ("avx_vnni", "VNNI"), ("avx512bw", "AVX-512"), ("avx2", "AVX2"),
)  # fmt: skip


def conditions(data: str, *, seed: int | None = None, bundle: BundleInfo | None = None) -> dict[str, Any]:
    """What a figure needs to be compared with another: command, data, seed, device, nets, commit."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"),
        "command": "python -m " + " ".join([_module(), *(_short(a) for a in sys.argv[1:])]),
        "data": data,
        "seed": seed,
        "device": cpu_name(),
        "cores": usable_cores(),
        "precision": "fp32" if bundle is None else bundle.precision,
        "bundle": None if bundle is None else f"{bundle.version} {bundle.sha256[:12]}",
        "ecgscan": ecg.__version__,
        "commit": commit(),
    }


def append_result(path: Path, line: Mapping[str, Any]) -> None:
    """Add one measurement to a ``.jsonl`` file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(tidy(line), allow_nan=False) + "\n")


def read_results(path: Path) -> list[dict[str, Any]]:
    """All measurements of a file, oldest first."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def tidy(value: Any) -> Any:
    """Figures with five digits; NaN becomes null."""
    if isinstance(value, Mapping):
        return {str(k): tidy(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [tidy(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def _module() -> str:
    """The module that runs, as ``python -m`` names it."""
    path = Path(sys.argv[0])
    inside = path.resolve().is_relative_to(REPO) and path.suffix == ".py"
    return ".".join(path.resolve().relative_to(REPO).with_suffix("").parts) if inside else path.stem


def _short(argument: str) -> str:
    """Paths relative to the project: a result names no folder of the machine that measured it."""
    kind, colon, rest = argument.rpartition(":")  # ptbxl:DIR and the like
    path = Path(rest)
    return kind + colon + Path(os.path.relpath(path, REPO)).as_posix() if path.is_absolute() else argument


def cpu_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model name, and what it computes 8-bit nets with: one name may stand for several generations."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    name = said.get("model name") or platform.processor() or platform.machine()
    flags = said.get("flags", "").split()
    best = next((told for flag, told in INSTRUCTIONS if flag in flags), "")
    return f"{name} ({best})" if best else name


def commit() -> str | None:
    """The project's commit, with a + where files differ from it; None outside a checkout."""
    try:
        head = _git("rev-parse", "--short=10", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPO, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def peak_rss_mb() -> float:
    """The largest memory that this process held, MB."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 1024
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 1e6 if sys.platform == "darwin" else used / 1024
