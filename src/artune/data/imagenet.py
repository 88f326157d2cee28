"""Reads the images of an ImageNet split, stored as synset folders, a tar file or parquet shards."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from artune.data.reading.images import MOST_BYTES, is_image
from artune.data.reading.shards import UNNUMBERED, Shards
from artune.data.reading.tars import Member, members
from artune.errors import ArtuneError
from artune.runtime.outside.regular import open_regular, read_regular

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
        names = sorted(name for name in os.listdir(path / synset) if is_image(name))
        if not names:
            raise ArtuneError(f"{path / synset}: has no images; put them there, or remove the folder")
        files = (path / synset / name for name in names)
        records += [Record(str(file), label, partial(read_regular, file, MOST_BYTES)) for file in files]
    return Split(len(records), len(synsets), lambda: iter(records))


def _synset(member: Member, path: Path) -> str:
    named, folder = SYNSET.match(Path(member.name).name), Path(member.name).parent.name
    if not named and not folder:
        raise ArtuneError(f"{path}: {member.name} has no synset in its name and no folder; sort the images by synset")
    return named[1] if named else folder


def _tar(path: Path) -> Split:
    found = [member for member in members(path) if is_image(member.name) or member.name.endswith(".tar")]
    nested = sorted((member for member in found if member.name.endswith(".tar")), key=lambda member: member.name)
    if not found or (nested and len(nested) < len(found)):
        raise ArtuneError(f"{path}: must hold images, or one tar per synset; fetch it again")

    def record(member: Member, label: int) -> Record:
        return Record(f"{path}: {member.name}", label, partial(_read_member, path, member))

    def from_tars() -> Iterator[Record]:
        for label, inner in enumerate(nested):
            images = 0
            for member in members(path, inner):
                if is_image(member.name):
                    images += 1
                    yield record(member, label)
            if not images:
                raise ArtuneError(f"{path}: {inner.name} has no images; fetch it again")

    if nested:
        return Split(None, len(nested), from_tars)
    by_synset = sorted((_synset(member, path), member.name, member.offset, member.size) for member in found)
    labels = {synset: label for label, synset in enumerate(dict.fromkeys(synset for synset, *_ in by_synset))}
    records = [record(Member(name, offset, size), labels[synset]) for synset, name, offset, size in by_synset]
    return Split(len(records), len(labels), lambda: iter(records))


def _read_member(path: Path, member: Member) -> bytes:
    if member.size > MOST_BYTES:
        raise ArtuneError(
            f"{path}: {member.name} has {member.size:,} bytes, more than the {MOST_BYTES:,} that are read"
        )
    with open_regular(path) as handle:
        handle.seek(member.offset)
        return handle.read(member.size)


def _parquet(paths: list[Path], path: Path) -> Split:
    kinds = sorted({shard.stem.split("-")[0] for shard in paths})
    if len(kinds) > 1:
        raise ArtuneError(f"{path}: holds shards of several splits ({', '.join(kinds)}); put each into its own folder")
    shards = Shards(paths)
    labels = np.concatenate(shards.labels)
    if not len(labels):
        raise ArtuneError(f"{path}: holds no images; fetch it again")
    count = np.bincount(labels) if labels.max() < len(labels) else np.zeros(1)
    if not count.all():
        raise ArtuneError(f"{path}: {UNNUMBERED}")

    def records() -> Iterator[Record]:
        for number, (shard, own) in enumerate(zip(paths, shards.labels, strict=True)):
            row = 0
            for group, rows in enumerate(shards.groups(number)):
                for index in range(rows):
                    yield Record(f"{shard} row {row}", int(own[row]), partial(shards.image, number, group, index))
                    row += 1

    return Split(len(labels), len(count), records)
