"""Leave-one-out values of a run's scores: computed from its features, or kept beside scores.json by ``evaluate``."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from artune import RESULTS_VERSION
from artune.config.run import Evaluation
from artune.errors import ArtuneError
from artune.evaluation.other_networks import in_file_order, in_sample_order
from artune.metrics.fid import jackknife_fid
from artune.metrics.inception_score import inception_score, inception_score_left_out
from artune.metrics.jackknife import Jackknifed, mean_left_out
from artune.metrics.kid import kid
from artune.metrics.precision_recall import precision_recall_left_out
from artune.runtime.files import load_npz, save_npz, sha256


def scores_left_out(
    features: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    evaluation: Evaluation,
    classes: int,
    radii: Tensor | None = None,
) -> dict[str, Jackknifed]:
    """The scores of a run that the glossary marks as compared; no ``accuracy`` if the classifier has other classes.

    Samples without labels have neither ``accuracy`` nor ``clip_score``; without class probabilities there is no
    ``inception_score``, and without features of the reference only ``fid``.

    Args:
        features: ``features``, ``probabilities``, and with labels ``labels`` and ``clip``, from
            :func:`artune.evaluation.features.sample_features`.
        reference: arrays ``heldout/{network}/{mu,sigma,features}``.
        evaluation: the protocol.
        classes: number of classes of the data set.
        radii: of the reference's balls, from :func:`artune.metrics.precision_recall.neighbour_radii`, if known.
    """
    arrays, judged = {key: torch.from_numpy(value) for key, value in features.items()}, f"heldout/{evaluation.features}"
    real = {key: torch.from_numpy(reference[f"{judged}/{key}"]) for key in ("mu", "sigma")}
    ours = arrays["features"]
    fid = jackknife_fid(ours, real["mu"], real["sigma"])
    scores = {"fid": Jackknifed(fid.value, fid.changes)}
    theirs = reference.get(f"{judged}/features")
    if theirs is not None:
        kernel = kid(torch.from_numpy(theirs), ours)
        scores["kid"] = Jackknifed(kernel.value, kernel.changes)
    if "probabilities" in arrays:
        ordered, split = in_file_order(arrays["probabilities"], evaluation), evaluation.inception_split
        without = in_sample_order(inception_score_left_out(ordered, split), evaluation)
        scores["inception_score"] = Jackknifed(inception_score(ordered, split)[0], without)
    if theirs is not None:
        k, mode = evaluation.neighbours, evaluation.precision_recall
        found = precision_recall_left_out(torch.from_numpy(theirs), ours, k=k, precision=mode, radii=radii)
        scores["precision"] = Jackknifed(found.precision, found.precisions)
        scores["recall"] = Jackknifed(found.recall, found.recalls)
    if "clip" in arrays:
        scores["clip_score"] = mean_left_out(arrays["clip"])
    if {"labels", "probabilities"} <= arrays.keys() and arrays["probabilities"].shape[1] == classes:
        scores["accuracy"] = mean_left_out(arrays["probabilities"].argmax(1) == arrays["labels"])
    return scores


def kept_in(scores: Path) -> Path:
    """The file that ``evaluate`` writes beside its scores.json."""
    return scores.with_suffix(".left_out.npz")


def keep(
    scores: Path, features: Path, reference: Path, evaluation: Evaluation, found: Mapping[str, Jackknifed]
) -> None:
    """Write values beside scores.json, in the order of the samples.

    Args:
        scores: scores.json.
        features: features.npz of the samples.
        reference: reference.npz.
        evaluation: the protocol.
        found: the values by score.
    """
    values = {f"{name}/left_out": score.left_out.numpy() for name, score in found.items()}
    whole = {f"{name}/value": np.array(score.value) for name, score in found.items()}
    save_npz(kept_in(scores), {"origin": _origin(features, reference, evaluation)} | whole | values)


def kept(scores: Path, features: Path, reference: Path, evaluation: Evaluation) -> dict[str, Jackknifed]:
    """The values that :func:`keep` wrote, if the same code made them from the same files by the same protocol."""
    if not (path := kept_in(scores)).exists():
        return {}
    try:
        arrays = load_npz(path)
    except ArtuneError:  # damaged: they can be computed again
        return {}
    if "origin" not in arrays or not np.array_equal(arrays["origin"], _origin(features, reference, evaluation)):
        return {}
    names = [name.removesuffix("/value") for name in arrays if name.endswith("/value")]
    return {
        name: Jackknifed(float(arrays[f"{name}/value"]), torch.from_numpy(arrays[f"{name}/left_out"])) for name in names
    }


def _origin(features: Path, reference: Path, evaluation: Evaluation) -> np.ndarray:
    """Digest of all that the values of a run depend on, uint8 [32]."""
    facts = [str(RESULTS_VERSION), sha256(features), sha256(reference), evaluation.model_dump_json()]
    return np.frombuffer(hashlib.sha256("\n".join(facts).encode()).digest(), np.uint8)
