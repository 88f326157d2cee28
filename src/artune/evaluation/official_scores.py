"""The official evaluator's arithmetic in NumPy: the five numbers of ADM's protocol from the features of two sets.

:mod:`artune.evaluation.official_graph` applies it to the outputs of the TensorFlow graph, with TensorFlow's own
distances. It shares no code with :mod:`artune.metrics`, so that each checks the other, and it needs only NumPy.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

Moments = tuple[np.ndarray, np.ndarray]
Distances = Callable[[np.ndarray, np.ndarray], np.ndarray]  # [rows, D], [columns, D] -> squared, [rows, columns]
NAMES = ("fid", "sfid", "inception_score", "precision", "recall")
BLOCK = 10_000  # rows and columns of a block of distances, as in the official evaluator
IMAGINARY = 1e-3  # largest imaginary part that rounding may leave on the diagonal of a matrix root


def half_distances(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Squared distances [rows, columns] in half precision with sums in single; all in single if half overflows.

    This is the rounding model of the port (``adm_half``), not TensorFlow: how a TensorFlow sums in half precision
    depends on its version and processor, and its norms differ from these by one unit in the last place in places.
    """
    single = np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        u16, v16 = u.astype(np.float16), v.astype(np.float16)
        products = (u16.astype(single) @ v16.astype(single).T).astype(np.float16)
        norms = [np.square(w).astype(single).sum(axis=1).astype(np.float16) for w in (u16, v16)]
        distances = np.maximum(norms[0][:, None] - 2 * products + norms[1], 0)
        if np.isfinite(distances).all():
            return distances.astype(single)
        distances = np.square(u).sum(axis=1)[:, None] - 2 * (u @ v.T) + np.square(v).sum(axis=1)
    return np.maximum(distances, 0)


def five_numbers(
    samples: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    neighbours: int = 3,
    inception_split: int = 5000,
    order: np.ndarray | None = None,
    block: int = BLOCK,
    distances: Distances = half_distances,
) -> dict[str, float]:
    """FID, sFID, Inception score, Precision and Recall.

    Args:
        samples: ``features`` [n, D], ``spatial`` [n, S], ``probabilities`` [n, C], float32.
        reference: ``features`` [m, D] and the stored moments ``mu``, ``sigma``, ``mu_s``, ``sigma_s``.
        neighbours: k of Precision and Recall.
        inception_split: samples per chunk.
        order: order of the samples before they are cut into chunks; None for their own order.
        block: rows and columns of a block of distances.
        distances: squared distances for Precision and Recall.

    Raises:
        ValueError: a matrix root has an imaginary part.
    """
    features = reference["features"], samples["features"]
    precision, recall = precision_recall(*features, neighbours, block, distances)
    probabilities = samples["probabilities"] if order is None else samples["probabilities"][order]
    values = (
        frechet_distance(moments(samples["features"]), (reference["mu"], reference["sigma"])),
        frechet_distance(moments(samples["spatial"]), (reference["mu_s"], reference["sigma_s"])),
        inception_score(probabilities, inception_split),
        precision,
        recall,
    )
    return dict(zip(NAMES, values, strict=True))


def moments(features: np.ndarray) -> Moments:
    """Mean [D] in the precision of the features, covariance [D, D] in float64, divided by n - 1."""
    return np.mean(features, axis=0), np.cov(features, rowvar=False)


def frechet_distance(one: Moments, other: Moments) -> float:
    """``|mu1 - mu2|^2 + tr S1 + tr S2 - 2 tr sqrt(S1 S2)``; the last trace sums the roots of S1 S2's eigenvalues."""
    (mu1, cov1), (mu2, cov2) = one, other
    roots = np.sqrt(np.linalg.eigvals(cov1 @ cov2).astype(complex))
    if abs(roots.sum().imag) > IMAGINARY * len(roots):
        raise ValueError(f"FID: the root of the covariances' product has an imaginary trace of {roots.sum().imag:g}")
    difference = mu1 - mu2
    return float(difference @ difference + np.trace(cov1) + np.trace(cov2) - 2 * roots.sum().real)


def inception_score(probabilities: np.ndarray, split: int) -> float:
    """Mean over consecutive chunks, a short last one included, of ``exp(mean_i KL(p_i || mean of the chunk))``."""
    scores = []
    for at in range(0, len(probabilities), split):
        part = probabilities[at : at + split]
        with np.errstate(divide="ignore", invalid="ignore"):
            divergence = part * (np.log(part) - np.log(part.mean(axis=0, keepdims=True)))
        scores.append(np.exp(np.nansum(divergence, axis=1).mean()))  # 0 log 0 = 0
    return float(np.mean(scores))


def precision_recall(
    reference: np.ndarray, samples: np.ndarray, k: int, block: int, distances: Distances = half_distances
) -> tuple[float, float]:
    """Share of samples inside a ball of the reference, and share of the reference inside a ball of the samples."""
    radii, sample_radii = (neighbour_radii(x, k, block, distances) for x in (reference, samples))
    in_reference, in_samples = np.zeros(len(samples), bool), np.zeros(len(reference), bool)
    for rows in _blocks(len(reference), block):
        for columns in _blocks(len(samples), block):
            found = distances(reference[rows], samples[columns])
            in_samples[rows] |= (found <= sample_radii[columns]).any(axis=1)
            in_reference[columns] |= (found <= radii[rows, None]).any(axis=0)
    return float(in_reference.mean()), float(in_samples.mean())


def neighbour_radii(features: np.ndarray, k: int, block: int, distances: Distances) -> np.ndarray:
    """Squared distance [n] of each of the features [n, D] to its k-th neighbour, not counting itself."""
    radii = []
    for rows in _blocks(len(features), block):
        found = [distances(features[rows], features[columns]) for columns in _blocks(len(features), block)]
        radii.append(np.partition(np.concatenate(found, axis=1), k, axis=1)[:, k])
    return np.concatenate(radii)


def _blocks(n: int, block: int) -> Iterator[slice]:
    return (slice(at, at + block) for at in range(0, n, block))
