"""Small classifiers and the quality regressor of the embedded scales, stand-ins for Inception and MANIQA."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artune.data.pixels import to_pixels
from artune.models.encoders.feature_network import FeatureNetwork

FEATURES = 64  # D, the width before the classification layer
FEATURE_TRACE = 100.0  # covariance trace of the training images' features; gives LOO-FID one scale for every network


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3 x 3 convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class PlainBody(nn.Sequential):
    """Four convolutions between poolings: [B, 3, H, W] -> [B, 64, H / 4, W / 4]."""

    def __init__(self) -> None:
        super().__init__(
            convolution(3, 16),
            nn.MaxPool2d(2),
            convolution(16, 32),
            nn.MaxPool2d(2),
            convolution(32, FEATURES),
            convolution(FEATURES, FEATURES),
        )


class Residual(nn.Module):
    """Two convolutions beside a shortcut; the side of the grid is divided by ``stride``."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, stride)
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H / stride, W / stride]."""
        return F.relu(self.second(self.first(x)) + self.shortcut(x))


class ResidualBody(nn.Sequential):
    """A stem of stride 2 and three residual blocks: [B, 3, H, W] -> [B, 64, H / 8, W / 8]."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 5, 2, padding=2), Residual(16, 24, 1), Residual(24, 40, 2), Residual(40, FEATURES, 2)
        )


BODIES: dict[str, Callable[[], nn.Module]] = {"plain": PlainBody, "residual": ResidualBody}


class Classifier(nn.Module, FeatureNetwork):
    """A convolutional classifier; its pooled activations are the features of FID and of the LOO-FID reward.

    Args:
        architecture: plain or residual; the two architectures make different errors.
        classes: C, number of classes.
    """

    def __init__(self, architecture: str, classes: int) -> None:
        super().__init__()
        self.body = BODIES[architecture]()
        self.head = nn.Linear(FEATURES, classes)
        self.register_buffer("feature_scale", torch.ones(()))

    def pooled(self, pixels: Tensor) -> Tensor:
        """Float pixels [B, 3, H, W] -> unscaled features [B, 64]."""
        return self.body(pixels).mean(dim=(2, 3))

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] -> [B, 64]; their covariance over the training images has trace 100."""
        return self.pooled(to_pixels(images).to(self.head.weight.dtype)) * self.feature_scale

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] -> class probabilities [B, C]."""
        return self.head(self.pooled(to_pixels(images).to(self.head.weight.dtype))).softmax(dim=-1)


class Quality(nn.Module):
    """No-reference image quality from patch scores and patch weights: MANIQA's head on a small body.

    Args:
        architecture: plain or residual.
    """

    def __init__(self, architecture: str) -> None:
        super().__init__()
        self.body = BODIES[architecture]()
        self.patch_score = nn.Conv2d(FEATURES, 1, 1)
        self.patch_weight = nn.Conv2d(FEATURES, 1, 1)

    def rate(self, pixels: Tensor) -> Tensor:
        """Float pixels [B, 3, H, W] -> [B] in (0, 1): sum(w s) / sum(w) over the patches."""
        patches = self.body(pixels)
        scores, weights = self.patch_score(patches).sigmoid(), self.patch_weight(patches).sigmoid()
        return (weights * scores).sum(dim=(1, 2, 3)) / weights.sum(dim=(1, 2, 3))

    @torch.no_grad()
    def score(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] -> quality [B] in (0, 1), higher is better."""
        return self.rate(to_pixels(images).to(self.patch_score.weight.dtype))
