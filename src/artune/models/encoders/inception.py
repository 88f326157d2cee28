"""The Inception-v3 of FID: torch-fidelity's port of the TensorFlow graph of 2015-12-05, from a local file."""

import contextlib
import io
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from artune.errors import ArtuneError
from artune.models.encoders.feature_network import FeatureNetwork

ARCHITECTURE = "inception-v3-compat"
SPATIAL_CHANNELS = 7  # channels used, out of the 192 of Mixed_6d's 1 x 1 branch; 17 x 17 x 7 = 2023
IMAGES_AT_ONCE = 64  # bounds the memory of one call; activations take about 25 MB per image


class Inception(FeatureExtractorInceptionV3, FeatureNetwork):
    """Features, class probabilities and spatial features of uint8 images of any size.

    The graph itself resizes to 299 x 299, by TensorFlow 1's rule. It always runs in float32, without TF32 and autocast.

    Args:
        architecture: inception-v3-compat.
        empty: leave the weights unset, for a checkpoint to fill; otherwise they are random and not degenerate.

    Raises:
        ArtuneError: another architecture.
    """

    complete = False  # until torch-fidelity's constructor has run, which always loads a file

    def __init__(self, architecture: str = ARCHITECTURE, empty: bool = False) -> None:
        if architecture != ARCHITECTURE:
            raise ArtuneError(f"networks: architecture {architecture!r} of inception is unknown; known: {ARCHITECTURE}")
        nothing = io.BytesIO()
        torch.save({}, nothing)
        nothing.seek(0)
        super().__init__(ARCHITECTURE, ["2048", "logits_unbiased"], feature_extractor_weights_path=nothing)
        self.complete = True
        if not empty:  # with torch's default initialisation the pooled features are almost equal
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As in torch, except that the constructor's empty file is accepted."""
        return super().load_state_dict(state_dict, strict and self.complete, assign)

    @torch.no_grad()
    def pooled(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images uint8 [B, 3, H, W] -> ``pool_3`` [B, 2048] and logits [B, 1008] without the bias, float32."""
        with full_float32(images.device.type):
            parts = [self(part) for part in images.split(IMAGES_AT_ONCE)]
        features, logits = (torch.cat(column) for column in zip(*parts, strict=True))
        return features, logits

    def features(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] -> ``pool_3`` float32 [B, 2048], for FID, KID, Precision and Recall."""
        return self.pooled(images)[0]

    def probabilities(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] -> softmax(pool_3 W) float32 [B, 1008], without the bias, as officially."""
        return self.pooled(images)[1].softmax(dim=-1)

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """All outputs for the official scores from one forward pass over images uint8 [B, 3, H, W].

        Returns:
            ``features`` [B, 2048], ``spatial`` [B, 2023] (17 x 17 x 7, channels fastest) and ``probabilities``
            [B, 1008], all float32.
        """
        found: list[Tensor] = []

        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            # TensorFlow flattens in the order H, W, C; any other gives an sFID of hundreds against the released moments
            found.append(output[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1))

        hook = self.Mixed_6d.branch1x1.register_forward_hook(keep)
        try:
            features, logits = self.pooled(images)
        finally:
            hook.remove()
        return {"features": features, "spatial": torch.cat(found), "probabilities": logits.softmax(dim=-1)}


@contextlib.contextmanager
def full_float32(device_type: str) -> Iterator[None]:
    """Disable TF32 and autocast, either of which changes the third digit of FID."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
