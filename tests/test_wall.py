"""ecg and edge_runtime import without torch and friends; ecg imports none of the other packages."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
BANNED = ("torch", "torchvision", "transformers", "timm", "open_clip", "scipy", "peft", "accelerate", "onnx", "pandas")
OURS = ("teacher", "distill", "calibration", "export", "edge_runtime", "ecg")
MAY_IMPORT = {"ecg": {"ecg"}, "edge_runtime": {"ecg", "edge_runtime"}}


def modules(package: str) -> list[Path]:
    return sorted((REPO / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Top names of every import, those inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_what_is_imported(package: str) -> None:
    for path in modules(package):
        names = imported(path)
        assert not names & set(BANNED), f"{path} imports {names & set(BANNED)}"
        assert names & set(OURS) <= MAY_IMPORT[package], f"{path} imports {names & set(OURS)}"


def test_only_to_onnx_imports_the_students() -> None:
    for package in ("export", "calibration", "teacher"):
        for path in modules(package):
            if path.name != "to_onnx.py":
                assert "distill" not in imported(path), path


def test_every_module_imports_behind_the_wall() -> None:
    """In a process where importing a banned package fails, as it does after ``pip install .``."""
    names = [
        ".".join(path.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__")
        for package in MAY_IMPORT
        for path in modules(package)
        if path.name != "__main__.py"
    ]
    code = f"""
import importlib, sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {(*BANNED, "wfdb")!r}:
            raise ImportError("behind the wall: " + name)
sys.meta_path.insert(0, Wall())
for name in {names!r}:
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
