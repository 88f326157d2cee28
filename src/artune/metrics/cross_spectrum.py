"""The directions that samples and a reference both have, by which a Fréchet distance and its jackknife are computed.

With S = C^T C / (n - 1) the covariance of n centred samples C and R that of the reference, the eigenvalues of ``R S``
are those of ``root^T S root`` [D, D] with ``root root^T = R``, and, without zeros, of ``C R C^T / (n - 1)`` [n, n].
The second form needs no root of the reference and is far smaller where the samples are fewer than their features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from artune.metrics.distances import may_round, symmetric_sum
from artune.metrics.trace_sqrt import any_root, covariance_root, numerical_rank


@dataclass(frozen=True)
class CrossSpectrum:
    """Moments of n samples [n, D], and the r directions that they have in common with a reference, in float64."""

    mean: Tensor  # [D]
    trace: Tensor  # of the samples' covariance
    trace_sqrt: Tensor  # tr sqrt(R S)
    values: Tensor  # [r], ascending: eigenvalues of R S above rounding errors
    project: Tensor  # [D, r]: (C @ project)^T (C @ project) / (n - 1) is the diagonal matrix of ``values``
    lacking: Tensor  # the reference's variance in directions that the samples lack
    halved: Callable[[int], float]  # mean FID of the two halves of the random split with this number


def cross_spectrum(features: Tensor, mu_ref: Tensor, cov_ref: Tensor, chunk: int) -> CrossSpectrum:
    """The spectrum of features [n, D], n >= 2, and a reference's moments [D] and [D, D].

    Args:
        features: [n, D], any floating type.
        mu_ref: mean of the reference, float64.
        cov_ref: its covariance.
        chunk: samples per step; limits the memory, does not change the result.
    """
    few = len(features) <= features.shape[1]
    return _of_few(features, mu_ref, cov_ref) if few else _of_many(features, mu_ref, cov_ref, chunk)


def _of_many(features: Tensor, mu_ref: Tensor, cov_ref: Tensor, chunk: int) -> CrossSpectrum:
    mean, covariance = moments_in_chunks(features, chunk)
    root = any_root(cov_ref) if may_round(features) else covariance_root(cov_ref)
    values, vectors = torch.linalg.eigh(inner := root.T @ covariance @ root)
    null = len(values) - numerical_rank(values)
    return CrossSpectrum(
        mean=mean,
        trace=covariance.trace(),
        trace_sqrt=values.clamp_min(0).sqrt().sum(),
        values=values[null:],
        project=root @ vectors[:, null:],
        lacking=(root @ vectors[:, :null]).square().sum(),
        halved=partial(_mean_of_halves, features, mean, inner, covariance.trace(), mu_ref, cov_ref, root, chunk),
    )


def _of_few(features: Tensor, mu_ref: Tensor, cov_ref: Tensor) -> CrossSpectrum:
    mean, centred, seen = _against(features, cov_ref)
    values, vectors = torch.linalg.eigh(seen @ centred.T)
    null = len(values) - numerical_rank(values)
    project = seen.T @ (vectors[:, null:] / values[null:].sqrt())
    return CrossSpectrum(
        mean=mean,
        trace=centred.square().sum(),
        trace_sqrt=values.clamp_min(0).sqrt().sum(),
        values=values[null:],
        project=project,
        lacking=(cov_ref.trace() - project.square().sum()).clamp_min(0),
        halved=partial(_mean_of_small_halves, features, mu_ref, cov_ref),
    )


def trace_sqrt_of_few(features: Tensor, cov_ref: Tensor) -> Tensor:
    """``tr sqrt(R S)`` of the covariance S of features [n, D] and R [D, D], float64, from a matrix [n, n]."""
    _, centred, seen = _against(features, cov_ref)
    return torch.linalg.eigvalsh(seen @ centred.T).clamp_min(0).sqrt().sum()


def _against(features: Tensor, cov_ref: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [D] of features [n, D], C / sqrt(n - 1) of their deviations C, and that times the reference's covariance."""
    samples = features.double()
    mean = samples.mean(dim=0)
    centred = (samples - mean) / (len(samples) - 1) ** 0.5
    return mean, centred, centred @ cov_ref


def moments_in_chunks(features: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Mean [D] and covariance [D, D] of features [n, D] in float64, ``chunk`` samples at a time."""
    mean = sum(part.double().sum(dim=0) for part in features.split(chunk)) / len(features)
    if may_round(features):
        return mean, symmetric_sum(part.double() - mean for part in features.split(chunk)) / (len(features) - 1)
    scatter = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64, device=features.device)
    for part in features.split(chunk):
        centred = part.double() - mean
        scatter.addmm_(centred.T, centred)
    return mean, scatter / (len(features) - 1)


def random_halves(n: int, split: int) -> tuple[Tensor, Tensor]:
    """Indices of the two halves of the random split with this number; an odd sample is in the second."""
    order = torch.randperm(n, generator=torch.Generator().manual_seed(split))
    return order[: n // 2], order[n // 2 :]


def _mean_of_small_halves(features: Tensor, mu_ref: Tensor, cov_ref: Tensor, split: int) -> float:
    distances = []
    for half in random_halves(len(features), split):
        samples = features[half.to(features.device)].double()
        gap, own = (samples.mean(dim=0) - mu_ref).square().sum(), samples.var(dim=0).sum()
        distances.append(float(gap + own + cov_ref.trace() - 2 * trace_sqrt_of_few(samples, cov_ref)))
    return sum(distances) / 2


def _mean_of_halves(
    features: Tensor,
    mean: Tensor,
    inner: Tensor,
    trace: Tensor,
    mu_ref: Tensor,
    cov_ref: Tensor,
    root: Tensor,
    chunk: int,
    split: int,
) -> float:
    """Mean FID of the two halves of a random split (a file may be sorted by class).

    ``inner`` is ``root^T S root`` of all samples' covariance S, and ``trace`` that of S. Both of the second half follow
    from these and the first half's, without another product of matrices.
    """
    n = len(features)
    half = random_halves(n, split)[0].to(features.device)
    first = len(half)
    mean1, cov1 = moments_in_chunks(features[half], chunk)
    inner1, trace1 = root.T @ cov1 @ root, cov1.trace()
    mean2 = mean + (mean - mean1) * (first / (n - first))
    gap, between = mean1 - mean2, first * (n - first) / n
    seen = root.T @ gap
    inner2 = (inner * (n - 1) - inner1 * (first - 1) - torch.outer(seen, seen) * between) / (n - first - 1)
    trace2 = (trace * (n - 1) - trace1 * (first - 1) - gap.square().sum() * between) / (n - first - 1)
    distances = []
    for mu, product, own in ((mean1, inner1, trace1), (mean2, inner2, trace2)):
        cross = torch.linalg.eigvalsh(product).clamp_min(0).sqrt().sum()
        distances.append(float((mu - mu_ref).square().sum() + own + cov_ref.trace() - 2 * cross))
    return sum(distances) / 2
