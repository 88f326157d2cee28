"""Frozen networks behind rewards and metrics, by kind."""

from pathlib import Path

import torch
from torch import nn

from artune.checkpoints import load_into
from artune.config import Data, Network
from artune.encoders.mnist import BODIES, Classifier, Quality
from artune.encoders.mnist_clip import VISION, MnistCLIP
from artune.errors import ArtuneError

# kind -> (its architectures, how it is built)
KINDS = {
    "classifier": (BODIES, lambda network, data: Classifier(network.architecture, data.classes)),
    "clip": (VISION, lambda network, data: MnistCLIP(network.architecture, data)),
    "preference": (VISION, lambda network, data: MnistCLIP(network.architecture, data)),
    "quality": (BODIES, lambda network, data: Quality(network.architecture)),
}


def build_network(network: Network, data: Data) -> nn.Module:
    """The network that ``network`` describes, freshly initialised from the global generator, on the CPU.

    What it offers follows from its kind. classifier: ``features`` and ``probabilities``; clip and preference:
    ``embed_images`` and ``embed_texts``; quality: ``score``. All take uint8 images [B, 3, H, W].

    Raises:
        ArtuneError: a kind or an architecture that has no encoder.
    """
    if network.kind not in KINDS:
        raise ArtuneError(f"networks: kind {network.kind!r} has no encoder; known are {', '.join(KINDS)}")
    architectures, build = KINDS[network.kind]
    if network.architecture not in architectures:
        known = ", ".join(architectures)
        raise ArtuneError(f"networks: architecture {network.architecture!r} of {network.kind} is unknown; known are {known}")
    return build(network, data)


def load_network(
    path: Path | str, network: Network, data: Data, device: torch.device | str = "cpu"
) -> nn.Module:
    """The trained network of ``path``, in evaluation mode and without gradients, on ``device``.

    Raises:
        ArtuneError: as :func:`build_network`, or a file that is missing, broken or does not fit.
    """
    module = build_network(network, data)
    load_into(module, path)
    return module.to(device).eval().requires_grad_(False)
