"""The command ``sample``: draw the images for a run's scores, and its grid of samples."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from artune.config.run import Evaluation, PolicyRun
from artune.data.prompts import class_names
from artune.evaluation.features import Extractor, forget_beside, kept_beside
from artune.models.policies.policy import Policy
from artune.runtime.chunks import Chunks, Writer
from artune.runtime.distributed import ALONE, World
from artune.runtime.files import save_npz, save_npz_rows, sha256
from artune.runtime.progress import Progress
from artune.runtime.seeds import generator_for
from artune.sampling.generate import Sampler
from artune.sampling.grids import draw_grid, grid_images
from artune.sampling.rollout import Renderer, roll_out


def draw_labels(evaluation: Evaluation, classes: int, seed: int) -> Tensor:
    """Class ids [n] of the samples: uniform at random (LlamaGen's sampler), or balanced and shuffled.

    They depend only on the seeds of the evaluation and the run, so runs of one seed are compared on the same labels.

    Args:
        evaluation: settings of the evaluation: the number of samples, and the choice of their classes.
        classes: number of classes of the data set.
        seed: seed of the run.
    """
    n = evaluation.samples
    generator = generator_for(evaluation.seed, seed, "labels")
    if evaluation.labels == "random":
        return torch.randint(classes, (n,), generator=generator)
    return (torch.arange(n) % classes)[torch.randperm(n, generator=generator)]


@dataclass(frozen=True)
class Drawing:
    """Draws the images of a run chunk by chunk; the draws of a chunk depend on no other chunk."""

    sampler: Sampler
    render: Renderer
    batches: Sequence[Tensor]  # class ids of each chunk
    seeds: tuple[int, int]  # seeds of the evaluation and of the run
    device: torch.device

    def chunk(self, number: int) -> Tensor:
        """Images of chunk ``number``, uint8 [b, H, W, 3]."""
        generator = generator_for(*self.seeds, "sample", number, device=self.device)
        images = roll_out(self.sampler, self.render, self.batches[number].to(self.device), generator).images
        return images.permute(0, 2, 3, 1).contiguous()


def as_rows(arrays: Mapping[str, Tensor]) -> np.ndarray:
    """One structured array [b] whose fields are the arrays [b, ...] of a batch."""
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
    """Draw those chunks of ``numbers`` that do not exist yet, and compute the features of those that have none.

    A chunk is encoded and written while the next one is drawn; its features are computed while it is on the device.
    """
    with Writer() as writer:
        for at in numbers:
            drawn = images.has(at)
            taken = features is None or (drawn and features.has(at))  # without its image a feature is useless
            if drawn and taken:
                done(at)
                continue
            # A chunk without its features was left by a killed run, or its features came from other networks.
            chunk = torch.from_numpy(images.load(at)) if drawn else draw(at)
            found = [] if drawn else [(images, chunk.cpu().numpy())]
            if features is not None and extractor is not None and not taken:
                found.append((features, as_rows(extractor(chunk, labels[at]))))
            writer.save(at, found)
            done(at)


@dataclass(frozen=True)
class SampleFiles:
    """The files of a command that draws samples."""

    sources: Sequence[Path]  # files behind run, policy and renderer; chunks drawn from other files are not reused
    output: Path  # samples.npz
    grid: Path  # picture of samples


def draw_grids(
    run: PolicyRun,
    evaluation: Evaluation,
    sampler: Sampler,
    pretrained: Sampler | None,
    render: Renderer,
    path: Path,
    device: torch.device,
) -> None:
    """Draw the grid of the run's samples, beside samples of the pretrained policy with the same seed.

    The run's own are drawn first, by the decoder that the sampler has kept; both samplers are freed.
    """
    ids = list(range(min(evaluation.grid_classes, run.data.classes)))
    columns: list[np.ndarray] = []
    titles: list[str] = []
    for drawn_from, title in ((sampler, run.name), (pretrained, "pretrained")):
        if drawn_from is not None:
            columns.insert(0, grid_images(drawn_from, render, ids, evaluation.grid_per_class, evaluation.seed, device))
            titles.insert(0, title)
            drawn_from.forget()  # two policies' caches may not fit a GPU together
    names = class_names(run.data)
    draw_grid(columns, [names[index] for index in ids], titles, path)


def sample(
    run: PolicyRun,
    evaluation: Evaluation,
    policy: Policy,
    pretrained: Policy | None,
    render: Renderer,
    files: SampleFiles,
    device: torch.device,
    world: World = ALONE,
    extractor: Extractor | None = None,
) -> str:
    """Write samples.npz (``arr_0`` uint8 [n, H, W, 3] as the ADM evaluator reads it, ``labels``) and the grid.

    With an ``extractor`` the features of the images are left beside the samples for the command ``features``, which
    then need not read 10 GB again. The processes draw the chunks in turn; finished chunks lie beside the output until
    it is written, so a killed command continues from them. The file depends on neither the processes nor kills.

    Args:
        run: the run whose samples are drawn.
        evaluation: settings of the evaluation: the number of samples, their classes and the chunk size.
        policy: policy of the run.
        pretrained: policy whose samples stand beside the run's own in the grid; None shows the run's own alone.
        render: function from tokens to images.
        files: files that are read and written.
        device: device of the draws.
        world: the processes; rank 0 writes.
        extractor: computes features; None leaves none.
    """
    output, sampler = files.output, Sampler(policy, run.sampling, min(evaluation.batch, evaluation.samples))
    protocol = [evaluation.samples, evaluation.batch, evaluation.seed, evaluation.labels, device.type]
    identity = world.from_leader(" ".join(map(str, [*protocol, *map(sha256, files.sources if world.leads else [])])))
    chunks, number = Chunks(output.parent / "sampling", identity), -(-evaluation.samples // evaluation.batch)
    taken = Chunks(output.parent / "sampling_features", f"{identity} {extractor.identity if extractor else ''}")
    features = taken if extractor is not None else None
    if world.leads:
        chunks.clear_others()
        taken.clear_others()
    progress = Progress(f"sample {run.name}", number, chunks.count())
    batches = (labels := draw_labels(evaluation, run.data.classes, run.seed)).split(evaluation.batch)
    drawing = Drawing(sampler, render, batches, (evaluation.seed, run.seed), device)
    draw_all(
        range(world.rank, number, world.size),
        batches,
        chunks,
        features,
        drawing.chunk,
        extractor,
        lambda at: progress.update(min(at + world.size, number)) if world.leads else None,
    )
    world.wait()
    if not world.leads:
        return ""
    before = Sampler(pretrained, run.sampling) if pretrained is not None else None
    draw_grids(run, evaluation, sampler, before, render, files.grid, device)
    write_samples(output, labels.numpy(), number, chunks, features, extractor)
    taken.remove()
    return f"{output}: {len(labels)} images" + (", features computed" if features is not None else "")


def write_samples(
    output: Path,
    labels: np.ndarray,
    number: int,
    chunks: Chunks,
    features: Chunks | None,
    extractor: Extractor | None,
) -> None:
    """Write samples.npz from all chunks, which are then removed, and the features beside it.

    Args:
        output: samples.npz.
        labels: class ids [n] int64.
        number: number of chunks.
        chunks: chunks of images.
        features: chunks of feature rows; None without features.
        extractor: the extractor of these features; None without features.
    """
    digest = hashlib.sha256(chunks.digest().encode() + labels.tobytes()).digest()
    forget_beside(output)
    if features is not None and extractor is not None:
        rows = np.concatenate([features.load(at) for at in range(number)])
        arrays = {name: np.ascontiguousarray(rows[name]) for name in rows.dtype.names or ()}
        save_npz(kept_beside(output, digest, extractor.identity), {"labels": labels} | arrays)
    rest = {"labels": labels, "digest": np.frombuffer(digest, np.uint8)}
    save_npz_rows(output, "arr_0", map(chunks.load, range(number)), len(labels), rest)
    chunks.remove()
