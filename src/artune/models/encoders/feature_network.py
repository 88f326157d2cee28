"""What FID, the metrics beside it and the LOO-FID reward ask of a network."""

from abc import ABC, abstractmethod

from torch import Tensor


class FeatureNetwork(ABC):
    """A network whose features of images are compared; a class derives from this and from a torch module."""

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Images uint8 [B, 3, H, W] -> float32 [B, D]."""

    def outputs(self, images: Tensor) -> dict[str, Tensor]:
        """All that one forward pass over images uint8 [B, 3, H, W] gives the official scores.

        Returns:
            ``features`` [B, D], and where the network has them ``spatial`` [B, S], the features of sFID, and
            ``probabilities`` [B, C]; all float32.
        """
        return {"features": self.features(images)}
