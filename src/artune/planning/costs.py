"""Seconds of the stages of an iteration beside the paper's (App. E)."""

import csv
import io
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from artune.config.fields import Frozen, Positive
from artune.config.registry import Registry
from artune.config.yaml_layers import parse, read_yaml
from artune.errors import ArtuneError
from artune.runtime.files import read_json, read_jsonl, write_text


class Costs(Frozen):
    """Seconds of an iteration's stages on one GPU."""

    device: str
    images: Positive
    stages: dict[str, float]
    training: tuple[float, float] | None = None  # GPU hours of a whole training, if the source states them

    def seconds(self, stage: str) -> float:
        """Seconds per image of ``stage``; 0 if they are not known."""
        return self.stages.get(stage, 0.0) / self.images


class CostFigures(Frozen):
    """Contents of ``config/costs.yaml``."""

    paper: Costs
    measured: Costs | None = None


class Stage(NamedTuple):
    """A line of costs.csv: timed stages to add, timed stages to subtract, stages of the paper to add."""

    plus: tuple[str, ...]
    minus: tuple[str, ...] = ()
    paper: tuple[str, ...] = ()


REWARDS = ("clip", "hps", "loo_fid")
STAGES: dict[str, Stage] = {
    "generate": Stage(("generate",)),
    "decode": Stage(("decode",)),
    "generate and decode": Stage(("generate", "decode"), paper=("generate",)),
    "CLIP": Stage(("reward_clip",), paper=("clip",)),
    "HPS": Stage(("reward_hps",), paper=("hps",)),
    "LOO-FID features": Stage(("reward_loo_fid",)),
    "LOO-FID": Stage(("loo_fid",), paper=("loo_fid",)),
    "rewards": Stage(("reward_clip", "reward_hps", "reward_loo_fid", "loo_fid"), paper=REWARDS),
    "reference policy": Stage(("reference",)),
    "backward": Stage(("update",), minus=("optimizer",)),  # all epochs, with their forward passes
    "update": Stage(("optimizer",)),
    "backward and update": Stage(("update",), paper=("update",)),
    "iteration": Stage(("iteration",), paper=("generate", *REWARDS, "update")),  # the paper prints no sum
}


def read_costs(root: Path) -> CostFigures:
    """The figures of ``config/costs.yaml``. Raises ArtuneError: missing, unknown or wrong keys."""
    return parse(CostFigures, read_yaml(root / "costs.yaml"), "config/costs.yaml")


def seconds_of(stage: Stage, timings: dict[str, float]) -> float | None:
    """Seconds of a line from ``timings``, seconds by stage; None if a stage of the line was not timed."""
    if any(name not in timings for name in (*stage.plus, *stage.minus)):
        return None
    return sum(timings[name] for name in stage.plus) - sum(timings[name] for name in stage.minus)


def write_costs(registry: Registry, timings: Path, output: Path) -> str:
    """Write median seconds per stage as CSV: ours, the paper's, their ratio, and the device of ours.

    Args:
        registry: registry of the run's scale, whose note is in every row.
        timings: timings.jsonl of a training or of ``artune bench iteration``; manifest.json lies beside it.
        output: CSV to write.

    Raises:
        ArtuneError: a file is missing or damaged.
    """
    lines = read_jsonl(timings)
    if not lines:
        raise ArtuneError(f"{timings}: holds no iteration; make it again")
    known = [key for key in lines[0] if key.startswith("time/")]
    medians = {key.removeprefix("time/"): median(line[key] for line in lines if key in line) for key in known}
    manifest, paper = read_json(timings.with_name("manifest.json")), read_costs(registry.root).paper
    run: dict[str, Any] = manifest["config"]
    images, tokens = run["grpo"]["prompts"] * run["grpo"]["group_size"], run["backbone"]["tokens"]
    weights, reduced = manifest.get("weights", "pretrained"), manifest.get("reduced")
    note = "; ".join(part for part in (registry.about.note, reduced) if part)
    device, threads = (manifest["provenance"][key] for key in ("device", "threads"))
    ours = [device, threads, images, tokens, run["backbone_name"], weights, registry.scale, note]

    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["stage", "unit", "ours", "paper", "ratio", "device", "threads", "images", "tokens", "backbone",
                     "weights", "scale", "note", "paper_device", "paper_images"])  # fmt: skip
    for name, stage in STAGES.items():
        seconds, theirs = seconds_of(stage, medians), sum(paper.stages[key] for key in stage.paper)
        cells = ["" if seconds is None else f"{seconds:.4g}", f"{theirs:.4g}" if stage.paper else ""]
        cells.append(f"{seconds / theirs:.4g}" if stage.paper and seconds is not None else "")
        writer.writerow([name, "s", *cells, *ours, *([paper.device, paper.images] if stage.paper else ["", ""])])
    if paper.training is not None:
        hours = "" if reduced else f"{medians['iteration'] * run['grpo']['iterations'] / 3600:.4g}"
        cells = [hours, "{:g}-{:g}".format(*paper.training), ""]
        unit = "h" if device.endswith(" cores") else "GPU h"  # provenance names a processor with its cores
        writer.writerow(["training", unit, *cells, *ours, paper.device, paper.images])
    write_text(output, table.getvalue())
    return f"{output}: {medians['iteration']:.2f} s per iteration of {images} images, {weights} weights"
