"""The server of the local page: threads that only carry bytes, one that reads photos, and a clock over all of them."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any, Final

import ecg
from ecg.errors import InputError
from ecg.page import Overrides
from edge_runtime.images import decode_photo, printable
from edge_runtime.outputs import StemNames, write_result
from edge_runtime.scan import PhotoReader
from edge_runtime.serve.guard import Guard, is_loopback
from edge_runtime.serve.handler import Handler
from edge_runtime.serve.jobs import WorkQueue
from edge_runtime.serve.lan import Pairing, qr_modules
from edge_runtime.serve.limits import Limits
from edge_runtime.serve.payload import choices, read_photo
from edge_runtime.serve.sessions import Session, Sessions

LOOPBACK: Final = "127.0.0.1"
POLL_S: Final = 0.5
_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class PageServer(ThreadingHTTPServer):
    """Serves the page until ``shutdown``; what it holds of photos is gone with ``server_close``.

    ``lan_address`` lets phones in that show its one-time token; without it only this machine gets an answer.
    ``store`` is a folder for the results (not the photos), or None; ``keep_header`` leaves the printed header in the
    picture of the sheet.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = sys.platform != "win32"  # where it would let two servers share a port
    request_queue_size = 64

    def __init__(
        self, reader: PhotoReader, port: int = 0, *, lan_address: str | None = None, store: Path | None = None,
        keep_header: bool = False, limits: Limits = Limits(),  # noqa: B008
    ) -> None:  # fmt: skip
        self.sessions = Sessions(limits)
        self._queue = WorkQueue(limits.waiting)
        try:
            super().__init__((LOOPBACK if lan_address is None else "0.0.0.0", port), Handler)
        except (OSError, OverflowError) as err:
            why = getattr(err, "strerror", None) or str(err)
            raise InputError(f"port {port} can't be used ({why}); give another --port, or 0 for any") from err
        self.reader, self.limits, self.store, self.keep_header = reader, limits, store, keep_header
        self.pairing = Pairing(lan_address, self.server_port) if lan_address else None
        self.guard = Guard(self.server_port, self.pairing)
        self.uploads = threading.BoundedSemaphore(limits.uploads)
        self._names = StemNames(store) if store else None
        self._connections = threading.BoundedSemaphore(limits.connections)
        self._deadlines: dict[socket.socket, float] = {}
        self._deadlines_lock = threading.Lock()

    def server_bind(self) -> None:
        """Without asking a name server who we are."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, int(self.server_address[1])

    @property
    def url(self) -> str:
        """The page's address on this machine."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    # -- readings

    def read(self, upload: bytes, source: str, overrides: Overrides, stem: str | None = None) -> Session:
        """One photo's reading when its turn has come; raises ``InputError``, ``BusyError`` or ``LateError``."""
        return self._queue.run(lambda: self._read(upload, source, overrides, stem), self.limits.reading_s)

    def _read(self, upload: bytes, source: str, overrides: Overrides, stem: str | None) -> Session:
        photo = decode_photo(upload, source)
        if stem is None:
            stem = self._names.take(photo) if self._names else Path(source).stem or "ecg"
        session = read_photo(self.reader, photo, upload, stem, overrides, keep_header=self.keep_header)
        if self.store is not None:
            write_result(session.result, photo, self.reader.bundle, self.store, stem, keep_header=self.keep_header)
        return session

    def state(self, peer: str) -> dict[str, Any]:
        """What the page has to know before the first photo; the code for phones is for this machine's screen alone."""
        out: dict[str, Any] = {
            "version": ecg.__version__,
            "bundle": self.reader.bundle.version,
            "stores": self.store is not None,
            "keeps_header": self.keep_header,
            "forgets_after_min": round(self.limits.session_s / 60),
            "max_upload_bytes": self.limits.upload_bytes,
            **choices(),
        }
        if self.pairing is not None and is_loopback(peer):
            side, path = qr_modules(self.pairing.url)
            out["phone"] = {"url": self.pairing.url, "qr_modules": side, "qr_path": path}
        return out

    # -- connections

    def limit(self, connection: socket.socket, seconds: float) -> None:
        """End this connection after so many seconds, whatever it is doing then."""
        with self._deadlines_lock:
            self._deadlines[connection] = time.monotonic() + seconds

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for each connection, as long as there are not too many."""
        if not self._connections.acquire(blocking=False):
            with contextlib.suppress(OSError):
                request.settimeout(0.2)
                request.sendall(_FULL)
            self.shutdown_request(request)
            return
        self.limit(request, self.limits.head_s)
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._ended(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """In the connection's thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._ended(request)

    def _ended(self, request: socket.socket) -> None:
        with self._deadlines_lock:
            self._deadlines.pop(request, None)
        self._connections.release()

    def service_actions(self) -> None:
        """Twice a second: connections and photos whose time is over go."""
        super().service_actions()
        now = time.monotonic()
        with self._deadlines_lock:
            late = [c for c, until in self._deadlines.items() if now > until]
        for connection in late:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.sessions.sweep()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line, nothing of the request; a client that went away is no fault."""
        err = sys.exc_info()[1]
        if not isinstance(err, OSError):
            self.report(err)

    def report(self, err: BaseException | None) -> None:
        """A fault of ours, in one line on the terminal."""
        with contextlib.suppress(OSError, ValueError):
            print(f"ecgscan-edge: internal fault ({printable(f'{type(err).__name__}: {err}')})", file=sys.stderr)

    def server_close(self) -> None:
        """No more connections; photos are forgotten."""
        super().server_close()
        self._queue.close()
        self.sessions.clear()
