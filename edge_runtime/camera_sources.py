"""Where frames come from: cameras, streams, GStreamer pipelines, videos, and pictures that stand still."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import cv2
import numpy as np

from ecg.errors import EcgscanError
from ecg.page import U8
from edge_runtime.images import load_photos, printable

STILLS: Final = (".jpg", ".jpeg", ".png", ".heic", ".heif", ".tif", ".tiff", ".bmp", ".webp", ".pdf")
STREAMS: Final = ("rtsp://", "rtsps://", "http://", "https://", "udp://", "rtmp://")
STILL_HZ: Final = 15.0
OPEN_MS: Final = 6000
READ_MS: Final = 5000
WANTED_SIZE: Final = (1920, 1080)  # asked of a camera; it gives the nearest that it has


class CameraError(EcgscanError):
    """A camera can't be used; ``again`` where trying later may help (unplugged, silent), one line either way."""

    def __init__(self, message: str, *, again: bool = True) -> None:
        super().__init__(message)
        self.again = again


class CameraEnded(EcgscanError):
    """A video came to its end."""


class Source(Protocol):
    """An opened camera."""

    def read(self) -> U8:
        """The next frame (H, W, 3) RGB, waiting for it; raises ``CameraError`` or ``CameraEnded``."""
        ...

    def close(self) -> None:
        """Let go of the device or file; safe to call twice."""
        ...


def open_source(spec: str, *, loop: bool = False) -> Source:
    """Open what ``--device`` names; raises ``CameraError``.

    A number or /dev/videoN is a camera, rtsp:// and the like a stream, ``gstreamer:`` starts a pipeline that ends in
    appsink, anything else is a file: a video, or a picture that stands still. ``loop`` starts a file over at its end.
    """
    _hush()
    if spec.startswith("gstreamer:"):
        return _pipeline(spec)
    if spec.startswith(STREAMS):
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_MS]
        why = "no answer, or no video there: check the address, the network and the camera's password"
        shown = spec.split("://")[0] + "://" + spec.split("://")[1].split("@")[-1]  # without the password
        return Capture(shown, _opened(spec, cv2.CAP_FFMPEG, timeouts, f"{shown}: {why}"))
    if spec.isdecimal() or spec.startswith("/dev/"):
        return _camera(spec)
    path = Path(spec)
    if not path.is_file():
        what = "is a folder" if spec and path.is_dir() else "no such file"
        shown = printable(spec) or "''"
        raise CameraError(
            f"--device {shown}: {what}; give a number, /dev/videoN, rtsp://..., gstreamer:... or a file",
            again=False,
        )
    return Still(path) if path.suffix.lower() in STILLS else Video(path, loop=loop)


def cameras() -> tuple[str, ...]:
    """The cameras that this Linux machine shows."""
    return tuple(str(p) for p in sorted(Path("/dev").glob("video*")))


@dataclass
class Capture:
    """A live device or stream in OpenCV; a read that gives nothing means that it is gone or silent."""

    name: str
    capture: Any

    def read(self) -> U8:
        """The next frame."""
        done, bgr = self.capture.read()
        if not done or bgr is None:
            raise CameraError(f"{self.name}: no picture comes; is it unplugged or used by another program?")
        return _rgb(bgr)

    def close(self) -> None:
        """Let go of the device."""
        self.capture.release()


class Video:
    """A video file, played at its own speed so that it stands for a camera."""

    def __init__(self, path: Path, *, loop: bool) -> None:
        self._path, self._loop = path, loop
        self._name = printable(path.name)
        self._capture: Any = self._open()
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self._step_s = 1.0 / min(rate, 120.0) if rate >= 1.0 else 1.0 / STILL_HZ
        self._due = time.monotonic()
        self._frames = 0

    def read(self) -> U8:
        """The next frame, when it is due."""
        done, bgr = self._capture.read()
        if not done or bgr is None:
            if not self._loop or not self._frames:
                raise CameraEnded(f"{self._name}: the video has ended")
            self._capture.release()
            self._capture, self._frames = self._open(), 0
            return self.read()
        self._frames += 1
        self._due = _paced(self._due, self._step_s)
        return _rgb(bgr)

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()

    def _open(self) -> Any:
        why = f"{self._name}: not a video or picture that can be read; give an MP4, AVI or MKV, or a photo"
        try:
            return _opened(str(self._path), cv2.CAP_ANY, [], why)
        except CameraError as err:
            raise CameraError(str(err), again=False) from None


class Still:
    """A picture as a camera that doesn't move."""

    def __init__(self, path: Path) -> None:
        self._rgb: U8 | None = next(iter(load_photos(path))).rgb
        self._due = time.monotonic()

    def read(self) -> U8:
        """The picture."""
        if self._rgb is None:
            raise CameraEnded("the picture was closed")
        self._due = _paced(self._due, 1.0 / STILL_HZ)
        return self._rgb

    def close(self) -> None:
        """Let go of the pixels."""
        self._rgb = None


def _paced(due: float, step_s: float) -> float:
    """Sleep until a frame is due; when the next one is."""
    now = time.monotonic()
    if due > now:
        time.sleep(due - now)
    return max(due, now - 0.5) + step_s


def _camera(spec: str) -> Source:
    path = Path(f"/dev/video{spec}" if spec.isdecimal() else spec)
    if sys.platform.startswith("linux"):
        if not path.exists():
            here = ", ".join(cameras()) or "none"
            raise CameraError(f"camera {spec}: no {path} (cameras here: {here}); plug it in, or give --device FILE")
        if not os.access(path, os.R_OK | os.W_OK):
            raise CameraError(f"camera {spec}: no permission for {path}; add yourself to the group video", again=False)
    api = cv2.CAP_V4L2 if sys.platform.startswith("linux") else cv2.CAP_ANY
    why = f"camera {spec}: can't be opened; is it used by another program?"
    capture = _opened(int(spec) if spec.isdecimal() else spec, api, [], why)
    capture.set(cv2.CAP_PROP_FOURCC, float(cv2.VideoWriter.fourcc(*"MJPG")))  # most cameras give full size only so
    capture.set(cv2.CAP_PROP_FRAME_WIDTH, float(WANTED_SIZE[0]))
    capture.set(cv2.CAP_PROP_FRAME_HEIGHT, float(WANTED_SIZE[1]))
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1.0)
    return Capture(f"camera {spec}", capture)


def _pipeline(spec: str) -> Source:
    if "GStreamer:                   YES" not in cv2.getBuildInformation():
        raise CameraError(
            f"gstreamer: this OpenCV ({cv2.__version__}) is built without GStreamer; use /dev/videoN or rtsp://, "
            "or an OpenCV with GStreamer such as JetPack's own",
            again=False,
        )
    text = spec.removeprefix("gstreamer:").strip()
    return Capture("gstreamer", _opened(text, cv2.CAP_GSTREAMER, [], "gstreamer: the pipeline doesn't start; try it "
                                        "with gst-launch-1.0; it has to end in: ! videoconvert ! appsink"))  # fmt: skip


def _opened(what: str | int, api: int, settings: list[int], why: str) -> Any:
    """An opened ``cv2.VideoCapture``, or ``CameraError``."""
    try:
        capture = cv2.VideoCapture(what, api, settings)
    except cv2.error:
        raise CameraError(why) from None
    if not capture.isOpened():
        capture.release()
        raise CameraError(why)
    return capture


def _rgb(bgr: Any) -> U8:
    if bgr.ndim == 2:
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_GRAY2RGB), dtype=np.uint8)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _hush() -> None:
    """OpenCV and FFmpeg keep to themselves what our own lines say better."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    log = getattr(getattr(cv2, "utils", None), "logging", None)
    if log is not None:
        log.setLogLevel(log.LOG_LEVEL_SILENT)
