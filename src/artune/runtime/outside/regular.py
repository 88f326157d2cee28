"""Opens regular files only: a pipe, a socket or a device would be waited for, or be read, without an end."""

import os
import stat
from io import BufferedReader
from pathlib import Path

from artune.errors import ArtuneError

KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def require_regular(path: Path | str) -> None:
    """Check that ``path`` is a regular file or a link to one, without opening it.

    Raises:
        ArtuneError: it is something else.
        OSError: it does not exist, or cannot be looked at.
    """
    _refuse(path, os.stat(path).st_mode)


def open_regular(path: Path | str) -> BufferedReader:
    """Open a regular file, or a link to one, for reading. Errors as :func:`require_regular`."""
    require_regular(path)
    # Another file may have taken the place meanwhile, so the open one is looked at too; O_NONBLOCK waits for no writer.
    handle = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    try:
        _refuse(path, os.fstat(handle.fileno()).st_mode)
    except ArtuneError:
        handle.close()
        raise
    return handle


def read_regular(path: Path | str, most: int) -> bytes:
    """The bytes of a regular file, or of a link to one.

    Raises:
        ArtuneError: it is not a regular file, or has more than ``most`` bytes.
        OSError: it does not exist, or cannot be read.
    """
    with open_regular(path) as handle:
        size = os.fstat(handle.fileno()).st_size
        if size > most:
            raise ArtuneError(f"{path}: has {size:,} bytes, more than the {most:,} that are read; check the file")
        return handle.read(size)


def _refuse(path: Path | str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = KINDS.get(stat.S_IFMT(mode), "of another kind")
        raise ArtuneError(f"{path}: {kind}, not a regular file; put the file itself, or a link to it, there")
