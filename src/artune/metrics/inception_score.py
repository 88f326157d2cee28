"""Inception score."""

import torch
from torch import Tensor

from artune.errors import ArtuneError


def inception_score(probs: Tensor, split_size: int = 5000) -> tuple[float, float]:
    """Mean and standard deviation over chunks of ``exp(mean_i KL(p_i || mean of the chunk))`` (Salimans et
    al., 2016).

    Chunks are consecutive, in the order given, and the last may be short; it counts as one chunk, as in the
    official evaluator. Shuffle samples that are sorted by class first.

    Args:
        probs: [n, C] class probabilities.
        split_size: samples a chunk.

    Raises:
        ArtuneError: ``probs`` is empty, not two-dimensional, or holds NaN, infinity or negative numbers.
    """
    if probs.ndim != 2 or len(probs) == 0 or split_size < 1:
        raise ArtuneError(
            f"inception score: probabilities of shape {tuple(probs.shape)}, split_size {split_size}; "
            "give [n, C] with n >= 1 and a split_size of at least 1"
        )
    if not bool(probs.isfinite().all()) or bool((probs < 0).any()):
        raise ArtuneError("inception score: NaN, infinity or a negative number among the probabilities")
    scores = []
    for part in probs.double().split(split_size):
        marginal = part.mean(dim=0)
        divergence = torch.xlogy(part, part).sum(dim=1) - torch.xlogy(part, marginal).sum(dim=1)
        scores.append(divergence.mean().exp())
    scores = torch.stack(scores)
    return float(scores.mean()), float(scores.std(correction=0))
