"""Decoding: the right pixels of every kind of image, and one line for what would take too long or too much memory."""

import io
import os
import signal
import socket
import struct
import zlib

import numpy as np
import pytest
from confined import Confined
from hostile import chunk, jpeg, picture, png, saved, segment, segments_of
from PIL import Image

from artune.data.crops import decode, load_images
from artune.data.imagenet import open_split
from artune.errors import ArtuneError


@pytest.fixture(scope="module")
def confined(tmp_path_factory):
    """Reads an image in a child process, within two seconds and a gigabyte; returns the error's line."""
    with Confined("image", tmp_path_factory.mktemp("confined")) as reader:
        yield reader


def pixels(data):
    image = decode("x", data)
    assert image.mode == "RGB"
    return np.asarray(image)


# -- the right pixels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("CMYK", "JPEG"), ("L", "JPEG"), ("RGB", "JPEG"), ("L", "PNG"), ("LA", "PNG"), ("RGBA", "PNG"), ("1", "PNG"),
     ("P", "PNG"), ("RGB", "PNG"), ("RGB", "WEBP"), ("RGBA", "WEBP")],
)  # fmt: skip
def test_every_kind_of_image_becomes_rgb_as_pillow_converts_it(mode, kind):
    data = saved(picture(mode), kind, **({"lossless": True} if kind == "WEBP" else {}))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(pixels(data), expected)
    if kind == "PNG":
        assert np.array_equal(expected, np.asarray(picture(mode).convert("RGB")))


def test_a_palette_with_transparency_keeps_its_colours():
    image = picture("P")
    assert np.array_equal(pixels(saved(image, "PNG", transparency=3)), np.asarray(image.convert("RGB")))


def test_the_orientation_in_exif_data_is_not_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    assert decode("x", saved(picture(), "JPEG", exif=exif)).size == picture().size


def test_sixteen_bits_of_grey_are_scaled_to_eight():
    levels = np.linspace(0, 65_535, 24 * 16).astype(np.uint16).reshape(16, 24)
    found = pixels(saved(Image.fromarray(levels), "PNG"))
    assert np.array_equal(found, np.repeat((levels >> 8).astype(np.uint8)[..., None], 3, axis=-1))
    assert np.abs(found[..., 0] - levels / 257).max() <= 1


def test_sixteen_bits_of_colour_are_scaled_as_those_of_grey():
    levels = np.random.default_rng(0).integers(0, 2**16, (4, 5, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in levels)
    assert np.array_equal(pixels(png(5, 4, 16, 2, rows)), (levels >> 8).astype(np.uint8))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_gives_its_first_picture(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    other = [Image.new("RGB", picture().size, colour) for colour in ("red", "blue")]
    data = saved(picture(), kind, save_all=True, append_images=other, **options)
    assert np.array_equal(pixels(data), np.asarray(picture()))


def test_a_jpeg_with_further_pictures_gives_its_first():
    data = saved(picture(), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    assert decode("x", data).size == picture().size


@pytest.mark.parametrize("kind", ["EPS", "GIF", "BMP", "TIFF", "PPM", "PDF", "ICO", "AVIF", "JPEG2000"])
def test_intact_images_of_other_formats_are_told_from_damaged_ones(kind):
    with pytest.raises(ArtuneError, match=r"^x\.JPEG: not a JPEG, PNG or WebP image; convert it$"):
        decode("x.JPEG", saved(picture(), kind))


@pytest.mark.parametrize("kind", ["TGA", "PCX", "SGI", "DDS"])
def test_other_formats_are_refused_whatever_their_name(kind):
    with pytest.raises(ArtuneError, match=r"^x\.JPEG: .*only JPEG, PNG and WebP images are read"):
        decode("x.JPEG", saved(picture(), kind))


# -- bounds ---------------------------------------------------------------------------------------------------------


def webp_canvas(width, height):
    body = (
        b"VP8X"
        + struct.pack("<I", 10)
        + bytes(4)
        + (width - 1).to_bytes(3, "little")
        + (height - 1).to_bytes(3, "little")
    )
    body = b"WEBP" + body + saved(picture(), "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


SIZES = {
    "a line of 1 x 65,500": lambda: saved(Image.new("RGB", (1, 65_500)), "JPEG"),
    "a line of 65,500 x 1": lambda: saved(Image.new("L", (65_500, 1)), "JPEG"),
    "a line of 1 x 16,000 as WebP": lambda: saved(Image.new("RGB", (1, 16_000)), "WEBP"),
    "a line of 1 x 10 million as PNG": lambda: png(1, 10**7, 8, 0, bytes(2 * 10**7)),
    "a ratio of 101": lambda: saved(Image.new("RGB", (1010, 10)), "PNG"),
    "a PNG that claims 50,000 x 50,000": lambda: png(50_000, 50_000),
    "a PNG that claims 2^31 - 1 pixels a side": lambda: png(2**31 - 1, 2**31 - 1),
    "a PNG of 8,000 x 8,000 zeros": lambda: png(8000, 8000, 1, 0, bytes(8000 * 1001)),
    "a JPEG that claims 65,000 x 65,000": lambda: jpeg(65_000, 65_000),
    "a progressive JPEG that claims 65,000 x 65,000": lambda: jpeg(65_000, 65_000, progressive=True),
    "a WebP that claims 16,000 x 16,000": lambda: webp_canvas(16_000, 16_000),
    "a WebP that claims 2^24 x 200": lambda: webp_canvas(2**24, 200),
}


@pytest.mark.parametrize("case", SIZES)
def test_sizes_are_limited_before_anything_is_decoded(case, confined):
    said = confined(SIZES[case]())
    assert said.startswith("x.JPEG: ")
    assert "pixels" in said or "decoder object" in said


@pytest.mark.parametrize("size", [(1000, 10), (10, 1000), (5700, 5700)])
def test_large_and_long_images_within_the_limits_are_read(size, confined):
    assert confined(saved(Image.new("RGB", size, "red"), "PNG")) == ""
    assert confined(saved(Image.new("RGB", size, "red"), "JPEG", progressive=True)) == ""


def test_a_photograph_of_60_million_pixels_is_read(confined):
    assert confined(saved(Image.new("RGB", (9300, 6500), "red"), "JPEG")) == ""


def jpeg_with(before=b"", after=b"", progressive=False):
    segments, scans = segments_of(saved(picture(), "JPEG", progressive=progressive))
    return b"\xff\xd8" + before + b"".join(segment(*part) for part in segments) + scans[:-2] + after + scans[-2:]


def many_scans(size, count):
    """A progressive JPEG whose last scan is repeated."""
    data = saved(Image.new("RGB", size), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + b"\xff\xd9"


BOMBS = {
    "text": lambda: png(3, 2, rows=bytes(20), before=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2 * 10**8)))),
    "hundreds of texts": lambda: png(3, 2, rows=bytes(20), before=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**6))) * 900),
    "an ICC profile": lambda: png(3, 2, rows=bytes(20), before=chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2 * 10**8)))),
    "pixels beyond the image": lambda: png(3, 2, rows=bytes(2 * 10**8)),
    "a million chunks": lambda: png(3, 2, rows=bytes(20), before=chunk(b"abCd", b"") * 10**6),
    "a million empty parts of the pixels": lambda: png(3, 2, rows=bytes(20), before=chunk(b"IDAT", b"") * 10**6),
    "filling": lambda: jpeg_with(b"\xff" * 2**25),
    "junk": lambda: jpeg_with(bytes(2**25)),
    "marks without a length": lambda: jpeg_with(b"\xff\xd0" * 2**24),
    "a million comments": lambda: jpeg_with(segment(0xFE, b"") * 10**6),
    "hundreds of EXIF segments": lambda: jpeg_with(segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 900),
    "thousands of scans": lambda: many_scans((500, 375), 20_000),
    "dozens of scans of a large image": lambda: many_scans((8000, 8000), 60),
    "a file of 100 MB": lambda: saved(picture(), "PNG") + bytes(10**8),
}  # fmt: skip


@pytest.mark.parametrize("case", BOMBS)
def test_bombs_are_refused_or_read_in_bounded_time_and_memory(case, confined):
    confined(BOMBS[case]())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_bytes_after_the_end_of_an_image_do_not_matter(kind):
    data = saved(picture(), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(pixels(data + bytes(10**6)), pixels(data))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_image_that_is_cut_short_is_one_line(kind):
    data = saved(picture(size=(200, 100)), kind)
    for part in (0, 1, 10, len(data) // 2, len(data) * 3 // 4):
        with pytest.raises(ArtuneError, match=r"^x: damaged image") as caught:
            decode("x", data[:part])
        assert "\n" not in str(caught.value)


# -- regular files only ---------------------------------------------------------------------------------------------


def to_device(path):
    path.symlink_to("/dev/zero")


def to_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def loop(path):
    path.symlink_to(path.name)


ODD = {
    "a fifo": (os.mkfifo, "a named pipe, not a regular file"),
    "a link to a device": (to_device, "a device, not a regular file"),
    "a socket": (to_socket, "a socket, not a regular file"),
    "a folder": (os.mkdir, "a folder, not a regular file"),
    "a link to nothing": (lambda path: path.symlink_to("absent"), "cannot be read"),
    "a link to itself": (loop, "cannot be read"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A split of one image in a folder, in which a read that hangs becomes an error."""
    monkeypatch.chdir(tmp_path)  # the address of a socket is short
    synset = tmp_path / "s/n01440764"
    synset.mkdir(parents=True)
    (synset / "a.JPEG").write_bytes(saved(picture(), "JPEG"))

    def too_long(*_):
        raise AssertionError("reading does not end")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(5)
    yield synset
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_regular_file_is_refused_without_waiting(kind, folder):
    make, message = ODD[kind]
    make(folder.relative_to(folder.parents[1]) / "b.JPEG")
    with pytest.raises(ArtuneError, match=message) as caught:
        list(load_images(open_split(folder.parent), lambda image: image))
    assert "b.JPEG" in str(caught.value)


@pytest.mark.parametrize("name", ["x.tar", "x.parquet"])
@pytest.mark.parametrize("kind", ["a fifo", "a link to a device", "a socket"])
def test_archives_that_are_no_regular_files_are_refused_without_waiting(kind, name, folder):
    make, message = ODD[kind]
    path = folder.relative_to(folder.parents[1]).parent / name
    make(path)
    with pytest.raises(ArtuneError, match=message):
        open_split(path)


def test_links_to_images_and_to_folders_are_followed(folder, tmp_path):
    (folder / "b.JPEG").symlink_to(folder / "a.JPEG")
    (folder.parent / "n01443537").symlink_to(folder)
    found = list(load_images(open_split(folder.parent), lambda image: image))
    assert [label for _, label in found] == [0, 0, 1, 1]


def test_an_image_of_another_format_in_a_folder_is_refused_and_not_left_out(folder):
    (folder / "c.gif").write_bytes(saved(picture(), "GIF"))
    with pytest.raises(ArtuneError, match=r"c\.gif: not a JPEG, PNG or WebP image; convert it"):
        list(load_images(open_split(folder.parent), lambda image: image))


@pytest.mark.parametrize("ending", [".jfif", ".jpe", ".JPE"])
def test_jpegs_of_every_ending_are_read(folder, ending):
    (folder / f"c{ending}").write_bytes((folder / "a.JPEG").read_bytes())
    assert open_split(folder.parent).size == 2


@pytest.mark.parametrize("ending", [".jxl", ".tga", ".pgm", ".heif", ".heic", ".avif", ".svg", ".bmp", ".jp2"])
def test_no_image_is_left_out_for_its_ending(folder, ending):
    (folder / f"c{ending}").write_bytes(b"some bytes")
    with pytest.raises(ArtuneError, match=rf"c\{ending}: .*only JPEG, PNG and WebP"):
        list(load_images(open_split(folder.parent), lambda image: image))
