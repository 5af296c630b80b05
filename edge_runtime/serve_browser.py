"""The local page in a real headless Chromium: its first paint measured, its screenshots taken.

``python -m edge_runtime.serve_browser --results results/serve.jsonl --shots docs``.  Chromium is driven through its
DevTools protocol over a pipe, so that nothing but Chromium itself is needed (Debian: ``apt-get install chromium``).
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Final

import cv2
import numpy as np
import typer

from ecg.errors import EcgscanError
from edge_runtime.cli import BundleOption, one_line_errors
from edge_runtime.evaluate import ResultsOption
from edge_runtime.results_log import append_result, conditions, tidy
from edge_runtime.serve.server import POLL_S, PageServer

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS: Final = (
    "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--hide-scrollbars",
    "--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update",
    "--force-color-profile=srgb", "--font-render-hinting=none",
)  # fmt: skip
# The protocol's pipe is file descriptors 3 and 4 of the browser; the ends given may have these numbers themselves.
_LAUNCH: Final = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3]]
os.dup2(ends[0], 3), os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
DESKTOP_PX: Final = (1440, 900)
PHONE_PX: Final = (360, 740)
PHOTO: Final = "demo.jpg"


def find_chromium() -> str | None:
    """The browser's program: ``ECGSCAN_CHROMIUM``, or the first of ``NAMES`` that is installed."""
    named = os.environ.get("ECGSCAN_CHROMIUM")
    return named or next((p for p in map(shutil.which, NAMES) if p), None)


class Page:
    """One tab. Faults that its scripts or its security policy report are gathered in ``faults``."""

    def __init__(self, program: str, profile: Path) -> None:
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        command = [sys.executable, "-S", "-c", _LAUNCH, str(to_read), str(to_write), program, *FLAGS]
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self._buffer = b""
        self._count = 0
        self._session: str | None = None
        self.faults: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Page:
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._write)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)

    def call(self, method: str, timeout_s: float = 30.0, **params: Any) -> dict[str, Any]:
        """One command of the protocol; raises ``EcgscanError`` where the browser refuses it."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + timeout_s
        while True:
            answer = self._next(until - time.monotonic())
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise EcgscanError(f"Chromium, {method}: {answer['error'].get('message')}")
                return dict(answer["result"])

    def _next(self, timeout_s: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, timeout_s))
            data = os.read(self._read, 1 << 16) if ready else b""
            if not data:
                raise EcgscanError("Chromium does not answer" if not ready else "Chromium ended")
            self._buffer += data
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        self._note(message)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.faults.append(details.get("exception", {}).get("description") or details["text"])
        elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.faults.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def size(self, size_px: tuple[int, int], *, phone: bool = False, scale: float = 1.0) -> None:
        """The window's size; a phone has a touch screen."""
        width, height = size_px
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
                  mobile=phone)  # fmt: skip
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)

    def open(self, url: str) -> None:
        """Go to another document and wait for its load."""
        self.run("window.left = true")
        self.call("Page.navigate", url=url)
        self.wait("!window.left && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise."""
        out = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in out:
            details = out["exceptionDetails"]
            raise EcgscanError(f"page: {details.get('exception', {}).get('description') or details['text']}")
        return out["result"].get("value")

    def wait(self, condition: str, timeout_s: float = 30.0) -> Any:
        """Until an expression is true."""
        until = time.monotonic() + timeout_s
        while not (value := self.run(f"Boolean({condition})")):
            if time.monotonic() > until:
                raise EcgscanError(
                    f"the page did not get to: {condition}; it shows {self.run('document.body.innerText')!r}"
                )
            time.sleep(0.05)
        return value

    def choose_file(self, selector: str, path: Path) -> None:
        """As if a person had picked the file."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path.resolve())])

    def press(self, key: str, *, shift: bool = False) -> None:
        """One key press."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        common: dict[str, Any] = {
            "key": key,
            "windowsVirtualKeyCode": codes.get(key, 0),
            "modifiers": 8 if shift else 0,
        }
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, code=key, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", code=key, **common)

    def screenshot(self, path: Path, *, whole: bool = False) -> Path:
        """A PNG of the window, or of the whole page."""
        out = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(out["data"]))
        return path


@contextmanager
def chromium() -> Iterator[Page]:
    """A browser of its own with an empty profile. Raises ``EcgscanError`` where none is installed."""
    program = find_chromium()
    if program is None:
        raise EcgscanError("needs Chromium: apt-get install chromium, or name it in ECGSCAN_CHROMIUM")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, Page(program, Path(folder)) as page:
        yield page


@contextmanager
def serving(server: PageServer, poll_s: float = POLL_S) -> Iterator[PageServer]:
    """The server at work in another thread."""
    thread = threading.Thread(target=server.serve_forever, args=(poll_s,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def first_paint_ms(page: Page, url: str, runs: int) -> dict[str, Any]:
    """First contentful paint, and until the page takes photos, from the performance API; the cache is off."""
    page.call("Network.setCacheDisabled", cacheDisabled=True)
    paints, usable = [], []
    for _ in range(runs + 1):
        page.open(url)
        page.wait("document.getElementById('about')?.textContent")
        page.wait("performance.getEntriesByName('first-contentful-paint').length")
        paints.append(float(page.run("performance.getEntriesByName('first-contentful-paint')[0].startTime")))
        usable.append(
            float(page.run("Math.max(...performance.getEntriesByType('resource').map((e) => e.responseEnd))"))
        )
    size = page.run("performance.getEntriesByType('resource').reduce((n, e) => n + e.transferSize, 0)")
    return {
        "first_contentful_paint_ms": float(np.median(paints[1:])),
        "first_contentful_paint_max_ms": max(paints),
        "usable_ms": float(np.median(usable[1:])),
        "cold_first_contentful_paint_ms": paints[0],
        "assets_kb": size / 1e3,
        "runs": runs,
    }


def take_photo(page: Page, url: str, photo: Path, timeout_s: float = 90.0) -> None:
    """Choose a photo on the start page and wait for its reading."""
    page.open(url)
    page.wait("document.getElementById('about').textContent")
    page.choose_file("#file", photo)
    page.wait("!document.getElementById('result').hidden", timeout_s)


def take_shots(page: Page, url: str, photo: Path, out: Path) -> list[Path]:
    """The pictures of the documentation: desktop and phone."""
    shots = []
    page.size(DESKTOP_PX)
    page.open(url)
    page.wait("document.getElementById('about').textContent")
    shots.append(page.screenshot(out / "serve-start.png"))
    take_photo(page, url, photo)
    page.wait("document.getElementById('sheet').complete")
    page.run("document.getElementById('calipers').click()")
    time.sleep(0.3)
    shots.append(page.screenshot(out / "serve-desktop.png"))
    page.size(PHONE_PX, phone=True, scale=2.0)
    take_photo(page, url, photo)
    time.sleep(0.3)
    shots.append(page.screenshot(out / "serve-phone.png"))
    return shots


def write_demo_photo(path: Path) -> Path:
    """The demo's rendered photo."""
    from edge_runtime.demo import demo_photo

    bgr = cv2.cvtColor(demo_photo(1).rgb, cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(path), bgr, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return path


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__)


@app.command()
def main(
    runs: Annotated[int, typer.Option(help="Page loads to take the median of.")] = 7,
    results: ResultsOption = None,
    shots: Annotated[Path | None, typer.Option(help="Folder for the screenshots.")] = None,
    bundle: BundleOption = None,
) -> None:
    """First paint on loopback, and screenshots of the demo photo's reading."""
    from edge_runtime.reader import Reader

    with one_line_errors(), tempfile.TemporaryDirectory() as folder:
        reader = Reader.open(bundle)
        with serving(PageServer(reader)) as server, chromium() as page:
            page.size(DESKTOP_PX)
            figures = first_paint_ms(page, server.url, runs)
            for name, value in tidy(figures).items():
                typer.echo(f"{name:32s} {value}")
            line = {"task": "serve/paint", **conditions("the start page on loopback, Chromium headless, no cache")}
            if results:
                append_result(results, {**line, "figures": figures})
            for shot in take_shots(page, server.url, write_demo_photo(Path(folder) / PHOTO), shots) if shots else ():
                typer.echo(f"wrote {shot}")
            for fault in page.faults:
                typer.echo(f"fault: {fault}", err=True)


if __name__ == "__main__":
    app()
