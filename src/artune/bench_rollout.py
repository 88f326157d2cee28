"""``artune bench rollout``: tokens a second of cached decoding beside a plain loop, and the ceilings of the device."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from artune.bench_iteration import benchmarked
from artune.config import Run
from artune.decoding import PlainDecoder, decoder_for
from artune.floors import Ceiling, rollout
from artune.models import Policy, build_policy
from artune.registry import Registry
from artune.sampling import filter_logits, guide

PLAIN = "plain, cache concatenated"


class GrowingCache:
    """A cache that is allocated anew by every append, as a loop without a static one does."""

    mask = None

    def __init__(self) -> None:
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}
        self.position = 0

    def begin(self, table: Tensor) -> Tensor:
        """The row of a positional table at this position."""
        return table[self.position]

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Concatenate one position ([B, heads, 1, head_dim]); returns all."""
        if layer in self.kept:
            key, value = (torch.cat((old, new), 2) for old, new in zip(self.kept[layer], (key, value), strict=True))
        self.kept[layer] = key, value
        return key, value

    def advance(self) -> None:
        """End a step."""
        self.position += 1


class GrowingDecoder(PlainDecoder):
    """The plain loop that the benchmark compares with."""

    def start(self, class_ids: Tensor) -> Tensor:
        """See :class:`artune.decoding.Decoder`."""
        logits, self.cache = self.policy.start(class_ids, self.policy.tokens, GrowingCache())
        return logits


def bench_rollout(
    registry: Registry,
    backbone: str,
    device: torch.device,
    images: int | None = None,
    tokens: int | None = None,
    repeats: int = 3,
) -> list[dict[str, Any]]:
    """Greedy guided decoding with random weights by the plain loop and by this code, in turn.

    Args:
        registry, backbone, images, tokens: see :func:`artune.bench_iteration.bench_iteration`.
        device: where to run.
        repeats: timed runs of each, after one to warm up.

    Returns:
        A row a loop; seconds include what each prepares: casting, packing. CPU seconds are of all threads.
    """
    run = benchmarked(registry, backbone, device, images, tokens)
    assert run.grpo is not None
    batch = run.grpo.prompts * run.grpo.group_size
    policy = random_policy(run, device)
    ids = torch.arange(batch, device=device) % run.data.classes
    guided = run.sampling.cfg > 1
    inputs = torch.cat((ids, torch.full_like(ids, run.data.classes))) if guided else ids
    loops: dict[str, tuple[torch.dtype, Callable[[], Any]]] = {
        PLAIN: (torch.float32, lambda: GrowingDecoder(policy)),
        "this code": (torch.float32, lambda: decoder_for(policy, inputs)),
        "this code, bfloat16": (torch.bfloat16, lambda: decoder_for(policy, inputs, torch.bfloat16)),
    }
    drawn, seconds, cpu, peaks = {}, {name: [] for name in loops}, {name: [] for name in loops}, {}
    for repeat in range(repeats + 1):
        for name, (_, make) in loops.items():
            _reset(device)
            began, cpu_began = now(device), time.process_time()
            drawn[name] = greedy(make(), inputs, batch, run)
            if repeat:
                seconds[name].append(now(device) - began)
                cpu[name].append(time.process_time() - cpu_began)
            peaks[name] = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    ceilings = {dtype: measured_ceiling(device, dtype) for dtype, _ in loops.values()}
    rows = []
    for name, (dtype, _) in loops.items():
        ceiling, work = ceilings[dtype], rollout(run, batch, item=dtype.itemsize)
        median = statistics.median(seconds[name])
        rows.append({
            "case": f"rollout {backbone}, {name}", "device": str(device), "images": batch,
            "tokens": run.backbone.tokens, "median s": median, "spread s": max(seconds[name]) - min(seconds[name]),
            "CPU s": statistics.median(cpu[name]), "tokens/s": batch * run.backbone.tokens / median,
            "GB/s": work.bytes / median / 1e9, "GFLOP/s": work.flops / median / 1e9,
            "ceiling GB/s": ceiling.bandwidth / 1e9, "ceiling GFLOP/s": ceiling.flops / 1e9,
            "floor s": work.seconds(ceiling), "peak GB": peaks[name],
            "same tokens": float((drawn[name] == drawn[PLAIN]).float().mean()),
        })  # fmt: skip
    return rows


def random_policy(run: Run, device: torch.device) -> Policy:
    """A policy of the run's size whose head is not zero."""
    policy = build_policy(run.backbone, torch.Generator().manual_seed(0)).requires_grad_(False)
    for parameter in policy.parameters():
        if not parameter.any():
            parameter.normal_(std=0.02, generator=torch.Generator().manual_seed(1))
    return policy.to(device)


@torch.no_grad()
def greedy(decoder: Any, inputs: Tensor, batch: int, run: Run) -> Tensor:
    """The likeliest tokens [B, T] under guidance."""
    tokens, logits = [], decoder.start(inputs)
    for position in range(run.backbone.tokens):
        if position:
            logits = decoder.decode(tokens[-1].repeat(len(inputs) // batch))
        chosen = logits if len(inputs) == batch else guide(logits[:batch], logits[batch:], run.sampling.cfg)
        tokens.append(filter_logits(chosen).argmax(-1))
    return torch.stack(tokens, 1)


def measured_ceiling(device: torch.device, dtype: torch.dtype) -> Ceiling:
    """A large copy and a large product on this device, the best of five."""
    on_gpu = device.type == "cuda"
    source = torch.empty(2**28 if on_gpu else 2**25, dtype=torch.float32, device=device).normal_()
    target, side = torch.empty_like(source), 8192 if on_gpu else 1024
    square = torch.randn(side, side, device=device).to(dtype)

    def best(call: Callable[[], Any]) -> float:
        found = []
        for _ in range(6):
            began = now(device)
            call()
            found.append(now(device) - began)
        return min(found[1:])

    return Ceiling(
        2 * 4 * len(source) / best(lambda: target.copy_(source)), 2 * side**3 / best(lambda: square @ square)
    )


def now(device: torch.device) -> float:
    """Seconds, after the device has finished what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _reset(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
