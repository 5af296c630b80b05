import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_reader import Reader
from PIL import Image
from test_gate import GOOD, PX, fake_coarse, grid_photo

from ecg.errors import EcgscanError
from ecg.page import Photo
from edge_runtime import camera_window
from edge_runtime.camera import CameraOptions, CameraRun, run_camera
from edge_runtime.camera_glance import GREEN_FRAMES, Chooser, Glance, changed, glance
from edge_runtime.camera_grab import Grabber
from edge_runtime.camera_sources import CameraEnded, CameraError, Still, Video, open_source
from edge_runtime.camera_window import check_window, picture
from edge_runtime.gate_measures import Area
from edge_runtime.scan import Outcome

HERE = Path(__file__).parent


class Scripted:
    """A source that plays a list of frames and failures, then ends."""

    def __init__(self, plays: list[object], log: list[str] | None = None) -> None:
        self.plays, self.log = plays, log if log is not None else []
        self.log.append("open")

    def read(self) -> np.ndarray:
        time.sleep(0.002)
        if not self.plays:
            raise CameraEnded("over")
        play = self.plays.pop(0)
        if isinstance(play, Exception):
            raise play
        return np.asarray(play)

    def close(self) -> None:
        self.log.append("close")


class CameraReader(Reader):
    """The fake reader, counting."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def read(self, photo: Photo, *rest: object) -> object:
        self.reads += 1
        return super().read(photo)


def page() -> np.ndarray:
    return grid_photo()


def camera_threads() -> int:
    return sum(t.name == "camera" for t in threading.enumerate())


class Scene:
    """A source that shows what a function of the frames looked at so far says; None ends it."""

    def __init__(self, scene: Callable[[int], np.ndarray | None]) -> None:
        self.scene, self.frames = scene, 0

    def seen(self, run: CameraRun) -> None:
        self.frames = run.frames

    def read(self) -> np.ndarray:
        time.sleep(0.005)
        rgb = self.scene(self.frames)
        if rgb is None:
            raise CameraEnded("over")
        return rgb

    def close(self) -> None:
        pass


def run(
    tmp_path: Path, scene: Callable[[int], np.ndarray | None], reader: CameraReader | None = None, **options: object
) -> tuple[CameraRun, list[str]]:
    lines: list[str] = []
    options = {"headless": True, "out": tmp_path / "out", "seconds": 60.0, **options}
    source = Scene(scene)
    outcome = run_camera(
        reader or CameraReader(), CameraOptions(**options), lines.append, opener=lambda: source, on_frame=source.seen
    )
    assert camera_threads() == 0
    return outcome, lines


# ------------------------------------------------------------------------------------------------------------ sources


def test_still_picture_is_a_camera(page_jpg: Path) -> None:
    source = open_source(str(page_jpg))
    assert isinstance(source, Still)
    assert source.read().shape == (1000, 2000, 3)
    source.close()
    with pytest.raises(CameraEnded):
        source.read()


def small_video(path: Path, n: int = 5) -> Path:
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 60.0, (320, 240))
    if not video.isOpened():
        pytest.skip("this OpenCV can't write MJPG videos")
    for k in range(n):
        video.write(np.full((240, 320, 3), 40 * k, np.uint8))
    video.release()
    return path


def test_video_plays_once_or_in_a_loop(tmp_path: Path) -> None:
    path = small_video(tmp_path / "a.avi")
    once = open_source(str(path))
    assert isinstance(once, Video)
    levels = [float(once.read().mean()) for _ in range(5)]
    assert levels == pytest.approx([0, 40, 80, 120, 160], abs=6)
    with pytest.raises(CameraEnded):
        once.read()
    once.close()
    looped = open_source(str(path), loop=True)
    assert [float(looped.read().mean()) for _ in range(7)][-1] == pytest.approx(40, abs=6)
    looped.close()


def test_looping_leaves_no_files_open(tmp_path: Path) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    looped = open_source(str(small_video(tmp_path / "a.avi", 2)), loop=True)
    looped.read()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(30):
        looped.read()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
    looped.close()


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nothing.mp4", "no such file"),
        ("", "--device '': no such file; give a number"),
        (str(Path(__file__).parent), "is a folder; give a number"),
        ("983", "no /dev/video983"),
        ("/dev/video983", "plug it in"),
        ("gstreamer:videotestsrc ! appsink", "GStreamer"),
    ],
)
def test_what_is_no_camera_is_said_in_a_line(spec: str, says: str) -> None:
    if spec.startswith("gstreamer") and "GStreamer:                   YES" in cv2.getBuildInformation():
        pytest.skip("this OpenCV has GStreamer")
    if "video983" in says and not Path("/dev").exists():
        pytest.skip("needs /dev")
    with pytest.raises(CameraError, match=says) as error:
        open_source(spec)
    assert "\n" not in str(error.value)


def test_file_that_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "notes.avi"
    path.write_text("hello")
    with pytest.raises(CameraError, match="not a video") as error:
        open_source(str(path))
    assert not error.value.again


# ----------------------------------------------------------------------------------------------------------- grabbing


def test_latest_frame_wins() -> None:
    frames = [np.full((4, 4, 3), k, np.uint8) for k in range(40)]
    with Grabber(lambda: Scripted(list(frames))) as grabber:
        assert grabber._worker is not None
        grabber._worker.thread.join(10.0)  # all frames have come
        frame = grabber.next(1.0)
        assert frame is not None
        assert frame.number == 40
        with pytest.raises(CameraEnded):
            grabber.next(1.0)
    assert camera_threads() == 0


def test_lost_camera_is_tried_again_with_growing_delays() -> None:
    log: list[str] = []
    plays = [[CameraError("gone")], [CameraError("gone")], [np.zeros((4, 4, 3), np.uint8)]]
    said: list[str] = []
    with Grabber(lambda: Scripted(plays.pop(0), log), retries=5, say=said.append, first_delay_s=0.05) as grabber:
        frame = grabber.next(5.0)
    assert frame is not None
    assert log == ["open", "close"] * 3
    assert said == ["gone; trying again in 0.05 s (1 of 5)", "gone; trying again in 0.1 s (2 of 5)"]


def test_gives_up_after_the_retries() -> None:
    log: list[str] = []
    with (
        Grabber(lambda: Scripted([CameraError("gone")], log), retries=2, first_delay_s=0.01) as grabber,
        pytest.raises(CameraError, match="gone; gave up after 2 more tries"),
    ):
        grabber.next(30.0)
    assert log == ["open", "close"] * 3
    assert camera_threads() == 0


def test_faults_that_stay_are_not_tried_again() -> None:
    with (
        Grabber(lambda: Scripted([CameraError("never", again=False)]), retries=9) as grabber,
        pytest.raises(CameraError, match="never"),
    ):
        grabber.next(2.0)


def test_silent_camera_is_left_behind() -> None:
    free = threading.Event()

    class Silent:
        def read(self) -> np.ndarray:
            free.wait(10.0)
            raise CameraEnded("over")

        def close(self) -> None:
            pass

    said: list[str] = []
    sources: list[object] = [Silent(), Scripted([np.zeros((4, 4, 3), np.uint8)] * 50)]
    with Grabber(lambda: sources.pop(0), say=said.append, first_delay_s=0.01, silent_s=0.3) as grabber:
        assert grabber.next(5.0) is not None
        free.set()
    assert "no picture for" in said[0]
    time.sleep(0.05)
    assert camera_threads() == 0


def test_a_drivers_own_fault_becomes_a_line() -> None:
    with (
        Grabber(lambda: Scripted([ValueError("odd\nbuffer")]), retries=0) as grabber,
        pytest.raises(CameraError, match="ValueError: odd buffer"),
    ):
        grabber.next(2.0)


# ------------------------------------------------------------------------------------------------- looking, choosing


def look(blur_mm: float = 0.3, green: bool = True, level: float = 100.0) -> Glance:
    cells = np.zeros((32, 32), bool)
    area = Area(cells, 0.3, PX, 0.0, 0.98, np.zeros((32, 32), np.float32))
    doubts = () if green else (object(),)
    small = np.full((90, 160), level, np.float32)
    small[:, ::2] += 60
    from dataclasses import replace

    return Glance(area, replace(GOOD, blur_mm=blur_mm), doubts, small)


def photo(k: int) -> Photo:
    return Photo(np.full((2, 2, 3), k, np.uint8))


def test_sharpest_of_the_green_frames_is_taken() -> None:
    chooser = Chooser(green_frames=3)
    assert chooser.add(photo(1), look(0.4)) is None
    assert chooser.add(photo(2), look(0.2)) is None
    taken = chooser.add(photo(3), look(0.3))
    assert taken is not None
    assert taken.rgb[0, 0, 0] == 2
    assert chooser.waiting


def test_a_doubt_starts_the_count_again() -> None:
    chooser = Chooser(green_frames=2)
    assert chooser.add(photo(1), look()) is None
    assert chooser.add(photo(2), look(green=False)) is None
    assert chooser.add(photo(3), look()) is None
    assert chooser.add(photo(4), look()) is not None


def test_the_same_page_is_taken_once() -> None:
    chooser = Chooser(green_frames=1)
    assert chooser.add(photo(1), look()) is not None
    assert chooser.add(photo(2), look()) is None
    assert not changed(look(), look())
    assert chooser.add(photo(3), look(level=160.0)) is not None
    chooser.again()
    assert chooser.add(photo(4), look(level=160.0)) is not None


def test_motion_keeps_a_frame_from_being_green() -> None:
    rgb = page()
    first = glance(Photo(rgb), fake_coarse())
    still = glance(Photo(rgb), fake_coarse(), first)
    moved = glance(Photo(np.roll(rgb, 40, axis=1)), fake_coarse(), first)
    assert still.green
    assert [f.code for f in moved.findings] == ["moving"]


# -------------------------------------------------------------------------------------------------------- whole runs


def test_page_is_taken_read_and_written(tmp_path: Path) -> None:
    reader = CameraReader()
    dark, bright = np.zeros_like(page()), page()
    outcome, lines = run(tmp_path, lambda k: dark if k < 2 else bright, reader, once=True)
    assert reader.reads == 1
    assert outcome.n_read == 1
    stem = outcome.taken[0].files[0].stem
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"{stem}{s}" for s in (".csv", ".json", ".png")}
    assert any("too dark" in line for line in lines)
    assert any(line.startswith("hold still") for line in lines)
    assert "1 read" in outcome.summary()


def test_out_is_looked_at_before_a_page_is_taken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(EcgscanError, match="file is no folder; choose another --out"):
            run_camera(Reader(), CameraOptions("nothing.mp4", out, headless=True), print)


def test_page_that_stays_is_read_once(tmp_path: Path) -> None:
    reader = CameraReader()
    rgb = page()
    outcome, lines = run(tmp_path, lambda k: rgb if k < 12 else None, reader)
    assert reader.reads == 1
    assert outcome.ended == "over"
    assert "done: show the next page" in lines


def test_nothing_read_tells_why(tmp_path: Path) -> None:
    dark = np.zeros_like(page())
    outcome, _ = run(tmp_path, lambda k: dark if k < 2 else None, once=True)
    assert outcome.taken == []
    assert outcome.summary().startswith("no page was read: over; last advice: too dark")


def test_a_fault_with_one_page_does_not_end_the_run(tmp_path: Path) -> None:
    class Faulty(CameraReader):
        def read(self, photo: Photo, *rest: object) -> object:
            raise ValueError("two\nlines")

    rgb = page()
    outcome, lines = run(tmp_path, lambda k: rgb if k < GREEN_FRAMES else None, Faulty())
    assert [line.outcome for line in outcome.taken] == [Outcome.FAULT]
    assert all("\n" not in line for line in lines)


def test_time_limit_ends_a_run(tmp_path: Path) -> None:
    dark = np.zeros((40, 40, 3), np.uint8)
    outcome, _ = run(tmp_path, lambda k: dark, seconds=0.3)
    assert "no more time" in outcome.ended


def test_ctrl_c_ends_a_run_cleanly(tmp_path: Path) -> None:
    log: list[str] = []

    def interrupt(run: object) -> None:
        raise KeyboardInterrupt

    options = CameraOptions(headless=True, out=tmp_path)
    outcome = run_camera(
        CameraReader(), options, log.append, opener=lambda: Scripted([page()] * 50, log), on_frame=interrupt
    )
    assert outcome.ended == "stopped"
    assert log[-1] == "close"
    assert camera_threads() == 0


# ------------------------------------------------------------------------------------------------------------- window


def test_window_needs_an_opencv_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_window.cv2, "getBuildInformation", lambda: "  GUI:                           NONE\n")
    with pytest.raises(CameraError, match="opencv-python instead of opencv-python-headless; or use --headless"):
        check_window()


def test_window_needs_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_window.cv2, "getBuildInformation", lambda: "  GUI:                           QT5\n")
    monkeypatch.setattr(camera_window.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(CameraError, match="no display"):
        check_window()


def test_picture_shows_outline_and_line() -> None:
    rgb = page()
    seen = glance(Photo(rgb), fake_coarse())
    out = picture(rgb, seen, "hold still: taking the picture")
    assert out.shape == (round(1000 * 1100 / 1700) + 48, 1100, 3)
    assert (out[-46] == camera_window.GREEN).all()
    assert (out[-40:-8] == 255).all(-1).any()
    assert (out[:-48] == camera_window.GREEN).all(-1).sum() > 500


# ------------------------------------------------------------------------------------------------------- command line


def test_command_line_names_the_camera_that_is_missing(edge, tmp_path: Path) -> None:
    if not Path("/dev").exists():
        pytest.skip("needs /dev")
    done = edge("camera", "--device", "983", "--headless", "--retries", 0, "--out", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("ecgscan-edge: camera 983: no /dev/video983")
    assert len(done.stderr.strip().splitlines()) == 1


def test_command_line_reads_from_a_picture(edge, tmp_path: Path) -> None:
    Image.fromarray(page()).save(tmp_path / "page.png")
    done = edge("camera", "--device", tmp_path / "page.png", "--headless", "--once", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "1 taken, 1 read" in done.stdout
    assert len(list((tmp_path / "out").glob("camera-*.csv"))) == 1
