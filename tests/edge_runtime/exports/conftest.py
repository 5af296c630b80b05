from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from export_readings import PHOTO, WHEN, odd, whole

from ecg.page import Reading
from edge_runtime.exports import export


@pytest.fixture(params=[whole, odd], ids=lambda f: f.__name__)
def reading(request: pytest.FixtureRequest) -> Reading:
    return request.param()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Export a reading and name its last file."""

    def run(reading: Reading, fmt: str, **kwargs: object) -> Path:
        return export(reading, PHOTO, fmt, tmp_path / "page 1.x", when=WHEN, **kwargs)[-1]

    return run
