"""The Inception-v3 features of FID from a local file, for programs outside this project."""

from pathlib import Path

import torch
from torch import Tensor, nn

from artune.errors import ArtuneError, not_installed
from artune.models.weights.checkpoints import load_into


class InceptionFeatures(nn.Module):
    """``pool_3`` features of images by the network of the published FID, resized by TensorFlow 1's rule.

    The network is torch-fidelity's port of the graph of 2015-12-05 and needs the extra ``networks``. It always computes
    in float32, without TF32 and autocast, whose rounding changes the third digit of FID.

    Args:
        path: torch-fidelity's file ``weights-inception-2015-12-05-6726825d.pth``, or one that this project saved.
        device: device of the network.
        batch: images per forward pass of :meth:`forward`; activations take about 25 MB per image.

    Raises:
        ArtuneError: torch-fidelity is not installed, or a file that is missing, damaged or of another network.

    >>> inception = artune.InceptionFeatures("weights-inception-2015-12-05-6726825d.pth")
    >>> images = torch.randint(256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.manual_seed(0))
    >>> features = inception(images)
    >>> print(features.shape, features.dtype)
    torch.Size([4, 2048]) torch.float32
    """

    def __init__(self, path: Path | str, device: torch.device | str = "cpu", batch: int = 64):
        super().__init__()
        try:
            from artune.models.encoders.inception import Inception
        except ModuleNotFoundError as error:
            raise not_installed("InceptionFeatures", error.name or "") or error from error
        if batch < 1:
            raise ArtuneError(f"InceptionFeatures: batch={batch}; give at least 1 image")
        network = Inception(empty=True)
        load_into(network, path, in_place=True)
        self.network, self.batch = network.to(device).eval().requires_grad_(False), batch

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 [N, 3, H, W] on any device -> features float32 [N, 2048] on the network's.

        Raises:
            ArtuneError: images of another type or shape.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            kind = f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
            raise ArtuneError(f"InceptionFeatures: images {kind}; give uint8 [N, 3, H, W], levels 0 to 255")
        device = next(self.network.parameters()).device
        if not len(images):
            return torch.zeros(0, 2048, device=device)
        return torch.cat([self.network.features(part.to(device)) for part in images.split(self.batch)])
