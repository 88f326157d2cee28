"""The command ``evaluate``: from features to scores.json (paper, Sec. 4)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from artune.config.glossary import MAY_BE_MISSING
from artune.config.run import Evaluation, RealRun, Run
from artune.config.sizes import decoded_size
from artune.data.classes.labels import class_ids
from artune.data.prompts import prompts_digest
from artune.errors import ArtuneError
from artune.evaluation.other_networks import FIRST, in_file_order, reward_scores, spread_scores, third_scores
from artune.evaluation.protocol import OutsideFiles, protocol
from artune.metrics.cmmd import cmmd
from artune.metrics.density_coverage import density_coverage
from artune.metrics.distances import WIDE
from artune.metrics.fid import SPLITS, feature_moments, frechet_distance_of, jackknife_fid
from artune.metrics.inception_score import inception_score, inception_score_left_out
from artune.metrics.jackknife import standard_error
from artune.metrics.kid import blocks_of, kid
from artune.metrics.precision_recall import precision_recall
from artune.runtime.files import load_npz, npz_names, npz_shape, read_jsonl, write_json
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
    """
    arrays = {key: torch.from_numpy(value) for key, value in features.items()}
    real = {key: torch.from_numpy(value) for key, value in reference.items()}
    scores = score_against(arrays, real, evaluation, missing)
    if "probabilities" in arrays:
        scores |= class_scores(arrays["probabilities"], evaluation)
    compared = "clip" in arrays
    if compared:
        scores |= cosine_scores(arrays["clip"], "clip_score")
    # The 1008 columns of TensorFlow's Inception have another order.
    if {"labels", "probabilities"} <= arrays.keys() and arrays["probabilities"].shape[1] == classes:
        scores["accuracy"] = (arrays["probabilities"].argmax(1) == arrays["labels"]).double().mean().item()
    own = f"heldout/{evaluation.reward_features}"
    scores |= {"fid_reward": scores["fid"], "fid_reward_se": scores["fid_se"]}
    if "reward_features" in arrays:
        second = jackknife_fid(arrays["reward_features"], real[f"{own}/mu"], real[f"{own}/sigma"])
        scores |= {"fid_reward": second.value, "fid_reward_se": second.standard_error}
    scores |= reward_scores(arrays, real, evaluation, classes, missing)
    return scores | (cosine_scores(arrays.get("reward_clip", arrays["clip"]), "clip_score_reward") if compared else {})


def class_scores(probabilities: Tensor, evaluation: Evaluation) -> dict[str, float]:
    """``inception_score`` of class probabilities [n, C], its standard error and its spread over the chunks."""
    probabilities = in_file_order(probabilities, evaluation)
    inception, inception_spread = inception_score(probabilities, evaluation.inception_split)
    return {
        "inception_score": inception,
        "inception_score_se": standard_error(inception_score_left_out(probabilities, evaluation.inception_split)),
        "inception_score_std": inception_spread,
    }


def score_against(
    arrays: Tensors, real: Tensors, evaluation: Evaluation, missing: dict[str, str] | None = None
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
    """
    ours, judged = arrays["features"], f"heldout/{evaluation.features}"
    fid = jackknife_fid(ours, real[f"{judged}/mu"], real[f"{judged}/sigma"])
    scores = {"fid": fid.value, "fid_se": fid.standard_error}
    theirs = real.get(f"{judged}/features")
    if theirs is not None:
        scores |= feature_scores(theirs, ours, evaluation)
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


def feature_scores(theirs: Tensor, ours: Tensor, evaluation: Evaluation) -> dict[str, float]:
    """``kid``, ``precision`` and ``recall`` of features [n, D] against features [m, D] of the reference."""
    kernel = kid(theirs, ours)
    found = {
        kind: precision_recall(theirs, ours, k=evaluation.neighbours, precision=kind) for kind in ("exact", "adm_half")
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


def _origin(run: Run, evaluation: Evaluation, labelled: bool) -> dict[str, Any]:
    """The origin of a row's images: labels, seeds of its inputs, sampling, decoded size, resize and rounding."""
    facts: dict[str, Any] = run.model_dump(include={"tokenizer_seed", "networks_seed"}, exclude_defaults=True)
    facts["labels"] = evaluation.labels if labelled else "none"
    if isinstance(run, RealRun):
        names = ("cfg", "top_k", "top_p", "temperature", "decoded_size", "uint8_rule")
        resize = "none" if run.data.embedded else "ADM's centre crop"
        return facts | {"images": run.images} | dict.fromkeys(names) | {"resize": resize}
    decoded = decoded_size(run.backbone, run.tokenizer)
    return facts | {
        "images": "sampled",
        "cfg": run.sampling.cfg,
        "top_k": run.sampling.top_k,
        "top_p": run.sampling.top_p,
        "temperature": run.sampling.temperature,
        "decoded_size": decoded,
        "resize": "none" if decoded == run.data.image_size else "bicubic, no antialias",
        "uint8_rule": run.backbone.uint8_rule,
    }


def _check_finite(scores: Mapping[str, float], where: str) -> None:
    if bad := [name for name, value in scores.items() if not np.isfinite(value)]:
        raise ArtuneError(f"{where}: {', '.join(bad)} is not finite; delete the file and run again")


def median_milliseconds(timings: Path, key: str = "time/loo_fid") -> float | None:
    """Median over iterations of a stage's time (Table 9); None if the stage was not timed."""
    values = [line[key] for line in read_jsonl(timings) if key in line]
    return 1000.0 * float(np.median(values)) if values else None


@dataclass(frozen=True)
class ScoreFiles:
    """The files of the command ``evaluate``."""

    features: Path  # features.npz
    reference: Path  # reference.npz
    output: Path  # scores.json
    timings: Path | None = None  # timings.jsonl of the training
    references: Mapping[str, Path] = field(default_factory=dict)  # further references by name
    third: Path | None = None  # embeddings of the reference's images under the judge that nobody here trained


def evaluate(
    run: Run, evaluation: Evaluation, files: ScoreFiles, provenance: dict[str, Any], outside: OutsideFiles | None = None
) -> str:
    """Write scores.json: the scores, and all facts that a row needs to be compared (n, labels, cfg, ...).

    ``scores`` are against the reference, and ``references`` holds those against each further reference. ``missing``
    and ``missing_against`` give the reason for each number that is not shown.

    Args:
        run: the run that was sampled.
        evaluation: settings of the evaluation.
        files: files that are read and written.
        provenance: commit, versions and device.
        outside: external files that the scores depend on, by key.

    Raises:
        ArtuneError: a file is missing or damaged, a label is not a class id, or a score is not finite.
    """
    labelled = "labels" in npz_names(files.features)  # samples from others may have none
    load_npz(files.features, "features", "probabilities", *(["clip"] if labelled else []))  # names a missing array
    features, n = load_npz(files.features), npz_shape(files.features, "features")[0]
    if labelled:
        features["labels"] = class_ids(features["labels"], n, run.data.classes, f"{files.features}: labels")
    missing: dict[str, str] = {}
    real = load_npz(files.reference) | (load_npz(files.third) if files.third else {})
    scores = score(features, real, evaluation, run.data.classes, missing)
    _check_finite(scores, f"{files.features} or {files.reference}")
    further, missing_against = _further_scores(run, evaluation, features, files.references)
    if files.timings is not None and (milliseconds := median_milliseconds(files.timings)) is not None:
        scores["loo_fid_ms"] = milliseconds
    write_json(
        files.output,
        {
            "run": run.name,
            "base": run.base,
            "scale": run.scale,
            "preset": run.preset,
            "seed": run.seed,
            "n": n,
            **_origin(run, evaluation, labelled),
            "reference": evaluation.reference,
            "protocol": protocol(run, evaluation, n, outside or {}),
            "precision_recall": evaluation.precision_recall,
            "kid_pairs": kid_pairs(real, evaluation, n),
            "networks": evaluation.networks,
            "evaluation_seed": evaluation.seed,
            "evaluation": evaluation.model_dump(mode="json"),
            "image_size": run.data.image_size,
            **evaluation.model_dump(include={"inception_split", "inception_shuffle"}),
            "tf32": False,
            "prompts_sha256": prompts_digest(run.data),
            "files": dict(outside or {}),
            "versions": provenance,
            "scores": scores,
            "references": further,
            "missing": missing,
            "missing_against": missing_against,
        },
    )
    return f"{files.output}: {_told(scores, missing, labelled)}"


def _told(scores: Mapping[str, float], missing: Mapping[str, str], labelled: bool) -> str:
    """The scores in a few words, and which scores there are not."""
    line = f"FID {scores['fid']:.2f} +- {scores['fid_se']:.2f}, recall {scores['recall']:.3f}"
    line += f"; no scores of EfficientNet: {missing[FIRST]}" if FIRST in missing else ""
    return line if labelled else f"{line}; the samples have no labels, so there is no accuracy and no CLIPScore"


def _further_scores(
    run: Run, evaluation: Evaluation, features: Mapping[str, np.ndarray], references: Mapping[str, Path]
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, str]]]:
    """The scores against each further reference, except one from which the images themselves were taken.

    With them come the reasons for missing numbers, by reference.
    """
    arrays = {key: torch.from_numpy(value) for key, value in features.items()}
    found, missing = {}, {}
    for name, path in references.items():
        if isinstance(run, RealRun) and name == run.images:
            continue
        real = {key: torch.from_numpy(value) for key, value in load_npz(path).items()}
        missing[name] = dict[str, str]()
        found[name] = score_against(arrays, real, evaluation, missing[name])
        _check_finite(found[name], str(path))
    return found, missing
