"""Reads the headers of a tar archive, or of one inside another; nothing is ever unpacked to a path."""

import io
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from artune.data.reading.images import is_image
from artune.errors import ArtuneError
from artune.runtime.outside.regular import open_regular

# Bytes of the headers of one member: an entry of 512 bytes, and further ones for long names and other properties.
MOST_HEADERS = 2**15
# tarfile searches the properties for a number in a time that grows with the square of its digits.
LONG_NUMBER = re.compile(rb"\d{64}")
# Exceptions that wrong headers can cause in tarfile.
BAD_TAR = (tarfile.TarError, OSError, ValueError, EOFError, LookupError, ArithmeticError, TypeError, AttributeError,
           RuntimeError, MemoryError)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """A file in an archive: its name, and where its bytes lie in the outer file."""

    name: str
    offset: int
    size: int


class _Headers(io.RawIOBase):
    """A part of an open file, of which tarfile may read only as much as the headers of one member may take."""

    def __init__(self, handle: BinaryIO, start: int, end: int) -> None:
        self.handle, self.start, self.end = handle, start, end
        self.at, self.taken = 0, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence != os.SEEK_SET or not 0 <= offset <= self.end - self.start:
            raise tarfile.ReadError("it claims a member that reaches beyond its end")
        self.at = offset
        return offset

    def tell(self) -> int:
        return self.at

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MOST_HEADERS - self.taken:
            raise tarfile.ReadError(f"it claims headers of more than {MOST_HEADERS:,} bytes")
        self.handle.seek(self.start + self.at)
        data = self.handle.read(min(size, self.end - self.start - self.at))
        if size > tarfile.BLOCKSIZE and LONG_NUMBER.search(data):
            raise tarfile.ReadError("its headers hold a number of more than 64 digits")
        self.at += len(data)
        self.taken += len(data)
        return data


def members(path: Path, within: Member | None = None) -> Iterator[Member]:
    """The files of the uncompressed tar ``path``, or of the tar that is its member ``within``.

    Only headers are read, and none is kept. A link, a device or a sparse file in the place of an image is an error,
    because the image would be missing.

    Raises:
        ArtuneError: not an uncompressed tar, or damaged, or it claims more than it holds.
    """
    inside = f"{path}: {within.name}" if within else str(path)
    try:
        with open_regular(path) as handle:
            end = os.fstat(handle.fileno()).st_size
            start, end = (within.offset, within.offset + within.size) if within else (0, end)
            headers = _Headers(handle, start, end)
            with tarfile.open(fileobj=headers, mode="r:") as archive:
                for member in archive:
                    yield from _file(member, start, end)
                    # A million headers would fill the memory, and properties of all members would be copied for each.
                    archive.members, archive.pax_headers = [], {}  # type: ignore[attr-defined]
                    headers.taken = 0
                headers.seek(archive.offset)
                headers.taken = 0
                if headers.read(tarfile.BLOCKSIZE).strip(b"\0"):
                    raise tarfile.ReadError("a header in its middle is damaged")
    except BAD_TAR as error:
        reason = str(error) or type(error).__name__
        raise ArtuneError(f"{inside}: not an uncompressed tar, or damaged ({reason}); fetch it again") from error


def _file(member: tarfile.TarInfo, start: int, end: int) -> Iterator[Member]:
    """The member, if it is a file."""
    if member.size < 0 or member.offset_data + max(member.size, 0) > end - start:
        raise tarfile.ReadError(f"{member.name} claims {member.size:,} bytes, more than there are")
    if member.issparse():
        raise tarfile.ReadError(f"{member.name} is stored as a sparse file; pack it without --sparse")
    if member.isfile():
        yield Member(member.name, start + member.offset_data, member.size)
    elif not member.isdir() and (is_image(member.name) or member.name.endswith(".tar")):
        kind = "link" if member.islnk() or member.issym() else "device or another special file"
        raise tarfile.ReadError(f"{member.name} is a {kind}; pack it with --dereference --hard-dereference")
