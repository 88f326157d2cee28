"""The command ``evaluate``: from features to scores.json (paper, Sec. 4)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from artune.config.run import Evaluation, RealRun, Run
from artune.config.sizes import decoded_size
from artune.data.classes.labels import class_ids
from artune.data.prompts import prompts_digest
from artune.errors import ArtuneError
from artune.evaluation.left_out import keep
from artune.evaluation.other_networks import FIRST
from artune.evaluation.protocol import OutsideFiles, protocol
from artune.evaluation.scores import kid_pairs, score, score_against
from artune.metrics.jackknife import Jackknifed
from artune.runtime.files import load_npz, npz_names, read_jsonl, write_json


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
    and ``missing_against`` give the reason for each number that is not shown. Where Precision and Recall are exact, the
    scores without each sample cost little more and are kept beside it (:mod:`artune.evaluation.left_out`).

    Args:
        run: the run that was sampled.
        evaluation: settings of the evaluation.
        files: files that are read and written.
        provenance: commit, versions and device.
        outside: external files that the scores depend on, by key.

    Raises:
        ArtuneError: a file is missing or damaged, a label is not a class id, or a score is not finite.
    """
    features = _read_features(files.features, run.data.classes)
    n, labelled, missing = len(features["features"]), "labels" in features, dict[str, str]()
    real = load_npz(files.reference) | (load_npz(files.third) if files.third else {})
    left_out: dict[str, Jackknifed] | None = {} if evaluation.precision_recall == "exact" else None
    scores = score(features, real, evaluation, run.data.classes, missing, left_out)
    _check_finite(scores, f"{files.features} or {files.reference}")
    if left_out is not None:
        keep(files.output, files.features, files.reference, evaluation, left_out)
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


def _read_features(path: Path, classes: int) -> dict[str, np.ndarray]:
    """All arrays of features.npz; samples from others may have no labels."""
    labelled = "labels" in npz_names(path)
    load_npz(path, "features", "probabilities", *(["clip"] if labelled else []))  # names a missing array
    features = load_npz(path)
    if labelled:
        features["labels"] = class_ids(features["labels"], len(features["features"]), classes, f"{path}: labels")
    return features


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
