"""Moments of ImageNet's training images under a network that ADM's reference file has none of (open choices 24, 25)."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from artune.data.crops import centre_crop, load_images
from artune.data.imagenet import open_split, spread
from artune.metrics.fid import RunningMoments
from artune.official import FeatureNetwork
from artune.runtime.files import save_npz
from artune.runtime.progress import Progress


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
    """Write ``train/{name}/{mu,sigma}`` of the training images (ADM's centre crop), what LOO-FID compares with.

    The features themselves are not kept: those of 1.28 million images would fill 10 GB.

    Args:
        path: a split as :func:`artune.data.imagenet.open_split` takes it.
        name: of the network in the registry.
        network: on ``device``.
        output: npz.
        device: where the images are put.
        side: of the crop, pixels.
        classes: how many there must be.
        images: take this many, spread evenly over the split; None takes all.
        batch: images a forward.

    Raises:
        ArtuneError: a damaged image (one line that names it), another number of classes, or more images asked for
            than there are.
    """
    split = spread(open_split(path, classes), images)
    moments, crops = RunningMoments(), []
    progress = Progress("train_moments", split.size or split.classes)

    def take() -> None:
        pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).to(device)
        moments.add(network.features(pixels))
        crops.clear()

    for number, (crop, label) in enumerate(load_images(split, lambda image: np.asarray(centre_crop(image, side))), 1):
        crops.append(crop)
        if len(crops) == batch:
            take()
        progress.update(number if split.size else label)
    if crops:
        take()
    mu, sigma = moments.result()
    save_npz(output, {f"train/{name}/mu": _array(mu), f"train/{name}/sigma": _array(sigma)})
    return f"{output}: moments of {moments.count} training images under {name}"


def _array(moment: Tensor) -> np.ndarray:
    return moment.cpu().numpy()
