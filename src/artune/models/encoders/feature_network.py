"""The interface of a network to FID, its related metrics and the LOO-FID reward, and its use in batches."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor


class FeatureNetwork(ABC):
    """A network whose features of images are compared; subclasses also derive from a torch module."""

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] -> float32 [B, D]."""

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """All outputs for the official scores from one forward pass over images uint8 [B, 3, H, W].

        Returns:
            ``features`` [B, D] and, if the network has them, ``spatial`` [B, S] (the features of sFID) and
            ``probabilities`` [B, C]; all float32.
        """
        return {"features": self.features(images)}


@torch.no_grad()
def in_batches(
    call: Callable[[Tensor], Tensor], images: Tensor, batch: int = 200, device: torch.device | str = "cpu"
) -> Tensor:
    """Apply ``call`` to uint8 images [N, 3, H, W], ``batch`` at a time on ``device``: float32 [N, ...] on the CPU."""
    return torch.cat([call(part.to(device)).float().cpu() for part in images.split(batch)])
