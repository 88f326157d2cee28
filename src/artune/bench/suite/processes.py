"""A world of one with gloo and NCCL: sums, a recording after them, a saved state from which training goes on."""

import contextlib
import gc
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from artune.bench.measure import now
from artune.bench.random_weights import random_policy, random_trainer
from artune.bench.suite.decoder import compare
from artune.bench.suite.parts import BACKBONE, SHARE, Suite
from artune.errors import ArtuneError
from artune.runtime.distributed import BUCKET as ELEMENTS
from artune.runtime.distributed import prepare_backends
from artune.runtime.resume import load_state, save_state
from artune.sampling.decoders import BUCKET, BucketedDecoder
from artune.sampling.replica import cast_replica


def run(suite: Suite) -> None:
    """Note the sums of both groups, a recording that follows them, a resumed training, and the end of the groups."""
    with world_of_one(suite.device) as groups:
        sums(suite, groups)
        recording(suite)
        resumed(suite)
        sums(suite, groups)
        began = now(suite.device)
    suite.note({"case": "groups taken down", "seconds": now(suite.device) - began})


@contextlib.contextmanager
def world_of_one(device: torch.device) -> Iterator[dict[str, Any]]:
    """The groups of :func:`artune.runtime.distributed.started` for one process, which starts none by itself."""
    prepare_backends()  # NCCL waits as in a training, whose sums the host waits for
    with tempfile.TemporaryDirectory() as folder:
        store = dist.FileStore(str(Path(folder, "store")), 1)
        dist.init_process_group("gloo", store=store, rank=0, world_size=1, timeout=timedelta(seconds=30))
        try:
            groups = {"gloo": dist.new_group(backend="gloo")}
            if device.type == "cuda":
                groups["nccl"] = dist.new_group(backend="nccl")
            yield groups
        finally:
            dist.destroy_process_group()


def sums(suite: Suite, groups: dict[str, Any]) -> None:
    """Sum a bucket of gradients on the device over NCCL, and a small array on the CPU over gloo."""
    for backend, group in groups.items():
        on_device = backend == "nccl"
        number = ELEMENTS if on_device else 2**16
        values = torch.ones(number, device=suite.device if on_device else "cpu")
        seconds = []
        for _ in range(2):
            began = now(suite.device)
            dist.all_reduce(values, group=group, async_op=True).wait()
            seconds.append(now(suite.device) - began)
        _require(bool((values == 1).all()), f"{backend}: the sum over one process changed the values")
        case = f"all_reduce, {backend}"
        suite.note({"case": case, "elements": number, "first call s": seconds[0], "second call s": seconds[1]})


@torch.no_grad()
def recording(suite: Suite) -> None:
    """Record the first two buckets of LlamaGen-L after NCCL has started its threads."""
    request = suite.request(BACKBONE, SHARE)
    rows = 2 * request.batch
    policy = cast_replica(random_policy(request.run.backbone, suite.device), torch.bfloat16)
    ids = torch.arange(rows, device=suite.device) % policy.classes
    found, _ = compare(BucketedDecoder(policy, rows), ids, min(BUCKET + 2, policy.tokens))
    suite.note({"case": "recording after a sum", "rows": rows, "rms of difference / spread": found.typical})


def resumed(suite: Suite) -> None:
    """Save a state after one iteration, load it into a new trainer, and compare one iteration more of both."""
    request, device = suite.request(BACKBONE, SHARE), suite.device
    trainer = random_trainer(request.run, device)
    trainer.step(0)
    with tempfile.TemporaryDirectory() as folder:
        save_state(Path(folder), 1, {"config": "suite", **trainer.state_dict()})
        expected, weights = trainer.step(1)[0], [weight.detach().cpu() for weight in trainer.policy.parameters()]
        del trainer
        gc.collect()
        loaded = load_state(Path(folder), "suite")
    _require(loaded is not None, "the saved state was not found")
    again = random_trainer(request.run, device)
    again.load_state_dict(loaded[1] if loaded is not None else {})
    found = again.step(1)[0]
    off = max(abs(found[key] - value) / max(abs(value), 1e-6) for key, value in expected.items())
    moved = largest(weights, list(again.policy.parameters()))
    differences = {"largest relative difference of a metric": off, "largest difference of a weight": moved}
    suite.note({"case": "one iteration after a resume", "images": request.batch, **differences})


def largest(first: list[Tensor], second: list[Tensor]) -> float:
    """Largest absolute difference between two lists of tensors."""
    return max((a - b.detach().cpu()).abs().max().item() for a, b in zip(first, second, strict=True))


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ArtuneError(otherwise)
