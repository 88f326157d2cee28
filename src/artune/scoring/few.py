"""Scores of so few images that some have no neighbours enough: these are left out, and the others computed."""

from collections.abc import Mapping

import numpy as np
import torch

from artune.config.run import Evaluation
from artune.evaluation.left_out import scores_left_out
from artune.evaluation.scores import score
from artune.metrics.jackknife import Jackknifed
from artune.metrics.kid import kid

Arrays = dict[str, np.ndarray]


def few_scores(
    ours: Arrays, theirs: Arrays, evaluation: Evaluation, classes: int, missing: dict[str, str]
) -> dict[str, float]:
    """As :func:`artune.evaluation.scores.score`, for any number of images from three on.

    Precision and Recall need more images than the number of the neighbour that sets a radius, Density and Coverage in
    the reference. With fewer they are left out, and ``missing`` says why.
    """
    features = theirs.get(f"heldout/{evaluation.features}/features")
    if features is None:
        return score(ours, theirs, evaluation, classes, missing)
    n, m, spread = len(ours["features"]), len(features), evaluation.density_neighbours
    if spread is not None and m <= spread:
        why = f"needs more than {spread} images in the reference, which has {m}"
        missing |= dict.fromkeys(("density", "coverage"), why)
        evaluation = evaluation.model_copy(update={"density_neighbours": None})
    if min(n, m) > evaluation.neighbours:
        return score(ours, theirs, evaluation, classes, missing)
    why = f"needs more than {evaluation.neighbours} images in both sets, which have {n} and {m}"
    missing |= dict.fromkeys(("precision", "recall"), why)
    missing |= dict.fromkeys(("density", "coverage"), missing.get("density", why))
    scores = score(ours, _without_features(theirs, evaluation), evaluation, classes, missing)
    kernel = kid(torch.from_numpy(features), torch.from_numpy(ours["features"]))
    return scores | {"kid": kernel.value, "kid_se": kernel.standard_error}


def few_left_out(ours: Arrays, theirs: Arrays, evaluation: Evaluation, classes: int) -> dict[str, Jackknifed]:
    """As :func:`artune.evaluation.left_out.scores_left_out`; no Precision and Recall if one image fewer has none."""
    features = theirs.get(f"heldout/{evaluation.features}/features")
    if features is None or min(len(ours["features"]) - 1, len(features)) > evaluation.neighbours:
        return scores_left_out(ours, theirs, evaluation, classes)
    found = scores_left_out(ours, _without_features(theirs, evaluation), evaluation, classes)
    kernel = kid(torch.from_numpy(features), torch.from_numpy(ours["features"]))
    return found | {"kid": Jackknifed(kernel.value, kernel.changes)}


def _without_features(theirs: Mapping[str, np.ndarray], evaluation: Evaluation) -> Arrays:
    return {name: array for name, array in theirs.items() if name != f"heldout/{evaluation.features}/features"}
