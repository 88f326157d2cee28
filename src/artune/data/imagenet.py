"""Reads the images of an ImageNet split, stored as synset folders, a tar file or parquet shards."""

import os
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from artune.errors import ArtuneError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp")
SYNSET = re.compile(r"^(n\d{8})_")  # ILSVRC2012's training images: n01440764_10026.JPEG


@dataclass(frozen=True)
class Record:
    """One image, not read yet; errors call it ``name``, and ``label`` is the rank of its synset in sorted order."""

    name: str
    label: int
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Split:
    """A split: number of images (None for a tar of tars), number of classes, and an iterator over the images."""

    size: int | None
    classes: int
    records: Callable[[], Iterator[Record]]


def open_split(path: Path, classes: int | None = None) -> Split:
    """A split of ImageNet.

    Class indices are the ranks of the sorted synsets (in a parquet file, its ``label`` column), so a missing synset
    would shift all indices after it: pass ``classes`` to have the number of classes checked.

    Args:
        path: a folder of synset folders; a tar of such folders, of files ``n01440764_1.JPEG``, or of one tar per
            synset (as image-net.org serves the training set); a parquet file or a folder of them.
        classes: required number of classes; None accepts any.

    Raises:
        ArtuneError: the path is none of these, is damaged, or has another number of classes.
    """
    if not path.exists():
        raise ArtuneError(f"{path}: no such file or folder; put the images there (see `artune assets`)")
    shards = sorted(path.glob("*.parquet")) if path.is_dir() else [path] if path.suffix == ".parquet" else []
    split = _parquet(shards, path) if shards else _folder(path) if path.is_dir() else _tar(path)
    if classes is not None and split.classes != classes:
        raise ArtuneError(f"{path}: holds {split.classes} classes, not {classes}; the class indices would be wrong")
    return split


def spread(split: Split, images: int | None) -> Split:
    """A split of ``images`` images, spread evenly over the given split and thus over its classes; None keeps all.

    Raises:
        ArtuneError: more images are requested than the split has.
    """
    if images is None:
        return split
    size = split.size if split.size is not None else sum(1 for _ in split.records())
    if images > size:
        raise ArtuneError(f"data.moment_images: {images}, but the split has {size}; use fewer")

    def records() -> Iterator[Record]:
        for number, record in enumerate(split.records()):
            if (number + 1) * images // size > number * images // size:
                yield record

    return Split(images, split.classes, records)


def _folder(path: Path) -> Split:
    synsets = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not synsets:
        raise ArtuneError(f"{path}: has neither synset folders (n01440764, ...) nor parquet shards; sort the images")
    records = []
    for label, synset in enumerate(synsets):
        names = sorted(name for name in os.listdir(path / synset) if _is_image(name))
        if not names:
            raise ArtuneError(f"{path / synset}: has no images; put them there, or remove the folder")
        files = (path / synset / name for name in names)
        records += [Record(str(file), label, file.read_bytes) for file in files]
    return Split(len(records), len(synsets), lambda: iter(records))


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not Path(name).name.startswith(".")


@dataclass(frozen=True)
class _Member:
    name: str
    offset: int
    size: int


def _members(path: Path, offset: int = 0) -> Iterator[_Member]:
    """Files of the uncompressed tar that begins at ``offset`` in ``path``; only headers are read, and none is kept."""
    try:
        with open(path, "rb") as handle:
            handle.seek(offset)
            with tarfile.open(fileobj=handle, mode="r:") as archive:
                for member in archive:
                    if member.isfile():
                        yield _Member(member.name, member.offset_data, member.size)
                    archive.members = []  # type: ignore[attr-defined]  # a million headers would fill the memory
    except tarfile.TarError as error:
        raise ArtuneError(f"{path}: not an uncompressed tar, or damaged ({error}); fetch it again") from error


def _synset(member: _Member, path: Path) -> str:
    named, folder = SYNSET.match(Path(member.name).name), Path(member.name).parent.name
    if not named and not folder:
        raise ArtuneError(f"{path}: {member.name} has no synset in its name and no folder; sort the images by synset")
    return named[1] if named else folder


def _tar(path: Path) -> Split:
    found = [member for member in _members(path) if _is_image(member.name) or member.name.endswith(".tar")]
    nested = sorted((member for member in found if member.name.endswith(".tar")), key=lambda member: member.name)
    if not found or (nested and len(nested) < len(found)):
        raise ArtuneError(f"{path}: must hold images, or one tar per synset; fetch it again")

    def record(member: _Member, label: int) -> Record:
        def read() -> bytes:
            with open(path, "rb") as handle:
                handle.seek(member.offset)
                return handle.read(member.size)

        return Record(f"{path}: {member.name}", label, read)

    def from_tars() -> Iterator[Record]:
        for label, inner in enumerate(nested):
            yield from (record(member, label) for member in _members(path, inner.offset) if _is_image(member.name))

    if nested:
        return Split(None, len(nested), from_tars)
    by_synset = sorted((_synset(member, path), member.name, member.offset, member.size) for member in found)
    labels = {synset: label for label, synset in enumerate(dict.fromkeys(synset for synset, *_ in by_synset))}
    records = [record(_Member(name, offset, size), labels[synset]) for synset, name, offset, size in by_synset]
    return Split(len(records), len(labels), lambda: iter(records))


class _RowGroup:
    """Images of one row group, all read together with the first one."""

    def __init__(self, file: "ParquetFile", group: int):
        self.file, self.group = file, group

    @cached_property
    def images(self) -> list[bytes]:
        rows = self.file.read_row_group(self.group, columns=["image"]).column("image").to_pylist()
        return [row["bytes"] if isinstance(row, dict) else row for row in rows]

    def image(self, index: int) -> bytes:
        """The bytes of one image."""
        return self.images[index]


def _parquet(shards: list[Path], path: Path) -> Split:
    import pyarrow
    import pyarrow.parquet

    kinds = sorted({shard.stem.split("-")[0] for shard in shards})
    if len(kinds) > 1:
        raise ArtuneError(f"{path}: holds shards of several splits ({', '.join(kinds)}); put each into its own folder")
    try:
        files = [pyarrow.parquet.ParquetFile(shard) for shard in shards]
        for shard, file in zip(shards, files, strict=True):
            if missing := {"image", "label"} - set(file.schema_arrow.names):
                raise ArtuneError(f"{shard}: has no column {', '.join(sorted(missing))}")
        labels = [np.asarray(file.read(columns=["label"]).column("label")) for file in files]
    except (pyarrow.ArrowException, OSError) as error:
        raise ArtuneError(f"{path}: damaged parquet ({str(error).splitlines()[0]}); fetch it again") from error
    classes = np.unique(np.concatenate(labels))
    if not np.array_equal(classes, np.arange(len(classes))):
        raise ArtuneError(f"{path}: labels are not 0, 1, 2, ... without a gap; use all shards of a labelled split")

    def records() -> Iterator[Record]:
        for shard, file, own in zip(shards, files, labels, strict=True):
            row = 0
            for group in range(file.num_row_groups):
                rows = _RowGroup(file, group)
                for index in range(file.metadata.row_group(group).num_rows):
                    yield Record(f"{shard} row {row}", int(own[row]), partial(rows.image, index))
                    row += 1

    return Split(sum(map(len, labels)), len(classes), records)
