"""Sums over many wide features on a CPU, and their neighbours and balls in float32 with doubtful decisions in float64.

A distance in float32 is off by at most :func:`tolerance`. Which neighbour is the k-th, and whether a point lies in a
ball, is decided in float64 wherever that margin leaves it open, so that the results are those of float64 throughout, at
half the time or less.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

WIDE = 512  # least width; below it the products take too small a part of the time
SPARE = 8  # candidates beyond the neighbours that are asked for
BLOCK = 4096  # rows and columns of distances in memory at a time
ROWS = 256  # points whose distances to all others are computed in float64 at a time


def may_round(features: Tensor) -> bool:
    """Whether features [n, D] are wide, and float32 products of them on this device are those of IEEE float32."""
    plain = features.device.type == "cpu" and torch.get_float32_matmul_precision() == "highest"
    return plain and features.shape[1] >= WIDE


def centred(features: Tensor, centre: Tensor) -> Tensor:
    """Features [n, D] minus ``centre`` [D], float32."""
    return torch.cat([(rows.double() - centre).float() for rows in features.split(BLOCK)])


def squared_norms(near: Tensor) -> Tensor:
    """Squared norms of float32 features [n, D], summed in float64: float32 [n]."""
    return torch.cat([rows.double().square().sum(dim=1) for rows in near.split(BLOCK)]).float()


def symmetric_sum(parts: Iterable[Tensor]) -> Tensor:
    """Sum of ``part.T @ part`` over float64 parts [b, D] on the CPU; half of the products are enough for it."""
    from scipy.linalg.blas import dsyrk  # imported here because it takes a tenth of a second

    total = None
    for part in parts:
        total = dsyrk(1.0, part.numpy().T, beta=0.0 if total is None else 1.0, c=total, overwrite_c=1)
    upper = torch.from_numpy(total)
    return upper.triu() + upper.triu(1).T


def tolerance(width: int, norms: Tensor, others: Tensor) -> Tensor:
    """Largest error of the float32 distances ``|u|^2 - 2 u.v + |v|^2`` of each point to any other, [n].

    Rounding errors of a sum of D products grow as the root of D; D / 4 units are eleven standard deviations of them at
    D = 2048 and more than five at D = 512, in whatever order the products are summed. Rounding the points, and adding
    the three terms, takes the 16 units more.

    Args:
        width: D.
        norms: squared norms of the points, [n].
        others: squared norms of the other points, [m].
    """
    return (width / 4 + 16) * 2.0**-24 * (norms.double() + float(others.max()))


def radii(features: Tensor, k: int) -> Tensor:
    """As :func:`artune.metrics.precision_recall.neighbour_radii` with ``precision="exact"``.

    Each product serves both of its points.
    """
    n, kept = len(features), min(k + 1 + SPARE, len(features))
    near = centred(features, features.double().mean(dim=0))
    norms = squared_norms(near)
    best = torch.full((n, kept), torch.inf), torch.zeros(n, kept, dtype=torch.long)
    for row in range(0, n, BLOCK):
        for column in range(row, n, BLOCK):
            rows, columns = slice(row, row + BLOCK), slice(column, column + BLOCK)
            distances = torch.addmm(norms[columns], near[rows], near[columns].T, alpha=-2).add_(norms[rows, None])
            _keep(best, rows, distances, column)
            if column > row:
                _keep(best, columns, distances.T.contiguous(), row)
    return _kth(features, best, k, 2 * tolerance(features.shape[1], norms, norms))


def _keep(best: tuple[Tensor, Tensor], rows: slice, distances: Tensor, start: int) -> None:
    """Put the smallest of ``distances`` [rows, columns from ``start``] among the best values and indices so far."""
    values, places = best[0][rows], best[1][rows]
    found = distances.topk(min(values.shape[1], distances.shape[1]), dim=1, largest=False)
    values, places = torch.cat([values, found.values], dim=1), torch.cat([places, found.indices + start], dim=1)
    chosen = values.topk(best[0].shape[1], dim=1, largest=False)
    best[0][rows], best[1][rows] = chosen.values, places.gather(1, chosen.indices)


def _kth(features: Tensor, best: tuple[Tensor, Tensor], k: int, apart: Tensor) -> Tensor:
    """Squared distance [n] to the k-th neighbour in float64, from the nearest in float32, ascending [n, c].

    Those that differ from the k-th by at most ``apart`` [n] may each be it; only their distances are computed again.
    """
    values, places = best[0].double(), best[1]
    gap = values - values[:, k : k + 1]
    open_ = gap.abs() <= apart[:, None]
    exact = torch.where(gap < 0, -torch.inf, torch.inf).to(torch.float64)
    for pairs in open_.nonzero().split(BLOCK):
        row, place = pairs[:, 0], pairs[:, 1]
        exact[row, place] = _apart(features[row], features[places[row, place]])
    found = exact.sort(dim=1).values[:, k]
    unsure = open_[:, -1] & (values.shape[1] < len(features))  # one that was not kept may be the k-th as well
    for rows in unsure.nonzero()[:, 0].split(ROWS):
        found[rows] = _kth_of_all(features[rows], features, k)
    return found


def _kth_of_all(points: Tensor, features: Tensor, k: int) -> Tensor:
    """Squared distance [b] of some of the features to their k-th neighbour, by differences as :func:`_kth`."""
    whole, error = _expanded(points, features)
    gap = whole - whole.kthvalue(k + 1, dim=1, keepdim=True).values
    exact = torch.where(gap < 0, -torch.inf, torch.inf).to(torch.float64)
    for pairs in (gap.abs() <= 2 * error[:, None]).nonzero().split(BLOCK):
        row, place = pairs[:, 0], pairs[:, 1]
        exact[row, place] = _apart(points[row], features[place])
    return exact.kthvalue(k + 1, dim=1).values


def covered(reference: Tensor, reaches: Tensor, samples: Tensor, sample_radii: Tensor) -> tuple[Tensor, Tensor]:
    """As :func:`artune.metrics.precision_recall.covered` with ``precision="exact"``; ``reaches`` are its ``radii``."""
    centre = reference.double().mean(dim=0)
    theirs, ours = centred(reference, centre), centred(samples, centre)
    norms, own_norms = squared_norms(theirs), squared_norms(ours)
    width = reference.shape[1]
    # By how much each point misses the boundary that it is deepest inside of, or nearest to; negative is inside
    misses = torch.full((len(samples),), torch.inf), torch.full((len(reference),), torch.inf)
    below, own_below = norms.double() - reaches, own_norms.double() - sample_radii
    for row in range(0, len(reference), BLOCK):
        for column in range(0, len(samples), BLOCK):
            rows, columns = slice(row, row + BLOCK), slice(column, column + BLOCK)
            products = (theirs[rows] @ ours[columns].T).mul_(-2)
            by_column = (products + below[rows, None].float()).amin(dim=0) + own_norms[columns]
            by_row = products.add_(own_below[columns].float()).amin(dim=1) + norms[rows]
            torch.minimum(misses[0][columns], by_column, out=misses[0][columns])
            torch.minimum(misses[1][rows], by_row, out=misses[1][rows])
    errors = tolerance(width, own_norms, norms), tolerance(width, norms, own_norms)
    inside = misses[0] <= -errors[0], misses[1] <= -errors[1]
    for places in (misses[0].abs() <= errors[0]).nonzero()[:, 0].split(ROWS):
        inside[0][places] = _within(samples[places], reference, reaches)
    for places in (misses[1].abs() <= errors[1]).nonzero()[:, 0].split(ROWS):
        inside[1][places] = _within(reference[places], samples, sample_radii)
    return inside


def _within(points: Tensor, centres: Tensor, reaches: Tensor) -> Tensor:
    """Which points lie in some ball, boolean [b].

    A pair whose float64 distance is too near to the boundary is decided by its differences, as the radii are: the
    distance of equal points is 0 then, and they lie in each other's balls of radius 0.
    """
    distances, error = _expanded(points, centres)
    distances -= reaches
    inside = (distances < -error[:, None]).any(dim=1)
    open_ = (distances.abs() <= error[:, None]) & ~inside[:, None]
    for pairs in open_.nonzero().split(BLOCK):
        row, place = pairs[:, 0], pairs[:, 1]
        holds = _apart(points[row], centres[place]) <= reaches[place]
        inside[row[holds]] = True
    return inside


def _apart(u: Tensor, v: Tensor) -> Tensor:
    """Squared distances [n] of pairs in float64, as sums of squared differences: exactly 0 for equal points."""
    return (u.double() - v.double()).square().sum(dim=1)


def _expanded(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances [rows, columns] in float64 as ``|u|^2 - 2 u.v + |v|^2``, and their largest error [rows]."""
    points = u.double()
    own = points.square().sum(dim=1)
    parts, norms = [], []
    for columns in (part.double() for part in v.split(BLOCK)):
        norms.append(columns.square().sum(dim=1))
        parts.append((points @ columns.T).mul_(-2).add_(own[:, None]).add_(norms[-1]))
    error = tolerance(u.shape[1], own, torch.cat(norms)) * 2.0**-29  # float64 has 29 bits more
    return torch.cat(parts, dim=1), error
