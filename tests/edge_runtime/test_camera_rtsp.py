"""A network camera: its pictures arrive, its silence and its absence end in a line, its password is in none."""

import socket

import cv2
import numpy as np
import pytest
from rtsp_camera import RtspCamera

from edge_runtime import camera_sources
from edge_runtime.camera_grab import Grabber
from edge_runtime.camera_sources import CameraError, open_source

pytestmark = pytest.mark.skipif(not cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG), reason="this OpenCV has no FFmpeg")


@pytest.fixture
def picture() -> np.ndarray:
    rgb = np.full((240, 320, 3), 60, np.uint8)
    rgb[:, :160] = (200, 40, 30)
    return rgb


def test_pictures_arrive(picture: np.ndarray) -> None:
    with RtspCamera(picture) as camera:
        source = open_source(camera.url)
        for _ in range(3):
            assert np.abs(source.read().astype(int) - picture).mean() < 3
        source.close()


def test_a_camera_that_falls_silent_is_connected_to_again(picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_sources, "READ_MS", 500)
    said: list[str] = []
    with RtspCamera(picture, frames=4) as camera, Grabber(lambda: open_source(camera.url), retries=3, say=said.append,
                                                          first_delay_s=0.05) as grabber:  # fmt: skip
        numbers = [0]  # a new connection counts its frames anew
        for _ in range(300):
            frame = grabber.next(0.1)
            numbers += [frame.number] if frame else []
            if camera.connections == 2 and numbers[-1] < max(numbers):
                break
    assert camera.connections == 2
    assert 0 < numbers[-1] < max(numbers)
    assert "no picture comes" in said[0]
    assert not any("secret" in line for line in said)


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(CameraError, match=f"^rtsp://127.0.0.1:{port}/none: no answer") as error:
        open_source(f"rtsp://nurse:secret@127.0.0.1:{port}/none")
    assert "secret" not in str(error.value)
