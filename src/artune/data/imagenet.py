"""Reads the images of an ImageNet split, stored as synset folders, a tar file or parquet shards."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from artune.data.classes.folders import ClassNames, class_file
from artune.data.reading.images import MOST_BYTES, is_image
from artune.data.reading.shards import UNNUMBERED, Shards
from artune.data.reading.tars import Member, members
from artune.errors import ArtuneError
from artune.runtime.outside.regular import open_regular, read_regular


@dataclass(frozen=True)
class Record:
    """One image, not read yet; errors call it ``name``, and ``label`` is its class index."""

    name: str
    label: int
    read: Callable[[], bytes]


@dataclass(frozen=True)
class Split:
    """A split: number of images (None for a tar of tars), number of classes, and an iterator by class."""

    size: int | None
    classes: int
    records: Callable[[], Iterator[Record]]


def open_split(path: Path, classes: int | None = None, names: Sequence[str] = ()) -> Split:
    """A split of ImageNet, or of a data set in the same forms.

    Class indices come from synset ids, or from a file of two columns beside the split that maps other names
    (:mod:`artune.data.classes.folders`); in a parquet file they are its ``label`` column.

    Args:
        path: a folder of synset folders; a tar of such folders, of files ``n01440764_1.JPEG``, or of one tar per
            synset (as image-net.org serves the training set); a parquet file or a folder of them.
        classes: required number of classes; None accepts any subset of ImageNet's.
        names: the names of a data set's own classes, in their order, in place of synset ids.

    Raises:
        ArtuneError: the path is none of these, is damaged, has another number of classes, or has names whose class is
            not known.
    """
    if not path.exists():
        raise ArtuneError(f"{path}: no such file or folder; put the images there (see `artune assets`)")
    shards = sorted(path.glob("*.parquet")) if path.is_dir() else [path] if path.suffix == ".parquet" else []
    known = ClassNames.of(path, classes, names)
    return _parquet(shards, known) if shards else _folder(known) if path.is_dir() else _tar(known)


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


def _folder(names: ClassNames) -> Split:
    path = names.images
    folders = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    inside = {folder: sorted(filter(is_image, os.listdir(path / folder))) for folder in folders}
    loose = [name for name in sorted(filter(is_image, os.listdir(path))) if not (path / name).is_dir()]
    if not folders:
        inside = {"": loose}  # no class folders; the images' own names may do
    elif loose:
        raise ArtuneError(f"{path / loose[0]}: an image beside class folders; move it into the folder of its class")
    if inside == {"": []}:
        raise ArtuneError(f"{path}: has neither synset folders (n01440764, ...) nor parquet shards; sort the images")
    if empty := [folder for folder, images in inside.items() if not images]:
        place = path / empty[0]
        if any(entry.is_dir() for entry in place.iterdir()):
            raise ArtuneError(
                f"{place}: has no images, only folders; images lie directly in the folder of their class, such as "
                f"{path.name}/n01440764/n01440764_1.JPEG; move them there"
            )
        raise ArtuneError(f"{place}: has no images; put them there, or remove the folder")
    found = [(names.name_of(folder, image), path / folder / image) for folder in inside for image in inside[folder]]
    labels = names.indices(name for name, _ in found)
    names.check_number(labels.values())
    records = [Record(str(file), labels[name], partial(read_regular, file, MOST_BYTES)) for name, file in found]
    records.sort(key=lambda record: record.label)  # stable: the images of a class stay in the order of their names
    return Split(len(records), len(set(labels.values())), lambda: iter(records))


def _tar(names: ClassNames) -> Split:
    path = names.images
    found = [member for member in members(path) if is_image(member.name) or member.name.endswith(".tar")]
    nested = sorted((member for member in found if member.name.endswith(".tar")), key=lambda member: member.name)
    if not found or (nested and len(nested) < len(found)):
        raise ArtuneError(f"{path}: must hold images, or one tar per synset; fetch it again")

    def record(member: Member, label: int) -> Record:
        return Record(f"{path}: {member.name}", label, partial(_read_member, path, member))

    if nested:
        return _tar_of_tars(names, nested, record)
    by_name = sorted((_class_name(names, member), member.name, member.offset, member.size) for member in found)
    _require_one_split(names, ((name, Path(member)) for name, member, *_ in by_name))
    labels = names.indices(name for name, *_ in by_name)
    names.check_number(labels.values())
    by_name.sort(key=lambda named: labels[named[0]])
    records = [record(Member(member, offset, size), labels[name]) for name, member, offset, size in by_name]
    return Split(len(records), len(set(labels.values())), lambda: iter(records))


def _class_name(names: ClassNames, member: Member) -> str:
    return names.name_of(Path(member.name).parent.name, Path(member.name).name)


def _require_one_split(names: ClassNames, members: Iterable[tuple[str, Path]]) -> None:
    """Refuse a class in several places of a tar, such as ``train/n01440764`` and ``val/n01440764``."""
    places: dict[str, Path] = {}
    for name, member in members:
        place = member.parent.parent if member.parent.name == name else member.parent
        first = places.setdefault(name, place)
        if first != place and name not in names.mapped:
            raise ArtuneError(
                f"{names.images}: {name} lies in {first} and in {place}; pack one split alone, or map {name} in "
                f"{class_file(names.images)} to take all of it for one class"
            )


def _tar_of_tars(names: ClassNames, nested: list[Member], record: Callable[[Member, int], Record]) -> Split:
    stems = {inner: Path(inner.name).stem for inner in nested}
    _require_one_split(names, ((stem, Path(inner.name)) for inner, stem in stems.items()))
    labels = names.indices(stems.values())
    names.check_number(labels.values())

    def from_tars() -> Iterator[Record]:
        for inner in sorted(nested, key=lambda inner: labels[stems[inner]]):
            images = 0
            for member in members(names.images, inner):
                if is_image(member.name):
                    images += 1
                    names.name_of(stems[inner], Path(member.name).name)  # refuses an image of another class
                    yield record(member, labels[stems[inner]])
            if not images:
                raise ArtuneError(f"{names.images}: {inner.name} has no images; fetch it again")

    return Split(None, len(set(labels.values())), from_tars)


def _read_member(path: Path, member: Member) -> bytes:
    if member.size > MOST_BYTES:
        raise ArtuneError(
            f"{path}: {member.name} has {member.size:,} bytes, more than the {MOST_BYTES:,} that are read"
        )
    with open_regular(path) as handle:
        handle.seek(member.offset)
        return handle.read(member.size)


def _parquet(paths: list[Path], names: ClassNames) -> Split:
    path = names.images
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
    indices = names.of_label_column(len(count), [file.schema_arrow.metadata for file in shards.files])
    names.check_number(indices)

    def records() -> Iterator[Record]:
        for number, (shard, own) in enumerate(zip(paths, shards.labels, strict=True)):
            row = 0
            for group, rows in enumerate(shards.groups(number)):
                for index in range(rows):
                    yield Record(
                        f"{shard} row {row}", indices[int(own[row])], partial(shards.image, number, group, index)
                    )
                    row += 1

    return Split(len(labels), len(count), records)
