"""Photos that were read a short while ago, in memory only: for corrections and downloads, then forgotten."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ecg.page import Overrides, Reading, Unreadable
from edge_runtime.serve.limits import Limits


@dataclass(frozen=True, eq=False)
class Session:
    """One uploaded photo with its reading; ``overlay`` is a PNG, empty where nothing was read."""

    upload: bytes
    source: str
    stem: str
    result: Reading | Unreadable
    document: bytes  # the reading's JSON
    overlay: bytes = b""
    overrides: Overrides = field(default_factory=Overrides)
    used_s: float = 0.0

    @property
    def n_bytes(self) -> int:
        """About what it holds in memory."""
        signal = self.result.signal.mv.nbytes * 3 if isinstance(self.result, Reading) else 0
        return len(self.upload) + len(self.overlay) + len(self.document) + signal


class Sessions:
    """Sessions by a name nobody can guess; the least recently used go first."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._kept: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, session: Session) -> str:
        """Keep it under a new name."""
        name = secrets.token_urlsafe(16)
        self.put(name, session)
        return name

    def put(self, name: str, session: Session) -> None:
        """Keep it under this name."""
        with self._lock:
            self._kept[name] = replace(session, used_s=self._clock())
            self._kept.move_to_end(name)
            self._drop()

    def get(self, name: str) -> Session | None:
        """The session of this name if it is still there, which keeps it there for longer."""
        with self._lock:
            self._drop()
            session = self._kept.get(name)
            if session is not None:
                self._kept[name] = replace(session, used_s=self._clock())
                self._kept.move_to_end(name)
            return session

    def renew(self, name: str, session: Session) -> bool:
        """Replace a session that is still there; False if it was forgotten meanwhile."""
        with self._lock:
            if name not in self._kept:
                return False
            self._kept[name] = replace(session, used_s=self._clock())
            return True

    def forget(self, name: str) -> bool:
        """Drop it now; False if it was not there."""
        with self._lock:
            return self._kept.pop(name, None) is not None

    def sweep(self) -> None:
        """Drop what is too old."""
        with self._lock:
            self._drop()

    def clear(self) -> None:
        """Drop all."""
        with self._lock:
            self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)

    def _drop(self) -> None:
        limits, now = self._limits, self._clock()
        total = sum(s.n_bytes for s in self._kept.values())
        while self._kept:
            oldest = next(iter(self._kept.values()))
            over = len(self._kept) > limits.sessions or (total > limits.session_bytes and len(self._kept) > 1)
            if not over and now - oldest.used_s <= limits.session_s:
                return
            self._kept.popitem(last=False)
            total -= oldest.n_bytes
