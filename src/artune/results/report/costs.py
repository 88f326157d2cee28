"""The costs of an iteration as a reader wants them: seconds with three digits, what was timed said once."""

import csv
from dataclasses import dataclass
from pathlib import Path

from artune.errors import ArtuneError, no_such_file

PARTS = {  # a line of costs.csv that is a part of another line
    "generate": "generate and decode",
    "decode": "generate and decode",
    "CLIP": "rewards",
    "HPS": "rewards",
    "LOO-FID features": "rewards",
    "LOO-FID": "rewards",
    "backward": "backward and update",
    "update": "backward and update",
}


@dataclass(frozen=True)
class Stage:
    """A line: the stage, whether it is a part of the next whole one, and its time here and in the paper ("": none)."""

    name: str
    part: bool
    here: str
    paper: str


@dataclass(frozen=True)
class Costs:
    """Lines of the table, and who was timed with what: here and in the paper."""

    stages: tuple[Stage, ...]
    here: str
    paper: str


def read_costs(path: Path) -> Costs:
    """The lines of a costs.csv for a reader.

    Raises:
        ArtuneError: no such file, or it holds no line.
    """
    try:
        lines = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    except FileNotFoundError as error:
        raise no_such_file(path) from error
    if not lines:
        raise ArtuneError(f"{path}: holds no line; delete it and make it again")
    stages = []
    for line in lines:
        hours = line["unit"].endswith("h")
        paper = f"{line['paper'].replace('-', '–')} GPU hours" if hours and line["paper"] else seconds(line["paper"])
        here = seconds(line["ours"], 3600 if hours else 1)
        if hours and line["ours"] and not line.get("device", "").endswith(" cores"):
            here = f"{_digits(float(line['ours']))} GPU hours"
        name = "whole training" if line["stage"] == "training" else line["stage"]
        stages.append(Stage(name, line["stage"] in PARTS, here, paper))
    first = lines[0]
    timed = [first.get("device", ""), _count(first, "threads", "thread"), _count(first, "images", "image")]
    theirs = next((line for line in lines if line.get("paper_device")), first)
    read = [theirs.get("paper_device", ""), _count(theirs, "paper_images", "image")]
    return Costs(tuple(stages), ", ".join(filter(None, timed)), ", ".join(filter(None, read)))


def _count(line: dict[str, str], key: str, what: str) -> str:
    """``120 images``, ``1 thread``, or "" without a number."""
    number = line.get(key) or ""
    return f"{number} {what}{'' if number == '1' else 's'}" if number else ""


def seconds(text: str, unit: float = 1) -> str:
    """A time with three digits in the unit that suits it: ``0.54 ms``, ``183 ms``, ``43.4 s``, ``51 min``."""
    if not text:
        return ""
    value = float(text) * unit
    for size, name, below in ((0.001, "ms", 1.0), (1.0, "s", 120.0), (60.0, "min", 7200.0)):
        if value < below:
            return f"{_digits(value / size)}\u00a0{name}"
    return f"{_digits(value / 3600)}\u00a0h"


def _digits(value: float) -> str:
    """Three significant digits, two below one: ``43.4``, ``183``, ``0.54``."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.2g}"
