"""Density and coverage (Naeem et al., 2020): precision and recall that one stray image cannot move."""

from dataclasses import dataclass

import torch
from torch import Tensor

from artune.errors import ArtuneError
from artune.metrics.distances import exact_pairs
from artune.metrics.precision_recall import neighbour_radii


@dataclass(frozen=True)
class DensityCoverage:
    """Density, 1 in expectation if both sets have the same distribution (it may exceed 1), and coverage in [0, 1]."""

    density: float
    coverage: float


def density_coverage(reference: Tensor, samples: Tensor, k: int = 5, block: int = 4096) -> DensityCoverage:
    """Density: mean count of reference balls around a sample, over k. Coverage: share of reference balls with a sample.

    A ball reaches to its centre's k-th neighbour, without its boundary: for two equal sets both numbers are then 1.

    Args:
        reference: [m, D] features, m > k.
        samples: [n, D] features.
        k: index of the neighbour that sets the radius; the authors use 5.
        block: rows and columns per block of distances.

    Raises:
        ArtuneError: too few features, wrong shapes, or NaN or infinity among them.

    >>> real, made = torch.randn(2, 500, 8, generator=torch.manual_seed(0))
    >>> found = artune.density_coverage(real, made)
    >>> print(abs(found.density - 1) < 0.2, found.coverage > 0.9)
    True True
    """
    if reference.ndim != 2 or samples.ndim != 2 or reference.shape[1] != samples.shape[1]:
        shapes = f"{tuple(reference.shape)} and {tuple(samples.shape)}"
        raise ArtuneError(f"density_coverage: features of shapes {shapes}; give [m, D] and [n, D]")
    if k < 1 or len(reference) <= k or len(samples) < 1:
        sizes = f"{len(reference)} reference and {len(samples)} sample features"
        raise ArtuneError(f"density_coverage: k={k} with {sizes}; give k >= 1 and more than k reference features")
    if not (bool(reference.isfinite().all()) and bool(samples.isfinite().all())):
        raise ArtuneError("density_coverage: NaN or infinity in the features; look for broken images")
    held = []  # samples in each reference ball
    radii = neighbour_radii(reference, k, block=block)
    for centres, radius in zip(reference.split(block), radii.split(block), strict=True):
        found = (exact_pairs(centres, points) for points in samples.split(block))
        held.append(sum(pairs.within(radius[:, None], strictly=True).sum(dim=1) for pairs in found))
    counts = torch.cat(held).double()
    return DensityCoverage(
        density=float(counts.sum() / (k * len(samples))), coverage=float((counts > 0).double().mean())
    )
