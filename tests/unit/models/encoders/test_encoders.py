"""The frozen networks of the mnist scale: shapes, training, loading."""

import importlib
import sys

import pytest
import torch

from artune.config.run import Data, Network, Tokenizer, Training
from artune.data.embedded import load_split, write_data
from artune.data.pixels import to_pixels, to_uint8
from artune.data.prompts import prompts
from artune.errors import ArtuneError
from artune.inputs import networks
from artune.inputs.augment import corrupt, jitter
from artune.inputs.fit import fit, schedule
from artune.inputs.networks import Decodings, draw_pairs, train_network
from artune.inputs.token_codes import encode_split
from artune.models.encoders.build import KINDS, build_network, load_network
from artune.models.encoders.mnist_clip import MnistCLIP, unseen
from artune.models.tokenizers.build import build_tokenizer
from artune.models.weights.checkpoints import save_module
from artune.runtime.seeds import draw_indices, generator_for

DIGITS = Data(
    source="mnist", image_size=24, classes=10, train_per_class=30, validation_per_class=4, heldout_per_class=6,
    class_names=("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
)  # fmt: skip
TOKENIZER = Tokenizer(
    family="vq", channels=8, channel_multipliers=(1, 1, 1), residual_blocks=1, latent_channels=8, codebook_size=16,
    codebook_dim=4, norm_groups=4,
)  # fmt: skip
ALL = [(kind, name) for kind, (architectures, _) in KINDS.items() for name in architectures]


def network(kind, architecture, steps=8):
    training = Training(steps=steps, batch=40, learning_rate=3e-3)
    return Network(kind=kind, architecture=architecture, train=training)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    write_data(DIGITS, path)
    return path


@pytest.fixture(scope="module")
def images():
    return torch.randint(256, (5, 3, 24, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize(("kind", "architecture"), ALL)
def test_every_network_answers_for_uint8_images(kind, architecture, images):
    module = build_network(network(kind, architecture), DIGITS).eval()
    if kind == "classifier":
        assert module.features(images).shape == (5, 64)
        torch.testing.assert_close(module.probabilities(images).sum(1), torch.ones(5))
    elif kind == "quality":
        score = module.score(images)
        assert score.shape == (5,)
        assert ((score > 0) & (score < 1)).all()
    else:
        embedded, texts = module.embed_images(images), module.embed_texts(prompts(DIGITS))
        assert embedded.shape[1] == texts.shape[1]
        torch.testing.assert_close(embedded.norm(dim=1), torch.ones(5))
        torch.testing.assert_close(texts.norm(dim=1), torch.ones(10))
        assert len(texts.unique(dim=0)) == 10


def test_quality_is_the_weighted_mean_of_patch_scores(images):
    module = build_network(network("quality", "plain"), DIGITS).eval()
    patches = module.body(to_pixels(images))
    scores, weights = module.patch_score(patches).sigmoid(), module.patch_weight(patches).sigmoid()
    for index in range(5):
        expected = sum(w * s for w, s in zip(weights[index].flatten(), scores[index].flatten(), strict=True))
        torch.testing.assert_close(module.score(images)[index], expected / weights[index].sum())


def test_a_word_outside_the_vocabulary_is_named():
    with pytest.raises(ArtuneError, match="'unicorn'"):
        MnistCLIP("transformer", DIGITS).embed_texts(["a photo of unicorn"])


@pytest.mark.parametrize("architecture", ["transformer", "residual"])
@pytest.mark.parametrize("side", [24, 28, 29])
def test_every_row_and_column_reaches_clip_though_its_patches_do_not_divide_the_side(architecture, side):
    module = MnistCLIP(architecture, DIGITS.model_copy(update={"image_size": side})).eval()
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0), requires_grad=True)
    module.images(pixels)[0, 0].backward()
    for across in ((0, 1, 2), (0, 1, 3)):
        assert (pixels.grad.abs().sum(across) > 0).all()


def test_other_templates_take_the_place_of_the_digits(images):
    clothes = DIGITS.model_copy(update={"templates": ("the {}", "a small grey {}")})
    module = MnistCLIP("transformer", clothes)
    assert module.templates == ("a photo of {}", "the {}", "a small grey {}")
    assert "digit" not in module.vocabulary
    assert "digit" in MnistCLIP("transformer", DIGITS).vocabulary


def test_floats_of_a_batch_are_the_bits_that_those_of_all_images_had():
    values = torch.arange(256, dtype=torch.uint8)
    images = torch.stack([values.roll(shift) for shift in range(60)]).view(20, 3, 16, 16)
    chosen = draw_indices(32, 20, generator_for(0))
    before, now = to_pixels(images)[chosen], to_pixels(images[chosen])
    assert torch.equal(before.view(torch.int32), now.view(torch.int32))
    assert before.stride() == now.stride()  # by which the convolutions choose their algorithm


def test_a_network_learns_from_its_share_of_each_class_and_sees_it_unmoved_if_told_to(digits, tmp_path):
    images, labels = load_split(digits, "train")
    share = [images[labels == label][:4] for label in range(10)]
    settings = network("classifier", "plain", steps=3)
    few = {"per_class": 4, "jitter": False}
    train_network(
        "judge", settings.model_copy(update={"train": settings.train.model_copy(update=few)}), DIGITS, digits, None,
        None, tmp_path / "few.safetensors", 0,
    )  # fmt: skip
    module = load_network(tmp_path / "few.safetensors", settings, DIGITS)
    assert module.features(torch.cat(share)).var(dim=0).sum().item() == pytest.approx(100.0, rel=1e-3)
    train_network("judge", settings, DIGITS, digits, None, None, tmp_path / "all.safetensors", 0)
    assert (tmp_path / "few.safetensors").read_bytes() != (tmp_path / "all.safetensors").read_bytes()
    more = settings.model_copy(update={"train": settings.train.model_copy(update={"per_class": 31})})
    with pytest.raises(ArtuneError, match=r"networks\.judge: train\.per_class: 31, but a class has 30 images"):
        train_network("judge", more, DIGITS, digits, None, None, tmp_path / "x", 0)


def test_only_a_share_of_the_images_is_corrupted_for_the_networks_that_judge_decodings(digits, tmp_path, monkeypatch):
    save_module(tmp_path / "vq.safetensors", build_tokenizer(TOKENIZER))
    seen = []

    def counted(tokenizer, tokens, *others):
        seen.append(len(tokens))
        return corrupt(tokenizer, tokens, *others)

    monkeypatch.setattr(networks, "corrupt", counted)
    settings = network("quality", "plain", steps=1)
    settings = settings.model_copy(update={"train": settings.train.model_copy(update={"per_class": 5})})
    train_network("m", settings, DIGITS, digits, TOKENIZER, tmp_path / "vq.safetensors", tmp_path / "net", 0)
    assert seen == [2 * 10 * 5, 2 * 10 * 4]  # two versions; the validation split is whole


def test_optional_packages_are_unseen_for_one_import_only(monkeypatch):
    there = importlib.import_module("colorsys")
    monkeypatch.delitem(sys.modules, "netrc", raising=False)
    with unseen("netrc", "colorsys"):
        assert importlib.import_module("colorsys") is there  # already imported
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("netrc")
    assert importlib.import_module("netrc").netrc


def test_a_prompt_that_is_too_long_is_refused():
    with pytest.raises(ArtuneError, match="8 words"):
        MnistCLIP("transformer", DIGITS).embed_texts(["a a a a a a a three"])


@pytest.mark.parametrize(
    ("kind", "architecture", "message"),
    [("sound", "x", "kind 'sound' has no encoder; known are"), ("clip", "x", "'x' of clip is unknown")],
)
def test_unknown_networks_are_errors_that_list_the_known_ones(kind, architecture, message):
    with pytest.raises(ArtuneError, match=message):
        build_network(network("clip", architecture).model_copy(update={"kind": kind}), DIGITS)


def test_a_trained_classifier_beats_chance_and_its_features_have_trace_100(digits, tmp_path):
    settings = network("classifier", "residual", steps=40)
    line = train_network("judge", settings, DIGITS, digits, None, None, tmp_path / "judge.safetensors", 0)
    assert float(line.split("accuracy ")[1]) > 0.5
    module = load_network(tmp_path / "judge.safetensors", settings, DIGITS)
    assert not module.training
    features = module.features(load_split(digits, "train")[0])
    assert features.var(dim=0).sum().item() == pytest.approx(100.0, rel=1e-3)


def test_training_is_deterministic_and_names_and_seeds_matter(digits, tmp_path):
    written = {}
    for key, (name, seed) in {"a": ("clip", 0), "b": ("clip", 0), "c": ("clip", 1), "d": ("other", 0)}.items():
        path = tmp_path / key
        before = torch.random.get_rng_state()
        train_network(name, network("clip", "residual", 3), DIGITS, digits, None, None, path, seed)
        assert torch.equal(before, torch.random.get_rng_state())
        written[key] = path.read_bytes()
    assert written["a"] == written["b"]
    assert len(set(written.values())) == 3


@pytest.mark.parametrize(("kind", "architecture"), [("preference", "residual"), ("quality", "plain")])
def test_networks_that_judge_decodings_train_with_a_tokenizer_and_refuse_without(kind, architecture, digits, tmp_path):
    save_module(tmp_path / "vq.safetensors", build_tokenizer(TOKENIZER))
    arguments = (kind, network(kind, architecture), DIGITS, digits)
    line = train_network(*arguments, TOKENIZER, tmp_path / "vq.safetensors", tmp_path / "net.safetensors", 0)
    assert "validation" in line
    with pytest.raises(ArtuneError, match="tokenizer"):
        train_network(*arguments, None, None, tmp_path / "x.safetensors", 0)


def test_a_network_without_train_settings_is_not_trained(digits, tmp_path):
    with pytest.raises(ArtuneError, match=r"networks\.clip: train is missing"):
        train_network(
            "clip", Network(kind="clip", architecture="residual"), DIGITS, digits, None, None, tmp_path / "x", 0
        )


def test_preferred_images_are_cleaner_and_carry_the_right_label():
    labels = torch.arange(10).repeat_interleave(20)
    clean = torch.rand(200, generator=torch.Generator().manual_seed(0))
    material = Decodings(DIGITS, torch.zeros(200, 3, 24, 24, dtype=torch.uint8), labels, clean)
    better, worse, label = draw_pairs(material, 4000, torch.Generator().manual_seed(1))
    assert torch.equal(labels[better], label)
    right = labels[worse] == label
    assert (clean[better][right] >= clean[worse][right]).all()
    assert 0.22 < 1 - right.float().mean() < 0.28


def test_corruption_replaces_the_share_asked_for(digits):
    images = load_split(digits, "validation")[0]
    tokenizer = build_tokenizer(TOKENIZER)
    tokens = encode_split(tokenizer, images)
    decoded, clean = corrupt(tokenizer, tokens, torch.full((40,), 0.25), generator_for(0))
    assert decoded.dtype == torch.uint8
    assert decoded.shape == images.shape
    assert clean.tolist() == [0.75] * 40
    untouched, clean = corrupt(tokenizer, tokens, torch.zeros(40), generator_for(0))
    assert clean.tolist() == [1.0] * 40
    assert torch.equal(untouched, to_uint8(tokenizer.decode(tokens)))
    assert not torch.equal(decoded, untouched)


def test_jitter_moves_every_image_differently_and_stays_in_range():
    pixels = -torch.ones(3, 3, 24, 24)
    pixels[:, :, 8:16, 10:14] = 1.0
    moved = jitter(pixels, generator_for(0))
    assert moved.min() >= -1
    assert moved.max() <= 1
    assert not torch.equal(moved[0], moved[1])
    assert torch.equal(moved, jitter(pixels, generator_for(0)))


def test_a_loss_that_is_not_finite_stops_training_and_names_the_step():
    weight = torch.nn.Parameter(torch.ones(1))
    training = Training(steps=5, batch=1, learning_rate=0.1)
    with pytest.raises(ArtuneError, match="toy: the loss is nan at step 3"):
        fit("toy", [weight], training, lambda step: (weight.sum() * (float("nan") if step == 3 else 1.0), ""))


def test_the_learning_rate_rises_then_falls_to_nearly_zero():
    factors = [schedule(step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.2)
    assert max(factors) == factors[5] == 1.0
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert 0 < factors[-1] < 0.001


def test_draws_cover_the_range():
    assert draw_indices(2000, 5, generator_for(0)).unique().tolist() == [0, 1, 2, 3, 4]
