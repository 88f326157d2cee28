"""Images, tars, parquet shards, npz files and checkpoints that are altered on purpose: one line each, in bounds.

`make faults` reads 10,000 files per kind, CI forty. A child process reads them and measures itself; file N of a kind is
always the same: `hostile_file(kind, N)`.
"""

import collections
import io
import re
import zipfile

import pyarrow
import pytest
from confined import MEGABYTES, SECONDS, Confined
from fuzzing import cases
from hostile import END, entry, hostile_file, jpeg, picture, png, saved, write_parquet
from PIL import Image


def read_all(kind, request, tmp_path):
    """Read the files of a kind; returns the outcomes, and the process with its measurements."""
    seen = collections.Counter()
    with Confined(kind, tmp_path) as reader:
        for number in range(cases(request)):
            try:
                said = reader(hostile_file(kind, number))
            except AssertionError as error:
                raise AssertionError(f"hostile_file({kind!r}, {number}): {error}") from error
            seen[re.sub(r"\(.*\)|\d[\d,.]*", "", said)] += 1
    assert {path.name for path in tmp_path.iterdir()} == {reader.name}  # nothing was unpacked
    assert seen[""] > cases(request) / 20  # intact files are read to their end
    assert len(seen) > 4  # and others are refused for more than one reason
    return reader


def bounds(reader):
    return f"{reader.slowest:.1f} s and {reader.largest:,.0f} MB at most ({SECONDS:.0f} s and {MEGABYTES:,} MB are allowed)"


def test_altered_images(request, tmp_path, fault):
    """An image has an altered structure"""
    reader = read_all("image", request, tmp_path)
    fault.done = (
        f"{cases(request):,} files: JPEG, PNG, WebP and five other formats with altered sizes, types and chunks, repeated "
        "and removed chunks, compression bombs, damaged bytes"
    )
    fault.happened = f"read, or one line that names the file; {bounds(reader)}; no traceback"
    fault.lost = "nothing"


def test_altered_tars(request, tmp_path, fault):
    """A tar of images has altered headers"""
    reader = read_all("tar", request, tmp_path)
    fault.done = (
        f"{cases(request):,} files: sizes up to 2^70 and below 0, members of all kinds, chains of long names, properties "
        "of 40 kB, sparse files, tars inside that claim 2^62 bytes, names such as `../x.png`, damaged bytes"
    )
    fault.happened = f"read, or one line that names the file; {bounds(reader)}; nothing is unpacked to a path"
    fault.lost = "nothing"


def test_altered_parquet(request, tmp_path, fault):
    """A parquet shard has other columns or an altered structure"""
    reader = read_all("parquet", request, tmp_path)
    fault.done = (
        f"{cases(request):,} files: columns of other types, missing images and labels, six compressions, numbers up to "
        "2^63 in the descriptions of file and pages, damaged bytes"
    )
    fault.happened = f"read, or one line that names the file; {bounds(reader)}; no traceback"
    fault.lost = "nothing"


GOOD = entry(b"n01440764/a.JPEG", saved(picture(), "JPEG"))
LONG_NAME = entry(b"././@LongLink", b"n01440764/" + b"y" * 400 + b".JPEG", b"L")


def shard(image, label):
    return write_parquet(pyarrow.Table.from_arrays([image, label], names=["image", "label"]))


def repeated(value, count):
    values = pyarrow.array([value], pyarrow.binary())
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * count, pyarrow.int32()), values)


def npz(header):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("arr_0.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    return buffer.getvalue()


ONE = {
    "a JPEG of 1 x 65,500 pixels": ("image", lambda: saved(Image.new("RGB", (1, 65_500)), "JPEG")),
    "a PNG that claims 50,000 x 50,000 pixels": ("image", lambda: png(50_000, 50_000)),
    "a progressive JPEG that claims 65,000 x 65,000 pixels": ("image", lambda: jpeg(65_000, 65_000, progressive=True)),
    "PostScript under the name of a JPEG": ("image", lambda: saved(picture(), "EPS")),
    "a tar whose image claims 2^62 bytes": ("tar", lambda: entry(b"n01440764/a.JPEG", b"x", size=2**62) + END),
    "a tar whose member claims a negative size": ("tar", lambda: GOOD + entry(b"x", b"", size=-2048) + END),
    "a tar of tars, one of which claims 1 TB": ("tar", lambda: entry(b"n01440764.tar", GOOD, size=10**12) + END),
    "a tar of 20,000 long names before one image": ("tar", lambda: LONG_NAME * 20_000 + GOOD + END),
    "a tar with a hard link in the place of an image": (
        "tar", lambda: GOOD + entry(b"n01440764/b.JPEG", kind=b"1", link=b"n01440764/a.JPEG") + END,
    ),
    "a parquet shard of paths without images": (
        "parquet", lambda: shard(pyarrow.array([{"path": "a.JPEG"}]), pyarrow.array([0])),
    ),
    "a parquet shard with labels of text": ("parquet", lambda: shard(pyarrow.array([b"x"]), pyarrow.array(["n01440764"]))),
    "a parquet shard with one value of 10 MB in 100,000 rows": (
        "parquet", lambda: shard(repeated(bytes(10**7), 100_000), pyarrow.array([0] * 100_000)),
    ),
    "an npz with an array of shape (2^70, 0)": (
        "npz", lambda: npz(b"{'descr': '|u1', 'fortran_order': False, 'shape': (1180591620717411303424, 0)}\n"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """A process per kind of file."""
    found = {kind: Confined(kind, tmp_path_factory.mktemp(kind)) for kind in {kind for kind, _ in ONE.values()}}
    yield found
    for reader in found.values():
        reader.stop()


@pytest.mark.parametrize("what", ONE)
def test_one_hostile_file(what, readers, fault):
    """A file from others claims more than it holds, or holds something else"""
    kind, make = ONE[what]
    said = readers[kind](make())
    assert said.startswith(readers[kind].name)
    fault.done = f"read: {what}"
    fault.happened = f"one line, within 2 s and 1 GB: `{said}`"
    fault.lost = "nothing"
