"""The recorded decoding step, replayed as a CUDA graph would be, against the plain path."""

import pytest
import torch
from recorded import BrokenGraph, recording

from artune.models.policies.cache import BucketedCache
from artune.models.policies.llamagen import LlamaGen
from artune.models.policies.vqgan_gpt import VQGANGPT
from artune.sampling import cached_decoding
from artune.sampling.cached_decoding import KeptDecoder, decoder_for
from artune.sampling.decoders import BucketedDecoder, PlainDecoder
from artune.sampling.replica import cast_replica

IDS = torch.tensor([3, 1, 4])
FAMILIES = pytest.mark.parametrize("family", [LlamaGen, VQGANGPT])


def policy_of(family, tokens=256):
    policy = family(dim=64, layers=2, heads=2, codebook_size=64, classes=8, tokens=tokens)
    changed(policy, 0)
    return policy.requires_grad_(False)


def changed(policy, seed):
    """Other weights at the same addresses, as after an optimiser step."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.normal_(std=0.1, generator=draw).add_(weight.dim() == 1)


def apart(policy, decoder, dtype, seed):
    """Largest difference of all logits of an image between the decoder and the plain path, over their spread."""
    tokens = torch.randint(64, (len(IDS), policy.tokens - 1), generator=torch.Generator().manual_seed(seed))
    plain = PlainDecoder(cast_replica(policy, dtype))
    expected, found, worst = plain.start(IDS), decoder.start(IDS), 0.0
    for token in (*tokens.T, None):
        worst = max(worst, ((expected - found).square().mean().sqrt() / expected.std()).item())
        if token is not None:
            expected, found = plain.decode(token), decoder.decode(token)
    return worst


@FAMILIES
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_recorded_steps_of_eight_buckets_follow_the_weights(family, dtype, limit):
    policy = policy_of(family)
    with recording() as cuda:
        kept = KeptDecoder(policy, dtype)
        first = kept(IDS)
        for rollout in range(3):
            changed(policy, rollout)
            decoder = kept(IDS)
            assert isinstance(decoder, BucketedDecoder)
            assert decoder is first
            assert apart(policy, decoder, dtype, rollout) < limit
        assert cuda.captures == len(decoder.graphs) == 8


def moved(replica, policy):
    """A refresh that puts the new weights elsewhere."""
    for own, new in zip(replica.parameters(), policy.parameters(), strict=True):
        own.data = new.to(own.dtype)


@FAMILIES
def test_weights_that_move_are_noticed(family, monkeypatch):
    monkeypatch.setattr(cached_decoding, "refresh", moved)
    policy = policy_of(family)
    with recording():
        kept = KeptDecoder(policy, torch.bfloat16)
        assert apart(policy, kept(IDS), torch.bfloat16, 0) < 0.05
        changed(policy, 1)
        assert apart(policy, kept(IDS), torch.bfloat16, 1) > 1


def read_on_host(cache, table):
    cache.additive.index_fill_(3, cache.position, 0.0)
    return table[cache.position.item()]


def position_elsewhere(cache):
    cache.position = cache.position + 1


def counted_on_host(cache, table):
    cache.additive.index_fill_(3, cache.position, 0.0)
    cache.count = getattr(cache, "count", -1) + 1
    return table[cache.count % len(table)]


@FAMILIES
@pytest.mark.parametrize(
    ("method", "wrong", "reason"),
    [
        ("begin", read_on_host, "reads a value of the device on the host"),
        ("begin", lambda cache, table: table[(cache.position >= 0).nonzero()[0, 0]], "reads a value"),
        ("begin", lambda cache, table: table[: len(cache.position)][cache.position >= 0][0], "picks rows by a mask"),
        ("begin", counted_on_host, "logits differ"),
        ("advance", position_elsewhere, "logits differ"),
    ],
    ids=["item", "nonzero", "mask", "host number", "moved"],
)
def test_a_step_that_cannot_be_recorded_is_refused(family, method, wrong, reason, monkeypatch):
    monkeypatch.setattr(BucketedCache, method, wrong)
    with recording() as cuda, pytest.warns(UserWarning, match=reason):
        assert isinstance(decoder_for(policy_of(family), IDS), PlainDecoder)
    assert cuda.current is cuda.default


def test_a_failed_recording_leaves_no_stream_behind():
    policy = policy_of(LlamaGen)
    with recording(BrokenGraph) as cuda, pytest.warns(UserWarning, match="previous error during capture"):
        decoder = decoder_for(policy, IDS)
    assert cuda.current is cuda.default
    assert cuda.captures == 1
    assert isinstance(decoder, PlainDecoder)
