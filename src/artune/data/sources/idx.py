"""Images and labels in IDX files, the format of MNIST and of the sets that were made to take its place."""

from pathlib import Path

from artune.config.run import Data
from artune.data.classes.labels import class_ids
from artune.data.reading.idx import read_idx
from artune.data.sources.heap import Heap
from artune.errors import ArtuneError


def read_heaps(data: Data, files: list[Path]) -> list[Heap]:
    """A heap of grey images, uint8 [n, H, W, 1], from every two files: images, then their labels.

    Raises:
        ArtuneError: a file is no whole IDX file of bytes, the images have another side than ``data.image_size``, or the
            labels are not as many, or no class ids.
    """
    return [_heap(data, images, labels) for images, labels in zip(files[::2], files[1::2], strict=True)]


def _heap(data: Data, path: Path, labels_path: Path) -> Heap:
    images, labels = read_idx(path, 3), read_idx(labels_path, 1)
    if images.shape[1:] != (data.image_size, data.image_size):
        height, width = images.shape[1:]
        raise ArtuneError(f"{path}: images of {height} x {width} pixels; set data.image_size to their side, if square")
    found = class_ids(labels, len(images), data.classes, str(labels_path))
    return Heap(found, lambda chosen: images[chosen, :, :, None], f" in {labels_path}")
