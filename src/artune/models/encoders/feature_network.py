"""The interface of a network to FID, its related metrics and the LOO-FID reward."""

from abc import ABC, abstractmethod

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
