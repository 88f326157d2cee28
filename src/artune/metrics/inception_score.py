"""Inception score (Salimans et al., 2016) and its leave-one-out values."""

import torch
from torch import Tensor

from artune.errors import ArtuneError


def inception_score(probs: Tensor, split_size: int = 5000) -> tuple[float, float]:
    """Mean and standard deviation over chunks of ``exp(mean_i KL(p_i || mean of the chunk))``.

    Chunks are consecutive, in the order given. The last may be short and still counts as one chunk, as in the
    official evaluator. Shuffle samples that are sorted by class first.

    Args:
        probs: [n, C] class probabilities, rows that sum to 1.
        split_size: samples per chunk.

    Returns:
        Mean and population standard deviation of the chunks' scores, each score in 1..C.

    Raises:
        ArtuneError: ``probs`` is empty, not two-dimensional, or holds NaN, infinity or negative numbers.

    >>> certain = torch.eye(4).repeat(5, 1)  # each image of one class, all classes equally often
    >>> mean, deviation = artune.inception_score(certain)
    >>> print(f"{mean:.3f} {deviation:.3f}")
    4.000 0.000
    """
    _check(probs, split_size)
    scores = torch.stack([_split(part)[0] for part in probs.double().split(split_size)])
    return float(scores.mean()), float(scores.std(correction=0))


def inception_score_left_out(probs: Tensor, split_size: int = 5000) -> Tensor:
    """The n leave-one-out scores, float64 [n]: a sample leaves its chunk, the other chunks stay.

    Args:
        probs: [n, C] class probabilities, n >= 2.
        split_size: samples per chunk.

    Raises:
        ArtuneError: as :func:`inception_score`, or a single sample.
    """
    _check(probs, split_size)
    if len(probs) < 2:
        raise ArtuneError("inception score: leaving one out needs at least 2 samples")
    outcomes = [_split(part) for part in probs.double().split(split_size)]
    total, count = sum(score for score, _ in outcomes), len(outcomes)
    return torch.cat(
        [
            (total - score + without) / count if len(without) > 1 else (total - score).view(1) / (count - 1)
            for score, without in outcomes
        ]
    )


def _split(part: Tensor) -> tuple[Tensor, Tensor]:
    """Score of a chunk [n, C], and its n leave-one-out scores."""
    n, own, total = len(part), torch.xlogy(part, part).sum(dim=1), part.sum(dim=0)
    divergence = own.mean() - torch.xlogy(total / n, total / n).sum()
    rest = (total - part).clamp_min(0) / max(n - 1, 1)
    without = (own.sum() - own) / max(n - 1, 1) - torch.xlogy(rest, rest).sum(dim=1)
    return divergence.exp(), without.exp()


def _check(probs: Tensor, split_size: int) -> None:
    if probs.ndim != 2 or len(probs) == 0 or split_size < 1:
        raise ArtuneError(
            f"inception score: probabilities of shape {tuple(probs.shape)}, split_size {split_size}; "
            "give [n, C] with n >= 1 and a split_size of at least 1"
        )
    if not bool(probs.isfinite().all()) or bool((probs < 0).any()):
        raise ArtuneError("inception score: NaN, infinity or a negative number among the probabilities")
