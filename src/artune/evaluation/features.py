"""Features of images under the frozen networks, for the moments of the reference and the scores of a run."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from artune.config.fields import PACKAGES
from artune.config.registry import Registry
from artune.config.run import Data, Evaluation
from artune.data.classes.labels import doubtful, read_labels, refuse_closer_to_class_before, refuse_count_from_1
from artune.data.npz_images import image_rows
from artune.data.prompts import prompts, prompts_digest
from artune.errors import ArtuneError, no_such_file
from artune.models.encoders.efficientnet import packaged_digest
from artune.models.encoders.feature_network import FeatureNetwork
from artune.runtime.distributed import ALONE, World
from artune.runtime.files import load_npz, move, npz_shape, save_npz, sha256
from artune.runtime.progress import Progress

BEFORE = "before"  # name of the cosines with the prompts of the classes before
THIRD = "efficientnet"  # the role whose network comes out of a package that may be missing


class Extractor:
    """Computes everything that the metrics need from images, by role (not by network).

    Args:
        evaluation: the network of each role.
        data: the data set, for its prompts.
        networks: networks by name; without that of CLIP there are no cosines, and one of a package may be missing
            (:data:`artune.config.fields.PACKAGES`).
        device: device of the networks.
        identity: their :func:`identity_of`; needed if the features are to be reused later.
        texts: what the images are compared with, in place of the prompts of the classes.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        data: Data,
        networks: Mapping[str, nn.Module],
        device: torch.device,
        identity: str = "",
        texts: Sequence[str] | None = None,
    ):
        self.evaluation, self.device, self.identity = evaluation, device, identity
        self.roles = {role: networks[name] for role, name in evaluation.networks.items() if name in networks}
        cosines = [role for role in ("clip", "reward_clip") if role in self.roles]
        texts = prompts(data) if texts is None and cosines else list(texts or ())
        with torch.no_grad():
            self.texts = {role: self.roles[role].embed_texts(texts).float() for role in cosines}

    @torch.no_grad()
    def __call__(self, images: Tensor, class_ids: Tensor | None, before: bool = False) -> dict[str, Tensor]:
        """Images uint8 [b, H, W, 3] and class ids [b] -> CPU arrays [b, ...], float32 or half (``efficientnet``).

        Images whose class is unknown (None) are compared with no prompt; an extractor with texts of its own takes
        places among them for class ids. With ``before`` the array of that name holds the cosines with the prompts of
        the classes before, class_ids - 1.
        """
        # The channels are last in memory for every caller: the choice of kernels, and so the last bits, depend on it.
        images, evaluation = images.contiguous().permute(0, 3, 1, 2).to(self.device), self.evaluation
        found = _own_outputs(images, evaluation, self.roles)
        for role, text in self.texts.items():
            if class_ids is not None and (role == "clip" or evaluation.reward_clip != evaluation.clip):
                embedded, own = self.roles[role].embed_images(images), class_ids.to(self.device)
                found[role] = (embedded * text[own]).sum(-1)
                if before and role == "clip":
                    found[BEFORE] = (embedded * text[own - 1]).sum(-1)
        found |= {role: self.roles[role].embed_images(images) for role in evaluation.judges}
        arrays = {key: value.float().cpu() for key, value in found.items()}
        if THIRD in self.roles:  # 1,280 numbers, many times those of all other arrays of an embedded scale
            arrays[THIRD] = self.roles[THIRD].embed_images(images).half().cpu()
        return arrays


def identity_of(registry: Registry, evaluation: Evaluation, files: Mapping[str, Path], device: torch.device) -> str:
    """Digest of all that decides the features of given images: networks of all roles, prompts, batch size, device.

    Args:
        registry: registry of the scale.
        evaluation: the network of each role.
        files: network -> file of its weights.
        device: device on which the features are computed.

    Raises:
        ArtuneError: the file of a network is missing.
    """
    facts = [prompts_digest(registry.data), str(evaluation.batch), device.type]
    for role, name in evaluation.networks.items():
        if registry.network(name).kind in PACKAGES:
            facts.append(f"{role} {registry.network(name).model_dump_json()} {packaged_digest()}")
            continue
        path = files[name]
        if not path.exists():
            raise no_such_file(path)
        facts.append(f"{role} {registry.network(name).model_dump_json()} {sha256(path)}")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def kept_beside(samples: Path, digest: bytes, identity: str) -> Path:
    """File in which the command ``sample`` leaves features; its name identifies the images and the networks."""
    whose = hashlib.sha256(digest + identity.encode()).hexdigest()[:32]
    return samples.with_name(f"features-{whose}.npz")


def forget_beside(samples: Path) -> None:
    """Remove all files named by :func:`kept_beside`, whatever their images and networks."""
    for stale in samples.parent.glob(f"features-{'[0-9a-f]' * 32}.npz"):
        stale.unlink()


def take_up(samples: Path, identity: str, output: Path) -> bool:
    """Move the features that ``sample`` left for these images and networks to ``output``; False if there are none."""
    try:
        digest = load_npz(samples, "digest")["digest"].tobytes()
    except ArtuneError:  # real images, or samples from another program
        return False
    kept = kept_beside(samples, digest, identity)
    if not kept.exists():
        return False
    move(kept, output)  # with the present time: features must be newer than the samples that they come from
    return True


def sample_features(
    samples: Path,
    evaluation: Evaluation,
    data: Data,
    networks: Mapping[str, nn.Module],
    device: torch.device,
    world: World = ALONE,
) -> dict[str, np.ndarray]:
    """``labels`` int64 [n] and the arrays of an :class:`Extractor` for all samples of a run.

    Samples from others may come without labels; then ``labels`` and the cosines with the prompts are missing. If no
    label is 0 they may count from 1, and the cosines with the prompts of the classes before are there as well. The
    images are read batch by batch: 50,000 of them would fill 10 GB. Several processes take the batches in turn, and all
    of them return the arrays of all samples.

    Raises:
        ArtuneError: the number of samples is not ``evaluation.samples``, they are not uint8 [n, H, W, 3], or it is not
            certain which classes the labels mean (:func:`artune.data.classes.labels.class_ids`).
    """
    count = (npz_shape(samples, "arr_0") or (0,))[0]
    if count != evaluation.samples:
        raise ArtuneError(f"{samples}: {count} images, evaluation.samples asks for {evaluation.samples}")
    labels = read_labels(samples, count, data.classes)
    extract = Extractor(evaluation, data, networks, device)
    parts: defaultdict[str, dict[int, Tensor]] = defaultdict(dict)
    number = -(-count // evaluation.batch)
    progress = Progress("features", number)
    before = labels is not None and bool((labels > 0).all())
    ids = [None] * number if labels is None else torch.from_numpy(labels).split(evaluation.batch)
    batches = zip(image_rows(samples, evaluation.batch), ids, strict=True)
    for at, (rows, own) in enumerate(batches):
        if at % world.size != world.rank:
            continue
        for key, value in extract(torch.from_numpy(rows.copy()), own, before).items():
            parts[key][at * evaluation.batch] = value
        if world.leads:
            progress.update(min(at + world.size, number))
    return ({} if labels is None else {"labels": labels}) | _together(parts, count, world)


def _together(parts: Mapping[str, Mapping[int, Tensor]], count: int, world: World) -> dict[str, np.ndarray]:
    """Arrays [count, ...] joined from the ``parts`` of all processes: name -> first row -> rows."""
    world.wait()  # a slower GPU may still be minutes behind
    rows = {key: (found[0].shape[1:], found[0].dtype) for key, found in parts.items()} if world.leads else None
    arrays = {key: torch.zeros(count, *shape, dtype=kind) for key, (shape, kind) in world.from_leader(rows).items()}
    for key, whole in arrays.items():
        for at, rows in parts.get(key, {}).items():
            whole[at : at + len(rows)] = rows
        world.sum_(whole)
    return {key: whole.numpy() for key, whole in arrays.items()}


def _own_outputs(images: Tensor, evaluation: Evaluation, roles: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """``features``, ``probabilities``, ``spatial`` if the network has them.

    With them come ``reward_features`` and ``reward_probabilities`` where another network has the role of the judge.
    """
    judge: FeatureNetwork = roles["features"]
    found = judge.outputs(images)
    if "probabilities" not in found or evaluation.classifier != evaluation.features:
        found["probabilities"] = roles["classifier"].probabilities(images)
    if evaluation.reward_features != evaluation.features:
        found["reward_features"] = roles["reward_features"].features(images)
    if evaluation.reward_features != evaluation.classifier:
        found["reward_probabilities"] = roles["reward_features"].probabilities(images)
    return found


def write_features(
    samples: Path,
    evaluation: Evaluation,
    data: Data,
    networks: Mapping[str, nn.Module],
    output: Path,
    device: torch.device,
    world: World = ALONE,
) -> str:
    """Write :func:`sample_features` as an npz; the images themselves need not be kept.

    Raises:
        ArtuneError: as :func:`sample_features`, or the labels are possible ids but plainly count from 1.
    """
    arrays = sample_features(samples, evaluation, data, networks, device, world)
    lead = arrays.pop(BEFORE, None)
    if "labels" in arrays and arrays["probabilities"].shape[1] == data.classes:
        refuse_count_from_1(arrays["labels"], arrays["probabilities"], f"{samples}: labels")
    elif lead is not None:  # the 1008 columns of TensorFlow's Inception have another order
        refuse_closer_to_class_before(arrays["labels"], lead - arrays["clip"], f"{samples}: labels")
    if world.leads:
        save_npz(output, arrays)
        forget_beside(samples)
    line, labels = f"{output}: features of {len(arrays['features'])} images", arrays.get("labels")
    if labels is None:
        return f"{line}; {samples} has no labels, so there will be no accuracy and no CLIPScore"
    if doubtful(labels, data.classes):
        return f"{line}; no label of {samples} is 0: make sure that they count from 0"
    return line
