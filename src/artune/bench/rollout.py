"""``artune bench rollout``: tokens per second of cached decoding, compared with a plain loop."""

import statistics
import time
from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from artune.bench.measure import BenchRow, Request, Timing, forget_peak, now, peak, row
from artune.bench.random_weights import random_policy
from artune.models.policies.attention import Use
from artune.planning.floors import rollout
from artune.sampling.cached_decoding import decoder_for
from artune.sampling.decoders import PlainDecoder, TokenDecoder
from artune.sampling.generate import filter_logits, guide

PLAIN = "plain, cache concatenated"


class GrowingCache:
    """A cache that every step allocates again, as in a loop without a static cache."""

    use: ClassVar[Use] = "plain step"

    def __init__(self) -> None:
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}
        self.position = 0

    def begin(self, table: Tensor) -> Tensor:
        """The row of a positional table [T, dim] at the present position."""
        return table[self.position]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Concatenate one position and attend to all; arguments and result [B, heads, 1, head_dim]."""
        if layer in self.kept:
            key, value = (torch.cat((old, new), 2) for old, new in zip(self.kept[layer], (key, value), strict=True))
        self.kept[layer] = key, value
        return F.scaled_dot_product_attention(query, key, value)

    def advance(self) -> None:
        """Move to the next position."""
        self.position += 1


class GrowingDecoder(PlainDecoder):
    """The plain loop with which the benchmark compares cached decoding."""

    def start(self, class_ids: Tensor) -> Tensor:
        """See :class:`artune.sampling.cached_decoding.TokenDecoder`."""
        logits, self.cache = self.policy.start(class_ids, self.policy.tokens, GrowingCache())
        return logits


def bench_rollout(request: Request) -> list[BenchRow]:
    """Time greedy guided decoding with random weights by the plain loop and by this code, one after the other.

    Each loop keeps its decoder, as a training does from iteration to iteration.

    Returns:
        One row per loop. The median is that of the turns after the first; ``first s`` is the first turn, which also
        casts and packs weights and, on a GPU, compares and records the steps. CPU seconds are added up over all
        threads. The paper's figure includes decoding to images.
    """
    run, device, batch = request.run, request.device, request.batch
    policy = random_policy(run.backbone, device).requires_grad_(False)
    ids = torch.arange(batch, device=device) % run.data.classes
    guided = run.sampling.cfg > 1
    inputs = torch.cat((ids, torch.full_like(ids, run.data.classes))) if guided else ids
    loops: dict[str, tuple[torch.dtype, Callable[[], TokenDecoder]]] = {
        PLAIN: (torch.float32, lambda: GrowingDecoder(policy)),
        "this code": (torch.float32, lambda: decoder_for(policy, inputs)),
        "this code, bfloat16": (torch.bfloat16, lambda: decoder_for(policy, inputs, torch.bfloat16)),
    }
    rows, plain = [], None
    for name, (dtype, make) in loops.items():
        timing, first, cpu, drawn = _turns(make, inputs, request)
        plain = drawn if plain is None else plain
        rest = {
            "first s": first,
            "CPU s": cpu,
            "tokens/s": batch * run.backbone.tokens / timing.median,
            "same tokens": float((drawn == plain).float().mean()),
        }
        work, ceiling = rollout(run.backbone, batch, guided, item=dtype.itemsize), request.ceiling(dtype)
        rows.append(row(f"rollout {request.backbone}, {name}", request, timing, work, ceiling, ("generate",), **rest))
    return rows


def _turns(make: Callable[[], TokenDecoder], inputs: Tensor, request: Request) -> tuple[Timing, float, float, Tensor]:
    """Seconds of the turns after the first, of the first, median CPU seconds, and tokens [B, T] of one decoder."""
    batch, cfg, device = request.batch, request.run.sampling.cfg, request.device
    forget_peak(device)
    began = now(device)
    decoder = make()
    drawn = greedy(decoder, inputs, batch, cfg)
    first, timing, cpu = now(device) - began, Timing(), []
    for _ in range(request.repeats):
        began, worked = now(device), time.process_time()
        drawn = greedy(decoder, inputs, batch, cfg)
        timing.seconds.append(now(device) - began)
        cpu.append(time.process_time() - worked)
    timing.peak = peak(device)
    return timing, first, statistics.median(cpu), drawn


@torch.no_grad()
def greedy(decoder: TokenDecoder, inputs: Tensor, batch: int, cfg: float) -> Tensor:
    """The most likely tokens [B, T], under guidance if ``inputs`` also hold null classes."""
    tokens: list[Tensor] = []
    logits = decoder.start(inputs)
    for position in range(decoder.policy.tokens):
        if position:
            logits = decoder.decode(tokens[-1].repeat(len(inputs) // batch))
        chosen = logits if len(inputs) == batch else guide(logits[:batch], logits[batch:], cfg)
        tokens.append(filter_logits(chosen).argmax(-1))
    return torch.stack(tokens, 1)
