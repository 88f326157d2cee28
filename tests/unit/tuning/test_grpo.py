"""GRPO's maths against naive loops over the paper's equations."""

import math

import pytest
import torch

from artune.tuning.grpo import (
    clip_acting_fraction,
    combined_advantages,
    group_advantages,
    grpo_loss,
    kl_penalty,
    log_ratio,
    ratio_outside_fraction,
)


@pytest.fixture
def draw():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("std", "correction"), [("n", 0), ("n-1", 1)])
def test_advantages_are_normalised_within_each_prompt(draw, std, correction):
    rewards = torch.randn(12, generator=draw)
    ours = group_advantages(rewards, 4, std=std)
    for first in range(0, 12, 4):
        group = rewards[first : first + 4]
        expected = (group - group.mean()) / (group.std(correction=correction) + 1e-4)
        torch.testing.assert_close(ours[first : first + 4], expected)


def test_advantages_over_the_batch_ignore_prompts(draw):
    rewards = torch.randn(12, generator=draw)
    ours = group_advantages(rewards, 4, over="batch")
    torch.testing.assert_close(ours, (rewards - rewards.mean()) / (rewards.std(correction=0) + 1e-4))


def test_equal_rewards_give_zero_advantages_not_nan():
    assert group_advantages(torch.ones(8), 4).tolist() == [0.0] * 8


@pytest.mark.parametrize("std", ["n", "n-1"])
@pytest.mark.parametrize("epsilon", [1e-4, 1e-8])
@pytest.mark.parametrize("size", [2, 12, 144])
def test_a_group_without_differences_has_no_advantage_whatever_its_mean_is_rounded_to(draw, size, epsilon, std):
    values = torch.cat([torch.rand(200, generator=draw), 1000 * torch.rand(200, generator=draw), torch.zeros(1)])
    equal = values.repeat_interleave(size)
    assert equal.view(-1, size).mean(1).ne(values).any() or size == 2  # the means are rounded
    assert group_advantages(equal, size, epsilon=epsilon, std=std).count_nonzero() == 0
    for value in values[:50]:
        assert group_advantages(value.repeat(size), 2, epsilon=epsilon, std=std, over="batch").count_nonzero() == 0


@pytest.mark.parametrize("combine", ["sum", "separate"])
@pytest.mark.parametrize("add", ["advantages", "losses"])
def test_combined_rewards_without_differences_in_a_group_give_it_no_advantage(draw, combine, add):
    rewards = {name: torch.rand(24, generator=draw) for name in ("clip", "hps", "loo_fid")}
    for name, value in rewards.items():
        value[:12] = {"clip": 0.1, "hps": 1000.1, "loo_fid": -0.3}[name]
    weights = {"clip": 0.7, "hps": 1.3, "loo_fid": 0.1}
    advantages, _ = combined_advantages(rewards, weights, 12, combine=combine, add=add, epsilon=1e-8)
    assert advantages[:, :12].count_nonzero() == 0
    assert (advantages[:, 12:] != 0).all()


def test_an_equal_group_changes_no_bit_of_the_others(draw):
    rewards = torch.rand(36, generator=draw)
    grouped = rewards.view(3, 12)
    plain = (grouped - grouped.mean(1, keepdim=True)) / (grouped.std(1, keepdim=True, correction=0) + 1e-4)
    assert torch.equal(group_advantages(rewards, 12).view(3, 12), plain)
    mixed = rewards.clone()
    mixed[12:24] = 0.1
    assert torch.equal(group_advantages(mixed, 12).view(3, 12)[[0, 2]], plain[[0, 2]])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_rewards_that_are_not_finite_stay_visible(value):
    assert group_advantages(torch.full((4,), value), 4).isnan().all()


def test_a_group_of_one_is_refused():
    with pytest.raises(ValueError, match="group_size: 1"):
        group_advantages(torch.ones(3), 1)


def test_rewards_must_fill_their_groups():
    with pytest.raises(ValueError, match="7 is not a multiple"):
        group_advantages(torch.ones(7), 2)


def test_the_sum_of_weighted_rewards_is_normalised_once(draw):
    rewards = {name: torch.randn(8, generator=draw) for name in ("clip", "hps", "loo_fid")}
    weights = {"clip": 1.0, "hps": 2.0, "loo_fid": 0.5}
    advantages, loss_weights = combined_advantages(rewards, weights, 4)
    total = sum(weights[name] * rewards[name] for name in rewards)
    torch.testing.assert_close(advantages, group_advantages(total, 4)[None])
    assert loss_weights.tolist() == [1.0]


def test_separate_rewards_are_normalised_then_added(draw):
    rewards = {"clip": torch.randn(8, generator=draw), "loo_fid": 1e-3 * torch.randn(8, generator=draw)}
    advantages, _ = combined_advantages(rewards, {"clip": 1.0, "loo_fid": 1.0}, 4, combine="separate", epsilon=1e-9)
    expected = sum(group_advantages(value, 4, epsilon=1e-9) for value in rewards.values())
    torch.testing.assert_close(advantages[0], expected)


def test_the_release_keeps_a_loss_for_fid_and_counts_it_twice(draw):
    rewards = {name: torch.randn(8, generator=draw) for name in ("clip", "hps", "loo_fid")}
    weights = dict.fromkeys(rewards, 1.0)
    advantages, loss_weights = combined_advantages(
        rewards,
        weights,
        4,
        combine="separate",
        groups=[["clip", "hps", "maniqa"], ["loo_fid"]],
        group_weights=[1.0, 2.0],
        add="losses",
    )
    torch.testing.assert_close(advantages[0], group_advantages(rewards["clip"] + rewards["hps"], 4))
    torch.testing.assert_close(advantages[1], group_advantages(rewards["loo_fid"], 4))
    assert loss_weights.tolist() == [1.0, 2.0]


def test_log_ratio_has_the_three_readings(draw):
    new, old = torch.randn(3, 5, generator=draw), torch.randn(3, 5, generator=draw)
    torch.testing.assert_close(log_ratio(new, old, "mean"), (new.mean(1) - old.mean(1)))
    torch.testing.assert_close(log_ratio(new, old, "product").exp(), (new - old).exp().prod(1))
    assert log_ratio(new, old, "token").shape == (3, 5)


@pytest.mark.parametrize("sign", ["eq2", "alg1"])
def test_the_clipped_loss_equals_the_equation_sample_by_sample(draw, sign):
    ratios, advantages = torch.randn(40, generator=draw), torch.randn(40, generator=draw)
    ours = grpo_loss(ratios, advantages, 0.2, sign=sign)
    for value, ratio, advantage in zip(ours.tolist(), ratios.tolist(), advantages.tolist(), strict=True):
        rho = math.exp(ratio)
        clipped = min(max(rho, 0.8), 1.2)
        eq2 = -min(rho * advantage, clipped * advantage)
        alg1 = min(-rho * advantage, -clipped * advantage)
        assert value == pytest.approx(eq2 if sign == "eq2" else alg1, abs=1e-5)


def test_clipping_stops_the_gradient_only_where_the_bound_acts():
    ratio = torch.tensor([math.log(1.5), math.log(1.5), 0.0], requires_grad=True)
    grpo_loss(ratio, torch.tensor([1.0, -1.0, 1.0]), 0.2).sum().backward()
    assert ratio.grad[0] == 0  # a good sample whose ratio is already above the bound
    assert ratio.grad[1] > 0  # a bad sample is still pushed down
    assert ratio.grad[2] == -1


def test_token_ratios_average_over_tokens(draw):
    ratio, advantages = 0.01 * torch.randn(4, 6, generator=draw), torch.randn(4, generator=draw)
    torch.testing.assert_close(
        grpo_loss(ratio, advantages, 0.2),
        torch.stack([grpo_loss(ratio[:, t], advantages, 0.2) for t in range(6)]).mean(0),
    )


def test_a_token_that_is_impossible_under_both_policies_has_ratio_one_and_no_gradient():
    new = torch.tensor([[-0.5, -torch.inf], [-1.0, -2.0]], requires_grad=True)
    old = torch.tensor([[-0.7, -torch.inf], [-1.0, -1.0]])
    for kind in ("mean", "product", "token"):
        new.grad = None
        log_ratio(new, old, kind).sum().backward()
        assert torch.equal(log_ratio(new, old, kind), log_ratio(new.clamp_min(-99), old.clamp_min(-99), kind))
        assert new.grad.isfinite().all()
        assert kl_penalty(old, new, kind).isfinite().all()


def test_ratios_outside_the_band_are_counted_whether_or_not_the_clip_acts():
    ratios = torch.tensor([0.0, math.log(1.3), math.log(0.7), math.log(1.1)])
    assert ratio_outside_fraction(ratios, 0.2) == 0.5


@pytest.mark.parametrize("sign", ["eq2", "alg1"])
@pytest.mark.parametrize("per_token", [False, True])
def test_the_clips_that_act_are_those_that_stop_the_gradient(draw, sign, per_token):
    shape = (60, 5) if per_token else (60,)
    ratios = (0.4 * torch.randn(shape, generator=draw)).requires_grad_()
    advantages = torch.randn(60, generator=draw)
    grpo_loss(ratios, advantages, 0.2, sign=sign).sum().backward()
    acting = float((ratios.grad == 0).float().mean())
    assert float(clip_acting_fraction(ratios, advantages, 0.2, sign=sign)) == pytest.approx(acting)
    assert 0.1 < acting < 0.9 * float(ratio_outside_fraction(ratios, 0.2))


def test_without_an_advantage_no_clip_acts():
    assert clip_acting_fraction(torch.full((4,), 2.0), torch.zeros(4), 0.2) == 0.0


@pytest.mark.parametrize("kind", ["mean", "product", "token"])
def test_kl_is_k3_and_zero_only_at_equality(draw, kind):
    logp = torch.randn(5, 7, generator=draw)
    reference = logp + 0.1 * torch.randn(5, 7, generator=draw)
    assert (kl_penalty(reference, logp, kind) > 0).all()
    assert kl_penalty(logp, logp, kind).tolist() == [0.0] * 5
    if kind != "token":
        delta = log_ratio(reference, logp, kind)
        torch.testing.assert_close(kl_penalty(reference, logp, kind), delta.exp() - delta - 1)


def test_k3_is_an_unbiased_kl_for_single_tokens():
    policy, reference = torch.tensor([0.7, 0.2, 0.1]).log(), torch.tensor([0.3, 0.3, 0.4]).log()
    expectation = (policy.exp() * kl_penalty(reference[:, None], policy[:, None], "token")).sum()
    torch.testing.assert_close(expectation, (policy.exp() * (policy - reference)).sum())
