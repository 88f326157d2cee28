"""Fréchet distance between Gaussians (FID), and its standard error and bias by an exact jackknife."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from artune.errors import ArtuneError
from artune.metrics.cross_spectrum import cross_spectrum, trace_sqrt_of_few
from artune.metrics.distances import may_round
from artune.metrics.jackknife import standard_error
from artune.metrics.trace_sqrt import covariance_root, downdate_trace_sqrt

# Bounds within which a bias-corrected FID counts as within its own error, from the experiments of docs/evaluation.md.
PER_FEATURE = 10  # least samples per feature
CACHED = 512  # samples per step of which a processor's cache holds all that is made of them, if the features are wide
SHARE = 0.25  # largest share of a direction's variance that one sample may carry on average
EVEN = 10.0  # n share^2 up to which the bias that is left is small for any spectrum; D^2 / n for Gaussian features
TOLERATED = 0.5  # largest bias that may be left, in standard errors
SPLITS = (4, 32)  # least and most random halvings by which the bias that is left is measured
PRECISE = 0.1  # standard errors to which its mean over the halvings is measured, if they suffice


@dataclass(frozen=True)
class JackknifeFID:
    """FID of n samples, with the error and bias that the n leave-one-out FIDs give, in units of squared features.

    The jackknife removes the bias's term in 1/n. ``bias_left`` estimates what remains, the terms from 1/n^2 on, which
    are far from small where n is not many times D. Show ``bias_corrected`` only where ``correction_holds``.

    >>> features = torch.randn(2000, 8, generator=torch.manual_seed(0))
    >>> fid = artune.jackknife_fid(features, torch.zeros(8), torch.eye(8))
    >>> print(f"{fid.value:.3f} +- {fid.standard_error:.3f}, without bias {fid.bias_corrected:.3f}")
    0.015 +- 0.005, without bias 0.002
    """

    value: float
    standard_error: float
    bias_corrected: float
    changes: Tensor  # [n] float64: the FID without sample i minus the FID
    width: int  # D
    share: float  # of a direction's variance that one sample carries, in the mean over this variance; Gaussian: D / n
    halved: Callable[[int], float]  # mean FID of the two halves of the random split with this number

    @cached_property
    def bias_left(self) -> float:
        """Bias of ``bias_corrected``, measured when it is first asked for; NaN below four samples.

        It compares two estimates: for a bias of ``a/n + b/n^2`` the FID rises by ``a/n + 3b/n^2`` when the samples are
        halved, the jackknife says ``a/n + 2b/n^2``, and ``bias_corrected`` is off by ``-b/n^2``. A single split
        scatters by up to a standard error, so splits are drawn until their mean does not, 32 at most.
        """
        if len(self.changes) < 4:
            return math.nan
        least, most = SPLITS
        found: list[float] = []
        while len(found) < most:
            found.append(self.halved(len(found)))
            known = float(np.std(found, ddof=1)) / len(found) ** 0.5 if len(found) >= least else math.inf
            if known <= PRECISE * self.standard_error:
                break
        return 2 * self.value - self.bias_corrected - sum(found) / len(found)

    @property
    def enough_samples(self) -> bool:
        """Whether the samples suffice for the number of features and for how rarely these differ from their mean.

        It needs 10 samples per feature. Of a feature that is 0 in nearly all images, as behind a ReLU, few samples
        carry the whole variance: a sample may carry at most a quarter of a direction's variance on average.
        """
        return len(self.changes) >= PER_FEATURE * self.width and self.share <= SHARE

    @property
    def measures_bias(self) -> bool:
        """Whether ``correction_holds`` measures ``bias_left``; at n = 50,000 and D = 2048 a split takes six seconds."""
        return self.enough_samples and len(self.changes) * self.share**2 > EVEN

    @property
    def correction_holds(self) -> bool:
        """Whether ``bias_corrected`` is within its own error.

        The samples are enough, and the bias that is left is at most half a standard error. It is measured unless the
        samples are so many that it is known to be smaller; by chance the measured one would exceed the bound there.
        """
        small = not self.measures_bias or abs(self.bias_left) <= TOLERATED * self.standard_error
        return self.enough_samples and small


def feature_moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [D] and covariance [D, D] of features [n, D] by the rule of the official evaluator.

    NumPy computes the mean in the features' own precision (float32 for networks); the covariance is float64 and
    divided by n - 1. Both are returned as float64.

    Args:
        features: [n, D], n >= 2, any floating type.

    Raises:
        ArtuneError: fewer than two samples, or NaN or infinity among the features.

    >>> mean, covariance = artune.feature_moments(torch.tensor([[0.0, 1.0], [2.0, 1.0]]))
    >>> print(mean.tolist(), covariance.tolist())
    [1.0, 1.0] [[2.0, 0.0], [0.0, 0.0]]
    """
    _check_features(features, least=2)
    mean = torch.as_tensor(np.mean(features.detach().cpu().numpy(), axis=0)).to(features.device).double()
    centred = features.double()
    centred = centred - centred.mean(dim=0)
    return mean, centred.T @ centred / (len(features) - 1)


class RunningMoments:
    """Mean and covariance of features that arrive in batches and are not kept, in float64 (Chan et al., 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | None = None  # [D]
        self.scatter: Tensor | None = None  # [D, D], sum of products of deviations

    def add(self, features: Tensor) -> None:
        """Add features [n, D]. Raises ArtuneError: NaN or infinity among them."""
        _check_features(features, least=1)
        features = features.double()
        mean = features.mean(dim=0)
        centred = features - mean
        scatter, count = centred.T @ centred, self.count + len(features)
        if self.mean is not None and self.scatter is not None:
            gap = mean - self.mean
            scatter = self.scatter + scatter + torch.outer(gap, gap) * (self.count * len(features) / count)
            mean = self.mean + gap * (len(features) / count)
        self.count, self.mean, self.scatter = count, mean, scatter

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean [D] and covariance [D, D] divided by n - 1. Raises ArtuneError: fewer than two samples."""
        if self.mean is None or self.scatter is None or self.count < 2:
            raise ArtuneError(f"FID: {self.count} samples; moments need at least 2")
        return self.mean, self.scatter / (self.count - 1)


def frechet_distance(mu1: Tensor, cov1: Tensor, mu2: Tensor, cov2: Tensor) -> float:
    """``|mu1 - mu2|^2 + tr cov1 + tr cov2 - 2 tr sqrt(cov1 cov2)`` for means [D] and covariances [D, D].

    The last trace is the sum of the roots of the eigenvalues of ``root1^T cov2 root1`` in float64, which is
    symmetric and needs no general matrix square root.

    Args:
        mu1: mean [D] of the one set of features; any floating type or NumPy array, as the other arguments.
        cov1: its covariance [D, D].
        mu2: mean [D] of the other set.
        cov2: its covariance [D, D].

    Returns:
        The distance in units of squared features: 0 for equal moments, not negative but for rounding.

    Raises:
        ArtuneError: the shapes differ, or an input holds NaN or infinity.

    >>> zero, one = torch.zeros(3), torch.eye(3)
    >>> artune.frechet_distance(zero, one, zero + 1, 4 * one)  # 3 x (1^2 + (2 - 1)^2)
    6.0
    """
    moments = [torch.as_tensor(value).double() for value in (mu1, cov1, mu2, cov2)]
    mu1, cov1, mu2, cov2 = moments
    if mu1.shape != mu2.shape or not cov1.shape == cov2.shape == (len(mu1), len(mu1)):
        shapes = ", ".join(str(tuple(value.shape)) for value in moments)
        raise ArtuneError(f"FID: moments of shapes {shapes} do not match; compare features of the same network")
    if not all(bool(value.isfinite().all()) for value in moments):
        raise ArtuneError("FID: NaN or infinity in the moments; look for broken images or features")
    root = covariance_root(cov1)
    cross = torch.linalg.eigvalsh(root.T @ cov2 @ root).clamp_min(0).sqrt().sum()
    return float((mu1 - mu2).square().sum() + cov1.trace() + cov2.trace() - 2 * cross)


def frechet_distance_of(features: Tensor, mu_ref: Tensor, cov_ref: Tensor) -> float:
    """:func:`frechet_distance` of the moments of features [n, D] by :func:`feature_moments` and a reference's.

    Of at most D samples it takes no eigenvalues of a [D, D] matrix.
    """
    mean, covariance = feature_moments(features)
    if len(features) > features.shape[1]:
        return frechet_distance(mean, covariance, mu_ref, cov_ref)
    mu_ref, cov_ref = mu_ref.double(), cov_ref.double()
    cross = trace_sqrt_of_few(features, cov_ref)
    return float((mean - mu_ref).square().sum() + covariance.trace() + cov_ref.trace() - 2 * cross)


def jackknife_fid(features: Tensor, mu_ref: Tensor, cov_ref: Tensor, chunk: int = 4096) -> JackknifeFID:
    """FID of features [n, D] against reference moments, its standard error and its bias-corrected value.

    Exact leave-one-out FIDs of all n samples from one eigendecomposition; the covariances divide by n - 1 and
    the reference counts as fixed. ``standard_error = sqrt((n-1)/n sum_i (F_i - mean)^2)`` and
    ``bias_corrected = n F - (n-1) mean_i F_i``. The value differs from the official one only by the latter's
    float32 mean (about 1e-8).

    Args:
        features: [n, D], n >= 3.
        mu_ref: mean [D] of the reference.
        cov_ref: covariance [D, D] of the reference.
        chunk: samples per step; limits the memory, does not change the result.

    Raises:
        ArtuneError: fewer than three samples, or NaN or infinity among the features.
    """
    _check_features(features, least=3)
    features, n = features.detach(), len(features)
    chunk = min(chunk, CACHED) if may_round(features) else chunk
    mu_ref, cov_ref = (torch.as_tensor(moment).detach().double().to(features.device) for moment in (mu_ref, cov_ref))
    common = cross_spectrum(features, mu_ref, cov_ref, chunk)
    mean, trace, values, trace_sqrt = common.mean, common.trace, common.values, common.trace_sqrt

    # With S_i = grow (S - n/(n-1)^2 d d^T) and mu_i = mu - d/(n-1), every F_i - F is found without subtracting
    # nearly equal traces.
    grow = (n - 1) / (n - 2)
    # A direction that the samples lack but the reference has counts as carried by one sample.
    lacking = float((common.lacking / cov_ref.trace()).nan_to_num(1.0))
    weights = values.sqrt() / trace_sqrt
    change, carried = [], 0.0
    for part in features.split(chunk):
        d = part.double() - mean
        norms = d.square().sum(dim=1)
        z = _projected(d, common.project, n) * (n**0.5 / (n - 1))
        downdate = downdate_trace_sqrt(values, z)
        shares = z.square() / values * ((n - 1) / n)  # of each direction's variance
        carried += float((shares @ weights) @ shares.sum(dim=1))
        change.append(
            (norms / (n - 1) - 2 * d @ (mean - mu_ref)) / (n - 1)
            + trace / (n - 2)
            - norms * n / ((n - 1) * (n - 2))
            - 2 * (trace_sqrt / ((n - 2) * (grow**0.5 + 1)) + grow**0.5 * downdate)
        )
    change = torch.cat(change)
    value = (mean - mu_ref).square().sum() + trace + cov_ref.trace() - 2 * trace_sqrt
    corrected = float(value - (n - 1) * change.mean())
    return JackknifeFID(
        value=float(value),
        standard_error=standard_error(change),
        bias_corrected=corrected,
        changes=change,
        width=features.shape[1],
        share=lacking + (1 - lacking) * carried,
        halved=common.halved,
    )


def _projected(d: Tensor, project: Tensor, n: int) -> Tensor:
    """``d @ project`` for some of n samples; in float32 where these are so many that no sample carries a direction.

    The errors of float32 are a sample's own and vanish in sums over the samples.
    """
    plenty = may_round(d) and n >= 2 * len(project)
    return (d.float() @ project.float()).double() if plenty else d @ project


def _check_features(features: Tensor, least: int) -> None:
    if features.ndim != 2 or len(features) < least:
        raise ArtuneError(f"FID: features of shape {tuple(features.shape)}; give [n, D] with n >= {least}")
    if not bool(features.isfinite().all()):
        raise ArtuneError("FID: NaN or infinity in the features; look for broken images")
