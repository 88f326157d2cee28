"""Wall-clock seconds of the stages of an iteration."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch


@dataclass
class Clock:
    """Adds up the seconds per stage, synchronised with the device, under ``time/{stage}``."""

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the seconds of the block to those of ``stage``."""
        began = self._now()
        yield
        key = f"time/{stage}"
        self.seconds[key] = self.seconds.get(key, 0.0) + self._now() - began

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
