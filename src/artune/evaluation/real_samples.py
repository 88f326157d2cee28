"""Real images in place of samples: the scores of a run of method ``real``, which generates nothing."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from artune.config.run import Evaluation, RealRun
from artune.data.crops import centre_crop, load_images
from artune.data.embedded import load_split
from artune.data.imagenet import Split, open_split
from artune.data.prompts import class_names
from artune.errors import ArtuneError
from artune.runtime.files import save_npz
from artune.runtime.progress import track
from artune.runtime.seeds import generator_for
from artune.sampling.grids import draw_grid


def choose(labels: Tensor, n: int, how: str, generator: torch.Generator) -> Tensor:
    """Choose ``n`` images without repetition, in random order: indices [n] into labels [N].

    Args:
        labels: class ids.
        n: number of images.
        how: ``balanced`` takes the same number of each class, ``random`` ignores the classes.
        generator: generator of the draw.

    Raises:
        ArtuneError: there are not enough images.
    """
    order = torch.randperm(len(labels), generator=generator)
    if how == "balanced":
        kinds = labels.unique()
        each = n // len(kinds)
        own = [order[labels[order] == kind][:each] for kind in kinds]
        order = torch.cat(own)
        order = order[torch.randperm(len(order), generator=generator)]
    if len(order) < n:
        raise ArtuneError(f"evaluation.samples: {n} {how} images asked for, but there are {len(order)} to take from")
    return order[:n]


def chosen_images(run: RealRun, evaluation: Evaluation, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, H, W, 3] and their labels [n], drawn with the seeds of the evaluation and the run.

    Args:
        run: a run of method ``real``.
        evaluation: settings of the evaluation: the number of images, and whether the classes are balanced.
        path: data.npz, or a split of ImageNet, whose images get ADM's centre crop.

    Raises:
        ArtuneError: there are not enough images, or an image is damaged.
    """
    generator = generator_for(evaluation.seed, run.seed, "real")
    if run.data.embedded:
        images, labels = load_split(path, run.images)
        chosen = choose(labels, evaluation.samples, evaluation.labels, generator)
        return images[chosen].permute(0, 2, 3, 1).numpy(), labels[chosen].numpy()
    split, side = open_split(path, run.data.classes), run.data.image_size
    labels = torch.tensor([record.label for record in split.records()])
    chosen = choose(labels, evaluation.samples, evaluation.labels, generator)
    places = {int(index): place for place, index in enumerate(chosen)}
    wanted = Split(
        len(chosen), split.classes, lambda: (item for at, item in enumerate(split.records()) if at in places)
    )
    crops = load_images(wanted, lambda image: np.asarray(centre_crop(image, side)))
    images = np.empty((len(chosen), side, side, 3), np.uint8)
    for index, (crop, _) in zip(sorted(places), track(crops, f"crop {run.name}", len(chosen)), strict=True):
        images[places[index]] = crop
    return images, labels[chosen].numpy()


def write_real_samples(run: RealRun, evaluation: Evaluation, path: Path, output: Path, grid: Path) -> str:
    """Write ``output`` and ``grid`` as :func:`artune.evaluation.samples.sample` does.

    Raises:
        ArtuneError: see :func:`chosen_images`.
    """
    images, labels = chosen_images(run, evaluation, path)
    names, columns = class_names(run.data), evaluation.grid_per_class
    ids = [label for label in range(run.data.classes) if (labels == label).sum() >= columns][: evaluation.grid_classes]
    if not ids:
        raise ArtuneError(f"evaluation.grid_per_class: no class has {columns} of the {len(images)} images")
    block = np.stack([images[labels == label][:columns] for label in ids])
    draw_grid([block], [names[label] for label in ids], [run.name], grid)
    save_npz(output, {"arr_0": images, "labels": labels})
    return f"{output}: {len(images)} real images of {run.images}"
