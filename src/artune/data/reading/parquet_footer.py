"""Where the pages of a parquet file's columns lie, from the description at the end of the file."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from artune.data.reading.thrift import BINARY, INT_32, INT_64, LIST, STRUCT, Struct, Thrift
from artune.errors import ArtuneError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

# Types of what is in the lists of the file, of its row groups, and of the description and statistics of a column.
LISTS = {
    **{(0, number): (STRUCT,) for number in (2, 4, 5, 7)},
    **{(2, number): (STRUCT,) for number in (1, 4)},
    **{(5, 2): (INT_32,), (5, 3): (BINARY,), (5, 8): (STRUCT,), (5, 13): (STRUCT,)},
    **{(6, 1): (BINARY,), (6, 2): (INT_32, INT_64), (6, 3): (INT_64,)},
}


class Chunk(NamedTuple):
    """Where the pages of a column lie in a row group, and what they claim to be together."""

    begin: int
    end: int
    unpacked: int  # bytes
    values: int
    rows: int  # of the row group


def chunks(path: Path, file: "ParquetFile", footer: bytes, thrift: Thrift) -> list[list[Chunk]]:
    """The chunks of each row group, one per column that is no struct.

    Args:
        path: the file.
        file: the same, as pyarrow understands it.
        footer: its description as it is in the file.
        thrift: reads the description, with :data:`LISTS`.

    Raises:
        ArtuneError: the file is encrypted.
        ValueError: the description is damaged.
    """
    if (8, STRUCT) in thrift.struct(footer, 0)[0]:  # pyarrow opens it, but would end the process below
        raise ArtuneError(f"{path}: is encrypted; decrypt it first")
    # As pyarrow writes what it has read, so that both see the same numbers, whatever the file repeats. Asking pyarrow
    # for a column would end the process if its description is damaged.
    sink = io.BytesIO()
    file.metadata.write_metadata_file(sink)
    description, _ = thrift.struct(sink.getvalue(), 4)
    return [[_chunk(column, group[3, INT_64]) for column in group[1, LIST]] for group in description[4, LIST]]


def _chunk(column: Struct, rows: int) -> Chunk:
    """Where pyarrow looks for the pages of a column in a row group of ``rows`` rows."""
    if (3, STRUCT) not in column:
        raise ValueError("a column has no description")
    about = column[3, STRUCT]
    values, unpacked, packed, begin = (about[number, INT_64] for number in (5, 6, 7, 9))
    if 0 < (dictionary := about.get((11, INT_64), 0)) < begin:
        begin = dictionary
    return Chunk(begin, begin + packed, unpacked, values, rows)
