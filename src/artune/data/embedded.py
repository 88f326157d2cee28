"""Data sets that lie in one file, data.npz, with splits of their own: writing it, and loading a split."""

import importlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from artune.config.fields import SOURCES
from artune.config.run import Data
from artune.data.classes.labels import class_ids
from artune.data.sources.heap import Heap
from artune.errors import ArtuneError
from artune.runtime.files import load_npz, save_npz
from artune.runtime.seeds import generator_for

SPLITS = ("train", "validation", "heldout")
SIZES = ("train_per_class", "validation_per_class", "heldout_per_class")


def write_data(data: Data, path: Path | str, files: Sequence[Path] = ()) -> str:
    """Write the data set's three disjoint splits to one npz.

    The file holds ``{split}_images`` (uint8 [N, H, W, C], C = 1 for grey images of IDX files, otherwise 3) and
    ``{split}_labels`` (int64 [N], sorted) for the splits train, validation and heldout. The splits depend only on
    ``data`` and ``files``, so every run of a scale uses the same ones.

    Args:
        data: the data set; its source is a module of :mod:`artune.data.sources`.
        path: npz file to write.
        files: the assets of ``data.files``; if a second half of them holds a second set of images, such as the official
            test images, the split heldout is taken from it, otherwise from what the others leave.

    Returns:
        One line that says what was written.

    Raises:
        ArtuneError: a source without embedded images, a class with fewer images than requested, or a file that is not
            what the source reads.
    """
    if not data.embedded:
        known = ", ".join(name for name, source in SOURCES.items() if source.embedded)
        raise ArtuneError(f"data.source: {data.source!r} is not embedded; data.npz can be written of {known}")
    wanted = [getattr(data, size) for size in SIZES]
    sizes = [size for size in wanted if size is not None]
    if len(sizes) < len(wanted):
        raise ArtuneError(f"data: {', '.join(SIZES[:2])} and {SIZES[2]} must all be set")
    heaps = importlib.import_module(f"artune.data.sources.{data.source}").read_heaps(data, list(files))
    parts: list[tuple[Heap, tuple[str, ...], list[int]]] = [(heaps[0], SPLITS, sizes)]
    if len(heaps) > 1:
        parts = [(heaps[0], SPLITS[:2], sizes[:2]), (heaps[1], SPLITS[2:], sizes[2:])]
    arrays: dict[str, np.ndarray] = {}
    for number, (heap, names, own_sizes) in enumerate(parts):
        own = ("data", data.source) if number == 0 else ("data", data.source, "second")
        for name, chosen in zip(names, _cut(heap, data.classes, own_sizes, own), strict=True):
            arrays[f"{name}_images"] = heap.images(chosen)
            arrays[f"{name}_labels"] = heap.labels[chosen].astype(np.int64)
    save_npz(path, {key: arrays[key] for name in SPLITS for key in (f"{name}_images", f"{name}_labels")})
    return "data  " + ", ".join(f"{len(arrays[f'{name}_labels'])} {name}" for name in SPLITS)


def _cut(heap: Heap, classes: int, sizes: Sequence[int], seeds: tuple[str, ...]) -> list[np.ndarray]:
    """Indices of disjoint splits, each with the same number of images of every class: sizes[i] * classes of split i."""
    members: list[list[np.ndarray]] = [[] for _ in sizes]
    for label in range(classes):
        own = np.flatnonzero(heap.labels == label)
        if sum(sizes) > len(own):
            raise ArtuneError(
                f"data: {sum(sizes)} images per class requested, but class {label} has {len(own)}{heap.where}"
            )
        order = torch.randperm(len(own), generator=generator_for(*seeds, label)).numpy()
        for split, part in zip(members, np.split(own[order], np.cumsum(sizes)), strict=False):
            split.append(part)
    return [np.concatenate(split) for split in members]


def load_split(path: Path | str, split: str) -> tuple[Tensor, Tensor]:
    """Images (uint8 [N, 3, H, W]) and labels (int64 [N]) of a split that :func:`write_data` wrote.

    The three channels of a grey data set are one in memory.

    Raises:
        ArtuneError: an unknown split, labels that are not class ids, or a file that is missing or damaged.
    """
    if split not in SPLITS:
        raise ArtuneError(f"split: unknown {split!r}; choose one of {', '.join(SPLITS)}")
    arrays = load_npz(path, f"{split}_images", f"{split}_labels")
    images = torch.from_numpy(arrays[f"{split}_images"]).permute(0, 3, 1, 2).contiguous()
    name = f"{split}_labels"
    labels = torch.from_numpy(class_ids(arrays[name], len(images), None, f"{path}: {name}"))
    return images.expand(-1, 3, -1, -1), labels
