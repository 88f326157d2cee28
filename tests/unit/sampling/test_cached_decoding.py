"""The fast decoders against the plain one."""

import pytest
import torch
from project import ROOT
from tiny import tiny_policy, tiny_run

from artune.bench.measure import Request
from artune.bench.rollout import bench_rollout
from artune.config.registry import Registry
from artune.config.run import Sampling
from artune.config.sizes import matrix_weights
from artune.models.policies.build import build_policy
from artune.models.policies.llamagen import LlamaGen
from artune.models.policies.vqgan_gpt import VQGANGPT
from artune.planning import floors
from artune.runtime.distributed import Share
from artune.sampling import replica
from artune.sampling.cached_decoding import KeptDecoder, bytes_of_image, cut, decoder_for, images_at_once
from artune.sampling.decoders import BucketedDecoder, PlainDecoder
from artune.sampling.generate import Sampler, generate
from artune.sampling.replica import PackedLinear, cast_replica, pack, refresh
from artune.sampling.self_check import checked, difference

CPU = torch.device("cpu")


@pytest.fixture(params=["llamagen", "vqgan"])
def policy(request):
    """A policy of 25 tokens, which fill three buckets of 8 and begin a fourth."""
    run = tiny_run(backbone={"tokens": 25, "family": request.param}, sampling={"cfg": 1.0})
    policy = build_policy(run.backbone, torch.Generator().manual_seed(0))
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draw))
    return policy


def all_logits(decoder, class_ids, tokens):
    return torch.stack([decoder.start(class_ids), *(decoder.decode(tokens[:, t]).clone() for t in range(24))], 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bucketed_step_gives_the_logits_of_the_plain_one_and_starts_afresh(policy, dtype):
    policy.to(dtype)
    decoder, draw = BucketedDecoder(policy, rows=3, bucket=8), torch.Generator().manual_seed(2)
    for class_ids in (torch.tensor([0, 1, 2]), torch.tensor([3, 3, 0])):  # the cache still holds the first batch's keys
        tokens = torch.randint(8, (3, 25), generator=draw)
        expected = all_logits(PlainDecoder(policy), class_ids, tokens)
        tolerance = 1e-4 if dtype == torch.float32 else 0.05
        torch.testing.assert_close(all_logits(decoder, class_ids, tokens), expected, atol=tolerance, rtol=tolerance)
    assert decoder.cache.keys[0].dtype == dtype
    with pytest.raises(ValueError, match="all 25 tokens"):
        decoder.decode(tokens[:, 0])


def test_a_bucketed_step_needs_no_value_of_the_host(policy):
    decoder = BucketedDecoder(policy, rows=2, bucket=8)
    decoder.start(torch.tensor([0, 1]))
    device = (decoder.cache.position.data_ptr(), decoder.cache.keys[0].data_ptr(), decoder.token.data_ptr())
    for step in range(1, 25):
        decoder.decode(torch.tensor([1, 2]))
        assert decoder.cache.position.item() == decoder.position == step + 1
        assert decoder.cache.extent == 8 * (step // 8 + 1)
    assert device == (decoder.cache.position.data_ptr(), decoder.cache.keys[0].data_ptr(), decoder.token.data_ptr())


def test_a_decoder_that_differs_or_fails_is_replaced_with_a_warning(policy):
    class_ids = torch.tensor([0, 1])
    good = BucketedDecoder(policy, rows=2, bucket=8)
    assert difference(good, class_ids).spread < 1e-4
    assert checked(good, class_ids) is good

    wrong = BucketedDecoder(policy, rows=2, bucket=8)
    wrong.cache.begin = lambda table: table.index_select(0, wrong.cache.position)[0]  # no position is opened
    wrong.cache.additive.fill_ = lambda value: wrong.cache.additive.zero_()  # no position is closed
    with pytest.warns(UserWarning, match="logits differ"):
        assert isinstance(checked(wrong, class_ids), PlainDecoder)

    failing = BucketedDecoder(policy, rows=3, bucket=8)
    with pytest.warns(UserWarning, match="recorded step cannot be used"):
        assert isinstance(checked(failing, class_ids), PlainDecoder)


@pytest.mark.parametrize("family", [LlamaGen, VQGANGPT])
def test_packed_matrices_draw_the_tokens_of_plain_ones(family, monkeypatch):
    monkeypatch.setattr(replica, "PACKED", 64)
    policy = family(
        dim=64, layers=2, heads=2, codebook_size=512, classes=4, tokens=16, generator=torch.Generator().manual_seed(0)
    )
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    packed = pack(policy, rows=4)
    kinds = [type(module) for module in packed.modules()]
    assert kinds.count(PackedLinear) == sum(isinstance(module, torch.nn.Linear) for module in policy.modules())
    assert {t.data_ptr() for t in packed.parameters()} <= {t.data_ptr() for t in policy.parameters()}
    ids, sampling = torch.tensor([0, 1, 2, 3]), Sampling(cfg=1.5 if policy.null_class else 1.0)
    fast = generate(policy, ids, sampling, greedy=True)
    monkeypatch.setattr(replica, "PACKED", 2**30)
    assert pack(policy, rows=4) is policy
    assert torch.equal(fast, generate(policy, ids, sampling, greedy=True))


def test_what_is_packed_serves_until_a_weight_changes(policy, monkeypatch):
    monkeypatch.setattr(replica, "PACKED", 1)
    ids = torch.tensor([0, 1])
    for dtype in (None, torch.bfloat16):
        decoder = KeptDecoder(policy, dtype)
        first = decoder(ids).policy
        assert first is not policy
        assert decoder(ids).policy is first
        assert decoder(torch.tensor([0, 1, 2])).policy is not first  # packed for another number of rows
        before = decoder(ids).start(ids)
        stepping = torch.optim.AdamW(policy.parameters(), 0.1)
        policy(torch.zeros(2, 25, dtype=torch.long), ids).square().mean().backward()
        stepping.step()
        after = decoder(ids)
        expected = PlainDecoder(policy if dtype is None else cast_replica(policy, dtype)).start(ids)
        torch.testing.assert_close(after.start(ids), expected, rtol=2e-2, atol=2e-2)
        assert (after.start(ids) - before).abs().max() > 0.1
        kept = decoder(ids).policy
        decoder.forget()
        assert decoder(ids).policy is not kept


def test_bfloat16_weights_are_packed_where_the_processor_has_the_arithmetic(monkeypatch):
    monkeypatch.setattr(replica, "PACKED", 64)
    policy = LlamaGen(dim=64, layers=1, heads=2, codebook_size=512, classes=4, tokens=16)
    half = cast_replica(policy, torch.bfloat16)
    assert (pack(half, 4) is half) == (not replica.can_pack(torch.bfloat16))
    assert replica.can_pack(torch.float64) is False


def test_a_cast_replica_has_weights_of_its_own_that_follow(policy):
    half = cast_replica(policy, torch.bfloat16)
    assert {t.dtype for t in half.parameters()} == {torch.bfloat16}
    assert {t.dtype for t in policy.parameters()} == {torch.float32}
    address = next(half.parameters()).data_ptr()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(1.0)
    refresh(half, policy)
    assert address == next(half.parameters()).data_ptr()
    for ours, theirs in zip(half.parameters(), policy.parameters(), strict=True):
        assert torch.equal(ours, theirs.bfloat16())


def test_tokens_can_be_drawn_with_bfloat16_weights():
    run = tiny_run(sampling={"cfg": 1.5, "weights_dtype": "bfloat16"})
    policy, ids = tiny_policy(run), torch.arange(64) % 4
    tokens = generate(policy, ids, run.sampling, torch.Generator().manual_seed(0))
    plain = generate(policy, ids, tiny_run().sampling, torch.Generator().manual_seed(0))
    assert 0.8 < (tokens == plain).float().mean() < 1  # the same random numbers, but rounded logits
    decoder = decoder_for(policy, ids, torch.bfloat16)
    assert decoder.start(ids).dtype == torch.float32
    assert decoder.cache.keys[0].dtype == torch.bfloat16


@pytest.mark.parametrize("share", [None, Share(3, 10, 12)])
def test_a_batch_drawn_in_parts_has_the_tokens_of_the_whole(share, capsys):
    run = tiny_run()
    policy, ids = tiny_policy(run), torch.arange(7) % 4

    def drawn(rows):
        generator = torch.Generator().manual_seed(5)
        tokens = generate(policy, ids, run.sampling.model_copy(update={"rows": rows}), generator, share=share)
        return tokens, generator.get_state()

    tokens, state = drawn(None)
    for rows in (1, 3, 7, 100):
        in_parts, after = drawn(rows)
        assert torch.equal(in_parts, tokens)
        assert torch.equal(after, state)
    assert capsys.readouterr().err.count("7 images in 3 parts") == 1


def test_a_sampler_says_once_that_a_batch_is_drawn_in_parts(capsys):
    run = tiny_run(sampling={"cfg": 1.5, "rows": 3})
    sampler = Sampler(tiny_policy(run), run.sampling)
    for _ in range(3):
        sampler(torch.arange(7) % 4)
    assert capsys.readouterr().err.count("7 images in 3 parts") == 1


def test_memory_is_planned_by_the_size_of_the_cache():
    policy = tiny_policy(tiny_run())  # 2 layers of width 16, 4 tokens, 8 codes
    assert bytes_of_image(policy, 2) == 2 * (2 * 2 * 16 * 4 * 4 + 24 * 8)
    assert bytes_of_image(policy, 1, torch.bfloat16) == 2 * 2 * 16 * 4 * 2 + 24 * 8
    assert images_at_once(5, 1, CPU) == 5
    assert list(cut(5, 2)) == [slice(0, 1), slice(1, 3), slice(3, 5)]
    assert list(cut(5, 5)) == [slice(0, 5)]


def test_the_benchmark_counts_what_a_rollout_cannot_do_without():
    run = tiny_run()  # 2 layers of width 16 and 2 x 2 tokens; feed-forward 48; 8 codes
    weights = 2 * (4 * 16**2 + 3 * 16 * 48) + 8 * 16
    policy = tiny_policy(run)
    matrices = [m.weight.numel() for m in policy.modules() if isinstance(m, torch.nn.Linear)]
    assert matrix_weights(run.backbone) == weights == sum(matrices)
    # Guidance makes 6 rows of 3 images; 1 + 2 + 3 + 4 = 10 positions are attended to.
    work = floors.rollout(run.backbone, images=3, guided=True, item=4)
    assert work.bytes == 4 * weights * 4 + 2 * 6 * 10 * 2 * 16 * 4 + 4 * 6 * 8 * 4
    assert work.flops == 4 * 6 * 2 * weights + 4 * 6 * 10 * 2 * 16
    assert work.seconds(floors.Ceiling(1.0, 1e12)) == work.bytes
    # An epoch costs 3 forwards, the reference policy one: 7 forwards in 2 epochs.
    tokens = floors.update(run.backbone, images=3, epochs=2, reference=True).flops / 7
    assert tokens == floors.forward(run.backbone, 3) == 3 * (4 * 2 * weights + 4 * 10 * 2 * 16)


def test_the_benchmarks_plain_loop_and_this_code_draw_the_same_tokens():
    smoke = Registry("smoke", root=ROOT / "config")
    plain, ours, _ = bench_rollout(Request(smoke, CPU, images=4, tokens=9, repeats=1))
    assert plain["same tokens"] == ours["same tokens"] == 1.0
    assert min(ours["tokens/s"], ours["floor s"], ours["ceiling GB/s"]) > 0


def test_the_check_of_a_decoder_takes_no_second_cache_of_whole_images(policy, monkeypatch):
    decoder, start, lengths = BucketedDecoder(policy, rows=2, bucket=8), policy.start, []
    monkeypatch.setattr(
        policy, "start", lambda ids, length, *cache: (lengths.append(length), start(ids, length, *cache))[1]
    )
    assert difference(decoder, torch.tensor([0, 1])).spread < 1e-4
    assert lengths == [8 + 2, 25]  # lengths of the plain path and of the decoder
    assert decoder.cache.extent == 16
