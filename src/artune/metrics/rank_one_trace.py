"""Traces of matrix square roots, and how they change when one sample leaves a covariance.

The Fréchet distance holds ``tr sqrt(R S R)`` with ``R R^T`` the reference covariance. Taking one sample out
of S is a rank-one downdate, so a single eigendecomposition serves every sample: ``fid.jackknife_fid`` and the
full-covariance LOO-FID reward both rest on :func:`downdate_trace_sqrt`.
"""

import math

import torch
from torch import Tensor

STEP = 0.35  # of the trapezium rule in y = log sqrt(s); its error is about exp(-pi^2 / STEP) = 6e-13
NODES = 143  # y reaches 25 either side of log sqrt(largest eigenvalue): the tails left out are below 1e-10


def covariance_root(covariance: Tensor) -> Tensor:
    """A root of a covariance matrix [D, D]: ``root @ root.T`` equals it, with negative rounding errors set to
    0.

    Columns are scaled eigenvectors; ``tr sqrt(root.T @ S @ root)`` is the same for every root.
    """
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp_min(0).sqrt()


def numerical_rank(values: Tensor) -> int:
    """How many of the ascending eigenvalues [D] of a symmetric matrix stand above its rounding errors.

    Those of a null space come out within 2 machine epsilons of the largest (D = 2048, rank 143), while the
    usual floor of D epsilons already cuts off true ones of Inception-like spectra, which moves the FID by
    1e-3.
    """
    floor = 64 * torch.finfo(values.dtype).eps * float(values[-1].clamp_min(0))
    return int((values > floor).sum())


def downdate_trace_sqrt(values: Tensor, z: Tensor) -> Tensor:
    """``tr sqrt(diag(values) - z_j z_j^T) - tr sqrt(diag(values))`` for every row j of ``z``, without a loop.

    By the matrix determinant lemma this is ``1/pi`` times the integral over t > 0 of ``log f_j(t^2)`` with
    ``f_j(s) = 1 - sum_k z_jk^2 / (values_k + s)``, here by the trapezium rule in ``log t``.

    Args:
        values: [D] positive eigenvalues.
        z: [N, D] with every ``diag(values) - z_j z_j^T`` positive semi-definite, up to rounding.

    Returns:
        [N], none of them positive.
    """
    if values.numel() == 0:
        return z.new_zeros(len(z))
    scale = values.max()
    y = STEP * (torch.arange(NODES, dtype=values.dtype, device=values.device) - (NODES - 1) / 2)
    s = scale * torch.exp(2 * y)
    resolvent = 1 / (values[:, None] + s)
    squares = z.square()
    removed = squares @ resolvent
    # Where the sample carries nearly all of some direction, 1 - removed cancels; the same f is then f(0) + s
    # (...).
    ratios = squares / values
    left = (1 - ratios.sum(dim=1, keepdim=True)).clamp_min(0) + s * (ratios @ resolvent)
    log_f = torch.where(removed < 0.5, torch.log1p(-removed.clamp_max(0.5)), torch.log(left))
    return log_f @ (torch.exp(y) * scale.sqrt() * (STEP / math.pi))
