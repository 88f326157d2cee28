"""Iterations of LlamaGen-L: seconds by stage, memory beside the plan, the host copy and a saved state alone."""

import tempfile
import time
from pathlib import Path

import torch

from artune.bench.iteration import write_timings
from artune.bench.measure import Request, Timing, forget_peak, now, peak, row
from artune.bench.random_weights import random_trainer
from artune.bench.suite.parts import BACKBONE, SHARE, Row, Suite
from artune.config.run import GrpoRun
from artune.runtime.resume import save_state
from artune.tuning import micro_batch
from artune.tuning.grpo_trainer import GRPOTrainer

GB = 2**30


def run(suite: Suite) -> None:
    """An iteration of all images in one process, then of the share of each of four; timings.jsonl of the first."""
    for images in (None, SHARE):
        request = suite.request(BACKBONE, images)
        trainer = random_trainer(request.run, suite.device)
        lines, memory = iterate(suite, request, trainer)
        suite.note(memory)
        stages = sorted((key for key in lines[0] if key.startswith("time/")), key=lambda key: key != "time/iteration")
        for key in stages:
            name = f"{BACKBONE} {key.removeprefix('time/')}"
            suite.note(row(name, request, Timing([line[key] for line in lines], memory["peak GB"])))
        if images is None:
            write_timings(request, suite.folder / "iteration/timings.jsonl", lines)
            for found in copies(suite, trainer):
                suite.note(found)
        del trainer


def iterate(suite: Suite, request: Request, trainer: GRPOTrainer) -> tuple[list[dict[str, float]], Row]:
    """Seconds by stage of ``repeats`` iterations after a first one, fewer if time is short, and their memory's row."""
    device = request.device
    forget_peak(device)
    began = now(device)
    trainer.step(0)
    first = now(device) - began
    lines: list[dict[str, float]] = []
    for at in range(1, request.repeats + 1):
        lines.append({"iteration": at, **trainer.step(at)[1]})
        if suite.left() < 3 * lines[-1]["time/iteration"]:
            break
    row_ = {"case": f"{request.backbone}, memory", "images": request.batch, "first iteration s": first}
    return lines, row_ | memory_of(trainer, device)


def memory_of(trainer: GRPOTrainer, device: torch.device) -> Row:
    """Slices of the update, what the plan counts for it, and what was allocated and reserved at the peak."""
    run, split = trainer.run, trainer.update.split
    assert isinstance(run, GrpoRun)  # benchmarks time runs of the registry
    assert split is not None  # planned by the first step
    size = max(part.stop - part.start for part in split.slices)
    update = micro_batch.fixed_bytes(run.backbone, run.grpo, True)
    update += size * micro_batch.sequence_bytes(run, split.checkpointing)
    standing = reserved = None
    if device.type == "cuda":
        standing = torch.cuda.memory_allocated(device) / GB
        reserved = torch.cuda.max_memory_reserved(device) / GB
    return {
        "slices": len(split.slices),
        "sequences": size,
        "checkpointed": split.checkpointing,
        "update by the plan GB": update / GB,
        "allocated between iterations GB": standing,
        "peak GB": peak(device),
        "reserved GB": reserved,
    }


def copies(suite: Suite, trainer: GRPOTrainer) -> list[Row]:
    """Seconds of the copy of the state on the host, the first and a second one, and of writing it to a file."""
    found: list[Row] = []
    for case in ("host copy, first", "host copy, second"):
        began = now(suite.device)
        trainer.keep_state()
        found.append({"case": case, "seconds": now(suite.device) - began, "GB": None})
    state = trainer.good_state()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        path = save_state(Path(folder), 1, {"config": "suite", **state})
        size = path.stat().st_size / GB
        found.append({"case": "saved state", "seconds": time.perf_counter() - began, "GB": size})
    return found
