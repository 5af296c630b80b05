"""The dataset that ``batch`` writes: a folder of Parquet parts, each written whole, and one table of errors.

``dataset.json`` says what the parts were made with, ``readings-NNNNNN.parquet`` hold the rows, ``errors.csv`` what was
not read, ``files/`` other formats where asked for.  A file counts as done when a part holds its rows, and a part
appears under its name in one step, synced to disk, with all the rows of each of its files: whenever the process is
killed, a file is either wholly there or not at all.  There is no journal beside the parts that could contradict them.
"""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from ecg.errors import EcgscanError
from edge_runtime.batch_rows import FORMAT_VERSION, READ, give_back_memory, unpacked
from edge_runtime.outputs import write_atomic

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FORMAT: Final = "ecgscan.readings"
ROWS_A_PART: Final = 64  # one row group; what a kill costs at most, and about 2 MB
MADE_WITH: Final = "dataset.json"
ERRORS: Final = "errors.csv"
FILES: Final = "files"
_PART: Final = "readings-{:06d}.parquet"
_ERROR_COLUMNS: Final = ("file", "page", "status", "reason", "message")


class Dataset:
    """A dataset open for adding; one process at a time."""

    def __init__(self, folder: Path, made_with: Mapping[str, Any], rows_a_part: int = ROWS_A_PART) -> None:
        """Open or create; raises ``EcgscanError`` in one line: in use, made otherwise, damaged, not writable."""
        self.folder = folder
        self._rows_a_part = rows_a_part
        self._waiting: list[bytes] = []
        self.done: dict[str, int] = {}  # file -> its bytes
        self.statuses: dict[str, str] = {}  # file -> the worst of its pages'
        self._next = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(folder)
        except OSError as err:
            raise EcgscanError(f"{folder}: can't be written ({err.strerror or err}); choose another --out") from err
        try:
            self._check_made_with({"format": FORMAT, "format_version": FORMAT_VERSION, **made_with})
            for left in folder.glob(".readings-*"):  # of a killed process
                left.unlink(missing_ok=True)
            for part in self.parts():
                self._next = int(part.stem.removeprefix("readings-")) + 1
                self._learn(_columns(part, ("file", "file_bytes", "status")))
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Dataset:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.flush()
            self.write_errors()
        finally:
            self._lock.close()

    def parts(self) -> list[Path]:
        """The parts, oldest first."""
        return sorted(p for p in self.folder.glob("readings-*.parquet") if p.stem.removeprefix("readings-").isdigit())

    def add(self, rows: Sequence[bytes]) -> None:
        """All rows of one file; written with others when a part is full."""
        self._waiting += rows
        if len(self._waiting) >= self._rows_a_part:
            self.flush()

    def flush(self) -> None:
        """Write what waits as a part."""
        if not self._waiting:
            return
        table = unpacked(self._waiting)
        path = self.folder / _PART.format(self._next)
        _write_part(table, path, self._rows_a_part)
        self._next += 1
        self._waiting = []
        self._learn(table.select(["file", "file_bytes", "status"]))
        del table
        give_back_memory()

    def _learn(self, table: Any) -> None:
        columns = (table[name].to_pylist() for name in ("file", "file_bytes", "status"))
        for file, size, status in zip(*columns, strict=True):  # what stays of a file: about 160 bytes
            self.done[file] = size or 0
            self.statuses[file] = max(self.statuses.get(file, READ), sys.intern(status), key=_SEVERITY.__getitem__)

    def counts(self, files: Iterable[str] | None = None) -> Counter[str]:
        """How many files ended how, the worst page counts."""
        return Counter(self.statuses[f] for f in (self.statuses if files is None else files) if f in self.statuses)

    def write_errors(self) -> None:
        """The table of what could not be read, made anew from the parts."""
        out = io.StringIO(newline="")
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(_ERROR_COLUMNS)
        for part in self.parts():
            columns = _columns(part, _ERROR_COLUMNS).to_pydict()
            for row in zip(*(columns[name] for name in _ERROR_COLUMNS), strict=True):
                if row[2] != READ or row[4]:  # read, but something could not be written
                    writer.writerow(["" if cell is None else cell for cell in row])
        write_atomic(self.folder / ERRORS, out.getvalue().encode())

    def _check_made_with(self, now: dict[str, Any]) -> None:
        path = self.folder / MADE_WITH
        if not path.exists():
            if any(self.folder.glob("readings-*.parquet")):
                raise EcgscanError(f"{self.folder}: has readings but no {MADE_WITH}; choose another --out")
            write_atomic(path, (json.dumps(now, indent=2) + "\n").encode())
            return
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as err:
            raise EcgscanError(f"{path}: not JSON; choose another --out") from err
        if not isinstance(before, dict) or before.get("format") != FORMAT:
            raise EcgscanError(f"{path}: is not of an ecgscan dataset; choose another --out")
        had, wanted = _flat(before), _flat(now)
        said = ", ".join(f"{k} {had.get(k)}, now {v}" for k, v in wanted.items() if had.get(k) != v)
        if said:
            raise EcgscanError(f"{self.folder}: made with {said}; choose another --out")


_SEVERITY: Final = {READ: 0, "unreadable": 1, "unusable": 2, "fault": 3}


def _flat(made_with: Mapping[str, Any]) -> dict[str, Any]:
    """What is inside overrides beside the rest."""
    inside = made_with.get("overrides")
    rest = {k: v for k, v in made_with.items() if k != "overrides"}
    return {**rest, **inside} if isinstance(inside, dict) else {**rest, "overrides": inside}


def _locked(folder: Path) -> Any:
    """An open file that holds the folder for this process; the system lets go of it however the process ends."""
    file = (folder / ".lock").open("w")
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            file.close()
            raise EcgscanError(
                f"{folder}: another batch is writing there; wait for it or choose another --out"
            ) from err
    return file


def _write_part(table: Any, path: Path, rows_a_group: int) -> None:
    """A Parquet file whole or not at all, on the disk before it has its name."""
    import pyarrow.parquet as pq

    temporary = path.parent / f".{path.stem}-{secrets.token_hex(6)}"
    try:
        with temporary.open("xb") as file:
            pq.write_table(table, file, compression="zstd", row_group_size=rows_a_group)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        if os.name == "posix":
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as err:
        temporary.unlink(missing_ok=True)
        raise EcgscanError(f"{path}: can't be written ({err.strerror or err}); the same command goes on later") from err


def _columns(part: Path, names: Sequence[str]) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(part, columns=list(names), memory_map=False)
    except (OSError, pa.ArrowException) as err:
        raise EcgscanError(f"{part}: damaged ({err.__class__.__name__}); delete it: its files are read again") from err
