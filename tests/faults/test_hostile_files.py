"""Images, tars, parquet shards, npz files and checkpoints that are altered on purpose: one line each, in bounds.

`make faults` reads 10,000 files per kind, CI forty. A child process reads them and measures itself; file N of a kind is
always the same: `hostile_file(kind, N)`.
"""

import collections
import re

from confined import MEGABYTES, SECONDS, Confined
from fuzzing import cases
from hostile import hostile_file


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
