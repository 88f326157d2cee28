"""Unpacks gzip files in bounded time and memory."""

import hashlib
import zlib
from pathlib import Path
from typing import BinaryIO

from artune.errors import ArtuneError
from artune.runtime.outside.regular import open_regular

CHUNK = 2**20
# Deflate reaches 1,000 on zeros; grey images of one object on black, the emptiest that are known, reach 6.
FREE, MOST_TIMES = 2**26, 100
MAGIC = b"\x1f\x8b"


def is_gzip(path: Path | str) -> bool:
    """Whether a regular file begins as gzip files do. Errors as :func:`artune.runtime.outside.regular.open_regular`."""
    with open_regular(path) as handle:
        return handle.read(2) == MAGIC


def unpack_gzip(path: Path | str, output: BinaryIO) -> str:
    """Write what the gzip file ``path`` holds to ``output``; returns the SHA-256 of that in hexadecimal.

    Raises:
        ArtuneError: not a regular file, not gzip, damaged, cut off, followed by other bytes, or it would unpack to far
            more than its size.
        OSError: the file cannot be read, or ``output`` not be written.
    """
    digest, unpacked = hashlib.sha256(), 0
    with open_regular(path) as handle:
        size = handle.seek(0, 2)
        handle.seek(0)
        most, stream, pending = max(FREE, MOST_TIMES * size), zlib.decompressobj(16 + zlib.MAX_WBITS), b""
        try:
            while not stream.eof:
                pending = pending or handle.read(CHUNK)
                if not pending:
                    raise ArtuneError(f"{path}: cut off; get the file again")
                block = stream.decompress(pending, CHUNK)
                pending = stream.unconsumed_tail
                unpacked += len(block)
                if unpacked > most:
                    raise ArtuneError(f"{path}: would unpack to more than {most:,} bytes, from {size:,}; remove it")
                digest.update(block)
                output.write(block)
        except zlib.error as error:
            raise ArtuneError(f"{path}: not gzip, or damaged ({error}); get the file again") from error
        if stream.unused_data or handle.read(1):
            raise ArtuneError(f"{path}: other bytes follow its end; get the file again")
    return digest.hexdigest()
