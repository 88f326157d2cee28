"""Policies and tokenizers at small sizes: properties that hold for all weights."""

from types import SimpleNamespace

import pytest
import torch
from project import ROOT

from artune.config.registry import Registry
from artune.config.sizes import feed_forward_width
from artune.data.pixels import resize, to_uint8
from artune.errors import ArtuneError
from artune.models.policies.build import build_policy
from artune.models.policies.cache import attend_one, attend_one_fused
from artune.models.policies.llamagen import LlamaGen, rotary_table, rotate
from artune.models.tokenizers.build import build_tokenizer

SIZES = {"dim": 24, "layers": 2, "heads": 2, "codebook_size": 20, "classes": 3, "tokens": 9, "ffn_multiple_of": 8}
TOKENIZER = {
    "channels": 16,
    "channel_multipliers": (1, 2, 2),
    "residual_blocks": 1,
    "latent_channels": 16,
    "codebook_size": 32,
    "codebook_dim": 8,
    "norm_groups": 8,
    "attention_resolutions": (6,),
}


def noisy(family, seed=0):
    """A policy whose weights are all random, including the output head."""
    generator = torch.Generator().manual_seed(seed)
    policy = build_policy(SimpleNamespace(family=family, **SIZES))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.normal_(std=0.3, generator=generator)
    return policy


@pytest.fixture(params=["llamagen", "vqgan"])
def policy(request):
    return noisy(request.param)


@pytest.fixture
def sequence():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(20, (4, 9), generator=generator), torch.tensor([0, 1, 2, 0])


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.2), (torch.float16, 0.02)])
def test_cached_decoding_equals_the_teacher_forced_forward(policy, sequence, dtype, tolerance):
    policy, (tokens, class_ids) = policy.to(dtype), sequence
    forced = policy(tokens, class_ids)
    logits, cache = policy.start(class_ids, 9)
    steps = torch.stack([logits, *(policy.decode(tokens[:, t], cache) for t in range(8))], 1)
    assert forced.shape == (4, 9, 20)
    assert forced.dtype == steps.dtype == torch.float32
    assert (forced - steps).abs().max() < tolerance * forced.std()


@torch.no_grad()
def test_the_cache_is_allocated_once_and_refuses_a_token_too_many(policy, sequence):
    tokens, class_ids = sequence
    _, cache = policy.start(class_ids, 3)
    addresses = [keys.data_ptr() for keys in cache.keys]
    policy.decode(tokens[:, 0], cache)
    policy.decode(tokens[:, 1], cache)
    assert cache.position == 3
    assert addresses == [keys.data_ptr() for keys in cache.keys]
    with pytest.raises(ValueError, match="full"):
        policy.decode(tokens[:, 2], cache)


@pytest.mark.parametrize("attention", [attend_one, attend_one_fused])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_one_query_attends_to_what_is_cached(attention, dtype, tolerance):
    generator = torch.Generator().manual_seed(0)
    query, keys, values = (4 * torch.randn(n, 5, 3, 20, generator=generator).to(dtype) for n in (1, 7, 7))
    weights = (torch.einsum("bhd,sbhd->bhs", query[0].double(), keys.double()) / 20**0.5).softmax(-1)
    assert weights.amax(-1).min() > 0.3  # the attention is far from uniform
    found = attention(query[0], keys, values)
    assert found.dtype == dtype
    expected = torch.einsum("bhs,sbhd->bhd", weights, values.double())
    torch.testing.assert_close(found.double(), expected, atol=4 * tolerance, rtol=tolerance)


@torch.no_grad()
def test_logits_see_only_earlier_tokens(policy, sequence):
    tokens, class_ids = sequence
    changed = tokens.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 20
    before, after = policy(tokens, class_ids), policy(changed, class_ids)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


@torch.no_grad()
def test_train_and_eval_mode_make_no_difference(policy, sequence):
    assert torch.equal(policy.train()(*sequence), policy.eval()(*sequence))


@torch.no_grad()
def test_dropout_is_an_argument_and_works_in_eval_mode(policy, sequence):
    policy.eval()
    assert not torch.allclose(policy(*sequence, dropout=0.5), policy(*sequence))


def test_every_parameter_gets_a_gradient(policy, sequence):
    policy(*sequence).logsumexp(-1).sum().backward()
    silent = [name for name, p in policy.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # a bias on all keys shifts all scores of a query by the same constant, which the softmax cancels
    assert [name for name in silent if not name.endswith("key.bias")] == []


def test_gradients_can_follow_a_forward_whose_rotary_table_was_made_under_inference_mode(sequence):
    rotary_table.cache_clear()
    policy = noisy("llamagen")
    with torch.inference_mode():
        policy(*sequence)
    policy(*sequence).sum().backward()
    assert policy.tok_embeddings.weight.grad is not None


def test_rotation_turns_interleaved_pairs_rows_first():
    table = rotary_table(3, 8, torch.device("cpu"))
    x = torch.zeros(8)
    x[[0, 4]] = 1.0
    turned = rotate(x, table[1 + 1 * 3 + 2])  # row 1, column 2; the first frequency of each axis is 1
    one, two = torch.tensor(1.0), torch.tensor(2.0)
    torch.testing.assert_close(turned[:2], torch.stack((one.cos(), one.sin())))
    torch.testing.assert_close(turned[4:6], torch.stack((two.cos(), two.sin())))


def test_the_class_token_is_turned_to_zero():
    assert not rotate(torch.ones(8), rotary_table(3, 8, torch.device("cpu"))[0]).any()


@pytest.mark.parametrize(("dim", "width"), [(768, 2048), (1024, 2816), (1280, 3584), (1536, 4096), (3200, 8704)])
def test_feed_forward_widths_are_the_official_ones(dim, width):
    assert feed_forward_width(dim, 256) == width


@pytest.mark.parametrize(("name", "layers", "parameters"), [("llamagen_xxl", 48, 1.4e9), ("llamagen_3b", 24, 3.1e9)])
def test_the_sizes_beyond_the_paper_are_those_of_their_names(name, layers, parameters):
    backbone = Registry("imagenet", root=ROOT / "config").backbones[name]
    with torch.device("meta"):
        policy = build_policy(backbone)
    assert len(policy.layers) == layers
    assert policy.tokens == 576
    assert sum(parameter.numel() for parameter in policy.parameters()) == pytest.approx(parameters, rel=0.02)


def test_initial_weights_follow_the_official_rules_and_the_generator():
    def build(seed):
        generator = torch.Generator().manual_seed(seed)
        return build_policy(SimpleNamespace(family="llamagen", **SIZES), generator).state_dict()

    first, again, other = build(0), build(0), build(1)
    assert not first["output.weight"].any()
    assert (first["norm.weight"] == 1).all()
    assert first["layers.0.feed_forward.w1.weight"].std() == pytest.approx(0.02, rel=0.1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["tok_embeddings.weight"], other["tok_embeddings.weight"])


def test_only_llamagen_has_a_null_class():
    assert noisy("llamagen").null_class == 3
    assert noisy("vqgan").null_class is None


def test_impossible_sizes_are_refused():
    sizes = {name: value for name, value in SIZES.items()}
    with pytest.raises(ArtuneError, match="tokens 8"):
        LlamaGen(**sizes | {"tokens": 8})
    with pytest.raises(ArtuneError, match="dim 20"):
        LlamaGen(**sizes | {"dim": 20})
    with pytest.raises(ArtuneError, match="family 'gpt'"):
        build_policy(SimpleNamespace(family="gpt", **SIZES))
    with pytest.raises(ArtuneError, match="classes 30"):
        build_policy(SimpleNamespace(family="vqgan", **SIZES | {"classes": 30}))


@pytest.fixture(params=["vq", "vqgan"])
def tokenizer(request):
    torch.manual_seed(0)
    return build_tokenizer(SimpleNamespace(family=request.param, **TOKENIZER), image_size=24)


def test_a_small_tokenizer_codes_24_pixels_in_36_tokens(tokenizer):
    images = torch.rand(2, 3, 24, 24) * 2 - 1
    ids = tokenizer.encode(images)
    assert ids.shape == (2, 36)
    assert ids.dtype == torch.long
    assert 0 <= ids.min() <= ids.max() < 32
    assert tokenizer.decode(ids).shape == (2, 3, 24, 24)


def test_ids_are_those_of_the_nearest_codes(tokenizer):
    images = torch.rand(2, 3, 24, 24) * 2 - 1
    with torch.no_grad():
        latents = tokenizer.latents(images).flatten(2).transpose(1, 2)  # [B, T, dim]
        distances = torch.cdist(latents, tokenizer.quantize.codes().expand(2, -1, -1))
        chosen = distances.gather(2, tokenizer.encode(images)[..., None])[..., 0]
    torch.testing.assert_close(chosen, distances.min(2).values, atol=1e-4, rtol=1e-4)


def test_a_reconstruction_is_the_decoded_ids_and_gradients_pass_straight_through(tokenizer):
    images = torch.rand(2, 3, 24, 24) * 2 - 1
    reconstruction, loss, ids = tokenizer(images)
    torch.testing.assert_close(reconstruction, tokenizer.decode(ids), atol=1e-4, rtol=1e-4)
    reconstruction.square().mean().backward(retain_graph=True)
    assert tokenizer.encoder.conv_in.weight.grad.abs().sum() > 0
    assert tokenizer.quantize.embedding.weight.grad is None  # the codebook learns only from its own loss
    loss.backward()
    assert tokenizer.quantize.embedding.weight.grad.abs().sum() > 0


def test_a_few_steps_of_training_lower_the_reconstruction_error(tokenizer):
    images = torch.linspace(-1, 1, 24).expand(8, 3, 24, 24) * torch.linspace(-1, 1, 8)[:, None, None, None]
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=3e-3)
    errors = []
    for _ in range(25):
        reconstruction, codebook_loss, _ = tokenizer(images)
        errors.append((reconstruction - images).square().mean())
        optimizer.zero_grad()
        (errors[-1] + codebook_loss).backward()
        optimizer.step()
    assert errors[-1] < 0.5 * errors[0]


def test_only_the_vq_family_normalises_its_codes():
    for family, unit in (("vq", True), ("vqgan", False)):
        tokenizer = build_tokenizer(SimpleNamespace(family=family, **TOKENIZER), image_size=24)
        norms = tokenizer.quantize.codes().norm(dim=1)
        assert torch.allclose(norms, torch.ones(32)) == unit


def test_a_restart_moves_dead_codes_onto_latents_and_leaves_the_others(tokenizer):
    images = torch.rand(2, 3, 24, 24) * 2 - 1
    with torch.no_grad():
        latents = tokenizer.latents(images)
    dead = torch.arange(32) % 4 == 0
    before = tokenizer.quantize.embedding.weight.detach().clone()
    tokenizer.quantize.restart(dead, latents, torch.Generator().manual_seed(0))
    after = tokenizer.quantize.embedding.weight.detach()
    assert torch.equal(after[~dead], before[~dead])
    distances = torch.cdist(after[dead], latents.movedim(1, -1).reshape(-1, 8))
    assert distances.min(1).values.max() < 1e-3


def test_tokenizers_refuse_what_does_not_fit():
    with pytest.raises(ArtuneError, match="family 'vae'"):
        build_tokenizer(SimpleNamespace(family="vae", **TOKENIZER))
    with pytest.raises(ArtuneError, match="norm_groups 5"):
        build_tokenizer(SimpleNamespace(family="vq", **TOKENIZER | {"norm_groups": 5}))
    tokenizer = build_tokenizer(SimpleNamespace(family="vq", **TOKENIZER))
    with pytest.raises(ArtuneError, match="35 tokens"):
        tokenizer.decode(torch.zeros(1, 35, dtype=torch.long))


def test_uint8_rules_differ_by_half_a_level():
    images = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    assert to_uint8(images).tolist() == [0, 0, 128, 255, 255]
    assert to_uint8(images, "taming").tolist() == [0, 0, 127, 255, 255]
    with pytest.raises(ArtuneError, match="uint8 rule 'round'"):
        to_uint8(images, "round")


def test_resize_has_no_antialiasing_and_leaves_the_right_size_alone():
    images = torch.rand(1, 3, 12, 12)
    assert resize(images, 12) is images
    stripes = torch.zeros(1, 1, 1, 12).expand(1, 1, 12, 12).clone()
    stripes[..., ::3] = 1.0
    # every target pixel depends only on its 4 nearest source columns; averaging would give 1/3 everywhere
    assert resize(stripes, 4).var() < 1e-8
    assert not torch.allclose(resize(stripes, 4), torch.full((1, 1, 4, 4), 1 / 3), atol=0.05)
