"""Traces of matrix square roots under a small change, without an eigendecomposition.

What :mod:`artune.metrics.rank_one_trace` gets from eigenvectors comes here from a Cholesky factor at each node of a
quadrature: several times the arithmetic, but of the kind that a GPU does fast. It has not been timed on one yet.
"""

import math

import torch
from torch import Tensor

LOW_RANK_NODES = 40
FLOOR = 1e-14  # of the largest eigenvalue; added to both matrices, so that singular ones have a factor


def elliptic_nodes(low: float, high: float, nodes: int) -> tuple[list[float], list[float]]:
    """Nodes s and weights w with ``sqrt(x) = sum w log(1 + x / s)`` up to terms that are equal for all x.

    From ``2 pi sqrt(x)``, the integral of ``log(1 + x / s) / sqrt(s)``, by the midpoint rule in the elliptic
    parameter y of ``s = low sc(y)^2``. Differences between x in [low, high] converge as ``exp(-2 pi^2 nodes /
    log(high / low))`` (Hale, Higham and Trefethen, 2008, method 3).
    """
    from scipy.special import ellipj, ellipkm1  # a tenth of a second, which most commands need not spend

    period = float(ellipkm1(low / high))
    s, weights = [0.0] * nodes, [0.0] * nodes
    for i in range((nodes + 1) // 2):  # the other half is the mirror image low high / s
        sn, cn, dn, _ = ellipj((i + 0.5) * period / nodes, 1 - low / high)
        slope = 2 * dn / (sn * cn)  # of log s
        for at, node in ((i, low * (sn / cn) ** 2), (nodes - 1 - i, high * (cn / sn) ** 2)):
            s[at], weights[at] = node, period / nodes * math.sqrt(node) * slope / (2 * math.pi)
    return s, weights


def updated_trace_sqrt(
    a: Tensor, w: Tensor, added: Tensor, removed: Tensor, nodes: int = LOW_RANK_NODES
) -> tuple[Tensor, Tensor]:
    """``tr sqrt(A)``, and ``tr sqrt(A_j) - tr sqrt(A)`` for every j, ``A_j = A + W (diag(k) - e_j e_j^T) W^T``.

    By the determinant lemma ``log det(A_j + s) - log det(A + s)`` is a matter of the small matrices ``W^T (A + s)^-1
    W``, one Cholesky factor and one triangular solve a node.

    Args:
        a: [D, D] positive semi-definite, float64.
        w: [D, n], n much below D.
        added: k [n], not negative.
        removed: rows e_j [N, n]; every A_j is positive semi-definite up to rounding.
        nodes: of the quadrature.

    Returns:
        A number and [N].

    Raises:
        torch.linalg.LinAlgError: ``a`` is not positive semi-definite.
    """
    eye = torch.eye(len(a), dtype=a.dtype, device=a.device)
    scale = torch.sqrt(added)
    high = float(a.norm() + (w * scale).square().sum())
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
