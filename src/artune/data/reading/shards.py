"""Reads parquet shards of a split: the labels at once, the images one by one as they are asked for."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from artune.data.reading.images import MOST_BYTES
from artune.data.reading.parquet_pages import Pages
from artune.errors import ArtuneError
from artune.runtime.outside.regular import open_regular

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

MOST_ROWS = 2**24  # of all shards; ImageNet has 1.3 million images, and 14 million in all its classes
MOST_FOOTER = 2**24  # bytes at the end of a shard that describe it; in memory they take many times as much
MOST_ENTRIES = 100_000  # of one list in these bytes, such as the row groups
BLOCK = 2**20  # bytes that are read at once, or a page if it is larger
LABELS = 2**16  # labels that are read at once
MOST_WIDTH = 2**18  # bytes of images of a fixed width: pyarrow allocates them for about a thousand rows, empty or not
# Images that unpack to more than FREE bytes may not be MOST_TIMES larger than in the file: they are compressed already.
FREE, MOST_TIMES = 2**28, 20
UNNUMBERED = "labels are not 0, 1, 2, ... without a gap; use all shards of a labelled split"


class Shards:
    """Parquet shards with a column ``label`` of integers, and a column ``image`` of encoded images.

    The images are bytes, or structs with a field ``bytes``, as Hugging Face's data sets store them.

    Args:
        paths: the shards, in order.

    Attributes:
        labels: the labels of each shard, int32 [n].

    Raises:
        ArtuneError: a shard is damaged, has other columns, lacks labels, or claims more than it holds.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.files, self.pages = [], []
        for path in paths:
            file, pages = _open(path)
            self.files.append(file)
            self.pages.append(pages)
        if (rows := sum(file.metadata.num_rows for file in self.files)) > MOST_ROWS:
            raise ArtuneError(f"{paths[0].parent}: claims {rows:,} images, more than the {MOST_ROWS:,} that are read")
        self.labels = []
        for path, file, pages in zip(paths, self.files, self.pages, strict=True):
            with _explained(path):
                for group in range(file.metadata.num_row_groups):
                    pages.check(group, "label")
                self.labels.append(_labels(path, file))
        self.group, self.next = (-1, -1), 0  # shard and row group that are being read, and the row that comes next
        self.rows: Iterator[Any] = iter(())

    def groups(self, shard: int) -> list[int]:
        """Number of rows of each row group of a shard."""
        metadata = self.files[shard].metadata
        return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]

    def image(self, shard: int, group: int, index: int) -> bytes:
        """The encoded image in row ``index`` of a row group; only one row is in memory, so rows are best read in order.

        Raises:
            ArtuneError: it is missing, or the shard is damaged.
        """
        with _explained(self.paths[shard]):
            if self.group != (shard, group) or index < self.next:
                column = _images_column(self.files[shard])
                self.pages[shard].check(group, column)
                self.group, self.next = (shard, group), 0
                self.rows = self.files[shard].iter_batches(1, row_groups=[group], columns=[column], use_threads=False)
            found = None
            while self.next <= index:
                batch = next(self.rows, None)
                if batch is None:
                    raise ValueError(f"row group {group} has fewer rows than it claims")
                found = batch.column("image")[0]
                self.next += 1
            where = f"{self.paths[shard]}: row {index} of row group {group}"
            return _bytes(found, where)


def _bytes(found: Any, where: str) -> bytes:
    """The bytes in a value of pyarrow; it is copied only here, and only if an image may be that large."""
    from pyarrow import DictionaryScalar, StructScalar

    if isinstance(found, StructScalar) and found.is_valid:
        found = found["bytes"]
    if isinstance(found, DictionaryScalar) and found.is_valid:
        found = found.value
    if not found.is_valid:
        raise ArtuneError(f"{where} has no image; embed the images, not their paths")
    if (count := len(data := found.as_buffer())) > MOST_BYTES:
        raise ArtuneError(f"{where} has {count:,} bytes; at most {MOST_BYTES:,} are read; save it smaller")
    return data.to_pybytes()


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Name the shard in any error of pyarrow, whose exceptions have no common base."""
    try:
        yield
    except ArtuneError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ArtuneError(f"{path}: damaged parquet ({reason}); fetch it again") from error


def _open(path: Path) -> tuple["ParquetFile", Pages]:
    import pyarrow.parquet

    with _explained(path):
        with open_regular(path) as handle:
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(size - 8, 0))
            length = int.from_bytes(handle.read(4), "little")
            if length > min(MOST_FOOTER, size):
                raise ValueError(f"it claims a description of {length:,} bytes")
            handle.seek(max(size - 8 - length, 0))
            footer = handle.read(length)
        file = pyarrow.parquet.ParquetFile(
            path,
            buffer_size=BLOCK,
            pre_buffer=False,
            thrift_string_size_limit=MOST_FOOTER,
            thrift_container_size_limit=MOST_ENTRIES,
            arrow_extensions_enabled=False,
        )
        _check_columns(path, file)
        _check_rows(file)
        pages = Pages(path, file, size, footer, ["label", _images_column(file)])
        if pages.unpacked > max(FREE, MOST_TIMES * size):
            raise ValueError(f"it would unpack to {pages.unpacked:,} bytes, from {size:,}")
    return file, pages


def _check_columns(path: Path, file: "ParquetFile") -> None:
    from pyarrow import types

    schema = file.schema_arrow
    for name in ("image", "label"):
        if (count := schema.names.count(name)) != 1:
            advice = f"more than one column {name}; keep one" if count else f"no column {name}; name the columns"
            raise ArtuneError(f"{path}: has {advice}")
    image, label = (schema.field(name).type for name in ("image", "label"))
    if types.is_struct(image) and image.get_field_index("bytes") < 0:
        raise ArtuneError(f"{path}: column image has no field bytes but {str(image)[:80]}; embed the images")
    data = image.field("bytes").type if types.is_struct(image) else image
    data = data.value_type if types.is_dictionary(data) else data
    if not any(is_kind(data) for is_kind in (types.is_binary, types.is_large_binary, types.is_fixed_size_binary)):
        raise ArtuneError(f"{path}: column image is of type {str(image)[:80]}, not of bytes; embed the images")
    if types.is_fixed_size_binary(data) and data.byte_width > MOST_WIDTH:
        raise ArtuneError(f"{path}: column image has {data.byte_width:,} bytes in each row; store them as binary")
    if not types.is_integer(label):
        raise ArtuneError(f"{path}: column label is of type {str(label)[:80]}, not of integers; number the classes")


def _images_column(file: "ParquetFile") -> str:
    from pyarrow import types

    return "image.bytes" if types.is_struct(file.schema_arrow.field("image").type) else "image"


def _check_rows(file: "ParquetFile") -> None:
    """Check that the row groups have the rows of the file.

    Raises:
        ValueError: they have not.
    """
    counts = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
    if min(counts, default=0) < 0 or sum(counts) != file.metadata.num_rows:
        raise ValueError(f"it claims {file.metadata.num_rows} rows, but its row groups have {sum(counts)}")


def _labels(path: Path, file: "ParquetFile") -> np.ndarray:
    """The labels of a shard, int32 [n]."""
    parts: list[np.ndarray] = []
    count, rows = 0, file.metadata.num_rows
    for batch in file.iter_batches(LABELS, columns=["label"], use_threads=False):
        column = batch.column("label")
        count += len(column)
        if column.null_count:
            raise ArtuneError(f"{path}: has rows without a label; use a labelled split")
        own = column.to_numpy()
        if len(own) and not 0 <= own.min() <= own.max() < MOST_ROWS:
            raise ArtuneError(f"{path}: {UNNUMBERED}")
        if count > rows:
            break
        parts.append(own.astype(np.int32))
    if count != rows:
        raise ValueError(f"it claims {rows} rows, but has {'more' if count > rows else count} labels")
    return np.concatenate(parts) if parts else np.empty(0, np.int32)
