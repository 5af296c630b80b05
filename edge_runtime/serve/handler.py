"""One HTTP request: checked, answered with JSON, a static file or a download, never with a trace of ours."""

from __future__ import annotations

import contextlib
import json
import re
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from ecg.errors import EcgscanError
from ecg.page import Overrides
from edge_runtime.images import printable
from edge_runtime.serve.guard import Refusal
from edge_runtime.serve.jobs import BusyError, LateError
from edge_runtime.serve.limits import RETRY_AFTER_S
from edge_runtime.serve.payload import download, overrides_of, page_json

if TYPE_CHECKING:
    from edge_runtime.serve.server import PageServer

STATIC: Final = Path(__file__).parent / "static"
_TYPES: Final = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
                 ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}  # fmt: skip
_PAGES: Final = {"/": "index.html", "/join": "join.html", "/favicon.ico": "icon.svg"}
_SECURITY: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
_READING: Final = re.compile(r"/api/readings/([A-Za-z0-9_-]{10,40})(?:/([a-z]{1,20})(?:/([a-z0-9]{1,20}))?)?")
_CHUNK: Final = 1 << 18
MAX_NAME: Final = 80
_NOT_FOUND: Final = Refusal(404, "not_found", "there is nothing at this address")
_GONE: Final = Refusal(404, "forgotten", "this photo was forgotten; take or drop it again")


class AnswerError(Exception):
    """Carries a refusal out of a handler."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def static_files() -> dict[str, Path]:
    """Path of the address to file: what lies in ``static`` and nothing else."""
    found = {f"/static/{p.name}": p for p in STATIC.iterdir() if p.suffix in _TYPES}
    return found | {address: STATIC / name for address, name in _PAGES.items()}


class Handler(BaseHTTPRequestHandler):
    """Answers one request and closes the connection."""

    server: PageServer
    protocol_version = "HTTP/1.1"
    server_version = "ecgscan"
    sys_version = ""
    _files = static_files()
    _unread: int = 0  # bytes of the body that are still to come

    def setup(self) -> None:
        """Also the time between two bytes is limited."""
        super().setup()
        self.connection.settimeout(self.server.limits.idle_s)

    def handle(self) -> None:
        """One request; a client that goes away or never ends is no fault."""
        with contextlib.suppress(OSError):
            super().handle()
            if self._unread:
                self._drain()

    def do_GET(self) -> None:
        """Pages, state, pictures, downloads."""
        self._answer("GET")

    def do_HEAD(self) -> None:
        """The same without the body."""
        self._answer("GET")

    def do_POST(self) -> None:
        """Uploads, corrections, a phone's token."""
        self._answer("POST")

    def do_DELETE(self) -> None:
        """Forget a photo."""
        self._answer("DELETE")

    # -- routing

    def _answer(self, method: str) -> None:
        self.server.limit(self.connection, self.server.limits.answer_s)
        self.close_connection = True
        try:
            self._unread = self._body_length()
            path = self.path.partition("?")[0]
            headers = {name.title(): value for name, value in self.headers.items()}
            refusal = self.server.guard.refusal(str(self.client_address[0]), self.command, path, headers)
            if refusal is not None:
                raise AnswerError(refusal)
            self._route(method, path)
        except AnswerError as err:
            self._refuse(err.refusal)
        except EcgscanError as err:
            self._refuse(Refusal(422, "unusable", str(err)))
        except BusyError:
            self._refuse(Refusal(503, "busy", "other photos are being read; try again in a moment", RETRY_AFTER_S))
        except LateError:
            self._refuse(Refusal(504, "late", "the reading took too long; send a smaller photo", RETRY_AFTER_S))
        except (ConnectionError, TimeoutError):
            raise
        except Exception as err:
            self.server.report(err)
            self._refuse(Refusal(500, "fault", "internal fault; please report this photo"))

    def _route(self, method: str, path: str) -> None:
        reading = _READING.fullmatch(path)
        if method == "GET" and path in self._files:
            self._send_static(self._files[path])
        elif (method, path) == ("GET", "/api/state"):
            self._send_json(json.dumps(self.server.state(str(self.client_address[0]))).encode())
        elif (method, path) == ("POST", "/api/readings"):
            self._post_reading()
        elif (method, path) == ("POST", "/api/join"):
            self._join()
        elif reading is not None:
            self._route_reading(method, *reading.groups())
        else:
            raise AnswerError(_NOT_FOUND)

    def _route_reading(self, method: str, name: str, part: str | None, kind: str | None) -> None:
        if method == "DELETE" and part is None:
            if not self.server.sessions.forget(name):
                raise AnswerError(_GONE)
            self._send(204, b"", "application/json")
        elif (method, part, kind) == ("POST", "corrections", None):
            self._correct(name)
        elif (method, part, kind) == ("GET", "sheet", None):
            self._send(200, self._session(name).overlay or _raise(_NOT_FOUND), "image/png")
        elif (method, part) == ("GET", "files") and kind:
            file = download(self._session(name), kind) or _raise(_NOT_FOUND)
            self._send(200, file.data, file.content_type, {"Content-Disposition": _attachment(file.name)})
        else:
            raise AnswerError(_NOT_FOUND)

    # -- what can be asked for

    def _post_reading(self) -> None:
        server = self.server
        if "?" in self.path:  # else an integrator's ?speed=50 would be lost without a word
            raise AnswerError(Refusal(400, "no_query", "nothing after ? here; post corrections to .../ID/corrections"))
        kind = (self.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
        if not (kind.startswith("image/") or kind in ("application/pdf", "application/octet-stream")):
            got = printable(kind[:60]) or "none"
            what = f"Content-Type {got}: send a photo or a PDF as it is, as image/jpeg, image/png or application/pdf"
            raise AnswerError(Refusal(415, "no_photo", what))
        if not server.uploads.acquire(blocking=False):
            raise BusyError
        try:
            upload = self._body(server.limits.upload_bytes)
            session = server.read(upload, _source_name(self.headers.get("X-Filename", "")), Overrides())
        finally:
            server.uploads.release()
        name = server.sessions.add(session)
        self._send_json(page_json(name, session))

    def _correct(self, name: str) -> None:
        session = self._session(name)
        overrides = overrides_of(self._body(self.server.limits.correction_bytes))
        renewed = self.server.read(session.upload, session.source, overrides, session.stem)
        if not self.server.sessions.renew(name, renewed):
            raise AnswerError(_GONE)
        self._send_json(page_json(name, renewed))

    def _join(self) -> None:
        pairing = self.server.pairing
        if pairing is None:
            raise AnswerError(_NOT_FOUND)
        if pairing.too_many_tries():
            raise AnswerError(Refusal(429, "too_many_tries", "too many wrong codes; wait a minute", 60))
        try:
            said = json.loads(self._body(1000))
            token = str(said["token"]) if isinstance(said, dict) else ""
        except (ValueError, KeyError, RecursionError):
            token = ""
        cookie = pairing.redeem(token)
        if cookie is None:
            raise AnswerError(Refusal(403, "wrong_token", "this code was used or is old; scan the one on the screen"))
        value = f"{pairing.cookie_name}={cookie}; Path=/; HttpOnly; SameSite=Strict; Max-Age=43200"
        self._send(204, b"", "application/json", {"Set-Cookie": value})

    def _session(self, name: str) -> Any:
        return self.server.sessions.get(name) or _raise(_GONE)

    # -- bodies

    def _body_length(self) -> int:
        """Bytes announced; anything but one plain number is refused."""
        lengths = self.headers.get_all("Content-Length") or []
        if self.headers.get("Transfer-Encoding") is not None:
            raise AnswerError(Refusal(411, "no_length", "say the photo's size: no Transfer-Encoding"))
        if not lengths:
            return 0
        text = lengths[0].strip()
        if len(lengths) > 1 or not re.fullmatch(r"[0-9]{1,15}", text):
            raise AnswerError(Refusal(400, "bad_length", "Content-Length is not one number"))
        return int(text)

    def _body(self, limit: int) -> bytes:
        """All of the body; refused where it is empty, too long or ends early."""
        length = self._unread
        if length > limit:
            most = f"{limit / 1e6:.0f} MB" if limit >= 1_000_000 else f"{limit} bytes"
            raise AnswerError(Refusal(413, "too_large", f"{length / 1e6:.1f} MB, at most {most}; send a smaller photo"))
        if length == 0:
            raise AnswerError(Refusal(400, "empty", "nothing was sent; choose a photo"))
        self.server.limit(self.connection, self.server.limits.body_s)
        parts = []
        while self._unread:
            part = self.rfile.read1(min(_CHUNK, self._unread))
            if not part:
                raise ConnectionError("the body ended early")
            parts.append(part)
            self._unread -= len(part)
        self.server.limit(self.connection, self.server.limits.answer_s)
        return b"".join(parts)

    def _drain(self) -> None:
        """Read what a refused upload still sends, so that its client gets to the answer; not for long."""
        until = time.monotonic() + self.server.limits.drain_s
        self.server.limit(self.connection, self.server.limits.drain_s)
        while self._unread > 0 and time.monotonic() < until:
            part = self.rfile.read1(min(_CHUNK, self._unread))
            if not part:
                return
            self._unread -= len(part)

    # -- answers

    def _send_static(self, file: Path) -> None:
        self._send(200, file.read_bytes(), _TYPES[file.suffix])

    def _send_json(self, data: bytes, status: int = 200, extra: dict[str, str] | None = None) -> None:
        self._send(status, data, "application/json; charset=utf-8", extra)

    def _refuse(self, refusal: Refusal) -> None:
        extra = {} if refusal.retry_after_s is None else {"Retry-After": str(refusal.retry_after_s)}
        data = json.dumps({"error": refusal.code, "message": refusal.message}).encode()
        self._send_json(data, refusal.status, extra)

    def _send(self, status: int, data: bytes, content_type: str, extra: dict[str, str] | None = None) -> None:
        self.close_connection = True
        self.send_response(status)
        headers = {**_SECURITY, "Content-Type": content_type, "Content-Length": str(len(data)), "Connection": "close"}
        for name, value in {**headers, **(extra or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD" and data:
            self.wfile.write(data)
        self.wfile.flush()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses (a request line that is none, an unknown method): JSON, no echo of it."""
        if not hasattr(self, "headers"):
            self.requestline, self.request_version, self.command = "", "HTTP/1.1", self.command or ""
        with contextlib.suppress(ValueError):
            message = HTTPStatus(code).phrase
        self._refuse(Refusal(code, "bad_request", (message or "bad request").lower()))

    def log_message(self, format: str, *args: Any) -> None:
        """No log: addresses and file names are nobody's business."""


def _raise(refusal: Refusal) -> Any:
    raise AnswerError(refusal)


def _source_name(header: str) -> str:
    """A harmless file name from what the browser says (percent-encoded UTF-8)."""
    name = unquote(header[:1000], errors="replace").replace("\\", "/").rpartition("/")[2]
    name = "".join(c for c in name if c.isprintable() and c not in '<>:"|?*').strip()
    stem, dot, suffix = name.rpartition(".")
    if not dot or not 0 < len(suffix) <= 5:
        stem, dot, suffix = name, "", ""
    return (stem[:MAX_NAME].strip(" .") or "ecg") + dot + suffix


def _attachment(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
