"""Seconds of drawing tokens with the decoder that is kept from call to call; its making is a figure of its own."""

import warnings
from typing import Any

import torch
from torch import Tensor

from artune.bench.measure import Timing, forget_peak, now, peak, row
from artune.bench.random_weights import random_policy
from artune.bench.suite.parts import BACKBONE, SHARE, Suite
from artune.config.run import Sampling
from artune.models.policies.policy import Policy
from artune.planning.floors import rollout
from artune.runtime.seeds import generator_for
from artune.sampling.cached_decoding import KeptDecoder
from artune.sampling.decoders import PlainDecoder, TokenDecoder
from artune.sampling.generate import Sampler
from artune.sampling.replica import cast_replica


class PlainKept(KeptDecoder):
    """Keeps a replica in the dtype of the sampling and decodes with the policy's own steps, without CUDA graphs."""

    def __init__(self, policy: Policy, dtype: torch.dtype | None):
        super().__init__(policy, dtype)
        self.replica = policy if dtype is None else cast_replica(policy, dtype)

    def __call__(self, class_ids: Tensor) -> TokenDecoder:
        """See :class:`KeptDecoder`."""
        return PlainDecoder(self.replica)


class PlainSampler(Sampler):
    """A sampler that records nothing."""

    def __init__(self, policy: Policy, sampling: Sampling):
        super().__init__(policy, sampling)
        self._decoder: KeptDecoder = PlainKept(policy, dtype_of(sampling))


def dtype_of(sampling: Sampling) -> torch.dtype | None:
    """Type of the weights and the cache in sampling; None for the policy's own."""
    return None if sampling.weights_dtype == "own" else getattr(torch, sampling.weights_dtype)


def run(suite: Suite) -> None:
    """Time the images of an iteration in one process, then those of each of four processes."""
    for images in (None, SHARE):
        timed(suite, images, Sampler, "as in a run")
        timed(suite, images, PlainSampler, "without CUDA graphs")


def timed(suite: Suite, images: int | None, kind: type[Sampler], name: str) -> None:
    """Draw once to make the decoder, then ``repeats`` times with the same one."""
    request, device = suite.request(BACKBONE, images), suite.device
    run_, timing = request.run, Timing()
    sampler = kind(random_policy(run_.backbone, device).requires_grad_(False), run_.sampling)
    ids = torch.arange(request.batch, device=device) % run_.data.classes
    forget_peak(device)
    began, first = now(device), 0.0
    with warnings.catch_warnings(record=True) as given:  # such as that of a recording that cannot be used
        warnings.simplefilter("always")
        for repeat in range(request.repeats + 1):
            sampler(ids, generator_for("suite", repeat, device=device))
            ended = now(device)
            if repeat:
                timing.seconds.append(ended - began)
            else:
                first = ended - began
            began = ended
    timing.peak = peak(device)
    dtype = dtype_of(run_.sampling) or torch.float32
    floor = rollout(run_.backbone, request.batch, run_.sampling.cfg > 1, item=dtype.itemsize)
    rest: dict[str, Any] = {"first draw s": first, "making the decoder s": max(first - timing.median, 0.0)}
    rest |= {"tokens/s": request.batch * run_.backbone.tokens / timing.median}
    rest |= {"remark": str(given[0].message) if given else None}
    suite.note(row(f"generate {BACKBONE}, {name}", request, timing, floor, request.ceiling(dtype), **rest))
