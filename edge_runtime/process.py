"""What a process holds, from /proc: for benchmarks and soaks on Linux."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Held:
    """Resident memory MB, threads, open files."""

    rss_mb: float
    threads: int
    files: int


def held(pid: int | str = "self") -> Held:
    """What a process holds now; raises ``OSError`` where it is gone or the system has no /proc."""
    proc = Path(f"/proc/{pid}")
    status = (proc / "status").read_text(encoding="utf-8")
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    files = len(list((proc / "fd").iterdir()))
    return Held(int(fields["VmRSS"].split()[0]) / 1024, int(fields["Threads"]), files)
