"""The same work in several processes, each with its own share."""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Callable, Sequence
from typing import TypeVar

from threadpoolctl import threadpool_limits

from ecg.errors import EcgscanError

T = TypeVar("T")
C = TypeVar("C")


def run_shares(work: Callable[[C, Sequence[T]], None], task: C, todo: Sequence[T], workers: int) -> None:
    """``work(task, share)`` in each of ``workers`` processes, every ``workers``-th of ``todo`` being one's share.

    One worker works in this process; of several, each stays on one core.  Raises ``EcgscanError`` that names the
    processes that failed.
    """
    if workers == 1:
        work(task, todo)
        return
    context = mp.get_context("spawn")
    shares = [todo[k::workers] for k in range(workers)]
    jobs = [context.Process(target=_on_one_core, args=(work, task, share), daemon=True) for share in shares]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    if failed := [k for k, job in enumerate(jobs) if job.exitcode]:
        raise EcgscanError(f"rendering failed in processes {failed}: their messages stand above; run again to go on")


def _on_one_core(work: Callable[[C, Sequence[T]], None], task: C, share: Sequence[T]) -> None:
    with threadpool_limits(limits=1, user_api="blas"):  # a second thread would wait in a busy loop
        work(task, share)
