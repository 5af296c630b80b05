"""``python -m edge_runtime.soak_serve``: thousands of uploads, most of them bad, to ``ecgscan-edge serve``.

The server is the command itself in a process of its own, with the shipped nets.  Of 100 uploads 5 are ECGs (four small
rendered photos; sheet and a download are fetched, every fourth is corrected, half are forgotten), 3 are pictures
without an ECG, and 92 are bad in a known way: cut off, no picture, too small, claiming to be huge, too large, empty,
of a wrong type, from a wrong host or site, or given up halfway.  Each answer is checked; memory, threads and open files
of the server are taken every 20 uploads while it is idle.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from PIL import Image

from ecg.errors import EcgscanError
from edge_runtime.cli import one_line_errors
from edge_runtime.evaluate import ResultsOption
from edge_runtime.process import held
from edge_runtime.results_log import append_result, conditions, tidy

SEED: Final = 5
PHOTOS: Final = 4
PHOTO_PX: Final = 1100
WARM_UP: Final = 0.2  # of the uploads
EVERY: Final = 20
DOWNLOADS: Final = ("csv", "json", "png", "wfdb", "edf", "aecg", "fhir", "pdf")
TIMEOUT_S: Final = 120.0
MAX_CHANGE: Final = 0.05
# Kinds of upload, and how many of each in a hundred.
MIXTURE: Final = {
    "ecg": 5, "no ecg": 3, "cut off": 18, "text": 14, "tiny": 10, "gif": 6, "broken pdf": 9, "bomb": 9, "too large": 5,
    "empty": 5, "wrong type": 6, "wrong host": 4, "wrong site": 3, "given up": 3,
}  # fmt: skip
STATUS: Final = {
    "ecg": 200, "no ecg": 200, "cut off": 422, "text": 422, "tiny": 422, "gif": 422, "broken pdf": 422, "bomb": 422,
    "too large": 413, "empty": 400, "wrong type": 415, "wrong host": 421, "wrong site": 403,
}  # fmt: skip


@dataclass
class Tally:
    """What happened so far."""

    uploads: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    took_s: dict[str, list[float]] = field(default_factory=dict)
    rss_mb: list[float] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    readings: int = 0


class Served:
    """``ecgscan-edge serve`` in a process of its own, and what can be seen of it from outside."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "edge_runtime", "serve", "--port", "0"]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self._process.stdout is not None
        said = re.search(r"http://127\.0\.0\.1:(\d+)/", self._process.stdout.readline())
        if said is None:
            self._process.kill()
            raise EcgscanError(f"the server did not start: {self._process.communicate()[1].strip()}")
        self.port = int(said[1])
        self.stderr: list[str] = []
        self._threads = [threading.Thread(target=self._drain, args=(s,), daemon=True)
                         for s in (self._process.stdout, self._process.stderr)]  # fmt: skip
        for thread in self._threads:
            thread.start()

    def _drain(self, stream: Any) -> None:
        for line in stream:
            if stream is self._process.stderr:
                self.stderr.append(line.rstrip())

    def sample(self, tally: Tally) -> None:
        """Memory, threads and open files, once connections of the last upload are closed."""
        time.sleep(0.3)
        now = held(self._process.pid)
        tally.rss_mb.append(now.rss_mb)
        tally.threads.append(now.threads)
        tally.files.append(now.files)

    def stop(self) -> int:
        """Ends it as a user does; its exit code."""
        self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        for thread in self._threads:
            thread.join(5)
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                stream.close()
        return code


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """One request as the page makes it."""
    said = {"X-Ecgscan": "1", **{k.replace("_", "-"): v for k, v in headers.items()}}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body, said)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def render_photos() -> list[bytes]:
    """A few small photos of rendered pages, as JPEG."""
    from ecg.synth.camera import photograph, random_shot
    from ecg.synth.printer import random_page
    from edge_runtime.rendered import random_record

    out = []
    for k in range(PHOTOS):
        rng = np.random.default_rng([SEED, k])
        page = random_page(rng, random_record(rng), layout="3x4+1", speed_mm_per_s=25.0, gain_mm_per_mv=10.0,
                           grid="lines", partial=False)  # fmt: skip
        shot = photograph(page, random_shot(rng, condition="scan", long_side_px=PHOTO_PX, upright=True), rng)
        out.append(_encoded(np.array(shot.rgb), "JPEG"))
    return out


def _encoded(rgb: np.ndarray[Any, Any], kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, kind)
    return out.getvalue()


def bad_uploads(photo: bytes, rng: np.random.Generator) -> dict[str, Callable[[], bytes]]:
    """What to send for each kind that gets as far as its bytes."""
    noise = rng.integers(90, 160, (500, 700, 3), dtype=np.uint8)
    tiny, gif, png = _encoded(noise[:90, :90], "JPEG"), _encoded(noise[:210, :210], "GIF"), _encoded(noise, "PNG")
    pdf = b"%PDF-1.5\n" + rng.integers(0, 256, 3000, dtype=np.uint8).tobytes()
    huge = png[:16] + (60_000).to_bytes(4, "big") * 2 + png[24:]
    return {
        "no ecg": lambda: png,
        "cut off": lambda: photo[: int(rng.integers(2_000, len(photo) - 100))],
        "text": lambda: b"Dear colleague, " * int(rng.integers(2, 500)),
        "tiny": lambda: tiny,
        "gif": lambda: gif,
        "broken pdf": lambda: pdf,
        "bomb": lambda: huge,
        "too large": lambda: bytes(41_000_000),
        "empty": lambda: b"",
        "wrong type": lambda: photo,
        "wrong host": lambda: photo,
        "wrong site": lambda: photo,
    }


HEADERS: Final = {
    "wrong type": {"Content_Type": "multipart/form-data; boundary=x"},
    "wrong host": {"Host": "ecg.example"},
    "wrong site": {"Origin": "http://ecg.example"},
}


def give_up(port: int, photo: bytes) -> None:
    """A phone that leaves the network halfway."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    connection.putrequest("POST", "/api/readings")
    for name, value in {"X-Ecgscan": "1", "Content-Type": "image/jpeg", "Content-Length": str(len(photo))}.items():
        connection.putheader(name, value)
    connection.endheaders(photo[: len(photo) // 2])
    connection.close()


def upload(port: int, kind: str, data: bytes, tally: Tally) -> dict[str, Any]:
    """Send one and check the answer: the status that is due, and a reason in one line where it is refused."""
    start = time.perf_counter()
    headers = {"Content_Type": "image/jpeg", "X_Filename": f"{kind.replace(' ', '-')}.jpg", **HEADERS.get(kind, {})}
    status, answer = ask(port, "POST", "/api/readings", data, **headers)
    tally.took_s.setdefault(kind, []).append(time.perf_counter() - start)
    said: dict[str, Any] = json.loads(answer)
    reason = said.get("message") or ""
    clean = "Traceback" not in reason and "\n" not in reason and "site-packages" not in reason
    refused = status != 200 or said["status"] == "unreadable"
    if status != STATUS[kind] or not clean or (refused and not reason) or (kind == "no ecg" and not refused):
        tally.wrong.append(f"{kind}: {status} {reason[:100]}")
    return said


def use(port: int, said: dict[str, Any], tally: Tally) -> None:
    """What a person does with a reading: look, download, now and then correct, often forget."""
    tally.readings += 1
    path = f"/api/readings/{said['id']}"
    if said["status"] == "read":
        kind = DOWNLOADS[tally.readings % len(DOWNLOADS)]
        for part in ("/sheet", f"/files/{kind}"):
            status, data = ask(port, "GET", path + part)
            if status != 200 or not data:
                tally.wrong.append(f"{part}: {status}")
    if tally.readings % 4 == 0:
        status, _ = ask(port, "POST", path + "/corrections", b'{"speed": 50, "gain": 5}')
        if status != 200:
            tally.wrong.append(f"corrections: {status}")
    if tally.readings % 2 == 0 and ask(port, "DELETE", path)[0] != 204:
        tally.wrong.append("forget")


def soak(served: Served, count: int, say: Callable[[str], None]) -> Tally:
    """Send ``count`` uploads of the mixture in an order of chance."""
    rng = np.random.default_rng(SEED)
    photos = render_photos()
    makers = bad_uploads(photos[0], rng)
    kinds = [kind for kind, n in MIXTURE.items() for _ in range(n)]
    tally = Tally()
    for k in range(count):
        if k % len(kinds) == 0:
            order = rng.permutation(len(kinds))
        kind = kinds[order[k % len(kinds)]]
        tally.uploads[kind] += 1
        if kind == "given up":
            give_up(served.port, photos[0])
        else:
            data = photos[tally.uploads[kind] % PHOTOS] if kind == "ecg" else makers[kind]()
            said = upload(served.port, kind, data, tally)
            if kind == "ecg" and "id" in said:
                use(served.port, said, tally)
        if (k + 1) % EVERY == 0:
            served.sample(tally)
        if (k + 1) % 200 == 0:
            say(f"{k + 1} uploads, {tally.rss_mb[-1]:.0f} MB, {tally.threads[-1]} threads, {tally.files[-1]} files")
    return tally


def figures_of(tally: Tally, code: int, stderr: list[str], minutes: float) -> dict[str, Any]:
    """The first quarter after the warm-up against the last quarter."""
    warm = int(len(tally.rss_mb) * WARM_UP)
    quarter = max(1, (len(tally.rss_mb) - warm) // 4)
    parts = slice(warm, warm + quarter), slice(len(tally.rss_mb) - quarter, None)
    rss, threads, files = (
        [float(np.median(series[part])) for part in parts] for series in (tally.rss_mb, tally.threads, tally.files)
    )
    return {
        "uploads": sum(tally.uploads.values()),
        "mixture": dict(tally.uploads),
        "wrong_answers": len(tally.wrong),
        "rss_mb": rss,
        "rss_change": rss[1] / rss[0] - 1,
        "flat_within_5_percent": abs(rss[1] / rss[0] - 1) <= MAX_CHANGE,
        "threads": threads,
        "files": files,
        "median_ms": {kind: 1000 * float(np.median(t)) for kind, t in tally.took_s.items()},
        "lines_on_stderr": len(stderr),
        "exit_code": code,
        "minutes": minutes,
        "machine_load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__)


@app.command()
def main(
    uploads: Annotated[int, typer.Option(min=100, help="Uploads to send.")] = 2000,
    results: ResultsOption = None,
) -> None:
    """Soak the local page's server. Exit code 1 where an answer was wrong, memory grew, or something leaked."""
    if not Path("/proc/self/status").exists():
        typer.echo("needs Linux: memory and files are read from /proc", err=True)
        raise typer.Exit(2)
    with one_line_errors():
        start = time.monotonic()
        served = Served()
        code = -1
        try:
            tally = soak(served, uploads, typer.echo)
        finally:
            code = served.stop()
        figures = figures_of(tally, code, served.stderr, (time.monotonic() - start) / 60)
        for name, value in tidy(figures).items():
            typer.echo(f"{name:24s} {value}")
        for line in tally.wrong[:10] + served.stderr[:10]:
            typer.echo(line, err=True)
        data = f"ecg.synth, {PHOTOS} scans of {PHOTO_PX} px, and bad uploads"
        if results:
            append_result(results, {"task": "soak/serve", **conditions(data, seed=SEED), "figures": figures})
        leak = figures["threads"][1] > figures["threads"][0] + 1 or figures["files"][1] > figures["files"][0] + 1
        bad = tally.wrong or served.stderr or leak or not figures["flat_within_5_percent"] or code != 0
        raise typer.Exit(1 if bad else 0)


if __name__ == "__main__":
    app()
