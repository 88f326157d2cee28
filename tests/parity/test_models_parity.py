"""Models, tokenizers and sampler against arrays made by the reference implementations (tests/parity/data)."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from parity_arrays import DATA, SAMPLING, arrays, worst

from artune.config.run import Sampling
from artune.data.pixels import resize, to_uint8
from artune.models.policies.build import build_policy
from artune.models.policies.llamagen import LlamaGen, rotary_table
from artune.models.policies.vqgan_gpt import VQGANGPT
from artune.models.tokenizers.conv_tokenizer import TokenizerShape
from artune.models.tokenizers.vq import VQ
from artune.models.tokenizers.vqgan import VQGAN
from artune.models.weights.checkpoints import load_into
from artune.sampling.generate import filter_logits, generate, guide, guided_logits


@pytest.fixture(scope="module")
def llamagen():
    policy = LlamaGen(dim=64, layers=3, heads=4, codebook_size=512, classes=10, tokens=16)
    load_into(policy, DATA / "gpt_tiny" / "ckpt_model.pt")
    return policy, arrays("gpt_tiny")


@pytest.fixture(scope="module")
def taming():
    policy = VQGANGPT(dim=64, layers=3, heads=4, codebook_size=128, classes=10, tokens=16)
    shape = TokenizerShape(
        channels=32,
        channel_multipliers=(1, 1),
        residual_blocks=1,
        latent_channels=32,
        codebook_size=128,
        codebook_dim=16,
    )
    tokenizer = VQGAN(shape, attention_resolutions=(4,), image_size=8)
    load_into(policy, DATA / "taming_tiny")
    load_into(tokenizer, DATA / "taming_tiny")
    return policy, tokenizer, arrays("taming_tiny")


@pytest.fixture(scope="module")
def vq():
    shape = TokenizerShape(
        channels=32,
        channel_multipliers=(1, 1, 1, 1, 1),
        residual_blocks=1,
        latent_channels=32,
        codebook_size=256,
        codebook_dim=8,
    )
    tokenizer = VQ(shape)
    load_into(tokenizer, DATA / "vq_f16" / "vq_model.pt")
    return tokenizer, arrays("vq_f16")


def cached_logits(policy, tokens, class_ids):
    """Logits [B, T, V] of cached decoding that is forced to the given tokens."""
    logits, cache = policy.start(class_ids, tokens.shape[1])
    steps = [logits, *(policy.decode(tokens[:, t], cache) for t in range(tokens.shape[1] - 1))]
    return torch.stack(steps, 1)


@torch.no_grad()
def test_llamagen_training_logits_match_the_reference(llamagen):
    policy, expected = llamagen
    logits = policy(expected["idx"], expected["labels"])
    assert worst(logits, expected["train_logits"]) < 1e-4
    log_probs = logits.log_softmax(-1)
    token_logp = log_probs.gather(-1, expected["idx"][..., None])[..., 0]
    assert worst(token_logp, expected["token_logp"]) < 1e-4
    assert worst(-(log_probs.exp() * log_probs).sum(-1), expected["entropy"]) < 1e-4
    assert -token_logp.mean().item() == pytest.approx(expected["loss"].item(), rel=1e-5)


@torch.no_grad()
def test_llamagen_logits_of_every_position_match_the_reference_in_evaluation(llamagen):
    policy, expected = llamagen
    one_more = torch.nn.functional.pad(expected["idx"], (0, 1))  # the last token is no input: its value is ignored
    assert worst(policy(one_more, expected["labels"]), expected["eval_logits"]) < 1e-4


@torch.no_grad()
def test_llamagen_in_bfloat16_stays_within_rounding_of_the_reference_in_bfloat16(llamagen):
    _, expected = llamagen
    policy = LlamaGen(dim=64, layers=3, heads=4, codebook_size=512, classes=10, tokens=16).bfloat16()
    load_into(policy, DATA / "gpt_tiny" / "ckpt_model.pt")
    logits = policy(expected["idx"], expected["labels"])
    assert policy.output.weight.dtype == torch.bfloat16
    assert logits.dtype == torch.float32
    assert worst(logits, expected["bf16_train_logits"]) < 0.06


def test_llamagen_cached_decoding_matches_the_reference_with_and_without_guidance(llamagen):
    policy, expected = llamagen
    tokens, labels = expected["kv_forced"], expected["kv_labels"]
    conditional = cached_logits(policy, tokens, labels)
    unconditional = cached_logits(policy, tokens, torch.full_like(labels, policy.null_class))
    assert worst(conditional, expected["kv_logits_cfg1"]) < 1e-4
    assert worst(conditional, expected["kv_cond"]) < 1e-4
    assert worst(unconditional, expected["kv_uncond"]) < 1e-4
    assert worst(guide(conditional, unconditional, 1.5), expected["kv_logits_cfg15"]) < 1e-4


@torch.no_grad()
def test_teacher_forced_guided_logits_equal_those_of_guided_decoding(llamagen):
    policy, expected = llamagen
    guided = guided_logits(policy, expected["kv_forced"], expected["kv_labels"], 1.5)
    assert worst(guided, expected["kv_logits_cfg15"]) < 1e-4


@pytest.mark.parametrize(
    ("name", "cfg", "interval"), [("greedy_g10", 1.0, -1), ("greedy_g15", 1.5, -1), ("greedy_g40_int3", 4.0, 3)]
)
def test_llamagen_greedy_tokens_equal_the_reference(llamagen, name, cfg, interval):
    policy, expected = llamagen
    sampling = Sampling(**SAMPLING | {"cfg": cfg, "cfg_interval": interval})
    assert torch.equal(generate(policy, expected["kv_labels"], sampling, greedy=True), expected[name])


def test_guidance_interval_switches_at_the_reference_position(llamagen):
    policy, expected = llamagen
    tokens, labels = expected["kv_forced"], expected["kv_labels"]
    conditional = cached_logits(policy, tokens, labels)
    guided = guide(conditional, cached_logits(policy, tokens, torch.full_like(labels, policy.null_class)), 4.0)
    # Interval 3 guides the first token and decoding steps 0 to 3, which are positions 0 to 4.
    mixed = torch.cat((guided[:, :5], conditional[:, 5:]), 1)
    assert worst(mixed, expected["kv_logits_cfg4_interval3"]) < 1e-4


@pytest.mark.parametrize("folder", ["gpt_tiny", "taming_tiny"])
def test_filtered_distributions_match_the_reference_sampler(folder):
    expected = arrays(folder)
    settings = json.loads((DATA / folder / "config.json").read_text())["samplers"]
    assert len(settings) == len(expected["sampler_probs"])
    for setting, probabilities in zip(settings, expected["sampler_probs"], strict=True):
        actual = filter_logits(expected["sampler_logits"], **setting).softmax(-1)
        torch.testing.assert_close(actual, probabilities, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("side", "head_dim"), [(4, 16), (5, 32), (16, 64), (24, 64)])
def test_rotary_table_matches_the_reference(side, head_dim):
    with np.load(DATA / "constants" / "rope.npz") as archive:
        expected = torch.from_numpy(archive[f"rope_g{side}_hd{head_dim}"])
    actual = torch.view_as_real(rotary_table(side, head_dim, torch.device("cpu")))
    torch.testing.assert_close(actual, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("name", "dim", "layers", "heads", "tokens"),
    [
        ("GPT-B-256", 768, 12, 12, 256),
        ("GPT-L-256", 1024, 24, 16, 256),
        ("GPT-L-576", 1024, 24, 16, 576),
        ("GPT-XL-576", 1280, 36, 20, 576),
    ],
)
def test_full_size_policies_have_the_official_parameters(name, dim, layers, heads, tokens):
    expected = json.loads((DATA / "constants" / "state_dict_shapes.json").read_text())[name]
    sizes = {"dim": dim, "layers": layers, "heads": heads, "tokens": tokens, "ffn_multiple_of": 256}
    config = SimpleNamespace(family="llamagen", codebook_size=16384, classes=1000, **sizes)
    with torch.device("meta"):
        policy = build_policy(config)
    assert {key: list(value.shape) for key, value in policy.state_dict().items()} == expected["keys"]
    assert sum(parameter.numel() for parameter in policy.parameters()) == expected["params"]


def test_full_size_tokenizer_has_the_official_parameters():
    expected = json.loads((DATA / "constants" / "state_dict_shapes.json").read_text())["VQ-16"]
    shape = TokenizerShape(
        channels=128,
        channel_multipliers=(1, 1, 2, 2, 4),
        residual_blocks=2,
        latent_channels=256,
        codebook_size=16384,
        codebook_dim=8,
    )
    with torch.device("meta"):
        tokenizer = VQ(shape)
    actual = {key: list(value.shape) for key, value in tokenizer.state_dict().items()}
    del expected["keys"]["quantize.codebook_used"]  # a statistic that only training uses
    assert actual == expected["keys"]
    assert sum(parameter.numel() for parameter in tokenizer.parameters()) == expected["params"]


@torch.no_grad()
def test_vqgan_policy_matches_the_reference_in_training_decoding_and_greedy_sampling(taming):
    policy, _, expected = taming
    class_ids = expected["c"][:, 0]
    assert worst(policy(expected["z"], class_ids), expected["logits"]) < 1e-4
    assert worst(cached_logits(policy, expected["z"], class_ids), expected["step_logits"]) < 1e-4
    tokens = generate(policy, class_ids, Sampling(**SAMPLING), greedy=True)
    assert torch.equal(tokens, expected["greedy"])


def test_vqgan_tokenizer_matches_the_reference(taming):
    _, tokenizer, expected = taming
    assert torch.equal(tokenizer.encode(expected["image"]), expected["ids"])
    assert worst(tokenizer.decode(expected["z"]), expected["decoded_z"]) < 5e-4
    assert worst(tokenizer.decode(expected["greedy"]), expected["decoded_greedy"]) < 5e-4


def test_vq_tokenizer_matches_the_reference(vq):
    tokenizer, expected = vq
    assert torch.equal(tokenizer.encode(expected["image"]), expected["ids"])
    assert worst(tokenizer.decode(expected["codes"]), expected["decoded"]) < 5e-4
    with torch.no_grad():
        before = tokenizer.quant_conv(tokenizer.encoder(expected["image"]))
        quantised = tokenizer.quantize.look_up(expected["ids"].view(1, 3, 3))
    assert worst(before, expected["pre_quant"]) < 5e-4
    assert worst(quantised, expected["quantised"]) < 1e-5
    reconstruction, _, ids = tokenizer(expected["image"])
    assert torch.equal(ids, expected["ids"])
    assert worst(reconstruction.detach(), expected["recon"]) < 5e-4
    grid = expected["codes"].view(1, 3, 3)
    assert worst(tokenizer.quantize.look_up(grid).detach(), expected["codebook_entry"]) < 1e-5


def test_uint8_rules_and_resize_match_the_reference(vq, taming):
    expected = vq[1]
    images = expected["uint8_in"]
    assert torch.equal(to_uint8(images).permute(0, 2, 3, 1), expected["uint8"])
    small = resize(images, 32)
    torch.testing.assert_close(small, expected["resized"], atol=1e-6, rtol=0)
    assert torch.equal(to_uint8(small).permute(0, 2, 3, 1), expected["resized_uint8"])
    expected = taming[2]
    assert torch.equal(to_uint8(expected["uint8_in"], "taming").permute(0, 2, 3, 1), expected["uint8"])
