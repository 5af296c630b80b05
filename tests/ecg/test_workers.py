"""Work shared by processes: everything is done once, each process on one core."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from ecg.errors import EcgscanError
from ecg.workers import run_shares


def note(folder: Path, share: Sequence[int]) -> None:
    assert np.isfinite(np.linalg.inv(np.eye(3))).all()  # BLAS is here
    threads = max((p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"), default=1)
    for k in share:
        (folder / str(k)).write_text(str(threads))


def fail(folder: Path, share: Sequence[int]) -> None:
    if 1 in share:
        raise SystemExit(3)


@pytest.mark.parametrize("workers", [1, 2])
def test_everything_is_done_once(tmp_path: Path, workers: int) -> None:
    run_shares(note, tmp_path, range(5), workers)
    assert sorted(p.name for p in tmp_path.iterdir()) == list("01234")
    if workers > 1:
        assert {p.read_text() for p in tmp_path.iterdir()} == {"1"}


def test_a_process_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(EcgscanError, match=r"processes \[1\]"):
        run_shares(fail, tmp_path, range(4), 2)
