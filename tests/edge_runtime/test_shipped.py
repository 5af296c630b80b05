"""The shipped bundle through the real command line: the demo, refusals, hostile files, and a floor on real photos."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ecg.bundle import BUNDLE_FILE, load_bundle
from ecg.page import Photo, Unreadable

REPO = Path(__file__).parents[2]
SHIPPED = REPO / "edge_runtime" / "models"
PAIRED = REPO.parent / "shared" / "data" / "photos" / "paired"
FLOOR_DB = 15.0  # median over a few real photos; the measured figures stand in results/

pytestmark = pytest.mark.skipif(not (SHIPPED / BUNDLE_FILE).exists(), reason="no bundle is shipped yet")


def run(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_runtime", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPO, timeout=300, check=False)


@pytest.fixture(scope="module")
def reader():
    from edge_runtime.reader import Reader

    return Reader.open(threads=1)


def test_bundle_is_whole_and_small() -> None:
    bundle = load_bundle(SHIPPED)
    sizes = {name: net.n_parameters for name, net in bundle.nets.items()}
    assert sum(n for name, n in sizes.items() if name != "findings") < 6_000_000
    assert sum(sizes.values()) < 10_000_000
    assert sum(p.stat().st_size for p in SHIPPED.iterdir() if p.is_file()) < 20_000_000
    assert bundle.training_data
    assert all(source.licence for source in bundle.training_data)


def test_no_file_of_the_bundle_tells_where_it_was_made() -> None:
    for path in SHIPPED.iterdir():
        if path.is_file():
            assert b"site-packages" not in path.read_bytes()
            assert b'File "' not in path.read_bytes()


def test_demo(tmp_path: Path) -> None:
    done = run("demo", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    db = float(done.stdout.split("against the truth: ")[1].split(" dB")[0])
    assert db > FLOOR_DB
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo.csv", "demo.jpg", "demo.json", "demo.png"]


def test_scan_of_good_and_hostile_files(tmp_path: Path) -> None:
    from edge_runtime.rendered import round_trip_page

    Image.fromarray(round_trip_page("3x4+1", 25.0, 10.0, 1).rgb).save(tmp_path / "page.png")
    (tmp_path / "text.jpg").write_text("no photo")
    Image.new("CMYK", (800, 600), (0, 0, 0, 0)).save(tmp_path / "plain.jpg")
    out = tmp_path / "out"
    done = run("scan", tmp_path / "page.png", tmp_path / "text.jpg", tmp_path / "plain.jpg", "--out", out)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert json.loads((out / "page.json").read_text())["layout"]["name"] == "3x4+1"
    plain = json.loads((out / "plain.json").read_text())
    assert plain["status"] == "unreadable"
    assert plain["message"]
    assert not (out / "plain.csv").exists()


def not_ecgs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:900, 0:1200].astype(np.float32)
    grid = np.full((900, 1200, 3), 245, np.uint8)
    for step, colour in ((8, (250, 200, 200)), (40, (230, 120, 120))):
        grid[::step] = colour
        grid[:, ::step] = colour
    text = np.full((900, 1200, 3), 250, np.uint8)
    for row in range(60, 840, 28):
        for column in range(80, 1100, 14):
            text[row : row + int(rng.integers(4, 14)), column : column + int(rng.integers(3, 11))] = 20
    checks = ((x // 60 + y // 60) % 2 * 200 + 30).astype(np.uint8)
    waves = (127 + 100 * np.sin(x / 40) * np.cos(y / 55)).astype(np.uint8)
    return {
        "grid paper": grid,
        "text": text,
        "noise": rng.integers(0, 256, (900, 1200, 3), dtype=np.uint8),
        "chessboard": np.repeat(checks[..., None], 3, axis=2),
        "waves": np.repeat(waves[..., None], 3, axis=2),
        "white": np.full((900, 1200, 3), 255, np.uint8),
    }


@pytest.mark.parametrize("name", not_ecgs())
def test_pictures_without_an_ecg_are_refused(reader, name: str) -> None:
    result = reader.read(Photo(not_ecgs()[name]))
    assert isinstance(result, Unreadable)
    assert result.reason
    assert "\n" not in result.message


@pytest.mark.parametrize(("layout", "speed"), [("3x4+1-cabrera", 25.0), ("4x3", 50.0), ("6x1-limb", 25.0)])
def test_floor_on_plain_printed_pages(reader, layout, speed) -> None:
    from edge_runtime.evaluation import page_truth, read_row
    from edge_runtime.rendered import round_trip_page

    page = round_trip_page(layout, speed, 10.0, seed=2, plain=True)
    assert read_row(reader, Photo(np.array(page.rgb)), layout, page_truth(page)).db > 22.0


@pytest.mark.parametrize(
    ("layout", "speed", "gain", "seed", "floor_db"),
    [
        # At its right size the grid is half seen, and names are read better at another.
        ("3x4+2", 50.0, 10.0, 2, 18.0),
        ("3x4", 50.0, 20.0, 5, 18.0),  # four times as long as high: the thumbnail shows it at twice its size
        ("6x2+1", 50.0, 20.0, 1, 14.0),  # the second column's names are all that shows it; waves of several rows cross
        ("6x1-limb", 25.0, 20.0, 8, 18.0),  # a row wanders over 20 mm
        ("3x4+2-V1-II", 50.0, 5.0, 14, 20.0),  # half a metre wide: its boxes were taken for ones of three millimetres
    ],
)
def test_odd_pages_keep_their_layout(reader, layout, speed, gain, seed, floor_db) -> None:
    from edge_runtime.evaluation import page_truth, read_row
    from edge_runtime.rendered import round_trip_page

    page = round_trip_page(layout, speed, gain, seed, plain=True)
    row = read_row(reader, Photo(np.array(page.rgb)), layout, page_truth(page))
    assert (row.layout, row.speed, row.gain) == (layout, speed, gain)
    assert row.db > floor_db


@pytest.mark.skipif(not PAIRED.exists(), reason="no ../shared/data/photos/paired beside this checkout")
def test_floor_on_real_photos(reader) -> None:
    pytest.importorskip("wfdb")
    import csv

    from ecg.records import read_wfdb
    from edge_runtime.evaluation import read_row
    from edge_runtime.images import load_photos

    with (PAIRED / "photos.csv").open(newline="") as file:
        entries = list(csv.DictReader(file))[::5]
    rows = []
    for entry in entries:
        path = PAIRED / entry["image_filename"]
        rows.append(read_row(reader, next(iter(load_photos(path))), path.stem, read_wfdb(PAIRED / entry["record"])))
    assert np.median([row.db for row in rows]) > FLOOR_DB, [(row.name, row.db) for row in rows]
