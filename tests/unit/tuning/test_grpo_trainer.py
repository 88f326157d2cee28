"""The training loop on a miniature run: every switch has an effect, results are repeatable, NaN stops the run."""

import json
import math
import os
import shutil
import subprocess
import sys

import pytest
import torch
from project import ROOT
from tiny import Brightness, tiny_policy, tiny_run
from trainers import Flat, run_fit, trainer_of, weights

from artune.errors import ArtuneError
from artune.rewards.distribution import DistributionReward
from artune.runtime.resume import load_state
from artune.sampling.rollout import draw_prompts
from artune.tuning.grpo import group_advantages, grpo_loss, kl_penalty, log_ratio
from artune.tuning.objective import learning_rate, objective, score_tokens

SOURCES = ROOT / "src/artune"


class Broken:
    """A reward that is NaN after its first ``after`` iterations."""

    name = "clip"

    def __init__(self, after):
        self.left = after

    def __call__(self, batch):
        self.left -= 1
        return torch.full((len(batch.tokens),), math.nan if self.left < 0 else 1.0) + Brightness()(batch)


NEW_REWARD = '''"""Brightness reward: mean grey level of the image."""


class Brightness:
    """No network looks at the image."""

    name = "brightness"

    def __init__(self, network, data):
        assert network is None

    def __call__(self, batch):
        """[B] in 0..1."""
        return batch.images.float().mean((1, 2, 3)) / 255


REWARD = Brightness
'''
TUNE_WITH_IT = """
import torch
from tiny import TINY, tiny_policy, tiny_renderer, tiny_run
from artune.config.glossary import METRICS
from artune.rewards.reward import build_rewards
from artune.tuning.grpo_trainer import GRPOTrainer
run = tiny_run(rewards={"terms": ["brightness"], "networks": {"brightness": None}})
metrics, _ = GRPOTrainer(tiny_policy(run), tiny_renderer(run), build_rewards(run.rewards, run.data, {}), run).step(0)
print(metrics["reward/brightness"] == metrics["reward/total"] > 0, METRICS["reward/brightness"])
"""


def test_a_new_reward_is_a_file_and_a_line(tmp_path):
    shutil.copytree(SOURCES, tmp_path / "artune", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "artune/rewards/brightness.py").write_text(NEW_REWARD)
    methods = tmp_path / "artune/config/methods.py"
    line = 'REWARDS = {\n    "brightness": "mean grey level of the image",\n'
    methods.write_text(methods.read_text().replace("REWARDS = {\n", line))
    paths = os.pathsep.join([str(tmp_path), str(ROOT / "tests/support")])
    done = subprocess.run(
        [sys.executable, "-c", TUNE_WITH_IT],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "True batch mean: mean grey level of the image", done.stderr


def test_the_reward_rises_on_a_learnable_task():
    run = tiny_run(grpo={"iterations": 60, "learning_rate": 3e-3, "beta": 0.0}, entropy={"enabled": False})
    trainer = trainer_of(run)
    rewards = [trainer.step(i)[0]["reward/clip"] for i in range(60)]
    assert sum(rewards[-10:]) / 10 > sum(rewards[:10]) / 10 + 0.02


def test_the_objective_equals_the_sum_of_its_terms():
    run = tiny_run()
    policy = tiny_policy(run)
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(8, (12, 4), generator=draw)
    class_ids = torch.arange(3).repeat_interleave(4)
    logp, entropy = score_tokens(policy, tokens, class_ids, run.grpo, run.sampling)
    old, reference = logp.detach() + 0.1, logp.detach() - 0.05
    advantages = group_advantages(torch.randn(12, generator=draw), 4)
    loss, parts = objective(logp, old, reference, entropy, advantages[None], [1.0], 0.02, run.grpo)
    expected = (
        grpo_loss(log_ratio(logp, old), advantages, 0.2).mean()
        - 0.02 * entropy.mean()
        + 3.0 * kl_penalty(reference, logp).mean()
    )
    torch.testing.assert_close(loss, expected)
    assert parts["policy/kl"] == pytest.approx(kl_penalty(reference, logp).mean().item())


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 1}, {"ratio": "product"}, {"ratio": "token"}, {"kl": "product"}, {"kl": "token"}, {"beta": 0.0},
        {"advantage_over": "batch"}, {"advantage_std": "n-1"}, {"prompts_drawn": "with_replacement"},
        {"reference": "ema", "reference_decay": 0.5}, {"score_logits": "guided"}, {"class_dropout": 0.5},
        {"dropout": 0.2}, {"reduction": "sum"}, {"weights_dtype": "bfloat16"}, {"autocast": "bfloat16"},
        {"clip_sign": "alg1", "clip": 1e-3}, {"score_softmax": "truncated"},
    ],
    ids=str,
)  # fmt: skip
def test_every_switch_of_grpo_changes_what_is_learnt(change):
    def final(**grpo):
        run = tiny_run(grpo={"iterations": 3, "clip": 1e-3, **grpo}, sampling={"top_k": 5})
        trainer = trainer_of(run)
        for iteration in range(3):
            torch.manual_seed(iteration)
            metrics, _ = trainer.step(iteration)
        assert all(math.isfinite(value) for value in metrics.values())
        return weights(trainer).float()

    assert not torch.equal(final(), final(**({"clip": 1e-3} | change)))


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("entropy", {"enabled": False}), ("entropy", {"c0": 0.2, "c_max": 0.2}), ("entropy", {"gain": 30.0}),
        ("entropy", {"target": 0.9, "target_is": "absolute"}), ("entropy", {"over": "slice"}),
        ("rewards", {"combine": "separate"}), ("rewards", {"weights": {"clip": 1.0, "loo_fid": 0.0}}),
        ("rewards", {"units": {"clip": 1.0, "loo_fid": 9.0}}),
        ("rewards", {"combine": "separate", "add": "losses", "groups": [["clip"], ["loo_fid"]],
                     "group_weights": [1.0, 2.0]}),
        ("loo_fid", {"mode": "batch"}), ("loo_fid", {"alpha": 0.9}), ("loo_fid", {"covariance": "full"}),
        ("loo_fid", {"pca": 2}), ("loo_fid", {"start": "assign"}), ("loo_fid", {"start": "zero"}),
        ("loo_fid", {"epsilon": 0.1}), ("loo_fid", {"shards": 2}),
    ],
    ids=str,
)  # fmt: skip
def test_every_switch_of_entropy_and_rewards_changes_what_is_learnt(section, change):
    def final(changes):
        rewards = {"terms": ["clip", "loo_fid"], "units": {"clip": 1.0, "loo_fid": 5.0}}
        settings = {"network": "inception", "start": "first_batch"} | changes.get("loo_fid", {})
        rewards |= changes.get("rewards", {}) | {"loo_fid": settings}
        run = tiny_run(grpo={"micro_batch": 5}, rewards=rewards, entropy=changes.get("entropy", {}))
        sigma = torch.tensor([[0.02, 0.01, 0.0], [0.01, 0.03, 0.0], [0.0, 0.0, 0.01]])
        loo_fid = DistributionReward(Flat(), run.rewards.loo_fid, torch.tensor([0.5, 0.4, 0.6]), sigma)
        trainer = trainer_of(run, loo_fid=loo_fid)
        for iteration in range(2):
            trainer.step(iteration)
        return weights(trainer)

    assert not torch.equal(final({}), final({section: change}))


def test_micro_batches_change_nothing_beyond_rounding():
    whole, split = tiny_run(grpo={"micro_batch": 12}), tiny_run(grpo={"micro_batch": 5})
    first, second = trainer_of(whole), trainer_of(split)
    for iteration in range(3):
        one, _ = first.step(iteration)
        two, _ = second.step(iteration)
        assert two["policy/loss"] == pytest.approx(one["policy/loss"], abs=1e-5)
        assert two["entropy/coefficient"] == pytest.approx(one["entropy/coefficient"], rel=1e-5)
    # AdamW divides by the gradient's size, so rounding shows where a gradient is almost zero.
    assert (weights(first) - weights(second)).abs().max() < 1e-3
    assert (weights(first) - weights(second)).abs().median() < 1e-6


def test_a_resumed_training_keeps_the_slices_that_it_began_with(tmp_path, monkeypatch):
    run = tiny_run(grpo={"micro_batch": 5})
    begun = trainer_of(run)
    begun.step(0)
    torch.save(begun.state_dict(), tmp_path / "state.pt")
    resumed = trainer_of(run)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    monkeypatch.setattr("artune.tuning.policy_update.split_update", None)  # planning the slices again would fail
    assert resumed.step(1)[0] == begun.step(1)[0]
    assert resumed.update.split == begun.update.split


def test_the_frozen_reference_does_not_move_and_the_ema_one_does():
    for kind, moves in (("frozen", False), ("ema", True)):
        trainer = trainer_of(tiny_run(grpo={"reference": kind, "reference_decay": 0.5}))
        before = torch.cat([p.flatten().clone() for p in trainer.update.reference.parameters()])
        trainer.step(0)
        after = torch.cat([p.flatten() for p in trainer.update.reference.parameters()])
        assert torch.equal(before, after) is not moves


def test_the_first_epoch_starts_at_ratio_one():
    trainer = trainer_of(tiny_run(grpo={"epochs": 1}))
    metrics, _ = trainer.step(0)
    assert metrics["policy/ratio"] == pytest.approx(1.0, abs=1e-6)
    assert metrics["policy/ratio_outside_fraction"] == metrics["policy/clip_acting_fraction"] == 0.0
    assert metrics["policy/kl"] == pytest.approx(0.0, abs=1e-9)


def test_prompts_are_distinct_by_default_and_may_repeat():
    draw = torch.Generator().manual_seed(0)
    ids = draw_prompts(4, 4, 3, "distinct", draw).view(4, 3)
    assert sorted(ids[:, 0].tolist()) == [0, 1, 2, 3]
    assert (ids == ids[:, :1]).all()
    repeated = [draw_prompts(4, 4, 1, "with_replacement", draw) for _ in range(20)]
    assert any(len(set(ids.tolist())) < 4 for ids in repeated)


def test_the_learning_rate_warms_up_and_decays():
    grpo = tiny_run(grpo={"iterations": 10, "warmup": 2, "decay_from": 0.5}).grpo
    rates = [learning_rate(grpo, i) / grpo.learning_rate for i in range(10)]
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[5] == pytest.approx(1.0)
    assert rates[9] == pytest.approx(0.2)


def test_loo_fid_moments_are_committed_once_an_iteration():
    run = tiny_run(rewards={"terms": ["clip", "loo_fid"]})
    loo_fid = DistributionReward(Flat(), run.rewards.loo_fid, torch.full((3,), 0.5), torch.eye(3) * 0.01)
    trainer = trainer_of(run, loo_fid=loo_fid)
    assert loo_fid.moments is None
    metrics, _ = trainer.step(0)
    assert metrics["fid/ema"] > 0
    first = loo_fid.moments[0]
    trainer.step(1)
    assert not torch.equal(first.mean, loo_fid.moments[0].mean)


def test_shards_leave_one_out_of_themselves_and_keep_moments_of_their_own():
    features = torch.rand(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mu, sigma = torch.full((3,), 0.5), torch.eye(3) * 0.01
    whole = [DistributionReward(Flat(), tiny_run().rewards.loo_fid, mu, sigma) for _ in range(2)]
    settings = tiny_run(rewards={"loo_fid": {"network": "inception", "start": "first_batch", "shards": 2}})
    cut = DistributionReward(Flat(), settings.rewards.loo_fid, mu, sigma)
    for _ in range(2):
        ours, fid = cut(features)
        halves = [reward(part) for reward, part in zip(whole, features.chunk(2), strict=True)]
        torch.testing.assert_close(ours, torch.cat([rewards for rewards, _ in halves]), rtol=0, atol=0)
        assert fid == pytest.approx(sum(one for _, one in halves) / 2)
        for reward in (cut, *whole):
            reward.commit()
    again = DistributionReward(Flat(), settings.rewards.loo_fid, mu, sigma)
    again.load_state_dict(cut.state_dict())
    torch.testing.assert_close(again(features)[0], cut(features)[0], rtol=0, atol=0)


def test_a_nan_reward_stops_the_run_names_the_step_and_keeps_the_state(tmp_path):
    run = tiny_run(grpo={"iterations": 6, "save_every": 100})
    trainer = trainer_of(run, Broken(after=3))
    with pytest.raises(ArtuneError, match=r"reward clip: NaN or infinite for 12 of 12 images at iteration 3 of tiny"):
        run_fit(run, tmp_path / "a", trainer)
    assert len((tmp_path / "a" / "metrics.jsonl").read_text().splitlines()) == 3
    good = trainer_of(run, Broken(after=3))
    for iteration in range(3):
        good.step(iteration)
    iteration, state = load_state(tmp_path / "a", "text")
    assert iteration == 3
    assert all(torch.equal(state["trainer"]["policy"][name], value) for name, value in good.policy.state_dict().items())
    start, _ = run_fit(run, tmp_path / "a", trainer_of(run))
    assert start == 3  # resumes from the state before the bad step


def test_a_second_epoch_that_goes_bad_leaves_the_state_before_the_iteration(tmp_path, monkeypatch):
    run = tiny_run(grpo={"iterations": 4, "epochs": 2, "save_every": 100})
    trainer, good = trainer_of(run), trainer_of(run)
    good.step(0)
    calls = []

    def bad_at_the_second_epoch_of_the_second_iteration(*arguments):
        calls.append(1)
        loss, parts = objective(*arguments)
        return (loss * math.nan if len(calls) == 4 else loss), parts

    monkeypatch.setattr("artune.tuning.policy_update.objective", bad_at_the_second_epoch_of_the_second_iteration)
    with pytest.raises(ArtuneError, match="loss: NaN or infinite at iteration 1"):
        run_fit(run, tmp_path / "a", trainer)
    iteration, state = load_state(tmp_path / "a", "text")
    assert iteration == 1
    assert all(torch.equal(state["trainer"]["policy"][name], value) for name, value in good.policy.state_dict().items())


def test_an_infinite_loss_stops_the_run(tmp_path):
    run = tiny_run(grpo={"learning_rate": 1e20, "warmup": 0, "grad_clip": 1e9})
    with pytest.raises(ArtuneError, match=r"(loss|gradient|reward clip): NaN or infinite .*iteration \d of tiny"):
        run_fit(run, tmp_path / "a", trainer_of(run))
    assert load_state(tmp_path / "a", "text") is not None


def test_an_edited_run_starts_afresh_and_its_own_states_are_kept(tmp_path):
    long = tiny_run(grpo={"iterations": 6, "save_every": 2})
    run_fit(long, tmp_path / "a", trainer_of(long), config="old")
    trainer = trainer_of(long)
    step = trainer.step

    def dying(iteration):
        if iteration == 3:
            raise KeyboardInterrupt
        return step(iteration)

    trainer.step = dying
    with pytest.raises(KeyboardInterrupt):
        run_fit(long, tmp_path / "a", trainer, config="new")
    assert load_state(tmp_path / "a", "new")[0] == 2


def test_interrupted_and_whole_trainings_agree_to_the_bit(tmp_path):
    run = tiny_run(rewards={"terms": ["clip", "loo_fid"]}, grpo={"reference": "ema", "dropout": 0.1})

    def fresh():
        loo_fid = DistributionReward(Flat(), run.rewards.loo_fid, torch.full((3,), 0.5), torch.eye(3) * 0.01)
        return trainer_of(run, loo_fid=loo_fid)

    whole = fresh()
    run_fit(run, tmp_path / "whole", whole)

    class KilledError(Exception):
        pass

    for kill_at in (3, 5):  # states are saved after 2 and 4 iterations
        trainer = fresh()
        step = trainer.step

        def dying(iteration, step=step, kill_at=kill_at):
            if iteration == kill_at:
                raise KilledError
            return step(iteration)

        trainer.step = dying
        with pytest.raises(KilledError):
            run_fit(run, tmp_path / "cut", trainer)
    last = fresh()
    start, _ = run_fit(run, tmp_path / "cut", last)
    assert start == 4
    assert torch.equal(weights(last), weights(whole))
    lines = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "cut")]
    assert lines[0] == lines[1]
    assert [json.loads(line)["iteration"] for line in lines[0].splitlines()] == list(range(6))


def test_a_state_of_other_settings_is_not_resumed(tmp_path):
    run = tiny_run()
    run_fit(run, tmp_path / "a", trainer_of(run), config="one")
    start, _ = run_fit(run, tmp_path / "a", trainer_of(run), config="two")
    assert start == 0


def test_a_torn_state_is_recognised_and_the_one_before_is_used(tmp_path):
    run = tiny_run()
    run_fit(run, tmp_path / "a", trainer_of(run))
    newest = max((tmp_path / "a").glob("state-*.pt"))
    newest.write_bytes(newest.read_bytes()[:-7])
    with pytest.warns(UserWarning, match="torn or altered"):
        start, _ = run_fit(run, tmp_path / "a", trainer_of(run))
    assert start == 2


def test_rewards_networks_run_in_half_precision_where_asked_and_loo_fids_never():
    seen = {}

    class Watching(Brightness):
        def __call__(self, batch):
            seen["reward"] = torch.is_autocast_enabled("cpu")
            return super().__call__(batch)

    class Watched(Flat):
        def features(self, images):
            seen["loo_fid"] = torch.is_autocast_enabled("cpu")
            return super().features(images)

    for autocast in ("off", "bfloat16"):
        run = tiny_run(rewards={"terms": ["clip", "loo_fid"], "autocast": autocast})
        loo_fid = DistributionReward(Watched(), run.rewards.loo_fid, torch.full((3,), 0.5), torch.eye(3) * 0.01)
        trainer_of(run, Watching(), loo_fid).step(0)
        assert seen == {"reward": autocast == "bfloat16", "loo_fid": False}
