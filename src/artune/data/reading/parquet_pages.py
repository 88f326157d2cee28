"""Walks the pages of a parquet column before they are read: memory is allocated by the claims in their own headers."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from artune.data.reading.thrift import INT_32, INT_64, LIST, STRUCT, Struct, Thrift
from artune.errors import ArtuneError
from artune.runtime.outside.regular import open_regular

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

LARGEST_PAGE = 2**28  # bytes; writers close a page at 2^20 bytes, but some of them look only after 1,024 images
MOST_DISTINCT = 2**20  # values of a dictionary, which take memory beside their bytes
MOST_VALUES = 2**19  # in all headers of a file, or one per SPARSE bytes of a large file; a page has about 14
SPARSE = 2**10
LONGEST_HEADER = 2**24  # bytes of a page's header, as in pyarrow: the smallest and the largest image may be in it
DATA, DICTIONARY, DATA_2 = 0, 2, 3  # types of pages


class Chunk(NamedTuple):
    """Where the pages of a column lie in a row group, and what they claim to be together."""

    begin: int
    end: int
    unpacked: int
    values: int


class Pages:
    """The pages of an open shard.

    Args:
        path: the file.
        file: the same, as pyarrow understands it.
        size: its bytes.

    Raises:
        ValueError: the description of the columns is damaged.
    """

    def __init__(self, path: Path, file: "ParquetFile", size: int) -> None:
        self.path, self.size = path, size
        self.columns = [file.schema.column(number).path for number in range(len(file.schema.names))]
        self.checked: set[tuple[int, str]] = set()
        self.thrift = Thrift(max(MOST_VALUES, size // SPARSE))
        # As pyarrow writes what it has read: so both see the same numbers, whatever the file repeats or mixes up. To ask
        # pyarrow for a column ends the process if its description is damaged.
        sink = io.BytesIO()
        file.metadata.write_metadata_file(sink)
        description, _ = self.thrift.struct(sink.getvalue(), 4)
        self.groups = [[_chunk(column) for column in group[1, LIST]] for group in description[4, LIST]]

    def check(self, group: int, name: str) -> None:
        """Check the pages of column ``name``, or of the columns that it consists of, in a row group; once is enough.

        Raises:
            ArtuneError: a page is larger than those that are read.
            ValueError: the pages are not what the file's description claims.
        """
        if (group, name) in self.checked:
            return
        with open_regular(self.path) as handle:
            for number, column in enumerate(self.columns):
                if column == name or column.startswith(f"{name}."):
                    self._walk(handle, f"column {column} of row group {group}", self.groups[group][number])
        self.checked.add((group, name))

    def _walk(self, handle: io.BufferedReader, where: str, chunk: Chunk) -> None:
        if chunk.values == 0:  # then pyarrow reads no page, and its writer gives the place of none
            return
        at, unpacked, values = chunk.begin, 0, 0
        if not 0 <= at <= chunk.end <= self.size:
            raise ValueError(f"{where} lies outside the file")
        while at < chunk.end:
            header, length = self._header(handle, at, chunk.end)
            kind, plain, packed = (header.get((number, INT_32), -1) for number in (1, 2, 3))
            at += length + packed
            unpacked += plain
            if plain < 0 or packed < 0 or at > chunk.end or unpacked > chunk.unpacked:
                raise ValueError(f"a page of {where} claims to be {plain:,} bytes, {packed:,} of them in the file")
            count = header.get(({DATA: 5, DICTIONARY: 7, DATA_2: 8}.get(kind, 0), STRUCT), {}).get((1, INT_32), 0)
            values += count if kind != DICTIONARY else 0
            if count < 0 or values > chunk.values:
                raise ValueError(f"{where} claims {chunk.values:,} values, but its pages have more")
            if (most := max(plain, packed)) > LARGEST_PAGE or (kind == DICTIONARY and count > MOST_DISTINCT):
                what = f"a page of {where} has {most:,} bytes and {count:,} values"
                raise ArtuneError(f"{self.path}: {what}; write it with pages of a few MB")
        if values != chunk.values:
            raise ValueError(f"{where} claims {chunk.values:,} values, but its pages have {values:,}")

    def _header(self, handle: io.BufferedReader, at: int, end: int) -> tuple[Struct, int]:
        """The header of a page, and its length in bytes."""
        most = 2**9
        while True:
            handle.seek(at)
            data = handle.read(min(most, end - at))
            try:
                return self.thrift.struct(data, 0)
            except IndexError:  # it is longer, because of its statistics
                if most >= min(LONGEST_HEADER, end - at):
                    raise ValueError(f"the header of a page at byte {at:,} has no end") from None
            most *= 8


def _chunk(column: Struct) -> Chunk:
    """Where pyarrow looks for the pages of a column, from the description of the column."""
    if (3, STRUCT) not in column:
        raise ValueError("a column has no description")
    about = column[3, STRUCT]
    values, unpacked, packed, begin = (about[number, INT_64] for number in (5, 6, 7, 9))
    if 0 < (dictionary := about.get((11, INT_64), 0)) < begin:
        begin = dictionary
    return Chunk(begin, begin + packed, unpacked, values)
