"""LOO-FID for any loop: what it keeps between batches, and that several processes give the rewards of one."""

import math

import numpy as np
import pytest
import torch
from processes import run_processes

import artune
from artune.errors import ArtuneError
from artune.rewards.running_loo_fid import LooFidReward, exchange_device

WIDTH = 5


def reference(compare="diag"):
    draw = torch.Generator().manual_seed(0)
    real = torch.randn(200, WIDTH, generator=draw, dtype=torch.float64)
    return artune.ReferenceMoments.from_moments(real.mean(0), covariance=torch.cov(real.T), compare=compare)


def batches(count=3, size=12):
    return list(torch.randn(count, size, WIDTH, generator=torch.Generator().manual_seed(1)) + 0.5)


def test_the_moments_are_kept_from_batch_to_batch_as_by_hand():
    reward, state = LooFidReward(reference(), alpha=0.3), None
    assert math.isnan(reward.fid)
    for features in batches():
        by_hand = artune.loo_fid_reward(features, state, reference(), alpha=0.3)
        state = by_hand.state
        assert torch.equal(reward(features), by_hand.rewards)
        assert reward.fid == by_hand.fid
        assert torch.equal(reward.state.mean, state.mean)


def test_a_saved_state_continues_with_the_same_bits(tmp_path):
    whole, first, again = (LooFidReward(reference("full")) for _ in range(3))
    one, two, three = batches()
    for features in (one, two):
        whole(features)
    first(one)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    again.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert again.fid == first.fid
    again(two)
    assert torch.equal(whole(three), again(three))
    again.load_state_dict(LooFidReward(reference()).state_dict())
    assert again.state is None


def test_samples_become_features_by_the_function_given_and_no_gradient_is_kept():
    seen = LooFidReward(reference(), features=lambda images: images.flatten(1)[:, :WIDTH])
    images = batches()[0].view(12, 1, WIDTH).requires_grad_()
    rewards = seen(images)
    assert not rewards.requires_grad
    assert torch.equal(rewards, LooFidReward(reference())(images[:, 0].detach()))


def test_start_from_gives_the_moments_before_the_first_batch():
    one, two, _ = batches()
    started, plain = LooFidReward(reference(), start="given"), LooFidReward(reference())
    with pytest.raises(ArtuneError, match="start=given needs a state"):
        started(two)
    started.start_from(one)
    plain.state = reference().moments_of(one)
    assert torch.equal(started(two), plain(two))


@pytest.mark.parametrize("wrong", [torch.zeros(3), [1.0, 2.0], torch.zeros(4, 2, 2)])
def test_what_is_no_matrix_of_features_is_refused(wrong):
    with pytest.raises(ArtuneError, match=r"loo_fid: features .* give a tensor \[n, D\]"):
        LooFidReward(reference())(wrong)


CUTS = {1: [12], 2: [7, 5], 4: [4, 0, 1, 7]}  # shares of different sizes, one of them empty


def rewards_of(world, compare, start):
    """The rewards of this process' images in three batches, and the moments and distance that it holds."""
    reward = LooFidReward(reference(compare))
    cuts = CUTS[world.size]
    if start:
        reward.start_from(batches(4)[3].split(cuts)[world.rank])
    found = [reward(features.split(cuts)[world.rank]) for features in batches()]
    return [each.numpy() for each in found], reward.state.covariance.numpy(), reward.fid


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize(("compare", "start"), [("diag", False), ("full", True)])
def test_every_process_gets_the_rewards_of_its_own_images_over_the_whole_batch(size, compare, start):
    alone = LooFidReward(reference(compare))
    if start:
        alone.start_from(batches(4)[3])
    expected = [alone(features).numpy() for features in batches()]
    found = run_processes(size, rewards_of, compare, start)
    for number, whole in enumerate(expected):
        assert [len(own[number]) for own, _, _ in found] == CUTS[size]
        assert np.array_equal(np.concatenate([own[number] for own, _, _ in found]), whole)
    for _, covariance, fid in found:
        assert np.array_equal(covariance, alone.state.covariance.numpy())
        assert fid == alone.fid


def widths(world):
    try:
        LooFidReward(reference())(torch.zeros(4, WIDTH - world.rank))
    except ArtuneError as error:
        return str(error)


def not_finite(world):
    try:
        LooFidReward(reference())(torch.full((4, WIDTH), math.nan if world.rank else 1.0))
    except ArtuneError as error:
        return str(error)


def test_a_mistake_in_one_process_is_an_error_in_all_of_them_and_nobody_waits_for_ever():
    expected = "loo_fid: the processes have features of different widths or types (5 of 4 bytes, 4 of 4 bytes)"
    assert run_processes(2, widths) == [expected] * 2
    assert all("NaN or infinity" in message for message in run_processes(2, not_finite))


@pytest.mark.parametrize(
    ("own", "backends", "found"),
    [
        ("cpu", "cpu:gloo,cuda:gloo", "cpu"),  # init_process_group("gloo")
        ("cuda:1", "cpu:gloo,cuda:gloo", "cpu"),
        ("cpu", "cuda:nccl", "cuda"),  # init_process_group("nccl"), as accelerate calls it: on the current GPU
        ("cuda:1", "cuda:nccl", "cuda:1"),
        ("cpu", "cuda:nccl,cpu:gloo", "cpu"),  # both: the same for processes whose features lie elsewhere
        ("cuda:1", "cuda:nccl,cpu:gloo", "cpu"),
        ("cpu", "xpu:xccl", "xpu"),
    ],
)
def test_rows_are_gathered_where_the_group_can(own, backends, found):
    assert exchange_device(torch.device(own), backends) == torch.device(found)
