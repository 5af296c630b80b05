"""Checkpoints that appear whole or not at all, whenever the training is ended."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def save_whole(state: Mapping[str, Any], path: Path) -> None:
    """Write what ``torch.load`` gives back; the file that was there stays until the new one is complete."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    torch.save(dict(state), part)
    os.replace(part, path)
