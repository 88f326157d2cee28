"""Filtering of logits, drawing of tokens, and guidance."""

import hashlib

import pytest
import torch
from tiny import tiny_policy, tiny_run

from artune.config.run import Sampling
from artune.errors import ArtuneError
from artune.models.policies.llamagen import LlamaGen
from artune.models.policies.vqgan_gpt import VQGANGPT
from artune.runtime.distributed import World
from artune.sampling.cached_decoding import cut
from artune.sampling.generate import Sampler, draw_token, filter_logits, generate, guided_logits

SIZES = {"dim": 16, "layers": 2, "heads": 2, "codebook_size": 12, "classes": 3, "tokens": 9}


def settings(**changes):
    return Sampling.model_construct(**{"cfg": 1.0} | changes)


@pytest.fixture
def policy():
    policy = LlamaGen(**SIZES, ffn_multiple_of=8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(parameter.numel()))
    return policy


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def kept(probabilities, **filters):
    filtered = filter_logits(torch.tensor(probabilities).log(), **filters)
    return (filtered > -torch.inf).nonzero()[:, 0].tolist()


def test_top_k_keeps_every_tie_of_the_last_token():
    assert kept([0.1, 0.3, 0.2, 0.2, 0.2], top_k=2) == [1, 2, 3, 4]


def test_top_k_above_the_vocabulary_keeps_all():
    assert kept([0.5, 0.3, 0.2], top_k=99) == [0, 1, 2]


def test_top_p_keeps_the_token_that_crosses_the_threshold():
    assert kept([0.25, 0.5, 0.125, 0.125], top_p=0.6) == [0, 1]


def test_top_p_keeps_one_token_however_small_it_is():
    assert kept([0.2, 0.5, 0.3], top_p=1e-9) == [1]


def test_top_p_acts_on_what_top_k_has_left():
    # after top-k the first token has 0.4 / 0.7 = 0.57 > 0.55, so it alone survives; without top-k two tokens would
    assert kept([0.4, 0.3, 0.2, 0.1], top_k=2, top_p=0.55) == [0]
    assert kept([0.4, 0.3, 0.2, 0.1], top_p=0.55) == [0, 1]


def test_temperature_divides_the_logits_before_anything_else():
    logits = torch.tensor([2.0, 1.0, 0.0])
    torch.testing.assert_close(filter_logits(logits, temperature=0.5), logits * 2)
    assert kept([0.5, 0.3, 0.2], temperature=0.1, top_p=0.9) == [0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", 0.0),
        ("temperature", -1.0),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("top_p", float("nan")),
    ],
)
def test_values_out_of_range_are_refused_by_name(policy, key, value):
    with pytest.raises(ArtuneError, match=f"sampling.{key}"):
        filter_logits(torch.zeros(4), **{key: value})
    with pytest.raises(ArtuneError, match=f"sampling.{key}"):
        generate(policy, torch.zeros(1, dtype=torch.long), settings(**{key: value}), seeded())


def test_draws_follow_the_softmax_and_never_hit_an_excluded_token():
    logits = torch.tensor([0.5, 0.3, 0.0, 0.2]).log()
    n = 40_000
    counts = draw_token(logits.expand(n, 4), seeded()).bincount(minlength=4) / n
    assert counts[2] == 0
    standard_error = (0.25 / n) ** 0.5
    assert (counts - logits.exp()).abs().max() < 5 * standard_error


# Digests of the tokens that one process draws since results_version 2; published numbers rest on these draws.
@pytest.mark.parametrize(
    ("filters", "digest"), [({}, "9573876d8e42cf11"), ({"top_k": 5, "top_p": 0.9}, "2bb15d124ff6b6a8")]
)
def test_every_process_draws_its_rows_of_what_one_alone_draws(filters, digest):
    run = tiny_run()
    class_ids, sampling = torch.arange(12) % 4, run.sampling.model_copy(update=filters)

    def drawn(share=None):
        rows = class_ids if share is None else class_ids[share.rows]
        return generate(tiny_policy(run), rows, sampling, seeded(5), share=share)

    alone = drawn()
    assert hashlib.sha256(alone.numpy().tobytes()).hexdigest()[:16] == digest
    for size in (1, 2, 5):
        shares = [World(rank, size).share(12) for rank in range(size)]
        assert torch.equal(torch.cat([drawn(share) for share in shares]), alone)


def test_the_same_seed_draws_the_same_tokens_and_another_seed_others(policy):
    class_ids = torch.tensor([0, 1, 2, 0])
    first = generate(policy, class_ids, settings(cfg=1.5), seeded(1))
    assert first.shape == (4, 9)
    assert first.dtype == torch.long
    assert 0 <= first.min() <= first.max() < 12
    assert torch.equal(first, generate(policy, class_ids, settings(cfg=1.5), seeded(1)))
    assert not torch.equal(first, generate(policy, class_ids, settings(cfg=1.5), seeded(2)))


def test_sampling_leaves_the_global_generator_alone(policy):
    state = torch.get_rng_state()
    generate(policy, torch.tensor([0]), settings(), seeded())
    assert torch.equal(state, torch.get_rng_state())


def test_generation_follows_the_teacher_forced_distribution(policy):
    n = 4000
    tokens = generate(policy, torch.full((n,), 1), settings(cfg=1.5, temperature=1.2), seeded())
    with torch.no_grad():
        logits = guided_logits(policy, tokens, torch.full((n,), 1), 1.5)
    expected = filter_logits(logits, 1.2).softmax(-1).mean(0)  # [T, V], averaged over the drawn prefixes
    observed = torch.nn.functional.one_hot(tokens, 12).float().mean(0)
    assert (observed - expected).abs().max() < 5 * (0.25 / n) ** 0.5


def test_top_k_one_is_greedy(policy):
    class_ids = torch.tensor([0, 1, 2])
    greedy = generate(policy, class_ids, settings(), greedy=True)
    assert torch.equal(greedy, generate(policy, class_ids, settings(top_k=1), seeded()))


def test_guidance_is_refused_for_a_policy_without_a_null_class():
    policy = VQGANGPT(**SIZES)
    class_ids = torch.tensor([0])
    with pytest.raises(ArtuneError, match=r"sampling\.cfg.*no null class"):
        generate(policy, class_ids, settings(cfg=1.5), seeded())
    with pytest.raises(ArtuneError, match=r"sampling\.cfg.*no null class"):
        guided_logits(policy, torch.zeros(1, 9, dtype=torch.long), class_ids, 1.5)
    assert generate(policy, class_ids, settings(), seeded()).shape == (1, 9)


@pytest.mark.parametrize("bad", [-1, 3])
def test_class_ids_that_the_policy_does_not_have_are_refused(policy, bad):
    with pytest.raises(ArtuneError, match="class ids must be 0 to 2"):
        generate(policy, torch.tensor([0, bad]), settings(), seeded())


def test_scale_one_runs_the_conditional_branch_alone(policy, monkeypatch):
    batches = []
    start = policy.start
    monkeypatch.setattr(policy, "start", lambda ids, length: (batches.append(len(ids)), start(ids, length))[1])
    generate(policy, torch.tensor([0, 1]), settings(), seeded())
    generate(policy, torch.tensor([0, 1]), settings(cfg=1.5), seeded())
    assert batches == [2, 4]


def test_a_cut_by_memory_stays_when_the_memory_is_taken(monkeypatch):
    from artune.sampling import generate as module

    free = iter([(10_000, 10_000)] * 2 + [(0, 10_000)] * 2)  # asked for the free and for all bytes of each plan
    shared = {"device": 0, "segment_pool_id": (0, 0), "total_size": 500, "allocated_size": 300}
    sampler = Sampler(tiny_policy(tiny_run()), settings())
    monkeypatch.setattr(module, "bytes_of_image", lambda *_: 100)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: next(free))
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda: [shared])
    gpu = torch.device("cuda:0")
    first = list(cut(144, sampler._at_once(144, gpu)))
    assert max(part.stop - part.start for part in first) <= 35  # 3,500 bytes may be used
    assert first[-1].stop == 144
    assert list(cut(144, sampler._at_once(144, gpu))) == first
    assert len(list(cut(7, sampler._at_once(7, gpu)))) == 4  # 200 bytes are left in the allocator
    assert list(cut(0, sampler._at_once(0, torch.device("cpu")))) == []
