"""A network camera for tests: one still picture as RTSP (RFC 2326), motion JPEG (RFC 2435) interleaved."""

import socket
import struct
import threading
import time
from types import TracebackType

import cv2
import numpy as np

FRAMES_PER_S = 10
_PACKET = 1300
_SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=page\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:track1\r\n"
_EXTRA = {
    "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n",
    "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n",
    "PLAY": "Session: 1\r\n",
    "TEARDOWN": "Session: 1\r\n",
}


class RtspCamera:
    """Serves ``rgb`` (H, W, 3), sides a multiple of 16 and at most 2032, until closed; silent after ``frames``."""

    def __init__(self, rgb: np.ndarray, frames: int | None = None) -> None:
        self._tables, self._scan = _parts(rgb)
        self._size = (rgb.shape[1] // 8, rgb.shape[0] // 8)
        self._frames = frames
        self._over = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(0.2)
        self.url = f"rtsp://nurse:secret@127.0.0.1:{self._socket.getsockname()[1]}/page"
        self.connections = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> "RtspCamera":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                client, _ = self._socket.accept()
            except TimeoutError:
                continue
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(client,)))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(0.2)
        waiting, playing, frame = b"", False, 0
        with client:
            while not self._over.is_set():
                try:
                    got = b"" if playing else client.recv(4096)
                    if not playing and not got:
                        return
                    waiting += got
                    while b"\r\n\r\n" in waiting:
                        request, waiting = waiting.split(b"\r\n\r\n", 1)
                        playing = self._answer(client, request.decode()) or playing
                    if playing and (self._frames is None or frame < self._frames):
                        client.sendall(self._frame(frame))
                        frame += 1
                    if playing:
                        time.sleep(1 / FRAMES_PER_S)
                except TimeoutError:
                    continue
                except OSError:
                    return

    def _answer(self, client: socket.socket, request: str) -> bool:
        """Answer a request; whether it was PLAY."""
        verb = request.split()[0]
        number = next(line for line in request.splitlines() if line.lower().startswith("cseq"))
        body = _SDP if verb == "DESCRIBE" else ""
        extra = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n" if body else _EXTRA.get(verb, "")
        client.sendall(f"RTSP/1.0 200 OK\r\n{number}\r\n{extra}\r\n{body}".encode())
        return verb == "PLAY"

    def _frame(self, k: int) -> bytes:
        """A picture as RTP packets, each in its interleaved frame."""
        out = bytearray()
        for at in range(0, len(self._scan), _PACKET):
            part = self._scan[at : at + _PACKET]
            last = at + _PACKET >= len(self._scan)
            rtp = struct.pack(">BBHII", 0x80, 26 | (last << 7), (k * 1000 + at // _PACKET) & 0xFFFF, 9000 * k, 7)
            jpeg = struct.pack(
                ">IBBBB", at, 1, 255, *self._size
            )  # type-specific 0, the offset; 4:2:0; tables come along
            tables = struct.pack(">BBH", 0, 0, len(self._tables)) + self._tables if at == 0 else b""
            packet = rtp + jpeg + tables + part
            out += struct.pack(">cBH", b"$", 0, len(packet)) + packet
        return bytes(out)


def _parts(rgb: np.ndarray) -> tuple[bytes, bytes]:
    """A JPEG's two quantization tables and its scan."""
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    data = encoded.tobytes()
    tables, at = b"", 2
    while True:
        marker, length = struct.unpack(">HH", data[at : at + 4])
        body = data[at + 4 : at + 2 + length]
        if marker == 0xFFDB:
            for k in range(0, len(body), 65):
                tables += body[k + 1 : k + 65]
        at += 2 + length
        if marker == 0xFFDA:
            return tables, data[at:-2]
