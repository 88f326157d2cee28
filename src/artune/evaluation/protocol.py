"""ADM's protocol, which makes a row of scores official, and the departures of a run from it. Never imports torch."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from artune.config.run import Evaluation, Run

# 50,000 images of 256 x 256 pixels, Inception of 2015, ADM's reference file, half-precision distances, chunks of 5,000.
OFFICIAL = {
    "n": 50_000,
    "image_size": 256,
    "features": "inception",
    "classifier": "inception",
    "reference": "adm_virtual",
    "precision_recall": "adm_half",
    "neighbours": 3,
    "inception_split": 5000,
}
OutsideFiles = Mapping[str, Mapping[str, str | None]]


def protocol(run: Run, evaluation: Evaluation, n: int, files: OutsideFiles) -> str:
    """``official``, or the departures from that protocol; rows of different protocols are never compared.

    Args:
        run: the run that was sampled.
        evaluation: settings of the evaluation.
        n: number of images that were scored.
        files: result of :func:`artune.data.assets.evaluation_files`.
    """
    if run.data.embedded:
        return f"{run.scale} scale"
    facts: dict[str, Any] = evaluation.model_dump() | {"n": n, "image_size": run.data.image_size}
    differs = [f"{name} {facts[name]}, not {value}" for name, value in OFFICIAL.items() if facts[name] != value]
    differs += [f"digest of {key} unknown" for key, file in files.items() if file["sha256"] is None]
    return "; ".join(differs) or "official"


def file_order(n: int, seed: int) -> np.ndarray:
    """The order [n] in which samples are cut into chunks for the Inception score.

    The order comes from NumPy's legacy generator, whose stream is frozen, so every environment draws the same one.
    """
    return np.random.RandomState(seed).permutation(n)
