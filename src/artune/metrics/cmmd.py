"""CMMD (Jayasumana et al., 2024): maximum mean discrepancy of CLIP embeddings, a judge that assumes no Gaussians."""

from dataclasses import dataclass

import torch
from torch import Tensor

from artune.errors import ArtuneError

SIGMA = 10.0  # bandwidth of the Gaussian kernel, the authors' value
UNIT = 1000.0  # factor of the printed value, the authors' value


@dataclass(frozen=True)
class CMMD:
    """Squared maximum mean discrepancy times 1000, never negative, and its standard error."""

    value: float
    standard_error: float


def cmmd(reference: Tensor, samples: Tensor, block: int = 4096) -> CMMD:
    """CMMD with the kernel ``exp(-|x - y|^2 / (2 * 10^2))``, over all pairs, including those of a point with itself.

    The value is ``1000 (mean k(x, x') + mean k(y, y') - 2 mean k(x, y))``. The standard error is the exact jackknife
    over samples; the reference counts as fixed, as in ``kid.kid``.

    Args:
        reference: [m, D] embeddings of unit length (the authors use CLIP ViT-L/14 at 336 pixels).
        samples: [n, D] embeddings of unit length, n >= 2.
        block: rows and columns per block of the kernel matrix; limits the memory, does not change the result.

    Raises:
        ArtuneError: too few embeddings, wrong shapes, or lengths other than 1.

    >>> real, made = torch.nn.functional.normalize(torch.randn(2, 500, 8, generator=torch.manual_seed(0)), dim=-1)
    >>> score = artune.cmmd(real, made)
    >>> print(score.value < 0.1, artune.cmmd(real, -real.abs()).value > 1)
    True True
    """
    if reference.ndim != 2 or samples.ndim != 2 or reference.shape[1] != samples.shape[1]:
        shapes = f"{tuple(reference.shape)} and {tuple(samples.shape)}"
        raise ArtuneError(f"CMMD: embeddings of shapes {shapes}; give [m, D] and [n, D]")
    m, n = len(reference), len(samples)
    if m < 1 or n < 2:
        raise ArtuneError(f"CMMD: {m} reference and {n} sample embeddings; give at least 1 and 2")
    for name, x in (("reference", reference), ("sample", samples)):
        if not bool((x.double().norm(dim=1) - 1).abs().max() < 1e-2):  # NaN fails as well
            raise ArtuneError(f"CMMD: {name} embeddings are not of unit length; give CLIP's normalised ones")
    among, across = _excess_row_sums(samples, samples, block), _excess_row_sums(samples, reference, block)
    within = _excess_row_sums(reference, reference, block).sum() / m**2

    value = among.sum() / n**2 + within - 2 * across.sum() / (n * m)
    # Leave-one-out values; a point's excess with itself is 0.
    left_out = (among.sum() - 2 * among) / (n - 1) ** 2 - 2 * (across.sum() - across) / ((n - 1) * m)
    error = ((left_out - left_out.mean()).square().sum() * (n - 1) / n).sqrt()
    return CMMD(value=UNIT * float(value), standard_error=UNIT * float(error))


def _excess_row_sums(x: Tensor, y: Tensor, block: int) -> Tensor:
    """``sum_j (k(x_i, y_j) - 1)``, float64 [len(x)].

    Every kernel value lies within 2 % of 1; the ones cancel in CMMD, so they are left out of the sums.
    """
    sums = []
    for rows in x.double().split(block):
        total = torch.zeros(len(rows), dtype=torch.float64, device=x.device)
        for columns in y.double().split(block):
            distances = rows.square().sum(1, keepdim=True) - 2 * rows @ columns.T + columns.square().sum(1)
            total += torch.expm1(distances.clamp_min(0) / (-2 * SIGMA**2)).sum(dim=1)
        sums.append(total)
    return torch.cat(sums)
