"""Traces of matrix square roots, and how they change when one sample leaves a covariance.

The Fréchet distance holds ``tr sqrt(R S R)`` with ``R R^T`` the reference covariance. Taking one sample out
of S is a rank-one downdate, so a single eigendecomposition serves every sample: ``fid.jackknife_fid`` and the
full-covariance LOO-FID reward both use :func:`downdate_trace_sqrt`.
"""

import math

import torch
from torch import Tensor

STEP = 0.35  # step of the trapezium rule in y = log sqrt(s); the rule's error is about exp(-pi^2 / STEP) = 6e-13
NODES = 143  # y reaches 25 either side of log sqrt(largest eigenvalue): the tails left out are below 1e-10


def covariance_root(covariance: Tensor) -> Tensor:
    """A root of a covariance matrix [D, D]: ``root @ root.T`` equals it, with negative rounding errors set to 0.

    Columns of the root are scaled eigenvectors; ``tr sqrt(root.T @ S @ root)`` is the same for every root.
    """
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp_min(0).sqrt()


def any_root(covariance: Tensor) -> Tensor:
    """As :func:`covariance_root`, in a tenth of the time if the matrix has a Cholesky factor, which is a root, too."""
    factor, failed = torch.linalg.cholesky_ex(covariance)
    return covariance_root(covariance) if int(failed) else factor


def numerical_rank(values: Tensor) -> int:
    """Number of ascending eigenvalues [D] of a symmetric matrix that are above its rounding errors.

    Eigenvalues of a null space are computed as at most 2 machine epsilons of the largest (D = 2048, rank 143), while
    the usual floor of D epsilons already cuts off true eigenvalues of Inception-like spectra, which moves the FID by
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
    # Where the sample carries nearly all of some direction, 1 - removed cancels; f is then computed as f(0) + s (...).
    ratios = squares / values
    left = (1 - ratios.sum(dim=1, keepdim=True)).clamp_min(0) + s * (ratios @ resolvent)
    log_f = torch.where(removed < 0.5, torch.log1p(-removed.clamp_max(0.5)), torch.log(left))
    return log_f @ (torch.exp(y) * scale.sqrt() * (STEP / math.pi))


LOW_RANK_NODES = 40
ZERO = 1e-280  # matrices of at most this norm are zero: their floor would not be a normal number
FLOOR = 1e-14  # times the largest eigenvalue is added to both matrices, so that singular ones have a Cholesky factor


def elliptic_nodes(low: float, high: float, nodes: int) -> tuple[list[float], list[float]]:
    """Nodes s and weights w with ``sqrt(x) = sum w log(1 + x / s)`` up to terms that are equal for all x.

    They come from ``2 pi sqrt(x)``, the integral of ``log(1 + x / s) / sqrt(s)``, by the midpoint rule in the elliptic
    parameter y of ``s = low sc(y)^2``. Differences between x in [low, high] converge as ``exp(-2 pi^2 nodes /
    log(high / low))`` (Hale, Higham and Trefethen, 2008, method 3).
    """
    from scipy.special import ellipj, ellipkm1  # imported here because it takes a tenth of a second

    period = float(ellipkm1(low / high))
    s, weights = [0.0] * nodes, [0.0] * nodes
    for i in range((nodes + 1) // 2):  # the other half is the mirror image low high / s
        sn, cn, dn, _ = ellipj((i + 0.5) * period / nodes, 1 - low / high)
        slope = 2 * dn / (sn * cn)  # derivative of log s
        for at, node in ((i, low * (sn / cn) ** 2), (nodes - 1 - i, high * (cn / sn) ** 2)):
            s[at], weights[at] = node, period / nodes * math.sqrt(node) * slope / (2 * math.pi)
    return s, weights


def updated_trace_sqrt(
    a: Tensor, w: Tensor, added: Tensor, removed: Tensor, nodes: int = LOW_RANK_NODES
) -> tuple[Tensor, Tensor]:
    """``tr sqrt(A)``, and ``tr sqrt(A_j) - tr sqrt(A)`` for every j, ``A_j = A + W (diag(k) - e_j e_j^T) W^T``.

    By the determinant lemma ``log det(A_j + s) - log det(A + s)`` depends only on the small matrices ``W^T (A + s)^-1
    W``, at one Cholesky factor and one triangular solve per node. Singular matrices get a floor of 1e-14 of the largest
    eigenvalue of A + W diag(k) W^T, so that each direction that only one of A and A_j has is off by 1e-7 of that
    eigenvalue's root.

    Args:
        a: [D, D] positive semi-definite, float64.
        w: [D, n], n much below D.
        added: k [n], not negative.
        removed: rows e_j [N, n]; every A_j is positive semi-definite up to rounding.
        nodes: nodes of the quadrature.

    Returns:
        The trace, a number, and the changes [N].

    Raises:
        torch.linalg.LinAlgError: ``a`` is not positive semi-definite.
    """
    eye = torch.eye(len(a), dtype=a.dtype, device=a.device)
    scale = torch.sqrt(added)
    high = float(a.norm() + (w * scale).square().sum())
    if high <= ZERO:  # all samples are alike
        return a.new_zeros(()), a.new_zeros(len(removed))
    low = FLOOR * high
    small = torch.eye(len(added), dtype=a.dtype, device=a.device)
    total, changes = a.new_zeros(()), a.new_zeros(len(removed))
    for s, weight in zip(*elliptic_nodes(low, high + low, nodes), strict=True):
        factor = torch.linalg.cholesky(a + (s + low) * eye)
        inverse = torch.linalg.solve_triangular(factor, eye, upper=False)
        half = inverse @ w
        gram = half.T @ half  # W^T (A + s)^-1 W
        with_added = torch.linalg.cholesky(small + scale[:, None] * gram * scale)
        # e^T W^T (A + W k W^T + s)^-1 W e, by Woodbury
        rows = removed @ gram
        taken = (rows * removed).sum(1) - torch.linalg.solve_triangular(
            with_added, (rows * scale).T, upper=False
        ).square().sum(0)
        left = (1 - taken).clamp_min(torch.finfo(a.dtype).tiny)
        changes += weight * (2 * with_added.diagonal().log().sum() + left.log())
        # sqrt(x) is also the sum of 2 w x / (x + s)
        total += 2 * weight * (len(a) - (s + low) * inverse.square().sum())
    return total, changes
