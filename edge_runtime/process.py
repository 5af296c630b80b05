"""What a process holds, from /proc, for benchmarks and soaks on Linux; and freed memory handed back."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Held:
    """Resident memory MB, threads, open files; of the memory, ``own_mb`` is the process's own.  The rest are files'
    pages (libraries), which the system takes away from an idle process and brings back as it likes."""

    rss_mb: float
    threads: int
    files: int
    own_mb: float = 0.0
    peak_mb: float = 0.0  # resident, since the start or since ``forget_peak``


def held(pid: int | str = "self") -> Held:
    """What a process holds now; raises ``OSError`` where it is gone or the system has no /proc."""
    proc = Path(f"/proc/{pid}")
    status = (proc / "status").read_text(encoding="utf-8")
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    files = len(list((proc / "fd").iterdir()))
    rss, own, peak = (int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon", "VmHWM"))
    return Held(rss, int(fields["Threads"]), files, own, peak)


def forget_peak() -> None:
    """Let this process's peak start anew; raises ``OSError`` where the system has no /proc."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def trim() -> None:
    """Hand freed memory to the system, where the C library can (glibc): after pages of different sizes it keeps about
    150 MB of it, and how much wavers from page to page."""
    give_back = _malloc_trim()
    if give_back is not None:
        give_back(0)


@cache
def _malloc_trim() -> Any:
    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # Windows has no library of that kind
        return None
