"""The interface between the training loop and a method; a new method is one more subclass of :class:`Trainer`."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from artune.errors import SharedError
from artune.models.policies.policy import Policy
from artune.runtime.distributed import World
from artune.tuning.saving import HostCopy


class Trainer(ABC):
    """A method of tuning; :meth:`step` is one iteration.

    Every draw has its own generator, named by seed, purpose and iteration, so a killed training resumes from
    :meth:`state_dict` alone and reaches exactly the same numbers; on a GPU to rounding, as some of its kernels add in
    no fixed order.

    Attributes:
        name: name of the run, for messages.
        seed: seed of the run.
        policy: the policy to tune.
        iterations: number of iterations of the whole training.
        save_every: iterations between two saved states.
        device: device of the policy.
        world: the processes that share a batch.
    """

    name: str
    seed: int
    policy: Policy
    iterations: int
    save_every: int
    device: torch.device
    world: World
    _kept: HostCopy | None = None  # made at the first :meth:`keep_state`
    _updating = False  # whether the updates of the present iteration have begun, whose state before them is kept

    @abstractmethod
    def step(self, iteration: int) -> tuple[dict[str, float], dict[str, float]]:
        """Run iteration ``iteration`` (counted from 0); returns its metrics and the seconds of its stages.

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
        """A few of the ``metrics`` as text for the progress line."""

    def begin(self) -> None:
        """Prepare a new training; called on every process before its first iteration, but not on resuming."""
        return None

    def picture(self, iteration: int, folder: Path) -> Path | None:
        """Draw samples of the policy after ``iteration`` into ``folder``; returns its path, None without a picture."""
        return None

    def keep_state(self) -> None:
        """Keep a copy of the present state, should a later epoch fail; only rank 0 does, because only it saves.

        The other processes wait here: making the buffers, or copying without page-locked ones, may take rank 0 longer
        than the next sum waits for it.
        """
        if self.world.leads:
            if self._kept is None:
                self._kept = HostCopy(self.device)
            self._kept.take(self.state_dict())
            self._updating = True
        self.world.wait()

    def good_state(self) -> dict[str, Any]:
        """The state before the last :meth:`step`, after that step has raised."""
        return self._kept.state() if self._kept is not None and self._updating else self.state_dict()


class OptimizerTrainer(Trainer):
    """A method whose whole state is the policy and its optimiser."""

    optimizer: torch.optim.Optimizer

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next iteration depends on."""
        return {"policy": self.policy.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(state["optimizer"])


def check_finite(value: float, what: str, iteration: int, name: str, remedy: str) -> None:
    """Stop every process of a training if ``value``, which is the same on all of them, is not finite.

    Args:
        value: the loss or the norm of the gradient.
        what: name of the value.
        iteration: number of the iteration, counted from 0.
        name: name of the run.
        remedy: advice to the user.

    Raises:
        SharedError: the value is NaN or infinite.
    """
    if not math.isfinite(value):
        raise SharedError(
            f"{what}: NaN or infinite at iteration {iteration} of {name}; the last good state is kept: {remedy}"
        )
