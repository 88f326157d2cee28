"""CLIP reward: cosine of image and prompt (paper, Sec. 3.2)."""

import torch
from torch import Tensor, nn

from artune.config.run import Data
from artune.data.prompts import prompts
from artune.sampling.batch import RolloutBatch


class ClipReward:
    """Cosine between a CLIP image embedding and the embedding of the sample's class prompt, [-1, 1]."""

    name = "clip"

    def __init__(self, network: nn.Module, data: Data):
        self.network = network
        with torch.no_grad():
            self.texts = network.embed_texts(prompts(data))  # [classes, E], once

    @torch.no_grad()
    def __call__(self, batch: RolloutBatch) -> Tensor:
        """[B] raw cosines: no factor, no clamp."""
        images = self.network.embed_images(batch.images)
        return (images * self.texts[batch.class_ids]).sum(-1).float()


REWARD = ClipReward
