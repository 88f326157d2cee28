"""Walks the pages of a parquet column before they are read: memory is allocated by the claims in their own headers."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from artune.data.reading.parquet_footer import LISTS, Chunk, chunks
from artune.data.reading.thrift import INT_32, STRUCT, Struct, Thrift
from artune.errors import ArtuneError
from artune.runtime.outside.regular import open_regular

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

LARGEST_PAGE = 18 * 10**7  # bytes; pyarrow looks at a page's size after 1,024 images, which are 140 MB of ImageNet's
MOST_DISTINCT = 2**20  # values of a dictionary, which take memory beside their bytes
MOST_VALUES = 2**19  # in all headers of a file, or one per SPARSE bytes of a large file; a page has about 14
SPARSE = 2**10
LONGEST_HEADER = 2**24  # bytes of a page's header, as in pyarrow: the smallest and the largest image may be in it
DATA, DICTIONARY, DATA_2 = 0, 2, 3  # types of pages
ENCODED = {6: "DELTA_LENGTH_BYTE_ARRAY", 7: "DELTA_BYTE_ARRAY"}  # unpacks as many lengths as a page's own bytes claim


class Pages:
    """The pages of an open shard.

    Args:
        path: the file.
        file: the same, as pyarrow understands it.
        size: its bytes.
        footer: its description as it is in the file.
        names: the columns that will be read.

    Attributes:
        unpacked: bytes that their pages take together, at most.

    Raises:
        ArtuneError: the file is encrypted.
        ValueError: the description of the columns is damaged.
    """

    def __init__(self, path: Path, file: "ParquetFile", size: int, footer: bytes, names: list[str]) -> None:
        self.path, self.size = path, size
        columns = [file.schema.column(number).path for number in range(len(file.schema.names))]
        self.columns = {  # the numbers of those that a column consists of, and their names
            name: [(n, own) for n, own in enumerate(columns) if f"{own}.".startswith(f"{name}.")] for name in names
        }
        self.checked: set[tuple[int, str]] = set()
        self.thrift = Thrift(max(MOST_VALUES, size // SPARSE), LISTS)
        self.groups = chunks(path, file, footer, self.thrift)
        wanted = [number for name in names for number, _ in self.columns[name]]
        self.unpacked = sum(max(group[number].unpacked, 0) for group in self.groups for number in wanted)

    def check(self, group: int, name: str) -> None:
        """Check the pages of column ``name`` in a row group, the first time that it is asked for.

        Raises:
            ArtuneError: a page is larger than those that are read.
            ValueError: the pages are not what the file's description claims.
        """
        if (group, name) in self.checked:
            return
        with open_regular(self.path) as handle:
            for number, column in self.columns[name]:
                chunk, where = self.groups[group][number], f"column {column} of row group {group}"
                if chunk.values != chunk.rows:
                    raise ValueError(f"{where} claims {chunk.values:,} values for {chunk.rows:,} rows")
                self._walk(handle, where, chunk)
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
            own = header.get(({DATA: 5, DICTIONARY: 7, DATA_2: 8}.get(kind, 0), STRUCT), {})
            count, encoding = own.get((1, INT_32), 0), own.get((4 if kind == DATA_2 else 2, INT_32), 0)
            values += count if kind != DICTIONARY else 0
            if count < 0 or values > chunk.values:
                raise ValueError(f"{where} claims {chunk.values:,} values, but its pages have more")
            if (most := max(plain, packed)) > LARGEST_PAGE or (kind == DICTIONARY and count > MOST_DISTINCT):
                what = f"a page of {where} has {most:,} bytes and {count:,} values"
                raise ArtuneError(f"{self.path}: {what}; write the file again, in pyarrow with write_batch_size=8")
            if encoding in ENCODED:
                what = f"{where} is encoded as {ENCODED[encoding]}"
                raise ArtuneError(f"{self.path}: {what}; write the file again with the encoding PLAIN")
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
