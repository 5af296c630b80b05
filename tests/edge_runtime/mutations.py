"""Small pictures of every kind, ways to break them; run as a script: a child that reads broken ones."""

from __future__ import annotations

import io
import itertools
import struct
import sys
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

KINDS = ("JPEG", "progressive", "CMYK", "EXIF", "PNG", "palette", "deep", "TIFF", "pages", "tiled", "BMP", "WEBP",
         "animated", "HEIF", "PDF", "GIF")  # fmt: skip
CPU_LIMIT_S = 5.0
MEMORY_LIMIT = 6 << 30
NASTY = (
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\xff\xff\0\0",
    b"\0\1\0\0",
    b"99999999",
)


def pictures() -> dict[str, bytes]:
    """One file of each kind, 260 x 220 px, with grain, so that a mutation reaches the decoders."""
    rng = np.random.default_rng(1)
    small = Image.fromarray(rng.integers(60, 200, (44, 52, 3), dtype=np.uint8)).resize((260, 220))
    grey16 = Image.fromarray(np.asarray(small.convert("L")).astype(np.uint16) * 200)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "camera" * 20
    how: dict[str, tuple[Image.Image, str, dict]] = {
        "JPEG": (small, "JPEG", {}),
        "progressive": (small, "JPEG", {"progressive": True}),
        "CMYK": (small.convert("CMYK"), "JPEG", {}),
        "EXIF": (small, "JPEG", {"exif": exif.tobytes()}),
        "PNG": (small, "PNG", {}),
        "palette": (small.quantize(16), "PNG", {"transparency": 3}),
        "deep": (grey16, "PNG", {}),
        "TIFF": (small, "TIFF", {"compression": "tiff_lzw"}),
        "pages": (small, "TIFF", {"save_all": True, "append_images": [small.convert("L"), small.rotate(90)]}),
        "tiled": (small, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "BMP": (small, "BMP", {}),
        "WEBP": (small, "WEBP", {}),
        "animated": (small, "WEBP", {"save_all": True, "append_images": [small.rotate(90)]}),
        "HEIF": (small, "HEIF", {}),
        "PDF": (small, "PDF", {}),
        "GIF": (small, "GIF", {}),
    }
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)
    out = {}
    for kind, (image, fmt, options) in how.items():
        buffer = io.BytesIO()
        image.save(buffer, fmt, **options)
        out[kind] = buffer.getvalue()
    return out


def mutated(rng: np.random.Generator, data: bytes, others: list[bytes]) -> bytes:
    """One to six changes: bits and bytes flipped, the header edited, cut, doubled, removed, spliced with another file.

    PNGs get right checksums half of the time, else nothing behind the checksums would ever be reached.
    """
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 7))):
        if len(out) < 8:
            break
        at = int(rng.integers(0, len(out) - 4))
        if rng.random() < 0.5:
            at = min(at, int(rng.integers(0, 400)))  # headers
        span = int(rng.integers(1, 40))
        what = int(rng.integers(0, 8))
        if what == 0:
            out[at] ^= 1 << int(rng.integers(0, 8))
        elif what == 1:
            out[at] = int(rng.integers(0, 256))
        elif what == 2:
            nasty = NASTY[int(rng.integers(0, len(NASTY)))]
            out[at : at + len(nasty)] = nasty
        elif what == 3:
            out[at : at + 4] = struct.pack("<I" if rng.random() < 0.5 else ">I", int(rng.integers(0, 2**32)))
        elif what == 4:
            del out[at : at + span]
        elif what == 5:
            out[at:at] = out[at : at + span] * int(rng.integers(1, 50))
        elif what == 6:
            other = others[int(rng.integers(0, len(others)))]
            first = int(rng.integers(0, len(other)))
            out[at : at + span] = other[first : first + 8 * span]
        elif rng.random() < 0.4:
            del out[at:]
    return _right_checksums(bytes(out)) if out[:4] == b"\x89PNG" and rng.random() < 0.5 else bytes(out)


def _right_checksums(png: bytes) -> bytes:
    out, at = bytearray(png), 8
    while at + 12 <= len(out):
        n = int.from_bytes(out[at : at + 4], "big")
        if at + 12 + n > len(out):
            break
        out[at + 8 + n : at + 12 + n] = struct.pack(">I", zlib.crc32(out[at + 4 : at + 8 + n]))
        at += 12 + n
    return bytes(out)


def mutants(seed: int, first: int, count: int) -> Iterator[tuple[int, str, bytes]]:
    """Broken files by number: the same number and seed give the same bytes. Every kind in turn."""
    whole = pictures()
    others = list(whole.values())
    for k in range(first, first + count):
        kind = KINDS[k % len(KINDS)]
        yield k, kind, mutated(np.random.default_rng([seed, k]), whole[kind], others)


def read_all(data: bytes, path) -> str:
    """What becomes of a file: "read", "refused", or what is wrong with the answer."""
    from ecg.errors import EcgscanError
    from edge_runtime.images import load_photos

    path.write_bytes(data)
    try:
        for photo in itertools.islice(load_photos(path), 5):
            if photo.rgb.dtype != np.uint8 or photo.rgb.ndim != 3:
                return f"wrong photo {photo.rgb.shape}"
    except EcgscanError as err:
        return "refused" if "\n" not in str(err) and len(str(err)) < 400 else f"message {str(err)!r}"
    except Exception as err:
        return f"{type(err).__name__}: {err}"
    return "read"


def main(seed: int, first: int, count: int, folder: str) -> None:
    """Read mutants one by one, a line each; 5 s of processor time for one end the process by a signal."""
    import resource
    import signal
    from pathlib import Path

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    for k, kind, data in mutants(seed, first, count):
        print(k, kind, end=" ", flush=True)
        signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
        print(read_all(data, Path(folder) / "mutant"), flush=True)
    signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), sys.argv[4])
