"""Reads IDX files: a header that says type and shape, then the numbers. Only bytes are read, as all known sets have."""

import math
import os
from pathlib import Path
from typing import IO

import numpy as np

from artune.errors import ArtuneError
from artune.runtime.outside.regular import open_regular

UNSIGNED_BYTES = 0x08  # the code of the type
MOST_BYTES = 2**31  # of a file, which is read whole; the 60,000 images of MNIST have 47 million


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The array of an IDX file of unsigned bytes: uint8 with ``dimensions`` dimensions.

    Raises:
        ArtuneError: another format, type or number of dimensions, or a size that is not what the header says.
    """
    try:
        with open_regular(path) as handle:
            if wrong := idx_misfit(handle, dimensions):
                raise ArtuneError(f"{path}: {wrong}; get the file again, or unpack it if it is compressed")
            handle.seek(0)
            shape = _shape(handle.read(4 + 4 * dimensions))
            return np.frombuffer(handle.read(), np.uint8).reshape(shape)
    except OSError as error:
        raise ArtuneError(f"{path}: cannot be read ({error.strerror or error})") from error


def idx_misfit(handle: IO[bytes], dimensions: int | None = None) -> str | None:
    """Why an open file is no whole IDX file of unsigned bytes, None if it is one.

    Args:
        handle: the file, whose position moves.
        dimensions: required number of dimensions; None accepts any.
    """
    size = handle.seek(0, os.SEEK_END)
    handle.seek(0)
    head = handle.read(4)
    if len(head) < 4 or head[:2] != b"\0\0":
        return "not an IDX file"
    if head[2] != UNSIGNED_BYTES:
        return f"IDX numbers of type {head[2]:#04x}, where bytes (0x08) are read"
    if not head[3] or (dimensions is not None and head[3] != dimensions):
        return f"IDX array of {head[3]} dimensions, where {dimensions or 'some'} are needed"
    lengths = handle.read(4 * head[3])
    if len(lengths) < 4 * head[3]:
        return "cut off within its header"
    shape = _shape(head + lengths)
    wanted = 4 + 4 * head[3] + math.prod(shape)
    if size != wanted or size > MOST_BYTES or not size - 4 - 4 * head[3]:
        return (
            f"{size:,} bytes, where its header {list(shape)[:4]} tells of {wanted:,} (at most {MOST_BYTES:,} are read)"
        )
    return None


def _shape(header: bytes) -> tuple[int, ...]:
    return tuple(int.from_bytes(header[at : at + 4], "big") for at in range(4, len(header), 4))
