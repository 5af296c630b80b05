"""How much the local page takes at once, and how long anything may last."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bytes, counts and seconds; what exceeds them is refused with its reason."""

    upload_bytes: int = 40_000_000
    correction_bytes: int = 8_000
    waiting: int = 4  # uploads that wait for their turn while one photo is read
    uploads: int = 6  # bodies that are being received or wait
    connections: int = 40
    idle_s: float = 10.0  # between two bytes of a request
    head_s: float = 10.0  # a whole request without its body
    body_s: float = 120.0
    answer_s: float = 120.0
    reading_s: float = 90.0  # waiting included
    drain_s: float = 5.0  # for the rest of a refused upload, so that the client sees the answer
    session_s: float = 900.0  # a photo is forgotten so long after its last use
    sessions: int = 8
    session_bytes: int = 200_000_000


RETRY_AFTER_S = 5
