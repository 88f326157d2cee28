"""Images in folders that are named as the classes; a tar of such folders, or parquet shards."""

from pathlib import Path

import numpy as np

from artune.config.run import Data
from artune.data.crops import centre_crop, load_images
from artune.data.imagenet import Record, Split, open_split
from artune.data.prompts import class_names
from artune.data.sources.heap import Heap
from artune.runtime.progress import track


def read_heaps(data: Data, files: list[Path]) -> list[Heap]:
    """A heap of images from every file: ADM's centre crop at ``data.image_size``, in three channels.

    The folder of a class has its name from ``data.class_names``, unless a file beside the images maps the names
    (:mod:`artune.data.classes.folders`). Only the images that are taken are decoded.

    Raises:
        ArtuneError: a folder of another name, a class without a folder, or a damaged image.
    """
    names = class_names(data)
    return [_heap(path, names, data.image_size) for path in files]


def _heap(path: Path, names: tuple[str, ...], side: int) -> Heap:
    records = list(open_split(path, len(names), names).records())

    def images(chosen: np.ndarray) -> np.ndarray:
        taken: list[Record] = [records[index] for index in chosen]
        split = Split(len(taken), len(names), lambda: iter(taken))
        crops = load_images(split, lambda image: np.asarray(centre_crop(image, side)))
        return np.stack([crop for crop, _ in track(crops, f"data {path.name}", len(taken))])

    return Heap(np.array([record.label for record in records]), images, f" in {path}")
