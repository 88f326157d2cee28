"""Kernel inception distance: unbiased at every n, so the number to compare between runs of different size."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from artune.errors import ArtuneError
from artune.metrics.distances import BLOCK, centred, may_round
from artune.metrics.jackknife import standard_error

CACHED = 1024  # rows and columns of which a block of the kernel of wide features stays in a processor's cache
WHOLE = 10_000  # most samples, and most reference features, of which all pairs are taken
LEAST = 100  # samples, or reference features, in a block, however many there are
SMALL = 256  # side of a tile on the diagonal of the pairs within one set, half of which is wasted work
Rows: TypeAlias = slice | Tensor  # which rows: all, or an index [b]
SAMPLES, REFERENCE = 0, 1  # seeds of the blocks; two, since sample i may have been made from reference image i


@dataclass(frozen=True)
class Blocks:
    """Into how many blocks the features are cut for each of the three means of a KID; pairs are within a block."""

    among: int  # the samples, for the pairs of two samples
    within: int  # the reference, for the pairs of two reference features
    across: int  # both, for the pairs of a sample and a reference feature

    def described(self, m: int, n: int) -> str:
        """The pairs of m reference images and n samples that are taken, in words."""
        if self == Blocks(1, 1, 1):
            return "all pairs"
        return (
            f"pairs within random blocks: {self.among:,} of {n // self.among:,} samples, {self.within:,} of "
            f"{m // self.within:,} reference images, {self.across:,} of {n // self.across:,} samples and "
            f"{m // self.across:,} reference images"
        )


def blocks_of(m: int, n: int) -> Blocks:
    """The blocks for m reference and n sample features: one each up to 10,000 of both.

    A mean of more pairs than those of 10,000 and 10,000 takes half as many as these. If both sets are of one
    distribution, this split of the work (a quarter among the samples, a quarter within the reference, half across) has
    the least variance.
    """
    counts = [1 if pairs <= WHOLE**2 else -(-2 * pairs // WHOLE**2) for pairs in (n * n, m * m, n * m)]
    among, within, across = (
        min(count, max(1, size // LEAST)) for count, size in zip(counts, (n, m, min(m, n)), strict=True)
    )
    return Blocks(among, within, across)


@dataclass(frozen=True)
class KID:
    """Squared maximum mean discrepancy, unbiased (so it may be negative), and its standard error."""

    value: float
    standard_error: float
    changes: Tensor  # [n] float64: the KID without sample i minus a constant
    blocks: Blocks  # within which its pairs were taken


def kid(reference: Tensor, samples: Tensor, block: int = 2048) -> KID:
    """KID with the kernel ``k(x, y) = (x.y / D + 1)^3`` (Bińkowski et al., 2018); up to 10,000 features all pairs.

    ``mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)``, without bias at any size.
    A mean of more pairs than those of 10,000 and 10,000 features is that over random blocks of one size
    (:func:`blocks_of`), within which all pairs are taken, so that the work grows no further. A mean of unbiased means
    is unbiased, and every feature is in as many pairs as any other. The blocks depend on m and n alone: two sets of n
    samples have the same ones, and their difference remains paired.

    The standard error is the exact jackknife over samples, each left out of its blocks, which needs only the kernel's
    row sums. What the choice of the blocks adds to the scatter of the samples is in it. The reference counts as fixed,
    as in ``fid.jackknife_fid``.

    Args:
        reference: [m, D] features, m >= 2.
        samples: [n, D] features, n >= 3.
        block: rows and columns of the kernel matrix in memory at a time; does not change the result.

    Raises:
        ArtuneError: too few features, wrong shapes, or NaN or infinity among them.

    >>> real, made = torch.randn(2, 500, 8, generator=torch.manual_seed(0))
    >>> same, moved = artune.kid(real, made), artune.kid(real, made + 0.5)
    >>> print(abs(same.value) < 3 * same.standard_error, moved.value > 10 * moved.standard_error)
    True True
    """
    if reference.ndim != 2 or samples.ndim != 2 or reference.shape[1] != samples.shape[1]:
        shapes = f"{tuple(reference.shape)} and {tuple(samples.shape)}"
        raise ArtuneError(f"KID: features of shapes {shapes}; give [m, D] and [n, D]")
    reference, samples = reference.detach(), samples.detach()
    m, n = len(reference), len(samples)
    if m < 2 or n < 3:
        raise ArtuneError(f"KID: {m} reference and {n} sample features; give at least 2 and 3")
    if not (bool(reference.isfinite().all()) and bool(samples.isfinite().all())):
        raise ArtuneError("KID: NaN or infinity in the features; look for broken images")
    centre = reference.double().mean(dim=0) if may_round(reference) else None
    block = block if centre is None else min(block, CACHED)
    ours, theirs, blocks = _Points.of(samples, centre), _Points.of(reference, centre), blocks_of(m, n)
    parts = _cut(n, blocks.among, SAMPLES)
    own = [(rows, *_mean_of_own(ours.taken(rows), block, len(parts))) for rows in parts]
    among, among_without = _over_blocks(own, n)
    parts = _cut(m, blocks.within, REFERENCE)
    within = sum(_mean_of_own(theirs.taken(rows), block, len(parts))[0] for rows in parts) / len(parts)
    pairs = zip(_cut(n, blocks.across, SAMPLES), _cut(m, blocks.across, REFERENCE), strict=True)
    mixed = [(rows, *_mean_across(ours.taken(rows), theirs.taken(columns), block)) for rows, columns in pairs]
    across, across_without = _over_blocks(mixed, n)
    left_out = among_without - 2 * across_without  # without the term of the reference, which they share
    value = float(among + within - 2 * across)
    return KID(value=value, standard_error=standard_error(left_out), changes=left_out, blocks=blocks)


@dataclass(frozen=True)
class _Points:
    """Features in the form in which the kernel takes them: ``x.y + D`` is ``a_x + a_y + rows_x . rows_y``."""

    rows: Tensor  # [n, D]
    offsets: Tensor  # a, float64 [n]

    @classmethod
    def of(cls, features: Tensor, centre: Tensor | None) -> "_Points":
        """Features in float64; with a ``centre`` [D] what they differ from it by, in float32.

        Products of these differences are far smaller than the kernel's argument, and so are their rounding errors,
        which cancel in the sums over all pairs.
        """
        if centre is None:
            half = torch.full((len(features),), features.shape[1] / 2, dtype=torch.float64, device=features.device)
            return cls(features.double(), half)
        offsets = torch.cat([rows.double() @ centre for rows in features.split(BLOCK)]) - centre.square().sum() / 2
        return cls(centred(features, centre), offsets + features.shape[1] / 2)

    def taken(self, rows: Rows) -> "_Points":
        """Some of the points."""
        return _Points(self.rows[rows], self.offsets[rows])


class _Tiles:
    """The kernel between some points x and some y, tile by tile in the same memory, whose pages then stay mapped.

    Args:
        x: points of the rows.
        y: points of the columns.
        block: rows and columns of a tile.
    """

    def __init__(self, x: _Points, y: _Points, block: int):
        self.x, self.y = x, y
        size = min(block, len(x.offsets)) * min(block, len(y.offsets))
        self.products, self.arguments = x.rows.new_empty(size), x.offsets.new_empty(size)

    def cubes(self, rows: slice, columns: slice) -> Tensor:
        """D^3 times the kernel of a tile, float64 [rows, columns]; the next call overwrites it."""
        x, y = self.x.rows[rows], self.y.rows[columns]
        products, arguments = (
            memory[: len(x) * len(y)].view(len(x), len(y)) for memory in (self.products, self.arguments)
        )
        torch.mm(x, y.T, out=products)
        arguments.copy_(products).add_(self.x.offsets[rows, None]).add_(self.y.offsets[columns])
        return arguments.pow_(3)


def _row_sums(x: _Points, y: _Points, block: int) -> Tensor:
    """``sum_j k(x_i, y_j)``, float64 [len(x)]."""
    sums, tiles = torch.zeros_like(x.offsets), _Tiles(x, y, block)
    for row in range(0, len(sums), block):
        for column in range(0, len(y.offsets), block):
            rows, columns = slice(row, row + block), slice(column, column + block)
            sums[rows] += tiles.cubes(rows, columns).sum(dim=1)
    return sums / x.rows.shape[1] ** 3


def _own_row_sums(x: _Points, block: int) -> Tensor:
    """``sum_j k(x_i, x_j)`` over j other than i, float64 [len(x)]; each product serves both of its points."""
    sums, tiles = torch.zeros_like(x.offsets), _Tiles(x, x, block)
    for rows, columns in _triangle(0, len(sums), block):
        kernel = tiles.cubes(rows, columns)
        if columns == rows:
            kernel.fill_diagonal_(0.0)
        else:
            sums[columns] += kernel.sum(dim=0)
        sums[rows] += kernel.sum(dim=1)
    return sums / x.rows.shape[1] ** 3


def _triangle(start: int, end: int, block: int) -> Iterator[tuple[slice, slice]]:
    """Tiles that cover each pair of points from ``start`` to ``end`` once; of side ``block``, less on the diagonal."""
    for row in range(start, end, block):
        stop = min(row + block, end)
        if block > SMALL:
            yield from _triangle(row, stop, SMALL)
        else:
            yield slice(row, stop), slice(row, stop)
        for column in range(stop, end, block):
            yield slice(row, stop), slice(column, min(column + block, end))


def _cut(size: int, count: int, seed: int) -> list[Rows]:
    """Indices of ``count`` random disjoint blocks of ``size`` features, of which one has at most one more than another.

    The blocks are random because files may be sorted by class.
    """
    if count == 1:
        return [slice(None)]
    return list(torch.randperm(size, generator=torch.Generator().manual_seed(seed)).tensor_split(count))


def _mean_of_own(x: _Points, block: int, parts: int) -> tuple[Tensor, Tensor]:
    """Mean over all pairs of n points, which are one of some ``parts``, and the n means without one point."""
    sums = _own_row_sums(x, block if parts == 1 else min(block, SMALL))
    n, total = len(sums), sums.sum()
    return total / (n * (n - 1)), (total - 2 * sums) / ((n - 1) * (n - 2))


def _mean_across(x: _Points, y: _Points, block: int) -> tuple[Tensor, Tensor]:
    """Mean over all pairs of one of the n points x and one of the points y, and the n means without one point x."""
    sums, n, m = _row_sums(x, y, block), len(x.offsets), len(y.offsets)
    return sums.sum() / (n * m), (sums.sum() - sums) / ((n - 1) * m)


def _over_blocks(found: list[tuple[Rows, Tensor, Tensor]], n: int) -> tuple[Tensor, Tensor]:
    """Mean over blocks of n points, and its n values without a point, from those of the blocks and their indices."""
    if len(found) == 1:
        return found[0][1:]
    mean = torch.stack([own for _, own, _ in found]).mean()
    without = mean.new_empty(n)
    for rows, own, own_without in found:
        without[rows] = mean + (own_without - own) / len(found)
    return mean, without
