"""LOO-FID: the contribution of one image to the Fréchet distance between generated and reference features.

One set of array operations gives all rewards of a batch, in exact forms that never subtract numbers of nearly
equal size. With alpha the weight of the new batch, m and C its mean and covariance (divided by N), d_j
= x_j - m, b = alpha / (N - 1), c = b (1 + b), delta = (1 - alpha)(mu - m) and u_j = d_j - delta / (1 + b),
taking sample j out of the batch before the moving average gives

    mu_j = mu+ - b d_j,    S_j = B - c u_j u_j^T,    B = S+ + b C + b / (1 + b) delta delta^T.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from artune.errors import ArtuneError
from artune.metrics.trace_sqrt import downdate_trace_sqrt, numerical_rank, updated_trace_sqrt
from artune.rewards.moments import Covariance, FeatureMoments, ReferenceMoments

Mode = Literal["ema", "batch"]
Start = Literal["first_batch", "assign", "given", "zero"]
Solver = Literal["eigen", "cholesky"]
FAR = 100  # distance of two means in standard deviations from which the eigendecomposition is clearly more accurate
WIDE = 512  # width of the features from which Cholesky factors are faster on a GPU than an eigendecomposition


@dataclass(frozen=True)
class LooFidResult:
    """What :func:`loo_fid_reward` returns.

    Attributes:
        rewards: [N] float64; positive: the sample brings the moments nearer to the reference.
        state: the moments after the batch, from which the next batch starts.
        fid: the distance of this state to the reference, not negative but for rounding.
    """

    rewards: Tensor
    state: FeatureMoments
    fid: float


@dataclass(frozen=True)
class _Step:
    """The quantities in the docstring of this module, for one batch."""

    mean: Tensor  # mu+ [D]
    covariance: Tensor  # S+ [D] or [D, D], without epsilon
    batch_covariance: Tensor  # C
    d: Tensor  # [N, D]
    delta: Tensor  # [D]
    b: float


def loo_fid_reward(
    features: Tensor,
    state: FeatureMoments | None,
    reference: ReferenceMoments,
    *,
    alpha: float = 0.5,
    epsilon: float | None = None,
    mode: Mode = "ema",
    start: Start = "first_batch",
    solver: Solver | None = None,
) -> LooFidResult:
    """Leave-one-out FID rewards of a batch and the moving average that the next batch starts from.

    ``r_j = FID(without sample j) - FID(with it)``: Eq. 22-27 if ``reference.covariance == "diag"``, the same with
    whole covariances if it is ``"full"``. With several processes, pass the features of all of them and take a slice
    of the rewards.

    Args:
        features: [N, features], N >= 2, any floating type; the arithmetic is float64.
        state: moments after the previous batch, None on the first one.
        reference: moments of the real features; they decide between diagonal and full covariances, and on PCA.
        alpha: weight of the new batch in (0, 1].
        epsilon: added to every generated variance; None means 1e-6 for ``diag`` and 0 for ``full``.
        mode: ``batch`` forgets the past (Eq. 11-21), as does ``ema`` with alpha = 1.
        start: replacement of the missing state on the first batch: that batch's own moments (``first_batch``), the
            same with alpha = 1 (``assign``), zeros (``zero``, biased for about 1/alpha batches), or an error
            (``given``: the caller must pass a state).
        solver: solver for a full covariance: an eigendecomposition, or Cholesky factors at the nodes of a quadrature.
            The rewards of both agree to 1e-8 of the largest one. If moments are singular (fewer samples than features),
            the factors err by 1e-7 of the largest standard deviation of the moments, the distance between the means of
            state and batch included: 1e-5 of the largest reward for means that agree, 3e-4 for means a hundred standard
            deviations apart, 2e-3 for a thousand, where the eigendecomposition errs by 2e-5. None chooses Cholesky
            factors on a GPU from 512 features on, unless the means are that far apart.

    Returns:
        Rewards [N] float64, on the device of the features, with gradient if the features have one; the new state; and
        its distance to the reference. A reward may have either sign; its unit is that of squared features.

    Raises:
        ArtuneError: fewer than two samples, NaN or infinity, shapes that do not fit, or an argument out of range.

    >>> reference = artune.ReferenceMoments.from_moments(torch.zeros(8), variance=torch.ones(8))
    >>> features = torch.randn(16, 8, generator=torch.manual_seed(0))
    >>> result = artune.loo_fid_reward(features, None, reference)
    >>> worst = artune.loo_fid_reward(torch.cat((features, features.new_full((1, 8), 5.0))), result.state, reference)
    >>> print(result.rewards.shape, int(worst.rewards.argmin()))
    torch.Size([16]) 16
    """
    _check(features, state, reference, alpha, mode, start)
    if mode == "batch" or (state is None and start == "assign"):
        alpha = 1.0
    x = reference.project(features)
    step = _ema_step(x, state, reference.covariance, alpha, zero=start == "zero")
    if reference.root is None:
        rewards, fid = _diagonal(step, reference, 1e-6 if epsilon is None else epsilon)
    else:
        solver = _solver(step, x.device.type) if solver is None else solver
        rewards, fid = _full(step, reference, reference.root, 0.0 if epsilon is None else epsilon, solver)
    return LooFidResult(rewards, FeatureMoments(step.mean.detach(), step.covariance.detach()), float(fid.detach()))


def _ema_step(x: Tensor, state: FeatureMoments | None, kind: Covariance, alpha: float, zero: bool) -> _Step:
    m = x.mean(dim=0)
    d = x - m
    product = (lambda v, w: v * w) if kind == "diag" else torch.outer
    batch_covariance = d.square().mean(dim=0) if kind == "diag" else d.T @ d / len(x)
    if state is not None:
        mu, covariance = state.mean, state.covariance
    elif zero:
        mu, covariance = torch.zeros_like(m), torch.zeros_like(batch_covariance)
    else:
        mu, covariance = m, batch_covariance
    gap = mu - m
    return _Step(
        mean=m + (1 - alpha) * gap,  # Eq. 22
        # Eq. 23 minus the square of Eq. 22.
        covariance=(1 - alpha) * (covariance + alpha * product(gap, gap)) + alpha * batch_covariance,
        batch_covariance=batch_covariance,
        d=d,
        delta=(1 - alpha) * gap,
        b=alpha / (len(x) - 1),
    )


def _diagonal(step: _Step, reference: ReferenceMoments, epsilon: float) -> tuple[Tensor, Tensor]:
    """Rewards [N] and FID by Eq. 24-27, every difference formed directly."""
    b, d, delta = step.b, step.d, step.delta
    sd = (step.covariance + epsilon).sqrt()
    # v_j - v+: change of the variance when sample j is left out.
    dv = b * (step.batch_covariance + delta.square() / (1 + b) - (1 + b) * (d - delta / (1 + b)).square())
    sd_without = ((step.covariance + dv).clamp_min(0) + epsilon).sqrt()  # Eq. 25
    both = (sd_without + sd).clamp_min(1e-150)  # 0 for a feature that never varies, at epsilon = 0
    of_means = b * d * (2 * (reference.mean - step.mean) + b * d)
    of_deviations = dv * (1 - 2 * reference.sd / both)
    fid = (reference.mean - step.mean).square().sum() + (reference.sd - sd).square().sum()  # Eq. 24
    return (of_means + of_deviations).sum(dim=1), fid  # Eq. 27


def _solver(step: _Step, device_type: str) -> Solver:
    """The faster solver for whole covariances, if it is also accurate enough for these means."""
    if device_type != "cuda" or len(step.mean) < WIDE:
        return "eigen"
    return "eigen" if bool(step.delta.norm() >= FAR * step.batch_covariance.trace().sqrt()) else "cholesky"


def _full(
    step: _Step, reference: ReferenceMoments, root: Tensor, epsilon: float, solver: Solver
) -> tuple[Tensor, Tensor]:
    """Rewards [N] and FID with whole covariances, from the traces of ``root^T S root``."""
    b, u = step.b, step.d - step.delta / (1 + step.b)
    now = root.T @ step.covariance @ root
    if epsilon:
        now = now + epsilon * (root.T @ root)
    traces_of = _by_eigenvectors if solver == "eigen" else _by_factors
    root_trace, root_traces = traces_of(step, now, step.d @ root, step.delta @ root)

    c = b * (1 + b)
    gap, delta_squared = reference.mean - step.mean, step.delta.square().sum()
    traces = b * (step.batch_covariance.trace() + delta_squared / (1 + b)) - c * u.square().sum(dim=1)
    rewards = 2 * b * (step.d @ gap) + (b * step.d).square().sum(dim=1) + traces - 2 * root_traces
    total = step.covariance.trace() + epsilon * len(gap) + reference.sd.square().sum()
    return rewards, gap.square().sum() + total - 2 * root_trace


def _by_eigenvectors(step: _Step, now: Tensor, d_root: Tensor, delta_root: Tensor) -> tuple[Tensor, Tensor]:
    """``tr sqrt(now)`` and its change [N] without each sample, by one eigendecomposition of ``root^T B root``."""
    b, n = step.b, len(d_root)
    extended = now + (b / n) * (d_root.T @ d_root) + b / (1 + b) * torch.outer(delta_root, delta_root)
    values, vectors = torch.linalg.eigh(extended)
    values_now = torch.linalg.eigvalsh(now)

    # Both matrices have the same rank, so the same number of their eigenvalues is rounding error.
    rank = numerical_rank(values)
    values, vectors = values[len(values) - rank :], vectors[:, len(vectors) - rank :]
    values_now = values_now[len(values_now) - rank :].clamp_min(0)
    z = ((d_root - delta_root / (1 + b)) @ vectors) * (b * (1 + b)) ** 0.5
    return values_now.sqrt().sum(), downdate_trace_sqrt(values, z) + (values.sqrt() - values_now.sqrt()).sum()


def _by_factors(step: _Step, now: Tensor, d_root: Tensor, delta_root: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`_by_eigenvectors`, by Cholesky factors of ``now``: B adds the span of the samples and delta to it."""
    b, n = step.b, len(d_root)
    spanned = torch.cat((d_root, delta_root[None])).T
    added = torch.cat((now.new_full((n,), b / n), now.new_full((1,), b / (1 + b))))
    removed = torch.cat((torch.eye(n, dtype=now.dtype, device=now.device), now.new_full((n, 1), -1 / (1 + b))), dim=1)
    return updated_trace_sqrt(now, spanned, added, (b * (1 + b)) ** 0.5 * removed)


def _check(
    features: Tensor,
    state: FeatureMoments | None,
    reference: ReferenceMoments,
    alpha: float,
    mode: str,
    start: str,
) -> None:
    if mode not in ("ema", "batch"):
        raise ArtuneError(f"loo_fid: mode={mode!r}; use ema or batch")
    if start not in ("first_batch", "assign", "given", "zero"):
        raise ArtuneError(f"loo_fid: start={start!r}; use first_batch, assign, given or zero")
    if not 0 < alpha <= 1:
        raise ArtuneError(f"loo_fid: alpha={alpha}; use a weight of the new batch in (0, 1]")
    width = len(reference.mean) if reference.basis is None else len(reference.basis)
    if features.ndim != 2 or features.shape[1] != width:
        raise ArtuneError(f"loo_fid: features {tuple(features.shape)}; the reference needs [N, {width}]")
    if len(features) < 2:
        raise ArtuneError(f"loo_fid: {len(features)} sample in the batch; leaving one out needs at least 2")
    if not bool(features.isfinite().all()):
        raise ArtuneError("loo_fid: NaN or infinity in the features; look for broken images")
    if state is None and start == "given" and mode == "ema":
        raise ArtuneError("loo_fid: start=given needs a state: pass the moments of a pre-sampled set")
    shape = (len(reference.mean),) * (1 if reference.covariance == "diag" else 2)
    if state is not None and (state.mean.shape != shape[:1] or tuple(state.covariance.shape) != shape):
        raise ArtuneError(
            f"loo_fid: the state has moments of shapes {tuple(state.mean.shape)} and "
            f"{tuple(state.covariance.shape)}, the reference is {reference.covariance} of width {shape[0]}; "
            "start without a state after changing covariance or pca"
        )
