"""The command ``sample``: draw the images that a run is scored on, and its grid."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from artune.chunks import Chunks
from artune.config import Evaluation, Run
from artune.data import class_names
from artune.distributed import ALONE, World
from artune.figures.samples import draw_grid
from artune.files import save_npz_rows, sha256
from artune.models import Policy
from artune.progress import Progress
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


def draw_chunk(
    run: Run, evaluation: Evaluation, number: int, policy: Policy, render: Renderer, device: torch.device
) -> np.ndarray:
    """Images of chunk ``number`` of the labels, uint8 [b, H, W, 3]; its draws depend on no other chunk."""
    class_ids = draw_labels(run, evaluation).split(evaluation.batch)[number].to(device)
    generator = generator_for(evaluation.seed, run.seed, "sample", number, device=device)
    images = roll_out(policy, render, class_ids, run, generator).images
    return images.permute(0, 2, 3, 1).cpu().numpy()


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


def draw_grids(
    run: Run,
    evaluation: Evaluation,
    policy: Policy,
    pretrained: Policy | None,
    render: Renderer,
    path: Path,
    device: torch.device,
) -> None:
    """The run's samples, and beside them the pretrained policy's of the same seed."""
    ids = list(range(min(evaluation.grid_classes, run.data.classes)))
    columns = [grid_images(run, ids, evaluation.grid_per_class, evaluation.seed, policy, render, device)]
    titles = [run.name]
    if pretrained is not None:
        columns.insert(0, grid_images(run, ids, evaluation.grid_per_class, evaluation.seed, pretrained, render, device))
        titles.insert(0, "pretrained")
    names = class_names(run.data)
    draw_grid(columns, [names[index] for index in ids], titles, f"{run.name}, {run.scale} scale", path)


def sample(
    run: Run,
    evaluation: Evaluation,
    policy: Policy,
    pretrained: Policy | None,
    render: Renderer,
    sources: Sequence[Path],
    output: Path,
    grid: Path,
    device: torch.device,
    world: World = ALONE,
) -> str:
    """Write ``output`` (npz: ``arr_0`` uint8 [n, H, W, 3] as the ADM evaluator reads it, ``labels``) and ``grid``.

    The processes draw the chunks in turn; finished ones lie beside ``output`` until it is written, so a killed
    command goes on from them. The file is the same for any number of processes and of kills.

    Args:
        run, evaluation: what is drawn.
        policy, pretrained: the latter stands beside the run's own samples in the grid.
        render: tokens to images.
        sources: the files behind these; chunks drawn from others are not taken up.
        output, grid: files to write.
        device: where to draw.
        world: the processes; rank 0 writes.
    """
    protocol = [evaluation.samples, evaluation.batch, evaluation.seed, evaluation.labels, device.type]
    identity = world.from_leader(" ".join(map(str, [*protocol, *map(sha256, sources if world.leads else [])])))
    chunks, number = Chunks(output.parent / "sampling", identity), -(-evaluation.samples // evaluation.batch)
    if world.leads:
        chunks.clear_others()
    progress = Progress(f"sample {run.name}", number, chunks.count())
    for at in range(world.rank, number, world.size):
        if not chunks.has(at):
            chunks.save(at, draw_chunk(run, evaluation, at, policy, render, device))
            if world.leads:
                progress.update(chunks.count())
    world.wait()
    if not world.leads:
        return ""
    draw_grids(run, evaluation, policy, pretrained, render, grid, device)
    labels = draw_labels(run, evaluation).numpy()
    save_npz_rows(output, "arr_0", map(chunks.load, range(number)), len(labels), {"labels": labels})
    chunks.remove()
    return f"{output}: {len(labels)} images"
