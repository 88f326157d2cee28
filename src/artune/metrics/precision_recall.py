"""Improved precision and recall (Kynkäänniemi et al., 2019), exact or rounded as in the official evaluator."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from artune.errors import ArtuneError
from artune.metrics import distances as wide
from artune.metrics.distances import Pairs, exact_pairs, nearest

Precision = Literal["exact", "adm_half"]


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall in [0, 1], and the binomial standard error of precision."""

    precision: float
    recall: float
    precision_standard_error: float


def precision_recall(
    reference: Tensor,
    samples: Tensor,
    k: int = 3,
    precision: Precision = "exact",
    block: int = 10_000,
    radii: Tensor | None = None,
) -> PrecisionRecall:
    """Precision: share of samples in some reference ball. Recall: share of reference images in some sample ball.

    A ball reaches to its centre's k-th neighbour, with its boundary.

    Args:
        reference: [m, D] features, m > k.
        samples: [n, D] features, n > k.
        k: index of the neighbour that sets the radius.
        precision: ``exact`` (float64) or ``adm_half``, which rounds as the official evaluator does and reads
            slightly higher; never compare one with the other.
        block: rows and columns per block of distances.
        radii: those of the reference, from :func:`neighbour_radii`, if they are known.

    Raises:
        ArtuneError: too few features, wrong shapes, NaN or infinity, or an unknown ``precision``.

    >>> real, made = torch.randn(2, 500, 8, generator=torch.manual_seed(0))
    >>> found = artune.precision_recall(real, made, k=3)
    >>> print(found.precision > 0.6, artune.precision_recall(real, made + 100).precision)
    True 0.0
    """
    _check(reference, samples, k, precision)
    reference, samples = reference.detach(), samples.detach()
    radii = neighbour_radii(reference, k, precision, block) if radii is None else radii
    sample_radii = neighbour_radii(samples, k, precision, block)
    inside_reference, inside_samples = covered(reference, radii, samples, sample_radii, precision, block)
    return _of_shares(float(inside_reference.double().mean()), float(inside_samples.double().mean()), len(samples))


def _of_shares(precision: float, recall: float, samples: int) -> PrecisionRecall:
    return PrecisionRecall(precision, recall, (precision * (1 - precision) / samples) ** 0.5)


@dataclass(frozen=True)
class LeftOut:
    """Precision and recall of n samples, and those without each of them."""

    precision: float
    recall: float
    precisions: Tensor  # [n] float64
    recalls: Tensor  # [n] float64

    @property
    def whole(self) -> PrecisionRecall:
        """Precision and recall of all n samples."""
        return _of_shares(self.precision, self.recall, len(self.precisions))


def precision_recall_left_out(
    reference: Tensor,
    samples: Tensor,
    k: int = 3,
    precision: Precision = "exact",
    pairs: int = 20_000_000,
    radii: Tensor | None = None,
) -> LeftOut:
    """As :func:`precision_recall`, with the n leave-one-out precisions and recalls, all exact.

    Without a sample its own ball is gone, and the ball of every sample that had it among the k nearest neighbours
    grows to the next neighbour.

    Args:
        reference: [m, D] features, m > k.
        samples: [n, D] features, n > k + 1.
        k: index of the neighbour that sets the radius.
        precision: as in :func:`precision_recall`.
        pairs: distances in memory at a time; limits the memory, does not change the result.
        radii: those of the reference, from :func:`neighbour_radii`, if they are known.

    Raises:
        ArtuneError: as :func:`precision_recall`, or at most k + 1 samples.
    """
    _check(reference, samples, k + 1, precision)
    reference, samples = reference.detach(), samples.detach()
    n, m = len(samples), len(reference)
    values, places = nearest(samples, k + 2) if precision == "exact" else _nearest_half(samples, k + 2)
    own = places[:, : k + 1] == torch.arange(n, device=samples.device)[:, None]  # a sample is no neighbour of itself
    now, grown = values[:, k], values[:, k + 1]
    radii = neighbour_radii(reference, k, precision) if radii is None else radii
    covered_images = 0
    hit = torch.zeros(n, dtype=torch.bool, device=samples.device)
    inside = torch.zeros(n, dtype=torch.float64, device=samples.device)
    step = max(1, pairs // n)
    for start in range(0, m, step):
        rows = slice(start, start + step)
        found = _pairs(reference[rows], samples, precision)
        hit |= found.within(radii[rows, None]).any(dim=0)
        holds = found.within(now)
        balls = holds.sum(dim=1)  # that each reference image lies in
        covered_images += int((balls > 0).sum())
        few = balls < 2  # in two balls or more a reference image stays inside, whichever sample is left out
        inside += float((~few).sum())
        holds, would_hold = holds[few], found.within(grown)[few].float()
        others = holds.sum(dim=1, keepdim=True) - holds.long() > 0  # [few, n]: inside a ball other than i's own
        gained = torch.zeros_like(would_hold)
        for place in range(k + 1):
            gained.index_add_(1, places[:, place], would_hold.masked_fill(own[:, place], 0.0))
        inside += (others | (gained > 0)).double().sum(dim=0)
    without = (hit.double().sum() - hit.double()) / (n - 1)
    return LeftOut(float(hit.double().mean()), covered_images / m, without, inside / m)


def neighbour_radii(features: Tensor, k: int, precision: Precision = "exact", block: int = 10_000) -> Tensor:
    """Squared distance [n] of each feature [n, D] to its k-th neighbour, not counting itself."""
    features = features.detach()
    if precision != "exact":
        return _nearest_half(features, k + 1, block)[0][:, k]
    return wide.radii(features, k) if wide.may_round(features) else nearest(features, k + 1, block)[0][:, k]


def _nearest_half(features: Tensor, count: int, block: int = 10_000) -> tuple[Tensor, Tensor]:
    """As :func:`artune.metrics.distances.nearest`, by distances in half precision."""
    found = []
    for rows in features.split(block):
        best: list[tuple[Tensor, Tensor]] = []
        for start in range(0, len(features), block):
            distances = _half_distances(rows, features[start : start + block])
            values, places = distances.topk(min(count, distances.shape[1]), dim=1, largest=False)
            best.append((values, places + start))
        values, places = (torch.cat(parts, dim=1) for parts in zip(*best, strict=True))
        values, order = values.sort(dim=1)
        found.append((values[:, :count], places.gather(1, order)[:, :count]))
    values, places = (torch.cat(parts) for parts in zip(*found, strict=True))
    return values, places


def covered(
    reference: Tensor,
    radii: Tensor,
    samples: Tensor,
    sample_radii: Tensor,
    precision: Precision = "exact",
    block: int = 10_000,
) -> tuple[Tensor, Tensor]:
    """Which samples lie in some reference ball, boolean [n], and which reference images in some sample ball, [m].

    Each distance answers both questions. The reference is u: in half precision ``(|u|^2 - 2 u.v) + |v|^2`` depends on
    the order, and this is the official evaluator's.

    Args:
        reference: [m, D] features.
        radii: [m] squared radii of the reference balls.
        samples: [n, D] features.
        sample_radii: [n] squared radii of the sample balls.
        precision: as in :func:`precision_recall`.
        block: rows and columns per block of distances.
    """
    reference, radii, samples, sample_radii = (x.detach() for x in (reference, radii, samples, sample_radii))
    if precision == "exact" and wide.may_round(reference):
        return wide.covered(reference, radii, samples, sample_radii)
    block = min(block, wide.BLOCK) if precision == "exact" else block
    in_reference = torch.zeros(len(samples), dtype=torch.bool, device=samples.device)
    in_samples = torch.zeros(len(reference), dtype=torch.bool, device=samples.device)
    for row in range(0, len(reference), block):
        rows = slice(row, row + block)
        for column in range(0, len(samples), block):
            columns = slice(column, column + block)
            found = _pairs(reference[rows], samples[columns], precision)
            in_reference[columns] |= found.within(radii[rows, None]).any(dim=0)
            in_samples[rows] |= found.within(sample_radii[columns]).any(dim=1)
    return in_reference, in_samples


def _check(reference: Tensor, samples: Tensor, k: int, precision: str) -> None:
    if precision not in get_args(Precision):
        raise ArtuneError(f"precision_recall: precision={precision!r}; use one of {', '.join(get_args(Precision))}")
    if reference.ndim != 2 or samples.ndim != 2 or reference.shape[1] != samples.shape[1]:
        shapes = f"{tuple(reference.shape)} and {tuple(samples.shape)}"
        raise ArtuneError(f"precision_recall: features of shapes {shapes}; give [m, D] and [n, D]")
    if min(len(reference), len(samples)) <= k or k < 1:
        sizes = f"{len(reference)} and {len(samples)}"
        raise ArtuneError(f"precision_recall: k={k} with {sizes} features; give k >= 1 and more than k features")
    if not (bool(reference.isfinite().all()) and bool(samples.isfinite().all())):
        raise ArtuneError("precision_recall: NaN or infinity in the features; look for broken images")


def _pairs(u: Tensor, v: Tensor, precision: Precision) -> Pairs:
    """Squared distances of u [rows, D] and v [columns, D]; those in half precision count as they are."""
    return exact_pairs(u, v) if precision == "exact" else Pairs(u, v, _half_distances(u, v), None)


def _half_distances(u: Tensor, v: Tensor) -> Tensor:
    """Squared distances, every intermediate result rounded to half; a block that overflows is redone in float32."""
    u16, v16 = u.half(), v.half()
    products = (2 * (u16.float() @ v16.float().T)).half()  # sums in float32, the result rounded
    norm_u, norm_v = (w.square().float().sum(dim=1).half() for w in (u16, v16))
    distances = ((norm_u[:, None] - products) + norm_v).clamp_min(0).float()
    return distances if bool(distances.isfinite().all()) else _expanded_distances(u.float(), v.float())


def _expanded_distances(u: Tensor, v: Tensor) -> Tensor:
    """``|u|^2 - 2 u.v + |v|^2`` clamped at 0, [rows, columns]."""
    distances = (u @ v.T).mul_(-2).add_(u.square().sum(dim=1, keepdim=True)).add_(v.square().sum(dim=1))
    return distances.clamp_min_(0)
