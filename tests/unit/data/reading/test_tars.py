"""Tars with hostile headers: one line each, in bounded time and memory, and no image is left out in silence."""

import io
import tarfile

import pytest
from confined import Confined
from hostile import END, entry, pax, picture, saved

from artune.data.crops import load_images
from artune.data.imagenet import open_split
from artune.errors import ArtuneError

PICTURE = saved(picture(), "JPEG")
GOOD = entry(b"n01440764/a.JPEG", PICTURE)


@pytest.fixture(scope="module")
def confined(tmp_path_factory):
    """Reads a tar and its images in a child process, within two seconds and a gigabyte; returns the error's line."""
    with Confined("tar", tmp_path_factory.mktemp("confined")) as reader:
        yield reader


def packed(**options):
    """A good image in a tar that tarfile wrote, after a member with the given properties."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=options.pop("format", tarfile.PAX_FORMAT)) as archive:
        for name in (options.pop("name", "n01440764/a.JPEG"), "n01440764/b.JPEG"):
            info = tarfile.TarInfo(name)
            info.size = len(PICTURE)
            for key, value in options.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(PICTURE))
            options = {}
    return buffer.getvalue()


def tar_of_tars(inner, size=None):
    return entry(b"n01440764.tar", GOOD + END) + entry(b"n01443537.tar", inner, size=size)


LONG = entry(b"././@LongLink", b"n01440764/" + b"y" * 400 + b".JPEG", b"L")
DIGITS = entry(b"PaxHeader", b"1" * 30_000, b"x")

CASES = {
    "a size of 2^62": (GOOD + entry(b"n01440764/b.JPEG", PICTURE, size=2**62) + END, "more than there are"),
    "a size of 2^70": (GOOD + entry(b"n01440764/b.JPEG", PICTURE, size=2**70) + END, "more than there are"),
    "a size of 2^62 as a property": (GOOD + pax([(b"size", b"4611686018427387904")]) + GOOD + END, "more than there are"),
    "a negative size": (GOOD + entry(b"n01440764/b.JPEG", PICTURE, size=-1024) + END, "more than there are"),
    "a negative size that leads back": (GOOD + entry(b"x", b"", size=-2048) + END, "more than there are"),
    "a negative size as a property": (GOOD + pax([(b"size", b"-2048")]) + GOOD + END, "damaged"),
    "properties of 2^62 bytes": (GOOD + entry(b"P", b"", b"x", size=2**62) + END, "headers of more than"),
    "properties of a negative size": (GOOD + entry(b"P", b"", b"x", size=-512) + END, "headers of more than"),
    "properties of 30 MB": (GOOD + pax([(b"comment", b"x" * 3 * 10**7)]) + GOOD + END, "headers of more than"),
    "a long name of 2^62 bytes": (GOOD + entry(b"L", b"", b"L", size=2**62) + END, "headers of more than"),
    "20,000 long names before one file": (LONG * 20_000 + GOOD + END, "headers of more than"),
    "20,000 properties before one file": (pax([(b"path", b"n01440764/a.JPEG")]) * 20_000 + GOOD + END, "headers of more than"),
    "numbers that take long to find": ((DIGITS + GOOD) * 30 + END, "more than 64 digits"),
    "a sparse file": (GOOD + pax([(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"9")])
                      + entry(b"n01440764/b.JPEG", b"1\n0\n9\n".ljust(512, b"\0") + b"x" * 9) + END, "stored as a sparse file"),
    "a sparse file with 10^18 parts": (GOOD + pax([(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")])
                                       + entry(b"n01440764/b.JPEG", b"1000000000000000000\n" + b"0\n" * 10**6) + END, "damaged"),
    "an old sparse file that goes on": (GOOD + entry(b"n01440764/b.JPEG", b"", b"S")[:482] + b"\1" + bytes(29) + END, "damaged"),
    "a hard link in the place of an image": (GOOD + entry(b"n01440764/b.JPEG", b"", b"1", link=b"n01440764/a.JPEG") + END,
                                             "b.JPEG is a link"),
    "a symbolic link in the place of an image": (GOOD + entry(b"n01440764/b.JPEG", b"", b"2", link=b"/etc/passwd") + END, "is a link"),
    "a device in the place of an image": (GOOD + entry(b"n01440764/b.JPEG", b"", b"3") + END, "is a device"),
    "a damaged header in the middle": (GOOD + entry(b"n01440764/b.JPEG", PICTURE, checksum=1) + GOOD + END, "header in its middle"),
    "a header cut short": (GOOD + GOOD[:200], "header in its middle"),
    "an inner tar that claims 1 TB": (tar_of_tars(GOOD, size=10**12) + END, "more than there are"),
    "an inner tar whose member leaves it": (tar_of_tars(entry(b"n01443537_1.JPEG", PICTURE, size=len(PICTURE) + 4096))
                                            + GOOD * 9 + END, "must hold images"),
    "an inner tar whose member reaches into the next": (
        entry(b"n01440764.tar", entry(b"n01440764_1.JPEG", PICTURE, size=len(PICTURE) + 4096)) + tar_of_tars(GOOD) + END,
        r"n01440764\.tar: .*more than there are"),
    "an inner tar that is empty": (tar_of_tars(END * 5) + END, r"n01443537\.tar has no images"),
    "an inner tar that is an image": (tar_of_tars(PICTURE) + END, r"n01443537\.tar: not an uncompressed tar"),
    "a file of 70 MB as an image": (GOOD + entry(b"n01440764/b.JPEG", bytes(7 * 10**7)) + END, "70,000,000 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_header_is_one_line(case, confined):
    data, message = CASES[case]
    with pytest.raises(ArtuneError, match=message) as caught:
        raise ArtuneError(confined(data))
    assert str(caught.value).startswith("x.tar: ")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_of_tar_is_read(form, confined):
    assert confined(packed(format=form)) == ""


def test_names_of_any_length_and_kind_are_read_and_nothing_is_unpacked(confined):
    assert confined(packed(name="n01440764/" + "y" * 300 + ".JPEG", format=tarfile.GNU_FORMAT)) == ""
    assert confined(packed(name="n01440764/" + "é" * 300 + ".JPEG")) == ""
    for name in (b"/n01440764/x.JPEG", b"../n01440764/x.JPEG", b"n01440764/../../n01440764/x.JPEG"):
        assert confined(entry(name, PICTURE) + END) == ""
        assert {path.name for path in confined.folder.iterdir()} == {"x.tar"}
        assert not (confined.folder.parent / "n01440764").exists()


def test_20_000_members_with_long_names_are_read(tmp_path):
    (tmp_path / "x.tar").write_bytes((LONG + entry(b"short", b"x")) * 20_000 + END)
    assert open_split(tmp_path / "x.tar").size == 20_000


def test_links_and_devices_that_are_no_images_are_passed_over(confined):
    others = entry(b"n01440764", b"", b"5") + entry(b"README", b"", b"2", link=b"x") + entry(b"tty", b"", b"3")
    assert confined(others + GOOD + END) == ""


def test_a_line_break_in_a_name_stays_in_the_line(tmp_path):
    (tmp_path / "x.tar").write_bytes(entry(b"n01440764/a\nb.JPEG", PICTURE[:100]) + END)
    with pytest.raises(ArtuneError, match=r"a\\nb\.JPEG: damaged image"):
        list(load_images(open_split(tmp_path / "x.tar"), lambda image: image))


def test_a_tar_without_its_end_is_read(confined):
    assert confined(GOOD) == ""
