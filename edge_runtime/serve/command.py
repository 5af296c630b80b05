"""What ``ecgscan-edge serve`` does: open the page, say where it is, serve until interrupted."""

from __future__ import annotations

import ipaddress
import signal
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ecg.errors import EcgscanError, InputError
from edge_runtime.outputs import check_folder
from edge_runtime.scan import PhotoReader
from edge_runtime.serve.lan import is_own, lan_address, qr_for_terminal
from edge_runtime.serve.server import POLL_S, PageServer


def serve_page(
    reader: PhotoReader,
    port: int,
    *,
    lan: bool,
    address: str | None,
    store: Path | None,
    keep_header: bool = False,
    open_browser: bool,
    say: Callable[[str], None],
) -> None:
    """Serve until Ctrl+C or SIGTERM. Raises ``EcgscanError`` in one line where it can't start."""
    if address is not None:
        lan = True
        try:
            ipaddress.ip_address(address)
        except ValueError as err:
            raise InputError(f"--address {address}: give this machine's own, such as 192.168.1.20") from err
    if store is not None:
        check_store(store)
    seen_as = (address or lan_address()) if lan else None
    server = PageServer(reader, port, lan_address=seen_as, store=store, keep_header=keep_header)
    try:
        _greet(server, say)
        _stop_on_signals(server)
        if open_browser:
            webbrowser.open(server.url)
        server.serve_forever(POLL_S)
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    say("stopped; all photos are forgotten")


def check_store(folder: Path) -> None:
    """Make the folder; raises ``EcgscanError`` in one line if results could not be written there."""
    check_folder(folder, "--store")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise EcgscanError(f"--store {folder}: can't be made ({err.strerror or err}); choose another folder") from err


def _greet(server: PageServer, say: Callable[[str], None]) -> None:
    say(f"open {server.url}  (Ctrl+C stops)")
    kept = f"results are written to {server.store}" if server.store else "nothing is stored"
    say(f"photos stay in memory until forgotten; {kept}")
    pairing = server.pairing
    if pairing is None:
        say("only this computer can open it; --lan lets a phone be the camera")
        return
    if not is_own(pairing.address):
        say(f"{pairing.address} is no address of this machine: a phone comes here only where something forwards it")
    say("the network sees photos and results unencrypted: use one that you trust")

    def show() -> None:
        say(f"\nphone: scan this code (it works once)\n{qr_for_terminal(pairing.url)}{pairing.url}")

    pairing.on_new_token = show
    show()


def _stop_on_signals(server: PageServer) -> None:
    """SIGTERM ends like Ctrl+C; shutdown waits for the loop, so another thread asks for it."""
    if threading.current_thread() is not threading.main_thread():
        return

    def stop(*_: Any) -> None:
        threading.Thread(target=server.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
