"""The arguments of a benchmark, its measurements, and its result rows."""

import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from artune.config.registry import Registry
from artune.config.run import GrpoRun
from artune.config.yaml_layers import parse
from artune.data.prompts import class_names
from artune.errors import ArtuneError
from artune.planning.costs import Costs, read_costs
from artune.planning.floors import Ceiling, Work

ON_CPU = (2, 16)  # images, and tokens per image, at the imagenet scale on a CPU, where a full iteration takes hours
CLASSES_ON_CPU = 4  # classes in that case: ViT-H takes ten minutes for the prompts of all 1,000, once per training
BenchRow = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """Arguments of a benchmark; each benchmark reads the fields it needs."""

    registry: Registry  # the scale whose sizes are timed
    device: torch.device
    backbone: str = "llamagen_l"
    images: int | None = None  # images per iteration; None: the scale's number, on a CPU at the imagenet scale ON_CPU
    tokens: int | None = None  # tokens per image, a square number; None as for ``images``
    repeats: int = 3  # timed repeats, after one warm-up
    output: Path | None = None  # timings.jsonl, for a benchmark that writes it

    @functools.cached_property
    def run(self) -> GrpoRun:
        """``{backbone}-ours`` with the requested images per iteration and tokens per image.

        Raises:
            ArtuneError: the backbone is unknown, there are fewer than 2 images or 1 repeat, or ``tokens`` is no square.
        """
        if self.repeats < 1:
            raise ArtuneError(f"bench: --repeats {self.repeats}; time at least 1 repeat")
        images, tokens = self.images, self.tokens
        spec = self.registry.spec(f"{self.backbone}-ours")
        if self.device.type == "cpu" and not self.registry.data.embedded:
            images, tokens = images or ON_CPU[0], tokens or ON_CPU[1]
            names = class_names(self.registry.data)[:CLASSES_ON_CPU]
            spec["data"] = spec["data"] | {"classes": len(names), "class_names": names}
        if images is not None:
            if images < 2:
                raise ArtuneError(f"bench: --images {images}; a group needs at least 2")
            group = min(images, spec["grpo"]["group_size"])
            spec["grpo"] = spec["grpo"] | {"group_size": group, "prompts": images // group}
        if tokens is not None:
            spec["backbone"] = spec["backbone"] | {"tokens": tokens}
        return parse(GrpoRun, spec, "bench: --tokens or --images")

    @property
    def batch(self) -> int:
        """Images per iteration."""
        return self.run.grpo.prompts * self.run.grpo.group_size

    @functools.cached_property
    def paper(self) -> Costs | None:
        """The paper's seconds, if the sizes are the paper's; None otherwise."""
        figures = read_costs(self.registry.root).paper
        whole = self.registry.data.source == "imagenet" and self.tokens is None and self.device.type != "cpu"
        return figures if whole and self.batch == figures.images else None

    def ceiling(self, dtype: torch.dtype) -> Ceiling:
        """The measured bandwidth and FLOP/s of this device; measured once per dtype."""
        return measured_ceiling(self.device, dtype)


@dataclass
class Timing:
    """Seconds of each repeat, and the peak of memory in GB, which is None on a CPU."""

    seconds: list[float] = field(default_factory=list)
    peak: float | None = None

    @property
    def median(self) -> float:
        """Median over the repeats in seconds."""
        return statistics.median(self.seconds)


def time_call(call: Callable[[], object], request: Request) -> Timing:
    """Time a call ``repeats`` times, after one warm-up call."""
    timing = Timing()
    for repeat in range(request.repeats + 1):
        forget_peak(request.device)
        began = now(request.device)
        call()
        if repeat:
            timing.seconds.append(now(request.device) - began)
            timing.peak = peak(request.device)
    return timing


def row(
    case: str,
    request: Request,
    timing: Timing,
    work: Work | None = None,
    ceiling: Ceiling | None = None,
    paper: tuple[str, ...] = (),
    **rest: Any,
) -> BenchRow:
    """One result row of a benchmark.

    Args:
        case: name of the timed case.
        request: arguments of the benchmark, with its device and sizes.
        timing: timing of the case.
        work: least possible work of the case; 0 bytes means that bytes were not counted.
        ceiling: ceiling of the device, measured in the same run.
        paper: stages of the paper in ``config/costs.yaml`` whose seconds, added up, the case is compared with.
        rest: further cells.
    """
    median, theirs = timing.median, None
    if request.paper is not None and paper:
        theirs = sum(request.paper.stages[stage] for stage in paper)
    counted = work is not None and ceiling is not None
    floor = work.seconds(ceiling) if work is not None and ceiling is not None else None
    return {
        "case": case,
        "device": str(request.device),
        "images": request.batch,
        "tokens": request.run.backbone.tokens,
        "median s": median,
        "spread s": max(timing.seconds) - min(timing.seconds),
        "GB/s": work.bytes / median / 1e9 if counted and work is not None and work.bytes else None,
        "GFLOP/s": work.flops / median / 1e9 if counted and work is not None else None,
        "ceiling GB/s": ceiling and ceiling.bandwidth / 1e9,
        "ceiling GFLOP/s": ceiling and ceiling.flops / 1e9,
        "of peak": work.flops / median / ceiling.flops if work is not None and ceiling is not None else None,
        "floor s": floor,
        "paper s": theirs,
        "paper / ours": theirs and theirs / median,
        "peak GB": timing.peak,
        **rest,
    }


def counted(call: Callable[[], object], images: int) -> Work:
    """FLOPs for ``images``, from PyTorch's count of a ``call`` for one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return Work(0, images * counter.get_total_flops())


@functools.lru_cache(maxsize=8)
def measured_ceiling(device: torch.device, dtype: torch.dtype) -> Ceiling:
    """Bandwidth of a large copy and FLOP/s of a large matrix product on this device, the best of five runs."""
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


def dtype_name(dtype: torch.dtype) -> str:
    """``bfloat16`` for ``torch.bfloat16``."""
    return str(dtype).removeprefix("torch.")


def now(device: torch.device) -> float:
    """Time in seconds, read after the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def peak(device: torch.device) -> float | None:
    """Peak of memory in GB since :func:`forget_peak`, None on a CPU."""
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def forget_peak(device: torch.device) -> None:
    """Reset the peak of memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
