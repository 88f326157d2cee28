"""Builds the frozen networks behind rewards and metrics, by kind."""

import importlib
from collections.abc import Callable, Collection
from pathlib import Path

import torch
from torch import nn

from artune.config.run import Data, Network
from artune.errors import ArtuneError
from artune.models.encoders.mnist import BODIES, Classifier, Quality
from artune.models.encoders.mnist_clip import VISION, MnistCLIP
from artune.models.weights.checkpoints import load_into
from artune.models.weights.torchscript import is_torchscript, load_torchscript

Build = Callable[[Network, Data], nn.Module]
# kind -> (known architectures, function that builds the network)
KINDS: dict[str, tuple[Collection[str], Build]] = {
    "classifier": (BODIES, lambda network, data: Classifier(network.architecture, data.classes)),
    "clip": (VISION, lambda network, data: MnistCLIP(network.architecture, data)),
    "preference": (VISION, lambda network, data: MnistCLIP(network.architecture, data)),
    "quality": (BODIES, lambda network, data: Quality(network.architecture)),
}
# kind -> (module, class) of the paper's own networks; a module is imported only when a network of its kind is built
FULL_SIZE = {
    "inception": ("inception", "Inception"),
    "inception_torchvision": ("inception_torchvision", "TorchvisionInception"),
    "open_clip": ("clip", "OpenCLIP"),
    "hpsv2": ("clip", "HPSv2"),
    "maniqa": ("maniqa", "Maniqa"),
    "dinov2": ("dinov2", "DINOv2"),
    "efficientnet": ("efficientnet", "EfficientNetLite0"),
}
FULL_SIZE_CLIP = ("open_clip", "hpsv2")


def build_network(network: Network, data: Data, empty: bool = False) -> nn.Module:
    """The network that ``network`` describes, freshly initialised from the global generator, on the CPU.

    The kind determines its methods. classifier, inception and inception_torchvision: ``features`` and
    ``probabilities``; clip, preference, open_clip and hpsv2: ``embed_images`` and ``embed_texts``; dinov2:
    ``embed_images`` and ``features``; efficientnet: ``embed_images``; quality and maniqa: ``score``. All take uint8
    images [B, 3, H, W]. Networks with
    ``features`` are instances of :class:`artune.models.encoders.feature_network.FeatureNetwork`.

    Args:
        network: kind and architecture.
        data: image size and class names, on which the networks of embedded scales depend.
        empty: leave the weights of a full-size network unset, for a checkpoint to fill.

    Raises:
        ArtuneError: an unknown kind or architecture.
    """
    if network.kind in FULL_SIZE:
        module, name = FULL_SIZE[network.kind]
        return getattr(importlib.import_module(f"artune.models.encoders.{module}"), name)(
            network.architecture, empty=empty
        )
    if network.kind not in KINDS:
        known = ", ".join((*KINDS, *FULL_SIZE))
        raise ArtuneError(f"networks: kind {network.kind!r} has no encoder; known are {known}")
    architectures, build = KINDS[network.kind]
    if network.architecture not in architectures:
        known = ", ".join(architectures)
        raise ArtuneError(
            f"networks: architecture {network.architecture!r} of {network.kind} is unknown; known are {known}"
        )
    return build(network, data)


def load_network(path: Path | str, network: Network, data: Data, device: torch.device | str = "cpu") -> nn.Module:
    """The trained network of ``path``, in evaluation mode and without gradients, on ``device``.

    Loading a full-size network takes little more memory than the network itself.

    Raises:
        ArtuneError: as :func:`build_network`, or a file that is missing, damaged or does not fit.
    """
    module = build_network(network, data, empty=True)
    if is_torchscript(path):  # OpenAI's CLIP files
        if network.kind in FULL_SIZE_CLIP and not module.quick_gelu:
            raise ArtuneError(f"{path}: OpenAI's weights need QuickGELU; use {network.architecture}-quickgelu")
        load_torchscript(module, path)
    else:
        load_into(module, path, in_place=network.kind in FULL_SIZE)
    return module.to(device).eval().requires_grad_(False)
