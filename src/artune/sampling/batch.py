"""The samples of one iteration."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class RolloutBatch:
    """Samples of one iteration, grouped by prompt."""

    class_ids: Tensor  # [B] int64, groups of G consecutive equal ids
    tokens: Tensor  # [B, T] int64
    images: Tensor  # [B, 3, H, W] uint8, the input of every reward
    start: int = 0  # index of this share's first row in the whole batch
