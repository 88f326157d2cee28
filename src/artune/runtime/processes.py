"""What torchrun and signals tell a process. Never imports torch.

A request to stop is SIGTERM, or the SIGUSR1 that SLURM sends ahead of a time limit (``--signal``).
"""

import os
import signal
from dataclasses import dataclass
from types import FrameType, TracebackType


@dataclass(frozen=True)
class Launch:
    """Rank of this process and number of processes: among all machines, and on this machine."""

    rank: int
    size: int
    local_rank: int
    local_size: int

    def threads(self, all_together: int) -> int:
        """Threads of this process, if all processes on this machine share ``all_together`` threads."""
        return max(1, all_together // self.local_size)


def launch() -> Launch:
    """The launch of this process, from the environment variables that torchrun sets."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Launch(0, 1, 0, 1)
    environment = [int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")]
    return Launch(environment[0], size, *environment[1:])


class StopRequest:
    """Inside its ``with`` block the two signals only set :attr:`name`, which the work checks between two steps."""

    SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.name: str | None = None  # name of the signal that arrived

    def __enter__(self) -> "StopRequest":
        self._handlers = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and launch().size > 1:
            return  # torchrun's SIGTERM follows a death at once: it must not cut off the other processes' reports
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name
