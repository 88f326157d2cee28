"""The class of every image of a data set, by its synset id, or by a file of two columns that maps other names.

A folder, an inner tar or an image may carry the synset id. The order of other names says nothing about the class
(``10`` comes before ``2``, ``ant`` before ``tench``), so a set of other names is refused unless a file maps them.
"""

import functools
import json
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from artune.errors import ArtuneError

IMAGENET = 1000  # number of ImageNet's classes, whose indices are the ranks of their sorted synset ids
SYNSET = re.compile(r"n[0-9]{8}")
# ILSVRC2012's training images are n01440764_10026.JPEG; some copies append the id: ILSVRC2012_val_1_n01440764.JPEG.
IN_A_NAME = re.compile(r"^(n[0-9]{8})_|_(n[0-9]{8})\.[A-Za-z]+$")
SUFFIX = ".classes.tsv"


@functools.cache
def imagenet_synsets() -> Mapping[str, int]:
    """ImageNet's 1,000 synset ids with their class indices."""
    from timm.data import ImageNetInfo

    return {synset: index for index, synset in enumerate(ImageNetInfo("imagenet-1k").label_names())}


def class_file(images: Path) -> Path:
    """The file that maps the names of a data set: ``train.classes.tsv`` beside ``train``, ``train.tar`` or a shard."""
    images = images if images.name not in ("", "..") else Path(os.path.abspath(images))
    return images.with_name(f"{images.stem if images.suffix in ('.tar', '.parquet') else images.name}{SUFFIX}")


@dataclass(frozen=True)
class ClassNames:
    """The names of a data set's classes.

    Args:
        images: the folder or file of the data set.
        classes: number of classes of the data set; None for ImageNet's, of which some may be missing.
        mapped: name -> class index or synset id, as the file beside the data set says, or the settings.
        configured: the names are those of ``data.class_names``, in their order.
    """

    images: Path
    classes: int | None
    mapped: Mapping[str, str] = field(default_factory=dict)
    configured: bool = False

    @classmethod
    def of(cls, images: Path, classes: int | None, names: Sequence[str] = ()) -> "ClassNames":
        """The names of a data set: those of its :func:`class_file` if there is one, otherwise ``names``, if given.

        Raises:
            ArtuneError: the file cannot be read, or a line is not a name and a class.
        """
        path = class_file(images)
        if names and not path.exists():
            return cls(images, classes, {name: str(index) for index, name in enumerate(names)}, configured=True)
        return cls(images, classes, _read_mapping(path, cls(images, classes)) if path.exists() else {})

    def name_of(self, folder: str, image: str) -> str:
        """The name that decides on the class of an image.

        It is the folder or the image if the file maps these, otherwise the synset id in the image's name, otherwise the
        folder.

        Args:
            folder: name of the folder that holds the image, empty if there is none.
            image: name of the image.

        Raises:
            ArtuneError: folder and image carry different synset ids, or there is no name at all.
        """
        for name in (folder, image):
            if name and name in self.mapped:
                return name
        found = IN_A_NAME.search(image)
        own = next((synset for synset in found.groups() if synset and self.is_synset(synset)), "") if found else ""
        if own and folder != own and self.is_synset(folder):
            raise ArtuneError(
                f"{self.images}: {_shown(folder)} holds {_shown(image)}, whose name is that of another class; sort the "
                f"images, or map {_shown(folder)} in {class_file(self.images)} to take all of it for one class"
            )
        if not own and not folder:
            raise ArtuneError(
                f"{self.images}: {_shown(image)} has no synset in its name and no folder; sort the images by synset, "
                f"or map them in {class_file(self.images)}: two columns, the image's name and its synset id (the "
                "numbers in ILSVRC2012_validation_ground_truth.txt are in another order)"
            )
        return own or folder

    @property
    def of_imagenet(self) -> bool:
        """Whether the class indices are ImageNet's own."""
        return self.classes in (None, IMAGENET)

    def is_synset(self, name: str) -> bool:
        """Whether a name is a synset id: one of ImageNet's 1,000, or in a data set of other classes any."""
        return name in imagenet_synsets() if self.of_imagenet else bool(SYNSET.fullmatch(name))

    def indices(self, names: Iterable[str]) -> dict[str, int]:
        """The class index of every name.

        ImageNet's classes have their own indices. A data set of another number of classes numbers its synset ids in
        sorted order, unless the file gives indices.

        Raises:
            ArtuneError: a name is neither a synset id nor mapped, or the file maps a name that does not occur.
        """
        given, where, file = set(names), self.images, class_file(self.images)
        if self.configured and given != self.mapped.keys():
            odd = sorted(given - self.mapped.keys())
            wrong = (
                f"{_listed(odd)}: not in" if odd else f"no images of {_listed(sorted(self.mapped.keys() - given))}, of"
            )
            raise ArtuneError(f"{where}: {wrong} data.class_names; rename the folder, or map all names in {file}")
        if lost := sorted(self.mapped.keys() - given):
            raise ArtuneError(f"{file}: {_listed(lost)}: not in {where}; correct the name, or remove the line")
        if unknown := sorted(name for name in given if name not in self.mapped and not self.is_synset(name)):
            expected = "synset id of ImageNet's 1,000 classes" if self.of_imagenet else "synset id"
            raise ArtuneError(
                f"{where}: {_listed(unknown)}: no {expected} (such as n01440764), so the class is not known; rename "
                f"it, or map it in {file}: two columns, the name and its class index or synset id"
            )
        targets = {name: self.mapped.get(name, name) for name in given}
        if self.of_imagenet:
            known = imagenet_synsets()
            return {name: known[target] if target in known else int(target) for name, target in targets.items()}
        synsets = sorted({target for target in targets.values() if self.is_synset(target)})
        if synsets and len(synsets) < len(set(targets.values())):
            raise ArtuneError(
                f"{file}: gives indices to some classes and synset ids to others, but {self.classes} classes have no "
                "order of their own; give an index to every name"
            )
        return {name: synsets.index(target) if synsets else int(target) for name, target in targets.items()}

    def of_label_column(self, number: int, metadata: Sequence[Mapping[bytes, bytes] | None]) -> list[int]:
        """The class index of each label 0 to ``number`` - 1 of parquet shards.

        The datasets library keeps the labels' names in a shard's metadata. Names of ImageNet's classes, their synset
        ids or words, in whatever order, decide; without names a label is the class index.

        Raises:
            ArtuneError: shards name their labels differently, or a name of a class of ImageNet is not known.
        """
        found = [_label_names(schema) for schema in metadata]
        if any(names != found[0] for names in found):
            raise ArtuneError(f"{self.images}: its shards name their labels differently; use those of one data set")
        names = found[0] or [str(label) for label in range(number)] if self.mapped or found[0] else None
        if names is None or (self.configured and not found[0]):
            return list(range(number))
        if len(names) < number or len(set(names)) < len(names):
            raise ArtuneError(f"{self.images}: its metadata name {len(set(names))} labels, but there are {number}")
        names = names[:number]
        if self.mapped or all(map(self.is_synset, names)):
            indices = self.indices(names)
            return [indices[name] for name in names]
        if not self.of_imagenet:
            return list(range(number))  # a data set of its own, whose labels are its class indices
        return self._by_words(names)

    def _by_words(self, names: Sequence[str]) -> list[int]:
        """The class index of each name, which is one or all of a class's words; a word of two classes tells nothing."""
        words = _imagenet_words()
        if all(index in words.get(_plain(name), ()) for index, name in enumerate(names)):
            return list(range(len(names)))
        if unknown := [name for name in names if len(words.get(_plain(name), ())) != 1]:
            raise ArtuneError(
                f"{self.images}: {_listed(unknown)}: its labels have a name that is not that of one class of ImageNet; "
                f"map all names in {class_file(self.images)}: two columns, the name and its class index or synset id"
            )
        return [next(iter(words[_plain(name)])) for name in names]

    def check_number(self, indices: Collection[int]) -> None:
        """Raise an ArtuneError if the indices are those of another number of classes."""
        if self.classes is None or len(set(indices)) == self.classes:
            return
        message = f"{self.images}: holds {len(set(indices))} classes, not {self.classes}; "
        if not self.of_imagenet:
            raise ArtuneError(f"{message}the class indices would be wrong")
        absent = [synset for synset, index in imagenet_synsets().items() if index not in set(indices)]
        raise ArtuneError(f"{message}missing: {_listed(absent)}")


def _read_mapping(path: Path, names: ClassNames) -> dict[str, str]:
    """Name -> class index or synset id from a file of two columns, without empty lines and lines that begin with #."""
    classes = names.classes or IMAGENET
    if not path.is_file():
        raise ArtuneError(f"{path}: not a file; write two columns, a name and its class index or synset id")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtuneError(f"{path}: cannot be read ({error}); write two columns in UTF-8") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, target = (part.strip() for part in line.strip().rpartition("\t" if "\t" in line.strip() else " "))
        name = name.rstrip("/")
        if not name:
            raise ArtuneError(
                f"{path} line {number}: needs two columns, a name and its class index or synset id, separated by a tab "
                "or a space"
            )
        if name in found:
            raise ArtuneError(f"{path} line {number}: {_shown(name)} a second time; keep one line for each name")
        index = target.isascii() and target.isdigit()
        if not (index and len(target) < 8 and int(target) < classes) and not names.is_synset(target):
            order, source = (
                (" in the order of the sorted synset ids", " of ImageNet") if names.of_imagenet else ("", "")
            )
            raise ArtuneError(
                f"{path} line {number}: {_shown(target)} is neither a class index 0 to {classes - 1}{order} nor a "
                f"synset id{source}"
            )
        found[name] = str(int(target)) if index else target
    return found


def _label_names(metadata: Mapping[bytes, bytes] | None) -> list[str] | None:
    """The names of the labels in a shard's metadata, as the datasets library writes them; None without them."""
    try:
        feature = json.loads((metadata or {})[b"huggingface"])["info"]["features"]["label"]
        names = feature["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return list(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


@functools.cache
def _imagenet_words() -> Mapping[str, set[int]]:
    """Words that may stand for a class of ImageNet, with the classes: all its words, the first, torchvision's name."""
    from timm.data import ImageNetInfo
    from torchvision.models import Inception_V3_Weights

    info, found = ImageNetInfo("imagenet-1k"), defaultdict(set)
    categories = Inception_V3_Weights.IMAGENET1K_V1.meta["categories"]
    for synset, index in imagenet_synsets().items():
        every = info.label_name_to_description(synset)
        for words in (every, every.split(",")[0], categories[index]):
            found[_plain(words)].add(index)
    return dict(found)


def _plain(words: str) -> str:
    return " ".join(words.replace("_", " ").casefold().split())


def _listed(names: Sequence[str]) -> str:
    return _shown(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _shown(name: str) -> str:
    """A name as it may stand in a message of one line."""
    short = name if len(name) <= 80 else f"{name[:77]}..."
    return short if short.isprintable() else ascii(short)
