"""Timings that the documentation quotes: ``artune bench TARGET``."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from artune import floors
from artune.bench_iteration import bench_iteration, benchmarked
from artune.bench_rollout import bench_rollout, measured_ceiling
from artune.errors import ArtuneError
from artune.metrics.fid import frechet_distance
from artune.registry import Registry
from artune.rewards.loo_fid import Covariance, FeatureMoments, ReferenceMoments, loo_fid_reward
from artune.seeds import generator_for

BATCH = 144  # 12 prompts x 12 images, as in the paper
# (covariance, D, timed runs, samples checked by brute force, the longest accepted time on one CPU thread in
# ms)
LOO_FID_CASES: list[tuple[Covariance, int, int, int, float]] = [
    ("diag", 2048, 50, BATCH, 12.0),
    ("full", 128, 50, BATCH, 8.0),
    ("full", 2048, 5, 2, 8000.0),
]


@dataclass(frozen=True)
class Request:
    """What a benchmark is asked; each takes of it what it has a use for."""

    registry: Registry  # the scale whose sizes are timed
    device: torch.device
    backbone: str = "llamagen_l"
    images: int | None = None  # an iteration; None: the scale's
    tokens: int | None = None  # an image; None: the backbone's
    repeats: int = 3
    output: Path | None = None  # timings.jsonl, where a benchmark leaves one


def run(target: str, request: Request) -> list[dict[str, Any]]:
    """Run the benchmark ``target`` and return one row a case.

    Raises:
        ArtuneError: there is no such benchmark, or the device is not available.
    """
    if target not in TARGETS:
        raise ArtuneError(f"bench: no benchmark {target!r}; use one of {', '.join(TARGETS)}")
    try:
        torch.empty(0, dtype=torch.float64, device=request.device)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ArtuneError(f"bench: device {request.device} cannot be used ({reason}); try --device cpu") from error
    return TARGETS[target](request)


def format_table(rows: list[dict[str, Any]]) -> str:
    """Rows with the same keys as an aligned text table."""
    lines = [[str(key) for key in rows[0]]]
    lines += [[f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def bench_loo_fid(device: str = "cpu") -> list[dict[str, Any]]:
    """Time and error of the LOO-FID reward for 144 images in EMA mode; on the CPU with one thread.

    The error is that of some or all rewards against literal leave-one-out moments and Fréchet distances in
    float64, relative to the largest reward.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_loo_fid_case(device, *case) for case in LOO_FID_CASES]
    finally:
        torch.set_num_threads(threads)


def _loo_fid_case(
    device: str, covariance: Covariance, width: int, repeats: int, checked: int, accepted: float
) -> dict[str, Any]:
    generator = generator_for("bench", covariance, width)
    draw = [torch.randn(n, width, generator=generator).to(device) for n in (4 * width, 2 * width, BATCH)]
    real, past, batch = (shift + x for shift, x in zip((0.0, 0.1, 0.2), draw, strict=True))
    sigma = FeatureMoments.of(real, "full").covariance
    reference = ReferenceMoments.from_moments(real.double().mean(dim=0), sigma, covariance=covariance)
    state = reference.moments_of(past)

    milliseconds = _time(lambda: loo_fid_reward(batch, state, reference), repeats, device)
    rewards = loo_fid_reward(batch, state, reference).rewards
    literal = rewards.new_tensor([_literal_reward(batch.double(), j, state, reference, sigma) for j in range(checked)])
    quartiles = statistics.quantiles(milliseconds, n=4)
    return {
        "case": f"LOO-FID {covariance}",
        "N": BATCH,
        "D": width,
        "device": device,
        "median ms": statistics.median(milliseconds),
        "quartile spread ms": quartiles[2] - quartiles[0],
        "runs": repeats,
        "accepted ms (1 CPU thread)": accepted,
        "relative error": float((rewards[:checked] - literal).abs().max() / rewards.abs().max()),
        "rewards checked": checked,
    }


def _literal_reward(
    batch: Tensor,
    j: int,
    state: FeatureMoments,
    reference: ReferenceMoments,
    sigma: Tensor,
    alpha: float = 0.5,
) -> float:
    """Eq. 15-27 as printed, for one sample and the default epsilon: two distances and their difference."""
    full = reference.covariance == "full"

    def distance(x: Tensor) -> float:
        second = (x.T @ x / len(x)) if full else x.square().mean(dim=0)
        mean = (1 - alpha) * state.mean + alpha * x.mean(dim=0)
        past = torch.outer(state.mean, state.mean) if full else state.mean.square()
        second = (1 - alpha) * (state.covariance + past) + alpha * second
        if full:
            covariance = second - torch.outer(mean, mean)
            return frechet_distance(reference.mean, sigma, mean, covariance)
        sd = ((second - mean.square()).clamp_min(0) + 1e-6).sqrt()
        return float((reference.mean - mean).square().sum() + (reference.sd - sd).square().sum())

    return distance(torch.cat([batch[:j], batch[j + 1 :]])) - distance(batch)


def _time(call: Callable[[], object], repeats: int, device: str) -> list[float]:
    """Milliseconds of each run after one to warm up."""
    call()
    milliseconds = []
    for _ in range(repeats):
        _wait(device)
        began = time.perf_counter()
        call()
        _wait(device)
        milliseconds.append((time.perf_counter() - began) * 1000)
    return milliseconds


def _wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def _iteration(request: Request) -> list[dict[str, Any]]:
    """Every stage of an iteration: seconds, and of the two that have a counted floor the share of the device's peak."""
    lines = bench_iteration(
        request.registry, request.backbone, request.device, request.images, request.tokens, request.repeats,
        request.output,
    )  # fmt: skip
    on_gpu = request.device.type == "cuda"
    ceiling = measured_ceiling(request.device, torch.bfloat16 if on_gpu else torch.float32)
    run = benchmarked(request.registry, request.backbone, request.device, request.images, request.tokens)
    assert run.grpo is not None
    images = run.grpo.prompts * run.grpo.group_size
    works = {"generate": floors.rollout(run, images, item=2 if on_gpu else 4), "update": floors.update(run, images)}
    peak = torch.cuda.max_memory_allocated(request.device) / 2**30 if on_gpu else None
    rows = []
    for stage in [key.removeprefix("time/") for key in lines[0] if key.startswith("time/")]:
        seconds, work = [line[f"time/{stage}"] for line in lines], works.get(stage)
        median = statistics.median(seconds)
        rows.append({
            "stage": stage, "device": str(request.device), "images": images, "median s": median,
            "spread s": max(seconds) - min(seconds), "GFLOP/s": work and work.flops / median / 1e9,
            "of peak": work and work.flops / median / ceiling.flops, "floor s": work and work.seconds(ceiling),
            "peak GB so far": peak,
        })  # fmt: skip
    return rows


def _rollout(request: Request) -> list[dict[str, Any]]:
    """Cached decoding beside a plain loop."""
    return bench_rollout(
        request.registry, request.backbone, request.device, request.images, request.tokens, request.repeats
    )


TARGETS: dict[str, Callable[[Request], list[dict[str, Any]]]] = {
    "loo-fid": lambda request: bench_loo_fid(request.device.type),
    "iteration": _iteration,
    "rollout": _rollout,
}
