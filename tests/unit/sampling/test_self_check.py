"""The check of recorded decoding: right decoders pass at every scale of the weights, planted mistakes do not."""

import re

import pytest
import torch
from wrong_caches import MISTAKES

from artune.models.policies.llamagen import LlamaGen
from artune.models.policies.vqgan_gpt import VQGANGPT
from artune.sampling.decoders import BucketedDecoder, PlainDecoder
from artune.sampling.replica import cast_replica
from artune.sampling.self_check import LIMITS, accepted, checked, difference

IDS = torch.tensor([3, 1, 4, 1])
TIMES = pytest.mark.parametrize("times", [1, 2])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


@pytest.fixture(params=[LlamaGen, VQGANGPT])
def policy(request):
    """A policy whose matrices are as sharp for its width as random ones are at full size."""
    policy = request.param(dim=128, layers=3, heads=2, codebook_size=1024, classes=10, tokens=64)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in policy.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.05, generator=draw)
    return policy


def scaled(policy, times):
    """The policy with all its matrices ``times`` as large."""
    with torch.no_grad():
        for weight in policy.parameters():
            if weight.dim() > 1:
                weight.mul_(times)
    return policy


def decoder_of(policy, dtype, cache=None):
    """A decoder, with one of the wrong caches in place of its own, and the policy that its replica rounds."""
    exact = None if dtype == torch.float32 else policy
    decoder = BucketedDecoder(policy if exact is None else cast_replica(policy, dtype), len(IDS))
    decoder.cache.__class__ = cache or type(decoder.cache)
    return decoder, exact


@TIMES
@DTYPES
def test_a_right_decoder_is_accepted_and_its_figures_are_said(policy, times, dtype, capsys):
    decoder, exact = decoder_of(scaled(policy, times), dtype)
    assert checked(decoder, IDS, exact) is decoder
    found = difference(decoder, IDS, exact)
    assert found.spread < 0.2 * LIMITS[dtype]
    assert found.rounding < 1.3
    said = capsys.readouterr().err
    assert (
        f"recorded decoding of 4 rows: its logits differ from those of the plain path by {found.spread:.2g} of" in said
    )
    assert ("times its rounding errors (limit 2.0)" in said) == (exact is not None)


@TIMES
@DTYPES
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_decoder_is_refused_with_its_figures(policy, times, dtype, mistake):
    decoder, exact = decoder_of(scaled(policy, times), dtype, MISTAKES[mistake])
    found = difference(decoder, IDS, exact)
    assert not accepted(decoder, found)
    again, exact = decoder_of(policy, dtype, MISTAKES[mistake])  # under an open mask a used cache gives other figures
    rounding = "" if exact is None else f", with {found.rounding:.2g} times its rounding errors (limit 2.0)"
    said = f"by {found.spread:.2g} of their spread (limit {LIMITS[dtype]}){rounding}"
    with pytest.warns(UserWarning, match=re.escape(said) + "$"):
        assert isinstance(checked(again, IDS, exact), PlainDecoder)


@pytest.mark.parametrize("mistake", [None, *MISTAKES])
def test_a_policy_that_is_itself_in_half_precision_is_checked_by_the_spread_alone(policy, mistake):
    """There is no exact policy beside it; the limit for bfloat16 tells mistakes apart where the matrices are sharp."""
    assert {torch.float32: 0.01, torch.bfloat16: 0.25} == LIMITS
    decoder = BucketedDecoder(scaled(policy, 2).bfloat16(), len(IDS))
    decoder.cache.__class__ = MISTAKES.get(mistake, type(decoder.cache))
    found = difference(decoder, IDS)
    assert found.rounding == 1.0
    assert accepted(decoder, found) == (mistake is None)


def test_equal_logits_and_logits_that_are_not_numbers():
    policy = LlamaGen(dim=32, layers=1, heads=2, codebook_size=16, classes=10, tokens=64)  # its head is zero
    decoder, _ = decoder_of(policy, torch.float32)
    assert difference(decoder, IDS) == (0.0, 0.0, 1.0)
    with torch.no_grad():
        policy.output.weight.fill_(float("nan"))
    assert not accepted(decoder, difference(decoder, IDS))
