"""What torchrun and signals tell a process, and how a process keeps its memory. Never imports torch.

A request to stop is SIGTERM, the SIGUSR1 that SLURM sends ahead of a time limit (``--signal``), or the SIGHUP of a
terminal that was closed.
"""

import contextlib
import ctypes
import os
import re
import signal
import stat
from dataclasses import dataclass
from types import FrameType, TracebackType

from artune.errors import cut


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


ALONE = Launch(0, 1, 0, 1)
RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
TORCHRUN = (*RANKS, "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")  # what torchrun gives to each process


def launch() -> Launch:
    """The launch of this process, from the environment variables that torchrun sets.

    Pods, job scripts and other launchers set some of the same names. They count only if all of torchrun's are there and
    fit together; otherwise this is one process, and :func:`foreign` says why.
    """
    if foreign() is not None or os.environ.get("WORLD_SIZE", "1") == "1":
        return ALONE
    rank, local_rank, size, local_size = (int(os.environ[name]) for name in RANKS)
    return Launch(rank, size, local_rank, local_size)


def foreign() -> str | None:
    """Why the variables of several processes in the environment do not count; None if there are none, or they do."""
    given = {name: os.environ[name] for name in TORCHRUN if name in os.environ}
    ranks = {name: given[name] for name in RANKS if name in given}
    one = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    if not ranks or ("WORLD_SIZE" in ranks and ranks.items() <= one.items()):
        return None
    shown = ", ".join(f"{name}={cut(value, 30)}" for name, value in ranks.items())
    wrong = f"{shown} in the environment: not from torchrun"
    if missing := [name for name in TORCHRUN if not given.get(name, "").strip()]:
        return f"{wrong}, which also sets {', '.join(missing)}"
    if not all(re.fullmatch(r"[0-9]{1,6}", given[name]) for name in (*RANKS, "MASTER_PORT")):
        return f"{wrong}: not all are whole numbers"
    rank, local_rank, size, local_size = (int(given[name]) for name in RANKS)
    if not (
        rank < size and local_rank < local_size <= size and local_rank <= rank and int(given["MASTER_PORT"]) < 65536
    ):
        return f"{wrong}: the numbers contradict each other"
    return None


class StopRequest:
    """Inside its ``with`` block the signals only set :attr:`name`, which the work checks between two steps.

    A SIGHUP that is ignored (``nohup``) stays ignored.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)

    def __init__(self) -> None:
        self.name: str | None = None  # name of the signal that arrived

    def __enter__(self) -> "StopRequest":
        heard = [number for number in self.SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        self._handlers = {number: signal.signal(number, self._note) for number in heard}
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
        if number == signal.SIGHUP:
            leave_terminal()


def leave_terminal() -> None:
    """Send what is still printed to /dev/null if the terminal is gone: each write to it would fail."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode) and not os.isatty(descriptor):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # names of glibc's mallopt(3)


def keep_memory() -> bool:
    """Let glibc keep freed tensors of up to 256 MB for the next ones instead of handing them back; whether it will.

    By default each tensor above 32 MB at most is new memory, every page of which the kernel clears at its first use: a
    quarter of an evaluation of 10,000 samples. No result depends on it. The user's own settings of malloc are left
    alone, and other C libraries have none.
    """
    own = "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(
        name.startswith("MALLOC_") for name in os.environ
    )
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" and not own else None
    return mallopt is not None and bool(mallopt(MMAP_THRESHOLD, 1 << 28)) and bool(mallopt(TRIM_THRESHOLD, 1 << 30))
