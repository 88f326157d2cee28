"""Time and error of the LOO-FID reward."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from artune.metrics.fid import frechet_distance
from artune.rewards.loo_fid import loo_fid_reward
from artune.rewards.moments import Covariance, FeatureMoments, ReferenceMoments
from artune.runtime.seeds import generator_for

BATCH = 144  # 12 prompts x 12 images, as in the paper
# (covariance, D, timed runs, samples checked by brute force, longest accepted time on one CPU thread in ms)
LOO_FID_CASES: list[tuple[Covariance, int, int, int, float]] = [
    ("diag", 2048, 50, BATCH, 12.0),
    ("full", 128, 50, BATCH, 8.0),
    ("full", 2048, 5, 2, 8000.0),
]


def bench_loo_fid(device: str = "cpu") -> list[dict[str, Any]]:
    """Time and error of the LOO-FID reward for 144 images in EMA mode; on the CPU with one thread.

    The error is the largest difference of some or all rewards from those by literal leave-one-out moments and Fréchet
    distances in float64, divided by the largest reward.
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
    reference = ReferenceMoments.from_moments(real.double().mean(dim=0), covariance=sigma, compare=covariance)
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
    """Reward of one sample by Eq. 15-27 as printed, with the default epsilon: the difference of two distances."""
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
    """Milliseconds of each run, after one warm-up run."""
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
