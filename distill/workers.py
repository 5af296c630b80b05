"""The same work in several processes, each with its own share."""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Callable
from typing import TypeVar

C = TypeVar("C")


def run_workers(work: Callable[[int, C], None], config: C, workers: int) -> None:
    """``work(k, config)`` for every worker k, in this process if there is one; RuntimeError names those that failed."""
    if workers == 1:
        work(0, config)
        return
    context = mp.get_context("spawn")
    jobs = [context.Process(target=work, args=(k, config)) for k in range(workers)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    if failed := [k for k, job in enumerate(jobs) if job.exitcode]:
        raise RuntimeError(f"workers {failed} failed: their messages stand above; run again to go on")
