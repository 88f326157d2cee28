"""The static key/value cache of cached decoding."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class KVCache:
    """Keys and values of every layer, allocated once for a whole sequence.

    Attributes:
        keys: a tensor [B, heads, length, head_dim] for each layer.
        values: likewise.
        position: number of positions that are filled, the same in every layer between two steps.
    """

    keys: list[Tensor]
    values: list[Tensor]
    position: int = 0

    @classmethod
    def allocate(cls, layers: int, shape: tuple[int, int, int, int], like: Tensor) -> "KVCache":
        """Room for ``shape`` = (B, heads, length, head_dim), with the dtype and device of ``like``."""
        storage = torch.empty(2, layers, *shape, dtype=like.dtype, device=like.device)
        return cls(list(storage[0].unbind()), list(storage[1].unbind()))

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store one position ([B, heads, 1, head_dim]) of ``layer``; returns views of the filled part.

        Raises:
            ValueError: the cache is full.
        """
        keys, values, end = self.keys[layer], self.values[layer], self.position + 1
        if end > keys.shape[2]:
            raise ValueError(f"the key/value cache is full: it was allocated for {keys.shape[2]} positions")
        keys[:, :, self.position : end] = key
        values[:, :, self.position : end] = value
        return keys[:, :, :end], values[:, :, :end]
