"""Drawing the pairs of the human study: classes, samples, references, attention checks, sides and order (Sec. 4)."""

import functools
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from artune.config.registry import Registry
from artune.config.run import Data, PolicyRun
from artune.config.tables import MATCH, TASKS, HumanStudy
from artune.data.crops import centre_crop, open_image
from artune.data.embedded import load_split
from artune.data.imagenet import Record, open_split
from artune.errors import ArtuneError
from artune.models.policies.policy import Policy
from artune.results.study.pairs import SIDES, Item, Pairs, image_name, write_pairs
from artune.runtime.files import load_npz, save_npz
from artune.runtime.progress import track
from artune.runtime.seeds import generator_for
from artune.sampling.generate import Sampler
from artune.sampling.rollout import Renderer, roll_out

BLOCKS = 4  # blocks per side into which the image of an attention check is cut
RealImages = list[list[Callable[[], np.ndarray]]]  # per class, one function per image that reads it: uint8 [H, W, 3]


def draw_classes(study: HumanStudy, setting: str, classes: int) -> Tensor:
    """Class ids of a setting's pairs, uniform at random: [tasks * pairs], those of the first task first."""
    number = len(TASKS) * study.settings[setting].pairs
    return torch.randint(classes, (number,), generator=generator_for(study.seed, "study", setting, "classes"))


def write_study_samples(
    run: PolicyRun, study: HumanStudy, policy: Policy, render: Renderer, batch: int, output: Path, device: torch.device
) -> str:
    """Write a run's images for the pairs of its setting: ``images`` uint8 [n, H, W, 3], ``labels`` int64 [n].

    Both runs of a setting draw with the same generators, so that a pair differs in the policy only.

    Raises:
        ArtuneError: the run is in no setting.
    """
    found = [name for name, setting in study.settings.items() if run.base in setting.runs]
    if not found:
        raise ArtuneError(f"config/study.yaml: settings: none has the run {run.base}")
    labels = draw_classes(study, found[0], run.data.classes)
    chunks = labels.split(batch)
    sampler, parts = Sampler(policy, run.sampling), []
    for number, chunk in enumerate(track(chunks, f"study {run.name}", len(chunks))):
        generator = generator_for(study.seed, "study", found[0], number, device=device)
        parts.append(roll_out(sampler, render, chunk.to(device), generator).images.permute(0, 2, 3, 1).cpu())
    save_npz(output, {"images": torch.cat(parts).numpy(), "labels": labels.numpy()})
    return f"{output}: {len(labels)} images"


def study_images(data: Data, path: Path, split: str) -> RealImages:
    """The real images of references and checks: the ``split`` of data.npz, or an ImageNet split's centre crops.

    Raises:
        ArtuneError: the images are missing or damaged.
    """
    found: RealImages = [[] for _ in range(data.classes)]
    if data.embedded:
        images, labels = load_split(path, split)
        for image, label in zip(images.permute(0, 2, 3, 1).numpy(), labels.tolist(), strict=True):
            found[label].append(functools.partial(np.asarray, image))
        return found
    for record in open_split(path, data.classes).records():
        found[record.label].append(functools.partial(_cropped, record, data.image_size))
    return found


def _cropped(record: Record, side: int) -> np.ndarray:
    """ADM's centre crop of an image: uint8 [side, side, 3]."""
    return np.asarray(centre_crop(open_image(record), side))


def scramble(image: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """The image, uint8 [H, W, 3], cut into 4 x 4 blocks, moved so that none stays in its place."""
    side = min(image.shape[:2]) // BLOCKS
    cuts = [slice(side * at, side * (at + 1)) for at in range(BLOCKS)]
    places = [(y, x) for y in cuts for x in cuts]
    order = torch.randperm(len(places), generator=generator).tolist()
    mixed = image.copy()
    for at, to in zip(order, order[1:] + order[:1], strict=True):
        mixed[places[to]] = image[places[at]]
    return mixed


class _Images:
    """PNGs by name."""

    def __init__(self) -> None:
        self.png: dict[str, bytes] = {}

    def add(self, image: np.ndarray) -> str:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        name = image_name(buffer.getvalue())
        self.png[name] = buffer.getvalue()
        return name


def make_pairs(registry: Registry, samples: Path, real: Path, output: Path) -> str:
    """Write the file of pairs from the samples of every run (``{run}.npz`` in ``samples``) and the real images.

    Raises:
        ArtuneError: samples are missing or were drawn with other settings, or a class has too few real images.
    """
    study, images = registry.study, _Images()
    by_class = study_images(registry.data, real, study.reference)
    if (fewest := min(map(len, by_class))) <= study.references:
        raise ArtuneError(f"{real}: a class has {fewest} images; references: {study.references} needs one more")
    items = [item for setting in study.settings for item in _row_pairs(registry, setting, samples, by_class, images)]
    items += _checks(study, by_class, images)
    order = torch.randperm(len(items), generator=generator_for(study.seed, "study", "order")).tolist()
    pairs = Pairs(
        scale=registry.scale,
        note=registry.about.note,
        seed=study.seed,
        session=study.session,
        check_every=study.check_every,
        check_share=study.check_share,
        items=tuple(items[at] for at in order),
    )
    write_pairs(output, pairs, images.png)
    return f"{output}: {len(pairs.of_kind('pair'))} pairs, {len(pairs.of_kind('check'))} attention checks"


def _row_pairs(registry: Registry, setting: str, samples: Path, by_class: RealImages, images: _Images) -> list[Item]:
    """The pairs of one setting, for both tasks."""
    study = registry.study
    labels = draw_classes(study, setting, registry.data.classes).numpy()
    drawn = {}
    for side, run in zip(("pretrained", "ours"), study.settings[setting].runs, strict=True):
        arrays = load_npz(samples / f"{run}.npz", "images", "labels")
        if not np.array_equal(arrays["labels"], labels) or arrays["images"].shape[:1] != labels.shape:
            raise ArtuneError(f"{samples / run}.npz: drawn with other settings of the study; delete it and run again")
        drawn[side] = arrays["images"]
    number, items = study.settings[setting].pairs, []
    for task_number, task in enumerate(TASKS):
        sides = _balanced(number, generator_for(study.seed, "study", setting, task, "sides"))
        shared = torch.randperm(number, generator=generator_for(study.seed, "study", setting, task, "shared")).tolist()
        for at in range(number):
            draw = task_number * number + at
            label = int(labels[draw])
            items.append(
                Item(
                    id=f"{setting}/{task}/{at}",
                    kind="pair",
                    setting=setting,
                    task=task,
                    class_id=label,
                    draw=draw,
                    left=SIDES["pair"][sides[at]],
                    images={side: images.add(drawn[side][draw]) for side in SIDES["pair"]},
                    references=_references(study, task, by_class[label], images, setting, draw),
                    shared=shared[at] < study.shared,
                )
            )
    return items


def _references(study: HumanStudy, task: str, own: list, images: _Images, *parts: object) -> tuple[str, ...]:
    """Names of distinct real images of a class; none if the task shows no references."""
    if task != MATCH:
        return ()
    order = torch.randperm(len(own), generator=generator_for(study.seed, "study", *parts, "references")).tolist()
    return tuple(images.add(own[at]()) for at in order[: study.references])


def _balanced(number: int, generator: torch.Generator) -> list[int]:
    """Zeros and ones, half of each, in random order."""
    return (torch.randperm(number, generator=generator) % 2).tolist()


def _checks(study: HumanStudy, by_class: RealImages, images: _Images) -> list[Item]:
    items = []
    for task in TASKS:
        sides = _balanced(study.checks, generator_for(study.seed, "study", "check", task, "sides"))
        for at in range(study.checks):
            generator = generator_for(study.seed, "study", "check", task, at)
            label = int(torch.randint(len(by_class), (1,), generator=generator))
            order = torch.randperm(len(by_class[label]), generator=generator).tolist()
            own = [by_class[label][index]() for index in order[: 1 + study.references * (task == MATCH)]]
            both = {"real": own[0], "scrambled": scramble(own[0], generator)}
            items.append(
                Item(
                    id=f"check/{task}/{at}",
                    kind="check",
                    setting="",
                    task=task,
                    class_id=label,
                    draw=at,
                    left=SIDES["check"][sides[at]],
                    images={side: images.add(both[side]) for side in SIDES["check"]},
                    references=tuple(images.add(image) for image in own[1:]),
                )
            )
    return items
