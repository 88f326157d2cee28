"""Images of an npz, a folder or a tar, read batch by batch, with their labels and captions."""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from artune.data.classes.folders import IMAGENET, imagenet_synsets
from artune.data.classes.labels import class_ids, read_labels
from artune.data.crops import load_images, open_image
from artune.data.digests import files_in
from artune.data.imagenet import Record, Split
from artune.data.npz_images import image_rows
from artune.data.reading.images import MOST_BYTES, is_image
from artune.data.reading.tars import Member, members
from artune.errors import ArtuneError, brief
from artune.runtime.files import load_npz, npz_rows, npz_shape
from artune.runtime.outside.regular import open_regular, read_regular

HEAD = 16  # bytes by which formats are told apart
MOST_TEXT = 2**26  # bytes of a file of labels or captions
PIXELS = "pixels"  # format of the images of an npz
PACKED = (".gz", ".tgz", ".zip", ".bz2", ".xz", ".7z", ".zst")


@dataclass(frozen=True)
class ImageSet:
    """Images of one size that are not read yet; they are in the order of the npz, or of the sorted names."""

    path: Path
    count: int
    names: tuple[str, ...]  # of the images in a folder or tar; empty for an npz
    records: Callable[[], Iterator[Record]] | None  # the images of a folder or tar
    head: Callable[[int], bytes] | None  # the first bytes of an image of a folder or tar

    def facts(self) -> dict[str, object]:
        """``size`` [height, width] of the first image, and ``formats``, the number of images of each.

        Raises:
            ArtuneError: the first image is damaged, or the pixels of an npz are not uint8.
        """
        if self.records is None or self.head is None:
            require_uint8(self.path)
            return {"size": list(npz_shape(self.path, "arr_0")[1:3]), "formats": {PIXELS: self.count}}
        first = open_image(next(self.records()))
        formats = Counter(format_of(self.head(at)) for at in range(self.count))
        return {"size": [first.height, first.width], "formats": dict(formats)}

    def batches(self, batch: int, size: Sequence[int], start: int = 0) -> Iterator[np.ndarray]:
        """The images from batch ``start`` on, uint8 [b, H, W, 3].

        Raises:
            ArtuneError: one is damaged or not of ``size`` [height, width].
        """
        if self.records is None:
            yield from itertools.islice(image_rows(self.path, batch), start, None)
            return
        split = Split(self.count, 1, self.records)
        waiting: list[np.ndarray] = []
        for at, (image, _) in enumerate(load_images(split, np.asarray, start * batch), start * batch):
            if list(image.shape[:2]) != list(size):
                (height, width), (first_height, first_width) = image.shape[:2], size
                raise ArtuneError(
                    f"{self.path}: {self.names[at]} has {width} x {height} pixels, {self.names[0]} has {first_width} x "
                    f"{first_height}; scores need images of one size, resized by whoever made them"
                )
            waiting.append(image)
            if len(waiting) == batch or at + 1 == self.count:
                yield np.stack(waiting)
                waiting = []


def open_images(path: Path) -> ImageSet:
    """The images of an npz (``arr_0``, as ADM's), a folder with folders in it, or an uncompressed tar.

    Raises:
        ArtuneError: it is none of these, is damaged, or holds no images.
    """
    if not path.exists():
        raise ArtuneError(f"{path}: no such file or folder")
    if path.suffix.lower() in PACKED:
        raise ArtuneError(f"{path}: compressed; unpack it, to a folder or an uncompressed tar")
    if path.is_dir():
        return _folder(path)
    with open_regular(path) as handle:
        if handle.read(2) != b"PK":
            return _tar(path)
    shape = npz_shape(path, "arr_0")
    if len(shape) != 4 or not shape[0]:
        raise ArtuneError(f"{path}: arr_0 has the shape {list(shape)}; images are uint8 [n, H, W, 3]")
    return ImageSet(path, shape[0], (), None, None)


def _folder(path: Path) -> ImageSet:
    shown = (pair for pair in files_in(path) if is_image(pair[0]) and not re.search(r"(^|/)\.", pair[0]))
    found = sorted(shown, key=lambda pair: pair[0])
    _require_images(path, found)

    def head(at: int) -> bytes:
        with open_regular(found[at][1]) as handle:
            return handle.read(HEAD)

    def records() -> Iterator[Record]:
        for _, file in found:
            yield Record(str(file), 0, partial(read_regular, file, MOST_BYTES))

    return ImageSet(path, len(found), tuple(name for name, _ in found), records, head)


def _tar(path: Path) -> ImageSet:
    found = sorted((member for member in members(path) if is_image(member.name)), key=lambda member: member.name)
    _require_images(path, found)

    def part(member: Member, size: int) -> bytes:
        if size > MOST_BYTES:
            raise ArtuneError(f"{path}: {member.name} has {size:,} bytes, more than the {MOST_BYTES:,} that are read")
        with open_regular(path) as handle:
            handle.seek(member.offset)
            return handle.read(size)

    def records() -> Iterator[Record]:
        for member in found:
            yield Record(f"{path}: {member.name}", 0, partial(part, member, member.size))

    names = tuple(member.name.removeprefix("./") for member in found)
    return ImageSet(path, len(found), names, records, lambda at: part(found[at], min(HEAD, found[at].size)))


def _require_images(path: Path, found: Sequence[object]) -> None:
    if not found:
        raise ArtuneError(f"{path}: holds no images (JPEG, PNG or WebP)")


def format_of(head: bytes) -> str:
    """Format of an image by its first 16 bytes; of WebP only a file that is plainly lossless counts as that."""
    if head.startswith(b"\xff\xd8"):
        return "JPEG"
    if head.startswith(b"\x89PNG"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "lossless WebP" if head[12:16] == b"VP8L" else "WebP"
    return "another format"


def require_uint8(path: Path) -> None:
    """Refuse images of an npz that are not uint8 [n, H, W, 3]; of floats the message says how to convert them.

    Raises:
        ArtuneError: they are of another type or shape.
    """
    rows = next(npz_rows(path, "arr_0", 16))
    if rows.dtype.kind == "f" and rows.size and np.isfinite(rows).all():
        low, high = float(rows.min()), float(rows.max())
        how = "(x + 1) * 127.5" if low < 0 else "x * 255" if high <= 1 else "x"
        raise ArtuneError(
            f"{path}: arr_0 holds {rows.dtype} from {low:.3g} to {high:.3g}, and how floats are rounded changes the "
            f"scores; store uint8, such as np.clip(np.rint({how}), 0, 255).astype(np.uint8)"
        )
    if rows.dtype != np.uint8 or rows.ndim != 4 or rows.shape[-1] != 3:
        raise ArtuneError(f"{path}: arr_0 must be uint8 [n, H, W, 3], not {rows.dtype} {list(rows.shape)}")


def labels_of(images: ImageSet, file: Path | None, classes: int) -> np.ndarray | None:
    """Class ids int64 [n] from ``file``, from the npz itself or from the folders' names; None if none says them.

    Folders are named by class ids or, for ImageNet's 1,000 classes, by synset ids.

    Raises:
        ArtuneError: the file does not fit the images, or its labels are no class ids.
    """
    if file is not None:
        if file.suffix == ".npz":
            return class_ids(load_npz(file, "labels")["labels"], images.count, classes, f"{file}: labels")
        texts = lines_of(file, images, "labels")
        if bad := next((text for text in texts if not re.fullmatch(r"\d{1,9}", text)), None):
            raise ArtuneError(f"{file}: {brief(bad)} is no class id; write integers from 0 to {classes - 1}")
        return class_ids(np.array(texts, dtype=np.int64), images.count, classes, str(file))
    if images.records is None:
        return read_labels(images.path, images.count, classes)
    folders = [name.split("/")[-2] if "/" in name else "" for name in images.names]
    known: Mapping[str, int] = {str(at): at for at in range(classes)}
    if classes == IMAGENET and all(re.fullmatch(r"n\d{8}", name) for name in set(folders)):
        known = imagenet_synsets()
    return np.array([known[name] for name in folders]) if set(folders) <= known.keys() else None


def lines_of(file: Path, images: ImageSet, what: str) -> list[str]:
    """One text per image from a file of one a line, in the images' order, or of two columns: name, tab, text.

    Raises:
        ArtuneError: the file cannot be read, or its lines are not those of the images.
    """
    try:
        lines = read_regular(file, MOST_TEXT).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ArtuneError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    pairs = [line.partition("\t") for line in lines if line.strip()]
    if images.names and pairs and all(tab for _, tab, _ in pairs):
        given = {name: text.strip() for name, _, text in pairs}
        if lacking := next((name for name in images.names if name not in given), None):
            raise ArtuneError(f"{file}: has no {what} for {brief(lacking)}; write its name, a tab and the text")
        return [given[name] for name in images.names]
    if len(pairs) != images.count:
        raise ArtuneError(f"{file}: {len(pairs)} lines, but {images.path} has {images.count} images")
    return ["".join(pair).strip() for pair in pairs]
