"""Static key/value caches of cached decoding: one that the host steps, one whose position lives on the device."""

from dataclasses import dataclass

import torch
from torch import Tensor

Shape = tuple[int, int, int, int]  # B, heads, length, head_dim


def _room(layers: int, shape: Shape, like: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    storage = torch.zeros(2, layers, *shape, dtype=like.dtype, device=like.device)
    return list(storage[0].unbind()), list(storage[1].unbind())


@dataclass
class KVCache:
    """Keys and values of every layer, allocated once for a whole sequence; the filled part alone is attended.

    Attributes:
        keys: a tensor [B, heads, length, head_dim] for each layer.
        values: likewise.
        position: number of positions that are filled, the same in every layer between two steps.
        mask: None, as nothing that is not filled is ever attended.
    """

    keys: list[Tensor]
    values: list[Tensor]
    position: int = 0
    mask: None = None

    @classmethod
    def allocate(cls, layers: int, shape: Shape, like: Tensor) -> "KVCache":
        """Room for ``shape``, with the dtype and device of ``like``."""
        return cls(*_room(layers, shape, like))

    def begin(self, table: Tensor) -> Tensor:
        """Begin a step: the row of a positional ``table`` [length, ...] at this position.

        Raises:
            ValueError: the cache is full.
        """
        if self.position >= self.keys[0].shape[2]:
            raise ValueError(f"the key/value cache is full: it was allocated for {self.keys[0].shape[2]} positions")
        return table[self.position]

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store one position ([B, heads, 1, head_dim]) of ``layer``; returns views of the filled part."""
        keys, values, end = self.keys[layer], self.values[layer], self.position + 1
        keys[:, :, self.position : end] = key
        values[:, :, self.position : end] = value
        return keys[:, :, :end], values[:, :, :end]

    def advance(self) -> None:
        """End a step."""
        self.position += 1


class BucketedCache:
    """The same for a step that a CUDA graph can record: within a bucket no shape, address or host value changes.

    The first ``extent`` positions are attended, those not yet filled under a mask of minus infinity. Whoever steps
    keeps ``extent`` above the position; it grows by whole buckets, with one graph for each.

    Args:
        layers: of the model.
        shape: the length is rounded up to a multiple of ``bucket``.
        like: gives dtype and device.
        bucket: positions; a multiple of 8, which the attention kernels ask of a mask.
    """

    def __init__(self, layers: int, shape: Shape, like: Tensor, bucket: int):
        batch, heads, length, head_dim = shape
        length = -(-length // bucket) * bucket
        self.keys, self.values = _room(layers, (batch, heads, length, head_dim), like)
        self.position = torch.zeros(1, dtype=torch.long, device=like.device)
        self.additive = torch.full((1, 1, 1, length), -torch.inf, dtype=like.dtype, device=like.device)
        self.bucket = self.extent = bucket

    @property
    def mask(self) -> Tensor:
        """Additive [1, 1, 1, extent]: 0 where filled, this step's position included."""
        return self.additive[..., : self.extent]

    def restart(self) -> None:
        """Forget everything; old keys and values stay under the mask."""
        self.position.zero_()
        self.additive.fill_(-torch.inf)
        self.extent = self.bucket

    def begin(self, table: Tensor) -> Tensor:
        """Begin a step: the row of a positional ``table`` [length, ...] at this position, which is opened."""
        self.additive.index_fill_(3, self.position, 0.0)
        return table.index_select(0, self.position)[0]

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store one position ([B, heads, 1, head_dim]) of ``layer``; returns views of the attended part."""
        keys, values = self.keys[layer], self.values[layer]
        keys.index_copy_(2, self.position, key)
        values.index_copy_(2, self.position, value)
        return keys[:, :, : self.extent], values[:, :, : self.extent]

    def advance(self) -> None:
        """End a step."""
        self.position.add_(1)


Cache = KVCache | BucketedCache
