"""Static key/value caches of cached decoding: one that the host steps, one whose position lives on the device."""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Shape = tuple[int, int, int, int]  # B, heads, length, head_dim


class Cache(Protocol):
    """What a policy's step asks of a cache: :meth:`begin`, then :meth:`attend` for each layer, then :meth:`advance`."""

    def begin(self, table: Tensor) -> Tensor:
        """Begin a step: the row of a positional ``table`` [length, ...] at this position."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Store one position and attend to all so far; arguments and result [B, heads, 1, head_dim]."""

    def advance(self) -> None:
        """End a step."""


def _room(layers: int, shape: tuple[int, ...], like: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    storage = torch.zeros(2, layers, *shape, dtype=like.dtype, device=like.device)
    return list(storage[0].unbind()), list(storage[1].unbind())


def attend_one(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of one query a head, [B, heads, head_dim], to keys and values [S, B, heads, head_dim], on a CPU.

    As a few products and sums of whole tensors, in float32; the fused kernel does B x heads tiny products one by one.
    Which rows stand beside one changes its last bits.
    """
    weights = (keys * (query.float() * query.shape[-1] ** -0.5)).sum(-1).softmax(0)
    return (values * weights[..., None]).sum(0).type_as(values)


def attend_one_fused(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The same by the fused kernel, for other devices."""
    keys, values = (whole.permute(1, 2, 0, 3) for whole in (keys, values))
    return F.scaled_dot_product_attention(query[:, :, None], keys, values)[:, :, 0]


@dataclass
class KVCache:
    """Keys and values of every layer, allocated once for a whole sequence; the filled part alone is attended.

    Attributes:
        keys: a tensor [length, B, heads, head_dim] for each layer: a step writes and reads whole pieces of memory.
        values: likewise.
        position: number of positions that are filled, the same in every layer between two steps.
    """

    keys: list[Tensor]
    values: list[Tensor]
    position: int = 0

    @classmethod
    def allocate(cls, layers: int, shape: Shape, like: Tensor) -> "KVCache":
        """Room for ``shape``, with the dtype and device of ``like``."""
        batch, heads, length, head_dim = shape
        return cls(*_room(layers, (length, batch, heads, head_dim), like))

    def begin(self, table: Tensor) -> Tensor:
        """Begin a step: the row of a positional ``table`` [length, ...] at this position.

        Raises:
            ValueError: the cache is full.
        """
        if self.position >= len(self.keys[0]):
            raise ValueError(f"the key/value cache is full: it was allocated for {len(self.keys[0])} positions")
        return table[self.position]

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store one position ([B, heads, head_dim]) of ``layer``; returns views [filled, B, heads, head_dim]."""
        keys, values = self.keys[layer], self.values[layer]
        keys[self.position], values[self.position] = key, value
        return keys[: self.position + 1], values[: self.position + 1]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Store one position and attend to all that are stored; arguments and result [B, heads, 1, head_dim]."""
        attention = attend_one if query.device.type == "cpu" else attend_one_fused
        return attention(query.squeeze(2), *self.append(layer, key.squeeze(2), value.squeeze(2)))[:, :, None]

    def advance(self) -> None:
        """End a step."""
        self.position += 1


class BucketedCache:
    """One for a step that a CUDA graph can record: within a bucket no shape, address or host value changes.

    Keys and values are [B, heads, length, head_dim] for each layer.

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

    def restart(self) -> None:
        """Forget everything; old keys and values stay under the mask."""
        self.position.zero_()
        self.additive.fill_(-torch.inf)
        self.extent = self.bucket

    def begin(self, table: Tensor) -> Tensor:
        """Begin a step: the row of a positional ``table`` [length, ...] at this position, which is opened."""
        self.additive.index_fill_(3, self.position, 0.0)
        return table.index_select(0, self.position)[0]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Store one position and attend to the extent; arguments and result [B, heads, 1, head_dim]."""
        self.keys[layer].index_copy_(2, self.position, key)
        self.values[layer].index_copy_(2, self.position, value)
        keys, values = (whole[layer][:, :, : self.extent] for whole in (self.keys, self.values))
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=self.additive[..., : self.extent])

    def advance(self) -> None:
        """End a step."""
        self.position.add_(1)
