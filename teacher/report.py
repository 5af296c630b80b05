"""What a training says while it runs: a bar on a terminal, lines elsewhere; JSONL always, TensorBoard if installed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Report:
    """One run's voice; silent (but for nothing lost: only the main process writes) where ``speaks`` is False."""

    def __init__(self, folder: Path, speaks: bool = True) -> None:
        self.folder, self.speaks = folder, speaks
        self.console = Console(stderr=True, highlight=False)
        self._bar: Progress | None = None
        self._task: Any = None
        self._said: tuple[str, int] = ("", -1)
        self._board: Any = None

    def __enter__(self) -> Report:
        if self.speaks and importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self.folder / "tensorboard"))
        if self.speaks and self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                TimeRemainingColumn(), TextColumn("{task.fields[said]}"), console=self.console,
            )  # fmt: skip
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()
        if self._board:
            self._board.close()

    def progress(self, stage: str, done: int, of: int, said: str = "") -> None:
        """Move the stage's bar; without a terminal, a line at every tenth."""
        if not self.speaks:
            return
        if self._bar:
            if self._said[0] != stage:
                self._task = self._bar.add_task(stage, total=of, said="")
                self._said = (stage, 0)
            self._bar.update(self._task, completed=done, said=said)
        elif (tenth := 10 * done // max(1, of)) > self._said[1] or self._said[0] != stage:
            self._said = (stage, tenth)
            self.console.print(f"{stage} {done}/{of} {said}".rstrip(), soft_wrap=True)

    def note(self, line: str) -> None:
        """One line for the reader."""
        if self.speaks:
            self.console.print(line, soft_wrap=True, markup=False)

    def log(self, file: str, values: dict[str, float], step: int) -> None:
        """Append a line to a JSONL file of the run, and the same to TensorBoard."""
        if not self.speaks:
            return
        with (self.folder / file).open("a", encoding="utf-8") as out:
            out.write(json.dumps({"step": step, **values}) + "\n")
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(f"{Path(file).stem}/{name}", value, step)


def forget_after(path: Path, step: int) -> None:
    """Drop a JSONL file's lines of later steps (they will be made again) and a last line cut off by a crash."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError):
            continue
    path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
