"""Types of ``config/config.yaml``, which holds the user's settings, of a scale's remarks and of the assets."""

import functools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from artune.config.fields import Frozen, NonNegative, Positive
from artune.config.run import Backbone
from artune.config.yaml_layers import Tree, merge
from artune.errors import ArtuneError

PRESETS = ("paper", "release")


def results_name(scale: str, preset: str) -> str:
    """Name of a scale's folder in ``results/`` and of its MLflow experiment: ``mnist``, or ``mnist-release``."""
    return scale if preset == "paper" else f"{scale}-{preset}"


class Figure2(Frozen):
    """Settings of Figure 2 whose change trains nothing again."""

    smoothing: Positive = 15  # iterations of the moving average
    compare: tuple[str, ...] = ()  # further runs to draw


class Settings(Frozen):
    """The user's settings in ``config/config.yaml``."""

    scale: str
    seeds: Positive = 1
    preset: str = "paper"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Positive = 1
    assets: str = "data/assets"
    datasets: str = "/usr/share/datasets"  # where packages put data sets; read before anything is fetched
    tracking_uri: str = "sqlite:///results/mlflow.db"
    figure2: Figure2 = Figure2()

    @field_validator("assets", "datasets")
    @classmethod
    def _in_full(cls, folder: str) -> str:
        """Replace ``~`` and environment variables; a variable that is not set is an error."""
        full = os.path.expandvars(os.path.expanduser(folder))
        unset = re.search(r"\$\{?\w+\}?", full)
        if unset and not os.path.exists(full):
            raise ValueError(f"{unset[0]} is not set")
        return str(Path(full))  # without a slash at its end


Measured = Annotated[
    dict[str, NonNegative], Field(min_length=1)
]  # backbone -> seconds; the first stands for the others


class Seconds(Frozen):
    """What parts of an embedded scale take, in CPU seconds of one thread, by the backbone that was timed."""

    inputs: NonNegative  # data, tokenizer, codes, frozen networks, reference; once
    prior: Measured
    grpo: Measured  # an iteration
    mle: Measured  # an iteration
    vapi: Measured  # an iteration
    evaluation: Measured  # a run's samples, their features and scores


class About(Frozen):
    """Remarks of a scale on itself."""

    note: str = ""  # printed beside every number of the scale
    pretrained_per_seed: bool = False  # whether every seed has its own prior, not the one released file
    feature_dim: int | None = None  # D of LOO-FID's network, for Table 9
    room: Positive = 2  # GB that must be free on the disk of the results
    seconds: Seconds | None = None  # of an embedded scale, for the command plan; a scale above does not inherit them
    seeds: dict[str, Positive] = Field(
        default_factory=dict
    )  # run, or `others` -> most repetitions, whatever is asked for
    unavailable: dict[str, str] = Field(default_factory=dict)  # run -> why it is not available here, in a word or two
    notes: dict[str, str] = Field(default_factory=dict)  # run -> a further remark on it at this scale
    snapshots: bool = False  # whether trainings keep the weights that runs with `at` are sampled from


def merged_remarks(layers: Sequence[Tree]) -> Tree:
    """The sections ``about`` of a scale and of those below it, merged, lowest first.

    Seconds count in the scale's own file only: measured at other sizes, they say nothing about this one.
    """
    below = [{key: value for key, value in layer.items() if key != "seconds"} for layer in layers[:-1]]
    return functools.reduce(merge, [*below, *layers[-1:]], {})


class Asset(Frozen):
    """An external file, which the project does not ship."""

    file: str
    source: str
    license: str
    sha256: str | None = None
    sha256_prefix: str | None = None  # some sources publish only this
    url: str | None = None  # address from which it may be fetched without an account
    packed: str | None = None  # its name where it lies compressed by gzip, below assets or datasets; url sends that
    package: str | None = None  # the Debian package that puts it into datasets
    bring: bool = False  # the user brings a copy: a licence, a login or no direct link
    size: str | None = None  # approximate, for display
    tokens: Positive | None = None  # of a policy: tokens per image that it was trained on
    optional: str | None = None  # what the file is for if no rule needs it


def require_tokens(assets: Mapping[str, Asset], checkpoint: Any, name: str, backbone: Backbone, run: str) -> None:
    """Refuse a policy's weights that were trained on images of another size, since they would fit the backbone as well.

    Args:
        assets: the external files.
        checkpoint: key of the weights; None: those of the backbone. What is no known key passes; other checks name it.
        name: name of the backbone.
        backbone: its settings.
        run: file and run, for the message.

    Raises:
        ArtuneError: the weights were trained on another number of tokens per image than the backbone has.
    """
    key = checkpoint or backbone.checkpoint
    asset = assets.get(key) if isinstance(key, str) else None
    if asset is not None and asset.tokens not in (None, backbone.tokens):
        raise ArtuneError(
            f"{run}: backbone: {name} has {backbone.tokens} tokens per image, but the weights of asset {key} were "
            f"trained on {asset.tokens}; name a backbone of {asset.tokens} tokens (config/backbones.yaml) or other "
            "weights"
        )
