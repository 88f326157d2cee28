"""The same scores by other networks: the rewards' own, and a judge that nobody here trained."""

from collections.abc import Mapping

import torch
from torch import Tensor

from artune.config.run import Evaluation
from artune.evaluation.protocol import file_order
from artune.metrics.fid import feature_moments, jackknife_fid
from artune.metrics.inception_score import inception_score, inception_score_left_out
from artune.metrics.jackknife import standard_error
from artune.metrics.kid import kid
from artune.metrics.precision_recall import precision_recall

Tensors = Mapping[str, Tensor]
FIRST = "fd_efficientnet"  # stands for all scores of its network where they are missing


def in_file_order(probabilities: Tensor, evaluation: Evaluation) -> Tensor:
    """Class probabilities [n, C] in the order in which they are cut into chunks for the Inception Score."""
    if not evaluation.inception_shuffle:
        return probabilities
    # Otherwise a chunk of a file sorted by class would hold only a few classes.
    return probabilities[torch.from_numpy(file_order(len(probabilities), evaluation.seed))]


def in_sample_order(values: Tensor, evaluation: Evaluation) -> Tensor:
    """Values [n] in the order of :func:`in_file_order`, in that of the samples."""
    if not evaluation.inception_shuffle:
        return values
    ordered = torch.empty_like(values)
    ordered[torch.from_numpy(file_order(len(values), evaluation.seed))] = values
    return ordered


def reward_scores(
    arrays: Tensors, real: Tensors, evaluation: Evaluation, classes: int, missing: dict[str, str] | None = None
) -> dict[str, float]:
    """Scores by the LOO-FID reward's own network, where it is not the network of the evaluation.

    They are ``inception_score_reward``, ``accuracy_reward`` (if its columns are the classes of the data set),
    ``precision_reward``, ``recall_reward`` and ``kid_reward``.

    Args:
        arrays: arrays of the samples from :func:`artune.evaluation.features.sample_features`.
        real: arrays of the reference.
        evaluation: the protocol.
        classes: number of classes of the data set.
        missing: filled with the reason for each number that is left out.
    """
    scores: dict[str, float] = {}
    left_out = {} if missing is None else missing
    if evaluation.reward_features != evaluation.classifier:
        if "reward_probabilities" in arrays:
            scores |= _by_classifier(arrays, evaluation, classes)
        else:
            left_out["inception_score_reward"] = (
                "the features were computed before these scores existed; delete features.npz and give the same command "
                "again"
            )
    if evaluation.reward_features != evaluation.features and "reward_features" in arrays:
        theirs = real.get(f"heldout/{evaluation.reward_features}/features")
        if theirs is None:
            left_out["precision_reward"] = "the reference has no features of its images under the reward's network"
        else:
            ours, kind, k = arrays["reward_features"], evaluation.precision_recall, evaluation.neighbours
            radii = known_radii(real, evaluation.reward_features, k) if kind == "exact" else None
            found = precision_recall(theirs, ours, k=k, precision=kind, radii=radii)
            kernel = kid(theirs, ours)
            scores |= {
                "precision_reward": found.precision,
                "precision_reward_se": found.precision_standard_error,
                "recall_reward": found.recall,
                "kid_reward": kernel.value,
                "kid_reward_se": kernel.standard_error,
            }
    return scores


def _by_classifier(arrays: Tensors, evaluation: Evaluation, classes: int) -> dict[str, float]:
    probabilities = arrays["reward_probabilities"]
    ordered = in_file_order(probabilities, evaluation)
    scores = {
        "inception_score_reward": inception_score(ordered, evaluation.inception_split)[0],
        "inception_score_reward_se": standard_error(inception_score_left_out(ordered, evaluation.inception_split)),
    }
    if "labels" in arrays and probabilities.shape[1] == classes:
        scores["accuracy_reward"] = (probabilities.argmax(1) == arrays["labels"]).double().mean().item()
    return scores


def known_radii(real: Tensors, network: str, neighbours: int) -> Tensor | None:
    """The exact radii of the reference's balls under a network, if :mod:`artune.inputs.references` has kept them."""
    return real.get(f"heldout/{network}/radii{neighbours}")


def spread_scores(
    theirs: Tensor, ours: Tensor, network: str, neighbours: int, radii: Tensor | None = None
) -> dict[str, float]:
    """``precision_{network}`` with its standard error and ``recall_{network}``, by exact distances.

    Args:
        theirs: features [m, D] of the reference.
        ours: features [n, D] of the samples.
        network: end of the names.
        neighbours: k.
        radii: of the reference's balls, if known.
    """
    found = precision_recall(theirs, ours, k=neighbours, radii=radii)
    return {
        f"precision_{network}": found.precision,
        f"precision_{network}_se": found.precision_standard_error,
        f"recall_{network}": found.recall,
    }


def third_scores(
    arrays: Tensors, real: Tensors, evaluation: Evaluation, missing: dict[str, str] | None = None
) -> dict[str, float]:
    """The scores of the judge that nobody here trained: ``fd_``, ``kid_``, ``precision_`` and ``recall_efficientnet``.

    Where the samples' or the reference's features under it are missing there are none, and ``missing`` says why.
    """
    if evaluation.efficientnet is None:
        return {}
    theirs = real.get(f"heldout/{evaluation.efficientnet}/embeddings")
    absent = [what for what, found in (("samples", arrays.get("efficientnet")), ("reference", theirs)) if found is None]
    if theirs is None or absent:
        if missing is not None:
            missing[FIRST] = (
                f"its package was not installed when the features of the {' and of the '.join(absent)} were computed "
                "(docs/evaluation.md)"
            )
        return {}
    theirs, ours = theirs.float(), arrays["efficientnet"].float()
    distance, kernel = jackknife_fid(ours, *feature_moments(theirs)), kid(theirs, ours)
    k = evaluation.neighbours
    return {
        "fd_efficientnet": distance.value,
        "fd_efficientnet_se": distance.standard_error,
        "kid_efficientnet": kernel.value,
        "kid_efficientnet_se": kernel.standard_error,
        **spread_scores(theirs, ours, "efficientnet", k, known_radii(real, evaluation.efficientnet, k)),
    }
