"""Mistakes that cause no error message; each is made on purpose, and the parity checks must notice it.

A test first runs its check on the correct code, then replaces the correct function by the mistake and runs the same
check again, which must fail.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from parity_arrays import SAMPLING, arrays, worst
from project import ROOT
from safetensors.torch import save_file
from tiny import tiny_run

from artune.config.registry import Registry
from artune.config.run import Sampling
from artune.evaluation import other_networks
from artune.evaluation.scores import score
from artune.inputs.references import write_reference
from artune.metrics.fid import frechet_distance
from artune.models.encoders import mnist
from artune.models.encoders.inception import Inception
from artune.models.policies import llamagen
from artune.models.policies.llamagen import LlamaGen
from artune.models.tokenizers.conv_tokenizer import TokenizerShape
from artune.models.tokenizers.vq import VQ
from artune.models.tokenizers.vqgan import VQGAN
from artune.models.weights import checkpoints
from artune.models.weights.checkpoints import load_into
from artune.runtime.files import load_npz, save_npz
from artune.sampling import generate, rollout
from artune.tuning import objective

DATA = Path(__file__).parent / "data"
OFFICIAL = Registry("imagenet", root=ROOT / "config").evaluation


@pytest.fixture(scope="module")
def policy():
    built = LlamaGen(dim=64, layers=3, heads=4, codebook_size=512, classes=10, tokens=16)
    load_into(built, DATA / "gpt_tiny" / "ckpt_model.pt")
    return built


@pytest.fixture(scope="module")
def expected():
    return arrays("gpt_tiny")


@pytest.fixture
def training_logits(policy, expected):
    """The check that notices most mistakes inside the policy."""

    def check():
        with torch.no_grad():
            assert worst(policy(expected["idx"], expected["labels"]), expected["train_logits"]) < 1e-4

    return check


def assert_it_fails(check):
    """Run the check once the mistake is in place: it must fail."""
    with pytest.raises(AssertionError):
        check()


def test_1_class_token_rotated_by_the_identity(training_logits, monkeypatch):
    training_logits()
    right = llamagen.rotary_table

    def identity(*arguments):
        table = right(*arguments).clone()
        table[0] = 1.0
        return table

    monkeypatch.setattr(llamagen, "rotary_table", identity)
    assert_it_fails(training_logits)


def test_2_rows_and_columns_swapped_in_the_rotary_embedding(training_logits, monkeypatch):
    training_logits()
    right = llamagen.rotary_table

    def columns_first(*arguments):
        rows, columns = right(*arguments).chunk(2, dim=-1)
        return torch.cat((columns, rows), dim=-1)

    monkeypatch.setattr(llamagen, "rotary_table", columns_first)
    assert_it_fails(training_logits)


def test_3_half_split_instead_of_interleaved_rotary(training_logits, monkeypatch):
    training_logits()

    def half_split(x, rotation):
        turned = torch.complex(*x.float().chunk(2, dim=-1)) * rotation
        return torch.cat((turned.real, turned.imag), dim=-1).type_as(x)

    monkeypatch.setattr(llamagen, "rotate", half_split)
    assert_it_fails(training_logits)


@pytest.mark.parametrize("family", ["llamagen", "taming"])
def test_4_codebook_not_normalised_for_llamagen_or_normalised_for_taming(family, monkeypatch):
    sizes = {"channels": 32, "residual_blocks": 1, "latent_channels": 32}
    if family == "llamagen":
        tokenizer = VQ(TokenizerShape(**sizes, channel_multipliers=(1,) * 5, codebook_size=256, codebook_dim=8))
        folder, path, codes, decoded = "vq_f16", "vq_model.pt", "codes", "decoded"
    else:
        attention = {"attention_resolutions": (4,), "image_size": 8}
        shape = TokenizerShape(**sizes, channel_multipliers=(1, 1), codebook_size=128, codebook_dim=16)
        tokenizer = VQGAN(shape, **attention)
        folder, path, codes, decoded = "taming_tiny", "checkpoints/last.ckpt", "z", "decoded_z"
    load_into(tokenizer, DATA / folder / path)
    reference = arrays(folder)

    def encoding():
        assert torch.equal(tokenizer.encode(reference["image"]), reference["ids"])

    def decoding():
        assert worst(tokenizer.decode(reference[codes]), reference[decoded]) < 5e-4

    encoding()
    decoding()
    monkeypatch.setattr(tokenizer.quantize, "normalised", family == "taming")
    assert_it_fails(encoding)
    assert_it_fails(decoding)


def test_5_w1_and_w3_swapped(training_logits, monkeypatch):
    training_logits()
    swapped = lambda self, x: self.w2(F.silu(self.w3(x)) * self.w1(x))  # noqa: E731
    monkeypatch.setattr(llamagen.FeedForward, "forward", swapped)
    assert_it_fails(training_logits)


def test_6_guidance_written_as_c_plus_s_times_c_minus_u(policy, expected, monkeypatch):
    def teacher_forced():
        guided = generate.guided_logits(policy, expected["kv_forced"], expected["kv_labels"], 1.5)
        assert worst(guided.detach(), expected["kv_logits_cfg15"]) < 1e-4

    def sampled():
        settings = Sampling(**SAMPLING | {"cfg": 1.5})
        assert torch.equal(
            generate.generate(policy, expected["kv_labels"], settings, greedy=True), expected["greedy_g15"]
        )

    teacher_forced()
    sampled()
    monkeypatch.setattr(generate, "guide", lambda c, u, s: c + s * (c - u))
    assert_it_fails(teacher_forced)
    assert_it_fails(sampled)


def test_7_class_dropout_left_on_while_scoring(policy, expected, monkeypatch):
    run = tiny_run(grpo={"autocast": "off"})
    tokens, labels = expected["idx"].repeat(16, 1), expected["labels"].repeat(16)

    def scoring():
        with torch.no_grad():
            logp, _ = objective.score_tokens(policy.train(), tokens, labels, run.grpo, run.sampling)
        assert worst(logp, expected["token_logp"].repeat(16, 1)) < 1e-4

    scoring()
    right = llamagen.ClassEmbedding.forward

    def dropping(self, class_ids):
        dropped = torch.rand(len(class_ids), generator=torch.Generator().manual_seed(0)) < 0.1
        return right(self, torch.where(dropped, policy.null_class, class_ids))

    monkeypatch.setattr(llamagen.ClassEmbedding, "forward", dropping)
    assert_it_fails(scoring)
    paper = Registry("imagenet", root=ROOT / "config").resolve("llamagen_l-ours")
    assert paper.grpo.class_dropout == paper.grpo.dropout == 0.0


def test_8_top_p_dropping_the_crossing_token(expected, monkeypatch):
    def truncation():
        probabilities = generate.filter_logits(expected["sampler_logits"], top_p=0.6).softmax(-1)
        torch.testing.assert_close(probabilities, expected["sampler_probs"][3], atol=1e-6, rtol=1e-5)

    truncation()
    right = torch.Tensor.cumsum

    def one_later(self, dim):
        return right(self, dim).roll(-1, dim)  # the mass up to and including a token, in place of the mass before it

    monkeypatch.setattr(torch.Tensor, "cumsum", one_later)
    assert_it_fails(truncation)


@pytest.mark.parametrize(("family", "folder"), [("llamagen", "vq_f16"), ("taming", "taming_tiny")])
def test_9_uint8_rules_of_the_two_families_mixed_up(family, folder, monkeypatch):
    reference = arrays(folder)

    def rendering():
        images = rollout.to_uint8(reference["uint8_in"], rule=family)
        assert torch.equal(images.permute(0, 2, 3, 1), reference["uint8"])

    rendering()
    right, other = rollout.to_uint8, {"llamagen": "taming", "taming": "llamagen"}
    monkeypatch.setattr(rollout, "to_uint8", lambda images, rule: right(images, other[rule]))
    assert_it_fails(rendering)


@pytest.mark.parametrize("mistake", ["antialiased", "uint8 first"])
def test_10_antialiased_or_uint8_first_resize_from_384(mistake, monkeypatch):
    reference = arrays("vq_f16")
    size = reference["resized"].shape[-1]
    tokenizer = torch.nn.Module()
    tokenizer.decoder = torch.nn.Conv2d(1, 1, 1)
    tokenizer.decode = lambda tokens: reference["uint8_in"]

    def rendering():
        images = rollout.make_renderer(tokenizer, 9, size)(torch.zeros(1, 9, dtype=torch.long))
        assert torch.equal(images.permute(0, 2, 3, 1), reference["resized_uint8"])

    rendering()
    right = rollout.resize
    if mistake == "antialiased":
        monkeypatch.setattr(
            rollout, "resize", lambda images, size: F.interpolate(images, (size, size), mode="bicubic", antialias=True)
        )
    else:
        monkeypatch.setattr(
            rollout, "resize", lambda images, size: right(rollout.to_uint8(images).float() / 127.5 - 1, size)
        )
    assert_it_fails(rendering)


def test_11_class_ordered_images_in_the_splits_of_the_inception_score(monkeypatch):
    with np.load(DATA / "metrics" / "inception_score.npz") as archive:
        data = {name.removeprefix("probs/"): archive[name] for name in archive.files}
    protocol = OFFICIAL.model_copy(
        update={"inception_split": 130, "cmmd": None, "dinov2": None, "density_neighbours": None}
    )
    draw = np.random.default_rng(0)
    features = draw.normal(size=(1300, 4))
    sorted_by_class = {
        "labels": np.arange(1300),
        "features": features,
        "probabilities": data["p"][data["order_by_argmax"]],
        "clip": features[:, 0],
    }
    real = {"features": draw.normal(size=(200, 4)), "mu": np.zeros(4), "sigma": np.eye(4)}
    real = {f"heldout/{protocol.features}/{name}": value for name, value in real.items()}

    def scoring():
        found = score(sorted_by_class, real, protocol, 1000)["inception_score"]
        assert found == pytest.approx(float(data["adm_split130"]), rel=0.03)

    scoring()
    monkeypatch.setattr(other_networks, "file_order", lambda n, seed: np.arange(n))
    assert_it_fails(scoring)


def test_12_reference_moments_from_another_preprocessing(tmp_path, monkeypatch):
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (40, 24, 24, 3), dtype=np.uint8)
    splits = {
        f"{split}_{what}": value
        for split in ("train", "heldout")
        for what, value in (("images", images), ("labels", np.arange(40)))
    }
    save_npz(tmp_path / "data.npz", splits)
    torch.manual_seed(0)
    network = mnist.Classifier("plain", 10).eval()
    features = network.features(torch.from_numpy(images).permute(0, 3, 1, 2)).double()

    def the_same_images_are_at_no_distance():
        write_reference(tmp_path / "data.npz", {"judge": network}, 10, tmp_path / "reference.npz", torch.device("cpu"))
        reference = load_npz(tmp_path / "reference.npz")
        moments = [torch.from_numpy(reference[f"heldout/judge/{name}"]) for name in ("mu", "sigma")]
        ours = features.mean(0), features.T.cov()
        assert frechet_distance(*ours, *moments) < 1e-6 * ours[1].trace()

    the_same_images_are_at_no_distance()
    monkeypatch.setattr(mnist, "to_pixels", lambda images: images.float() / 255)
    assert_it_fails(the_same_images_are_at_no_distance)


def test_12_reference_moments_from_another_resize(monkeypatch):
    with np.load(DATA / "metrics" / "resize.npz") as archive:
        image, rows, resized = (torch.from_numpy(archive[f"up256/{name}"]) for name in ("image", "rows", "tf_299_rows"))
    network, seen = Inception(), []
    network.Conv2d_1a_3x3.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))

    def resize():
        network.features(image.permute(2, 0, 1)[None])
        ours = (seen.pop()[0] * 128 + 128).permute(1, 2, 0)[rows]
        torch.testing.assert_close(ours, resized, rtol=0, atol=2e-5)

    resize()
    monkeypatch.setattr(
        "torch_fidelity.feature_extractor_inceptionv3.interpolate_bilinear_2d_like_tensorflow1x",
        lambda x, size, align_corners=False: F.interpolate(x, size, mode="bilinear", align_corners=align_corners),
    )
    assert_it_fails(resize)


def test_13_reference_model_loaded_as_the_policy(policy, expected, tmp_path, monkeypatch):
    state = policy.state_dict()
    frozen = {f"ref_model.gpt_model.{name}": 0.5 * value for name, value in state.items()}
    save_file(frozen | {f"gpt_model.{name}": value for name, value in state.items()}, tmp_path / "model.safetensors")

    def loading():
        fresh = LlamaGen(dim=64, layers=3, heads=4, codebook_size=512, classes=10, tokens=16)
        load_into(fresh, tmp_path)
        with torch.no_grad():
            assert worst(fresh(expected["idx"], expected["labels"]), expected["train_logits"]) < 1e-4

    loading()
    monkeypatch.setattr(checkpoints, "OTHER_MODELS", "another")
    monkeypatch.setattr(checkpoints, "PARTS", ("ref_model.gpt_model.", "gpt_model."))
    assert_it_fails(loading)


@pytest.mark.parametrize("where", ["the policy", "the loss"])
def test_14_logits_left_in_bfloat16_before_the_log_softmax(policy, expected, where, monkeypatch):
    run = tiny_run(grpo={"autocast": "off"})

    def scoring():
        with torch.no_grad():
            scored = objective.score_tokens(policy, expected["idx"], expected["labels"], run.grpo, run.sampling)
        for found, name in zip(scored, ("token_logp", "entropy"), strict=True):
            assert worst(found, expected[name]) < 1e-4

    scoring()
    if where == "the policy":
        right = LlamaGen.forward
        monkeypatch.setattr(LlamaGen, "forward", lambda self, *arguments: right(self, *arguments).bfloat16())
    else:
        softmax = torch.log_softmax
        monkeypatch.setattr(torch, "log_softmax", lambda x, dim: softmax(x.bfloat16(), dim).float())
    assert_it_fails(scoring)
