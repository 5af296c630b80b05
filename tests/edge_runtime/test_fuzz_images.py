"""Broken files of every kind: read or refused in one line, within 5 s of the processor's time, never a fault."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import mutations
import pytest

REPO = Path(__file__).parents[2]
SEED = 20261122


def test_whole_pictures_are_read_or_refused_for_what_they_are(tmp_path: Path) -> None:
    got = {kind: mutations.read_all(data, tmp_path / "whole") for kind, data in mutations.pictures().items()}
    assert got == {kind: "refused" if kind in ("GIF", "animated") else "read" for kind in mutations.KINDS}


def test_some_hundred_broken_pictures(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    for k, kind, data in mutations.mutants(SEED, 0, 480):
        start = time.process_time()
        answer = mutations.read_all(data, tmp_path / "mutant")
        assert answer in ("read", "refused"), f"mutant {k} ({kind}): {answer}"
        assert time.process_time() - start < mutations.CPU_LIMIT_S, f"mutant {k} ({kind})"
        seen[answer] += 1
    assert min(seen.values()) > 100  # broken enough to be refused, whole enough to reach the decoders


@pytest.mark.nightly
def test_ten_thousand_broken_pictures(tmp_path: Path) -> None:
    """In a child, so that a crash in a decoder is a mutant's number and not the end of the tests."""
    done, wrong = 0, []
    environment = dict(os.environ, PYTHONPATH=str(REPO))
    while done < 10_000:
        command = [sys.executable, mutations.__file__, str(SEED + 1), str(done), str(10_000 - done), str(tmp_path)]
        child = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        lines = child.stdout.splitlines()
        wrong += [line for line in lines if line.split(" ", 2)[2:] not in (["read"], ["refused"])]
        if child.returncode:
            wrong.append(f"mutant {lines[-1] if lines else done}: ended with code {child.returncode}")
        done += max(1, len(lines))
    assert wrong == []
