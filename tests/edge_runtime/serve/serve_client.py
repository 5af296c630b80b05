"""Requests as the page makes them, and pictures for the fake reader."""

from __future__ import annotations

import http.client
import io
import json
from typing import Any

import numpy as np
from PIL import Image

from edge_runtime.serve.server import PageServer

Answer = tuple[int, dict[str, str], bytes]


class Client:
    """Requests as the page makes them."""

    def __init__(self, server: PageServer) -> None:
        self.server = server

    def __call__(self, method: str, path: str, body: bytes | None = None, **headers: str | None) -> Answer:
        said = {"X-Ecgscan": "1", **{k.replace("_", "-"): v for k, v in headers.items()}}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.server_port, timeout=30)
        try:
            connection.request(method, path, body, {k: v for k, v in said.items() if v is not None})
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            connection.close()

    def upload(self, photo: bytes, name: str = "photo.jpg", **headers: str | None) -> tuple[int, dict[str, Any]]:
        said = {"Content_Type": "image/jpeg", "X_Filename": name, **headers}
        status, _, data = self("POST", "/api/readings", photo, **said)
        return status, json.loads(data)

    def reading(self, level: int = 150) -> dict[str, Any]:
        status, said = self.upload(picture(level))
        assert status == 200, said
        return said


def picture(level: int = 150, kind: str = "JPEG", size: tuple[int, int] = (900, 640)) -> bytes:
    """A plain picture: below 20 the fake reader refuses it, above 250 it fails."""
    out = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0], 3), level, np.uint8)).save(out, kind)
    return out.getvalue()
