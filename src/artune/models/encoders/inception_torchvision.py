"""torchvision's Inception-v3, which gives the features of LOO-FID in the authors' release (open choice 25).

Its weights and preprocessing differ from those of the Inception of FID: moments under the two are not comparable.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.inception import Inception3

from artune.data.pixels import IMAGENET_MEAN, IMAGENET_STD, normalise
from artune.errors import ArtuneError
from artune.models.encoders.feature_network import FeatureNetwork
from artune.models.encoders.inception import full_float32

ARCHITECTURE = "inception_v3"
SIDE = 299
IMAGES_AT_ONCE = 64
NOT_RUN = ("AuxLogits", "dropout", "fc")  # children that are skipped on the way to the features


class TorchvisionInception(Inception3, FeatureNetwork):
    """Pooled features and class probabilities of uint8 images of any size; always float32, without TF32.

    Args:
        architecture: inception_v3.
        empty: leave the weights as torch initialises them, for a checkpoint to fill; otherwise they are random and not
            degenerate.

    Raises:
        ArtuneError: another architecture.
    """

    def __init__(self, architecture: str = ARCHITECTURE, empty: bool = False) -> None:
        if architecture != ARCHITECTURE:
            raise ArtuneError(
                f"networks: architecture {architecture!r} of inception_torchvision is unknown; known: {ARCHITECTURE}"
            )
        super().__init__(aux_logits=True, transform_input=True, init_weights=False)
        if not empty:
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight)

    def pixels(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] -> the network's input, float32 [B, 3, 299, 299].

        It is normalised by ImageNet's mean and standard deviation, which the network undoes, as its weights require.
        """
        resized = F.interpolate(images.float() / 255, (SIDE, SIDE), mode="bilinear", align_corners=False)
        return normalise(resized, IMAGENET_MEAN, IMAGENET_STD)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] -> input of the classification layer, float32 [B, 2048]."""
        with full_float32(images.device.type):
            return torch.cat([self._pooled(part) for part in images.split(IMAGES_AT_ONCE)])

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] -> probabilities of ImageNet's classes, float32 [B, 1000]."""
        with full_float32(images.device.type):
            return self.fc(self.features(images)).softmax(dim=-1)

    def _pooled(self, images: Tensor) -> Tensor:
        x = self._transform_input(self.pixels(images))
        for name, layer in self.named_children():  # in the order of the network
            if name not in NOT_RUN:
                x = layer(x)
        return x.flatten(1)
