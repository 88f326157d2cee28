"""The command ``sample``: draw the images that a run is scored on, and its grid."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from artune.config import Evaluation, Run
from artune.data import class_names
from artune.figures.samples import draw_grid
from artune.files import save_npz
from artune.models import Policy
from artune.progress import track
from artune.rollout import Renderer, roll_out
from artune.seeds import generator_for


def draw_labels(run: Run, evaluation: Evaluation) -> Tensor:
    """Class ids [n] of the samples: uniform at random (LlamaGen's sampler), or balanced and shuffled.

    They depend on the evaluation's and the run's seed only, so runs of one seed are compared on the same labels.
    """
    n, classes = evaluation.samples, run.data.classes
    generator = generator_for(evaluation.seed, run.seed, "labels")
    if evaluation.labels == "random":
        return torch.randint(classes, (n,), generator=generator)
    return (torch.arange(n) % classes)[torch.randperm(n, generator=generator)]


def draw_samples(
    run: Run, evaluation: Evaluation, policy: Policy, render: Renderer, device: torch.device
) -> Iterator[np.ndarray]:
    """Images of all labels in chunks of ``evaluation.batch``, uint8 [b, H, W, 3]; a chunk's draws are its own."""
    labels = draw_labels(run, evaluation)
    for number, chunk in enumerate(labels.split(evaluation.batch)):
        generator = generator_for(evaluation.seed, run.seed, "sample", number, device=device)
        images = roll_out(policy, render, chunk.to(device), run, generator).images
        yield images.permute(0, 2, 3, 1).cpu().numpy()


def grid_images(
    run: Run,
    class_ids: list[int],
    per_class: int,
    seed: int,
    policy: Policy,
    render: Renderer,
    device: torch.device,
) -> np.ndarray:
    """uint8 [classes, per_class, H, W, 3], the draws of one generator: the same for every policy of a family."""
    labels = torch.tensor(class_ids).repeat_interleave(per_class).to(device)
    generator = generator_for(seed, "grid", device=device)
    images = roll_out(policy, render, labels, run, generator).images.permute(0, 2, 3, 1).cpu().numpy()
    return images.reshape(len(class_ids), per_class, *images.shape[1:])


def sample(
    run: Run,
    evaluation: Evaluation,
    policy: Policy,
    pretrained: Policy | None,
    render: Renderer,
    output: Path,
    grid: Path,
    device: torch.device,
) -> str:
    """Write ``output`` (npz: ``arr_0`` uint8 [n, H, W, 3] as the ADM evaluator reads it, ``labels``) and ``grid``.

    ``pretrained`` stands beside the run's own samples in the grid, drawn with the same seed.
    """
    chunks = -(-evaluation.samples // evaluation.batch)
    images = np.concatenate(
        list(track(draw_samples(run, evaluation, policy, render, device), f"sample {run.name}", chunks))
    )
    ids = list(range(min(evaluation.grid_classes, run.data.classes)))
    columns = [grid_images(run, ids, evaluation.grid_per_class, evaluation.seed, policy, render, device)]
    titles = [run.name]
    if pretrained is not None:
        columns.insert(0, grid_images(run, ids, evaluation.grid_per_class, evaluation.seed, pretrained, render, device))
        titles.insert(0, "pretrained")
    names = class_names(run.data)
    draw_grid(columns, [names[index] for index in ids], titles, f"{run.name}, {run.scale} scale", grid)
    save_npz(output, {"arr_0": images, "labels": draw_labels(run, evaluation).numpy()})
    return f"{output}: {len(images)} images"
