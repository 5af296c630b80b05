"""The page in a real Chromium. ``ECGSCAN_SHOTS=docs`` also takes the screenshots of the documentation."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from serve_client import picture

from edge_runtime.serve_browser import (
    DESKTOP_PX,
    PHONE_PX,
    chromium,
    find_chromium,
    first_paint_ms,
    take_photo,
    take_shots,
    write_demo_photo,
)

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="needs Chromium: apt-get install chromium")
TEXT = "document.getElementById('{}').textContent"


@pytest.fixture(scope="module")
def browser():
    with chromium() as page:
        yield page


@pytest.fixture
def page(browser):
    browser.faults.clear()
    browser.size(DESKTOP_PX)
    yield browser
    browser.open("about:blank")
    assert browser.faults == []


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(picture())
    return path


def test_the_first_paint_is_quick(page, client):
    figures = first_paint_ms(page, client.server.url, 3)
    assert figures["assets_kb"] < 100
    if os.getloadavg()[0] < (os.cpu_count() or 1):  # a busy machine paints late whatever the page is
        assert figures["first_contentful_paint_ms"] <= 1000
        assert figures["usable_ms"] <= 1500


def test_a_photo_is_read_zoomed_measured_corrected_and_forgotten(page, client, photo):
    take_photo(page, client.server.url, photo)
    assert page.run(TEXT.format("result-title")) == "The ECG was read"
    assert page.run("document.activeElement.id") == "result-title"
    assert page.run("document.querySelectorAll('#plot g[role=img]').length") == 13
    assert "Lead V6, 7.5 to 10.0 seconds" in page.run(
        "[...document.querySelectorAll('#plot g[role=img]')].map((g) => g.getAttribute('aria-label')).join()"
    )
    page.wait("document.getElementById('sheet').naturalWidth > 500")
    whole = page.run("document.querySelector('#plot svg').getAttribute('viewBox')")
    page.run("document.getElementById('zoom-in').click()")
    assert page.run("document.querySelector('#plot svg').getAttribute('viewBox')") != whole
    page.run("document.querySelector('#plot svg').focus()")
    page.press("0")
    assert page.run("document.querySelector('#plot svg').getAttribute('viewBox')") == whole

    page.run("document.getElementById('calipers').click()")
    assert page.run(TEXT.format("readout")).startswith("Between the calipers: 1000 ms, 60 per minute, 1.00 mV")
    page.run("document.querySelectorAll('.cal-handle')[1].focus()")
    page.press("ArrowLeft")
    page.press("ArrowLeft", shift=True)
    page.press("ArrowUp")
    assert "994 ms, 60 per minute, 1.05 mV" in page.run(TEXT.format("readout"))
    assert "994 ms" in page.run("document.activeElement.getAttribute('aria-valuetext')")

    page.run("document.getElementById('view-list').click()")
    assert page.run("document.querySelectorAll('#plot g[role=img]').length") == 16  # the rhythm strip in four
    page.run(
        "(() => { document.getElementById('fix-speed').value = '50'; document.getElementById('fix-go').click(); })()"
    )
    page.wait("document.getElementById('facts').textContent.includes('50\u00a0mm/s')")
    page.wait("!document.getElementById('fix-go').disabled")
    assert page.run("document.getElementById('fix-reset').hidden") is False

    page.run("document.getElementById('forget').click()")
    page.wait("!document.getElementById('start').hidden")
    page.wait("performance.now() > 0")
    assert page.run("document.getElementById('plot').childElementCount") == 0
    assert page.run("document.getElementById('sheet').hasAttribute('src')") is False
    for _ in range(100):
        if not len(client.server.sessions):
            break
        page.run("new Promise((go) => setTimeout(go, 50))")
    assert len(client.server.sessions) == 0


def test_corrected_lead_names_are_sent_as_they_stand(page, client, photo):
    sent = []
    read = client.server.reader.read
    client.server.reader.read = lambda photo, overrides: (sent.append(overrides), read(photo, overrides))[1]
    take_photo(page, client.server.url, photo)
    page.run("document.querySelector('#fix-leads select').value = '-aVR'")
    page.run("document.getElementById('fix-go').click()")
    page.wait("!document.getElementById('fix-reset').hidden && !document.getElementById('fix-go').disabled")
    assert sent[-1].lead_names[:2] == ("-aVR", "aVR")
    assert len(sent[-1].lead_names) == 13


def test_what_can_t_be_read_is_said(page, client, tmp_path):
    dark = tmp_path / "<img src=x onerror=alert(1)>.jpg"
    dark.write_bytes(picture(level=5))
    take_photo(page, client.server.url, dark)
    assert page.run(TEXT.format("result-title")) == "This photo can't be read"
    assert "No paper grid found: move closer, avoid glare." in page.run(TEXT.format("refused"))
    assert page.run("document.getElementById('leads-card').hidden") is True
    assert page.run("document.querySelectorAll('#downloads a').length") == 1
    assert page.run("document.querySelectorAll('main img[onerror]').length") == 0
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(picture()[:-300])
    page.open(client.server.url)
    page.wait("document.getElementById('about').textContent")
    page.choose_file("#file", broken)
    page.wait("!document.getElementById('problem').hidden")
    assert "truncated JPEG" in page.run(TEXT.format("problem-text"))
    page.faults.clear()  # Chromium logs the 422 as an error of loading


def test_findings_are_shown_with_their_probabilities(page, client, photo):
    take_photo(page, client.server.url, photo)
    assert page.run(TEXT.format("findings")).startswith("Not assessed")
    findings = [
        {"code": "AFIB", "name": "Atrial fibrillation", "probability": 0.82, "decision": "present"},
        {"code": "SR", "name": "Sinus rhythm", "probability": 0.05, "decision": "absent"},
        {"code": "LVH", "name": "<b>LVH</b>", "probability": None, "decision": "not assessed", "why": "rare"},
    ]
    box = "document.getElementById('findings')"
    script = f"import('/static/panels.js').then((m) => m.findings({box}, {{findings: {json.dumps(findings)}}}))"
    page.run(script)
    text = page.run(f"{box}.textContent")
    assert "Atrial fibrillation82\u00a0%present" in text
    assert "Absent (1)" in text
    assert "<b>LVH</b>" in text
    assert "Rare." in text


def test_the_keyboard_alone_is_enough(page, client, photo):
    page.open(client.server.url)
    page.wait("document.getElementById('about').textContent")
    page.press("Tab")
    assert page.run("document.activeElement.className") == "skip"
    assert page.run("document.activeElement.getBoundingClientRect().left") >= 0
    order = []
    for _ in range(12):
        page.press("Tab")
        order.append(page.run("document.activeElement.id"))
        if order[-1] == "file":
            break
    assert order[-1] == "file"
    take_photo(page, client.server.url, photo)
    unnamed = page.run(
        "[...document.querySelectorAll('button, select, input, a[href], [role=slider], meter, img')].filter((e) =>"
        " !e.closest('[hidden]') && !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length"
        " || e.hasAttribute('alt'))).map((e) => e.outerHTML)"
    )
    assert unnamed == []
    assert page.run('document.querySelectorAll(\'[tabindex]:not([tabindex="0"]):not([tabindex="-1"])\').length') == 0


def test_it_fits_a_phone(page, client, photo):
    page.size(PHONE_PX, phone=True)
    page.open(client.server.url)
    page.wait("document.getElementById('about').textContent")
    assert page.run("document.documentElement.scrollWidth") <= PHONE_PX[0]
    assert page.run("getComputedStyle(document.querySelector('.touch')).display") != "none"
    assert page.run("document.getElementById('camera').getAttribute('capture')") == "environment"
    take_photo(page, client.server.url, photo)
    assert page.run("document.documentElement.scrollWidth") <= PHONE_PX[0]
    assert page.run("document.getElementById('view-list').getAttribute('aria-pressed')") == "true"
    small = page.run(
        "[...document.querySelectorAll('button, select, .jump a')].filter((e) => e.offsetParent"
        " && e.getBoundingClientRect().height < 30).map((e) => e.id || e.textContent)"
    )
    assert small == []


def test_a_phone_that_joins_gets_the_page(page, serve):
    client = serve(lan_address="192.168.1.20")
    page.open(client.server.url)
    page.wait("!document.getElementById('phone').hidden")
    assert "/join#" in page.run(TEXT.format("phone-url"))
    assert page.run("document.querySelector('#qr path').getAttribute('d').length") > 500
    page.open(f"{client.server.url}join#{client.server.pairing.url.partition('#')[2]}")
    page.wait("location.pathname === '/'")
    page.open(f"{client.server.url}join#wrong")
    page.wait(f"{TEXT.format('status')}.startsWith('Not connected')")
    assert page.run("location.hash") == ""
    page.faults.clear()  # Chromium logs the 403 as an error of loading


def test_the_shipped_nets_read_a_photo_on_the_page(page, serve, tmp_path):
    from edge_runtime.reader import Reader

    client = serve(Reader.open())
    demo = write_demo_photo(tmp_path / "demo.jpg")
    shots = os.environ.get("ECGSCAN_SHOTS")
    if shots:
        assert len(take_shots(page, client.server.url, demo, Path(shots))) == 3
    else:
        take_photo(page, client.server.url, demo)
    assert page.run(TEXT.format("result-title")) == "The ECG was read"
    assert "3x4+1" in page.run(TEXT.format("facts"))
    assert "Heart rate" in page.run(TEXT.format("measures"))
