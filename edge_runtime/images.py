"""Files to photos: JPEG, HEIC, PNG, TIFF, BMP, WebP and PDF pages, upright, RGB, 8 bits; hostile files refused early.

The header's size is read before any pixel is decoded, so that memory stays bounded whatever a file claims.
"""

from __future__ import annotations

import io
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ecg.errors import InputError
from ecg.page import U8, Photo

MAX_PIXELS: Final = 80_000_000  # refused above
WORK_PIXELS: Final = 26_000_000  # halved until below: twice what the finest net needs of a full page
MIN_SIDE_PX: Final = 200
MAX_FILE_BYTES: Final = 300_000_000
MAX_PAGES: Final = 500
MAX_JPEG_SCANS: Final = 200  # a progressive JPEG has about 10; thousands are a decoding-time bomb
PDF_DPI: Final = 300.0
POINTS_PER_INCH: Final = 72.0
KINDS: Final = "JPEG, HEIC, PNG, TIFF, BMP, WebP or PDF"

_FORMATS: Final = ["JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF"]
_REDUCIBLE: Final = ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F")
_EXIF_ORIENTATION: Final = 0x0112
# OpenCV from 4.11 on decodes into this order itself: one copy of all pixels less.
_RGB: int | None = getattr(cv2, "IMREAD_COLOR_RGB", None)
_HALF: Final = cv2.IMREAD_REDUCED_COLOR_2 & ~cv2.IMREAD_COLOR
_TIFF_SUBFILE: Final = 254
_stderr_lock = threading.Lock()


def load_photos(path: Path) -> Iterator[Photo]:
    """The pages of one file, one after the other: one photo, or each page of a PDF or TIFF.

    Raises ``InputError`` with one line when the file can't be used.
    """
    name = printable(path)
    data = _file_bytes(path, name)
    if b"%PDF-" in data[:1024]:
        return _pdf_pages(data, str(path), name)
    return _image_pages(data, str(path), name)


def printable(path: object) -> str:
    """A file name that keeps a message on one line."""
    return "".join(c if c.isprintable() else "?" for c in str(path))


def decode_photo(data: bytes, source: str = "upload") -> Photo:
    """The first picture of an image or PDF in memory; raises ``InputError``."""
    if b"%PDF-" in data[:1024]:
        return next(_pdf_pages(data, source, printable(source)))
    return next(_image_pages(data, source, printable(source)))


def _file_bytes(path: Path, name: str) -> bytes:
    try:
        if path.is_dir():
            raise InputError(f"{name}: is a folder; name the photos in it, for example {name.rstrip('/')}/*.jpg")
        if not path.exists():
            raise InputError(f"{name}: no such file; check the name")
        if not path.is_file():
            raise InputError(f"{name}: is a device or a pipe; give a {KINDS} file")
        size = path.stat().st_size
        if size == 0:
            raise InputError(f"{name}: the file is empty (0 bytes); copy it again")
        if size > MAX_FILE_BYTES:
            raise InputError(f"{name}: {size / 1e6:.0f} MB, at most {MAX_FILE_BYTES / 1e6:.0f} MB; save it as JPEG")
        return path.read_bytes()
    except PermissionError as err:
        raise InputError(f"{name}: no permission to read it; change the file's rights") from err
    except (OSError, ValueError) as err:
        raise InputError(f"{name}: can't be read ({_cause(err)}); check the disk and the name") from err


def _image_pages(data: bytes, source: str, name: str) -> Iterator[Photo]:
    image = _opened(data, name)
    if image.format in ("JPEG", "MPO"):
        yield Photo(_jpeg(data, image, name), source)
        return
    if image.format != "TIFF":
        yield Photo(_pixels(image, name), source)
        return
    for page in range(MAX_PAGES):
        with _decoding(name, f"page {page + 1}"), _quiet():
            try:
                image.seek(page)
            except EOFError:
                return
        tags: Any = getattr(image, "tag_v2", {})
        if page and int(tags.get(_TIFF_SUBFILE, 0)) & 1:
            continue  # a thumbnail of another page
        _check_size(image.size, f"{name}: page {page + 1}" if page else name)
        yield Photo(_pixels(image, name), source, page)


def _opened(data: bytes, name: str) -> Image.Image:
    """The image's header, nothing decoded; size and kind are checked."""
    formats = _FORMATS
    if data[4:8] == b"ftyp":
        import pillow_heif  # only where a HEIC file asks for it: 50 ms

        pillow_heif.register_heif_opener(thumbnails=False)
        formats = ["HEIF"]
    try:
        with _quiet():
            image = Image.open(io.BytesIO(data), formats=formats)
            frames = getattr(image, "n_frames", 1) if image.format in ("PNG", "WEBP") else 1
    except UnidentifiedImageError as err:
        raise InputError(f"{name}: not an image{_looks_like(data)}; give a {KINDS} file") from err
    except Image.DecompressionBombError as err:
        found = re.search(r"(\d+) pixels", str(err))  # Pillow tells the product only
        got = f"{int(found[1]) / 1e6:.0f}" if found else "far too many"
        raise InputError(f"{name}: {got} megapixels, at most {MAX_PIXELS / 1e6:.0f}; send a smaller photo") from err
    except Exception as err:  # a parser of hostile bytes may raise anything
        raise InputError(f"{name}: damaged header ({_cause(err)}); export or copy it again") from err
    _check_size(image.size, name)
    if image.format == "GIF" or frames > 1:
        what = "a GIF, animated or not," if image.format == "GIF" else f"an animated {image.format}"
        raise InputError(f"{name}: {what} is not read; save one frame as PNG or JPEG")
    return image


def _check_size(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        limit = f"at most {MAX_PIXELS / 1e6:.0f} megapixels"
        raise InputError(f"{name}: {width} x {height} px, {limit}; send a smaller photo")
    if min(width, height) < MIN_SIDE_PX:
        raise InputError(f"{name}: {width} x {height} px, at least {MIN_SIDE_PX} px a side; send the original photo")


def _looks_like(data: bytes) -> str:
    head = data[:512]
    if all(32 <= b < 127 or b in b"\t\r\n" for b in head):
        return " but text"
    return " but a ZIP or Office file" if head[:2] == b"PK" else ""


def _halvings(n_pixels: int) -> int:
    """How often both sides are halved to come below ``WORK_PIXELS``."""
    n = 0
    while n_pixels > WORK_PIXELS * 4**n:
        n += 1
    return n


def _jpeg(data: bytes, image: Image.Image, name: str) -> U8:
    """Decoded by OpenCV, straight to the working size (libjpeg scales while it decodes)."""
    _check_jpeg_whole(data, name)
    if image.mode not in ("RGB", "L"):  # CMYK and YCCK: Pillow knows Adobe's inversions
        return _pixels(image, name)
    try:
        orientation = int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # damaged EXIF: the pixels may be fine
        orientation = 1
    full, half = (cv2.IMREAD_COLOR, cv2.IMREAD_REDUCED_COLOR_2) if _RGB is None else (_RGB, _RGB | _HALF)
    size = half if _halvings(image.width * image.height) else full
    with _decoding(name), _quiet():
        rgb = cv2.imdecode(np.frombuffer(data, np.uint8), size | cv2.IMREAD_IGNORE_ORIENTATION)
    if rgb is None:
        raise InputError(f"{name}: damaged JPEG; export it or take the photo again")
    if _RGB is None:
        rgb = cv2.cvtColor(rgb, cv2.COLOR_BGR2RGB)  # in place it takes six times as long
    return np.asarray(_upright(rgb, orientation), dtype=np.uint8)


def _check_jpeg_whole(data: bytes, name: str) -> None:
    """Half a photo must not pass for a whole one: the picture's data has to end in an end marker.

    Looked for behind the first scan, where 0xFF is always followed by 0x00 or a marker; the EXIF thumbnail's own end
    marker lies in front of it.
    """
    scan = _first_scan(data)
    if scan < 0 or data.find(b"\xff\xd9", scan) < 0:
        raise InputError(f"{name}: truncated JPEG (no end marker); copy it again")
    if data.count(b"\xff\xda", scan) > MAX_JPEG_SCANS:
        raise InputError(f"{name}: JPEG with more than {MAX_JPEG_SCANS} scans; save it again")


def _first_scan(data: bytes) -> int:
    """Index of the first start-of-scan marker, -1 if segments end before it."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return -1
        if data[at + 1] == 0xFF:  # fill byte
            at += 1
            continue
        if data[at + 1] == 0xDA:
            return at
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return -1


def _upright(rgb: Any, orientation: int) -> Any:
    """Undo an EXIF orientation (1 to 8)."""
    if orientation in (2, 4, 5, 7):
        rgb = cv2.flip(rgb, 0 if orientation == 4 else 1)
    if orientation in (5, 8):
        return cv2.rotate(rgb, cv2.ROTATE_90_COUNTERCLOCKWISE)
    if orientation in (6, 7):
        return cv2.rotate(rgb, cv2.ROTATE_90_CLOCKWISE)
    return cv2.rotate(rgb, cv2.ROTATE_180) if orientation == 3 else rgb


def _pixels(image: Image.Image, name: str) -> U8:
    """Everything but plain JPEG: decoded by Pillow, upright, RGB on white, shrunk to the working size."""
    with _decoding(name), _quiet():
        image.load()
        factor = 2 ** _halvings(image.width * image.height)
        image = ImageOps.exif_transpose(_reduced(image, factor) if factor > 1 else image)
        return _rgb(image)


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    """The image made smaller by a whole factor before anything else copies it; its EXIF orientation is kept."""
    info, exif = image.info, image.getexif()
    if image.mode.startswith("I;16"):  # Pillow doesn't reduce these
        size = image.width // factor, image.height // factor
        small = Image.fromarray(cv2.resize(np.asarray(image), size, interpolation=cv2.INTER_AREA))
    else:
        whole = image
        if image.mode not in _REDUCIBLE:
            whole = image.convert("RGBA" if "transparency" in info or image.mode.endswith(("A", "a")) else "RGB")
        small = whole.reduce(factor)
    if image.format != "TIFF":  # whose next pages are still to come
        image.close()
    small.info = {k: v for k, v in info.items() if k != "transparency"}
    if _EXIF_ORIENTATION in exif:
        small.info["exif"] = exif.tobytes()
    return small


def _rgb(image: Image.Image) -> U8:
    """(H, W, 3) uint8 of any mode."""
    if image.mode.startswith("I") or image.mode == "F":
        return np.repeat(_grey8(np.asarray(image))[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.new("RGB", rgba.size, (255, 255, 255))
        image.paste(rgba, mask=rgba.getchannel("A"))
    return np.array(image.convert("RGB"), dtype=np.uint8)  # a copy: writeable, Pillow's buffer freed


def _grey8(deep: Any) -> U8:
    """16-bit, 32-bit or float grey (H, W) to 8 bits, by the range that its brightest pixel points to."""
    top = float(np.nanmax(deep))
    full = next((f for f in (1.0, 255.0, 65535.0) if top <= f), max(top, 1.0))
    if np.issubdtype(deep.dtype, np.integer) and full == 1.0:
        full = 255.0
    scaled = np.nan_to_num(deep.astype(np.float32)) * np.float32(255.0 / full)
    return np.asarray(np.clip(np.rint(scaled), 0, 255), dtype=np.uint8)


def _pdf_pages(data: bytes, source: str, name: str) -> Iterator[Photo]:
    import pypdfium2 as pdfium

    try:
        with _quiet():
            document = pdfium.PdfDocument(data)
            n_pages = len(document)
    except Exception as err:
        what = "protected by a password" if "assword" in str(err) else f"damaged PDF ({_cause(err)})"
        raise InputError(f"{name}: {what}; print or export it again without one") from err
    try:
        if not 0 < n_pages <= MAX_PAGES:
            raise InputError(f"{name}: {n_pages} pages, between 1 and {MAX_PAGES} are read; split the file")
        for index in range(n_pages):
            with _decoding(name, f"page {index + 1}"), _quiet():
                rgb = _pdf_page(document[index], f"{name}: page {index + 1}")
            yield Photo(rgb, source, index)
    finally:
        document.close()


def _pdf_page(page: Any, name: str) -> U8:
    """One page at ``PDF_DPI``, less where it would pass ``WORK_PIXELS``."""
    width, height = (float(v) / POINTS_PER_INCH for v in page.get_size())
    if not (width > 0.5 and height > 0.5):
        raise InputError(f"{name}: {width:.2f} x {height:.2f} inches; export the page at its printed size")
    for item in page.get_objects(max_depth=3):
        _check_embedded(item, name)
    dpi = min(PDF_DPI, float(np.sqrt(WORK_PIXELS / (width * height))))
    bitmap = page.render(scale=dpi / POINTS_PER_INCH, rev_byteorder=True, prefer_bgrx=False)
    pixels = np.asarray(bitmap.to_numpy())
    rgb = (
        pixels[..., :3]
        if pixels.ndim == 3 and pixels.shape[2] >= 3
        else np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, 2)
    )
    out = np.array(rgb, dtype=np.uint8)
    bitmap.close()
    return out


def _check_embedded(item: Any, name: str) -> None:
    """A picture inside a page is decoded whole by PDFium, whatever the page's size."""
    size = getattr(item, "get_px_size", None) or getattr(item, "get_size", None)
    if size is None:
        return
    width, height = size()
    if width * height > MAX_PIXELS:
        raise InputError(f"{name}: holds a picture of {width} x {height} px; export it smaller")


@contextmanager
def _decoding(name: str, part: str = "") -> Iterator[None]:
    """Whatever a decoder raises on hostile bytes becomes one line."""
    try:
        yield
    except InputError:
        raise
    except MemoryError as err:
        raise InputError(f"{name}: too large for this machine's memory; send a smaller photo") from err
    except Exception as err:
        where = f"{part}, " if part else ""
        raise InputError(f"{name}: damaged or truncated ({where}{_cause(err)}); export or copy it again") from err


def _cause(err: BaseException) -> str:
    text = printable(" ".join(str(err).split())) or type(err).__name__
    return text if len(text) <= 90 else text[:87] + "..."


@contextmanager
def _quiet() -> Iterator[None]:
    """Neither Python warnings nor what C libraries print while they decode reaches the terminal."""
    with _stderr_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kept = os.dup(2)
        except OSError:  # no stderr
            yield
            return
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(null)
