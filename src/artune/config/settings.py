"""Types of ``config/config.yaml``: what a user sets."""

from typing import Literal

from pydantic import Field

from artune.config.fields import Frozen, Positive


class Figure2(Frozen):
    """What may be changed about Figure 2 without training anything."""

    smoothing: Positive = 15  # iterations of the moving average
    compare: tuple[str, ...] = ()  # further runs to draw


class Settings(Frozen):
    """``config/config.yaml``: what a user sets."""

    scale: str
    seeds: Positive = 1
    preset: str = "paper"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Positive = 1
    assets: str = "data/assets"
    tracking_uri: str = "sqlite:///results/mlflow.db"
    figure2: Figure2 = Figure2()


class About(Frozen):
    """What a scale says of itself."""

    note: str = ""  # printed beside every number of the scale
    pretrained_per_seed: bool = False  # a prior for every seed, or the one released file
    feature_dim: int | None = None  # D of LOO-FID's network, for Table 9
    unavailable: dict[str, str] = Field(default_factory=dict)  # run -> why it cannot be had here, one word or two
    notes: dict[str, str] = Field(default_factory=dict)  # run -> what else must be said of it at this scale


class Asset(Frozen):
    """A file from outside."""

    file: str
    source: str
    license: str
    sha256: str | None = None
    sha256_prefix: str | None = None  # all that some sources publish
    url: str | None = None  # may be fetched without an account
    bring: bool = False  # a licence, a login or no direct link: the user's own copy
    size: str | None = None  # about, for people
    optional: str | None = None  # what it serves where no rule needs it
