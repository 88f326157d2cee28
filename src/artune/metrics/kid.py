"""Kernel inception distance: unbiased at every n, so the number to compare between runs of different size."""

from dataclasses import dataclass

import torch
from torch import Tensor

from artune.errors import ArtuneError
from artune.metrics.jackknife import standard_error


@dataclass(frozen=True)
class KID:
    """Squared maximum mean discrepancy, unbiased (so it may be negative), and its standard error."""

    value: float
    standard_error: float
    changes: Tensor  # [n] float64: the KID without sample i minus a constant


def kid(reference: Tensor, samples: Tensor, block: int = 4096) -> KID:
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
    m, n = len(reference), len(samples)
    if m < 2 or n < 3:
        raise ArtuneError(f"KID: {m} reference and {n} sample features; give at least 2 and 3")
    if not (bool(reference.isfinite().all()) and bool(samples.isfinite().all())):
        raise ArtuneError("KID: NaN or infinity in the features; look for broken images")
    among = _kernel_row_sums(samples, samples, block) - _kernel_diagonal(samples)
    across = _kernel_row_sums(samples, reference, block)
    within = _kernel_row_sums(reference, reference, block) - _kernel_diagonal(reference)

    value = among.sum() / (n * (n - 1)) + within.sum() / (m * (m - 1)) - 2 * across.sum() / (n * m)
    # Leave-one-out values without the term of the reference, which they share.
    left_out = (among.sum() - 2 * among) / ((n - 1) * (n - 2)) - 2 * (across.sum() - across) / ((n - 1) * m)
    return KID(value=float(value), standard_error=standard_error(left_out), changes=left_out)


def _kernel_row_sums(x: Tensor, y: Tensor, block: int) -> Tensor:
    """``sum_j k(x_i, y_j)``, float64 [len(x)]."""
    sums = []
    for rows in x.split(block):
        total = torch.zeros(len(rows), dtype=torch.float64, device=x.device)
        for columns in y.split(block):
            total += _kernel(rows.double() @ columns.double().T, x.shape[1]).sum(dim=1)
        sums.append(total)
    return torch.cat(sums)


def _kernel_diagonal(x: Tensor) -> Tensor:
    return _kernel(x.double().square().sum(dim=1), x.shape[1])


def _kernel(products: Tensor, width: int) -> Tensor:
    return (products / width + 1) ** 3
