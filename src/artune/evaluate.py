"""The command ``evaluate``: from features to scores.json (paper, Sec. 4)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from artune.config import Evaluation, Run
from artune.errors import ArtuneError
from artune.files import load_npz, write_json
from artune.metrics.fid import jackknife_fid
from artune.metrics.inception_score import inception_score
from artune.metrics.kid import kid
from artune.metrics.precision_recall import precision_recall


def score(
    features: dict[str, np.ndarray], reference: dict[str, np.ndarray], evaluation: Evaluation, classes: int
) -> dict[str, float]:
    """Every score of a run.

    ``fid``, ``kid``, ``precision``, ``recall``, ``inception_score``, ``accuracy`` and ``clip_score`` come from the
    evaluation's networks, ``*_reward`` from the reward's own; they are equal where the scale has but one.

    Args:
        features: arrays of :func:`artune.features.sample_features`.
        reference: arrays of :func:`artune.features.write_reference`.
        evaluation: the protocol.
        classes: of the data set.
    """
    arrays = {key: torch.from_numpy(value) for key, value in features.items()}
    real = {key: torch.from_numpy(value) for key, value in reference.items()}
    ours, judged = arrays["features"], f"heldout/{evaluation.features}"
    fid = jackknife_fid(ours, real[f"{judged}/mu"], real[f"{judged}/sigma"])
    distance = kid(real[f"{judged}/features"], ours)
    mode = evaluation.precision_recall
    coverage = {
        kind: precision_recall(real[f"{judged}/features"], ours, k=evaluation.neighbours, precision=kind)
        for kind in ("exact", "adm_half")
    }
    inception, inception_spread = inception_score(arrays["probabilities"], evaluation.inception_split)
    scores = {
        "fid": fid.value,
        "fid_se": fid.standard_error,
        "fid_bias_corrected": fid.bias_corrected,
        "kid": distance.value,
        "kid_se": distance.standard_error,
        "inception_score": inception,
        "inception_score_std": inception_spread,
        "precision": coverage[mode].precision,
        "precision_se": coverage[mode].precision_standard_error,
        "recall": coverage[mode].recall,
        **{f"precision_{kind}": found.precision for kind, found in coverage.items()},
        **{f"recall_{kind}": found.recall for kind, found in coverage.items()},
        **cosine_scores(arrays["clip"], "clip_score"),
    }
    if arrays["probabilities"].shape[1] == classes:  # the 1008 columns of TF's Inception are in an order of their own
        scores["accuracy"] = (arrays["probabilities"].argmax(1) == arrays["labels"]).double().mean().item()
    own = f"heldout/{evaluation.reward_features}"
    rewarded = arrays.get("reward_features", ours)
    second = jackknife_fid(rewarded, real[f"{own}/mu"], real[f"{own}/sigma"]) if "reward_features" in arrays else fid
    scores |= {"fid_reward": second.value, "fid_reward_se": second.standard_error}
    return scores | cosine_scores(arrays.get("reward_clip", arrays["clip"]), "clip_score_reward")


def cosine_scores(cosines: Tensor, name: str) -> dict[str, float]:
    """CLIPScore as the paper's tables have it, the mean raw cosine, and its standard error."""
    cosines = cosines.double()
    return {name: cosines.mean().item(), f"{name}_se": (cosines.std() / len(cosines) ** 0.5).item()}


def median_milliseconds(timings: Path, key: str = "time/loo_fid") -> float | None:
    """Median over iterations of a stage's time (Table 9), None where it was not timed."""
    lines = [json.loads(line) for line in timings.read_text(encoding="utf-8").splitlines()]
    values = [line[key] for line in lines if key in line]
    return 1000.0 * float(np.median(values)) if values else None


def evaluate(
    run: Run,
    evaluation: Evaluation,
    features_path: Path,
    reference_path: Path,
    timings: Path | None,
    provenance: dict[str, Any],
    output: Path,
) -> str:
    """Write scores.json: the scores, and everything that a row must carry to be compared (n, labels, cfg, ...).

    Raises:
        ArtuneError: a file is missing or damaged, or a score is not finite.
    """
    features = load_npz(features_path)
    reference = load_npz(reference_path)
    scores = score(features, reference, evaluation, run.data.classes)
    bad = [name for name, value in scores.items() if not np.isfinite(value)]
    if bad:
        raise ArtuneError(f"{features_path}: {', '.join(bad)} is not finite; delete it and run again")
    if timings is not None and (milliseconds := median_milliseconds(timings)) is not None:
        scores["loo_fid_ms"] = milliseconds
    roles = ("features", "classifier", "clip", "reward_features", "reward_clip")
    write_json(
        output,
        {
            "run": run.name,
            "base": run.base,
            "scale": run.scale,
            "seed": run.seed,
            "n": len(features["labels"]),
            "labels": evaluation.labels,
            "cfg": run.sampling.cfg,
            "top_k": run.sampling.top_k,
            "top_p": run.sampling.top_p,
            "temperature": run.sampling.temperature,
            "reference": evaluation.reference,
            "precision_recall": evaluation.precision_recall,
            "networks": {role: getattr(evaluation, role) for role in roles},
            "evaluation_seed": evaluation.seed,
            "versions": provenance,
            "scores": scores,
        },
    )
    return f"{output}: FID {scores['fid']:.2f} +- {scores['fid_se']:.2f}, recall {scores['recall']:.3f}"
