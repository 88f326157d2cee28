"""``artune bench iteration``: one GRPO iteration at the sizes of any scale with random weights, timed by stage."""

import json
from pathlib import Path

import torch

from artune.bench.measure import BenchRow, Request, Timing, peak, row
from artune.bench.random_weights import random_trainer
from artune.config.run import grpo_run
from artune.planning import floors
from artune.planning.gpu_hours import update_floor
from artune.runtime.files import write_json, write_text
from artune.runtime.progress import track
from artune.tracking.provenance import provenance

# Stages of the paper in ``config/costs.yaml`` whose seconds, added up, each stage is compared with.
PAPER = {
    "reward_clip": ("clip",),
    "reward_hps": ("hps",),
    "loo_fid": ("loo_fid",),
    "update": ("update",),
    "iteration": ("generate", "clip", "hps", "loo_fid", "update"),
}


def bench_iteration(request: Request) -> list[BenchRow]:
    """Time every stage of an iteration; the two stages with a counted floor also get their share of the device's peak.

    If ``request.output`` ends in ``.jsonl``, it is written as a training's timings.jsonl, with manifest.json beside it.

    Raises:
        ArtuneError: these sizes cannot be timed.
    """
    run, device = request.run, request.device
    lines = timed_iterations(request)
    if request.output is not None and request.output.suffix == ".jsonl":
        write_timings(request, request.output, lines)
    half = device.type == "cuda"
    ceiling = request.ceiling(torch.bfloat16 if half else torch.float32)
    works = {
        "generate": floors.rollout(run.backbone, request.batch, run.sampling.cfg > 1, item=2 if half else 4),
        "update": update_floor(run),
    }
    rows = []
    for key in [key for key in lines[0] if key.startswith("time/")]:
        stage, timing = key.removeprefix("time/"), Timing([line[key] for line in lines], peak(device))
        work = works.get(stage)
        rows.append(row(stage, request, timing, work, ceiling if work else None, PAPER.get(stage, ())))
    return rows


def timed_iterations(request: Request) -> list[dict[str, float]]:
    """Seconds of every stage in each of ``repeats`` iterations, after one warm-up iteration."""
    trainer = random_trainer(request.run, request.device)
    trainer.step(0)
    return [
        {"iteration": at, **trainer.step(at)[1]}
        for at in track(range(1, request.repeats + 1), f"bench iteration {request.backbone}", request.repeats)
    ]


def write_timings(request: Request, output: Path, lines: list[dict[str, float]]) -> None:
    """Write ``output`` (timings.jsonl) and manifest.json beside it, for ``artune costs``."""
    run, whole = request.run, grpo_run(request.registry.resolve(f"{request.backbone}-ours"))
    sizes, full = [(r.grpo.prompts * r.grpo.group_size, r.backbone.tokens) for r in (run, whole)]
    manifest = {"run": run.name, "weights": "random", "config": run.model_dump(mode="json")}
    manifest |= {} if sizes == full else {"reduced": f"{sizes[0]} images of {sizes[1]} tokens only"}
    write_json(output.with_name("manifest.json"), manifest | {"provenance": provenance(request.device)})
    write_text(output, "".join(json.dumps(line) + "\n" for line in lines))
