"""Cached decoding at the speed of the device: packed weights on a CPU, a CUDA graph per position bucket on a GPU."""

from collections.abc import Iterator

import torch
from torch import Tensor

from artune.config.sizes import images_that_fit
from artune.models.policies.policy import Policy, caches
from artune.sampling.decoders import BucketedDecoder, PlainDecoder, TokenDecoder, records
from artune.sampling.device_memory import free_bytes
from artune.sampling.replica import cast_replica, pack, refresh
from artune.sampling.self_check import checked


class KeptDecoder:
    """The fastest decoder of a policy with its present weights, kept from one call to the next.

    At most one decoder is kept, since two caches may not fit on a GPU. On a GPU the decoder with its graphs and its
    replica serves the next call with the same number of rows; on a CPU the cast or packed weights serve until a weight
    changes.

    Args:
        policy: the policy that is decoded.
        dtype: type of the weights and the cache; None for the policy's own.
    """

    def __init__(self, policy: Policy, dtype: torch.dtype | None = None):
        self.policy, self.dtype = policy, dtype
        self._key: tuple[object, ...] | None = None
        self._decoder: TokenDecoder | None = None

    def __call__(self, class_ids: Tensor) -> TokenDecoder:
        """The decoder for ``class_ids`` [B] on the policy's device; under guidance they hold the null classes as well.

        On a GPU a new decoder is compared with the plain path, which replaces it, with a warning, if the two differ or
        the recording fails.
        """
        weights = list(self.policy.parameters())
        dtype = weights[0].dtype if self.dtype is None else self.dtype
        on_gpu = records(class_ids.device) and caches(self.policy)
        state = [weights[0].data_ptr()] if on_gpu else [(weight.data_ptr(), weight._version) for weight in weights]
        key = (len(class_ids), dtype, *state)
        if self._decoder is None or self._key != key:
            self.forget()  # free its memory before the new decoder allocates more
            replica = self.policy if dtype == weights[0].dtype else cast_replica(self.policy, dtype)
            if on_gpu:
                self._decoder = checked(
                    BucketedDecoder(replica, len(class_ids)),
                    class_ids,
                    exact=None if replica is self.policy else self.policy,
                )
            else:
                self._decoder = PlainDecoder(pack(replica, len(class_ids)))
            self._key = key
        elif on_gpu and self._decoder.policy is not self.policy:
            refresh(self._decoder.policy, self.policy)
        # On a CPU only the weights are kept: a cache is quickly allocated, and would take memory until the next call.
        return self._decoder if on_gpu else PlainDecoder(self._decoder.policy)

    def forget(self) -> None:
        """Free the decoder that is kept for the next call."""
        self._key = self._decoder = None


def decoder_for(policy: Policy, class_ids: Tensor, dtype: torch.dtype | None = None) -> TokenDecoder:
    """The decoder of a new :class:`KeptDecoder`, for a single use."""
    return KeptDecoder(policy, dtype)(class_ids)


def bytes_of_image(policy: Policy, sequences: int, dtype: torch.dtype | None = None) -> int:
    """Bytes for drawing one image: keys and values of all tokens, and a step's logits in float32.

    Args:
        policy: the policy that images are drawn from.
        sequences: sequences per image, 2 under guidance.
        dtype: type of the cache; None for the policy's own.
    """
    layers, heads, width = policy.cache_shape if caches(policy) else (0, 0, 0)
    item = (dtype or next(iter(policy.parameters())).dtype).itemsize
    cached = 2 * layers * heads * width * policy.tokens * item
    return sequences * (cached + 6 * 4 * policy.codebook_size)


def images_at_once(images: int, each: int, device: torch.device) -> int:
    """Number of ``images`` that may be drawn together: those that fit into a share of a GPU's memory, on a CPU all.

    Args:
        images: images in the batch.
        each: bytes per image, see :func:`bytes_of_image`.
        device: device of the cache.
    """
    if device.type != "cuda":
        return max(images, 1)
    return images_that_fit(each, free_bytes(device), torch.cuda.mem_get_info(device)[1])


def cut(images: int, at_once: int) -> Iterator[slice]:
    """Slices of a batch of ``images``, each at most ``at_once`` long and all of nearly equal length."""
    count = -(-images // max(at_once, 1))
    for part in range(count):
        yield slice(images * part // count, images * (part + 1) // count)
