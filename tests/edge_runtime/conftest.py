from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPO = Path(__file__).parents[2]
HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))


@pytest.fixture
def page_rgb() -> np.ndarray:
    """A ruled grey page of 2000 x 1000 px, darker at the top, so that a wrong rotation shows."""
    rgb = np.full((1000, 2000, 3), 200, np.uint8)
    rgb[::30] = (220, 120, 120)
    rgb[:, ::30] = (220, 120, 120)
    rgb[:60] = (10, 20, 30)  # the "header"
    return rgb


@pytest.fixture
def page_jpg(tmp_path: Path, page_rgb: np.ndarray) -> Path:
    path = tmp_path / "page.jpg"
    Image.fromarray(page_rgb).save(path, quality=90)
    return path


@pytest.fixture
def edge() -> Callable[..., subprocess.CompletedProcess[str]]:
    """``ecgscan-edge`` in a process of its own, with the fake reader."""

    def run(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        env = dict(os.environ, PYTHONPATH=str(REPO), PYTHONWARNINGS="default")
        command = [sys.executable, str(HERE / "fake_reader.py"), *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, timeout=120, check=False)

    return run
