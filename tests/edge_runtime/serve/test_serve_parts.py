from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import fake_reader
import numpy as np
import pytest
import segno

from ecg.errors import EcgscanError, InputError
from ecg.page import Overrides
from edge_runtime.relabel import relabelled
from edge_runtime.serve.command import serve_page
from edge_runtime.serve.guard import Guard, is_loopback
from edge_runtime.serve.jobs import BusyError, LateError, WorkQueue
from edge_runtime.serve.lan import WRONG_TRIES, Pairing, is_own, lan_address, qr_for_terminal, qr_modules
from edge_runtime.serve.limits import Limits
from edge_runtime.serve.server import PageServer
from edge_runtime.serve.sessions import Session, Sessions

PHONE = "192.168.1.30"


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def pairing():
    return Pairing("192.168.1.20", 8765, Clock())


def ask(guard, peer, path="/api/state", method="GET", **headers):
    refusal = guard.refusal(peer, method, path, {"Host": "192.168.1.20:8765", **headers})
    return refusal.code if refusal else None


def test_phones_need_a_cookie_that_a_token_gives_once(pairing):
    guard = Guard(8765, pairing)
    assert ask(guard, PHONE) == "not_connected"
    assert ask(guard, PHONE, "/join") is None
    assert ask(guard, PHONE, "/static/join.js") is None
    token = pairing.url.partition("#")[2]
    assert pairing.redeem("guess") is None
    cookie = pairing.redeem(token)
    assert cookie
    assert pairing.redeem(token) is None
    assert token not in pairing.url
    assert ask(guard, PHONE, Cookie=f"other=1; {pairing.cookie_name}={cookie}") is None
    assert ask(guard, PHONE, Cookie=f"{pairing.cookie_name}={cookie}x") == "not_connected"
    assert ask(guard, PHONE, Cookie="\x00;;=,") == "not_connected"
    pairing._clock.now += 13 * 3600
    assert ask(guard, PHONE, Cookie=f"{pairing.cookie_name}={cookie}") == "not_connected"


def test_no_phone_comes_in_by_a_loopback_name_or_without_lan(pairing):
    for guard in (Guard(8765), Guard(8765, pairing)):
        for host in ("127.0.0.1:8765", "localhost:8765", "evil.example:8765", ""):
            assert ask(guard, PHONE, Host=host) == "wrong_host"
    assert ask(Guard(8765), "127.0.0.1", Host="192.168.1.20:8765") == "wrong_host"
    assert ask(Guard(80), "127.0.0.1", Host="localhost") is None
    assert ask(Guard(8765), "::1", Host="[::1]:8765") is None


def test_changes_need_the_page_s_own_header_and_origin(pairing):
    guard = Guard(8765, pairing)
    loopback = {"Host": "localhost:8765"}
    assert ask(guard, "127.0.0.1", "/api/readings", "POST", **loopback) == "no_mark"
    said = {**loopback, "X-Ecgscan": "1"}
    assert ask(guard, "127.0.0.1", "/api/readings", "POST", **said) is None
    assert ask(guard, "127.0.0.1", "/api/readings", "POST", Origin="http://localhost:9", **said) == "foreign_origin"
    assert ask(guard, "127.0.0.1", "/api/readings", "POST", Origin="http://localhost:8765", **said) is None


@pytest.mark.parametrize(
    ("peer", "here"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("::ffff:127.0.0.1", True), ("::ffff:10.0.0.1", False),
     ("10.0.0.1", False), ("fe80::1%eth0", False), ("", False), ("localhost", False)],
)  # fmt: skip
def test_what_is_loopback(peer, here):
    assert is_loopback(peer) is here


def test_guessing_tokens_is_stopped(pairing):
    for _ in range(WRONG_TRIES):
        assert not pairing.too_many_tries()
        pairing.redeem("guess")
    assert pairing.too_many_tries()
    pairing._clock.now += 61
    assert not pairing.too_many_tries()


def test_the_code_is_the_url(pairing):
    side, path = qr_modules(pairing.url)
    drawn = np.zeros((side, side), bool)
    for run in path.split("M")[1:]:
        x, rest = run.split(" ")
        y, rest = rest.split("h")
        drawn[int(y), int(x) : int(x) + int(rest.split("v")[0])] = True
    expected = np.array([list(map(bool, row)) for row in segno.make(pairing.url, micro=False, error="m").matrix])
    np.testing.assert_array_equal(drawn[4:-4, 4:-4], expected)
    assert not drawn[:4].any()
    assert len(qr_for_terminal(pairing.url).splitlines()) > 15


def test_joining_over_http(serve):
    client = serve(lan_address="192.168.1.20")
    shown = []
    client.server.pairing.on_new_token = lambda: shown.append(1)
    phone = client("GET", "/api/state")[2]
    assert b"qr_path" in phone
    token = client.server.pairing.url.partition("#")[2]
    status, headers, _ = client("POST", "/api/join", b'{"token": "%s"}' % token.encode())
    assert status == 204
    assert "HttpOnly; SameSite=Strict" in headers["Set-Cookie"]
    assert shown == [1]
    assert client("POST", "/api/join", b'{"token": "%s"}' % token.encode())[0] == 403
    for body in (b"x", b"[]", b"{}", b'{"token": {"a": 1}}', '{"token": "ü"}'.encode()):
        assert client("POST", "/api/join", body)[0] == 403
    for _ in range(WRONG_TRIES):
        status, headers, _ = client("POST", "/api/join", b"{}")
    assert (status, headers["Retry-After"]) == (429, "60")
    assert b"qr_path" not in serve()("GET", "/api/state")[2]


def session(n_bytes=1000):
    return Session(b"x" * n_bytes, "a.jpg", "a", fake_reader.Unreadable("finder", "no_grid", "no"), b"{}")


def test_sessions_go_by_age_number_and_size():
    clock = Clock()
    kept = Sessions(Limits(session_s=10, sessions=3, session_bytes=10_000), clock)
    names = [kept.add(session()) for _ in range(4)]
    assert [kept.get(n) is not None for n in names] == [False, True, True, True]
    clock.now = 8
    assert kept.get(names[1])
    clock.now = 15
    kept.sweep()
    assert [kept.get(n) is not None for n in names] == [False, True, False, False]
    big = kept.add(session(9_500))
    assert (kept.get(names[1]), kept.get(big) is not None) == (None, True)
    assert kept.get(kept.add(session(50_000)))  # one is always kept
    assert kept.renew(big, session()) is False
    kept.clear()
    assert len(kept) == 0


def test_the_queue_passes_results_and_faults_on_and_forgets_them():
    queue = WorkQueue(1)
    try:
        assert queue.run(lambda: 7, 5) == 7
        with pytest.raises(ZeroDivisionError):
            queue.run(lambda: 1 / 0, 5)
        go = threading.Event()
        with pytest.raises(LateError):
            queue.run(go.wait, 0.05)
        with pytest.raises(LateError):
            queue.run(lambda: 1, 0.05)
        go.set()
        until = time.monotonic() + 5
        while True:
            try:
                assert queue.run(lambda: 8, 5) == 8
                break
            except BusyError:
                assert time.monotonic() < until
    finally:
        queue.close()


def test_leads_are_renamed_where_they_stand():
    layout = fake_reader.layout_3x4()
    names = tuple(s.lead for s in layout.strips)
    assert relabelled(layout, None) is layout
    swapped = (names[1], names[0], *names[2:])
    again = relabelled(layout, swapped)
    assert tuple(s.lead for s in again.strips) == swapped
    assert again.strips[0] == replace(layout.strips[0], lead=swapped[0])
    assert again.decided["leads"].how == "override"
    with pytest.raises(InputError, match="12 lead names for 13 traces"):
        relabelled(layout, names[:12])
    assert Overrides().lead_names is None


def test_starting_ends_in_one_line_where_it_cant():
    reader = fake_reader.Reader()
    options = {"lan": False, "address": None, "store": None, "open_browser": False, "say": lambda _: None}
    busy = PageServer(reader)
    try:
        with pytest.raises(EcgscanError, match=r"port \d+ can't be used"):
            serve_page(reader, busy.server_port, **options)
    finally:
        busy.server_close()
    with pytest.raises(EcgscanError, match="--address here: give this machine's own"):
        serve_page(reader, 0, **{**options, "address": "here"})
    with pytest.raises(EcgscanError, match="is no folder; choose another --store"):
        serve_page(reader, 0, **{**options, "store": Path(__file__)})


def test_the_command_serves_until_stopped(tmp_path):
    lines = []
    servers = []

    def say(line):
        lines.append(line)
        if line.startswith("open http"):
            threading.Timer(0.3, lambda: servers[0].shutdown()).start()

    original = PageServer.__init__

    def remember(self, *args, **kwargs):
        original(self, *args, **kwargs)
        servers.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PageServer, "__init__", remember)
        serve_page(fake_reader.Reader(), 0, lan=False, address="192.168.1.20", store=tmp_path / "kept",
                   open_browser=False, say=say)  # fmt: skip
    text = "\n".join(lines)
    assert "http://192.168.1.20:" in text
    assert "scan this code" in text
    assert is_own("127.0.0.1")
    if not is_own("192.168.1.20"):
        assert "192.168.1.20 is no address of this machine" in text
    assert "results are written to" in text
    assert text.endswith("stopped; all photos are forgotten")


def test_the_address_in_the_network_is_no_loopback():
    try:
        address = lan_address()
    except InputError:
        pytest.skip("this machine is in no network")
    assert not address.startswith("127.")
