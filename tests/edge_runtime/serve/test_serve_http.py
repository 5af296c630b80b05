from __future__ import annotations

import io
import json
import re
import socket
import threading
import time
import zipfile
from importlib.util import find_spec

import fake_reader
import numpy as np
import pytest
from PIL import Image
from serve_client import picture

from ecg.leads import LEADS
from edge_runtime.exports import FORMATS
from edge_runtime.serve.handler import STATIC, _source_name
from edge_runtime.serve.limits import Limits


def test_every_answer_carries_the_security_headers(client):
    for method, path in (("GET", "/"), ("GET", "/static/app.js"), ("GET", "/api/state"), ("GET", "/nothing")):
        _, headers, _ = client(method, path)
        assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Server"].strip() == "ecgscan"


def test_the_page_asks_for_nothing_from_outside():
    for file in STATIC.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?:)?//[a-z0-9]+\.", text), file.name
        assert "@import" not in text
        assert "innerHTML" not in text
        if file.suffix == ".html":
            assert not re.search(r"\sstyle=|\son[a-z]+=|<style|<script(?![^>]* src=)", text), file.name


def test_a_photo_becomes_a_reading_with_its_traces(client):
    said = client.reading()
    assert said["status"] == "read"
    assert {s["lead"] for s in said["strips"]} == set(LEADS)
    strip = next(s for s in said["strips"] if s["lead"] == "I")
    assert len(strip["uv"]) == 1250
    assert max(v for v in strip["uv"] if v is not None) == pytest.approx(200, abs=1)
    assert strip["filled"] == [[100, 150]]
    assert len(client.server.sessions) == 1
    status, headers, png = client("GET", f"/api/readings/{said['id']}/sheet")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert Image.open(io.BytesIO(png)).size[0] > 1000


def test_every_format_can_be_downloaded(client):
    said = client.reading()
    kinds = [d["kind"] for d in json.loads(client("GET", "/api/state")[2])["downloads"]]
    assert set(kinds) == {"csv", "json", "png", *FORMATS}
    for kind in kinds:
        if kind == "dicom" and not find_spec("pydicom"):
            continue
        status, headers, data = client("GET", f"/api/readings/{said['id']}/files/{kind}")
        assert status == 200, (kind, data)
        assert headers["Content-Disposition"].startswith('attachment; filename="photo'), kind
        assert data, kind
        if kind == "wfdb":
            assert sorted(zipfile.ZipFile(io.BytesIO(data)).namelist()) == ["photo.dat", "photo.hea"]
        if kind == "csv":
            assert data.startswith(b"time_s,I,II,")
    assert client("GET", f"/api/readings/{said['id']}/files/exe")[0] == 404


def test_a_refused_photo_says_why_and_gives_only_json(client):
    said = client.reading(level=5)
    assert (said["status"], said["reason"], said["strips"]) == ("unreadable", "no_grid", [])
    assert client("GET", f"/api/readings/{said['id']}/files/json")[0] == 200
    assert client("GET", f"/api/readings/{said['id']}/sheet")[0] == 404
    for kind in ("csv", "png", "pdf"):
        status, _, data = client("GET", f"/api/readings/{said['id']}/files/{kind}")
        assert status == 422
        assert b"nothing was read" in data


def test_corrections_read_the_kept_photo_again(serve):
    class Recorder(fake_reader.Reader):
        def read(self, photo, overrides):
            self.last = overrides
            return super().read(photo, overrides)

    reader = Recorder()
    client = serve(reader)
    said = client.reading()
    names = [s["lead"] for s in said["strips"]]
    names[0], names[4] = names[4], names[0]
    body = json.dumps({"layout": "3x4", "speed": 50, "gain": 20.0, "leads": names}).encode()
    status, _, data = client("POST", f"/api/readings/{said['id']}/corrections", body)
    again = json.loads(data)
    assert status == 200, data
    assert again["layout"]["paper_speed_mm_per_s"] == 50.0
    assert again["corrections"] == {"layout": "3x4", "speed": 50.0, "gain": 20.0, "leads": names}
    assert reader.last.lead_names == tuple(names)
    _, _, data = client("POST", f"/api/readings/{said['id']}/corrections", b"{}")
    assert json.loads(data)["corrections"] == {"layout": None, "speed": None, "gain": None, "leads": None}


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"nonsense", b'{"speed": 30}', b'{"speed": "25"}', b'{"speed": true}', b'{"layout": "9x9"}',
     b'{"x": 1}', b'{"leads": ["I", 3]}', b'{"leads": "I"}', b'{"leads": [["I"]]}', b'{"gain": NaN}', b"[" * 5000,
     b'{"a":"' + b"x" * 9000],
)  # fmt: skip
def test_bad_corrections_are_refused(client, body):
    said = client.reading()
    status, _, data = client("POST", f"/api/readings/{said['id']}/corrections", body)
    assert status in (400, 413, 422)
    assert set(json.loads(data)) == {"error", "message"}


def test_forgotten_photos_are_gone(client):
    said = client.reading()
    assert client("DELETE", f"/api/readings/{said['id']}")[0] == 204
    assert len(client.server.sessions) == 0
    for method, tail in (("DELETE", ""), ("GET", "/sheet"), ("GET", "/files/csv"), ("POST", "/corrections")):
        assert client(method, f"/api/readings/{said['id']}{tail}", b"{}" if method == "POST" else None)[0] == 404


@pytest.mark.parametrize(
    ("photo", "status", "words"),
    [
        (b"not a picture", 422, "not an image but text"),
        (picture()[:-300], 422, "truncated"),
        (picture(size=(100, 100)), 422, "at least 200 px"),
        (picture(kind="GIF"), 422, "GIF"),
        (b"%PDF-1.4 broken", 422, "damaged PDF"),
        (b"", 400, "nothing was sent"),
        (picture(level=255), 500, "internal fault; please report this photo"),
    ],
)
def test_unusable_uploads_get_one_line(client, photo, status, words, capfd):
    got, said = client.upload(photo, "scan.jpg")
    assert got == status
    assert words in said["message"]
    assert "\n" not in said["message"]
    assert "/" not in said["message"].replace("and/or", "")
    assert "Traceback" not in capfd.readouterr().err
    assert len(client.server.sessions) == 0


def test_corrections_in_the_wrong_place_are_not_lost_without_a_word(serve):
    status, _, body = serve()("POST", "/api/readings?speed=50", picture(), Content_Type="image/png")
    assert (status, json.loads(body)["error"]) == (400, "no_query")


def test_bodies_are_limited(serve):
    client = serve(limits=Limits(upload_bytes=50_000))
    status, said = client.upload(b"x" * 3_000_000)
    assert (status, said["error"]) == (413, "too_large")
    assert client("POST", "/api/readings", b"", Content_Length="1_0", Content_Type="image/png")[0] == 400
    assert client("POST", "/api/readings", None, Transfer_Encoding="chunked", Content_Type="image/png")[0] == 411
    for kind in ("multipart/form-data; boundary=x", "text/plain", "application/x-www-form-urlencoded", ""):
        status, _, body = client("POST", "/api/readings", picture(size=(250, 250)), Content_Type=kind)
        assert status == 415
        assert f"Content-Type {kind.partition(';')[0] or 'none'}: send a photo".encode() in body


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "localhost.evil.example"}, 421),
        ({"Host": "127.0.0.1"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"X_Ecgscan": None}, 403),
    ],
)
def test_other_sites_are_kept_out(client, headers, status):
    assert client.upload(picture(), **headers)[0] == status
    assert len(client.server.sessions) == 0
    if "X_Ecgscan" not in headers:
        assert client("GET", "/api/state", **headers)[0] == status


def test_links_from_elsewhere_open_the_page_only(client):
    assert client("GET", "/", Sec_Fetch_Site="cross-site")[0] == 200
    assert client("GET", "/api/state", Sec_Fetch_Site="cross-site")[0] == 403


class Slow(fake_reader.Reader):
    def __init__(self):
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def read(self, photo, overrides):
        self.begun.set()
        assert self.go.wait(20)
        return super().read(photo, overrides)


def test_one_reading_at_a_time_and_a_short_queue(serve):
    reader = Slow()
    client = serve(reader, Limits(waiting=1))
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(client.upload(picture())[0])) for _ in range(2)]
    threads[0].start()
    assert reader.begun.wait(10)
    threads[1].start()
    until = time.monotonic() + 10
    while client.server._queue._places.acquire(blocking=False) and time.monotonic() < until:  # until the second waits
        client.server._queue._places.release()
        time.sleep(0.01)
    status, headers, _ = client("POST", "/api/readings", picture(), Content_Type="image/jpeg")
    assert status == 503
    assert int(headers["Retry-After"]) > 0
    reader.go.set()
    for thread in threads:
        thread.join(20)
    assert answers == [200, 200]


def test_a_reading_that_takes_too_long_is_given_up(serve):
    reader = Slow()
    client = serve(reader, Limits(reading_s=0.2))
    status, said = client.upload(picture())
    assert (status, said["error"]) == (504, "late")
    reader.go.set()
    client.server.limits = Limits()
    assert client.reading()["status"] == "read"


def test_slow_and_silent_clients_are_dropped(serve):
    client = serve(limits=Limits(head_s=0.3, idle_s=0.5, body_s=0.5))
    for said in (b"", b"GET / HT", b"POST /api/readings HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-Ecgscan: 1\r\n"
                 b"Content-Type: image/png\r\nContent-Length: 100\r\n\r\nabc" % client.server.server_port):  # fmt: skip
        with socket.create_connection(("127.0.0.1", client.server.server_port), timeout=10) as connection:
            connection.sendall(said)
            start = time.monotonic()
            while connection.recv(4096):
                pass
            assert time.monotonic() - start < 5
    assert client.reading()["status"] == "read"


def test_too_many_connections_are_turned_away(serve):
    client = serve(limits=Limits(connections=2))
    held = [socket.create_connection(("127.0.0.1", client.server.server_port)) for _ in range(2)]
    try:
        time.sleep(0.3)
        status, headers, _ = client("GET", "/api/state")
        assert (status, headers["Retry-After"]) == (503, "5")
    finally:
        for connection in held:
            connection.close()
    until = time.monotonic() + 10
    while client("GET", "/api/state")[0] != 200:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_nothing_is_written_unless_asked(serve, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "kept"
    serve().reading()
    assert not list(tmp_path.iterdir())
    client = serve(store=kept)
    said = client.reading()
    assert sorted(p.name for p in kept.iterdir()) == ["photo.csv", "photo.json", "photo.png"]
    client("POST", f"/api/readings/{said['id']}/corrections", b'{"speed": 50}')
    assert json.loads((kept / "photo.json").read_text())["layout"]["paper_speed_mm_per_s"] == 50
    client.reading(level=5)
    assert sorted(p.name for p in kept.iterdir()) == ["photo-2.json", "photo.csv", "photo.json", "photo.png"]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("a.jpg", "a.jpg"), ("..%2F..%2Fetc%2Fpasswd", "passwd"), ("C%3A%5Cx%5Cy.png", "y.png"), ("", "ecg"),
     ("%00%0a%1b.jpg", "ecg.jpg"), ("..", "ecg"), ("%FF%FE.jpg", "��.jpg"), ("a" * 500 + ".jpg", "a" * 80 + ".jpg")],
)  # fmt: skip
def test_file_names_are_made_harmless(sent, kept):
    assert _source_name(sent) == kept


def test_photos_go_by_themselves(serve):
    client = serve(limits=Limits(session_s=0.2, sessions=2))
    names = [client.reading()["id"] for _ in range(3)]
    assert client.server.sessions.get(names[0]) is None
    until = time.monotonic() + 10
    while len(client.server.sessions):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_page_survives_a_photo_no_net_has_seen(client):
    rgb = np.random.default_rng(3).integers(0, 250, (300, 420, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(rgb).save(out, "PNG")
    assert client.upload(out.getvalue(), "noise.png")[0] == 200
