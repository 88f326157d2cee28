"""Seconds of the stages of an iteration beside the paper's (App. E)."""

import csv
import io
from pathlib import Path
from statistics import median

from artune.errors import ArtuneError
from artune.files import read_json, read_jsonl, write_text
from artune.registry import Registry

# stage -> (keys of timings.jsonl that are added up, the paper's seconds for 144 images on one A100)
STAGES: dict[str, tuple[tuple[str, ...], float | None]] = {
    "generate and decode": (("time/generate", "time/decode"), 43.4),
    "CLIP": (("time/reward_clip",), 0.14),
    "HPS": (("time/reward_hps",), 11.20),
    "LOO-FID features": (("time/reward_loo_fid",), None),
    "LOO-FID": (("time/loo_fid",), 0.03),
    "reference": (("time/reference",), None),
    "backward and update": (("time/update",), 2.4),
    "iteration": (("time/iteration",), None),
}


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
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["stage", "seconds", "paper", "ratio", "images", "device", "scale", "note"])
    for stage, (keys, paper) in STAGES.items():
        seconds = sum(median(line[key] for line in lines if key in line) for key in keys if key in lines[0])
        ratio = f"{seconds / paper:.4g}" if paper else ""
        writer.writerow(
            [stage, f"{seconds:.4g}", paper or "", ratio, images, device, registry.scale, registry.about.note]
        )
    write_text(output, table.getvalue())
    return f"{output}: {seconds:.2f} s an iteration of {images} images"
