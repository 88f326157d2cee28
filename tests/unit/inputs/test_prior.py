"""Tokenizers and priors trained on the digits for a few steps."""

import math

import pytest
import torch

from artune.config.run import Backbone, Data, Tokenizer, Training
from artune.data.embedded import load_split, write_data
from artune.data.pixels import to_pixels
from artune.errors import ArtuneError
from artune.inputs.likelihood import heldout_loss, likelihood_loss
from artune.inputs.prior import pretrain
from artune.inputs.token_codes import encode_split, load_codes, write_codes
from artune.inputs.tokenizer import RunningCodebook, psnr, reconstruction_psnr, train_tokenizer, used_codes
from artune.models.policies.build import build_policy
from artune.models.tokenizers.build import build_tokenizer, load_tokenizer
from artune.models.weights.checkpoints import load_into
from artune.models.weights.tensor_files import read_metadata, read_tensors
from artune.runtime.files import save_npz
from artune.runtime.seeds import generator_for

DIGITS = Data(
    source="mnist", image_size=24, classes=10, train_per_class=30, validation_per_class=4, heldout_per_class=6,
    class_names=("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
)  # fmt: skip
SIZES = {
    "channels": 8, "channel_multipliers": (1, 1, 2), "residual_blocks": 1, "latent_channels": 8, "codebook_size": 16,
    "codebook_dim": 4, "norm_groups": 4, "train": Training(steps=25, batch=16, learning_rate=4e-3),
}  # fmt: skip
VQ = Tokenizer(family="vq", **SIZES)
VQGAN = Tokenizer(family="vqgan", attention_resolutions=(6,), **SIZES)
BACKBONE = Backbone(
    family="llamagen", tokenizer="vq", dim=16, layers=1, heads=2, classes=10, codebook_size=16, tokens=36,
    ffn_multiple_of=16, train=Training(steps=30, batch=40, learning_rate=1e-2, class_dropout=0.1, dropout=0.1),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the data, a trained tokenizer and its codes."""
    folder = tmp_path_factory.mktemp("inputs")
    write_data(DIGITS, folder / "data.npz")
    train_tokenizer(VQ, folder / "data.npz", folder / "vq.safetensors", 0)
    write_codes(VQ, folder / "vq.safetensors", folder / "data.npz", folder / "codes.npz")
    return folder


@pytest.mark.parametrize("settings", [VQ, VQGAN], ids=lambda settings: settings.family)
def test_a_few_steps_make_a_tokenizer_better(settings, folder, tmp_path):
    line = train_tokenizer(settings, folder / "data.npz", tmp_path / "t.safetensors", 0)
    images = load_split(folder / "data.npz", "validation")[0]
    trained = load_tokenizer(tmp_path / "t.safetensors", settings, 24)
    torch.manual_seed(0)
    fresh = build_tokenizer(settings, image_size=24)
    after = reconstruction_psnr(trained, images)
    assert after > reconstruction_psnr(fresh, images) + 1.0
    assert f"PSNR {after:.2f} dB" in line
    assert trained.state_dict().keys() == fresh.state_dict().keys()


def test_psnr_is_that_of_a_range_of_two():
    assert psnr(0.04) == pytest.approx(20.0)


def test_the_codes_of_a_file_are_those_of_the_tokenizer(folder):
    tokenizer = load_tokenizer(folder / "vq.safetensors", VQ, 24)
    for split in ("train", "validation", "heldout"):
        images, labels = load_split(folder / "data.npz", split)
        codes, own = load_codes(folder / "codes.npz", split)
        assert torch.equal(own, labels)
        assert codes.shape == (len(images), 36)
        assert torch.equal(codes, tokenizer.encode(to_pixels(images)))
        assert torch.equal(codes, encode_split(tokenizer, images, batch=7))


class Counted(torch.nn.Module):
    """A tokenizer of four codes that gives each image the number of its first pixel and counts its calls."""

    codebook_size = 4

    def __init__(self):
        super().__init__()
        self.calls = 0

    def encode(self, pixels):
        self.calls += 1
        return ((pixels[:, 0, 0, :2] + 1) * 127.5).round().long()


@pytest.mark.parametrize(("codes", "used", "calls"), [([0, 1, 2, 2, 1, 0], 3, 3), ([0, 3, 2, 1, 1, 0], 4, 2)])
def test_used_codes_are_counted_until_all_have_been_seen(codes, used, calls):
    images = torch.tensor(codes, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)
    tokenizer = Counted()
    assert used_codes(tokenizer, images, batch=2) == used
    assert tokenizer.calls == calls


def test_a_dead_code_restarts_on_a_latent_and_a_used_one_follows_its_latents():
    tokenizer = build_tokenizer(VQGAN, image_size=24)
    codebook = RunningCodebook(tokenizer.quantize, generator_for(0))
    latents = torch.randn(8, 4, 6, 6, generator=generator_for(1))
    codebook.update(latents, restart=True)
    with torch.no_grad():
        codebook.weight[0] = 100.0
        codebook.sums[0] = codebook.weight[0] * codebook.counts[0]
    for _ in range(150):
        codebook.update(latents, restart=False)
    assert codebook.weight[0].min() > 50  # no latent is near the code, and restarts are off
    error = (tokenizer.quantize.look_up(tokenizer.quantize.nearest(latents)) - latents).square().mean()
    codebook.update(latents, restart=True)
    assert (latents.movedim(1, -1).reshape(-1, 4) == codebook.weight[0]).all(dim=1).any()
    ids = tokenizer.quantize.nearest(latents)
    for code in ids.unique()[1:4]:
        mean = latents.movedim(1, -1)[ids == code].mean(0)
        assert (codebook.weight[code] - mean).norm() < 0.5
    assert error < 0.6 * latents.square().mean()


def test_training_a_tokenizer_is_deterministic(folder, tmp_path):
    short = VQ.model_copy(update={"train": Training(steps=3, batch=8, learning_rate=1e-3)})
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_tokenizer(short, folder / "data.npz", tmp_path / name, seed)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


@pytest.mark.parametrize("family", ["llamagen", "vqgan"])
def test_a_prior_learns_the_tokens_of_its_classes(family, folder, tmp_path):
    settings = BACKBONE.model_copy(update={"family": family})
    line = pretrain(settings, folder / "codes.npz", tmp_path / "p.safetensors", 0)
    policy = build_policy(settings)
    load_into(policy, tmp_path / "p.safetensors")
    value = heldout_loss(policy, *load_codes(folder / "codes.npz", "validation"))
    assert value < math.log(16) - 0.2
    assert f"{value:.3f}" in line
    assert float(read_metadata(tmp_path / "p.safetensors")["validation_cross_entropy"]) == pytest.approx(
        value, abs=1e-4
    )


def test_a_prior_is_decided_by_its_seed_alone(folder, tmp_path):
    short = BACKBONE.model_copy(update={"train": BACKBONE.train.model_copy(update={"steps": 3})})
    for name, seed in (("a.safetensors", 0), ("b.safetensors", 0), ("c.safetensors", 1)):
        torch.rand(1)  # moves the global generator
        pretrain(short, folder / "codes.npz", tmp_path / name, seed)
    first, again, other = (read_tensors(tmp_path / f"{name}.safetensors")["output.weight"] for name in "abc")
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_tokens_that_do_not_fit_the_policy_are_an_error(folder, tmp_path):
    with pytest.raises(ArtuneError, match="36 tokens per image"):
        pretrain(BACKBONE.model_copy(update={"tokens": 25}), folder / "codes.npz", tmp_path / "p", 0)


def test_missing_train_settings_are_an_error(folder, tmp_path):
    with pytest.raises(ArtuneError, match="backbones: train is missing"):
        pretrain(BACKBONE.model_copy(update={"train": None}), folder / "codes.npz", tmp_path / "p", 0)
    with pytest.raises(ArtuneError, match="tokenizers: train is missing"):
        train_tokenizer(VQ.model_copy(update={"train": None}), folder / "data.npz", tmp_path / "t", 0)


def test_a_code_file_without_the_split_is_an_error(tmp_path):
    save_npz(tmp_path / "codes.npz", {"train_codes": torch.zeros(1, 4).numpy()})
    with pytest.raises(ArtuneError, match="lacks train_labels"):
        load_codes(tmp_path / "codes.npz", "train")


def random_tokens(count):
    generator = generator_for(3)
    return torch.randint(16, (count, 36), generator=generator), torch.randint(10, (count,), generator=generator)


def test_the_likelihood_loss_is_the_mean_over_tokens_of_minus_log_p():
    policy = build_policy(BACKBONE, generator_for(0))
    torch.nn.init.normal_(policy.output.weight, generator=generator_for(1))
    tokens, labels = random_tokens(3)
    logp = policy.forward(tokens, labels).log_softmax(-1)
    expected = -sum(logp[b, t, tokens[b, t]] for b in range(3) for t in range(36)) / (3 * 36)
    torch.testing.assert_close(likelihood_loss(policy, tokens, labels), expected)
    assert heldout_loss(policy, tokens, labels, batch=2) == pytest.approx(expected.item(), rel=1e-5)


def test_full_class_dropout_is_the_null_class():
    policy = build_policy(BACKBONE, generator_for(0))
    torch.nn.init.normal_(policy.output.weight, generator=generator_for(1))
    tokens, labels = random_tokens(3)
    dropped = likelihood_loss(policy, tokens, labels, class_dropout=1.0, generator=generator_for(0))
    torch.testing.assert_close(dropped, likelihood_loss(policy, tokens, torch.full_like(labels, 10)))
    assert dropped != likelihood_loss(policy, tokens, labels)


def test_a_policy_without_a_null_class_keeps_its_labels():
    policy = build_policy(BACKBONE.model_copy(update={"family": "vqgan"}), generator_for(0))
    tokens, labels = random_tokens(3)
    dropped = likelihood_loss(policy, tokens, labels, class_dropout=1.0)
    assert torch.equal(dropped, likelihood_loss(policy, tokens, labels))
