"""The two references of ImageNet evaluation: ADM's published file, and the validation images (open choice 32)."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from artune.data.crops import centre_crops, crop_batches
from artune.data.embedded import load_split
from artune.data.imagenet import open_split
from artune.data.npz_images import image_rows
from artune.errors import ArtuneError
from artune.metrics.fid import feature_moments
from artune.metrics.precision_recall import neighbour_radii
from artune.models.encoders.feature_network import FeatureNetwork, in_batches
from artune.runtime.files import load_npz, save_npz


class EmbeddingNetwork(Protocol):
    """A judge with its own metric: CMMD's CLIP, whose embeddings have unit length, or DINOv2."""

    def embed_images(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> embeddings float32 [B, E]."""
        ...


Judges = Mapping[str, EmbeddingNetwork]


def adm_moments(path: Path) -> dict[str, np.ndarray]:
    """``mu``, ``sigma``, ``mu_s``, ``sigma_s`` of ADM's reference file: moments of ImageNet's whole training set.

    Raises:
        ArtuneError: an array is missing, has a wrong shape, or is not finite.
    """
    moments = load_npz(path, "mu", "sigma", "mu_s", "sigma_s")
    for mean, covariance in (("mu", "sigma"), ("mu_s", "sigma_s")):
        width = moments[mean].size
        if moments[mean].shape != (width,) or moments[covariance].shape != (width, width):
            raise ArtuneError(
                f"{path}: {mean} {moments[mean].shape} and {covariance} {moments[covariance].shape} differ"
            )
    if bad := [name for name, value in moments.items() if not np.isfinite(value).all()]:
        raise ArtuneError(f"{path}: {', '.join(bad)} is not finite; fetch it again")
    return {name: value.astype(np.float64) for name, value in moments.items()}


@torch.no_grad()
def adm_reference(
    path: Path,
    network: FeatureNetwork,
    device: torch.device,
    batch: int = 128,
    name: str = "inception",
    judges: Judges | None = None,
) -> dict[str, np.ndarray]:
    """ADM's reference file under this project's names.

    Its moments are of the training images under the 2015 TensorFlow Inception network, whatever ``network`` is; its
    10,000 images serve Precision and Recall only, so their features are computed here.

    Args:
        path: ``VIRTUAL_imagenet256_labeled.npz``.
        network: the port of that network, on ``device``.
        device: device of the images.
        batch: images per forward pass.
        name: the network's name in the registry.
        judges: networks that embed the images, by name.

    Returns:
        ``train/{name}/{mu,sigma}`` (the reference of LOO-FID), ``heldout/{name}/{mu,sigma}`` (the same moments, the
        reference of FID), ``heldout/{name}/{mu_s,sigma_s}`` (sFID), ``heldout/{name}/features`` [n, D] float32, and
        ``heldout/{judge}/embeddings`` [n, E] float32.

    Raises:
        ArtuneError: the file is damaged, or the network's width is not that of the moments.
    """
    moments, judges = adm_moments(path), judges or {}
    parts: list[Tensor] = []
    embedded: dict[str, list[Tensor]] = {judge: [] for judge in judges}
    for rows in image_rows(path, batch):
        images = torch.from_numpy(rows.copy()).permute(0, 3, 1, 2).to(device)
        parts.append(network.features(images).float().cpu())
        for judge, clip in judges.items():
            embedded[judge].append(clip.embed_images(images).cpu())
    features = torch.cat(parts).numpy()
    if features.shape[1] != moments["mu"].size:
        raise ArtuneError(f"{path}: moments of {moments['mu'].size} features, but {name} gives {features.shape[1]}")
    both = {f"{split}/{name}/{key}": moments[key] for split in ("train", "heldout") for key in ("mu", "sigma")}
    spatial = {f"heldout/{name}/{key}": moments[key] for key in ("mu_s", "sigma_s")}
    return {**both, **spatial, f"heldout/{name}/features": features, **_embeddings(embedded)}


def write_adm_reference(
    path: Path,
    network: FeatureNetwork,
    output: Path,
    device: torch.device,
    batch: int = 128,
    name: str = "inception",
    judges: Judges | None = None,
    moments: Path | None = None,
) -> str:
    """Write :func:`adm_reference` as reference.npz.

    ``moments`` is a file with the moments of the training images under the reward's network, if that is not
    ``network``. They are the reference of LOO-FID and of the FID under that network, as ADM's are under ``network``.
    """
    arrays = adm_reference(path, network, device, batch, name, judges)
    for key, value in (load_npz(moments) if moments else {}).items():
        arrays |= {key: value, key.replace("train/", "heldout/", 1): value}
    save_npz(output, arrays)
    return f"{output}: moments of ADM's file, features of {len(arrays[f'heldout/{name}/features'])} images"


@torch.no_grad()
def write_val_reference(
    path: Path,
    networks: Mapping[str, FeatureNetwork],
    output: Path,
    device: torch.device,
    batch: int = 128,
    side: int = 256,
    classes: int | None = None,
    judges: Judges | None = None,
) -> str:
    """Write the moments and features of a split of real images (ADM's centre crop) as reference.npz.

    Args:
        path: a split as :func:`artune.data.imagenet.open_split` takes it, such as the 50,000 validation images.
        networks: networks by their names in the registry, on ``device``.
        output: npz with ``heldout/{name}/{mu,sigma,features}``, and ``{mu_s,sigma_s}`` where the network has a
            spatial output.
        device: device of the images.
        batch: images per forward pass.
        side: side of the crop, in pixels.
        classes: required number of classes; None accepts any.
        judges: networks that embed the images, by name; adds ``heldout/{judge}/embeddings``.

    Raises:
        ArtuneError: a damaged image, which the message names, or another number of classes.
    """
    split = open_split(path, classes)
    found: dict[str, dict[str, list[Tensor]]] = {name: {"features": [], "spatial": []} for name in networks}
    embedded: dict[str, list[Tensor]] = {judge: [] for judge in judges or {}}

    number = 0
    for crops, labels in crop_batches(centre_crops(split, side), split, batch, "reference"):
        images = crops.to(device)
        for name, network in networks.items():
            outputs = network.outputs(images)
            for key, kept in found[name].items():
                if key in outputs:
                    kept.append(outputs[key].float().cpu())
        for judge, clip in (judges or {}).items():
            embedded[judge].append(clip.embed_images(images).cpu())
        number += len(labels)
    arrays = _embeddings(embedded)
    for name, columns in found.items():
        features = torch.cat(columns["features"])
        arrays |= _named_moments(f"heldout/{name}", features, "")
        arrays[f"heldout/{name}/features"] = features.numpy()
        if columns["spatial"]:
            arrays |= _named_moments(f"heldout/{name}", torch.cat(columns["spatial"]), "_s")
    save_npz(output, arrays)
    return f"{output}: moments of {number} images under {', '.join(networks)}"


def _embeddings(embedded: Mapping[str, list[Tensor]]) -> dict[str, np.ndarray]:
    return {f"heldout/{judge}/embeddings": torch.cat(parts).float().numpy() for judge, parts in embedded.items()}


def _named_moments(prefix: str, features: Tensor, suffix: str) -> dict[str, np.ndarray]:
    mu, sigma = feature_moments(features)
    return {f"{prefix}/mu{suffix}": mu.numpy(), f"{prefix}/sigma{suffix}": sigma.numpy()}


def write_judge_reference(
    data_path: Path,
    name: str,
    network: EmbeddingNetwork | None,
    batch: int,
    output: Path,
    device: torch.device,
    neighbours: int | None = None,
) -> str:
    """Write the held-out images' embeddings under the judge ``name``: ``heldout/{name}/embeddings`` [n, E], half.

    They have a file of their own, so that no training waits for this judge or is outdated by it. Without the judge
    (None: its package is not installed) the file is empty, and the scores by this judge are left out. ``neighbours``
    adds radii as in :func:`write_reference`.
    """
    if network is None:
        save_npz(output, {})
        return f"{output}: empty; the package of {name} is not installed, so its scores are left out"
    images, _ = load_split(data_path, "heldout")
    embedded = in_batches(network.embed_images, images, batch, device).half()
    save_npz(output, {f"heldout/{name}/embeddings": embedded.numpy(), **_radii(name, embedded.float(), neighbours)})
    return f"{output}: features of {len(images)} images under {name}"


def _radii(name: str, features: Tensor, neighbours: int | None) -> dict[str, np.ndarray]:
    """The radii of the balls around held-out features [n, D] by name, float64 [n]; none without ``neighbours``."""
    return {f"heldout/{name}/radii{k}": neighbour_radii(features, k).numpy() for k in filter(None, [neighbours])}


def write_reference(
    data_path: Path,
    networks: Mapping[str, FeatureNetwork],
    batch: int,
    output: Path,
    device: torch.device,
    judges: Collection[str] = (),
    neighbours: int | None = None,
) -> str:
    """Write moments and features of the real images.

    Keys are ``{split}/{network}/{mu,sigma,features}`` with split ``train`` (the reference of LOO-FID) or ``heldout``
    (the reference of the evaluation; its features serve Precision, Recall and KID).

    Args:
        data_path: npz file that :func:`artune.data.embedded.write_data` wrote.
        networks: networks by their names in the registry, on ``device``.
        batch: images per forward pass.
        output: npz file to write.
        device: device of the images.
        judges: names of the networks that are in no reward, which see the held-out images only.
        neighbours: k; adds ``heldout/{network}/radii{k}``, squared distances to the k-th neighbour, so that the
            evaluations with exact Precision need not compute them each time.
    """
    arrays: dict[str, np.ndarray] = {}
    for split in ("train", "heldout"):
        images, _ = load_split(data_path, split)
        for name, network in networks.items():
            if split == "train" and name in judges:
                continue
            features = in_batches(network.features, images, batch, device)
            mu, sigma = feature_moments(features)
            arrays |= {f"{split}/{name}/mu": mu.numpy(), f"{split}/{name}/sigma": sigma.numpy()}
            if split == "heldout":
                arrays |= {f"{split}/{name}/features": features.numpy(), **_radii(name, features, neighbours)}
    save_npz(output, arrays)
    return f"{output}: moments of {len(networks)} networks"
