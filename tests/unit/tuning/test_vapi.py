"""VA-pi on a miniature run: its maths, its trainer, and which policy is sampled at which scale."""

import math
import shutil

import numpy as np
import pytest
import torch
import yaml
from project import ROOT
from tiny import tiny_policy, tiny_renderer, tiny_run

from artune.config.glossary import METRICS
from artune.config.registry import Registry
from artune.config.yaml_layers import read_yaml
from artune.errors import ArtuneError
from artune.planning.plan import Plan
from artune.runtime.files import read_jsonl, save_npz
from artune.runtime.seeds import generator_for
from artune.tracking.run_logger import RunLogger
from artune.tuning.loop import run_to_end
from artune.tuning.rivals.vapi import VAPiTrainer, bounded_advantages, draw_positions, feature_distance, noisy_context

CONFIG = read_yaml(ROOT / "config/config.yaml")
SETTINGS = {"iterations": 6, "images": 5, "group_size": 4, "context_noise": 0.5, "mse": 1.0, "perceptual": 1.0,
            "network": "inception", "clip": 1e-4, "cross_entropy": 0.1, "learning_rate": 1e-3, "save_every": 2}  # fmt: skip


class Colours(torch.nn.Module):
    """A network whose features are the mean colour of an image and the colour of its first pixel."""

    def features(self, images):
        pixels = images.float() / 255
        return torch.cat([pixels.mean((2, 3)), pixels[:, :, 0, 0], 0.1 + 0 * pixels[:, :1, 0, 0]], dim=1)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def world(tmp_path):
    """A folder with the tokens of training images and, as their pixels, these tokens rendered."""
    run = tiny_run(method="vapi", vapi=SETTINGS)
    tokens = torch.randint(8, (40, 4), generator=draw())
    images = tiny_renderer(run)(tokens).permute(0, 2, 3, 1).numpy()
    labels = np.arange(40) % 4
    save_npz(tmp_path / "codes.npz", {"train_codes": tokens.numpy(), "train_labels": labels})
    save_npz(tmp_path / "data.npz", {"train_images": images, "train_labels": labels})
    return tmp_path


def trainer_of(world, **changes):
    run = tiny_run(method="vapi", vapi=SETTINGS | changes)
    files = (world / "codes.npz", world / "data.npz")
    return VAPiTrainer(run, tiny_policy(run), tiny_renderer(run), Colours(), *files, torch.device("cpu"))


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.policy.parameters()])


def test_no_gradient_outlives_an_iteration(world):
    trainer = trainer_of(world, epochs=2)
    trainer.step(0)
    assert all(parameter.grad is None for parameter in trainer.policy.parameters())


def test_context_noise_replaces_its_share_by_codes_of_all_kinds():
    tokens = torch.full((200, 36), 3)
    assert torch.equal(noisy_context(tokens, 8, 0.0, draw()), tokens)
    noisy = noisy_context(tokens, 8, 0.5, draw())
    assert float((noisy != 3).float().mean()) == pytest.approx(0.5 * 7 / 8, abs=0.02)
    assert set(noisy.flatten().tolist()) == set(range(8))


def test_every_position_is_drawn_from_its_own_distribution_and_images_keep_together():
    logits = torch.randn(2, 3, 5, generator=draw())
    drawn = draw_positions(logits, 4000, draw(1))
    assert drawn.shape == (2 * 4000, 3)
    for image in range(2):
        for position in range(3):
            counts = torch.bincount(drawn.view(2, 4000, 3)[image, :, position], minlength=5) / 4000
            torch.testing.assert_close(counts, logits[image, position].softmax(-1), atol=0.03, rtol=0)
    pairs = drawn.view(2, 4000, 3)[0].double()
    assert abs(float(torch.corrcoef(pairs.T)[0, 1])) < 0.05  # positions are independent


def test_the_feature_distance_is_twice_one_minus_the_cosine():
    a, b = torch.randn(6, 5, generator=draw()), torch.randn(6, 5, generator=draw(1))
    torch.testing.assert_close(feature_distance(a, b), 2 - 2 * torch.cosine_similarity(a, b))
    torch.testing.assert_close(feature_distance(a, 3 * a), torch.zeros(6), atol=1e-6, rtol=0)


def test_advantages_are_of_an_images_own_sequences_and_bounded():
    rewards = torch.tensor([0.0, 0.0, 0.0, 1.0, 10.0, 20.0, 30.0, 40.0])
    free = bounded_advantages(rewards, 4, 1e-8, 5.0)
    torch.testing.assert_close(free[4:], torch.tensor([-1.5, -0.5, 0.5, 1.5]) / 1.25**0.5)
    assert bounded_advantages(rewards, 4, 1e-8, 0.5).abs().max() == 0.5


def test_reconstructions_come_to_look_like_the_training_images(world):
    trainer = trainer_of(world, iterations=60, learning_rate=1e-2, cross_entropy=0.0, context_noise=0.0)
    metrics = [trainer.step(iteration)[0] for iteration in range(60)]
    before, after = (
        {name: sum(line[f"vapi/{name}"] for line in part) / 10 for name in ("reward", "mse", "perceptual")}
        for part in (metrics[:10], metrics[-10:])
    )
    assert after["reward"] > before["reward"] + 0.1
    assert after["mse"] < before["mse"] - 0.1
    assert after["perceptual"] < before["perceptual"]
    assert after["reward"] == pytest.approx(-after["mse"] - after["perceptual"])


def test_the_gradient_is_that_of_the_objective_written_out_sequence_by_sequence(world):
    trainer, fresh = trainer_of(world, grad_clip=1e9), trainer_of(world)
    found = []  # the gradients of the step, which frees them at its end
    trainer.optimizer.register_step_pre_hook(
        lambda *_: found.extend(p.grad.clone() for p in trainer.policy.parameters())
    )
    trainer.step(0)
    settings, policy = fresh.settings, fresh.policy
    chosen = torch.randint(40, (settings.images,), generator=generator_for(0, "batch", 0))
    generator = generator_for(0, "vapi", 0)
    tokens, labels = fresh.tokens[chosen], fresh.labels[chosen]
    context = noisy_context(tokens, 8, settings.context_noise, generator)
    drawn = draw_positions(policy(context, labels).detach(), 4, generator).view(settings.images, 4, 4)
    loss = torch.zeros(())
    for image in range(settings.images):
        logp = policy(context[image : image + 1], labels[image : image + 1])[0].log_softmax(-1)  # [T, V]
        target = fresh.images[chosen[image]]
        rewards = []
        for sequence in drawn[image]:
            made = fresh.render(sequence[None])[0]
            mse = ((made.float() - target.float()) / 127.5).square().mean()
            near = torch.cosine_similarity(*Colours().features(torch.stack([made, target])), dim=0)
            rewards.append(-(mse + 2 - 2 * near))
        rewards = torch.stack(rewards)
        advantages = (rewards - rewards.mean()) / (rewards.std(correction=0) + 1e-8)
        for sequence, advantage in zip(drawn[image], advantages, strict=True):
            loss = loss - advantage * logp.gather(1, sequence[:, None]).mean() / (4 * settings.images)
        loss = loss - 0.1 * logp.gather(1, tokens[image][:, None]).mean() / settings.images
    loss.backward()
    for ours, literal in zip(found, policy.parameters(), strict=True):
        torch.testing.assert_close(ours, literal.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [{"context_noise": 0.0}, {"mse": 0.0}, {"perceptual": 0.0}, {"advantage_clip": 0.5}, {"cross_entropy": 0.0},
     {"epochs": 2}, {"epochs": 2, "clip": 0.2}, {"weight_decay": 0.5}, {"grad_clip": 1e-3}, {"group_size": 2}],
    ids=str,
)  # fmt: skip
def test_every_switch_changes_what_is_learnt(world, change):
    def final(**settings):
        trainer = trainer_of(world, **settings)
        for iteration in range(2):
            metrics, _ = trainer.step(iteration)
        assert all(math.isfinite(value) for value in metrics.values())
        return weights(trainer)

    other = {"epochs": 2} if change == {"epochs": 2, "clip": 0.2} else {}
    assert not torch.equal(final(**other), final(**change))


def test_a_training_goes_on_from_its_state_to_the_bit(world):
    whole, first, second = (trainer_of(world, epochs=2) for _ in range(3))
    for iteration in range(4):
        whole.step(iteration)
    for iteration in range(2):
        first.step(iteration)
    second.load_state_dict(first.state_dict())
    for iteration in range(2, 4):
        second.step(iteration)
    assert torch.equal(weights(whole), weights(second))


def test_a_whole_training_leaves_its_curve_and_a_torn_one_goes_on(world, tmp_path):
    def trained(folder, trainer):
        folder.mkdir(exist_ok=True)
        logger = RunLogger(folder)
        try:
            return run_to_end(trainer, folder, logger, "text")[0]
        finally:
            logger.close()

    whole, torn, last = (trainer_of(world) for _ in range(3))
    assert trained(tmp_path / "whole", whole) == 0
    torn.iterations = 3  # as if killed after 3; a state is saved after 2
    trained(tmp_path / "torn", torn)
    assert trained(tmp_path / "torn", last) == 2
    assert torch.equal(weights(whole), weights(last))
    curves = [read_jsonl(tmp_path / name / "metrics.jsonl") for name in ("whole", "torn")]
    assert curves[0] == curves[1]
    assert set(curves[0][0]) - {"iteration"} <= set(METRICS)
    assert set(read_jsonl(tmp_path / "whole/timings.jsonl")[0]) - {"iteration"} <= set(METRICS)


def test_a_second_epoch_that_goes_bad_leaves_the_state_before_the_iteration(world):
    trainer, good = trainer_of(world, epochs=2), trainer_of(world, epochs=2)
    calls, check = [], trainer._check

    def bad_the_third_time(value, what, iteration):
        calls.append(what)
        check(value * math.nan if len(calls) == 3 else value, what, iteration)

    trainer._check = bad_the_third_time
    with pytest.raises(ArtuneError, match=r"loss: NaN or infinite at iteration 0 of tiny.*lower vapi\.learning_rate"):
        trainer.step(0)
    kept = trainer.good_state()["policy"]
    assert all(torch.equal(kept[name], value) for name, value in good.policy.state_dict().items())


def test_tokens_of_other_images_are_refused(world):
    arrays = {"train_images": np.zeros((3, 2, 2, 3), np.uint8), "train_labels": np.arange(3)}
    save_npz(world / "data.npz", arrays)
    with pytest.raises(ArtuneError, match=r"codes\.npz: not the tokens of the images in .*data\.npz"):
        trainer_of(world)


def test_va_pi_is_trained_once_at_mnist_and_is_the_release_at_imagenet():
    mnist, imagenet = (Plan(CONFIG | {"scale": scale}, ROOT / "config") for scale in ("mnist", "imagenet"))
    names = ("llamagen_xl-vapi", "llamagen_xl-vapi-nocfg")
    assert {mnist.policy(name) for name in names} == {"results/mnist/runs/llamagen_xl-vapi/policy.safetensors"}
    assert mnist.policy("llamagen_xl-vapi-nocfg-s2") == "results/mnist/runs/llamagen_xl-vapi-s2/policy.safetensors"
    assert {path for name in names for path in mnist.timings(name)} == {
        "results/mnist/runs/llamagen_xl-vapi/timings.jsonl"
    }
    assert [mnist.registry.resolve(name).sampling.cfg for name in names] == [1.5, 1.0]
    assert {imagenet.policy(name) for name in names} == {
        "results/imagenet/pretrained/external/vapi_xl/policy.safetensors"
    }
    assert mnist.train(names[0])["networks"] == ["results/mnist/inputs/networks/inception.safetensors"]
    # The network of the training is not the one that judges.
    assert mnist.registry.evaluation.features != mnist.registry.resolve(names[0]).vapi.network


@pytest.mark.parametrize(
    ("scale", "line", "message"),
    [
        ("imagenet", {"method": "vapi"}, "llamagen_xl-vapi: method: vapi needs the images"),
        ("mnist", {"method": "vapi", "vapi.network": "eyes"}, "vapi.network: unknown 'eyes'; known are"),
        ("mnist", {"method": "vapi", "vapi.images": 0}, r"vapi\.images: .*greater than 0"),
        ("mnist", {"method": "vapi", "policy": "nobody"}, "policy: unknown run 'nobody'"),
        ("mnist", {"method": "vapi", "policy": "llamagen_xl-vapi-nocfg"}, "has no policy of its own; name the run"),
    ],
)
def test_a_slip_in_its_line_is_one_that_names_it(tmp_path, scale, line, message):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    path = tmp_path / f"config/scales/{scale}.yaml"
    tree = yaml.safe_load(path.read_text())
    tree.setdefault("experiments", {})["llamagen_xl-vapi"] = line
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    with pytest.raises(ArtuneError, match=message) as caught:
        Registry(scale, root=tmp_path / "config").resolve("llamagen_xl-vapi")
    assert "\n" not in str(caught.value)
