"""Decodes JPEG, PNG and WebP images; what would take too long or too much memory is refused from the header."""

import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from artune.errors import ArtuneError

FORMATS = ("JPEG", "PNG", "WEBP")  # Pillow opens forty others, some by starting another program
ONLY = "only JPEG, PNG and WebP images are read"
# Names that are taken for images. Those of other formats are among them so that they are refused and not left out.
SUFFIXES = (
    ".jpeg", ".jpg", ".jpe", ".jfif", ".png", ".webp",
    ".apng", ".avif", ".bmp", ".dib", ".dng", ".eps", ".gif", ".heic", ".heif", ".hif", ".ico", ".j2k", ".jp2", ".jpf",
    ".jpx", ".jxl", ".jxr", ".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".psd", ".svg", ".tga", ".tif", ".tiff",
)  # fmt: skip
# How files of other formats begin, which are intact and of no use here.
OTHERS = re.compile(
    rb"GIF8|BM|II\*\0|MM\0\*|%!PS|P[1-6]\s|8BPS|\0\0\x01\0|\xff\x0a|\0\0\0\x0cJXL |\0\0\0\x0cjP|\xff\x4f\xff\x51|"
    rb"....ftyp(avif|avis|heic|heix|mif1|msf1)|%PDF|(<\?xml[^<]*)?(<!--[^<]*)?<svg",
    re.DOTALL,
)
# ImageNet's largest photographs have tens of millions of pixels. Decoding takes up to two seconds and 0.6 GB.
MOST_PIXELS, MOST_PIXELS_OF_A_JPEG = 2**25, 2**26  # the second one without CMYK
MOST_TIMES_LONGER = 100  # long side over short side; the crops enlarge the short side to their own
MOST_BYTES = 2**26  # of a file
# What Pillow reads one by one: the segments (and single bytes between them) and the bytes of a JPEG before its first
# scan, and the chunks of a PNG. And the scans of a progressive JPEG, each of which visits all pixels (ten are usual).
MOST_SEGMENTS, MOST_HEADERS, MOST_CHUNKS = 2048, 2**22, 2**16
MOST_SCANS, MOST_SCANNED = 1000, 12 * MOST_PIXELS_OF_A_JPEG
BARE = {0x01, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)}  # markers of a JPEG after which Pillow reads no length

# Sizes are limited here, below the limits at which Pillow warns on the terminal and then refuses.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image; hidden files are not."""
    return name.lower().endswith(SUFFIXES) and not Path(name).name.startswith(".")


def decode(name: str, data: bytes) -> Image.Image:
    """The RGB image in ``data``.

    16 bits per channel are reduced to the upper 8, as Pillow does for colour. The first picture of an animation is
    taken, transparency is dropped, and the orientation in a photograph's EXIF data is not applied, as in ADM's code.

    Raises:
        ArtuneError: not a JPEG, PNG or WebP image, or damaged, or more pixels than :data:`MOST_PIXELS`, or one side
            :data:`MOST_TIMES_LONGER` times longer than the other. The message names ``name``.
    """
    if len(data) > MOST_BYTES:
        raise ArtuneError(f"{name}: has {len(data):,} bytes; at most {MOST_BYTES:,} are read; save it smaller")
    try:
        _check_segments(data)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(name, image, data)
            return _as_rgb(image)
    except ArtuneError:
        raise
    except UnidentifiedImageError as error:
        if OTHERS.match(data):
            raise ArtuneError(f"{name}: not a JPEG, PNG or WebP image; convert it") from error
        raise ArtuneError(f"{name}: damaged image, or of another kind ({ONLY}); put an intact copy there") from error
    except Image.DecompressionBombError as error:
        raise ArtuneError(f"{name}: more pixels than the {MOST_PIXELS:,} that are read; save it smaller") from error
    except Exception as error:  # Pillow has no list of the exceptions that wrong bytes can cause
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ArtuneError(f"{name}: damaged image ({reason}); put an intact copy there") from error


def _check_size(name: str, image: Image.Image, data: bytes) -> None:
    """Refuse an image by its header, before it is decoded."""
    width, height = image.size
    jpeg = image.format in ("JPEG", "MPO")  # MPO is a JPEG with further pictures after the first
    most = MOST_PIXELS_OF_A_JPEG if jpeg and image.mode != "CMYK" else MOST_PIXELS
    if width * height > most:
        raise ArtuneError(f"{name}: {width} x {height} pixels, more than the {most:,} that are read; save it smaller")
    if max(width, height) > MOST_TIMES_LONGER * min(width, height):
        raise ArtuneError(
            f"{name}: {width} x {height} pixels, one side more than {MOST_TIMES_LONGER} times the other; remove it"
        )
    if jpeg:
        scans = data.count(b"\xff\xda")  # these two bytes occur in a scan's data only where the next scan begins
        if scans > MOST_SCANS or scans * width * height > MOST_SCANNED:
            raise ArtuneError(f"{name}: a JPEG of {scans} scans, more than are read at this size; save it again")


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # one channel of 16 bits, which convert() would cut off at 255
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("pixels of floating-point numbers")
    if image.mode == "RGB":
        image.load()
        return image
    return image.convert("RGB")


def _check_segments(data: bytes) -> None:
    """Raise ValueError if a JPEG has more before its pixels, or a PNG more chunks, than any real one."""
    png = data.startswith(b"\x89P")
    if not png and not data.startswith(b"\xff\xd8"):
        return
    most = MOST_CHUNKS if png else MOST_SEGMENTS
    for number, at in enumerate(_chunks(data) if png else _segments(data)):
        if number > most:
            raise ValueError(f"more than {most:,} {'chunks' if png else 'segments'}")
        if not png and at > MOST_HEADERS:
            raise ValueError(f"more than {MOST_HEADERS:,} bytes before its pixels")


def _chunks(data: bytes) -> Iterator[int]:
    """Where the chunks of a PNG begin, up to its end."""
    at = 8
    while at < len(data):
        yield at
        if data[at + 4 : at + 8] == b"IEND":
            return
        at += 12 + int.from_bytes(data[at : at + 4], "big")


def _segments(data: bytes) -> Iterator[int]:
    """Where the segments of a JPEG up to its first scan begin, and every byte between them, as Pillow walks."""
    at = 2
    while at < len(data) - 1:
        yield at
        marker = data[at + 1] if data[at] == 0xFF else None
        if marker == 0xDA:  # the first scan
            return
        if marker in (None, 0x00, 0xFF):
            at += 1
        elif marker in BARE:
            at += 2
        else:
            at += 2 + max(int.from_bytes(data[at + 2 : at + 4], "big"), 2)
    yield len(data)
