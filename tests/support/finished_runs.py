"""Folders of finished runs with invented numbers, for tests of what shows them."""

import json
import math
from pathlib import Path

import yaml
from PIL import Image

from artune.config.registry import Registry
from artune.tracking.run_logger import RunLogger

ITERATIONS = 12
SCORES = {"fid": 1.25, "fid_se": 0.1, "inception_score": 8.5, "precision": 0.81, "recall": 0.86, "clip_score": 0.8}
CURVES = ("reward/total", "reward/clip", "reward/hps", "fid/ema", "policy/entropy", "policy/kl", "optim/grad_norm")


def finished_run(folder: Path, registry: Registry, name: str, fid: float = 1.25) -> Path:
    """Make ``folder/name`` with settings, curves, scores, two grids and a picture; returns it."""
    run = folder / name
    (run / "grids").mkdir(parents=True)
    spec = registry.spec(name)
    (run / "config.yaml").write_text(yaml.safe_dump(spec))
    logger = RunLogger(run)
    for iteration in range(ITERATIONS):
        values = {key: fid + math.sin(iteration / 3 + at) for at, key in enumerate(CURVES)}
        logger.log(iteration, values, {"time/iteration": 0.5, "time/update": 0.25})
    logger.close()
    system = {"iteration": 3, "system/cpu_utilization_percentage": 50.0}
    (run / "system.jsonl").write_text(json.dumps(system) + "\n")
    scores = {"run": name, "base": spec["base"], "commit": "abc", "n": 8, "scores": SCORES | {"fid": fid}}
    (run / "scores.json").write_text(json.dumps(scores))
    (run / "manifest.json").write_text(json.dumps({"run": name, "seconds": 6.0}))
    for iteration in (0, 10):
        Image.new("RGB", (240, 240), (20 * iteration, 90, 160)).save(run / f"grids/iteration-{iteration:06d}.png")
    Image.new("RGB", (240, 240), (200, 90, 160)).save(run / "grid.png")
    return run
