"""Opens zip archives (npz files, torch checkpoints, pairs of a study) that can be read in bounded time and memory."""

import os
import struct
import zipfile
from pathlib import Path

from artune.runtime.outside.regular import open_regular

# What NumPy and torch write. By the other methods, zipfile unpacks any amount at once.
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# An archive that unpacks to more than FREE bytes may not be MOST_TIMES larger than its file. Deflate reaches 1,000 on
# zeros; weights, features and images stay below 20.
FREE, MOST_TIMES = 2**28, 100
MOST_DIRECTORY = 2**24  # bytes of an archive's directory, which is read whole; a member takes about 100
LONGEST_END = 2**16 + 100  # bytes at the end of a zip file in which its last records lie


def open_zip(path: Path | str) -> zipfile.ZipFile:
    """Open a zip archive for reading.

    Raises:
        zipfile.BadZipFile: not a zip archive, or one that holds a member twice, is encrypted, is compressed by a rare
            method, or unpacks to far more than its size.
        ArtuneError: not a regular file.
        OSError: the file does not exist or cannot be read.
    """
    with open_regular(path) as handle:
        size = handle.seek(0, os.SEEK_END)
        handle.seek(max(size - LONGEST_END, 0))
        directory = _directory_size(handle.read())
    if directory > MOST_DIRECTORY:
        raise zipfile.BadZipFile(f"its directory of members has {directory:,} bytes")
    archive = zipfile.ZipFile(path)
    try:
        _check(archive.infolist(), size)
    except zipfile.BadZipFile:
        archive.close()
        raise
    return archive


def _directory_size(end: bytes) -> int:
    """Bytes of an archive's directory, as the last bytes of its file say; 0 if they do not, which zipfile refuses."""
    at = end.rfind(b"PK\x05\x06")
    if not 0 <= at <= len(end) - 22:
        return 0
    if at >= 76 and end[at - 20 : at - 16] == b"PK\x06\x07":  # above 4 GB another record precedes, which counts
        return int(struct.unpack_from("<Q", end, at - 76 + 40)[0])
    return int(struct.unpack_from("<I", end, at + 12)[0])


def _check(members: list[zipfile.ZipInfo], size: int) -> None:
    names: set[str] = set()
    for member in members:
        if member.filename in names:
            raise zipfile.BadZipFile(f"it holds {member.filename!r} twice")
        names.add(member.filename)
        if member.flag_bits & 0x1:
            raise zipfile.BadZipFile(f"{member.filename!r} is encrypted")
        if member.compress_type not in METHODS:
            raise zipfile.BadZipFile(f"{member.filename!r} is compressed by a method that is not read")
    unpacked = sum(member.file_size for member in members)
    if unpacked > max(FREE, MOST_TIMES * size):
        raise zipfile.BadZipFile(f"it would unpack to {unpacked:,} bytes, from a file of {size:,}")
