"""Decoding, scoring and rendering at full size on fake CUDA tensors: one device, and no value read on the host."""

import pytest
import torch
from fake_cuda import CUDA, HostReadError, OnDevice, fake_cuda, on_cuda
from project import ROOT
from recorded import FakeGraph, recording

from artune.config.registry import Registry
from artune.config.sizes import decoded_size
from artune.models.policies.build import build_policy
from artune.models.policies.cache import BucketedCache
from artune.models.tokenizers.build import build_tokenizer
from artune.sampling.decoders import BucketedDecoder, PlainDecoder
from artune.sampling.generate import draw_token, filter_logits, guide
from artune.sampling.replica import cast_replica, refresh
from artune.sampling.rollout import make_renderer
from artune.tuning.objective import score_tokens

IMAGENET = Registry("imagenet", root=ROOT / "config")
RUNS = {"llamagen": "llamagen_l-ours", "vqgan": "vqgan-ours"}
FAMILIES = pytest.mark.parametrize("family", RUNS)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


def run_of(family):
    return IMAGENET.resolve(RUNS[family])


def policy_of(family, **changes):
    return on_cuda(lambda: build_policy(run_of(family).backbone.model_copy(update=changes)))


def ids_of(images):
    return torch.zeros(images, dtype=torch.long, device=CUDA)


def tokens_of(family, images):
    return ids_of(images)[:, None].expand(-1, run_of(family).backbone.tokens)


@FAMILIES
@DTYPES
def test_decoding(family, dtype):
    """The first step runs as it is, and that of the last bucket is recorded by the decoder's own code."""
    rows = 72 if family == "llamagen" else 36
    with fake_cuda(), recording(FakeGraph, {"cuda"}) as cuda:
        policy = policy_of(family)
        replica = cast_replica(policy, dtype)
        ids = ids_of(rows)
        decoder = BucketedDecoder(replica, rows)
        with OnDevice() as outside:
            refresh(replica, policy)
            logits = decoder.start(ids)
            decoder.position = policy.tokens - 1
            logits = decoder.decode(ids)
            chosen = guide(logits[: rows // 2], logits[rows // 2 :], 2.0)
            draw_token(filter_logits(chosen, 1.0, 100, 0.9))
        assert cuda.captures == len(decoder.graphs) == 1
        assert logits.shape == (rows, policy.codebook_size)
        assert logits.dtype == torch.float32
        assert outside.seen["embedding"] > 0
        graph, _ = decoder.graphs[policy.tokens]
        assert graph.mode.seen["index_copy_"] == 2 * policy.cache_shape[0]


@FAMILIES
def test_plain_decoding(family):
    with fake_cuda():
        decoder, ids = PlainDecoder(policy_of(family)), ids_of(36)
        with OnDevice():
            decoder.start(ids)
            assert decoder.decode(ids).device == CUDA


@FAMILIES
@pytest.mark.parametrize("autocast", ["float32", "bfloat16"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_scoring(family, autocast, checkpointing):
    run = run_of(family)
    grpo = run.grpo.model_copy(update={"autocast": autocast})
    with fake_cuda():
        policy = policy_of(family).requires_grad_(True)
        policy.checkpointing = checkpointing
        with OnDevice() as mode:
            logp, entropy = score_tokens(policy, tokens_of(family, 36), ids_of(36), grpo, run.sampling)
        assert logp.shape == entropy.shape == (36, policy.tokens)
        assert logp.requires_grad
        assert (mode.seen["_to_copy"] > 100) == (autocast == "bfloat16")


@FAMILIES
@DTYPES
def test_rendering(family, dtype):
    run = run_of(family)
    side = decoded_size(run.backbone, run.tokenizer)
    with fake_cuda():
        tokenizer = on_cuda(lambda: build_tokenizer(run.tokenizer, image_size=side))
        render = make_renderer(tokenizer, side, run.data.image_size, run.backbone.uint8_rule, dtype)
        with OnDevice():
            images = render(tokens_of(family, 36))
        assert images.shape == (36, 3, 256, 256)
        assert images.dtype == torch.uint8


def on_the_host(cache, table):
    cache.additive.index_fill_(3, cache.position, 0.0)
    return table.cpu()[0]


WRONG = {
    "item": (lambda cache, table: table[cache.position.item()], HostReadError, "reads a value"),
    "list": (lambda cache, table: table[cache.position.tolist()[0]], HostReadError, "reads a value"),
    "bool": (lambda cache, table: table[0 if cache.position[0] > 0 else 1], HostReadError, "reads a value"),
    "nonzero": (lambda cache, table: table[cache.position.nonzero()[0]], HostReadError, "reads a value"),
    "mask": (lambda cache, table: table[: len(cache.position)][cache.position > 0], HostReadError, "by a mask"),
    "copy to the host": (on_the_host, HostReadError, "to the host"),
    "copy from the host": (
        lambda cache, table: table.index_select(0, torch.zeros(1, dtype=torch.long).to(table.device))[0],
        HostReadError,
        "of the host",
    ),
}


@FAMILIES
@pytest.mark.parametrize("mistake", WRONG)
def test_a_step_that_waits_for_the_device_is_refused(family, mistake, monkeypatch):
    begin, error, message = WRONG[mistake]
    with fake_cuda(), recording(FakeGraph, {"cuda"}):
        decoder = BucketedDecoder(policy_of(family, layers=1), 2)
        decoder.start(ids_of(2))
        monkeypatch.setattr(BucketedCache, "begin", begin)
        with OnDevice(recorded=True), pytest.raises(error, match=message):
            decoder.policy.decode(decoder.token, decoder.cache)


@FAMILIES
def test_an_operation_on_two_devices_is_refused(family):
    with fake_cuda():
        policy = policy_of(family, layers=1)
        with pytest.raises(RuntimeError, match="device"):
            policy(tokens_of(family, 2), torch.zeros(2, dtype=torch.long))
