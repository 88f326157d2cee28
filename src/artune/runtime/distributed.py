"""Several processes of one command, as torchrun starts them: which one this is, and what they exchange.

Every process holds the whole policy and works on its share of a batch. Rewards and features are gathered and gradients
summed, so all processes take the same step. Without torchrun there is one process, and nothing is exchanged.
"""

import contextlib
import math
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from artune.errors import ArtuneError, SharedError, brief
from artune.runtime.processes import launch

# Seconds until a process that does not answer counts as dead; the environment variable ARTUNE_TIMEOUT changes them.
# Less than the 30 s that torchrun leaves to the other processes after a death, so that they can still report and save.
SECONDS = 25.0
PATIENCE = timedelta(hours=2)  # while one process works and the others wait: loading, saving, drawing a grid
LOOPBACK = "lo"  # Linux's name of the network interface by which a machine reaches itself
BUCKET = 2**25  # gradient elements summed at once: 128 MB in float32
BITS = {torch.float32: torch.int32, torch.float64: torch.int64, torch.bfloat16: torch.int16}


class LostContactError(ArtuneError):
    """Another process died or does not answer."""


@dataclass(frozen=True)
class Share:
    """One process' share of a batch: rows ``start`` to ``stop`` of ``total``."""

    start: int
    stop: int
    total: int

    @property
    def rows(self) -> slice:
        """Index into the whole batch."""
        return slice(self.start, self.stop)

    @property
    def weight(self) -> float:
        """Fraction of the whole batch that is in this share, in (0, 1]."""
        return (self.stop - self.start) / self.total


@dataclass(frozen=True)
class World:
    """The processes of a command, seen from one of them.

    Args:
        rank: rank of this process; only rank 0 writes files, logs and progress.
        size: number of processes.
        exchange: group (gloo) for values that all processes reach at about the same time; :meth:`wait` before them
            where the work before took the processes different times.
        gradients: group for gradients: NCCL on GPUs, otherwise gloo.
    """

    rank: int = 0
    size: int = 1
    exchange: Any = None
    gradients: Any = None

    @property
    def leads(self) -> bool:
        """Whether this process is rank 0, which writes."""
        return self.rank == 0

    def share(self, total: int) -> Share:
        """This process' rows of a batch of ``total``; the shares are contiguous and differ by at most one row.

        Raises:
            ArtuneError: fewer rows than processes.
        """
        if total < self.size:
            raise ArtuneError(f"{total} samples cannot be split over {self.size} processes; lower --nproc_per_node")
        return Share(total * self.rank // self.size, total * (self.rank + 1) // self.size, total)

    def gather(self, part: Tensor, share: Share) -> Tensor:
        """The rows of all processes, [share.total, ...], bit by bit as each process gave them."""
        if self.size == 1:
            return part
        whole = torch.zeros(share.total, *part.shape[1:], dtype=part.dtype)
        whole[share.rows] = part.detach().cpu()
        self.sum_(whole)
        return whole.to(part.device)

    def sum_(self, rows: Tensor) -> None:
        """Sum in place an array on the CPU in which every element is zero on all processes but one."""
        if self.size > 1:
            with self._contact():  # summed as integers, which alter neither -0.0 nor NaN
                dist.all_reduce(rows.view(BITS.get(rows.dtype, rows.dtype)), group=self.exchange)

    def total(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums over all processes, by key; every process must give the same keys."""
        if self.size == 1:
            return dict(values)
        sums = torch.tensor(list(values.values()), dtype=torch.float64)
        with self._contact():
            dist.all_reduce(sums, group=self.exchange)
        return dict(zip(values, sums.tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is true on any process, however long a process takes to answer."""
        if self.size == 1:
            return flag
        votes = torch.tensor([int(flag)])
        with self._contact():
            dist.all_reduce(votes)
        return bool(votes.item())

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes, in float32.

        The sum is over the gradients themselves, after the backward pass: no forward can bypass it.
        """
        if self.size == 1:
            return
        bucket: list[Tensor] = []
        for gradient in [parameter.grad for parameter in parameters if parameter.grad is not None]:
            if bucket and sum(map(Tensor.numel, bucket)) + gradient.numel() > BUCKET:
                self._sum_bucket(bucket)
                bucket = []
            bucket.append(gradient)
        self._sum_bucket(bucket)

    def _sum_bucket(self, bucket: list[Tensor]) -> None:
        flat = torch.cat([gradient.float().flatten() for gradient in bucket])
        with self._contact():
            # Not `async_op=False`: since PyTorch 2.8 NCCL only enqueues such a sum, which then nobody waits for, so
            # that a process that never takes part would not be noticed (see prepare_backends).
            dist.all_reduce(flat, group=self.gradients, async_op=True).wait()
        for gradient, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def from_leader(self, value: Any) -> Any:
        """Rank 0's ``value`` on every process, however long rank 0 took for it."""
        if self.size == 1:
            return value
        box = [value]
        with self._contact():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Wait until all processes have called this, however long one takes; a death is noticed at once."""
        if self.size > 1:
            with self._contact():
                dist.barrier()

    @contextlib.contextmanager
    def _contact(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            reason = re.sub(r"^\[[^]]*\] *", "", str(error).strip()).split("\n")[0].split(". ")[0]
            raise LostContactError(
                f"another process died or did not answer: its own error or signal says why (here: {reason})"
            ) from error


ALONE = World()


def _timeout() -> float:
    """Seconds until a process counts as dead. Raises ArtuneError: ARTUNE_TIMEOUT is no such number."""
    text = os.environ.get("ARTUNE_TIMEOUT") or str(SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= PATIENCE.total_seconds():
        most = f"{PATIENCE.total_seconds():.0f}"
        raise SharedError(f"ARTUNE_TIMEOUT: {brief(text)} is not a number of seconds up to {most}; unset it")
    return seconds


@contextlib.contextmanager
def started(device: torch.device) -> Iterator[World]:
    """The processes that torchrun started with this one; :data:`ALONE` without torchrun."""
    if launch().size == 1:
        yield ALONE
        return
    timeout = timedelta(seconds=_timeout())
    prepare_backends()
    dist.init_process_group("gloo", timeout=PATIENCE)
    exchange = dist.new_group(backend="gloo", timeout=timeout)
    gradients = dist.new_group(backend="nccl", timeout=timeout) if device.type == "cuda" else exchange
    world = World(dist.get_rank(), dist.get_world_size(), exchange, gradients)
    yield world
    # Both are skipped after an error, because they would wait for the other processes, which lose contact as soon as
    # this one has ended. NCCL's groups are taken down by all processes together, and rank 0 may still be writing.
    world.wait()
    dist.destroy_process_group()


def prepare_backends() -> None:
    """Settings of gloo and NCCL, where the user's environment has none."""
    here = launch()
    if here.local_size == here.size and LOOPBACK in (name for _, name in socket.if_nameindex()):
        # Otherwise gloo looks up the machine's own name, which on some nodes is unknown or another machine's address.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
    # A sum of gradients that a dead process leaves unfinished should then be an error in its `wait` after the timeout,
    # so that the state is saved; otherwise NCCL's watchdog ends the process from a thread of its own. There is then no
    # watchdog, so every sum on a GPU must be waited for. Not measured.
    os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")
