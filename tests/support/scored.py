"""Samples and references with made-up features, and networks that compute simple features."""

import numpy as np
import torch
from project import ROOT

from artune.config.registry import Registry
from artune.metrics.fid import feature_moments
from artune.models.encoders.feature_network import FeatureNetwork

OFFICIAL = Registry("imagenet", root=ROOT / "config").evaluation.model_copy(
    update={"inception_split": 30, "samples": 90}
)


def draws(seed, n=90):
    """Features of a run whose file is sorted by class: three classes, each predicted with confidence."""
    draw = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), n // 3)
    probabilities = np.full((n, 3), 0.05) + 0.85 * np.eye(3)[labels]
    embeddings = draw.normal(size=(n, 8))
    return {
        "labels": labels,
        "features": draw.normal(size=(n, 6)),
        "spatial": draw.normal(size=(n, 5)),
        "probabilities": probabilities,
        "clip": draw.uniform(size=n),
        "cmmd": embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True),
        "dinov2": 10 * embeddings,
    }


def reference(seed, protocol):
    arrays = draws(seed, 60)
    judged = f"heldout/{protocol.features}"
    found = {f"{judged}/features": arrays["features"], f"heldout/{protocol.cmmd}/embeddings": arrays["cmmd"]}
    found[f"heldout/{protocol.dinov2}/embeddings"] = arrays["dinov2"]
    for suffix, key in (("", "features"), ("_s", "spatial")):
        mu, sigma = feature_moments(torch.from_numpy(arrays[key]))
        found |= {f"{judged}/mu{suffix}": mu.numpy(), f"{judged}/sigma{suffix}": sigma.numpy()}
    own = f"heldout/{protocol.reward_features}"
    return found | {f"{own}/mu": found[f"{judged}/mu"], f"{own}/sigma": found[f"{judged}/sigma"]}


# The same protocol where the reward's network is not the judge's, with a judge out of a package: every score there is.
APART = OFFICIAL.model_copy(update={"reward_features": "stand_in", "efficientnet": "efficientnet_lite0"})


def draws_apart(seed, n=90):
    """As ``draws``, with the features that :data:`APART` adds."""
    draw, arrays = np.random.default_rng(100 + seed), draws(seed, n)
    confident = 0.6 * arrays["probabilities"] + 0.4 / 3
    own = {"reward_features": draw.normal(size=(n, 6)), "reward_probabilities": confident[draw.permutation(n)]}
    return arrays | own | {"efficientnet": draw.uniform(0, 6, size=(n, 7)).astype(np.float16)}


def reference_apart(seed):
    """As ``reference``, with the arrays that :data:`APART` adds."""
    arrays = draws_apart(seed, 60)
    mu, sigma = feature_moments(torch.from_numpy(arrays["reward_features"]))
    found = {"mu": mu.numpy(), "sigma": sigma.numpy(), "features": arrays["reward_features"]}
    own = {f"heldout/{APART.reward_features}/{key}": value for key, value in found.items()}
    return reference(seed, OFFICIAL) | own | {f"heldout/{APART.efficientnet}/embeddings": arrays["efficientnet"]}


class Network(FeatureNetwork):
    """A network whose features and image embeddings are mean colours."""

    def features(self, images):
        return images.float().mean((2, 3))

    def probabilities(self, images):
        return self.features(images).softmax(1)

    def embed_images(self, images):
        return torch.nn.functional.normalize(self.features(images) + 1, dim=1)

    def embed_texts(self, texts):
        return torch.nn.functional.normalize(torch.ones(len(texts), 3), dim=1)


class Spatial(Network):
    def outputs(self, images):
        return {"features": self.features(images), "spatial": images[:, 0, :2, 0]}
