"""MANIQA reward: no-reference image quality (paper, Table 4)."""

import torch
from torch import Tensor, nn

from artune.config.run import Data
from artune.sampling.batch import RolloutBatch


class ManiqaReward:
    """Quality of an image by itself, about 0..1, without its prompt."""

    name = "maniqa"

    def __init__(self, network: nn.Module, data: Data):
        self.network = network

    @torch.no_grad()
    def __call__(self, batch: RolloutBatch) -> Tensor:
        """[B] quality scores."""
        return self.network.score(batch.images).float()


REWARD = ManiqaReward
