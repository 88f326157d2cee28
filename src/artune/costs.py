"""Seconds of the stages of an iteration beside the paper's (App. E)."""

import csv
import io
from pathlib import Path
from statistics import median

from artune.config import Frozen, Positive
from artune.errors import ArtuneError
from artune.files import read_json, read_jsonl, write_text
from artune.layers import parse, read_yaml
from artune.registry import Registry

# stage -> (keys of timings.jsonl that are added up, its key in config/costs.yaml)
STAGES: dict[str, tuple[tuple[str, ...], str | None]] = {
    "generate and decode": (("time/generate", "time/decode"), "generate"),
    "CLIP": (("time/reward_clip",), "clip"),
    "HPS": (("time/reward_hps",), "hps"),
    "LOO-FID features": (("time/reward_loo_fid",), None),
    "LOO-FID": (("time/loo_fid",), "loo_fid"),
    "reference": (("time/reference",), None),
    "backward and update": (("time/update",), "update"),
    "iteration": (("time/iteration",), None),
}


class Costs(Frozen):
    """Seconds of an iteration's stages on one GPU."""

    device: str
    images: Positive
    stages: dict[str, float]
    training: tuple[float, float] | None = None  # GPU hours of a whole training, where a source states them

    def seconds(self, stage: str) -> float:
        """Seconds an image of ``stage``; 0 where there is no figure."""
        return self.stages.get(stage, 0.0) / self.images


class CostFigures(Frozen):
    """``config/costs.yaml``."""

    paper: Costs
    measured: Costs | None = None


def read_costs(root: Path) -> CostFigures:
    """The figures of ``config/costs.yaml``. Raises ArtuneError: missing, unknown or wrong keys."""
    return parse(CostFigures, read_yaml(root / "costs.yaml"), "config/costs.yaml")


def write_costs(registry: Registry, run: str, timings: Path, output: Path) -> str:
    """Median seconds a stage of ``run`` as CSV, with the device they were measured on and the scale's note.

    Raises:
        ArtuneError: timings.jsonl is missing or damaged.
    """
    lines = read_jsonl(timings)
    if not lines:
        raise ArtuneError(f"{timings}: holds no iteration; train {run} again")
    device = read_json(timings.parent / "manifest.json")["provenance"]["device"]
    settings = registry.resolve(run).grpo
    images = settings.prompts * settings.group_size if settings else None
    figures = read_costs(registry.root).paper.stages
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["stage", "seconds", "paper", "ratio", "images", "device", "scale", "note"])
    for stage, (keys, figure) in STAGES.items():
        paper = figures.get(figure) if figure else None
        seconds = sum(median(line[key] for line in lines if key in line) for key in keys if key in lines[0])
        ratio = f"{seconds / paper:.4g}" if paper else ""
        writer.writerow(
            [stage, f"{seconds:.4g}", paper or "", ratio, images, device, registry.scale, registry.about.note]
        )
    write_text(output, table.getvalue())
    return f"{output}: {seconds:.2f} s an iteration of {images} images"
