"""The command ``sample``: draw the images that a run is scored on, and its grid."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from artune.config.run import Evaluation, Run
from artune.data.prompts import class_names
from artune.evaluation.features import Extractor, forget_beside, kept_beside
from artune.models.policies.policy import Policy
from artune.runtime.chunks import Chunks, Writer
from artune.runtime.distributed import ALONE, World
from artune.runtime.files import save_npz, save_npz_rows, sha256
from artune.runtime.progress import Progress
from artune.runtime.seeds import generator_for
from artune.sampling.grids import grid_images
from artune.sampling.rollout import Renderer, roll_out


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
) -> Tensor:
    """Images of chunk ``number`` of the labels, uint8 [b, H, W, 3]; its draws depend on no other chunk."""
    class_ids = draw_labels(run, evaluation).split(evaluation.batch)[number].to(device)
    generator = generator_for(evaluation.seed, run.seed, "sample", number, device=device)
    return roll_out(policy, render, class_ids, run, generator).images.permute(0, 2, 3, 1).contiguous()


def as_rows(arrays: Mapping[str, Tensor]) -> np.ndarray:
    """Arrays [b, ...] of one batch as one structured array [b], whose fields they are."""
    kinds = [(name, value.numpy().dtype.str, tuple(value.shape[1:])) for name, value in arrays.items()]
    rows = np.empty(len(next(iter(arrays.values()))), dtype=kinds)
    for name, value in arrays.items():
        rows[name] = value.numpy()
    return rows


def draw_all(
    numbers: Iterable[int],
    labels: Sequence[Tensor],
    images: Chunks,
    features: Chunks | None,
    draw: Callable[[int], Tensor],
    extractor: Extractor | None,
    done: Callable[[int], None],
) -> None:
    """Draw the chunks ``numbers`` that are not there yet, and take the features of those that have none.

    A chunk is encoded and written while the next one is drawn; its features are taken while it is on the device.
    """
    with Writer() as writer:
        for at in numbers:
            drawn = images.has(at)
            taken = features is None or (drawn and features.has(at))  # features of an image that is gone serve no other
            if drawn and taken:
                done(at)
                continue
            # from a generation that was killed, or by other networks than the features that were taken then
            chunk = torch.from_numpy(images.load(at)) if drawn else draw(at)
            found = [] if drawn else [(images, chunk.cpu().numpy())]
            if features is not None and extractor is not None and not taken:
                found.append((features, as_rows(extractor(chunk, labels[at]))))
            writer.save(at, found)
            done(at)


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
    from artune.sampling.grids import draw_grid  # and matplotlib, which a benchmark does without

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
    extractor: Extractor | None = None,
) -> str:
    """Write ``output`` (npz: ``arr_0`` uint8 [n, H, W, 3] as the ADM evaluator reads it, ``labels``) and ``grid``.

    With an ``extractor`` the features of the images are left beside ``output`` for the command ``features``, which
    then need not read 10 GB again. Whether there is one changes nothing else.

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
        extractor: of features.
    """
    protocol = [evaluation.samples, evaluation.batch, evaluation.seed, evaluation.labels, device.type]
    identity = world.from_leader(" ".join(map(str, [*protocol, *map(sha256, sources if world.leads else [])])))
    chunks, number = Chunks(output.parent / "sampling", identity), -(-evaluation.samples // evaluation.batch)
    if world.leads:
        chunks.clear_others()
    taken = Chunks(output.parent / "sampling_features", f"{identity} {extractor.identity if extractor else ''}")
    features = taken if extractor is not None else None
    if world.leads:
        taken.clear_others()
    progress = Progress(f"sample {run.name}", number, chunks.count())
    draw_all(
        range(world.rank, number, world.size),
        draw_labels(run, evaluation).split(evaluation.batch),
        chunks,
        features,
        lambda at: draw_chunk(run, evaluation, at, policy, render, device),
        extractor,
        lambda at: progress.update(min(at + world.size, number)) if world.leads else None,
    )
    world.wait()
    if not world.leads:
        return ""
    draw_grids(run, evaluation, policy, pretrained, render, grid, device)
    labels = draw_labels(run, evaluation).numpy()
    digest = hashlib.sha256(chunks.digest().encode() + labels.tobytes()).digest()
    forget_beside(output)
    if features is not None and extractor is not None:
        rows = np.concatenate([features.load(at) for at in range(number)])
        arrays = {name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names or ()}
        save_npz(kept_beside(output, digest, extractor.identity), {"labels": labels} | arrays)
    rest = {"labels": labels, "digest": np.frombuffer(digest, np.uint8)}
    save_npz_rows(output, "arr_0", map(chunks.load, range(number)), len(labels), rest)
    chunks.remove()
    taken.remove()
    return f"{output}: {len(labels)} images" + (", features taken" if features is not None else "")
