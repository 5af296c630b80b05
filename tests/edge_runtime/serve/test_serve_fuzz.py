"""Mutated requests and photos: an answer or a closed connection within 5 s, never a fault, never a trace."""

from __future__ import annotations

import io
import json
import socket
import time

import fake_reader
import numpy as np
import pytest
from PIL import Image
from serve_client import picture

from ecg.page import Unreadable
from edge_runtime.serve.limits import Limits

LIMIT_S = 5.0
SEEDS = 20261122


class Calm(fake_reader.Reader):
    """Never fails, and draws plain pictures only: what is tested here comes before the reading."""

    def read(self, photo, overrides):
        if np.ptp(photo.rgb) > 3:
            return Unreadable("finder", "no_grid", "no paper grid found: move closer, avoid glare")
        return fake_reader.reading_for(photo.rgb.shape, overrides)


def photos() -> list[bytes]:
    """Small pictures of every kind that is read, with grain so that a mutation reaches the decoders."""
    rng = np.random.default_rng(1)
    small = Image.fromarray(rng.integers(60, 200, (210, 230, 3), dtype=np.uint8)).resize((300, 220))
    out = []
    for kind, options in (("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("BMP", {}),
                          ("TIFF", {"compression": "tiff_lzw"}), ("PDF", {}), ("HEIF", {})):  # fmt: skip
        if kind == "HEIF":
            import pillow_heif

            pillow_heif.register_heif_opener(thumbnails=False)
        buffer = io.BytesIO()
        small.save(buffer, kind, **options)
        out.append(buffer.getvalue())
    return out


def mutated(rng: np.random.Generator, data: bytes) -> bytes:
    """One to eight changes: bytes flipped, cut, doubled, removed, or replaced by numbers that break parsers."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        at = int(rng.integers(0, max(1, len(out))))
        span = int(rng.integers(1, 40))
        what = rng.integers(0, 6)
        if what == 0 and out:
            out[at] = int(rng.integers(0, 256))
        elif what == 1:
            del out[at : at + span]
        elif what == 2:
            out[at:at] = out[at : at + span]
        elif what == 3:
            out[at:at] = bytes(rng.integers(0, 256, span, dtype=np.uint8))
        elif what == 4:
            out[at : at + 4] = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"9999"][int(rng.integers(0, 4))]
        elif rng.random() < 0.3:
            del out[at:]
    return bytes(out)


def request(port: int, method: bytes, path: bytes, body: bytes, kind: bytes = b"image/jpeg") -> bytes:
    head = b"%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-Ecgscan: 1\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    return head % (method, path, port, kind, len(body)) + body


def answer(port: int, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as connection:
        start = time.monotonic()
        got = b""
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(1 << 16):
                got += part
        except (ConnectionError, BrokenPipeError):
            pass
        assert time.monotonic() - start < LIMIT_S
    return got


def cases(rng: np.random.Generator, port: int, reading: str):
    """One mutated request after the other: mostly photos, then heads, then corrections."""
    seeds = photos()
    plain = request(port, b"POST", b"/api/readings", picture(size=(220, 220)))
    corrections = json.dumps({"layout": "3x4", "speed": 50, "gain": 5, "leads": ["I"] * 13}).encode()
    path = b"/api/readings/%s/corrections" % reading.encode()
    while True:
        which = rng.random()
        if which < 0.6:
            yield request(port, b"POST", b"/api/readings", mutated(rng, seeds[int(rng.integers(len(seeds)))]))
        elif which < 0.85:
            head, end, body = plain.partition(b"\r\n\r\n")
            yield mutated(rng, head) + end + body
        elif which < 0.9:
            yield bytes(rng.integers(0, 256, int(rng.integers(0, 300)), dtype=np.uint8))
        else:
            yield request(port, b"POST", path, mutated(rng, corrections), b"application/json")


def fuzz(serve, count: int, seed: int) -> dict[bytes, int]:
    client = serve(Calm(), limits=Limits(head_s=2.0, idle_s=2.0, body_s=2.0, drain_s=1.0))
    server = client.server
    faults: list[BaseException | None] = []
    server.report = faults.append
    rng = np.random.default_rng(seed)
    reading = client.reading()["id"]
    statuses: dict[bytes, int] = {}
    for k, sent in zip(range(count), cases(rng, server.server_port, reading), strict=False):
        got = answer(server.server_port, sent)
        assert got == b"" or got.startswith((b"HTTP/1.1 ", b"HTTP/1.0 ", b"{")), (k, got[:80])
        assert b"Traceback" not in got
        assert b"/site-packages" not in got
        status = got[9:12] if got.startswith(b"HTTP") else b""
        statuses[status] = statuses.get(status, 0) + 1
        assert not faults, (k, faults[-1])
    assert client.reading()["status"] == "read"
    return statuses


def test_mutated_uploads(serve, capfd):
    statuses = fuzz(serve, 300, SEEDS)
    assert statuses[b"200"] > 5
    assert statuses[b"422"] > 50
    assert capfd.readouterr().err == ""


@pytest.mark.nightly
def test_ten_thousand_mutated_uploads(serve):
    statuses = fuzz(serve, 10_000, SEEDS + 1)
    print({k.decode(): v for k, v in sorted(statuses.items())})
