"""Readers without nets for archives: what they do depends on a page's grey. Run as a script: a batch to be killed."""

import os
import sys
import time
from functools import partial
from pathlib import Path

import fake_reader

from ecg.page import Overrides
from edge_runtime.batch import BatchOptions, run_batch

DEADLY, SLOW = 100, 150


class HardReader(fake_reader.Reader):
    """Grey ``DEADLY`` ends its process, ``SLOW`` takes for ever."""

    def read(self, photo, overrides=Overrides()):  # noqa: B008
        level = round(float(photo.rgb[::8, ::8].mean()))
        if abs(level - DEADLY) < 3:
            os._exit(9)
        if abs(level - SLOW) < 3:
            time.sleep(600)
        return super().read(photo, overrides)


class PatientReader(fake_reader.Reader):
    """Takes its time, and notes in a file which pages it was asked for."""

    def __init__(self, log: str) -> None:
        super().__init__()
        self._log = log

    def read(self, photo, overrides=Overrides()):  # noqa: B008
        with Path(self._log).open("a") as file:
            file.write(f"{Path(photo.source).name} {photo.page}\n")
        time.sleep(0.02)
        return super().read(photo, overrides)


def broken() -> fake_reader.Reader:
    raise RuntimeError("no nets here")


if __name__ == "__main__":
    source, out, log = sys.argv[1:]
    run_batch(source, BatchOptions(Path(out), workers=1), partial(PatientReader, log), "0" * 64)
