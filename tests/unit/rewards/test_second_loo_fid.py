"""LOO-FID in the features of two networks at once (``loo_fid_second``)."""

import shutil

import pytest
import torch
from project import ROOT
from tiny import Brightness, tiny_policy, tiny_renderer, tiny_run
from trainers import CPU, Flat, weights

from artune.config.registry import Registry
from artune.config.yaml_layers import read_yaml
from artune.errors import ArtuneError
from artune.planning.needs import source_rules
from artune.planning.plan import Plan
from artune.planning.sources import REFERENCES
from artune.rewards.distribution import DistributionReward
from artune.rewards.loo_fid import loo_fid_reward
from artune.rewards.moments import FeatureMoments, ReferenceMoments
from artune.tuning.grpo_trainer import GRPOTrainer

WEIGHTS = {"clip": 1.0, "loo_fid": 0.5, "loo_fid_second": 0.5}
UNITS = {"clip": 1.0, "loo_fid": 3.0, "loo_fid_second": 7.0}
MOMENTS = {
    "loo_fid": (torch.full((3,), 0.5), 0.01 * torch.eye(3)),
    "loo_fid_second": (torch.full((4,), 0.3), 0.02 * torch.eye(4)),
}


class Corners(torch.nn.Module):
    """Another network: the grey levels of the four pixels."""

    def features(self, images):
        return (images.float().mean(1).flatten(1) / 255) ** 2


NETWORKS = {"loo_fid": Flat(), "loo_fid_second": Corners()}


def two_run(start="first_batch", **grpo):
    settings = {"network": "x", "start": start, "start_samples": 40}
    rewards = {"terms": list(WEIGHTS), "weights": WEIGHTS, "units": UNITS}
    rewards |= {"loo_fid": settings, "loo_fid_second": settings | {"network": "y"}}
    return tiny_run(rewards=rewards, grpo=grpo)


def two_trainer(run):
    loo_fid = [
        DistributionReward(NETWORKS[name], settings, *MOMENTS[name], CPU, name=name)
        for name, settings in run.rewards.distribution.items()
    ]
    return GRPOTrainer(tiny_policy(run), tiny_renderer(run), [Brightness()], run, loo_fid, CPU)


def by_hand(name, images, state):
    mu, sigma = MOMENTS[name]
    reference = ReferenceMoments.from_moments(mu, covariance=sigma, compare="diag", pca=None)
    return loo_fid_reward(NETWORKS[name].features(images), state, reference, alpha=0.5, epsilon=1e-6)


def test_the_reward_of_two_networks_is_the_sum_of_the_two_halves(monkeypatch):
    run = two_run()
    trainer, seen = two_trainer(run), []
    monkeypatch.setattr(trainer, "rewards", [Seeing(seen)])
    totals = record_totals(monkeypatch)
    states = {"loo_fid": None, "loo_fid_second": None}
    for iteration in range(3):
        metrics, seconds = trainer.step(iteration)
        found = {name: by_hand(name, seen[-1].images, state) for name, state in states.items()}
        states = {name: one.state for name, one in found.items()}
        halves = 0.5 * 3.0 * found["loo_fid"].rewards + 0.5 * 7.0 * found["loo_fid_second"].rewards
        torch.testing.assert_close(totals[-1], Brightness()(seen[-1]) + halves.float(), rtol=1e-5, atol=1e-6)
        assert metrics["fid/ema"] == pytest.approx(found["loo_fid"].fid)
        assert metrics["fid/ema_second"] == pytest.approx(found["loo_fid_second"].fid)
        assert {"time/loo_fid", "time/loo_fid_second", "time/reward_loo_fid_second"} <= seconds.keys()


class Seeing(Brightness):
    """Brightness that keeps the batches which it was asked about."""

    def __init__(self, seen):
        self.seen = seen

    def __call__(self, batch):
        self.seen.append(batch)
        return super().__call__(batch)


def record_totals(monkeypatch):
    """The weighted sums of rewards [B] of every iteration, as they enter the advantages."""
    from artune.tuning import grpo_trainer

    totals, real = [], grpo_trainer.combined_advantages

    def combined(scores, weights, *arguments, **named):
        totals.append(sum(weights[name] * score for name, score in scores.items()))
        return real(scores, weights, *arguments, **named)

    monkeypatch.setattr(grpo_trainer, "combined_advantages", combined)
    return totals


def test_a_resumed_training_of_two_networks_is_the_same_to_the_last_bit(tmp_path):
    run = two_run("pretrained")
    whole, begun, resumed = (two_trainer(run) for _ in range(3))
    whole.begin()
    begun.begin()
    for iteration in range(4):
        expected = whole.step(iteration)[0]
        if iteration < 2:
            begun.step(iteration)
    torch.save(begun.state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for iteration in (2, 3):
        found = resumed.step(iteration)[0]
    assert found == expected
    assert torch.equal(weights(resumed), weights(whole))


def test_both_begin_at_the_moments_of_the_same_pretrained_samples():
    trainer = two_trainer(two_run("pretrained"))
    images, _ = trainer._start_samples(40)
    trainer.begin()
    for distribution in trainer.loo_fid:
        expected = FeatureMoments.of(NETWORKS[distribution.name].features(images))
        torch.testing.assert_close(distribution.moments[0].mean, expected.mean)


def test_what_the_second_does_not_set_is_as_in_the_first(tmp_path):
    root = shutil.copytree(ROOT / "config", tmp_path / "config")
    line = "llamagen_l-new: {base: llamagen_l-both, rewards.loo_fid.alpha: 0.2, rewards.loo_fid_second.pca: 8}\n"
    (root / "experiments.yaml").write_text((root / "experiments.yaml").read_text() + line)
    registry = Registry("smoke", root=root)
    rewards = registry.resolve("llamagen_l-new").rewards
    expected = rewards.loo_fid.model_copy(update={"network": "inception_residual", "pca": 8})
    assert rewards.loo_fid_second == expected
    assert rewards.loo_fid.alpha == 0.2
    assert rewards.loo_fid.start_samples == 32  # the smoke scale's, for both
    assert registry.resolve("llamagen_l-both").rewards.weights == {**WEIGHTS, "hps": 1.0}


def test_a_run_without_it_has_no_trace_of_it():
    for scale in ("mnist", "fashion", "imagenet"):
        rewards = Registry(scale, root=ROOT / "config").spec("llamagen_l-ours")["rewards"]
        assert "loo_fid_second" not in str(rewards)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("rewards.loo_fid_second.reference: class_matched", r"loo_fid_second\.reference: class_matched is for loo_fid"),
        ("rewards.loo_fid_second.network: incepton", "unknown network 'incepton'; did you mean inception"),
        ("rewards.loo_fid_second.alpha: 2.0", r"loo_fid_second\.alpha"),
        ("rewards.loo_fid_second.shards: 5", r"rewards\.loo_fid_second\.shards: 12 images"),
        ("rewards.loo_fid_second.colour: red", r"loo_fid_second\.colour"),
    ],
)
def test_wrong_settings_of_the_second_are_named(tmp_path, settings, message):
    root = shutil.copytree(ROOT / "config", tmp_path / "config")
    line = f"llamagen_l-new: {{base: llamagen_l-second, {settings}}}\n"
    (root / "experiments.yaml").write_text((root / "experiments.yaml").read_text() + line)
    with pytest.raises(ArtuneError, match=f"llamagen_l-new: .*{message}"):
        Registry("smoke", root=root).resolve("llamagen_l-new")


def test_a_scale_that_names_no_network_says_what_is_missing(tmp_path):
    root = shutil.copytree(ROOT / "config", tmp_path / "config")
    path = root / "scales/mnist.yaml"
    path.write_text(path.read_text().replace("loo_fid_second: {network: inception_residual}", "loo_fid_second: {}"))
    with pytest.raises(ArtuneError, match=r"llamagen_l-second: rewards\.loo_fid_second\.network: missing; name one of"):
        Registry("mnist", root=root).resolve("llamagen_l-second")


def plan(scale):
    return Plan(read_yaml(ROOT / "config/config.yaml") | {"scale": scale}, ROOT / "config")


@pytest.mark.parametrize("scale", ["mnist", "fashion"])
def test_the_moments_of_the_second_network_are_a_file_of_their_own(scale):
    own = f"results/{scale}/references/train-inception_residual.npz"
    chosen = plan(scale)
    both, second, ours = (chosen.train(f"llamagen_l-{name}") for name in ("both", "second", "ours"))
    assert (both["reference"], both["second_reference"]) == (f"results/{scale}/reference.npz", own)
    assert (second.get("reference"), second["second_reference"]) == (None, own)
    assert (ours["reference"], ours.get("second_reference")) == (f"results/{scale}/reference.npz", None)
    network = f"results/{scale}/inputs/networks/inception_residual.safetensors"
    assert network in both["networks"]
    assert network not in ours["networks"]
    assert source_rules(chosen)[own][0] == "train_moments inception_residual"
    assert not any("inception_residual" in str(path) for path in chosen.reference().values())


@pytest.mark.parametrize("name", ["loo_fid", "loo_fid_second"])
def test_a_reward_by_the_judges_network_has_its_moments_from_a_file_of_their_own(tmp_path, name):
    root = shutil.copytree(ROOT / "config", tmp_path / "config")
    run = {"loo_fid": "llamagen_l-ours", "loo_fid_second": "llamagen_l-second"}[name]
    line = f"llamagen_l-new: {{base: {run}, rewards.{name}.network: judge}}\n"
    (root / "experiments.yaml").write_text((root / "experiments.yaml").read_text() + line)
    chosen = Plan(read_yaml(root / "config.yaml") | {"scale": "fashion"}, root)
    own = "results/fashion/references/train-judge.npz"
    assert chosen.train("llamagen_l-new")[REFERENCES[name]] == own
    assert source_rules(chosen)[own][0] == "train_moments judge"


def test_at_the_imagenet_scale_the_runs_wait_for_a_unit():
    registry = plan("imagenet").registry
    assert (
        registry.unavailable("llamagen_l-both") == registry.unavailable("llamagen_l-second-s1") == "unit not measured"
    )
    assert registry.resolve("llamagen_l-second").rewards.loo_fid_second.network == "dinov2"
