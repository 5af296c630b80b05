"""Who may ask: the page's own address only, from this machine or from a phone that was let in.

A page of another site that a browser here has open must not reach ours: neither by a name that it points at 127.0.0.1
(DNS rebinding: the Host header tells) nor by a form or a script (Origin, Sec-Fetch-Site, and a header of our own that
a foreign page can't add without being asked first).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Final

from edge_runtime.serve.lan import Pairing

MARK: Final = "X-Ecgscan"  # on every request that changes something
OPEN_PATHS: Final = ("/", "/join")  # pages without data: links to them may come from anywhere


@dataclass(frozen=True)
class Refusal:
    """An answer other than what was asked for: HTTP status, a code for programs, a line for people."""

    status: int
    code: str
    message: str
    retry_after_s: int | None = None


@dataclass(frozen=True)
class Guard:
    """Checks of every request; ``pairing`` is None unless phones may connect."""

    port: int
    pairing: Pairing | None = None

    def refusal(self, peer: str, method: str, path: str, headers: Mapping[str, str]) -> Refusal | None:
        """Why the request is not answered, or None. ``path`` is without its query."""
        host = headers.get("Host", "")
        if host not in self._hosts(peer):
            return Refusal(421, "wrong_host", "this address is not the page's own; open the one that ecgscan-edge says")
        origin = headers.get("Origin")
        if origin is not None and origin != f"http://{host}":
            return Refusal(403, "foreign_origin", "another site's page may not use this one")
        site = headers.get("Sec-Fetch-Site", "same-origin")
        link = method in ("GET", "HEAD") and path in OPEN_PATHS
        if site not in ("same-origin", "none") and not link:
            return Refusal(403, "foreign_origin", "another site's page may not use this one")
        if method not in ("GET", "HEAD") and headers.get(MARK) != "1":
            return Refusal(403, "no_mark", f"requests that change something need the header {MARK}: 1")
        if path.startswith("/api/") and path != "/api/join" and not self._let_in(peer, headers):
            return Refusal(401, "not_connected", "this device is not connected: scan the code on the computer's screen")
        return None

    def _hosts(self, peer: str) -> set[str]:
        """What a browser calls us: by a loopback name only on this very machine."""
        tail = "" if self.port == 80 else f":{self.port}"
        names = {f"{n}{tail}" for n in ("127.0.0.1", "localhost", "[::1]")} if is_loopback(peer) else set()
        return names | ({self.pairing.host} if self.pairing else set())

    def _let_in(self, peer: str, headers: Mapping[str, str]) -> bool:
        if is_loopback(peer):
            return True
        if self.pairing is None:
            return False
        try:
            cookie = SimpleCookie(headers.get("Cookie", "")).get(self.pairing.cookie_name)
        except CookieError:
            return False
        return cookie is not None and self.pairing.knows(cookie.value)


def is_loopback(peer: str) -> bool:
    """True for an address of this machine itself."""
    try:
        address = ipaddress.ip_address(peer.split("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
