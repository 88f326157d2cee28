"""Step-by-step decoders: the policy's own steps, and steps that a GPU records once and replays."""

from typing import Protocol

import torch
from torch import Tensor

from artune.models.policies.cache import BucketedCache, Cache
from artune.models.policies.policy import Policy

BUCKET = 32  # positions per bucket: 8 graphs for 256 tokens, and attention to at most 31 empty positions
RECORDED = {"cuda"}  # kinds of device whose steps are recorded; the others decode step by step


def records(device: torch.device) -> bool:
    """Whether the steps on ``device`` are recorded, which fixes the number of rows of a decoder."""
    return device.type in RECORDED


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
        if records(self.token.device):
            graph, logits = self.graphs.get(self.cache.extent) or self._capture()
            graph.replay()
        else:
            logits = self.policy.decode(self.token, self.cache)
        self.position += 1
        return logits

    def _capture(self) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """Record the step of the present bucket. Has not run on a GPU yet: :func:`checked` guards its first use."""
        before, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(before)
        with torch.cuda.stream(side):  # warm-up: kernels and workspaces are chosen before the recording
            for _ in range(2):  # each step writes the keys and values of this position, which the replay writes again
                self.policy.decode(self.token, self.cache)
                self.cache.position.fill_(self.position)
        before.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                logits = self.policy.decode(self.token, self.cache)
        finally:
            torch.cuda.set_stream(before)  # torch.cuda.graph leaves its own stream only if the recording succeeds
        self.graphs[self.cache.extent] = graph, logits
        return graph, logits
