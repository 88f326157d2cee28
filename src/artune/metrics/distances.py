"""Neighbours and balls of many wide features on a CPU: products in float32, every doubtful decision in float64.

A distance in float32 is off by at most :func:`tolerance`. Neighbours are chosen among a few candidates by their
distances in float64, and a point that may or may not lie in a ball by this margin is looked at again in float64. The
results are those of float64 throughout, at half the time.
"""

import torch
from torch import Tensor

WIDE = 512  # least width; below it the products take too small a part of the time
SPARE = 8  # candidates beyond the neighbours that are asked for
BLOCK = 4096  # rows and columns of distances in memory at a time
ROWS = 256  # points whose candidates are compared in float64 at a time


def may_round(features: Tensor) -> bool:
    """Whether features [n, D] are wide, and float32 products of them on this device are those of IEEE float32."""
    plain = features.device.type == "cpu" and torch.get_float32_matmul_precision() == "highest"
    return plain and features.shape[1] >= WIDE


def centred(features: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Features [n, D] minus ``centre`` [D] in float32, and their squared norms [n] in float32."""
    near = torch.cat([(rows.double() - centre).float() for rows in features.split(BLOCK)])
    return near, torch.cat([rows.double().square().sum(dim=1) for rows in near.split(BLOCK)]).float()


def tolerance(width: int, *norms: Tensor) -> float:
    """Largest error of a float32 distance ``|u|^2 - 2 u.v + |v|^2`` of points with these squared ``norms``.

    A sum of D products is off by at most D / 2^24 of the sum of their sizes in whatever order it is taken; rounding the
    points and adding the three terms adds a few units more.
    """
    return (width + 16) * 2.0**-24 * 2 * sum(float(norm.max()) for norm in norms)


def nearest(features: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` smallest squared distances of each feature [n, D], itself included, ascending, and their indices.

    Each product serves both of its points.
    """
    n, kept = len(features), min(count + SPARE, len(features))
    near, norms = centred(features, features.double().mean(dim=0))
    best = torch.full((n, kept), torch.inf), torch.zeros(n, kept, dtype=torch.long)
    for row in range(0, n, BLOCK):
        for column in range(row, n, BLOCK):
            rows, columns = slice(row, row + BLOCK), slice(column, column + BLOCK)
            distances = torch.addmm(norms[columns], near[rows], near[columns].T, alpha=-2).add_(norms[rows, None])
            _keep(best, rows, distances, column)
            if column > row:
                _keep(best, columns, distances.T.contiguous(), row)
    error = tolerance(features.shape[1], norms, norms)
    values, places = _in_float64(features, best[1])
    # Whether a point that is no candidate could be nearer than the last of the neighbours
    unsure = (best[0][:, -1].double() - error <= values[:, count - 1]) & (kept < n)
    for rows in unsure.nonzero()[:, 0].split(ROWS):
        exact = _exact(features[rows], features)
        exact[torch.arange(len(rows)), rows] = 0.0
        found = exact.topk(count, dim=1, largest=False)
        values[rows, :count], places[rows, :count] = found.values, found.indices
    return values[:, :count], places[:, :count]


def _keep(best: tuple[Tensor, Tensor], rows: slice, distances: Tensor, start: int) -> None:
    """Put the smallest of ``distances`` [rows, columns from ``start``] among the best values and indices so far."""
    values, places = best[0][rows], best[1][rows]
    found = distances.topk(min(values.shape[1], distances.shape[1]), dim=1, largest=False)
    values, places = torch.cat([values, found.values], dim=1), torch.cat([places, found.indices + start], dim=1)
    chosen = values.topk(best[0].shape[1], dim=1, largest=False)
    best[0][rows], best[1][rows] = chosen.values, places.gather(1, chosen.indices)


def _in_float64(features: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances of each feature to its candidates [n, c], ascending, and the candidates in this order."""
    found = []
    for rows, own in zip(features.split(ROWS), candidates.split(ROWS), strict=True):
        apart = features[own].double() - rows.double()[:, None]
        values, order = apart.square_().sum(dim=2).sort(dim=1)
        found.append((values, own.gather(1, order)))
    values, places = (torch.cat(parts) for parts in zip(*found, strict=True))
    return values, places


def covered(reference: Tensor, radii: Tensor, samples: Tensor, sample_radii: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`artune.metrics.precision_recall.covered` with ``precision="exact"``."""
    centre = reference.double().mean(dim=0)
    (theirs, norms), (ours, own_norms) = centred(reference, centre), centred(samples, centre)
    error = tolerance(reference.shape[1], norms, own_norms)
    # By how much each point misses the boundary that it is deepest inside of, or nearest to; negative is inside
    misses = torch.full((len(samples),), torch.inf), torch.full((len(reference),), torch.inf)
    below, own_below = norms.double() - radii, own_norms.double() - sample_radii
    for row in range(0, len(reference), BLOCK):
        for column in range(0, len(samples), BLOCK):
            rows, columns = slice(row, row + BLOCK), slice(column, column + BLOCK)
            products = (theirs[rows] @ ours[columns].T).mul_(-2)
            by_column = (products + below[rows, None].float()).amin(dim=0) + own_norms[columns]
            by_row = products.add_(own_below[columns].float()).amin(dim=1) + norms[rows]
            torch.minimum(misses[0][columns], by_column, out=misses[0][columns])
            torch.minimum(misses[1][rows], by_row, out=misses[1][rows])
    inside = misses[0] <= -error, misses[1] <= -error
    for places in (misses[0].abs() <= error).nonzero()[:, 0].split(ROWS):
        inside[0][places] = (_exact(samples[places], reference) <= radii).any(dim=1)
    for places in (misses[1].abs() <= error).nonzero()[:, 0].split(ROWS):
        inside[1][places] = (_exact(reference[places], samples) <= sample_radii).any(dim=1)
    return inside


def _exact(u: Tensor, v: Tensor) -> Tensor:
    """Squared distances [rows, columns] in float64."""
    parts = []
    for columns in v.split(BLOCK):
        distances = (u.double() @ columns.double().T).mul_(-2)
        distances += u.double().square().sum(dim=1, keepdim=True) + columns.double().square().sum(dim=1)
        parts.append(distances.clamp_min_(0))
    return torch.cat(parts, dim=1)
