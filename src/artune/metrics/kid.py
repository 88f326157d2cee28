"""Kernel inception distance: unbiased at every n, so the number to compare between runs of different size."""

from dataclasses import dataclass

import torch
from torch import Tensor

from artune.errors import ArtuneError
from artune.metrics.distances import BLOCK, centred, may_round
from artune.metrics.jackknife import standard_error

CACHED = 1024  # rows and columns of which a block of the kernel of wide features stays in a processor's cache


@dataclass(frozen=True)
class KID:
    """Squared maximum mean discrepancy, unbiased (so it may be negative), and its standard error."""

    value: float
    standard_error: float
    changes: Tensor  # [n] float64: the KID without sample i minus a constant


def kid(reference: Tensor, samples: Tensor, block: int = 2048) -> KID:
    """KID with the kernel ``k(x, y) = (x.y / D + 1)^3`` (Bińkowski et al., 2018) from all pairs, not from subsets.

    ``mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)``, without bias at any size.
    The standard error is the exact jackknife over samples, which needs only the kernel's row sums; the reference
    counts as fixed, as in ``fid.jackknife_fid``.

    Args:
        reference: [m, D] features, m >= 2.
        samples: [n, D] features, n >= 3.
        block: rows and columns per block of the kernel matrix; limits the memory, does not change the result.

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
    ours, theirs = _Points.of(samples, centre), _Points.of(reference, centre)
    among, within = _own_row_sums(ours, block), _own_row_sums(theirs, block)
    across = _row_sums(ours, theirs, block)

    value = among.sum() / (n * (n - 1)) + within.sum() / (m * (m - 1)) - 2 * across.sum() / (n * m)
    # Leave-one-out values without the term of the reference, which they share.
    left_out = (among.sum() - 2 * among) / ((n - 1) * (n - 2)) - 2 * (across.sum() - across) / ((n - 1) * m)
    return KID(value=float(value), standard_error=standard_error(left_out), changes=left_out)


@dataclass(frozen=True)
class _Points:
    """Features in the form in which the kernel takes them: ``x.y / D + 1`` is ``a_x + a_y + (rows_x . rows_y) / D``."""

    rows: Tensor  # [n, D]
    offsets: Tensor  # a, float64 [n]

    @classmethod
    def of(cls, features: Tensor, centre: Tensor | None) -> "_Points":
        """Features in float64; with a ``centre`` [D] what they differ from it by, in float32.

        Products of these differences are far smaller than the kernel's argument, and so are their rounding errors,
        which cancel in the sums over all pairs.
        """
        if centre is None:
            return cls(
                features.double(), torch.full((len(features),), 0.5, dtype=torch.float64, device=features.device)
            )
        offsets = torch.cat([rows.double() @ centre for rows in features.split(BLOCK)]) - centre.square().sum() / 2
        return cls(centred(features, centre), offsets / features.shape[1] + 0.5)

    def cubes(self, rows: slice, other: "_Points", columns: slice) -> Tensor:
        """The kernel between some points and some others, float64 [rows, columns]."""
        products = self.rows[rows] @ other.rows[columns].T
        argument = products.double().div_(self.rows.shape[1])
        argument.add_(self.offsets[rows, None]).add_(other.offsets[columns])
        return argument.square().mul_(argument)


def _row_sums(x: _Points, y: _Points, block: int) -> Tensor:
    """``sum_j k(x_i, y_j)``, float64 [len(x)]."""
    sums = torch.zeros_like(x.offsets)
    for row in range(0, len(sums), block):
        for column in range(0, len(y.offsets), block):
            sums[row : row + block] += x.cubes(slice(row, row + block), y, slice(column, column + block)).sum(dim=1)
    return sums


def _own_row_sums(x: _Points, block: int) -> Tensor:
    """``sum_j k(x_i, x_j)`` over j other than i, float64 [len(x)]; each product serves both of its points."""
    sums = torch.zeros_like(x.offsets)
    for row in range(0, len(sums), block):
        for column in range(row, len(sums), block):
            kernel = x.cubes(slice(row, row + block), x, slice(column, column + block))
            if column == row:
                kernel.fill_diagonal_(0.0)
            else:
                sums[column : column + block] += kernel.sum(dim=0)
            sums[row : row + block] += kernel.sum(dim=1)
    return sums
