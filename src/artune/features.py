"""Features of images under the frozen networks: the reference's moments, and what a run is scored on."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from artune.config import Data, Evaluation
from artune.data import load_split, prompts
from artune.errors import ArtuneError
from artune.files import load_npz, save_npz
from artune.metrics.fid import feature_moments


@torch.no_grad()
def in_batches(call: nn.Module, images: Tensor, batch: int, device: torch.device) -> Tensor:
    """``call`` over uint8 images [N, 3, H, W], concatenated on the CPU."""
    return torch.cat([call(part.to(device)).float().cpu() for part in images.split(batch)])


def write_reference(
    data_path: Path, networks: Mapping[str, nn.Module], batch: int, output: Path, device: torch.device
) -> str:
    """Write moments and features of the real images.

    Keys are ``{split}/{network}/{mu,sigma,features}`` with split ``train`` (what LOO-FID compares with) or
    ``heldout`` (what the evaluation compares with; its features serve Precision, Recall and KID).
    """
    arrays: dict[str, np.ndarray] = {}
    for split in ("train", "heldout"):
        images, _ = load_split(data_path, split)
        for name, network in networks.items():
            features = in_batches(network.features, images, batch, device)
            mu, sigma = feature_moments(features)
            arrays |= {f"{split}/{name}/mu": mu.numpy(), f"{split}/{name}/sigma": sigma.numpy()}
            if split == "heldout":
                arrays[f"{split}/{name}/features"] = features.numpy()
    save_npz(output, arrays)
    return f"{output}: moments of {len(networks)} networks"


@torch.no_grad()
def sample_features(
    samples: Path, evaluation: Evaluation, data: Data, networks: Mapping[str, nn.Module], device: torch.device
) -> dict[str, np.ndarray]:
    """Everything that the metrics need of a run's samples, by role (not by network).

    Raises:
        ArtuneError: the samples are fewer than ``evaluation.samples``, or not uint8 [n, H, W, 3].
    """
    arrays = load_npz(samples, "arr_0", "labels")
    if arrays["arr_0"].dtype != np.uint8 or arrays["arr_0"].ndim != 4 or arrays["arr_0"].shape[-1] != 3:
        raise ArtuneError(
            f"{samples}: arr_0 must be uint8 [n, H, W, 3], not {arrays['arr_0'].dtype} {arrays['arr_0'].shape}"
        )
    if len(arrays["arr_0"]) != evaluation.samples:
        raise ArtuneError(f"{samples}: {len(arrays['arr_0'])} images, evaluation.samples asks for {evaluation.samples}")
    images = torch.from_numpy(arrays["arr_0"]).permute(0, 3, 1, 2)
    labels = torch.from_numpy(arrays["labels"])

    def run(call: nn.Module) -> Tensor:
        return in_batches(call, images, evaluation.batch, device)

    def cosine(network: nn.Module) -> Tensor:
        texts = network.embed_texts(prompts(data)).float().cpu()
        return (run(network.embed_images) * texts[labels]).sum(-1)

    judge, found = networks[evaluation.features], {}
    if hasattr(judge, "features_and_spatial"):  # sFID's features, of the same forward
        pairs = [judge.features_and_spatial(part.to(device)) for part in images.split(evaluation.batch)]
        found["features"], found["spatial"] = (
            torch.cat([part.float().cpu() for part in column]) for column in zip(*pairs, strict=True)
        )
    else:
        found["features"] = run(judge.features)
    found |= {
        "probabilities": run(networks[evaluation.classifier].probabilities),
        "clip": cosine(networks[evaluation.clip]),
    }
    if evaluation.reward_features != evaluation.features:
        found["reward_features"] = run(networks[evaluation.reward_features].features)
    if evaluation.reward_clip != evaluation.clip:
        found["reward_clip"] = cosine(networks[evaluation.reward_clip])
    if evaluation.cmmd is not None:
        found["embeddings"] = run(networks[evaluation.cmmd].embed_images)
    return {"labels": arrays["labels"]} | {key: value.numpy() for key, value in found.items()}


def write_features(
    samples: Path,
    evaluation: Evaluation,
    data: Data,
    networks: Mapping[str, nn.Module],
    output: Path,
    device: torch.device,
) -> str:
    """Write :func:`sample_features` as an npz; the images themselves need not be kept."""
    arrays = sample_features(samples, evaluation, data, networks, device)
    save_npz(output, arrays)
    return f"{output}: features of {len(arrays['labels'])} images"
