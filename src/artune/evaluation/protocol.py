"""What makes a row of scores official: ADM's protocol, and how a run departs from it. Never imports torch."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from artune.config.run import Evaluation, Run

# 50,000 images of 256 pixels, the 2015 Inception, ADM's reference file, distances in half precision, chunks of 5,000.
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
Files = Mapping[str, Mapping[str, str | None]]


def protocol(run: Run, evaluation: Evaluation, n: int, files: Files) -> str:
    """``official``, or how the row departs from it; rows of different protocols are never compared.

    Args:
        run: what was sampled.
        evaluation: how it was scored.
        n: images that were scored.
        files: as :func:`artune.data.assets.evaluation_files` gives them.
    """
    if run.data.source != "imagenet":
        return f"{run.scale} scale"
    facts: dict[str, Any] = evaluation.model_dump() | {"n": n, "image_size": run.data.image_size}
    differs = [f"{name} {facts[name]}, not {value}" for name, value in OFFICIAL.items() if facts[name] != value]
    differs += [f"digest of {key} unknown" for key, file in files.items() if file["sha256"] is None]
    return "; ".join(differs) or "official"


def file_order(n: int, seed: int) -> np.ndarray:
    """The order [n] in which samples are cut into chunks for the Inception score.

    Of NumPy's legacy generator, whose stream is frozen: every environment draws the same order.
    """
    return np.random.RandomState(seed).permutation(n)
