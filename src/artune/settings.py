"""Types of ``config/config.yaml``: what a user sets."""

from typing import Literal

from artune.schema import Frozen, Positive


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
