"""The samples of one iteration."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class RolloutBatch:
    """Samples of one iteration, grouped by prompt: what a reward sees.

    Attributes:
        class_ids: [B] int64, groups of G consecutive equal ids.
        tokens: [B, T] int64.
        images: [B, 3, H, W] uint8; of a renderer of one's own, whatever it returns.
        start: index of the first row in the batch of all processes.
    """

    class_ids: Tensor
    tokens: Tensor
    images: Tensor
    start: int = 0
