"""What torchrun tells the processes that it starts; one process without it."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """Number of this process and of all, on all machines and on this one."""

    rank: int
    size: int
    local_rank: int
    local_size: int

    def threads(self, all_together: int) -> int:
        """Threads of this process, if those on this machine share ``all_together``."""
        return max(1, all_together // self.local_size)


def launch() -> Launch:
    """This process, by the environment."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Launch(0, 1, 0, 1)
    environment = [int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")]
    return Launch(environment[0], size, *environment[1:])
