"""Static key/value caches for cached decoding: one keeps its position on the host, the other on the device."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from artune.models.policies.attention import Use
from artune.models.precision import wide

CacheShape = tuple[int, int, int, int]  # B, heads, length, head_dim


class Cache(Protocol):
    """A cache as a policy's step uses it: :meth:`begin`, then :meth:`attend` once per layer, then :meth:`advance`.

    Attributes:
        use: kind of its steps, by which :func:`artune.models.policies.attention.kernels` chooses the kernels.
    """

    use: ClassVar[Use]

    def begin(self, table: Tensor) -> Tensor:
        """Begin a step; returns the row of a positional ``table`` [length, ...] at the current position."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Store one position and attend to all positions so far; arguments and result [B, heads, 1, head_dim]."""

    def advance(self) -> None:
        """End the step by moving to the next position."""


def _room(layers: int, shape: tuple[int, ...], like: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    storage = torch.zeros(2, layers, *shape, dtype=like.dtype, device=like.device)
    return list(storage[0].unbind()), list(storage[1].unbind())


def attend_one(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention of one query per head, [B, heads, head_dim], to keys and values [S, B, heads, head_dim], on a CPU.

    It is computed as a few products and sums of whole tensors, at least in float32; the fused kernel would compute
    B x heads tiny products one by one. The last bits of a row's result depend on the other rows of the batch.
    """
    weights = (keys * (wide(query) * query.shape[-1] ** -0.5)).sum(-1).softmax(0)
    return (values * weights[..., None]).sum(0).type_as(values)


def attend_one_fused(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """The attention of :func:`attend_one` by the fused kernel, for devices other than a CPU."""
    keys, values = (whole.permute(1, 2, 0, 3) for whole in (keys, values))
    return F.scaled_dot_product_attention(query[:, :, None], keys, values)[:, :, 0]


@dataclass
class KVCache:
    """Keys and values of every layer, allocated once for a whole sequence; only the filled part is attended to.

    Attributes:
        keys: one tensor [length, B, heads, head_dim] per layer; a step writes and reads contiguous memory.
        values: one tensor of the same shape per layer.
        position: number of filled positions, the same in every layer between two steps.
    """

    use: ClassVar[Use] = "plain step"
    keys: list[Tensor]
    values: list[Tensor]
    position: int = 0

    @classmethod
    def allocate(cls, layers: int, shape: CacheShape, like: Tensor) -> "KVCache":
        """An empty cache of ``shape``, with the dtype and device of ``like``."""
        batch, heads, length, head_dim = shape
        return cls(*_room(layers, (length, batch, heads, head_dim), like))

    def begin(self, table: Tensor) -> Tensor:
        """Begin a step; returns the row of a positional ``table`` [length, ...] at the current position.

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
        """Store one position and attend to all stored ones; arguments and result [B, heads, 1, head_dim]."""
        attention = attend_one if query.device.type == "cpu" else attend_one_fused
        return attention(query.squeeze(2), *self.append(layer, key.squeeze(2), value.squeeze(2)))[:, :, None]

    def advance(self) -> None:
        """End the step by moving to the next position."""
        self.position += 1


class BucketedCache:
    """A cache for steps that a CUDA graph can record: within a bucket no shape, address or host value changes.

    Keys and values are [B, heads, length, head_dim] per layer.

    A step attends to the first ``extent`` positions; a mask of minus infinity hides those that are not yet filled.
    The caller keeps ``extent`` above the position; it grows by whole buckets, with one graph per bucket.

    Args:
        layers: number of layers of the model.
        shape: shape of the cache; the length is rounded up to a multiple of ``bucket``.
        like: a tensor of the dtype and device of the cache.
        bucket: positions per bucket, a multiple of 8, which the attention kernels require of a mask.
    """

    use: ClassVar[Use] = "masked step"

    def __init__(self, layers: int, shape: CacheShape, like: Tensor, bucket: int):
        batch, heads, length, head_dim = shape
        length = -(-length // bucket) * bucket
        self.keys, self.values = _room(layers, (batch, heads, length, head_dim), like)
        self.position = torch.zeros(1, dtype=torch.long, device=like.device)
        self.additive = torch.full((1, 1, 1, length), -torch.inf, dtype=like.dtype, device=like.device)
        self.bucket = self.extent = bucket

    def restart(self) -> None:
        """Empty the cache; the mask hides the old keys and values."""
        self.position.zero_()
        self.additive.fill_(-torch.inf)
        self.extent = self.bucket

    def begin(self, table: Tensor) -> Tensor:
        """Begin a step: unmask the current position; returns the row of a positional ``table`` [length, ...] there."""
        self.additive.index_fill_(3, self.position, 0.0)
        return table.index_select(0, self.position)[0]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Store one position and attend to the first ``extent``; arguments and result [B, heads, 1, head_dim]."""
        self.keys[layer].index_copy_(2, self.position, key)
        self.values[layer].index_copy_(2, self.position, value)
        keys, values = (whole[layer][:, :, : self.extent] for whole in (self.keys, self.values))
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=self.additive[..., : self.extent])

    def advance(self) -> None:
        """End the step by moving to the next position."""
        self.position.add_(1)
