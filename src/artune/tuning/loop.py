"""Run any trainer to its end, saving states on the way, and go on from the last one."""

import shutil
from pathlib import Path
from typing import Any, Protocol

import torch

from artune.config.run import Run
from artune.errors import ArtuneError, SharedError, StoppedError
from artune.models.policies.policy import Policy
from artune.runtime.distributed import World
from artune.runtime.processes import StopRequest
from artune.runtime.progress import Progress
from artune.runtime.resume import clear_states, load_state, save_state
from artune.runtime.seeds import seed_for
from artune.tracking.run_logger import RunLogger
from artune.tuning.grpo_trainer import GRPOTrainer, draw_progress, start_moments

GRIDS = 4  # pictures of a training's samples, evenly over it


class Trainer(Protocol):
    """What :func:`fit` asks of a method; a new method is a class like this."""

    iterations: int
    save_every: int
    policy: Policy
    world: World

    def step(self, iteration: int) -> tuple[dict[str, float], dict[str, float]]:
        """Metrics and seconds of iteration ``iteration``."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next iteration depends on."""

    def good_state(self) -> dict[str, Any]:
        """After :meth:`step` raised: the state before it."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`state_dict`."""

    def note(self, metrics: dict[str, float]) -> str:
        """The numbers that matter, for the progress line."""


def stop_if_asked(request: StopRequest, world: World, run: Run, iteration: int, iterations: int) -> None:
    """Stop all processes if a signal came to any; they wait here for rank 0, which may have saved or drawn.

    Raises:
        StoppedError: it did.
    """
    if world.any(request.name is not None):
        raise StoppedError(
            f"{run.name} by {request.name or 'a signal to another process'} after {iteration} of {iterations} "
            "iterations; the state is saved, the same command goes on from it"
        )


def run_to_end(
    trainer: Trainer, run: Run, folder: Path, logger: RunLogger, config: str
) -> tuple[int, dict[str, float]]:
    """Train to the end from the newest intact state in ``folder``; returns the first iteration run and the metrics.

    Rank 0 alone reads torn states, writes and shows progress; the state is the same for any number of processes.

    Raises:
        ArtuneError: a number was not finite, or another process died; the state before the step is saved.
        StoppedError: a signal asked for it; the state is saved.
    """
    world, start = trainer.world, 0
    found = load_state(folder, config) if world.leads else None
    if world.from_leader(found is not None) and not world.leads:
        found = load_state(folder, config)
    if found is not None:
        start, state = found
        trainer.load_state_dict(state["trainer"])
    else:
        if world.leads:
            clear_states(folder)
            shutil.rmtree(folder.parent / "grids", ignore_errors=True)
        if isinstance(trainer, GRPOTrainer):
            start_moments(trainer)
    if world.leads:
        logger.resume(start)
    metrics: dict[str, float] = {}
    with StopRequest() as request:
        progress = Progress(f"train {run.name}", trainer.iterations, start)
        for iteration in range(start, trainer.iterations):
            own = (world.rank,) if world.rank else ()
            torch.manual_seed(seed_for(run.seed, "global", iteration, *own))  # layer dropout, where a method has it
            try:
                stop_if_asked(request, world, run, iteration, trainer.iterations)
                metrics, seconds = trainer.step(iteration)
            except ArtuneError as error:
                if world.leads:
                    save_state(folder, iteration, {"config": config, "trainer": trainer.good_state()})
                if isinstance(error, SharedError):  # torchrun ends the rest soon after the first end
                    world.wait()
                raise
            if world.leads:
                logger.log(iteration, metrics, seconds)
                if isinstance(trainer, GRPOTrainer) and iteration % max(1, trainer.iterations // GRIDS) == 0:
                    logger.show(iteration, draw_progress(trainer, iteration, folder.parent / "grids"))
                if (iteration + 1) % trainer.save_every == 0 and iteration + 1 < trainer.iterations:
                    save_state(folder, iteration + 1, {"config": config, "trainer": trainer.state_dict()})
                progress.update(iteration + 1, trainer.note(metrics))
    return start, metrics
