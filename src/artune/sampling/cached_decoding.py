"""Cached decoding at the speed of the device: packed weights on a CPU, a CUDA graph per position bucket on a GPU."""

import warnings
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from artune.config.sizes import images_that_fit
from artune.models.policies.cache import BucketedCache, Cache
from artune.models.policies.policy import Policy
from artune.sampling.device_memory import free_bytes
from artune.sampling.replica import cast_replica, pack, refresh

BUCKET = 32  # positions per bucket: 8 graphs for 256 tokens, and attention to at most 31 empty positions
CHECKED = 2  # tokens of the second bucket that :func:`agrees` checks
# Largest accepted difference of logits between the two paths, divided by the largest absolute logit. Tokens cannot be
# compared in bfloat16: among 16,384 logits with 8 significant bits the largest value often occurs more than once.
TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 5e-2}


class TokenDecoder(Protocol):
    """A policy and its cache; both methods return float32 logits [B, V], valid until the next call."""

    policy: Policy

    def start(self, class_ids: Tensor) -> Tensor:
        """Begin new sequences; returns the logits of the first token."""
        ...

    def decode(self, token: Tensor) -> Tensor:
        """Feed the drawn token [B]; returns the logits of the next one. Raises ValueError after the last."""
        ...


class PlainDecoder:
    """Decodes with the policy's own steps, for ``length`` tokens (default: the tokens of an image)."""

    def __init__(self, policy: Policy, length: int | None = None):
        self.policy, self.length = policy, length or policy.tokens
        self.cache: Cache | None = None

    def start(self, class_ids: Tensor) -> Tensor:
        """See :class:`TokenDecoder`."""
        logits, self.cache = self.policy.start(class_ids, self.length)
        return logits

    def decode(self, token: Tensor) -> Tensor:
        """See :class:`TokenDecoder`."""
        if self.cache is None:
            raise ValueError("decode: call start first")
        return self.policy.decode(token, self.cache)


class BucketedDecoder:
    """Decodes by steps that read no value on the host: on CUDA each bucket's step is recorded once, then replayed.

    Filtering and drawing follow the replay as ordinary kernels, enqueued while the graph runs.

    Args:
        policy: the policy; its weights must stay at their addresses as long as the decoder is used.
        rows: number of sequences, twice the images under guidance.
        bucket: see :class:`~artune.models.policies.cache.BucketedCache`.
    """

    def __init__(self, policy: Policy, rows: int, bucket: int = BUCKET):
        layers, heads, width = policy.cache_shape
        weight = next(iter(policy.parameters()))
        self.policy = policy
        self.cache = BucketedCache(layers, (rows, heads, policy.tokens, width), weight, bucket)
        self.token = torch.zeros(rows, dtype=torch.long, device=weight.device)
        self.position = 0  # the device's position after all enqueued steps
        self.graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    def start(self, class_ids: Tensor) -> Tensor:
        """See :class:`TokenDecoder`."""
        self.cache.restart()
        logits, _ = self.policy.start(class_ids, self.policy.tokens, self.cache)
        self.position = 1
        return logits

    def decode(self, token: Tensor) -> Tensor:
        """See :class:`TokenDecoder`."""
        if self.position >= self.policy.tokens:
            raise ValueError(f"all {self.policy.tokens} tokens are decoded")
        bucket = self.cache.bucket
        self.cache.extent = (self.position // bucket + 1) * bucket
        self.token.copy_(token)
        if self.token.device.type == "cuda":
            graph, logits = self.graphs.get(self.cache.extent) or self._capture()
            graph.replay()
        else:
            logits = self.policy.decode(self.token, self.cache)
        self.position += 1
        return logits

    def _capture(self) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """Record the step of the present bucket. Has not run on a GPU yet: :func:`agrees` guards its first use."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # warm-up: kernels and workspaces are chosen before the recording
            for _ in range(2):  # each step writes the keys and values of this position, which the replay writes again
                self.policy.decode(self.token, self.cache)
                self.cache.position.fill_(self.position)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = self.policy.decode(self.token, self.cache)
        self.graphs[self.cache.extent] = graph, logits
        return graph, logits


@torch.no_grad()
def agrees(decoder: BucketedDecoder, class_ids: Tensor) -> bool:
    """Whether the decoder's logits match the plain path's along its greedy tokens, up to some of the second bucket."""
    policy = decoder.policy
    steps = min(decoder.cache.bucket + CHECKED, policy.tokens)
    plain = PlainDecoder(policy, steps)  # a second cache of whole images may not fit
    expected, found = plain.start(class_ids), decoder.start(class_ids)
    tolerance = TOLERANCES.get(decoder.cache.keys[0].dtype, 5e-2)
    for step in range(steps):
        if not bool((expected - found).abs().max() <= tolerance * expected.abs().max()):
            return False
        if step + 1 < steps:
            token = expected.argmax(-1)
            expected, found = plain.decode(token), decoder.decode(token)
    return True


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
        on_gpu = class_ids.device.type == "cuda"
        state = [weights[0].data_ptr()] if on_gpu else [(weight.data_ptr(), weight._version) for weight in weights]
        key = (len(class_ids), dtype, *state)
        if self._decoder is None or self._key != key:
            self.forget()  # free its memory before the new decoder allocates more
            replica = self.policy if dtype == weights[0].dtype else cast_replica(self.policy, dtype)
            if on_gpu:
                self._decoder = checked(BucketedDecoder(replica, len(class_ids)), class_ids)
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


def checked(decoder: BucketedDecoder, class_ids: Tensor) -> TokenDecoder:
    """The decoder; if it fails or its logits differ, the plain one, with a warning."""
    try:
        if agrees(decoder, class_ids):
            return decoder
        reason = "its logits differ from those of the plain path"
    except (RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0]
    warnings.warn(f"decoding without a CUDA graph, as the recorded step cannot be used: {reason}", stacklevel=2)
    return PlainDecoder(decoder.policy)


def bytes_of_image(policy: Policy, sequences: int, dtype: torch.dtype | None = None) -> int:
    """Bytes for drawing one image: keys and values of all tokens, and a step's logits in float32.

    Args:
        policy: the policy that images are drawn from.
        sequences: sequences per image, 2 under guidance.
        dtype: type of the cache; None for the policy's own.
    """
    layers, heads, width = policy.cache_shape
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
