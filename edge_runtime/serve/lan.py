"""A phone as the camera: the address to open, a token that works once, and the QR code that carries both."""

from __future__ import annotations

import hmac
import io
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

import segno

from ecg.errors import InputError

PAIRED_S: Final = 12 * 3600.0  # a connected phone stays connected so long
WRONG_TRIES: Final = 10  # a minute
MAX_PHONES: Final = 16


def is_own(address: str) -> bool:
    """Whether an address is one of this machine's."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


class Pairing:
    """Who may use the page from elsewhere: tokens used once give cookies, kept in memory."""

    def __init__(self, address: str, port: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.address, self.port = address, port
        self._clock = clock
        self._token = secrets.token_urlsafe(16)
        self._cookies: dict[str, float] = {}
        self._wrong: list[float] = []
        self._lock = threading.Lock()
        self.on_new_token: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        """Where the phone goes; the token is behind #, which browsers send nowhere and write in no log."""
        return f"http://{self.host}/join#{self._token}"

    @property
    def host(self) -> str:
        """What browsers put in the Host header."""
        name = f"[{self.address}]" if ":" in self.address else self.address
        return name if self.port == 80 else f"{name}:{self.port}"

    @property
    def cookie_name(self) -> str:
        """Browsers keep one cookie jar for all ports of a machine."""
        return f"ecgscan_{self.port}"

    def redeem(self, token: str) -> str | None:
        """A cookie's value for the current token, which is then used up; None for any other."""
        with self._lock:
            if not hmac.compare_digest(token.encode(), self._token.encode()):
                self._wrong.append(self._clock())
                return None
            self._token = secrets.token_urlsafe(16)
            cookie = secrets.token_urlsafe(24)
            self._cookies[cookie] = self._clock() + PAIRED_S
            while len(self._cookies) > MAX_PHONES:
                del self._cookies[next(iter(self._cookies))]
        self.on_new_token()
        return cookie

    def too_many_tries(self) -> bool:
        """Somebody guesses."""
        with self._lock:
            self._wrong = [t for t in self._wrong[-WRONG_TRIES:] if self._clock() - t < 60.0]
            return len(self._wrong) >= WRONG_TRIES

    def knows(self, cookie: str) -> bool:
        """True for a cookie that was given out and is still good."""
        with self._lock:
            until = self._cookies.get(cookie)
            return until is not None and self._clock() < until


def qr_modules(text: str) -> tuple[int, str]:
    """A QR code with its quiet border as (modules a side, SVG path data of the dark ones)."""
    rows = [bytes(row) for row in segno.make(text, micro=False, error="m").matrix_iter(border=4)]
    runs = []
    for y, row in enumerate(rows):
        x = 0
        while x < len(row):
            if row[x]:
                end = row.find(b"\0", x)
                end = len(row) if end < 0 else end
                runs.append(f"M{x} {y}h{end - x}v1H{x}z")
                x = end
            x += 1
    return len(rows), "".join(runs)


def qr_for_terminal(text: str) -> str:
    """A QR code in half blocks, for any terminal."""
    out = io.StringIO()
    segno.make(text, micro=False, error="m").terminal(out, compact=True, border=2)
    return out.getvalue()


def lan_address() -> str:
    """The IPv4 address under which this machine is seen on its network; nothing is sent. Raises ``InputError``."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: connecting a datagram socket only picks the way out
            address = str(probe.getsockname()[0])
        except OSError:
            address = ""
    if not address or address.startswith("127.") or address == "0.0.0.0":
        raise InputError("--lan: this machine is in no network; connect it, or name its address with --address")
    return address
