"""LOO-FID against real images of the batch's own classes (``rewards.loo_fid.reference: class_matched``)."""

import numpy as np
import pytest
import torch
from PIL import Image
from project import ROOT
from tiny import Brightness, tiny_policy, tiny_renderer, tiny_run

from artune.config.run import Data
from artune.config.yaml_layers import read_yaml
from artune.errors import ArtuneError
from artune.inputs.training_moments import read_class_moments, write_class_moments
from artune.planning.plan import Plan
from artune.rewards.distribution import DistributionReward
from artune.rewards.moments import ClassMoments, FeatureMoments
from artune.runtime.files import save_npz
from artune.tuning.grpo_trainer import GRPOTrainer
from artune.tuning.train import build_grpo

CPU = torch.device("cpu")
CLASSES, EACH, WIDTH = 4, 50, 3


class Flat(torch.nn.Module):
    """A network whose features are the mean colour of an image."""

    def features(self, images):
        return images.float().mean((2, 3)) / 255


def real_features(each=EACH, seed=0):
    """Features [C, each, D] of real images; the classes are far apart and have different spreads."""
    draw = torch.Generator().manual_seed(seed)
    centres = 3.0 * torch.arange(CLASSES)[:, None, None]
    return centres + (0.5 + 0.1 * centres) * torch.randn(CLASSES, each, WIDTH, generator=draw, dtype=torch.float64)


REAL = real_features()
MATCHED = ClassMoments(REAL.mean(1), REAL.var(1, correction=0))


def reward_of(classes=MATCHED, **settings):
    """A reward whose marginal reference is the moments of all real features."""
    kind = "class_matched" if classes is not None else "marginal"
    settings = {"network": "inception", "start": "first_batch", "reference": kind} | settings
    pooled = REAL.flatten(0, 1)
    settings = tiny_run(rewards={"loo_fid": settings}).rewards.loo_fid
    return DistributionReward(Flat(), settings, pooled.mean(0), torch.cov(pooled.T, correction=0), CPU, classes)


def batch_of(ids, each, seed):
    """Features of a policy that draws from the real classes, and their class ids."""
    return real_features(each, seed)[ids].flatten(0, 1), torch.tensor(ids).repeat_interleave(each)


def test_a_mixture_has_the_moments_of_its_classes_put_together():
    mixed = MATCHED.mixture(torch.tensor([2, 0, 2, 0, 3, 3]))
    pooled = FeatureMoments.of(REAL[[0, 2, 3]].flatten(0, 1))
    torch.testing.assert_close(mixed.mean, pooled.mean)
    torch.testing.assert_close(mixed.covariance, pooled.covariance)


def test_with_every_class_in_every_batch_nothing_changes():
    matched, marginal = reward_of(), reward_of(None)
    for seed in range(3):
        features, ids = batch_of(list(range(CLASSES)), 6, seed + 1)
        for ours, theirs in zip(matched(features, ids), marginal(features, ids), strict=True):
            torch.testing.assert_close(torch.as_tensor(ours), torch.as_tensor(theirs))
        matched.commit()
        marginal.commit()


@pytest.mark.parametrize(
    "settings", [{}, {"start": "assign"}, {"start": "zero"}, {"mode": "batch"}, {"shards": 2}], ids=str
)
def test_the_real_features_themselves_have_distance_0_whichever_classes_are_drawn(settings):
    matched, marginal = reward_of(**settings, epsilon=0.0), reward_of(None, **settings, epsilon=0.0)
    for ids in ([0, 1], [1, 2], [0, 3]):
        features, labels = REAL[ids].flatten(0, 1), torch.tensor(ids).repeat_interleave(EACH)
        assert matched(features, labels)[1] == pytest.approx(0.0, abs=1e-18)
        assert marginal(features, labels)[1] > 0.1
        matched.commit()
        marginal.commit()


def test_the_average_starts_from_the_classes_of_the_pretrained_samples():
    images = torch.randint(256, (40, 3, 2, 2), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.arange(40) % 2
    matched = reward_of(start="pretrained")
    matched.start_from(images, labels)
    torch.testing.assert_close(matched.targets[0].mean, MATCHED.mixture(labels).mean)
    features, ids = batch_of([2, 3], 6, 1)
    matched(features, ids)
    matched.commit()
    halfway = 0.5 * (MATCHED.mixture(labels).mean + MATCHED.mixture(ids).mean)  # alpha = 0.5
    torch.testing.assert_close(matched.targets[0].mean, halfway)


def test_a_state_holds_the_references_average_as_well():
    for shards in (1, 2):
        whole, second = reward_of(shards=shards), reward_of(shards=shards)
        for seed, ids in enumerate(([0, 1], [3, 2])):
            whole(*batch_of(ids, 6, seed))
            whole.commit()
        second.load_state_dict(whole.state_dict())
        last = batch_of([1, 3], 6, 9)
        assert torch.equal(whole(*last)[0], second(*last)[0])
        assert len(whole.state_dict()) == 2 * shards


def test_a_class_without_real_images_is_named_as_the_fault():
    broken = ClassMoments(MATCHED.mean.index_fill(0, torch.tensor([2]), torch.nan), MATCHED.variance)
    with pytest.raises(ArtuneError, match="a class of the batch has no real images"):
        reward_of(broken)(*batch_of([1, 2], 6, 1))


def test_a_policy_learns_something_else_under_it_and_its_training_goes_on_to_the_bit():
    run = tiny_run(rewards={"terms": ["clip", "loo_fid"], "units": {"clip": 1.0, "loo_fid": 50.0}}, grpo={"prompts": 2})
    classes = ClassMoments(
        torch.linspace(0.1, 0.9, 4)[:, None].expand(4, 3).double(), torch.full((4, 3), 0.01).double()
    )

    def trainer(kind):
        settings = run.rewards.loo_fid.model_copy(update={"reference": kind})
        reward = DistributionReward(Flat(), settings, torch.full((3,), 0.5), torch.eye(3) * 0.01, CPU, classes)
        return GRPOTrainer(tiny_policy(run), tiny_renderer(run), [Brightness()], run, [reward], CPU)

    def weights(trainer):
        return torch.cat([p.detach().flatten() for p in trainer.policy.parameters()])

    whole, half, rest, marginal = (trainer(kind) for kind in ("class_matched",) * 3 + ("marginal",))
    for iteration in range(4):
        whole.step(iteration)
        marginal.step(iteration)
    half.step(0)
    half.step(1)
    rest.load_state_dict(half.state_dict())
    rest.step(2)
    rest.step(3)
    assert torch.equal(weights(whole), weights(rest))
    assert not torch.equal(weights(whole), weights(marginal))


def test_class_moments_of_embedded_digits_and_of_synset_folders(tmp_path):
    draw = np.random.default_rng(0)
    images, labels = draw.integers(0, 256, (300, 8, 8, 3), dtype=np.uint8), np.arange(300) % 3
    save_npz(tmp_path / "data.npz", {"train_images": images, "train_labels": labels})
    for label in range(3):
        for at in np.flatnonzero(labels == label):
            (tmp_path / f"images/n0000000{label}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[at]).save(tmp_path / f"images/n0000000{label}/{at}.png")
    names = [f"c{number}" for number in range(3)]
    for source, path in (("mnist", tmp_path / "data.npz"), ("imagenet", tmp_path / "images")):
        data = Data(source=source, image_size=8, classes=3, class_names=names)
        line = write_class_moments(path, data, "inception", Flat(), tmp_path / "out.npz", CPU)
        assert line.endswith("300 images of 3 classes under inception")
        mean, variance = read_class_moments(tmp_path / "out.npz", "inception")
        for label in range(3):
            features = Flat().features(torch.from_numpy(images[labels == label]).permute(0, 3, 1, 2)).double()
            torch.testing.assert_close(mean[label], features.mean(0))
            torch.testing.assert_close(variance[label], features.var(0, correction=0), rtol=1e-9, atol=1e-12)
    with pytest.raises(ArtuneError, match="holds 3 classes, not 5"):
        write_class_moments(
            tmp_path / "images", data.model_copy(update={"classes": 5}), "inception", Flat(), tmp_path / "x", CPU
        )
    with pytest.raises(ArtuneError, match="lacks judge/mean"):
        read_class_moments(tmp_path / "out.npz", "judge")


def test_only_a_run_that_compares_class_by_class_waits_for_the_classes_moments():
    for scale in ("mnist", "imagenet"):
        plan = Plan(read_yaml(ROOT / "config/config.yaml") | {"scale": scale}, ROOT / "config")
        assert "class_moments" not in plan.train("llamagen_l-ours")
        assert (
            plan.train("llamagen_l-half_prompts-class_matched")["class_moments"] == f"results/{scale}/class_moments.npz"
        )
    assert plan.class_moments()["data"] == "results/imagenet/assets/imagenet.json"  # computed from the training images


@pytest.mark.parametrize("change", [{"covariance": "full"}, {"pca": 2}])
def test_a_full_covariance_or_pca_is_refused(change):
    with pytest.raises(ValueError, match="class_matched holds only variances"):
        reward_of(**change)


def test_a_missing_file_is_one_line(tmp_path):
    run = tiny_run(rewards={"terms": ["loo_fid"], "loo_fid": {"network": "inception", "reference": "class_matched"}})
    moments = {"train/inception/mu": np.zeros(3), "train/inception/sigma": np.eye(3)}
    save_npz(tmp_path / "reference.npz", moments)
    with pytest.raises(ArtuneError, match=r"rewards\.loo_fid\.reference: class_matched needs --class_moments"):
        build_grpo(run, tiny_policy(run), tiny_renderer(run), {}, tmp_path / "reference.npz", CPU)
