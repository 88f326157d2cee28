"""Realism score of single images (Kynkäänniemi et al., 2019, Eq. 3)."""

from torch import Tensor

from artune.errors import ArtuneError
from artune.metrics.distances import exact_pairs
from artune.metrics.precision_recall import neighbour_radii


def realism_score(reference: Tensor, samples: Tensor, k: int = 3) -> Tensor:
    """``max_r |r - NN_k(r)| / |s - r|`` [n]: at least 1 inside a reference ball, higher is nearer to the real images.

    As in the authors' code, the half of the balls with the larger radii is left out: these lie where images are sparse.

    Args:
        reference: [m, D] features of distinct real images, m > k.
        samples: [n, D] features.
        k: index of the neighbour that sets the radius.

    Raises:
        ArtuneError: at most k reference features.
    """
    if len(reference) <= k:
        raise ArtuneError(f"realism_score: k={k} with {len(reference)} reference features; give more than k")
    radii = neighbour_radii(reference, k)
    keep = radii <= radii.median()
    distances = exact_pairs(samples, reference[keep]).distances
    return (radii[keep] / distances.clamp_min(1e-12)).max(dim=1).values.sqrt()
