import numpy as np
import pytest
import torch

from artune.errors import ArtuneError
from artune.rewards.loo_fid import _ema_step, _solver, loo_fid_reward
from artune.rewards.moments import FeatureMoments, ReferenceMoments


def draw(seed, n, width, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64) / width**0.5
    return torch.randn(n, width, generator=generator, dtype=torch.float64) @ mix + shift


def reference_for(width, covariance="diag", pca=None):
    real = draw(0, 4 * width, width)
    return ReferenceMoments.from_moments(real.mean(0), covariance=torch.cov(real.T), compare=covariance, pca=pca)


def naive_fid(reference, mean, second, epsilon):
    """Eq. 14 and its whole-covariance form, from first and second raw moments."""
    mu_r, sd_r = reference.mean.numpy(), reference.sd.numpy()
    covariance = second - np.outer(mean, mean) + epsilon * np.eye(len(mean))
    if reference.covariance == "diag":
        return ((mu_r - mean) ** 2).sum() + ((sd_r - np.sqrt(np.diag(covariance))) ** 2).sum()
    root = reference.root.numpy()
    values = np.linalg.eigvalsh(root.T @ covariance @ root)
    values = values[values > 1e-13 * values.max()]
    return ((mu_r - mean) ** 2).sum() + (sd_r**2).sum() + np.trace(covariance) - 2 * np.sqrt(values).sum()


def naive_step(x, past, reference, alpha, epsilon):
    """Algorithm of Appendix B with a loop over samples; ``past`` and the returned state are raw moments."""

    def mixed(part):
        mean, second = part.mean(0), part.T @ part / len(part)
        return (1 - alpha) * past[0] + alpha * mean, (1 - alpha) * past[1] + alpha * second

    now = mixed(x)
    fid = naive_fid(reference, *now, epsilon)
    rewards = [naive_fid(reference, *mixed(np.delete(x, j, axis=0)), epsilon) - fid for j in range(len(x))]
    return np.array(rewards), fid, now


def assert_rewards_close(got, expected, tolerance):
    assert np.abs(got.numpy() - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("pca", [None, 5])
@pytest.mark.parametrize("n", [30, 6])  # 6 samples of 12 features: every covariance starts rank-deficient
@pytest.mark.parametrize(
    ("covariance", "epsilon", "tolerance"), [("diag", 1e-6, 1e-9), ("full", 0.0, 1e-6), ("full", 1e-3, 1e-6)]
)
def test_several_moving_average_steps_equal_a_naive_loop(covariance, epsilon, tolerance, n, pca):
    reference = reference_for(12, covariance, pca)
    state, past = None, None
    for step in range(4):
        raw = draw(10 + step, n, 12, shift=0.3 * step)
        x = reference.project(raw).numpy()
        past = past or (x.mean(0), x.T @ x / n)
        expected, fid, past = naive_step(x, past, reference, 0.5, epsilon)
        result = loo_fid_reward(raw, state, reference, alpha=0.5, epsilon=epsilon)
        state = result.state
        assert_rewards_close(result.rewards, expected, tolerance)
        assert result.fid == pytest.approx(fid, rel=1e-7)
        np.testing.assert_allclose(state.mean.numpy(), past[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.05, 0.9, 1.0])
@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_other_weights_of_the_new_batch_equal_a_naive_loop(covariance, alpha):
    reference = reference_for(8, covariance)
    before, x = draw(1, 40, 8, 0.5), draw(2, 20, 8)
    expected, _, _ = naive_step(
        x.numpy(), (before.mean(0).numpy(), (before.T @ before / 40).numpy()), reference, alpha, 1e-6
    )
    result = loo_fid_reward(x, reference.moments_of(before), reference, alpha=alpha, epsilon=1e-6)
    assert_rewards_close(result.rewards, expected, 1e-7)


@pytest.mark.parametrize("covariance", ["diag", "full"])
@pytest.mark.parametrize("n", [20, 5])
def test_batch_mode_equals_a_naive_loop_and_forgets_the_state(covariance, n):
    reference = reference_for(8, covariance)
    x = draw(3, n, 8, 0.2)
    state = reference.moments_of(draw(4, 30, 8))
    expected, fid, _ = naive_step(x.numpy(), (0.0, 0.0), reference, 1.0, 1e-6)
    result = loo_fid_reward(x, state, reference, mode="batch", epsilon=1e-6)
    assert_rewards_close(result.rewards, expected, 1e-6)
    assert result.fid == pytest.approx(fid, rel=1e-9)
    assert torch.equal(result.rewards, loo_fid_reward(x, None, reference, alpha=1.0, epsilon=1e-6).rewards)


def test_smallest_batch_of_two_equals_a_naive_loop():
    for covariance in ("diag", "full"):
        reference = reference_for(4, covariance)
        x, state = draw(5, 2, 4), reference.moments_of(draw(6, 9, 4))
        second = state.covariance if covariance == "full" else state.covariance.diag()
        past = (state.mean.numpy(), second.numpy() + np.outer(state.mean, state.mean))
        expected, _, _ = naive_step(x.numpy(), past, reference, 0.5, 1e-6)
        assert_rewards_close(loo_fid_reward(x, state, reference, epsilon=1e-6).rewards, expected, 1e-7)


@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_an_outlier_is_punished_and_its_opposite_praised(covariance):
    reference = reference_for(6, covariance)
    x = draw(7, 50, 6)
    x[0] = reference.mean + 50
    rewards = loo_fid_reward(x, None, reference).rewards
    assert rewards[0] < 0
    assert rewards.argmin() == 0
    # A generator shifted to one side is helped most by the sample that lies on the other side.
    shifted = draw(7, 50, 6, shift=3.0)
    shifted[0] = reference.mean - 3
    rewards = loo_fid_reward(shifted, None, reference).rewards
    assert rewards[0] > 0
    assert rewards.argmax() == 0


def test_float32_features_with_variance_far_below_the_squared_mean_keep_their_rewards():
    x = (1000 + 1e-3 * draw(8, 40, 16)).float()
    reference = ReferenceMoments.from_moments(torch.full((16,), 1000.0), variance=torch.full((16,), 4e-6))
    reference_longdouble = np.longdouble(1000.0), np.longdouble(4e-6) ** np.longdouble(0.5)
    wide = x.numpy().astype(np.longdouble)

    def fid(part):
        sd = np.sqrt(part.var(0) + np.longdouble(1e-6))
        return ((part.mean(0) - reference_longdouble[0]) ** 2).sum() + ((sd - reference_longdouble[1]) ** 2).sum()

    expected = np.array([fid(np.delete(wide, j, axis=0)) - fid(wide) for j in range(40)]).astype(float)
    assert_rewards_close(loo_fid_reward(x, None, reference, alpha=1.0).rewards, expected, 1e-7)


def test_ways_to_start_differ_as_documented():
    reference = reference_for(5)
    x = draw(9, 12, 5)
    raw = (x.mean(0).numpy(), (x.T @ x / 12).numpy())
    zero = (np.zeros(5), np.zeros((5, 5)))
    for start, past, alpha in (("first_batch", raw, 0.5), ("assign", raw, 1.0), ("zero", zero, 0.5)):
        expected, fid, now = naive_step(x.numpy(), past, reference, alpha, 1e-6)
        result = loo_fid_reward(x, None, reference, alpha=0.5, start=start)
        assert_rewards_close(result.rewards, expected, 1e-9)
        assert result.fid == pytest.approx(fid)
        np.testing.assert_allclose(result.state.mean.numpy(), now[0])
    with pytest.raises(ArtuneError, match="needs a state"):
        loo_fid_reward(x, None, reference, start="given")
    given = loo_fid_reward(x, reference.moments_of(x), reference, start="given")
    torch.testing.assert_close(given.rewards, loo_fid_reward(x, None, reference).rewards)


def test_rewards_do_not_depend_on_the_signs_of_principal_components():
    x = draw(1, 20, 9)
    for covariance in ("diag", "full"):
        reference = reference_for(9, covariance, pca=4)
        signs = torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64)
        flipped = ReferenceMoments(
            reference.mean * signs, reference.sd, root=reference.root, basis=reference.basis * signs
        )
        rewards = loo_fid_reward(x, None, reference).rewards
        torch.testing.assert_close(loo_fid_reward(x, None, flipped).rewards, rewards)
    assert not torch.allclose(rewards, loo_fid_reward(x, None, reference_for(9, "full")).rewards)


def test_all_principal_components_give_the_full_covariance_reward():
    x = draw(1, 20, 9)
    whole = loo_fid_reward(x, None, reference_for(9, "full")).rewards
    torch.testing.assert_close(loo_fid_reward(x, None, reference_for(9, "full", pca=9)).rewards, whole)


def test_constant_features_give_finite_rewards_without_epsilon():
    x = draw(2, 10, 4)
    x[:, 1] = 0.0
    for covariance in ("diag", "full"):
        result = loo_fid_reward(x, None, reference_for(4, covariance), epsilon=0.0)
        assert result.rewards.isfinite().all()
        identical = loo_fid_reward(torch.ones(5, 4), None, reference_for(4, covariance), epsilon=0.0)
        torch.testing.assert_close(identical.rewards, torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-12)


def test_state_returns_from_a_checkpoint_unchanged(tmp_path):
    state = loo_fid_reward(draw(3, 10, 4), None, reference_for(4)).state
    torch.save(state.state_dict(), tmp_path / "state.pt")
    loaded = FeatureMoments.from_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(loaded.mean, state.mean)
    assert torch.equal(loaded.covariance, state.covariance)


def test_state_does_not_hold_on_to_the_graph():
    x = draw(3, 10, 4).requires_grad_()
    result = loo_fid_reward(x, None, reference_for(4))
    assert not result.state.mean.requires_grad
    assert not result.state.covariance.requires_grad


@pytest.mark.parametrize(
    ("features", "arguments", "message"),
    [
        (torch.zeros(1, 4), {}, "at least 2"),
        (torch.zeros(0, 4), {}, "at least 2"),
        (torch.full((3, 4), torch.nan), {}, "loo_fid: NaN"),
        (torch.full((3, 4), torch.inf), {}, "loo_fid: NaN or infinity"),
        (torch.zeros(3, 5), {}, r"needs \[N, 4\]"),
        (torch.zeros(3), {}, r"needs \[N, 4\]"),
        (torch.zeros(3, 4), {"alpha": 0.0}, "alpha=0.0"),
        (torch.zeros(3, 4), {"alpha": 1.5}, "alpha=1.5"),
        (torch.zeros(3, 4), {"mode": "mean"}, "mode='mean'"),
        (torch.zeros(3, 4), {"start": "ones"}, "start='ones'"),
    ],
)
def test_bad_input_is_one_clear_error(features, arguments, message):
    with pytest.raises(ArtuneError, match=message):
        loo_fid_reward(features, None, reference_for(4), **arguments)


def test_state_of_another_covariance_or_width_is_refused():
    x = draw(4, 10, 4)
    for state in (FeatureMoments.of(x, "full"), FeatureMoments.of(x[:, :3])):
        with pytest.raises(ArtuneError, match="start without a state"):
            loo_fid_reward(x, state, reference_for(4))


@pytest.mark.parametrize(
    ("mean", "arguments", "message"),
    [
        (torch.zeros(3), {"variance": torch.ones(3), "compare": "full"}, "whole matrix, covariance=, not variance="),
        (torch.zeros(3), {"deviation": torch.ones(3), "pca": 2}, "whole matrix, covariance=, not deviation="),
        (torch.zeros(3), {"covariance": torch.eye(4)}, "do not fit"),
        (torch.zeros(3), {"covariance": torch.eye(3), "pca": 4}, "pca=4"),
        (torch.zeros(3), {"covariance": torch.eye(3), "pca": 0}, "pca=0"),
        (torch.zeros(3), {"covariance": -torch.eye(3)}, "negative covariance"),
        (torch.zeros(3), {"variance": -torch.ones(3)}, "negative variance"),
        (torch.zeros(3), {"deviation": -torch.ones(3)}, "negative deviation"),
        (torch.full((3,), torch.nan), {"covariance": torch.eye(3)}, "NaN"),
        (torch.zeros(3), {"covariance": torch.eye(3), "compare": "band"}, "compare='band'"),
        (torch.zeros(3), {}, "give one of variance=, deviation= and covariance=, not none of them"),
        (torch.zeros(3), {"variance": torch.ones(3), "deviation": torch.ones(3)}, "not variance and deviation"),
        # A shape never decides what is meant.
        (torch.zeros(3), {"variance": torch.eye(3)}, "do not fit"),
        (torch.zeros(3), {"deviation": torch.eye(3)}, "do not fit"),
        (torch.zeros(3), {"covariance": torch.ones(3)}, "do not fit"),
        (torch.zeros(1), {"covariance": torch.ones(1)}, "do not fit"),
        (torch.zeros(3, 1), {"variance": torch.ones(3)}, "do not fit"),
    ],
)
def test_bad_reference_moments_are_one_clear_error(mean, arguments, message):
    with pytest.raises(ArtuneError, match=message):
        ReferenceMoments.from_moments(mean, **arguments)


def test_variance_deviation_and_covariance_are_three_ways_to_give_the_same_reference():
    sigma = reference_for(5, "full").root @ reference_for(5, "full").root.T
    variance = sigma.diagonal()
    mean, x = torch.arange(5.0), draw(1, 20, 5)
    given = ({"variance": variance}, {"deviation": variance.sqrt()}, {"covariance": sigma})
    rewards = [loo_fid_reward(x, None, ReferenceMoments.from_moments(mean, **one)).rewards for one in given]
    assert torch.equal(rewards[0], rewards[1])
    assert torch.equal(rewards[0], rewards[2])
    twice = ReferenceMoments.from_moments(mean, variance=variance.sqrt())  # a deviation taken for a variance
    assert not torch.allclose(loo_fid_reward(x, None, twice).rewards, rewards[0])


def test_the_spread_of_a_reference_needs_a_name():
    with pytest.raises(TypeError):
        ReferenceMoments.from_moments(torch.zeros(3), torch.ones(3))


@pytest.mark.parametrize(
    ("past", "alpha", "tolerance"), [(300, 0.5, 1e-8), (300, 1.0, 1e-8), (40, 0.5, 1e-4), (None, 1.0, 1e-4)]
)
def test_cholesky_factors_give_the_rewards_of_the_eigendecomposition(past, alpha, tolerance):
    """The last two cases have fewer samples than features, so that leaving out a sample removes whole directions."""
    width, draw = 96, torch.Generator().manual_seed(0)
    spread = torch.exp(-3 * torch.arange(width) / width)
    real = torch.randn(400, width, generator=draw) * spread
    batch = (torch.randn(120 if past == 300 else 24, width, generator=draw) + 0.2) * spread
    reference = ReferenceMoments.from_moments(
        real.double().mean(0), covariance=FeatureMoments.of(real, "full").covariance, compare="full"
    )
    state = None if past is None else reference.moments_of((torch.randn(past, width, generator=draw) + 0.1) * spread)
    eigen, cholesky = (
        loo_fid_reward(batch, state, reference, alpha=alpha, solver=solver) for solver in ("eigen", "cholesky")
    )
    error = (eigen.rewards - cholesky.rewards).abs().max() / eigen.rewards.abs().max()
    assert error < tolerance
    assert cholesky.fid == pytest.approx(eigen.fid, rel=1e-5)
    assert torch.equal(eigen.state.covariance, cholesky.state.covariance)


def both(x, state, reference, **arguments):
    return [loo_fid_reward(x, state, reference, solver=solver, **arguments) for solver in ("eigen", "cholesky", None)]


@pytest.mark.parametrize("number", [2, 3, 12])
@pytest.mark.parametrize("arguments", [{}, {"mode": "batch"}, {"epsilon": 1e-6}, {"start": "assign"}], ids=str)
@pytest.mark.parametrize("pca", [None, 3])
def test_images_that_are_all_alike_have_reward_zero_under_every_solver(number, arguments, pca):
    reference = reference_for(8, "full", pca)
    for image in (torch.ones(8), 0.1 * draw(1, 1, 8)[0], 1000 * draw(1, 1, 8)[0]):
        for result in both(image.expand(number, 8), None, reference, **arguments):
            assert result.rewards.abs().max() < 1e-9
            assert np.isfinite(result.fid)


def test_the_smallest_case_of_images_that_are_alike():
    reference = ReferenceMoments.from_moments(torch.zeros(1), covariance=torch.eye(1), compare="full")
    for result in both(torch.ones(2, 1), None, reference):
        assert result.rewards.tolist() == [0.0, 0.0]
        assert result.fid == 2.0  # the mean is 1 away, the covariances 0 and 1


def test_images_alike_in_part_and_references_without_spread_are_solved_alike():
    x = draw(2, 3, 8)
    x[1] = x[0]
    state = reference_for(8, "full").moments_of(x[:1].expand(4, 8))  # no spread so far
    constant = ReferenceMoments.from_moments(torch.zeros(8), covariance=torch.zeros(8, 8), compare="full")
    low = draw(3, 3, 8)
    low_rank = ReferenceMoments.from_moments(low.mean(0), covariance=torch.cov(low.T), compare="full")
    for past, reference in (
        (None, reference_for(8, "full")),
        (state, reference_for(8, "full")),
        (None, constant),
        (None, low_rank),
    ):
        for mode in ("ema", "batch"):
            eigen, cholesky, _ = both(x, past, reference, mode=mode)
            assert_rewards_close(cholesky.rewards, eigen.rewards.numpy(), 1e-4)
            assert cholesky.rewards[0] == pytest.approx(float(cholesky.rewards[1]), abs=1e-6)
            assert cholesky.fid == pytest.approx(eigen.fid, rel=1e-5)


@pytest.mark.parametrize(("apart", "tolerance"), [(0, 1e-5), (100, 5e-4), (1000, 5e-3)])
def test_cholesky_factors_of_singular_moments_err_as_the_docstring_says(apart, tolerance):
    """Three images so far and eight in the batch, of 32 features; the means lie ``apart`` standard deviations away."""
    reference = reference_for(32, "full")
    state = reference.moments_of(draw(1, 3, 32))
    x = draw(2, 8, 32)
    direction = torch.nn.functional.normalize(draw(3, 1, 32), dim=1)
    x = x + apart * x.var(dim=0, correction=0).sum().sqrt() * direction
    eigen, cholesky, _ = both(x, state, reference)
    error = (eigen.rewards - cholesky.rewards).abs().max()
    spread = eigen.state.covariance.diagonal().sum().sqrt()
    assert error < tolerance * eigen.rewards.abs().max()
    assert error < 1e-5 * spread


def test_the_solver_on_a_gpu_depends_on_width_and_means():
    x = draw(1, 6, 512)
    near, far = FeatureMoments.of(x + 0.1, "full"), FeatureMoments.of(x + 1e5, "full")
    for state, expected in ((near, "cholesky"), (far, "eigen")):
        step = _ema_step(x, state, "full", 0.5, zero=False)
        assert _solver(step, "cuda") == expected
        assert _solver(step, "cpu") == "eigen"
    assert _solver(_ema_step(x[:, :8], None, "full", 0.5, zero=False), "cuda") == "eigen"
    alike = _ema_step(x[:1].expand(4, 512), None, "full", 0.5, zero=False)
    assert _solver(alike, "cuda") == "eigen"
