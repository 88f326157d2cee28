"""A training's state in host memory: buffers that are made once, and the thread that writes a state from them.

Serialising, hashing and writing a state takes from ten seconds to more than a minute at the imagenet scale, and copying
it into fresh memory as long as the rest of an iteration. Copied into kept buffers it is written while the next
iterations run.
"""

import copy
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from artune.models.policies.checkpoint import save_policy
from artune.models.policies.llamagen import LlamaGen
from artune.models.policies.vqgan_gpt import VQGANGPT
from artune.runtime.progress import warn
from artune.runtime.resume import save_state

# Bytes of the blocks that buffers are cut from. PyTorch rounds a page-locked block up to a power of two, which would
# take up to twice the memory if every tensor had a block of its own.
SLAB = 2**28
ALIGNED = 64  # a buffer begins at a multiple of this many bytes
Key = tuple[Any, ...]  # the keys and indices that lead to a tensor inside nested state


class HostCopy:
    """A copy of nested state (mappings, lists, tensors, numbers, strings) in host memory, made again and again.

    Args:
        device: device of the state's tensors. For a GPU the buffers are page-locked, so that the device copies at the
            full speed of its bus while the host goes on.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.locked = device.type == "cuda"  # until the host refuses page-locked memory
        self.buffers: dict[Key, Tensor] = {}
        self._slab, self._used = torch.empty(0, dtype=torch.uint8), 0
        self._copied: torch.cuda.Event | None = None
        self._state: Any = None

    def take(self, state: Any) -> None:
        """Copy ``state``. On a GPU the copies are queued on the current stream: what is queued later may change it."""
        tensors = dict(_tensors(state))
        self._make({key: tensor for key, tensor in tensors.items() if not self._fits(key, tensor)})
        for key, tensor in tensors.items():
            self.buffers[key].copy_(tensor, non_blocking=True)
        if self.device.type == "cuda":
            self._copied = torch.cuda.Event()
            self._copied.record(torch.cuda.current_stream(self.device))
        self._state = self._with_buffers(state)

    def state(self) -> Any:
        """The state that was taken last, once the device has copied it; its tensors change with the next :meth:`take`.

        A state like the original: mappings keep their type and attributes, each tensor has a storage of its own.
        """
        if self._copied is not None:
            self._copied.synchronize()
        return self._state

    def _fits(self, key: Key, tensor: Tensor) -> bool:
        buffer = self.buffers.get(key)
        return buffer is not None and (buffer.shape, buffer.dtype) == (tensor.shape, tensor.dtype)

    def _make(self, tensors: Mapping[Key, Tensor]) -> None:
        """Cut buffers for ``tensors`` from slabs; a storage is part of a slab, so that each is saved by itself."""
        left = sum(_room(tensor) for tensor in tensors.values())
        for key, tensor in tensors.items():
            room = _room(tensor)
            if self._used + room > len(self._slab):
                self._slab, self._used = self._memory(max(room, min(left, SLAB))), 0
            layout = torch.empty_like(tensor, device="meta")
            part = self._slab.untyped_storage()[self._used : self._used + layout.nbytes]
            self.buffers[key] = torch.empty(0, dtype=tensor.dtype).set_(part, 0, layout.shape, layout.stride())
            self._used, left = self._used + room, left - room

    def _memory(self, size: int) -> Tensor:
        if self.locked:
            try:
                return torch.empty(size, dtype=torch.uint8, pin_memory=True)
            except RuntimeError as error:  # the host limits page-locked memory
                self.locked = False
                warn(f"no page-locked memory for a copy of the state, which is slower without: {error}")
        return torch.empty(size, dtype=torch.uint8)

    def _with_buffers(self, value: Any, key: Key = ()) -> Any:
        """``value`` with every tensor replaced by its buffer."""
        if isinstance(value, Tensor):
            return self.buffers[key]
        if isinstance(value, list):
            return [self._with_buffers(one, (*key, at)) for at, one in enumerate(value)]
        if not isinstance(value, Mapping):
            return value
        made: Any = copy.copy(value)  # a module's state_dict also has an attribute
        made.update({name: self._with_buffers(one, (*key, name)) for name, one in value.items()})
        return made


def _tensors(value: Any, key: Key = ()) -> Iterator[tuple[Key, Tensor]]:
    """Every tensor inside nested state, with its key."""
    if isinstance(value, Tensor):
        yield key, value.detach()
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield from _tensors(one, (*key, name))
    elif isinstance(value, list):
        for at, one in enumerate(value):
            yield from _tensors(one, (*key, at))


def _room(tensor: Tensor) -> int:
    return -(-tensor.nbytes // ALIGNED) * ALIGNED


@dataclass(frozen=True)
class Snapshots:
    """Weights of a policy on its way, which a training keeps as files: each is written whole, and once reached.

    They lie among the saved states until the training ends, because Snakemake removes the outputs of a job that failed.
    """

    policy: LlamaGen | VQGANGPT
    run: str
    files: Mapping[Path, int]  # file -> the number of iterations after which it is written

    def take(self, iterations: int) -> None:
        """Write the files that are due after so many iterations."""
        for path, due in self.files.items():
            if due == iterations:
                save_policy(path, self.policy, {"run": self.run, "iterations": str(iterations)})

    def lack(self, iterations: int) -> bool:
        """Whether a file is missing that a training of so many iterations has written."""
        return any(due <= iterations and not path.exists() for path, due in self.files.items())


class StateWriter:
    """Writes states in a thread while the training goes on, one at a time; leaving the ``with`` block waits for it.

    A state waits to be written in buffers of its own, beside those that keep the state before a second epoch: with one
    set for both, the next iteration would have to wait until the thread has read it, which is nearly as long as before.
    Both sets together take 34 GB for VQGAN, the largest policy, on the one process that writes, half of what four
    processes with one copy each would take. The thread never touches the GPU, which may record a CUDA graph meanwhile.

    Args:
        folder: folder of the states.
        device: device of the states' tensors.
    """

    def __init__(self, folder: Path, device: torch.device):
        self.folder, self.copy = folder, HostCopy(device)
        self.thread = ThreadPoolExecutor(1, "states")
        self.pending: Future[Path] | None = None
        self.last: int | None = None  # iteration of the last state

    def __enter__(self) -> "StateWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.thread.shutdown(wait=True)
        if kind is None:
            self.finish()

    def save(self, iteration: int, state: dict[str, Any]) -> None:
        """Copy ``state`` after ``iteration`` iterations, which is then written; waits for the state before it.

        Raises:
            ArtuneError: the state before it could not be written.
        """
        self.finish()
        self.copy.take(state)
        self.last = iteration
        self.pending = self.thread.submit(save_state, self.folder, iteration, self.copy.state())

    def check(self) -> None:
        """Return at once. Raises ArtuneError: the last state could not be written."""
        if self.pending is not None and self.pending.done():
            self.finish()

    def finish(self) -> None:
        """Wait until the last state is written. Raises ArtuneError: it could not be."""
        pending, self.pending = self.pending, None
        if pending is not None:
            pending.result()
