"""Recorded decoding steps beside the plain path, and again after the weights have changed."""

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from artune.bench.measure import now, peak
from artune.bench.random_weights import random_policy
from artune.bench.suite.parts import BACKBONE, SHARE, Row, Suite
from artune.errors import ArtuneError
from artune.models.policies.policy import Policy
from artune.sampling.decoders import BUCKET, BucketedDecoder, PlainDecoder
from artune.sampling.replica import cast_replica, refresh

RECORDINGS = ("first recording s", "longest of the others s", "all recordings s")
BEYOND = 2  # tokens of the second bucket that are compared after the weights have changed


class Difference(NamedTuple):
    """Differences of two decoders' logits, each the worst over the steps.

    Attributes:
        largest: largest absolute difference over the largest absolute logit.
        typical: root mean square of the difference over the standard deviation of the logits.
    """

    largest: float
    typical: float


def run(suite: Suite) -> None:
    """Record LlamaGen-L and VQGAN and compare.

    Raises:
        ArtuneError: a warning was given, which is an error here, after all rows were noted.
    """
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        for name in (BACKBONE, "vqgan"):
            request = suite.request(name, SHARE)
            guided = request.run.sampling.cfg > 1
            rows = request.batch * (2 if guided else 1)
            for row in recorded(random_policy(request.run.backbone, suite.device), name, rows):
                suite.note(row)
    if given:
        raise ArtuneError(f"warning: {given[0].message}")


@torch.no_grad()
def recorded(policy: Policy, name: str, rows: int) -> Iterator[Row]:
    """Rows for the first weights, for matrices doubled in place, and for the first weights again."""
    device = next(policy.parameters()).device
    ids = torch.arange(rows, device=device) % policy.classes
    replica = cast_replica(policy, torch.bfloat16)
    decoder = BucketedDecoder(replica, rows)
    first, seconds = compare(decoder, ids, policy.tokens)
    rest: Row = {"rows": rows, "graphs": len(decoder.graphs), **dict.fromkeys(RECORDINGS)}
    if decoder.graphs:  # the first step of a bucket records it
        bucket = decoder.cache.bucket
        spent = [seconds[at] for at in (1, *range(bucket, policy.tokens, bucket))]
        rest |= zip(RECORDINGS, (spent[0], max(spent[1:], default=None), sum(spent)), strict=True)
    yield _row(f"{name}, weights x 1", first, policy.tokens, rest | {"peak GB": peak(device)})
    for case, factor in (("weights x 2, refreshed", 2.0), ("weights x 1 again, refreshed", 0.5)):
        for parameter in policy.parameters():
            if parameter.ndim > 1:
                parameter.mul_(factor)
        refresh(replica, policy)
        steps = min(BUCKET + BEYOND, policy.tokens)
        yield _row(f"{name}, {case}", compare(decoder, ids, steps)[0], steps, dict.fromkeys([*rest, "peak GB"]))


def _row(case: str, found: Difference, steps: int, rest: Row) -> Row:
    seen = {"largest difference / largest logit": found.largest, "rms of difference / spread": found.typical}
    return {"case": case, "tokens compared": steps} | seen | rest


@torch.no_grad()
def compare(decoder: BucketedDecoder, ids: Tensor, steps: int) -> tuple[Difference, list[float]]:
    """The difference from the plain path along its greedy tokens, and the seconds of each of the decoder's steps.

    The first step of a bucket is recorded on CUDA, so its seconds are those of the recording.

    Args:
        decoder: the decoder; its policy also takes the plain path.
        ids: class ids [B].
        steps: number of tokens to compare.
    """
    plain, device = PlainDecoder(decoder.policy, steps), ids.device
    seconds: list[float] = []
    worst = torch.zeros(2, device=device)
    expected = plain.start(ids)
    began = now(device)
    found = decoder.start(ids)
    for step in range(steps):
        seconds.append(now(device) - began)
        off = expected - found
        both = torch.stack((off.abs().max() / expected.abs().max(), off.square().mean().sqrt() / expected.std()))
        worst = torch.maximum(worst, both.nan_to_num(nan=torch.inf))
        if step + 1 < steps:
            token = expected.argmax(-1)
            expected, began = plain.decode(token), now(device)
            found = decoder.decode(token)
    return Difference(*worst.tolist()), seconds
