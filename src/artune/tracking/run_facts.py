"""What MLflow shows beside the curves of a run: the settings that people compare, its data sets, its owner."""

import colorsys
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artune.config.methods import used
from artune.config.registry import RUN_SECTIONS, Registry
from artune.config.yaml_layers import leaves
from artune.runtime.files import read_json, sha256

# Parameters of every run that has them. Those that a line of config/experiments.yaml sets come on top; every other
# setting stands in the artifact config.yaml.
COMPARED = (
    "method", "backbone_name", "seed", "tokenizer_seed", "networks_seed", "checkpoint", "at", "images",
    "sampling.cfg", "sampling.temperature", "sampling.top_k", "sampling.top_p",
    "rewards.terms", "rewards.weights", "rewards.loo_fid.alpha", "rewards.loo_fid.covariance",
    "entropy.enabled", "entropy.c0", "entropy.target",
    *(f"grpo.{key}" for key in ("iterations", "prompts", "group_size", "epochs", "clip", "beta", "learning_rate")),
    *(f"mle.{key}" for key in ("iterations", "batch", "learning_rate")),
    *(f"vapi.{key}" for key in ("iterations", "images", "group_size", "learning_rate")),
)  # fmt: skip


def compared_settings(registry: Registry, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run that people compare, by dotted key: the parameters of its page.

    Args:
        registry: registry of the run's scale.
        spec: the run's resolved settings.
    """
    set_by_lines = {key for line in registry.lines.values() for key in leaves(dict(line))}
    wanted = (*COMPARED, *(key for key in set_by_lines if "." in key and key.split(".")[0] in RUN_SECTIONS))
    return {
        key: " + ".join(map(str, value)) if isinstance(value, list) else value
        for key, value in leaves(used(dict(spec))).items()
        if any(key == one or key.startswith(f"{one}.") for one in wanted)
    }


STEP = 0.35  # of the colour circle between the colours of two neighbours


@dataclass(frozen=True)
class DataFile:
    """A file of real images, or of numbers that were computed from them, that a run was trained or scored with."""

    name: str  # for example "mnist training images"
    use: str  # "training" or "evaluation"
    path: Path  # the file, or the stamp of a file or folder from outside

    def digest(self) -> str | None:
        """The first 16 hexadecimal digits of its SHA-256; None if the file is not there."""
        try:
            found = self.path.stat()
            return _digest(self.path, found.st_size, found.st_mtime_ns)
        except OSError:
            return None


def data_of(scale: str, images: str, reference: str) -> tuple[DataFile, ...]:
    """What every run of a scale is trained with and scored against.

    Args:
        scale: name of the scale.
        images: data.npz, or the stamp of the training images from outside.
        reference: reference.npz.
    """
    return (
        DataFile(f"{scale} training images", "training", Path(images)),
        DataFile(f"{scale} reference", "evaluation", Path(reference)),
    )


@functools.lru_cache(maxsize=64)
def _digest(path: Path, size: int, changed: int) -> str:
    """Digest of a file, computed once as long as its size and time of change stay the same."""
    return str(read_json(path)["sha256"] if path.suffix == ".json" else sha256(path))[:16]


def owner_of(path: Path) -> dict[str, str]:
    """The tag that names who made a run: the owner of its files, or nothing where that is a number without a name."""
    try:
        return {"mlflow.user": path.owner()}
    except (KeyError, OSError):
        return {}


def colour_of(registry: Registry, base: str) -> dict[str, str]:
    """The tag with the colour of a run's dot and curve: neighbours among the lines of experiments.yaml differ clearly.

    MLflow's own colours come from the runs' ids, and two of four are easily alike.
    """
    place = list(registry.lines).index(base) if base in registry.lines else 0
    parts = colorsys.hls_to_rgb(place * STEP % 1.0, 0.42, 0.7)
    return {"mlflow.runColor": "#" + "".join(f"{round(255 * part):02x}" for part in parts)}
