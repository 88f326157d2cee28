"""The scores of a run by name, from features of its samples and of the reference (paper, Sec. 4)."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from artune.config.glossary import MAY_BE_MISSING
from artune.config.run import Evaluation
from artune.evaluation.other_networks import (
    in_file_order,
    in_sample_order,
    known_radii,
    reward_scores,
    spread_scores,
    third_scores,
)
from artune.metrics.cmmd import cmmd
from artune.metrics.density_coverage import density_coverage
from artune.metrics.distances import WIDE
from artune.metrics.fid import SPLITS, feature_moments, frechet_distance_of, jackknife_fid
from artune.metrics.inception_score import inception_score, inception_score_left_out
from artune.metrics.jackknife import Jackknifed, mean_left_out, standard_error
from artune.metrics.kid import blocks_of, kid
from artune.metrics.precision_recall import PrecisionRecall, precision_recall, precision_recall_left_out
from artune.runtime.progress import say

Tensors = Mapping[str, Tensor]
# Reason for a number that is missing although the samples are enough (:data:`MAY_BE_MISSING`).
BIAS_LEFT = "the bias that the correction leaves, measured on halves of the samples, is above half a standard error"


def score(
    features: dict[str, np.ndarray],
    reference: dict[str, np.ndarray],
    evaluation: Evaluation,
    classes: int,
    missing: dict[str, str] | None = None,
    left_out: dict[str, Jackknifed] | None = None,
) -> dict[str, float]:
    """All scores of a run by name.

    The scores of :func:`score_against`, ``inception_score``, ``accuracy`` and ``clip_score`` come from the networks of
    the evaluation, ``*_reward`` from those of the rewards. If the scale has only one set of networks, ``fid_reward``
    and ``clip_score_reward`` are equal to ``fid`` and ``clip_score``, and there are no further ``*_reward``. Samples
    without labels have neither an accuracy nor a CLIPScore.

    Args:
        features: arrays of :func:`artune.evaluation.features.sample_features`, which lack ``labels`` and the cosines
            if the samples have no labels. Without ``probabilities`` there is no Inception Score.
        reference: arrays of :func:`artune.inputs.references.write_reference`.
        evaluation: the protocol.
        classes: number of classes of the data set.
        missing: filled as by :func:`score_against`.
        left_out: filled with the values of :func:`artune.evaluation.left_out.scores_left_out`.
    """
    arrays = {key: torch.from_numpy(value) for key, value in features.items()}
    real = {key: torch.from_numpy(value) for key, value in reference.items()}
    without: dict[str, Jackknifed] = {} if left_out is None else left_out
    scores = score_against(arrays, real, evaluation, missing, left_out)
    if "probabilities" in arrays:
        scores |= class_scores(arrays["probabilities"], evaluation, without)
    compared = "clip" in arrays
    if compared:
        scores |= cosine_scores(arrays["clip"], "clip_score")
        without["clip_score"] = mean_left_out(arrays["clip"])
    # The 1008 columns of TensorFlow's Inception have another order.
    if {"labels", "probabilities"} <= arrays.keys() and arrays["probabilities"].shape[1] == classes:
        without["accuracy"] = mean_left_out(arrays["probabilities"].argmax(1) == arrays["labels"])
        scores["accuracy"] = without["accuracy"].value
    own = f"heldout/{evaluation.reward_features}"
    scores |= {"fid_reward": scores["fid"], "fid_reward_se": scores["fid_se"]}
    if "reward_features" in arrays:
        second = jackknife_fid(arrays["reward_features"], real[f"{own}/mu"], real[f"{own}/sigma"])
        scores |= {"fid_reward": second.value, "fid_reward_se": second.standard_error}
    scores |= reward_scores(arrays, real, evaluation, classes, missing)
    return scores | (cosine_scores(arrays.get("reward_clip", arrays["clip"]), "clip_score_reward") if compared else {})


def class_scores(
    probabilities: Tensor, evaluation: Evaluation, left_out: dict[str, Jackknifed] | None = None
) -> dict[str, float]:
    """``inception_score`` of class probabilities [n, C], its standard error and its spread over the chunks.

    ``left_out`` is filled as by :func:`score`.
    """
    probabilities = in_file_order(probabilities, evaluation)
    inception, inception_spread = inception_score(probabilities, evaluation.inception_split)
    without = inception_score_left_out(probabilities, evaluation.inception_split)
    if left_out is not None:
        left_out["inception_score"] = Jackknifed(inception, in_sample_order(without, evaluation))
    return {
        "inception_score": inception,
        "inception_score_se": standard_error(without),
        "inception_score_std": inception_spread,
    }


def score_against(
    arrays: Tensors,
    real: Tensors,
    evaluation: Evaluation,
    missing: dict[str, str] | None = None,
    left_out: dict[str, Jackknifed] | None = None,
) -> dict[str, float]:
    """The scores of samples against one reference.

    They are ``fid``, with features of the reference ``kid``, ``precision`` and ``recall``, and if the arrays and the
    protocol allow it ``sfid``, ``density``, ``coverage``, ``cmmd`` and those of DINOv2 and EfficientNet;
    ``fid_bias_corrected`` only where it is within its own error.

    Args:
        arrays: arrays of the samples from :func:`artune.evaluation.features.sample_features`.
        real: arrays of the reference.
        evaluation: the protocol.
        missing: filled with the reason for each number that is left out.
        left_out: filled as by :func:`score`.
    """
    ours, judged = arrays["features"], f"heldout/{evaluation.features}"
    fid = jackknife_fid(ours, real[f"{judged}/mu"], real[f"{judged}/sigma"])
    scores = {"fid": fid.value, "fid_se": fid.standard_error}
    if left_out is not None:
        left_out["fid"] = Jackknifed(fid.value, fid.changes)
    theirs = real.get(f"{judged}/features")
    if theirs is not None:
        radii = known_radii(real, evaluation.features, evaluation.neighbours)
        scores |= feature_scores(theirs, ours, evaluation, radii, left_out)
    if fid.measures_bias and fid.width >= WIDE:  # of which a split takes seconds
        say(f"FID of {SPLITS[0]} to {SPLITS[1]} random halvings of {len(ours):,} samples, for its bias-corrected value")
    if fid.correction_holds:
        scores["fid_bias_corrected"] = fid.bias_corrected
    elif missing is not None:
        missing["fid_bias_corrected"] = MAY_BE_MISSING["fid_bias_corrected"] if not fid.enough_samples else BIAS_LEFT
    if "spatial" in arrays and f"{judged}/mu_s" in real:
        scores["sfid"] = frechet_distance_of(arrays["spatial"], real[f"{judged}/mu_s"], real[f"{judged}/sigma_s"])
    if evaluation.density_neighbours is not None and theirs is not None:
        spread = density_coverage(theirs, ours, k=evaluation.density_neighbours)
        scores |= {"density": spread.density, "coverage": spread.coverage}
    if evaluation.cmmd is not None:
        judge = cmmd(real[f"heldout/{evaluation.cmmd}/embeddings"], arrays["cmmd"])
        scores |= {"cmmd": judge.value, "cmmd_se": judge.standard_error}
    if evaluation.dinov2 is not None:
        theirs = real[f"heldout/{evaluation.dinov2}/embeddings"]
        distance = jackknife_fid(arrays["dinov2"], *feature_moments(theirs))
        scores |= {"fd_dinov2": distance.value, "fd_dinov2_se": distance.standard_error}
        scores |= spread_scores(theirs, arrays["dinov2"], "dinov2", evaluation.neighbours)
    return scores | third_scores(arrays, real, evaluation, missing)


def feature_scores(
    theirs: Tensor,
    ours: Tensor,
    evaluation: Evaluation,
    radii: Tensor | None = None,
    left_out: dict[str, Jackknifed] | None = None,
) -> dict[str, float]:
    """``kid``, ``precision`` and ``recall`` of features [n, D] against features [m, D] of the reference.

    Args:
        theirs: features of the reference.
        ours: features of the samples.
        evaluation: the protocol.
        radii: exact radii of the reference's balls, if known.
        left_out: filled as by :func:`score`.
    """
    kernel, k, kind = kid(theirs, ours), evaluation.neighbours, evaluation.precision_recall
    known: PrecisionRecall | None = None
    if left_out is not None:
        without = precision_recall_left_out(theirs, ours, k=k, precision=kind, radii=radii if kind == "exact" else None)
        left_out |= {
            "kid": Jackknifed(kernel.value, kernel.changes),
            "precision": Jackknifed(without.precision, without.precisions),
            "recall": Jackknifed(without.recall, without.recalls),
        }
        # Distances in half precision may differ in a bit with the size of the block that they are computed in.
        known = without.whole if kind == "exact" else None
    found = {
        "exact": known or precision_recall(theirs, ours, k=k, radii=radii),
        "adm_half": precision_recall(theirs, ours, k=k, precision="adm_half"),
    }
    chosen = found[evaluation.precision_recall]
    return {
        "kid": kernel.value,
        "kid_se": kernel.standard_error,
        "precision": chosen.precision,
        "precision_se": chosen.precision_standard_error,
        "recall": chosen.recall,
        **{f"precision_{kind}": value.precision for kind, value in found.items()},
        **{f"recall_{kind}": value.recall for kind, value in found.items()},
    }


def kid_pairs(reference: Mapping[str, np.ndarray], evaluation: Evaluation, n: int) -> str | None:
    """The pairs from which KID of n samples is taken, in words; None if the reference has no features."""
    theirs = reference.get(f"heldout/{evaluation.features}/features")
    return None if theirs is None else blocks_of(len(theirs), n).described(len(theirs), n)


def cosine_scores(cosines: Tensor, name: str) -> dict[str, float]:
    """CLIPScore as in the paper's tables, which is the mean raw cosine, and its standard error."""
    cosines = cosines.double()
    return {name: cosines.mean().item(), f"{name}_se": (cosines.std() / len(cosines) ** 0.5).item()}
