"""Reads arrays of an npz file; what a header claims is compared with the file before memory is taken for it."""

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np

# Exceptions from reading an npz with wrong bytes; NumPy leaves most of the reading to zipfile, ast and tokenize.
BAD_NPZ = (zipfile.BadZipFile, zlib.error, struct.error, ValueError, EOFError, OSError, RuntimeError, MemoryError,
           NotImplementedError, SyntaxError, TypeError, LookupError, ArithmeticError, AttributeError,
           tokenize.TokenError)  # fmt: skip
LONGEST_HEADER = 10_000  # characters, NumPy's own limit; it reads any number before it looks
MOST_WITHOUT_BYTES = 2**31  # rows of an array whose rows are empty
NUMBERS = "biuf"  # kinds of dtype: booleans, integers and floats


@dataclass(frozen=True)
class Header:
    """Shape, order and dtype of an array, as its header says and its bytes allow."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype


def names_of(archive: zipfile.ZipFile) -> list[str]:
    """The names of the arrays of an open npz."""
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """The array called ``name``, in this machine's byte order.

    Raises:
        KeyError: there is no such array.
        Exception: the array is damaged, not of numbers, or claims more than the file holds; one of :data:`BAD_NPZ`.
    """
    with archive.open(f"{name}.npy") as member:
        read_header(member, archive.getinfo(f"{name}.npy").file_size, name)
    with archive.open(f"{name}.npy") as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def read_header(member: IO[bytes], size: int, name: str) -> Header:
    """The header of an npy member of ``size`` bytes, which is then read up to the array's data; errors as above."""
    version = np.lib.format.read_magic(member)
    width = 2 if version == (1, 0) else 4
    head = member.read(width)
    length = int.from_bytes(head, "little")
    if length > LONGEST_HEADER:
        raise ValueError(f"the header of {name} has {length:,} bytes")
    reader = np.lib.format.read_array_header_1_0 if width == 2 else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(io.BytesIO(head + member.read(length)))
    if dtype.kind not in NUMBERS or dtype.itemsize > 8:
        raise ValueError(f"{name} is of {str(dtype)[:40]}, not of numbers")
    held = size - len(np.lib.format.magic(*version)) - width - length
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize > held or max((0, *shape)) > max(held, MOST_WITHOUT_BYTES):
        raise ValueError(f"{name} claims a shape of {_brief(shape)}, but has {held:,} bytes")
    return Header(tuple(map(int, shape)), fortran, dtype)


def rows_of(member: IO[bytes], header: Header, batch: int) -> Iterator[np.ndarray]:
    """The rows after a header in chunks of ``batch``, in this machine's byte order. Errors as :func:`read_array`."""
    shape, dtype = header.shape, header.dtype
    row = dtype.itemsize * math.prod(shape[1:])
    if not shape or (not row and shape[0]):
        raise ValueError(f"an array of shape {_brief(shape)} has no rows")
    for at in range(0, shape[0], batch):
        count = min(batch, shape[0] - at)
        data = member.read(count * row)
        if len(data) != count * row:
            raise EOFError(f"row {at + len(data) // max(row, 1)} of {shape[0]}")
        rows = np.frombuffer(data, dtype).reshape(count, *shape[1:])
        yield rows.astype(dtype.newbyteorder("="), copy=False)


def _brief(shape: tuple[int, ...]) -> str:
    """A shape as text, however long it and its numbers are."""
    sizes = [str(size) if abs(size) < 2**64 else f"2^{size.bit_length() - 1}" for size in shape[:6]]
    return f"[{', '.join(sizes)}{', ...' if len(shape) > 6 else ''}]"
