"""Exact distances: which neighbour is the k-th, and which points lie in which balls; sums over wide features on a CPU.

Two kinds of rounded distances are quick, products of wide features in float32 and of any in float64; each is off by at
most :func:`tolerance`. Wherever that margin leaves a decision open, the sum of squared differences in float64 decides
(:func:`_apart`), here and nowhere else. It is 0 for equal points and the same in whatever order or block a pair is met,
so that radii and balls agree about repeated images.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

WIDE = 512  # least width; below it the products take too small a part of the time
SPARE = 8  # candidates beyond the neighbours that are asked for
BLOCK = 4096  # rows and columns of distances in memory at a time
ROWS = 256  # points that are converted to float64, or compared with all others in it, at a time
PAIRS = 10_000_000  # distances in float64 in memory at a time


def may_round(features: Tensor) -> bool:
    """Whether features [n, D] are wide, and float32 products of them on this device are those of IEEE float32."""
    plain = features.device.type == "cpu" and torch.get_float32_matmul_precision() == "highest"
    return plain and features.shape[1] >= WIDE


def centred(features: Tensor, centre: Tensor) -> Tensor:
    """Features [n, D] minus ``centre`` [D], float32."""
    return torch.cat([(rows.double() - centre).float() for rows in features.split(ROWS)])


def squared_norms(near: Tensor) -> Tensor:
    """Squared norms of float32 features [n, D], summed in float64: float32 [n]."""
    return torch.cat([rows.double().square().sum(dim=1) for rows in near.split(ROWS)]).float()


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


@dataclass(frozen=True)
class Pairs:
    """Rounded squared distances [rows, columns] of the points u [rows, D] and v [columns, D], and their error."""

    u: Tensor
    v: Tensor
    distances: Tensor
    error: Tensor | None  # largest error of a row's distances, [rows]; None: the distances count as they are

    def within(self, reaches: Tensor, strictly: bool = False) -> Tensor:
        """Which distances are at most ``reaches`` (or ``strictly`` below), boolean [rows, columns].

        Args:
            reaches: squared distances, [rows, 1] or [columns].
            strictly: leave out the boundary.
        """
        if self.error is None:
            return self.distances < reaches if strictly else self.distances <= reaches
        beyond = self.distances - reaches
        found = beyond < 0
        row, column = (beyond.abs_() <= self.error[:, None]).nonzero(as_tuple=True)
        if len(row):
            exact, limits = _apart_each(self.u, self.v, row, column), reaches.expand_as(beyond)[row, column]
            found[row, column] = exact < limits if strictly else exact <= limits
        return found


def exact_pairs(u: Tensor, v: Tensor) -> Pairs:
    """The distances of u [rows, D] and v [columns, D] for decisions that are exact."""
    return Pairs(u, v, *_expanded(u, v))


def nearest(features: Tensor, count: int, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """The ``count`` smallest exact squared distances [n, count] of each feature, itself included, and their indices.

    They ascend; of equal distances any may come first.

    Args:
        features: [n, D], n >= count.
        count: number of distances per feature.
        block: largest number of features whose distances are in memory at a time.
    """
    found = []
    for rows in features.split(max(1, min(block, PAIRS // len(features)))):
        rounded, error = _expanded(rows, features)
        last = rounded.topk(count, dim=1, largest=False).values[:, -1]
        row, column = (rounded <= (last + 2 * error)[:, None]).nonzero(as_tuple=True)
        exact = rounded.fill_(torch.inf)
        exact[row, column] = _apart_each(rows, features, row, column)
        found.append(exact.topk(count, dim=1, largest=False))
    return torch.cat([values for values, _ in found]), torch.cat([places for _, places in found])


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
    row, place = (gap.abs() <= 2 * error[:, None]).nonzero(as_tuple=True)
    exact[row, place] = _apart_each(points, features, row, place)
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
        inside[0][places] = exact_pairs(samples[places], reference).within(reaches).any(dim=1)
    for places in (misses[1].abs() <= errors[1]).nonzero()[:, 0].split(ROWS):
        inside[1][places] = exact_pairs(reference[places], samples).within(sample_radii).any(dim=1)
    return inside


def _apart_each(u: Tensor, v: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Exact squared distances [n] of the points u[row] and v[column], once for pairs of equal points if pairs are many.

    Without that a set of thousands of equal images, each of which lies on the boundary of every ball, would take hours.
    """
    if len(row) <= BLOCK:
        return _apart(u[row], v[column])
    keys = _fingerprints(u)[row] * 31 + _fingerprints(v)[column]
    different, which = keys.unique(return_inverse=True)
    one = which.new_empty(len(different)).scatter_(0, which, torch.arange(len(which), device=which.device))
    return torch.cat([_apart(u[row[part]], v[column[part]]) for part in one.split(BLOCK)])[which]


def _fingerprints(points: Tensor) -> Tensor:
    """A 64-bit number of each of the points [n, D]: the same for equal ones, and for others only by a freak."""
    draw = torch.Generator().manual_seed(0)
    odd = (torch.randint(2**62, (points.shape[1],), generator=draw) * 2 + 1).to(points.device)
    found = []
    for rows in points.split(BLOCK):
        bits = (rows.double() + 0.0).view(torch.int64)  # + 0.0 makes 0 of -0
        bits = (bits ^ (bits >> 32)) * odd  # integers wrap around
        found.append(((bits ^ (bits >> 29)) * odd).sum(dim=1))
    return torch.cat(found)


def _apart(u: Tensor, v: Tensor) -> Tensor:
    """Squared distances [n] of pairs in float64, as sums of squared differences: exactly 0 for equal points."""
    return (u.double() - v.double()).square().sum(dim=1)


def _expanded(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances [rows, columns] in float64 as ``|u|^2 - 2 u.v + |v|^2``, and their largest error [rows]."""
    points = u.double()
    own = points.square().sum(dim=1)
    distances, norms = own.new_empty(len(u), len(v)), own.new_empty(len(v))
    for start in range(0, len(v), BLOCK):
        columns = slice(start, start + BLOCK)
        part = v[columns].double()
        torch.sum(part.square(), dim=1, out=norms[columns])
        torch.addmm(norms[columns], points, part.T, alpha=-2, out=distances[:, columns])
    error = tolerance(u.shape[1], own, norms) * 2.0**-29  # float64 has 29 bits more
    return distances.add_(own[:, None]), error
