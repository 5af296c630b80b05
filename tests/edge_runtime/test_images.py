"""Every kind of file gives the same upright RGB photo; every hostile file gives one line."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ecg.errors import InputError
from edge_runtime import images
from edge_runtime.images import MIN_SIDE_PX, WORK_PIXELS, load_photos


def scene(height: int = 300, width: int = 400) -> np.ndarray:
    """Smooth and different in all four corners."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return np.stack([40 + 180 * x / width, 40 + 180 * y / height, 200 - 100 * x / width], axis=-1).astype(np.uint8)


def load_one(path: Path) -> np.ndarray:
    photos = list(load_photos(path))
    assert len(photos) == 1
    assert photos[0].source == str(path)
    return photos[0].rgb


def close(a: np.ndarray, b: np.ndarray, tolerance: float = 4.0) -> bool:
    return a.shape == b.shape and float(np.abs(a.astype(float) - b).mean()) < tolerance


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif", ".heic"])
def test_each_format_gives_the_same_picture(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"photo{suffix}"
    if suffix == ".heic":
        import pillow_heif

        pillow_heif.from_pillow(Image.fromarray(scene())).save(path, quality=90)
    else:
        Image.fromarray(scene()).save(path, **({"quality": 92} if suffix in (".jpg", ".webp") else {}))
    assert close(load_one(path), scene())


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("work_pixels", [200_000, 300_000])
def test_older_opencv_decodes_to_the_same(
    tmp_path: Path, mode: str, work_pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (480, 520, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(tmp_path / "a.jpg", quality=95)
    monkeypatch.setattr(images, "WORK_PIXELS", work_pixels)
    first = load_one(tmp_path / "a.jpg")
    monkeypatch.setattr(images, "_RGB", None)
    assert np.array_equal(first, load_one(tmp_path / "a.jpg"))
    assert first.shape[2] == 3


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = Image.fromarray(scene())
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # the tag asks for 90 degrees clockwise, so the file is turned the other way
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright if orientation == 1 else upright.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned{suffix}"
    stored.save(path, exif=exif, **({"quality": 95} if suffix in (".jpg", ".webp") else {}))
    assert close(load_one(path), scene())


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "RGBA", "LA", "I;16", "rgb16", "YCbCr"])
def test_each_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    rgb = scene()
    grey = np.asarray(Image.fromarray(rgb).convert("L"))
    path = tmp_path / "mode.png"
    expected: np.ndarray = np.repeat(grey[..., None], 3, axis=2)
    if mode in ("CMYK", "YCbCr"):
        path, expected = tmp_path / "mode.jpg", rgb
        Image.fromarray(rgb).convert(mode).save(path, quality=95)
    elif mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) * 257).save(path)
    elif mode == "rgb16":
        import cv2

        cv2.imwrite(str(path), rgb[..., ::-1].astype(np.uint16) * 257)
        expected = rgb
    elif mode in ("RGBA", "LA"):
        alpha = np.full(grey.shape, 255, np.uint8)
        alpha[:, :100] = 0
        image = Image.fromarray(rgb).convert(mode)
        image.putalpha(Image.fromarray(alpha))
        image.save(path)
        expected = rgb.copy() if mode == "RGBA" else expected.copy()
        expected[:, :100] = 255  # transparent shows white
    elif mode == "1":
        Image.fromarray(grey).convert("1").save(path)
    else:
        Image.fromarray(rgb).convert(mode).save(path)
        expected = np.asarray(Image.fromarray(rgb).convert(mode).convert("RGB"))
    got = load_one(path)
    if mode == "1":  # dithered
        assert abs(float(got.mean()) - float(expected.mean())) < 4
        return
    assert close(got, expected, 6.0)


def test_cmyk_tiff_and_12_bit_grey(tmp_path: Path) -> None:
    Image.fromarray(scene()).convert("CMYK").save(tmp_path / "c.tif")
    assert close(load_one(tmp_path / "c.tif"), scene(), 6)
    grey = (np.linspace(0, 65535, 300 * 400).reshape(300, 400)).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "g.tif")
    assert close(load_one(tmp_path / "g.tif")[..., 0], grey / 257.0, 2)


def test_pages_of_a_tiff_and_of_a_pdf(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((400, 600, 3), level, np.uint8)) for level in (50, 150, 250)]
    pages[0].save(tmp_path / "three.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "three.pdf", save_all=True, append_images=pages[1:], resolution=100.0)
    for name in ("three.tif", "three.pdf"):
        photos = list(load_photos(tmp_path / name))
        assert [p.page for p in photos] == [0, 1, 2]
        levels = [float(p.rgb[50:-50, 50:-50].mean()) for p in photos]
        assert np.abs(np.array(levels) - (50, 150, 250)).max() < 5, name
    shape = next(load_photos(tmp_path / "three.pdf")).rgb.shape
    assert np.abs(np.array(shape) - (1200, 1800, 3)).max() <= 2  # 4 x 6 inches at 300 dpi


def test_a_huge_pdf_page_is_bounded(tmp_path: Path) -> None:
    Image.new("RGB", (400, 300), "white").save(tmp_path / "poster.pdf", resolution=4.0)  # 100 x 75 inches
    rgb = load_one(tmp_path / "poster.pdf")
    assert rgb.shape[0] * rgb.shape[1] <= WORK_PIXELS * 1.01


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "I;16", "CMYK"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_large_photos_are_halved(tmp_path: Path, suffix: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if (suffix, mode) in {(".png", "CMYK"), (".jpg", "P"), (".jpg", "1"), (".jpg", "RGBA"), (".jpg", "I;16")}:
        pytest.skip("the format has no such mode")
    monkeypatch.setattr(images, "WORK_PIXELS", 150_000)
    path = tmp_path / f"large{suffix}"
    exif = Image.Exif()
    exif[0x0112] = 3
    whole = Image.fromarray(scene(600, 800)).transpose(Image.Transpose.ROTATE_180)
    grey = np.asarray(whole.convert("L")).astype(np.uint16) * 257
    (Image.fromarray(grey) if mode == "I;16" else whole.convert(mode)).save(path, exif=exif)
    rgb = load_one(path)
    expected = scene(300, 400)
    if mode in ("L", "I;16", "1"):
        expected = np.repeat(np.asarray(Image.fromarray(expected).convert("L"))[..., None], 3, axis=2)
    assert rgb.shape == (300, 400, 3)
    assert close(rgb, expected, 60.0 if mode == "1" else 10.0)


def jpeg_bytes(**options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(scene()).save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


def png_with_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def animated(kind: str) -> bytes:
    buffer = io.BytesIO()
    frames = [Image.fromarray(np.full((300, 300, 3), v, np.uint8)) for v in (10, 200)]
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def saved(kind: str, size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "white").save(buffer, kind)
    return buffer.getvalue()


def thumbnailed_truncated() -> bytes:
    """Cut inside the picture, behind an EXIF thumbnail that has an end marker of its own."""
    thumbnail = saved("JPEG", (160, 120))
    exif = b"Exif\0\0" + thumbnail
    whole = jpeg_bytes()
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    return (whole[:2] + segment + whole[2:])[: -len(whole) // 3]


HOSTILE = {
    "empty.jpg": (b"", "empty"),
    "text.jpg": (b"Dear cardiologist,\nplease find enclosed\n", "not an image but text"),
    "noise.png": (bytes(range(256)) * 40, "not an image"),
    "truncated.jpg": (jpeg_bytes()[:-2000], "truncated JPEG"),
    "header_only.jpg": (jpeg_bytes()[:200], ""),
    "thumbnail.jpg": (thumbnailed_truncated(), "truncated JPEG"),
    "truncated_progressive.jpg": (jpeg_bytes(progressive=True)[:-500], "truncated"),
    "truncated.png": (saved("PNG", (400, 400))[:-60], ""),
    "truncated.webp": (saved("WEBP", (400, 400))[:-40], ""),
    "truncated.tif": (saved("TIFF", (400, 400))[:-4000], ""),
    "truncated.bmp": (saved("BMP", (400, 400))[:-4000], ""),
    "bomb.png": (png_with_size(20000, 20000), "400 megapixels, at most 80"),
    "large.png": (png_with_size(10000, 9000), "10000 x 9000"),
    "wide.png": (png_with_size(1_000_000, 100), "1000000 x 100"),
    "zero.png": (png_with_size(0, 0), ""),
    "pixel.png": (saved("PNG", (1, 1)), "1 x 1"),
    "strip.png": (saved("PNG", (4000, MIN_SIDE_PX - 1)), "at least 200 px"),
    "still.gif": (saved("GIF", (300, 300)), "GIF"),
    "animated.gif": (animated("GIF"), "animated"),
    "animated.png": (animated("PNG"), "animated"),
    "animated.webp": (animated("WEBP"), "animated"),
    "broken.pdf": (b"%PDF-1.7\nnothing of the kind\n", "PDF"),
    "broken.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 500, ""),
    "office.jpg": (b"PK\x03\x04" + b"\0" * 300, "ZIP"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_give_one_line(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    data, expected = HOSTILE[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        list(load_photos(path))
    message = str(caught.value)
    assert expected in message
    assert message.startswith(str(path))
    assert "\n" not in message
    assert ";" in message  # what to do stands behind it
    assert len(message) < len(str(path)) + 220
    assert capfd.readouterr() == ("", "")  # libjpeg and friends kept quiet


def test_huge_jpeg_header(tmp_path: Path) -> None:
    data = bytearray(jpeg_bytes())
    at = data.find(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 20000, 20000)
    (tmp_path / "huge.jpg").write_bytes(data)
    with pytest.raises(InputError, match="400 megapixels, at most 80"):
        list(load_photos(tmp_path / "huge.jpg"))


def test_too_many_scans(tmp_path: Path) -> None:
    data = jpeg_bytes(progressive=True)
    at = data.rfind(b"\xff\xda")
    last = data[at:-2]
    (tmp_path / "scans.jpg").write_bytes(data[:-2] + last * images.MAX_JPEG_SCANS + b"\xff\xd9")
    with pytest.raises(InputError, match="scans"):
        list(load_photos(tmp_path / "scans.jpg"))


@pytest.mark.parametrize("seed", range(3))
def test_mutated_files_never_escape(tmp_path: Path, seed: int, capfd: pytest.CaptureFixture[str]) -> None:
    """A few hundred damaged files: a photo or an InputError, nothing else, nothing printed."""
    rng = np.random.default_rng(seed)
    whole = [
        jpeg_bytes(),
        jpeg_bytes(progressive=True),
        *(saved(k, (300, 260)) for k in ("PNG", "TIFF", "BMP", "WEBP")),
    ]
    path = tmp_path / "mutated"
    messages = []
    for data in whole * 12:
        raw = bytearray(data)
        for at in rng.integers(0, min(len(raw), 700), int(rng.integers(1, 8))):
            raw[at] = rng.integers(0, 256)
        path.write_bytes(raw)
        try:
            for photo in load_photos(path):
                assert photo.rgb.dtype == np.uint8
        except InputError as err:
            messages.append(str(err))
    assert messages
    assert not any("\n" in message for message in messages)
    assert capfd.readouterr() == ("", "")


def test_files_that_are_not_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        load_photos(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        load_photos(tmp_path / "missing.jpg")
    with pytest.raises(InputError, match=r"can't be read|no such file"):
        load_photos(Path("x" * 5000))
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(InputError, match="pipe"):
        load_photos(tmp_path / "pipe.jpg")
    with pytest.raises(InputError) as caught:
        load_photos(tmp_path / "two\nlines.jpg")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path, page_jpg: Path) -> None:
    page_jpg.chmod(0)
    with pytest.raises(InputError, match="permission"):
        load_photos(page_jpg)


def test_a_pdf_that_holds_a_bomb(tmp_path: Path) -> None:
    """A page of A4 size whose picture claims 20,000 x 20,000 pixels: PDFium would decode it whole."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 842 595] /Contents 4 0 R"
        b" /Resources << /XObject << /I 5 0 R >> >> >>",
        b"<< /Length 26 >>\nstream\nq 842 0 0 595 0 0 cm /I Do Q\nendstream",
        b"<< /Type /XObject /Subtype /Image /Width 20000 /Height 20000 /ColorSpace /DeviceGray /BitsPerComponent 8"
        b" /Length 4 >>\nstream\nabcd\nendstream",
    ]
    body, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    xref = b"xref\n0 6\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % o for o in offsets)
    trailer = b"trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(body)
    (tmp_path / "bomb.pdf").write_bytes(body + xref + trailer)
    with pytest.raises(InputError, match="holds a picture of 20000 x 20000 px"):
        list(load_photos(tmp_path / "bomb.pdf"))
