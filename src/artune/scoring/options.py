"""The options of the command ``score``, which the command line reads without importing anything else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

TRAPS = {  # what --accept may name -> why it is refused without that
    "jpeg": "samples that lost detail in a JPEG (or lossy WebP) file, against a reference that did not",
    "size": "samples and reference of different sizes",
    "resize": "statistics that were made with another resize than the network's own",
}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "--reference": {
        "type": Path,
        "required": True,
        "metavar": "PATH",
        "help": "the real images: ADM's npz, an npz, folder or tar of images, or saved statistics or features",
    },
    "--against": {
        "type": Path,
        "metavar": "PATH",
        "help": "a second set: its scores minus those of the samples, with paired errors",
    },
    "--networks": {
        "type": Path,
        "nargs": "+",
        "metavar": "PATH",
        "help": "weight files or their folders (default: assets in config/config.yaml)",
    },
    "--labels": {
        "type": Path,
        "metavar": "PATH",
        "help": "class ids: an npz with labels, or a text file of one a line",
    },
    "--captions": {"type": Path, "metavar": "PATH", "help": "captions: a text file of one a line"},
    "--accept": {"nargs": "+", "choices": sorted(TRAPS), "default": [], "help": "score in spite of these differences"},
    "--batch": {"type": int, "metavar": "N", "help": "images per forward pass (default: the scale's)"},
    "--cache": {"type": Path, "metavar": "PATH", "help": "folder of the features (default: beside the images)"},
    "--output": {"type": Path, "metavar": "PATH", "help": "JSON to write, with a CSV beside it (default: as --cache)"},
    "--mlflow": {
        "nargs": "?",
        "const": "",
        "metavar": "URI",
        "help": "log to this MLflow store (without URI: MLFLOW_TRACKING_URI, or that of config/config.yaml)",
    },
    "--experiment": {"default": "scores", "help": "MLflow experiment (default: scores)"},
}
