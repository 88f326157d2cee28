"""What the training loop asks of a method; a new method is a class like the three that there are."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from artune.errors import SharedError
from artune.models.policies.policy import Policy
from artune.runtime.distributed import World
from artune.runtime.resume import on_cpu


class Trainer(ABC):
    """A method of tuning; :meth:`step` is one iteration.

    Every draw comes from a generator of its own, named by seed, purpose and iteration, so nothing but
    :meth:`state_dict` is needed to go on after a kill with the very same numbers.

    Attributes:
        name: of the run, for messages.
        seed: of the run.
        policy: what is tuned.
        iterations: of the whole training.
        save_every: iterations between two saved states.
        device: where the policy is.
        world: the processes that share a batch.
    """

    name: str
    seed: int
    policy: Policy
    iterations: int
    save_every: int
    device: torch.device
    world: World
    _before: dict[str, Any] | None = None  # the state before an iteration whose updates have begun

    @abstractmethod
    def step(self, iteration: int) -> tuple[dict[str, float], dict[str, float]]:
        """Run iteration ``iteration`` (from 0); returns its metrics and the seconds of its stages.

        Raises:
            SharedError: a reward, the loss or the gradient is NaN or infinite.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that the next iteration depends on."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""

    @abstractmethod
    def note(self, metrics: dict[str, float]) -> str:
        """The numbers that matter, for the progress line."""

    def begin(self) -> None:
        """Called on every process before the first iteration of a new training, not of one that goes on."""
        return None

    def picture(self, iteration: int, folder: Path) -> Path | None:
        """Draw samples of the policy after ``iteration`` into ``folder``; returns the picture, None without one."""
        return None

    def keep_state(self) -> None:
        """Keep a copy of the present state, which later updates cannot reach."""
        self._before = on_cpu(self.state_dict())

    def good_state(self) -> dict[str, Any]:
        """After :meth:`step` raised: the state before it."""
        return self.state_dict() if self._before is None else self._before


def check_finite(value: float, what: str, iteration: int, name: str, remedy: str) -> None:
    """Stop every process of a training if ``value``, which is the same on all, is no number.

    Args:
        value: the loss or the norm of the gradient.
        what: its name.
        iteration: from 0.
        name: of the run.
        remedy: what the user may do.

    Raises:
        SharedError: it is NaN or infinite.
    """
    if not math.isfinite(value):
        raise SharedError(
            f"{what}: NaN or infinite at iteration {iteration} of {name}; the last good state is kept: {remedy}"
        )
