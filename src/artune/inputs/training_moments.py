"""Moments of the training images: per class, and over all images under a network that the first reference lacks.

The moments per class are the reference of LOO-FID under ``reference: class_matched``; those over all images are its
reference if its network is not the evaluation's (open choices 24, 25).
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from artune.config.run import Data
from artune.data.crops import centre_crops, crop_batches
from artune.data.embedded import load_split
from artune.data.imagenet import open_split, spread
from artune.metrics.fid import RunningMoments
from artune.models.encoders.feature_network import FeatureNetwork
from artune.runtime.files import load_npz, save_npz

BATCH = 128


def training_images(path: Path, data: Data) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the training split: images uint8 [B, 3, H, W] and labels [B]; for ImageNet, ADM's centre crops."""
    if data.embedded:
        yield from zip(*(part.split(BATCH) for part in load_split(path, "train")), strict=True)
        return
    split = spread(open_split(path, data.classes), data.moment_images)
    yield from crop_batches(centre_crops(split, data.image_size), split, BATCH, "class moments")


@torch.no_grad()
def write_class_moments(
    path: Path, data: Data, name: str, network: FeatureNetwork, output: Path, device: torch.device
) -> str:
    """Write ``{name}/mean`` and ``{name}/variance`` [C, D] float64; the variance divides by a class's number of images.

    Args:
        path: data.npz, or ImageNet's training images.
        data: the data set.
        name: name of the network in the registry.
        network: network with ``features``, on ``device``.
        output: npz file to write.
        device: device of the images.

    Raises:
        ArtuneError: a damaged image, or another number of classes.
    """
    sums: list[Tensor] = []
    number = torch.zeros(data.classes, dtype=torch.float64)
    for images, labels in training_images(path, data):
        features = network.features(images.to(device)).double().cpu()
        if not sums:
            sums = [torch.zeros(data.classes, features.shape[1], dtype=torch.float64) for _ in range(2)]
        sums[0].index_add_(0, labels, features)
        sums[1].index_add_(0, labels, features.square())
        number += torch.bincount(labels, minlength=data.classes)
    mean, second = (total / number[:, None] for total in sums)  # float64, as the variance is a difference of these
    arrays = {f"{name}/mean": mean, f"{name}/variance": (second - mean.square()).clamp_min(0), "number": number}
    save_npz(output, {key: value.numpy() for key, value in arrays.items()})
    return f"{output}: {int(number.sum())} images of {int((number > 0).sum())} classes under {name}"


def read_class_moments(path: Path, name: str) -> tuple[Tensor, Tensor]:
    """Mean and variance [C, D] float64 of each class under the network ``name``.

    Raises:
        ArtuneError: the file is missing, damaged, or belongs to another network.
    """
    arrays = load_npz(path, f"{name}/mean", f"{name}/variance")
    return torch.from_numpy(arrays[f"{name}/mean"]), torch.from_numpy(arrays[f"{name}/variance"])


@torch.no_grad()
def write_train_moments(
    path: Path,
    name: str,
    network: FeatureNetwork,
    output: Path,
    device: torch.device,
    side: int = 256,
    classes: int | None = None,
    images: int | None = None,
    batch: int = 128,
) -> str:
    """Write ``train/{name}/{mu,sigma}`` of the training images (ADM's centre crop), the reference of LOO-FID.

    The features themselves are not kept: those of 1.28 million images would fill 10 GB.

    Args:
        path: a split as :func:`artune.data.imagenet.open_split` takes it.
        name: name of the network in the registry.
        network: the network, on ``device``.
        output: npz file to write.
        device: device of the images.
        side: side of the crop, in pixels.
        classes: required number of classes; None accepts any.
        images: number of images, spread evenly over the split; None takes all.
        batch: images per forward pass.

    Raises:
        ArtuneError: a damaged image, which the message names, another number of classes, or more images requested
            than the split has.
    """
    split = spread(open_split(path, classes), images)
    crops = crop_batches(centre_crops(split, side), split, batch, "train_moments")
    return _write_moments(crops, name, network, output, device)


@torch.no_grad()
def write_embedded_moments(
    path: Path, data: Data, name: str, network: FeatureNetwork, output: Path, device: torch.device
) -> str:
    """As :func:`write_train_moments`, of all training images in the data.npz of an embedded source."""
    return _write_moments(training_images(path, data), name, network, output, device)


def _write_moments(
    batches: Iterable[tuple[Tensor, Tensor]], name: str, network: FeatureNetwork, output: Path, device: torch.device
) -> str:
    moments = RunningMoments()
    for images, _ in batches:
        moments.add(network.features(images.to(device)))
    mu, sigma = moments.result()
    save_npz(output, {f"train/{name}/mu": _array(mu), f"train/{name}/sigma": _array(sigma)})
    return f"{output}: moments of {moments.count} training images under {name}"


def _array(moment: Tensor) -> np.ndarray:
    return moment.cpu().numpy()
